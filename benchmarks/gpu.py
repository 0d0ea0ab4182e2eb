"""All that is to be measured on a machine with a GPU, in ten minutes: make gpu

    python -m benchmarks.gpu [--steps 300] [--rounds 3] [--device cuda] [--json FILE]

The GPU tests; then images per second of the training step, eager and compiled, batches of 64 and
128, one run and four at a time, taking turns (medians of the rounds; ratios to the ports' loop are
medians of a round's ratios); then one run of `recipe=fast` and 500 steps of `recipe=paper` as users
start them, in seconds. What fails is told and left out, and the rest is measured.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import wait
from pathlib import Path

import torch

from benchmarks import write_json
from benchmarks.training import _call, conventional, ours, worker
from center_loss.base.device import resolve_device, resolve_precision
from center_loss.base.errors import UserError
from center_loss.runs.contents import load_metrics

ROOT = Path(__file__).parent.parent
BATCHES, AT_ONCE = (64, 128), (1, 4)


def tests() -> dict[str, object]:
    """How the GPU tests ended."""
    arguments = ["-m", "pytest", "-m", "gpu", "-q", "--no-header", "-p", "no:cacheprovider"]
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"exit_code": done.returncode, "summary": lines[-1].strip("= "), "failed": failed}


def rates(data: str, device: torch.device, rounds: int, steps: int) -> list[dict[str, object]]:
    """Images per second of each variant, all its runs together."""
    best = resolve_precision("auto", device)
    variants = [("ports' loop, fp32", 1, 128, (conventional, steps))]
    for how, precision, compiled in [
        ("eager, fp32", "fp32", False),
        (f"eager, {best}", best, False),
        (f"compiled, {best}", best, True),
    ]:
        variants += [
            (how, runs, batch, (ours, steps, precision, compiled, batch))
            for batch in BATCHES
            for runs in AT_ONCE
        ]
    threads = max(1, (os.cpu_count() or 1) // max(AT_ONCE))
    workers = [worker(data, device, threads, keep=True) for _ in range(max(AT_ONCE))]
    found: dict[tuple, list[float]] = {each[:3]: [] for each in variants}
    for number in range(rounds + 1):  # the first one warms up
        for *name, call in variants:
            key = tuple(name)
            if key not in found:
                continue
            try:
                running = [each.submit(_call, *call) for each in workers[: name[1]]]
                wait(running)
                rate = sum(each.result()["images_per_second"] for each in running)
            except Exception as error:  # whatever this machine's compiler or driver says
                print(f"left out: {name}: {str(error).splitlines()[0][:200]}", flush=True)
                del found[key]
                continue
            if number:
                found[key].append(rate)
    for each in workers:
        each.shutdown()
    base = found.get(("ports' loop, fp32", 1, 128), [])
    return [
        {
            "variant": how,
            "runs_at_once": runs,
            "batch": batch,
            "images_per_second": statistics.median(each),
            "ratio": statistics.median(a / b for a, b in zip(each, base, strict=True))
            if base
            else None,
        }
        for (how, runs, batch), each in found.items()
    ]


def commands(data: str, device: str, *more: str) -> list[dict[str, object]]:
    """Runs as a user starts them; the seconds are those of metrics.json."""
    rows = []
    for arguments in (["recipe=fast"], ["recipe=paper", "train.max_steps=500"]):
        arguments = [*arguments, "train.snapshots=0", *more]
        with tempfile.TemporaryDirectory() as folder:
            given = [
                *arguments,
                f"device={device}",
                f"data.root={data}",
                f"output_dir={folder}/run",
            ]
            done = subprocess.run(
                [sys.executable, "train.py", *given], cwd=ROOT, capture_output=True, text=True
            )
            row: dict[str, object] = {"command": " ".join(["train.py", *arguments])}
            if done.returncode:
                row["failed"] = done.stderr.strip().splitlines()[-1:]
            else:
                metrics = load_metrics(Path(folder) / "run")
                keys = ["wall_seconds", "train_seconds", "evaluation_seconds", "images_per_second",
                        "test_accuracy", "test_intra_inter_ratio", "precision"]  # fmt: skip
                row |= {key: metrics[key] for key in keys}
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--data", default="data", help="MNIST's root folder")
    parser.add_argument("--json", type=Path, help="write all of it there too")
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE, for the runs of train.py")
    options = parser.parse_args()
    if not 0 < options.steps < 60_000 // max(BATCHES):
        parser.error(f"--steps must be from 1 to {60_000 // max(BATCHES) - 1}, less than an epoch")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    try:
        device = resolve_device(options.device)
    except UserError as error:
        sys.exit(f"error: {error}")
    tables: dict[str, object] = {}
    for name, measure in {
        "tests": tests,
        "training": lambda: rates(options.data, device, options.rounds, options.steps),
        "runs": lambda: commands(options.data, options.device, *options.overrides),
    }.items():
        tables[name] = found = measure()
        for row in found if isinstance(found, list) else [found]:
            cells = (f"{key} {value:,.4g}" if isinstance(value, float) else f"{key} {value}"
                     for key, value in row.items())  # fmt: skip
            print(f"{name}: {re.sub(r'_', ' ', ', '.join(cells))}", flush=True)
        tables["cuda"] = torch.version.cuda
        write_json(options.json, device, tables)  # what there is, should the time run out


if __name__ == "__main__":
    main()
