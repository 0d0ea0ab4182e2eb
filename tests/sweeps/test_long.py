"""Long runs and many runs: neither time nor memory grows with them."""

import resource
import statistics
import time
from pathlib import Path

import pytest

from benchmarks import compose_train
from center_loss.job import train_one
from center_loss.runs.folder import Folder
from center_loss.sweeps.jobs import Job, plan

PAGE = resource.getpagesize()


def memory() -> float:
    """Of this process, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


@pytest.mark.slow
def test_200_runs_in_one_folder(mnist_root, tmp_path):
    """The last of 200 one-step runs are as fast as the first, and a sweep finds them all."""
    arguments = [
        "recipe=smoke", "train.max_steps=1", "train.snapshots=0", "data.train_size=64",
        "data.test_size=50", f"data.root={mnist_root}",
    ]  # fmt: skip
    values = compose_train(*arguments)
    seconds, used = [], []
    for seed in range(200):
        began = time.process_time()  # what others do on this machine doesn't count
        train_one({**values, "seed": seed, "output_dir": str(tmp_path / f"seed-{seed}")})
        seconds.append(time.process_time() - began)
        used.append(memory())
    first, last = statistics.median(seconds[5:35]), statistics.median(seconds[-30:])
    print(f"first {first:.3f} s, last {last:.3f} s; {used[35]:.0f} MB, {used[-1]:.0f} MB")
    assert last < 1.3 * first
    assert used[-1] - used[35] < 30
    began = time.perf_counter()
    jobs = [Job([], {**values, "seed": seed}, tmp_path / "new") for seed in range(200)]
    planned = plan(jobs, tmp_path)
    print(f"planned in {time.perf_counter() - began:.1f} s")
    assert {job.status for job in planned} == {"finished"}
    assert time.perf_counter() - began < 20


@pytest.mark.slow
def test_memory_over_20_epochs(mnist_root, tmp_path, monkeypatch):
    """Snapshots and history grow, by kilobytes."""
    used, save = [], Folder.save_history
    monkeypatch.setattr(Folder, "save_history", lambda *a: (save(*a), used.append(memory())))
    train_one(
        compose_train(
            "recipe=smoke", "train.epochs=20", "train.max_steps=null", "train.snapshots=100",
            f"data.root={mnist_root}", f"output_dir={tmp_path / 'run'}",
        )
    )  # fmt: skip
    print(" ".join(f"{each:.0f}" for each in used), "MB")
    assert len(used) == 20
    assert max(used[5:]) - used[4] < 20
