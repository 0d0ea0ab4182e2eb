"""Forward + backward + center step of CenterLoss beside the dense form of the public ports, in ms.

    python -m benchmarks.loss [--rounds 20] [--json FILE]

B = 256, D = 512. The two take turns, and each figure is a median. Run it with nothing else on the
machine: where another process is on the cores, each small parallel operation waits for it.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.training import DenseCenterLoss
from center_loss import CenterLoss

BATCH, DIM = 256, 512
DENSE_UP_TO = 100_000  # beyond, the dense form takes minutes and gigabytes


def milliseconds(step: Callable[[], None]) -> float:
    began = time.perf_counter()
    step()
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the table there too")
    sizes = [10, 1_000, 10_000, 100_000, 1_000_000]
    parser.add_argument("--classes", type=int, nargs="+", default=sizes)
    options = parser.parse_args()
    rows = []
    print(f"{'classes':>10}{'dense':>12}{'ours':>10}{'ratio':>10}")
    for classes in options.classes:
        x = torch.randn(BATCH, DIM, requires_grad=True)
        y = torch.randint(classes, (BATCH,))
        ours = CenterLoss(classes, DIM)

        def our_step(x=x, y=y, ours=ours) -> None:
            ours(x, y).backward()

        dense_step = None
        if classes <= DENSE_UP_TO:
            dense = DenseCenterLoss(classes, DIM)
            solver = torch.optim.SGD(dense.parameters(), lr=0.5)

            def dense_step(x=x, y=y, dense=dense, solver=solver) -> None:
                solver.zero_grad()
                dense(x, y).backward()
                solver.step()

        times: dict[str, list[float]] = {"ours": [], "dense": []}
        for number in range((3 if classes >= 100_000 else options.rounds) + 2):
            for name, step in (("dense", dense_step), ("ours", our_step)):
                x.grad = None
                if step and number >= 2:  # the first two warm up
                    times[name].append(milliseconds(step))
                elif step:
                    step()
        mine = statistics.median(times["ours"])
        theirs = statistics.median(times["dense"]) if times["dense"] else None
        rows.append({"classes": classes, "dense_ms": theirs, "ours_ms": mine})
        other = f"{theirs:>12.2f}" if theirs else f"{'-':>12}"
        ratio = f"{theirs / mine:>10,.1f}" if theirs else f"{'-':>10}"
        print(f"{classes:>10,}{other}{mine:>10.2f}{ratio}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
