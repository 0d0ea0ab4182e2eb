"""Programs that measure. `make bench` runs them; each prints a table and can write it as JSON."""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch


def milliseconds(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return 1000 * (time.perf_counter() - began)


def median_ms(step: Callable[[], object], rounds: int, warmup: int = 2) -> float:
    """Median time of a step over some rounds, after some that aren't counted."""
    for _ in range(warmup):
        step()
    return statistics.median(milliseconds(step) for _ in range(rounds))


def matmul_peak(dtype: torch.dtype, size: int = 2048, rounds: int = 5) -> float:
    """GFLOP/s of a product of two square matrices: what this CPU reaches at best, in practice."""
    a, b = torch.randn(2, size, size).to(dtype)
    return 2 * size**3 / median_ms(lambda: a @ b, rounds) / 1e6


def write_json(path: Path | None, table: object) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(table, indent=2) + "\n")
