"""The processes that train together under ``torch.distributed``."""

import torch
import torch.distributed as dist
from torch import Tensor


def ranks() -> int:
    """Number of processes that train together; 1 outside of ``torch.distributed``."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather(
    offset: Tensor, labels: Tensor, weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The samples of all ranks, the same on every rank; each has any number of them, also none.

    Args:
        offset: (B_r, D), float32 or float64.
        labels: (B_r,) int64.
        weight: (B_r,), or None where each sample counts once.

    Returns:
        The three of all ranks, (Σ_r B_r, …), each in the widest type that a rank has.
    """
    # the host needs the counts to make room: without a CPU backend it waits for the device
    cpu = "cpu:" in dist.get_backend_config()
    mine = torch.tensor(
        [len(labels), offset.dtype == torch.float64, weight is not None],
        dtype=torch.int64,
        device="cpu" if cpu else offset.device,
    )
    everyones = torch.stack(_all_gather(mine)).tolist()
    counts, double, weighted = zip(*everyones, strict=True)
    columns = [offset.double() if any(double) else offset, labels.unsqueeze(1)]
    if any(weighted):
        weight = offset.new_ones(len(labels)) if weight is None else weight
        columns.append(weight.to(columns[0].dtype).unsqueeze(1))
    # as bytes in one collective, that takes as much from each rank
    rows = torch.cat([column.contiguous().view(torch.uint8) for column in columns], dim=1)
    lacking = max(counts) - len(rows)
    if lacking:
        rows = torch.cat([rows, rows.new_zeros(lacking, rows.shape[1])])
    parts = [part[:count] for part, count in zip(_all_gather(rows), counts, strict=True)]
    widths = [column.shape[1] * column.element_size() for column in columns]
    gathered = [
        values.clone(memory_format=torch.contiguous_format).view(column.dtype)  # aligned anew
        for values, column in zip(torch.cat(parts).split(widths, dim=1), columns, strict=True)
    ]
    weights = gathered[2].squeeze(1) if any(weighted) else None
    return gathered[0], gathered[1].squeeze(1), weights


def _all_gather(tensor: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(tensor) for _ in range(ranks())]
    dist.all_gather(parts, tensor)
    return parts
