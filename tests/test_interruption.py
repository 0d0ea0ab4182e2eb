"""Runs that are killed, stopped, or whose disk is full: nothing is lost, and they end the same."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from benchmarks import compose_train
from center_loss import run, signals
from center_loss.job import train_one
from center_loss.signals import Interrupted

SMALL = [
    "recipe=smoke", "train.max_steps=6", "train.snapshots=3", "data.train_size=300",
    "data.test_size=100",
]  # fmt: skip
LONG = ["recipe=smoke", "train.max_steps=200", "data.train_size=900", "data.test_size=300"]


def started(*command: object, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        text=True, **options,
    )  # fmt: skip


def at_a_point(point: str, action: str, *arguments: str, **options) -> tuple[int, str, str]:
    """Exit code, output and errors of tests/at_a_point.py."""
    environment = {"env": {**__import__("os").environ, "PYTHONPATH": str(ROOT)}}
    process = started("tests/at_a_point.py", point, action, *arguments, **environment, **options)
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors


def assert_same_run(a: Path, b: Path) -> None:
    """Two finished runs have the same bytes in all that doesn't tell the time."""
    for name in ("features.npz", "snapshots.npz", "history.csv", "figure.png"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    timed = ("_seconds", "per_second")
    metrics = [
        {key: value for key, value in run.load_metrics(folder).items() if not key.endswith(timed)}
        for folder in (a, b)
    ]
    assert metrics[0] == metrics[1]
    states = [run.load_checkpoint(folder) for folder in (a, b)]
    for key in run.CHECKPOINT_KEYS:
        if key not in ("seconds", "train_seconds", "evaluation_seconds", "evaluated"):
            assert equal(states[0][key], states[1][key]), key


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


@pytest.fixture(scope="module")
def whole(mnist_root, tmp_path_factory) -> Path:
    """The small run, never interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train_one(compose_train(*SMALL, f"data.root={mnist_root}", f"output_dir={folder}"))
    return folder


KILLS = [
    ("half checkpoint.pt:1", "SIGKILL", None),
    ("half checkpoint.pt:2", "SIGKILL", None),  # of this start; the first is whole
    ("rename checkpoint.pt:2", "SIGKILL", 1),  # the one before has gone to its place
    ("step:1", "SIGTERM", 2),
    ("evaluate:1", "SIGKILL", 3),  # of a snapshot or an epoch's end
    ("half history.csv:1", "SIGKILL", None),
    ("step:1", "SIGINT", None),
    ("half features.npz:1", "SIGKILL", None),
    ("draw:1", "SIGKILL", 6),
    ("renamed SHA256SUMS:1", "SIGKILL", 6),
]


def test_a_run_killed_at_every_turn_ends_with_the_same_bytes(whole, mnist_root, tmp_path):
    """One run and one command; each start ends at another point, the last with the run's end."""
    folder = tmp_path / "run"
    arguments = [*SMALL, f"data.root={mnist_root}", f"output_dir={folder}"]
    reached = []
    for point, action, _ in KILLS:
        code, output, errors = at_a_point(point, action, *arguments)
        number = signal.Signals[action]
        assert code == (-number if action == "SIGKILL" else 128 + number), (point, errors)
        assert not run.is_finished(folder)
        if action != "SIGKILL":
            step = run.load_checkpoint(folder)["step"]
            assert f"stopped at step {step} of 6, which is saved: the same command" in errors
            assert "Traceback" not in errors
        reached.append("going on from step" in output)
    assert reached == [False, False] + [True] * 8
    code, output, errors = at_a_point("step:99", "SIGKILL", *arguments)
    assert code == 0, errors
    assert "going on from step 6 of 6" in output
    assert_same_run(whole, folder)
    assert not [path.name for path in folder.iterdir() if path.name.endswith(".tmp")]
