"""What a center loss is called with, held against what it can compute with."""

from typing import Any

import torch
from torch import Tensor


def checked(
    features: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    device: torch.device,
    num_classes: int,
    feature_dim: int,
    ignore_index: int | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """x_i in the type that a loss is computed in, y_i as int64, and w_i, None if all are 1.

    A sample that is left out, with ``ignore_index`` for a label or w_i = 0, has w_i = 0, and 0 for
    what it could disturb the others with.

    Args:
        features: (B, D) floating point.
        labels: (B,) integers in [0, C), or ``ignore_index``.
        weight: (B,) numbers ≥ 0, or None.
        device: where they must be, that of the centers.
        num_classes: C.
        feature_dim: D.
        ignore_index: None where there is none.

    Raises:
        TypeError, ValueError: one of them is something else.
    """
    by_sample = {"labels": labels} | ({} if weight is None else {"sample_weight": weight})
    for name, value in ({"features": features} | by_sample).items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
        if value.device != device:
            raise ValueError(
                f"{name} must be on the device of the centers, {device}, got {value.device}: "
                "move one of them with .to()"
            )
    if features.ndim != 2 or features.shape[1] != feature_dim:
        wanted = f"(batch, {feature_dim})"
        raise ValueError(f"features must have the shape {wanted}, got {tuple(features.shape)}")
    if not features.is_floating_point():
        raise ValueError(f"features must be floating point, got {features.dtype}")
    for name, value in by_sample.items():
        if value.shape != features.shape[:1]:
            raise ValueError(
                f"{name} must have the shape ({features.shape[0]},), one for each row of "
                f"features, got {tuple(value.shape)}"
            )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integers, got {labels.dtype}")
    x = features.to(torch.float64 if features.dtype == torch.float64 else torch.float32)
    labels = labels.long()  # in a type of its own num_classes may be out of range itself
    if weight is not None:
        if weight.is_complex():
            raise ValueError(f"sample_weight must be real, got {weight.dtype}")
        weight = weight.to(x.dtype)
    if ignore_index is not None:
        ignored = labels == ignore_index
        labels = labels.masked_fill(ignored, 0)
        weight = (x.new_ones(len(labels)) if weight is None else weight).masked_fill(ignored, 0)
    if len(labels) > 0:
        _check_ranges(labels, weight, num_classes)
    if weight is not None:
        x = x.masked_fill((weight == 0).unsqueeze(1), 0)  # 0 · NaN would be NaN
    return x, labels, weight


def _check_ranges(labels: Tensor, weight: Tensor | None, num_classes: int) -> None:
    if labels.device.type == "mps":
        return  # it has no assertion of its own, and a look at the values would wait for it
    low, high = labels.aminmax()
    wanted = f"labels must be in [0, {num_classes})"
    finite = "sample_weight must be finite and at least 0"
    if labels.device.type != "cpu" or torch.compiler.is_compiling():
        # a look at the values would make the host wait for the device, or break the graph
        torch._assert_async((low >= 0) & (high < num_classes), wanted)
        if weight is not None:
            torch._assert_async(((weight >= 0) & weight.isfinite()).all(), finite)
    elif low < 0 or high >= num_classes:
        raise ValueError(f"{wanted}, got {low.item()} to {high.item()}")
    elif weight is not None and not ((weight >= 0) & weight.isfinite()).all():
        raise ValueError(f"{finite}, got {weight.min().item()} to {weight.max().item()}")


def refuse_recomputation() -> None:
    """Raise inside of a backward, where activation checkpointing calls a forward once more."""
    if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
        raise RuntimeError(
            "the centers have moved since the forward that is computed anew in this backward, as "
            "torch.utils.checkpoint does, so the gradient would be wrong: call the loss outside "
            'of it, or take update="manual" and call update_centers after backward()'
        )


def refuse_replica(module: Any) -> None:
    """Raise in a replica of ``nn.DataParallel``, which has a part of the batch alone."""
    if "_is_replica" in vars(module):
        raise RuntimeError(
            "in nn.DataParallel only one replica's part of the batch would move the centers: "
            "use DistributedDataParallel, or call this loss outside of nn.DataParallel"
        )


def unshare(centers: Tensor) -> None:
    """Let ``centers`` be moved where autograd holds them for a term of the user's own.

    That term's graph keeps the tensor as it is, and ``centers``, the same object in Python, goes
    on as a copy: the cost of a copy, O(C·D), but only then. While a CUDA graph is captured they
    must stay where they are, so that such a term is autograd's error there.
    """
    held = centers._use_count() > 1  # type: ignore[attr-defined]
    if held and not (centers.is_cuda and torch.cuda.is_current_stream_capturing()):
        torch._C._swap_tensor_impl(centers, centers.clone())
