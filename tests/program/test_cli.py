"""Both programs as a user starts them: what they write, and one line for each thing gone wrong."""

import json
import subprocess
import sys

import numpy as np
import pytest
import yaml
from conftest import ROOT, assert_one_line
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import compose_train
from center_loss.base import checks
from center_loss.base.errors import UsageError
from center_loss.job import checked
from center_loss.program.cli import VERSION
from center_loss.recipe import Recipe
from center_loss.runs.contents import load_features

INTRA_INTER = ["intra", "inter", "intra_inter_ratio"]
RUN_FILES = {
    "config.yaml",
    "metrics.json",
    "history.csv",
    "features.npz",
    "snapshots.npz",
    "checkpoint.pt",
    "figure.png",
    "SHA256SUMS",
}


@pytest.fixture(scope="module")
def figures_folder(command, mnist_root, tmp_path_factory):
    """The command of the README on a few images: all five λ, then both figures."""
    folder = tmp_path_factory.mktemp("smoke") / "figures"
    done = command(
        "train.py", "experiment=figures", "recipe=smoke", f"data.root={mnist_root}",
        f"hydra.sweep.dir={folder}", "train.max_steps=10",
        "data.train_size=640", "data.test_size=300",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "\r" not in done.stderr  # not a terminal: plain lines
    return folder


def test_no_package_warns_of_anything(figures_folder, mnist_root, tmp_path):
    """Of what its next release will take away, above all."""
    for arguments in (
        ["train.py", "recipe=smoke", "train.max_steps=2", "data.train_size=100",
         "data.test_size=50", f"data.root={mnist_root}", f"output_dir={tmp_path}"],
        ["visualize.py", "figure=fig3", f"runs={figures_folder}"],
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-W", "error", *arguments], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr


def test_figures_experiment(figures_folder, command):
    runs = sorted(path for path in figures_folder.iterdir() if path.is_dir())
    lams = []
    for folder in runs:
        assert {path.name for path in folder.iterdir()} == RUN_FILES | {"train.log"}
        assert not set("=,") & set(folder.name)
        metrics = json.loads((folder / "metrics.json").read_text())
        lams.append(metrics["lam"])
        assert metrics["alpha"] == (0.5 if metrics["lam"] > 0 else None)
        assert metrics["recipe"] == "smoke" and metrics["steps"] == 10
        for key in [
            "test_accuracy", "train_accuracy", "test_recall", "center_drift", "seed", "device",
            "images_per_second", "wall_seconds", "precision", "data_md5", "versions",
            *(f"{s}_{k}" for s in ("train", "test") for k in INTRA_INTER),
        ]:  # fmt: skip
            assert key in metrics
        assert len(metrics["test_recall"]) == 10
        for key in ("centers", "train_class_means", "test_class_means"):
            assert np.shape(metrics[key]) == (10, 2)
        arrays = load_features(folder)
        np.testing.assert_array_equal(np.float32(metrics["centers"]), arrays["centers"])
        lengths = np.linalg.norm(arrays["weight"], axis=1)
        np.testing.assert_allclose(metrics["classifier_norm"], lengths.mean(), rtol=1e-5)
        np.testing.assert_allclose(
            metrics["test_class_means"],
            [arrays["test_features"][arrays["test_labels"] == j].mean(0) for j in range(10)],
            rtol=1e-4,
        )
        config = yaml.safe_load((folder / "config.yaml").read_text())
        assert config["loss"]["lam"] == metrics["lam"]
        assert config["output_dir"] == str(folder)
    assert sorted(lams) == [0, 0.001, 0.01, 0.1, 1]
    done = command("visualize.py", f"runs={figures_folder}")
    assert done.returncode == 0, done.stderr
    for name in ("fig2_train", "fig2_test", "fig3_train", "fig3_test"):
        for suffix in (".png", ".pdf"):
            assert (figures_folder / name).with_suffix(suffix).stat().st_size > 5_000


def test_the_same_command_again_skips_what_is_finished(figures_folder, command, mnist_root):
    before = {path: path.stat().st_mtime_ns for path in figures_folder.rglob("metrics.json")}
    arguments = [
        "train.py", "experiment=figures", "recipe=smoke", f"data.root={mnist_root}",
        f"hydra.sweep.dir={figures_folder}", "train.max_steps=10",
        "data.train_size=640", "data.test_size=300",
    ]  # fmt: skip
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert "5 of 5 runs finished already, skipped" in done.stdout
    assert before == {p: p.stat().st_mtime_ns for p in figures_folder.rglob("metrics.json")}


def test_single_run_skip_force_and_conflict(command, mnist_root, tmp_path):
    arguments = [
        "train.py", "recipe=smoke", "train.max_steps=2", "data.train_size=300",
        "data.test_size=100", f"data.root={mnist_root}",
    ]  # fmt: skip
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "outputs/runs/smoke/lam0.01-alpha0.5-seed0"
    assert {path.name for path in folder.iterdir()} == RUN_FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs"]  # no train.log

    again = command(*arguments, cwd=tmp_path)
    assert again.returncode == 0 and "finished already" in again.stdout

    other = command(*arguments, "train.batch_size=32", cwd=tmp_path)
    assert_one_line(other, 2, "train.batch_size: 64, now 32")

    written = (folder / "metrics.json").stat().st_mtime_ns
    forced = command(*arguments, "force=true", "train.batch_size=32", cwd=tmp_path)
    assert forced.returncode == 0, forced.stderr
    assert (folder / "metrics.json").stat().st_mtime_ns > written


def test_plain_multirun_one_bad_run_costs_one_run(command, mnist_root, tmp_path):
    done = command(
        "train.py", "-m", "recipe=smoke", "train.max_steps=2", "data.train_size=300",
        "data.test_size=100", "train.snapshots=0", f"data.root={mnist_root}",
        f"hydra.sweep.dir={tmp_path / 'sweep'}", "loss.lam=0,-1,0.01",
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "loss.lam must be a number ≥ 0, got -1" in done.stderr
    assert "1 of 3 runs failed" in done.stderr
    folders = [path for path in (tmp_path / "sweep").iterdir() if path.is_dir()]
    assert len(folders) == 2
    assert all((folder / "metrics.json").exists() for folder in folders)


BAD_VALUES = [
    ("loss.lam", [-1, "x", None, "", float("nan"), float("inf"), True, [1]]),
    ("loss.alpha", [-0.1, 1.1, "x", None, float("nan")]),
    ("loss.lam_warmup", [-1, 2]),
    ("loss.lam_start", [-1, 2, None]),
    ("seed", ["x", -1, 1.5, None, True, 2**40]),
    ("train.batch_size", [0, -1, 1.5, "x", None, 60_001]),
    ("train.max_steps", [0, -5, "x", 2.5, 1e12]),
    ("train.epochs", [0, -1, "x", float("nan"), float("inf"), 1e308]),
    ("train.clip_norm", [0, -1, "x"]),
    ("train.snapshots", [-1, "x", None, 2.5]),
    ("data.train_size", [0, 60_001, "all"]),
    ("data.test_size", [0, 10_001]),
    ("data.root", ["", None, []]),
    ("data.pixel_std", [0, -1]),
    ("data.order", ["random", None]),
    ("precision", ["fp64", None, 16]),
    ("compile", ["maybe", None]),
    ("force", ["yes", None, 1]),
    ("output_dir", ["", []]),
    ("model.name", ["lenet9000"]),
    ("model.feature_dim", [0, "x"]),
    ("model.slopes", ["pixel", None]),
    ("model.last_pool", [1, 4]),
    ("model.init", ["kaiming"]),
    ("model.classifier_bias", ["yes", 1]),
    ("loss.name", ["island", None]),
    ("train.last_batch", ["drop", None]),
    ("optimizer.lr", [0, -1, "x"]),
    ("optimizer.momentum", [2]),
    ("optimizer.name", ["adam", None]),
    ("schedule.warmup", [2, "x"]),
    ("schedule.name", ["cosine"]),
    ("train", [None, 3]),
    ("optimizer", [None, "sgd"]),
]


@pytest.fixture(scope="module")
def composed():
    return compose_train()


@pytest.mark.parametrize(
    "name, folder, params",
    [
        ("figures", "outputs/figures", {"loss.lam": "0,0.001,0.01,0.1,1"}),
        ("sweep", "outputs/sweep", {
            "loss.lam": "0,0.001,0.01,0.1,1", "loss.alpha": "0.01,0.1,0.5,1"
        }),
    ],
)  # fmt: skip
def test_experiments(name, folder, params):
    with initialize_config_dir(str(ROOT / "configs"), **VERSION):
        config = compose("train", [f"experiment={name}"], return_hydra_config=True).hydra
    assert config.mode.name == "MULTIRUN"
    assert config.sweep.dir == folder
    assert {key: str(value) for key, value in config.sweeper.params.items()} == params


def replaced(config: dict, key: str, value) -> dict:
    head, _, tail = key.partition(".")
    return {**config, head: replaced(config[head], tail, value) if tail else value}


@pytest.mark.parametrize("key, values", BAD_VALUES, ids=[key for key, _ in BAD_VALUES])
def test_bad_values_are_named(composed, key, values):
    checked(composed)
    for value in values:
        with pytest.raises(UsageError) as caught:
            checked(replaced(composed, key, value))
        message = str(caught.value)
        assert message.startswith(key) or f"{key}." in message, message
        assert "\n" not in message


def test_unknown_and_missing_keys(composed):
    with pytest.raises(UsageError, match=r"loss\.beta is no key here; there are loss\.name"):
        checked(replaced(composed, "loss", {**composed["loss"], "beta": 1}))
    with pytest.raises(UsageError, match=r"loss\.lam is missing"):
        checked(replaced(composed, "loss", {"name": "paper", "alpha": 0.5}))
    with pytest.raises(UsageError, match=r"optimizer\.lr is missing"):
        checked(replaced(composed, "optimizer", {"name": "muon"}))
    both = replaced(replaced(composed, "train.epochs", None), "train.max_steps", None)
    with pytest.raises(UsageError, match=r"one of train\.max_steps and train\.epochs"):
        checked(both)


def test_max_steps_wins_over_epochs(composed):
    assert Recipe.of(composed).max_steps == 1875
    both = replaced(composed, "train.max_steps", 7)
    assert Recipe.of(both).max_steps == 7


@pytest.mark.parametrize(
    ("epochs", "batch_size", "steps"),
    [(4.4, 32, 6875), (2, 64, 1563), (1e-9, 64, 1)],  # 4.4 · 50,000 / 32 = 6,875.000…1
)
def test_steps_of_epochs(composed, epochs, batch_size, steps):
    values = replaced(composed, "data.train_size", 50_000)
    values = replaced(replaced(values, "train.epochs", epochs), "train.batch_size", batch_size)
    assert Recipe.of(values).max_steps == steps


def test_softmax_alone_is_one_run_whatever_the_center_loss():
    """As ``recipe.Recipe`` has it: a run of one goes on with the command of the other."""
    alike = [
        Recipe.of(checked(compose_train("loss.lam=0", *more)))
        for more in ([], ["loss.alpha=0.1"], ["loss=caffe_face"], ["loss.lam_warmup=0"])
    ]
    assert all(each == alike[0] for each in alike)


@given(st.one_of(st.floats(), st.integers(), st.text(), st.none(), st.booleans()))
def test_any_lam_is_taken_or_refused(value):
    try:
        lam = checks.take(checks.number(0), value)
    except ValueError as error:
        assert "≥ 0" in str(error)
    else:
        # a text that is a number is one, as from ${oc.env:LAM}
        assert 0 <= lam < float("inf") and lam == float(value)


def test_help_is_quick_and_lists_the_keys(command):
    done = command("train.py", "--help")
    assert done.returncode == 0
    recipes = "caffe_face, fast, ijcv, mxnet_center_loss, paper, pytorch_center_loss, smoke"
    for key in ("loss.lam", "loss.alpha", "train.max_steps", "hydra.sweep.dir", recipes):
        assert key in done.stdout
    code = "import sys, train; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_a_failure_is_left_in_its_run_alone(command, figures_folder, mnist_root, tmp_path):
    """What fails before a run begins leaves no mark in an older run's folder."""
    arguments = [
        "train.py", "experiment=figures", "recipe=smoke", f"data.root={mnist_root}",
        f"hydra.sweep.dir={figures_folder}", "train.max_steps=10",
        "data.train_size=640", "data.test_size=300",
    ]  # fmt: skip
    done = command(*arguments, "data.train_size=-1")
    assert_one_line(done, 2, "data.train_size must be an integer from 1 to 60000, got -1")
    assert not list(figures_folder.rglob("failure.txt"))
    done = command(
        "train.py", "recipe=smoke", "optimizer=sgd", "optimizer.lr=1e5", "train.snapshots=0",
        f"data.root={mnist_root}", f"output_dir={tmp_path / 'diverged'}",
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    reason = (tmp_path / "diverged/failure.txt").read_text()
    assert "diverged" in reason and len(reason.splitlines()) == 1
    assert f"error: {reason}" in done.stderr
    assert not (tmp_path / "diverged/metrics.json").exists()


def test_metrics_are_written_last(mnist_root, tmp_path, monkeypatch):
    """A run that dies at any point before, here while its figure is drawn, isn't finished."""
    import train
    from center_loss import figures

    def die(folder, metrics):
        assert {path.name for path in folder.iterdir()} == RUN_FILES - {
            "figure.png", "metrics.json", "snapshots.npz", "SHA256SUMS"
        }  # fmt: skip
        raise KeyboardInterrupt

    values = compose_train(
        "recipe=smoke", "train.max_steps=2", "data.train_size=300", "data.test_size=100",
        "train.snapshots=0", f"data.root={mnist_root}", f"output_dir={tmp_path / 'run'}",
    )  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(figures, "draw_run", die)
        with pytest.raises(KeyboardInterrupt):
            train.train_one(values)
    assert not (tmp_path / "run/metrics.json").exists()
    train.train_one(values)
    assert {path.name for path in (tmp_path / "run").iterdir()} == RUN_FILES - {"snapshots.npz"}


def test_a_picture_that_cannot_be_drawn_costs_a_line(mnist_root, tmp_path, monkeypatch, capsys):
    """Not the run, which is finished, and whose figures visualize.py can still draw."""
    import train
    from center_loss import figures

    def fail(folder, metrics):
        raise RuntimeError("no\nfonts")

    values = compose_train(
        "recipe=smoke", "train.max_steps=2", "data.train_size=300", "data.test_size=100",
        "train.snapshots=0", f"data.root={mnist_root}", f"output_dir={tmp_path / 'run'}",
    )  # fmt: skip
    monkeypatch.setattr(figures, "draw_run", fail)
    train.train_one(values)
    errors = [line for line in capsys.readouterr().err.splitlines() if "step" not in line]
    assert errors == [f"{tmp_path}/run: figure.png can't be drawn (RuntimeError: no, fonts)"]
    assert {path.name for path in (tmp_path / "run").iterdir()} == RUN_FILES - {
        "snapshots.npz", "figure.png"
    }  # fmt: skip
    train.train_one(values)
    assert "finished already" in capsys.readouterr().out
    figures.draw("fig3", tmp_path / "run", "paper", say=lambda line: None)
    assert (tmp_path / "run/fig3_test.png").exists()


def test_seeds_repeat(command, mnist_root, tmp_path):
    """The same seed gives the same bytes, also with deterministic=true; another seed others."""
    contents = []
    for name, *more in [("a", "seed=0"), ("b", "deterministic=true"), ("c", "seed=1")]:
        done = command(
            "train.py", "recipe=smoke", "train.max_steps=3", "data.train_size=300",
            "data.test_size=100", "train.snapshots=0", "device=cpu", f"data.root={mnist_root}",
            f"output_dir={tmp_path / name}", *more,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        names = ("features.npz", "history.csv", "figure.png")
        contents.append([(tmp_path / name / each).read_bytes() for each in names])
    assert contents[0] == contents[1]
    features = [np.load(tmp_path / name / "features.npz")["test_features"] for name in "ac"]
    assert not np.allclose(*features)
