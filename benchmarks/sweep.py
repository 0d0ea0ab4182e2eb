"""Whether a sweep is done sooner with several runs at a time than with one after the other.

    python -m benchmarks.sweep [--jobs -1] [--runs 2] [--images 12000] [--rounds 3] [--json FILE]

The two take turns: the same runs of the `fast` recipe on fewer images, in a process each, with all
cores for one at a time (hydra/launcher=local) or its share for each (hydra/launcher=parallel). On a
GPU the several share it. The ratio of the commands' times is the median of the rounds' ratios.
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path

from benchmarks import write_json
from benchmarks.program import seconds_of
from center_loss.base.device import resolve_device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=-1, help="runs at a time; -1: one a core")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", default="data", help="MNIST's root folder")
    parser.add_argument("--json", type=Path, help="write the table there too")
    options = parser.parse_args()
    os.environ.pop("OMP_NUM_THREADS", None)  # the launchers share the cores out themselves
    seconds: dict[str, list[float]] = {"local": [], "parallel": []}
    for _ in range(options.rounds):
        for launcher, times in seconds.items():
            with tempfile.TemporaryDirectory() as folder:
                jobs = [f"hydra.launcher.n_jobs={options.jobs}"] if launcher == "parallel" else []
                times.append(
                    seconds_of(
                        "train.py", "-m", f"hydra/launcher={launcher}", *jobs,
                        f"hydra.sweep.dir={folder}", f"data.root={options.data}",
                        f"data.train_size={options.images}",
                        f"data.test_size={min(10_000, options.images // 6)}", "train.snapshots=0",
                        "seed=" + ",".join(map(str, range(options.runs))),
                    )
                )  # fmt: skip
    one, several = seconds.values()
    ratio = statistics.median(a / b for a, b in zip(one, several, strict=True))
    rows = [
        {"launcher": "one at a time", "seconds": statistics.median(one), "ratio": 1.0},
        {"launcher": "several at a time", "seconds": statistics.median(several), "ratio": ratio},
    ]
    print(f"{'runs':<20}{'seconds':>9}{'as fast':>9}")
    for row in rows:
        print(f"{row['launcher']:<20}{row['seconds']:>9.1f}{row['ratio']:>9.2f}")
    settings = {key: getattr(options, key) for key in ("jobs", "runs", "images", "rounds")}
    write_json(options.json, resolve_device("auto"), {**settings, "rows": rows, "all": seconds})


if __name__ == "__main__":
    main()
