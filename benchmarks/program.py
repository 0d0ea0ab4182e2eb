"""What isn't training: how long the programs take around it, in seconds.

    python -m benchmarks.program [--recipe fast] [--rounds 5] [--json FILE]

Starts `train.py --help`, the check of MNIST, and a training that finds itself finished, each a few
times; the median counts. Then trains one model as a user does, splits its time, and draws the
figures of five such runs, for which the one serves five times under another λ.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks import write_json
from center_loss.runs.contents import load_config, load_metrics, save_config
from center_loss.runs.folder import finish

ROOT = Path(__file__).parent.parent


def seconds_of(*arguments: str) -> float:
    """Seconds that a command takes."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def copy_as(folder: Path, target: Path, lam: float) -> None:
    """A finished run under another λ."""
    config, metrics = load_config(folder), load_metrics(folder)
    shutil.copytree(folder, target)
    save_config(target, {**config, "loss": {**config["loss"], "lam": lam}})
    finish(target, {**metrics, "lam": lam, "alpha": metrics["alpha"] if lam else None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", default="data", help="MNIST's root folder")
    parser.add_argument("--json", type=Path, help="write the table there too")
    options = parser.parse_args()
    rows: list[tuple[str, float, float | None]] = []  # what, seconds, share of the run

    def median(name: str, *arguments: str) -> None:
        seconds_of(*arguments)  # warms up
        seconds = [seconds_of(*arguments) for _ in range(options.rounds)]
        rows.append((name, statistics.median(seconds), None))

    median("train.py --help", "train.py", "--help")
    median("visualize.py --help", "visualize.py", "--help")
    load = (
        "from center_loss.fetch.mnist import ensure_mnist; import time; t = time.perf_counter(); "
    )
    load += f"ensure_mnist({options.data!r}); print(time.perf_counter() - t)"
    found = [
        float(subprocess.check_output([sys.executable, "-c", load], cwd=ROOT, text=True))
        for _ in range(options.rounds)
    ]
    rows.append(("MNIST, there already, verified", statistics.median(found), None))

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        command = (
            "train.py", f"recipe={options.recipe}", f"output_dir={folder}",
            f"data.root={options.data}",
        )  # fmt: skip
        whole = seconds_of(*command)
        metrics = load_metrics(folder)
        train, evaluation = metrics["train_seconds"], metrics["evaluation_seconds"]
        rows.append((f"one run, recipe={options.recipe}", whole, None))
        for name, seconds in [
            ("  training steps", train),
            ("  evaluation and snapshots", evaluation),
            ("  all else", whole - train - evaluation),
        ]:
            rows.append((name, seconds, seconds / whole))
        median("the same again: finished already", *command)
        runs = Path(temporary) / "runs"
        for lam in (0.001, 0.01, 0.1, 1):
            copy_as(folder, runs / f"lam-{lam}", lam)
        median("visualize.py figure=fig3", "visualize.py", "figure=fig3", f"runs={runs}")
    print(f"{'what':<36}{'seconds':>9}{'share':>8}")
    for name, seconds, share in rows:
        print(f"{name:<36}{seconds:>9.2f}" + (f"{share:>8.0%}" if share is not None else ""))
    table = [
        {"what": name.strip(), "seconds": seconds, "share_of_run": share}
        for name, seconds, share in rows
    ]
    write_json(options.json, torch.device("cpu"), {"recipe": options.recipe, "rows": table})


if __name__ == "__main__":
    main()
