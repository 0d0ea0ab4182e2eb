"""Forward + backward + center step of CenterLoss beside the dense form of the public ports.

    python -m benchmarks.loss [--rounds 30] [--json FILE]

B = 256, D = 512. All sizes and both forms take turns, and each time is a median. Run it with
nothing else on the machine: where another process is on the cores, each small parallel operation
waits for it. "memory" is what one step of ours allocates, all tensors added up, in units of the
B×D features. The last table says where the time of a step goes, as PyTorch's profiler sees it.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import milliseconds, write_json
from benchmarks.training import DenseCenterLoss
from center_loss import CenterLoss

BATCH, DIM = 256, 512
DENSE_UP_TO = 100_000  # beyond, the dense form takes minutes and gigabytes


def our_step(classes: int) -> Callable[[], None]:
    x = torch.randn(BATCH, DIM, requires_grad=True)
    y = torch.randint(classes, (BATCH,))
    criterion = CenterLoss(classes, DIM)

    def step() -> None:
        x.grad = None
        criterion(x, y).backward()

    return step


def dense_step(classes: int) -> Callable[[], None]:
    x = torch.randn(BATCH, DIM, requires_grad=True)
    y = torch.randint(classes, (BATCH,))
    criterion = DenseCenterLoss(classes, DIM)
    solver = torch.optim.SGD(criterion.parameters(), lr=0.5)

    def step() -> None:
        x.grad = None
        solver.zero_grad()
        criterion(x, y).backward()
        solver.step()

    return step


def allocated(step: Callable[[], None]) -> float:
    """Bytes that a step allocates, in all, in units of B·D float32 numbers."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        step()
    taken = sum(max(0, event.self_cpu_memory_usage) for event in trace.events())
    return taken / (4 * BATCH * DIM)


def operations(step: Callable[[], None], times: int = 200) -> list[tuple[str, float]]:
    """(operation, milliseconds a step), the largest first."""
    step()
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        for _ in range(times):
            step()
    found = [(each.key, each.self_cpu_time_total / times / 1000) for each in trace.key_averages()]
    return sorted(found, key=lambda pair: -pair[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path, help="write the table there too")
    sizes = [10, 1_000, 10_000, 100_000, 1_000_000]
    parser.add_argument("--classes", type=int, nargs="+", default=sizes)
    options = parser.parse_args()
    ours = {classes: our_step(classes) for classes in options.classes}
    dense = {n: dense_step(n) for n in options.classes if n <= DENSE_UP_TO}
    times: dict[tuple[str, int], list[float]] = {}
    for number in range(options.rounds + 2):  # the first two warm up
        for form, steps in (("ours", ours), ("dense", dense)):
            for classes, step in steps.items():
                if form == "dense" and classes >= 100_000 and number > 4:
                    continue  # seconds each
                if number < 2:
                    step()
                else:
                    times.setdefault((form, classes), []).append(milliseconds(step))
    rows = []
    print(f"{'classes':>10}{'dense ms':>12}{'ours ms':>10}{'ratio':>10}{'memory':>9}")
    for classes in options.classes:
        mine = statistics.median(times["ours", classes])
        theirs = statistics.median(times["dense", classes]) if classes in dense else None
        memory = allocated(ours[classes])
        rows.append({"classes": classes, "dense_ms": theirs, "ours_ms": mine, "memory": memory})
        other = f"{theirs:>12.2f}" if theirs else f"{'-':>12}"
        ratio = f"{theirs / mine:>10,.1f}" if theirs else f"{'-':>10}"
        print(f"{classes:>10,}{other}{mine:>10.3f}{ratio}{memory:>9.1f}")
    profiled = operations(ours[options.classes[0]])
    whole = sum(ms for _, ms in profiled)
    print(f"\n{'operation':<42}{'ms':>8}{'share':>8}")
    for name, ms in profiled[:12]:
        print(f"{name[:40]:<42}{ms:>8.3f}{ms / whole:>8.0%}")
    write_json(options.json, {"rows": rows, "operations_ms": dict(profiled)})


if __name__ == "__main__":
    main()
