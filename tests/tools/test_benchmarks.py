"""The benchmarks print their tables and write them; their figures need a machine at rest."""

import json
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

from benchmarks.loss import allocated, dense_step, our_step


@pytest.fixture
def benchmark(tmp_path):
    """Run a benchmark; returns what it printed and what it wrote."""

    def run(name: str, *arguments: str) -> tuple[str, list | dict]:
        path = tmp_path / "new" / "table.json"
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", *arguments, "--json", str(path)],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout, json.loads(path.read_text())

    return run


def test_loss(benchmark):
    printed, table = benchmark("loss", "--rounds", "2", "--classes", "10", "1000")
    assert "classes" in printed.splitlines()[0]
    assert [row["classes"] for row in table["rows"]] == [10, 1000]
    assert all(row["ours_ms"] > 0 and row["dense_ms"] > 0 for row in table["rows"])
    assert "aten::index_add_" in table["operations_ms"]
    assert table["torch"] and table["hardware"]


def test_memory_of_center_loss_does_not_grow_with_the_classes():
    few, many = (allocated(our_step(classes), classes) for classes in (10, 20_000))
    assert few == pytest.approx(many, rel=0.01)
    assert 2 < many < 10  # times B·D numbers, all of a step's tensors together
    # of the dense form, the B×C matrices alone are 40 times B·D each
    assert allocated(dense_step(20_000), 20_000) > 100


def test_layers(benchmark):
    printed, tables = benchmark("layers", "--rounds", "1", "--batch", "16")
    rows = tables["fp32"]["rows"]
    convolutions = [row for row in rows if row["layer"].startswith("Conv2d")]
    parts = ["forward", "data gradient", "weight gradient"]
    assert [row["part"] for row in convolutions] == [parts[0], parts[2], *parts * 5]
    macs = [
        row["gflops"] * row["ms"] / 1000 / 2 / 16
        for row in convolutions
        if row["part"] == "forward"
    ]
    assert sum(macs) * 1e9 == pytest.approx(80.9e6, rel=0.01)
    names = [row["layer"].split()[0] for row in rows]
    assert (names.count("PReLU"), names.count("MaxPool2d")) == (12, 6)
    assert names[-3:] == ["optimizer", "the", "whole"]
    assert all(row["ms"] > 0 for row in rows if row["layer"] != "the rest")
    assert "PReLU gradients" in printed


@pytest.mark.slow
def test_training(benchmark, mnist_root):
    arguments = ["--rounds", "1", "--steps", "1", "--data", mnist_root, "--no-compile"]
    printed, table = benchmark("training", *arguments)
    names = [row["variant"] for row in table["rows"]]
    assert names[:2] == ["conventional loop, fp32", "ours, fp32"]
    assert all(name in printed for name in names)
    assert table["rows"][0]["ratio"] == 1
    assert table["gflop_per_image"] == pytest.approx(3 * 2 * 0.0809, rel=0.01)


@pytest.mark.slow
def test_program(benchmark, mnist_root):
    printed, table = benchmark(
        "program", "--recipe", "smoke", "--rounds", "1", "--data", mnist_root
    )
    assert [row["what"] for row in table["rows"]][-1] == "visualize.py figure=fig3"
    assert all(row["seconds"] > 0 for row in table["rows"])
    assert "training steps" in printed


@pytest.mark.slow
def test_sweep(benchmark, mnist_root):
    printed, table = benchmark(
        "sweep", "--rounds", "1", "--images", "600", "--jobs", "2", "--data", mnist_root
    )
    one, several = table["rows"]
    assert one["ratio"] == 1 and several["ratio"] == pytest.approx(
        one["seconds"] / several["seconds"]
    )
    assert "several at a time" in printed and table["jobs"] == 2


@pytest.mark.slow
def test_gpu(benchmark, mnist_root):
    """All of it but the GPU, whose tests are skipped where there is none."""
    printed, found = benchmark(
        "gpu", "--device", "cpu", "--rounds", "1", "--steps", "1", "--data", mnist_root,
        "data.train_size=300", "data.test_size=100", "train.max_steps=2",
    )  # fmt: skip
    assert found["tests"]["exit_code"] in (0, 5) and "skipped" in found["tests"]["summary"]
    rows = found["training"]
    assert {(row["runs_at_once"], row["batch"]) for row in rows} == {
        (1, 64), (4, 64), (1, 128), (4, 128),
    }  # fmt: skip
    assert all(row["images_per_second"] > 0 for row in rows)
    assert [row["command"].split()[1] for row in found["runs"]] == ["recipe=fast", "recipe=paper"]
    assert all(row["wall_seconds"] > 0 for row in found["runs"])
    assert "training: variant eager, fp32, runs at once 4" in printed


def test_gpu_without_one():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.startswith("error: device=cuda isn't")
