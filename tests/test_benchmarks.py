"""The benchmarks start and print their tables; their figures are for a machine at rest."""

import subprocess
import sys

from conftest import ROOT


def test_center_loss_table():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.loss", "--rounds", "1", "--classes", "10", "1000"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["classes", "10", "1,000"]


def test_training_table(mnist_root):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training", "--rounds", "1", "--steps", "1", "--data",
         mnist_root, "--no-compile"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "conventional loop, fp32" in done.stdout and "ours, fp32" in done.stdout
