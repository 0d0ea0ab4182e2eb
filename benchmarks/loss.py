"""Forward + backward + center step of CenterLoss beside the dense form of the public ports.

    python -m benchmarks.loss [--rounds 40] [--json FILE]

B = 256, D = 512, on the CPU. Sizes and forms take turns, in another order each round; the times
are medians, and ratios medians of a round's ratio. Run it with nothing else on the machine: where
another process is on the cores, each small parallel operation waits for it. Each step gets new
labels, so with many classes the centers come from memory; "again" is the same step once more, now
that they lie in the cache. "allocated" is what a step of ours allocates, all tensors added up, in
units of the B×D features. The last table says where a step's time goes.
"""

import argparse
import os
import random
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks import milliseconds, write_json
from benchmarks.training import DenseCenterLoss
from center_loss import CenterLoss

BATCH, DIM = 256, 512
CPU = torch.device("cpu")
DENSE_UP_TO = 100_000  # beyond, the dense form takes minutes and gigabytes
DENSE_ROUNDS = 5  # where it takes seconds

Step = Callable[[Tensor], None]  # of a batch's labels


def our_step(classes: int) -> Step:
    x = torch.randn(BATCH, DIM, requires_grad=True)
    criterion = CenterLoss(classes, DIM)
    criterion.centers.normal_()  # else the memory wouldn't really be there

    def step(labels: Tensor) -> None:
        x.grad = None
        criterion(x, labels).backward()

    return step


def dense_step(classes: int) -> Step:
    x = torch.randn(BATCH, DIM, requires_grad=True)
    criterion = DenseCenterLoss(classes, DIM)
    solver = torch.optim.SGD(criterion.parameters(), lr=0.5)

    def step(labels: Tensor) -> None:
        x.grad = None
        solver.zero_grad()
        criterion(x, labels).backward()
        solver.step()

    return step


def draw(classes: int) -> Tensor:
    return torch.randint(classes, (BATCH,))


def timed(step: Step, labels: Tensor) -> float:
    """Milliseconds of a step."""
    return milliseconds(lambda: step(labels), CPU)


def allocated(step: Step, classes: int) -> float:
    """Bytes that a step allocates, in all, in units of B·D float32 numbers."""
    labels = draw(classes)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        step(labels)
    taken = sum(max(0, event.self_cpu_memory_usage) for event in trace.events())
    return taken / (4 * BATCH * DIM)


def operations(step: Step, classes: int, times: int = 200) -> list[tuple[str, float]]:
    """(operation, milliseconds a step), the largest first."""
    batches = [draw(classes) for _ in range(times)]
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        for labels in batches:
            step(labels)
    found = [(each.key, each.self_cpu_time_total / times / 1000) for each in trace.key_averages()]
    return sorted(found, key=lambda pair: -pair[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", type=Path, help="write the table there too")
    sizes = [10, 1_000, 10_000, 100_000, 1_000_000]
    parser.add_argument("--classes", type=int, nargs="+", default=sizes)
    options = parser.parse_args()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes between the tables
    ours = {classes: our_step(classes) for classes in options.classes}
    steps = {("ours", classes): step for classes, step in ours.items()}
    steps |= {("dense", n): dense_step(n) for n in options.classes if n <= DENSE_UP_TO}
    times: dict[tuple[str, int], list[float]] = {each: [] for each in steps}
    again: dict[int, list[float]] = {classes: [] for classes in options.classes}
    order = random.Random(0)
    for number in range(options.rounds):
        for form, classes in order.sample(list(steps), len(steps)):
            if form == "dense" and classes >= DENSE_UP_TO and number >= DENSE_ROUNDS:
                continue
            step = steps[form, classes]
            step(draw(classes))  # warms up what the step before left cold
            if form == "dense":
                times[form, classes].append(timed(step, draw(classes)))
                continue
            first, second = [], []  # a dense step leaves more cold than one step warms: medians
            for _ in range(5):
                labels = draw(classes)
                first.append(timed(step, labels))
                second.append(timed(step, labels))
            times[form, classes].append(statistics.median(first))
            again[classes].append(statistics.median(second))

    fewest = options.classes[0]
    rows = []
    for classes in options.classes:
        mine, theirs = times["ours", classes], times.get(("dense", classes), [])
        rows.append({"classes": classes, "ours_ms": statistics.median(mine)})
        growth = [a / b for a, b in zip(mine, times["ours", fewest], strict=True)]
        rows[-1][f"ours_over_{fewest}"] = statistics.median(growth)
        rows[-1]["again_ms"] = statistics.median(again[classes])
        grown = [a / b for a, b in zip(again[classes], again[fewest], strict=True)]
        rows[-1][f"again_over_{fewest}"] = statistics.median(grown)
        rows[-1]["ours_allocated"] = allocated(ours[classes], classes)
        if theirs:  # in the first rounds only where it is slow
            ratios = [a / b for a, b in zip(theirs, mine, strict=False)]
            rows[-1] |= {"dense_ms": statistics.median(theirs), "ratio": statistics.median(ratios)}
    print(
        f"{'classes':>10}{'ours ms':>10}{f'over {fewest:,}':>10}{'again ms':>10}"
        f"{f'over {fewest:,}':>10}{'allocated':>11}{'dense ms':>11}{'dense/ours':>12}"
    )
    for row in rows:
        classes, ms, growth, again_ms, again_growth, memory, *dense = row.values()
        theirs = f"{dense[0]:>11.2f}{dense[1]:>12,.1f}" if dense else ""
        mine = f"{ms:>10.3f}{growth:>10.2f}{again_ms:>10.3f}{again_growth:>10.2f}{memory:>11.1f}"
        print(f"{classes:>10,}{mine}{theirs}")

    found = operations(ours[fewest], fewest)
    # the profiler slows what it watches, so this is at least what lies between the operations
    rest = max(0.0, rows[0]["ours_ms"] - sum(ms for _, ms in found))
    found.append(("between operations (Python, autograd)", rest))
    whole = sum(ms for _, ms in found)
    print(f"\n{f'a step of {fewest:,} classes':<42}{'ms':>8}{'share':>8}")
    for name, ms in [*found[:10], found[-1]]:
        print(f"{name[:40]:<42}{ms:>8.3f}{ms / whole:>8.0%}")
    write_json(options.json, CPU, {"rows": rows, "operations_ms": dict(found)})


if __name__ == "__main__":
    main()
