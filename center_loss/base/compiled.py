"""What ``CenterLoss`` needs inside of ``torch.compile``.

It is imported while the compiler traces, not before: to import the compiler takes seconds.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from center_loss.base import ranks


def _must_save(*_: Any, **__: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE


@torch.compiler.allow_in_graph  # type: ignore[untyped-decorator]
def saved_rows(centers: Tensor, labels: Tensor) -> Tensor:
    """c_{y_i} (B, D) of the centers as they are now, saved for the backward.

    Which results are saved and which are computed again in the backward, the compiler chooses. A
    row it would read again from the centers, which the step in the same graph has moved by then,
    so that the gradient would be that of other centers: it must be told to save them.
    """
    save, _ = create_selective_checkpoint_contexts(_must_save)
    with save:
        return centers.index_select(0, labels)


@torch.library.custom_op("center_loss::gather", mutates_args=())
def gather(offset: Tensor, labels: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``ranks.gather`` as one operator, since the number of rows is known at run time alone."""
    every_offset, every_label, every_weight = ranks.gather(offset, labels, weight)
    assert every_weight is not None
    return every_offset.to(offset.dtype), every_label, every_weight.to(weight.dtype)


@gather.register_fake
def _(offset: Tensor, labels: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rows = torch.library.get_ctx().new_dynamic_size(min=1)
    return offset.new_empty(rows, offset.shape[1]), labels.new_empty(rows), weight.new_empty(rows)
