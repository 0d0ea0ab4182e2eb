"""A run's files after something has happened to them: noticed, named, and never read in part."""

import io
import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import loop
import numpy as np
import pytest
import torch
import yaml

from benchmarks import compose_train
from center_loss import figures, training
from center_loss.base.errors import UserError
from center_loss.data import load_mnist
from center_loss.job import train_one
from center_loss.runs import checkpoint
from center_loss.runs.checkpoint import (
    CHECKPOINT_KEYS,
    load_checkpoint,
    save_checkpoint,
)
from center_loss.runs.contents import (
    load_config,
    load_features,
    load_history,
    load_metrics,
    load_snapshots,
)
from center_loss.runs.files import CHECKSUMS, PREVIOUS
from center_loss.runs.folder import failure
from center_loss.sweeps import summary

LOADERS = {
    "features.npz": load_features,
    "snapshots.npz": load_snapshots,
    "metrics.json": load_metrics,
    "history.csv": load_history,
    "config.yaml": load_config,
    "checkpoint.pt": load_checkpoint,
}


@pytest.fixture(scope="module")
def values(mnist_root) -> list[str]:
    return [
        "recipe=smoke", "train.max_steps=2", "train.snapshots=2", "data.train_size=300",
        "data.test_size=100", "device=cpu", f"data.root={mnist_root}",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(values, tmp_path_factory) -> Path:
    """A run that was trained, not put together."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train_one(compose_train(*values, f"output_dir={folder}"))
    return folder


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def assert_noticed(path: Path) -> None:
    with pytest.raises(UserError) as caught:
        LOADERS[path.name](path.parent)
    message = str(caught.value)
    assert message.startswith(f"{path} is damaged") and "\n" not in message, message


@pytest.mark.parametrize("name", LOADERS)
def test_random_cuts_and_flipped_bits(copy, name):
    """50 of each in each file, 600 in all, and its first and last bytes and bits."""
    path, chance = copy / name, random.Random(name)
    content = path.read_bytes()
    for size in [0, 1, len(content) - 1, *(chance.randrange(len(content)) for _ in range(50))]:
        path.write_bytes(content[:size])
        assert_noticed(path)
    bits = 8 * len(content)
    for bit in [0, 7, bits - 8, bits - 1, *(chance.randrange(bits) for _ in range(50))]:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert_noticed(path)
    path.write_bytes(content + b"\0")
    assert_noticed(path)
    path.write_bytes(content)
    LOADERS[name](copy)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_checksums_are_those_of_sha256sum(copy):
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(check, cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count(": OK") == 5


@pytest.mark.parametrize("name", [name for name in LOADERS if name != "checkpoint.pt"])
def test_a_file_of_another_run_is_noticed(copy, values, tmp_path, name):
    train_one(compose_train(*values, "seed=1", "loss.lam=0.1", f"output_dir={tmp_path / 'other'}"))
    shutil.copy(tmp_path / "other" / name, copy / name)
    assert_noticed(copy / name)


def test_damaged_checksums_are_noticed(copy):
    path = copy / "SHA256SUMS"
    for content in [b"", path.read_bytes()[:40], b"\xff\xfe", path.read_bytes().upper()]:
        path.write_bytes(content)
        assert_noticed(copy / "features.npz")
    path.unlink()  # a folder that was put together by hand has none
    load_features(copy)


def test_figures_and_tables_leave_a_damaged_run_out(finished, copy, capsys):
    """One line each, and never a figure of it."""
    shutil.copytree(finished, copy.parent / "good")
    (copy / "metrics.json").write_bytes((copy / "metrics.json").read_bytes().replace(b"0", b"1"))
    figures.draw("fig3", copy.parent, "paper")
    said = capsys.readouterr().out
    assert f"left out: {copy}/metrics.json is damaged" in said
    rows = {row["folder"]: row["status"] for row in summary.rows(copy.parent)}
    assert rows == {"good": "finished", "run": "damaged"}


# ---- checkpoints


OPTIONS = {
    "model": {"name": "lenetpp", "feature_dim": 2},
    "lam": 0.01,
    "center_loss": {"name": "paper", "alpha": 0.5},
    "batch_size": 32,
    "optimizer": {
        **{"name": "caffe_sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
        **{"bias_lr_factor": 2, "decay_biases": False},
    },
    "schedule": {"name": "linear", "warmup": 0.2},
    "pixel_mean": 127.5,
    "pixel_std": 128,
    "max_steps": 4,
    "snapshots": 3,
}


@pytest.fixture(scope="module")
def mnist(mnist_root):
    return load_mnist(mnist_root, train_size=128, test_size=50)


@pytest.fixture(scope="module")
def stopped_and_whole(mnist, tmp_path_factory):
    """A run folder with the checkpoints of steps 3 and 2; and the features it would end with."""
    root = tmp_path_factory.mktemp("stopped")
    loop.train(root / "whole", mnist, **OPTIONS)
    save = save_checkpoint

    def save_and_die(folder, state):
        save(folder, state)
        if state["trainer"]["steps"] == 3:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_SECONDS", 0)
        patch.setattr(training, "CHECK_EVERY", 1)
        patch.setattr(checkpoint, "save_checkpoint", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            loop.train(root / "run", mnist, **OPTIONS)
    return root / "run", (root / "whole/features.npz").read_bytes()


@pytest.fixture
def interrupted(stopped_and_whole, tmp_path):
    """The same, to be damaged."""
    stopped, features = stopped_and_whole
    return shutil.copytree(stopped, tmp_path / "run"), features


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "gone", "version", "pipe"])
def test_the_checkpoint_before_is_taken(interrupted, mnist, damage):
    folder, features = interrupted
    path = folder / "checkpoint.pt"
    state, content = load_checkpoint(folder), bytearray(path.read_bytes())
    path.unlink()
    content[len(content) // 2] ^= 4
    if damage == "pipe":
        os.mkfifo(path)
    elif damage == "version":
        os.replace(folder / PREVIOUS, previous := folder / "kept")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint, "CHECKPOINT_VERSION", 0)
            save_checkpoint(folder, {k: v for k, v in state.items() if k != "version"})
        os.replace(previous, folder / PREVIOUS)
    elif damage != "gone":
        size = {"cut": len(content) // 2, "empty": 0}.get(damage)
        path.write_bytes(content[:size])
    said = []
    if damage in ("cut", "flipped", "empty"):  # at a save it doesn't take the good one's place
        shutil.copy(path, damaged := folder / "damaged")
        save_checkpoint(folder, state)
        assert torch.load(folder / PREVIOUS, weights_only=True)["trainer"]["steps"] == 2
        os.replace(damaged, path)
    loop.train(folder, mnist, **OPTIONS, say=said.append)
    why = {
        "gone": "is missing",
        "pipe": "isn't a file",
        "version": "is damaged, or not of this program (version 0, this is for 3)",
    }
    assert why.get(damage, "(wrong checksum)") in said[0]
    assert said[0].endswith("taking the one before, checkpoint.previous.pt")
    assert said[1:] == [f"{folder}: going on from step 2 of 4"]
    assert (folder / "features.npz").read_bytes() == features


def test_two_damaged_checkpoints_are_not_passed_over(interrupted, mnist):
    """Nothing is trained, and nothing of what is there is lost."""
    folder, _ = interrupted
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        (folder / name).write_bytes(b"nonsense")
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(UserError, match=r"checkpoint\.pt is damaged.* with force=true"):
        loop.train(folder, mnist, **OPTIONS)
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    "other, said",
    [
        ({"lam": 0.1}, "lam: 0.01, now 0.1"),
        ({"seed": 1}, "seed: 0, now 1"),
        ({"batch_size": 16}, "batch_size: 32, now 16"),
        ({"center_loss": {"name": "paper", "alpha": 0.1}}, "loss.alpha: 0.5, now 0.1"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(interrupted, mnist, other, said):
    folder, _ = interrupted
    with pytest.raises(UserError, match="is of another run") as caught:
        loop.train(folder, mnist, **{**OPTIONS, **other})
    assert said in str(caught.value)


def test_a_checkpoint_of_before_a_key_goes_on(interrupted, mnist):
    """What it lacks has its default, as in a configuration."""
    folder, features = interrupted
    state = load_checkpoint(folder)
    del state["recipe"]["loss"]["lam_start"]
    save_checkpoint(folder, {key: each for key, each in state.items() if key != "version"})
    said = []
    loop.train(folder, mnist, **OPTIONS, say=said.append)
    assert said == [f"{folder}: going on from step 3 of 4"]
    assert (folder / "features.npz").read_bytes() == features


def test_what_keeps_a_run_from_ending_the_same_is_said(interrupted, mnist):
    folder, _ = interrupted
    said = []

    def say(line):
        said.append(line)
        if len(said) == 2:
            raise KeyboardInterrupt  # before the first step in bf16, which may be emulated

    with pytest.raises(KeyboardInterrupt):
        loop.train(folder, mnist, **OPTIONS, precision="bf16", say=say)
    assert "won't end with the same bytes" in said[1] and "precision: fp32, now bf16" in said[1]


# ---- files of someone else


class Evil:
    """Unpickled, it leaves a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def test_files_of_others_run_no_code(copy, values, tmp_path, capsys):
    """A checkpoint, features and a configuration that try, each with a right checksum."""
    mark = tmp_path / "code ran"
    (copy / CHECKSUMS).unlink()
    path = copy / "checkpoint.pt"
    torch.save({**dict.fromkeys(CHECKPOINT_KEYS, 1), "model": Evil(mark)}, path)
    path.write_bytes(checkpoint._sealed(path.read_bytes()))
    with pytest.raises(UserError, match=r"checkpoint\.pt is damaged.*Weights only load failed"):
        load_checkpoint(copy)
    features = load_features(copy)
    np.savez(copy / "features.npz", **{**features, "weight": np.array([Evil(mark)])})
    with pytest.raises(UserError, match="allow_pickle=False"):
        load_features(copy)
    config = load_config(copy)
    (copy / "config.yaml").write_text(
        yaml.safe_dump(config) + f"evil: !!python/object/apply:open ['{mark}', 'w']\n"
    )
    with pytest.raises(UserError, match=r"config\.yaml is damaged"):
        load_config(copy)
    np.savez(copy / "features.npz", **features)
    target = {"_target_": "builtins.open", "_args_": [str(mark), "w"]}
    for key in ("model", "optimizer", "loss", "schedule"):
        wrong = config | {key: config[key] | target}
        (copy / "config.yaml").write_text(yaml.safe_dump(wrong))
        with pytest.raises(UserError, match=rf"config\.yaml is damaged.*{key}\._args_ is no key"):
            load_config(copy)
    config["evil"] = {**target, "text": "${oc.env:HOME}"}
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    assert load_config(copy)["evil"]["text"] == "${oc.env:HOME}"
    figures.draw("fig3", copy, "paper")  # drawn, and nothing is called
    summary.table(summary.rows(copy.parent))
    assert not mark.exists()
    torch.load(io_of(Evil(mark)), weights_only=False)  # they would have
    assert mark.exists()


def io_of(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return buffer


def test_names_of_others_send_no_commands_to_the_terminal(copy, capsys):
    """A failure's text, or a folder's name, may hold what a terminal obeys."""
    (copy / "metrics.json").unlink()
    (copy / "failure.txt").write_text("\x1b[2Jgone\r\n")
    assert failure(copy) == "?[2Jgone"


def test_deeply_nested_files(copy):
    (copy / CHECKSUMS).unlink()
    for name, content in [("metrics.json", "[" * 100_000), ("config.yaml", "{a: " * 5_000)]:
        (copy / name).write_text(content)
        assert_noticed(copy / name)


@pytest.mark.parametrize(
    "name, key, wrong",
    [
        ("metrics.json", "lam", ["x", None, -1, [1]]),
        ("metrics.json", "alpha", ["x", -1]),
        ("metrics.json", "seed", [None, 1.5, "0"]),
        ("metrics.json", "test_accuracy", [None, 7, "high"]),
        ("metrics.json", "test_intra_inter_ratio", ["x", [1]]),
        ("metrics.json", "test_recall", ["x", [2.0], [[1]], 3]),
        ("metrics.json", "loss", [3, []]),
        (
            "config.yaml",
            "model",
            [3, None, [], {"name": "lenetpp", "feature_dim": "two"}, {"feature_dim": 2}],
        ),
        ("config.yaml", "loss", ["x", {"lam": "x"}, {"lam": 0.1, "alpha": []}]),
        ("config.yaml", "seed", [{}, None, "x"]),
        ("config.yaml", "recipe", [None, 3, ""]),
    ],
)
def test_values_that_cannot_be(copy, name, key, wrong):
    (copy / CHECKSUMS).unlink()
    path = copy / name
    values = LOADERS[name](copy)
    for value in wrong:
        path.write_text(json.dumps({**values, key: value}))  # YAML too
        assert_noticed(path)
