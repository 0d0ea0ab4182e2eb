"""Ranks with unequal numbers of samples move the centers as one process with all of them."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor

from center_loss.dialects import DIALECTS

WORLD = 3
# how many samples each rank has at a step: a smaller last batch, one sample, none
SHARES = [(6, 6, 4), (5, 7, 4), (16, 0, 0), (0, 0, 16), (1, 15, 0), (8, 8, 0)]
CASES: dict[str, dict[str, Any]] = {
    "forward": {},
    "manual": {"update": "manual"},
    "weighted": {"ignore_index": 2},
}


def batches() -> Iterator[tuple[tuple[int, ...], Tensor, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    for shares in SHARES:
        yield (
            shares,
            torch.randn(16, 3, generator=generator, dtype=torch.float64),
            torch.randint(6, (16,), generator=generator),
            torch.rand(16, generator=generator, dtype=torch.float64),
        )


def start(dialect: str, case: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return DIALECTS[dialect](6, 3, **CASES[case]).double()


def step(criterion, case: str, x: Tensor, y: Tensor, w: Tensor) -> None:
    weight = (w,) if case == "weighted" else ()
    if len(x) == 0:
        with pytest.raises(ValueError, match="empty"):
            criterion(x, y)
        criterion.update_centers(x.float(), y)  # whatever its type, and without weights
    else:
        criterion(x, y, *weight)
        if case == "manual":
            criterion.update_centers(x, y)


def train_a_rank(rank: int, folder: str) -> None:
    os.environ.update({"GLOO_SOCKET_IFNAME": "lo"})
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD
    )
    results = {}
    for case in CASES:
        for dialect in DIALECTS:
            criterion = start(dialect, case)
            for shares, *whole in batches():
                step(criterion, case, *(each.split(shares)[rank] for each in whole))
            results[case, dialect] = criterion.state_dict()
    for dialect in DIALECTS:
        criterion = start(dialect, "forward")
        shares, x, y, _ = next(batches())
        if dialect == "paper":
            compiled = torch.compile(criterion, backend="aot_eager", fullgraph=True)
            compiled(x.split(shares)[rank], y.split(shares)[rank])
            results["compiled", dialect] = criterion.state_dict()
        # each rank has the same batch: it gives its share
        criterion = start(dialect, "manual")
        criterion(x, y)
        criterion.update_centers(x[rank::WORLD], y[rank::WORLD])
        results["same batch", dialect] = criterion.state_dict()
        # no rank has any: nothing moves, without a velocity's coasting either
        criterion.update_centers(x[:0], y[:0])
        results["none", dialect] = criterion.state_dict()
    few = {}
    for count in (0, 1):  # samples in all; three float32s are no whole number of a label's bytes
        criterion, mine = start("paper", "manual").float(), slice(count if rank == 0 else 0)
        criterion.update_centers(x[mine].float(), y[mine])
        few[count] = criterion.centers
    torch.save(results, f"{folder}/{rank}.pt")
    torch.save(few, f"{folder}/few{rank}.pt")
    torch.distributed.barrier()
    os._exit(0)  # gloo's threads can abort a process at Python's end


def test_unequal_ranks_equal_one(tmp_path):
    mp.spawn(train_a_rank, (str(tmp_path),), nprocs=WORLD)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]
    for (case, dialect), found in ranks[0].items():
        steps = case if case in CASES else "forward"
        criterion = start(dialect, steps)
        for _, *whole in list(batches())[: None if case in CASES else 1]:
            step(criterion, steps, *whole)
        for state in (found, *(rank[case, dialect] for rank in ranks[1:])):
            torch.testing.assert_close(state, criterion.state_dict(), rtol=0, atol=1e-12)
    _, x, y, _ = next(batches())
    for count in (0, 1):
        criterion = start("paper", "manual").float()
        criterion.update_centers(x[:count].float(), y[:count])
        for rank in range(WORLD):
            found = torch.load(tmp_path / f"few{rank}.pt", weights_only=True)[count]
            torch.testing.assert_close(found, criterion.centers)
