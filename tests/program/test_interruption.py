"""Runs that are killed, stopped, or whose disk is full: nothing is lost, and they end the same."""

import fcntl
import os
import pty
import random
import resource
import shutil
import signal
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from benchmarks import compose_train
from center_loss import figures
from center_loss.base import signals
from center_loss.base.signals import Interrupted
from center_loss.job import train_one
from center_loss.runs.checkpoint import CHECKPOINT_KEYS, has_checkpoint, load_checkpoint
from center_loss.runs.contents import load_features, load_metrics
from center_loss.runs.files import DIVERGED
from center_loss.runs.folder import failure, is_finished
from center_loss.runs.load import find_runs
from center_loss.trainer import Diverged

SMALL = [
    "recipe=smoke", "train.max_steps=6", "train.snapshots=3", "data.train_size=300",
    "data.test_size=100", "device=cpu",
]  # fmt: skip
LONG = [
    "recipe=smoke", "train.max_steps=200", "data.train_size=900", "data.test_size=300",
    "device=cpu",
]  # fmt: skip


def started(*command: object, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, **options,
    )  # fmt: skip


def at_a_point(point: str, action: str, *arguments: str, **options) -> tuple[int, str, str]:
    """Exit code, output and errors of tests/program/at_a_point.py."""
    process = started("tests/program/at_a_point.py", point, action, *arguments, **options)
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors


def assert_same_run(a: Path, b: Path) -> None:
    """Two finished runs have the same bytes in all that doesn't tell the time."""
    for name in ("features.npz", "snapshots.npz", "history.csv", "figure.png"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    timed = ("_seconds", "per_second")
    metrics = [
        {key: value for key, value in load_metrics(folder).items() if not key.endswith(timed)}
        for folder in (a, b)
    ]
    assert metrics[0] == metrics[1]
    states = [load_checkpoint(folder) for folder in (a, b)]
    for key in CHECKPOINT_KEYS:
        assert key == "seconds" or equal(states[0][key], states[1][key]), key


def equal(a, b) -> bool:
    """But for the time that both took, and the images that were evaluated in it."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        timed = ("train_seconds", "evaluation_seconds", "evaluated")
        same = all(equal(a[key], b[key]) for key in a.keys() & b.keys() if key not in timed)
        return a.keys() == b.keys() and same
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


@pytest.fixture(scope="module")
def whole(mnist_root, tmp_path_factory) -> Path:
    """The small run, never interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train_one(compose_train(*SMALL, f"data.root={mnist_root}", f"output_dir={folder}"))
    return folder


POINTS = [
    ("half checkpoint.pt:1", "SIGKILL"),
    ("half checkpoint.pt:2", "SIGKILL"),  # of this start; the first is whole
    ("rename checkpoint.pt:2", "SIGKILL"),  # the one before has already made room for it
    ("step:1", "SIGTERM"),
    ("evaluate:1", "SIGKILL"),  # of a snapshot or at an epoch's end
    ("half history.csv:1", "SIGKILL"),
    ("step:1", "SIGINT"),
    ("half features.npz:1", "SIGKILL"),
    ("draw:1", "SIGKILL"),
    ("renamed SHA256SUMS:1", "SIGKILL"),
]
A_FEW = [POINTS[2], POINTS[3], POINTS[5], POINTS[8]]


@pytest.mark.parametrize(
    "points", [A_FEW, pytest.param(POINTS, marks=pytest.mark.slow)], ids=["few", "all"]
)
def test_a_run_ended_at_every_turn_ends_with_the_same_bytes(whole, mnist_root, tmp_path, points):
    """One run and one command; each start ends at another point, the last with the run's end."""
    folder = tmp_path / "run"
    arguments = [*SMALL, f"data.root={mnist_root}", f"output_dir={folder}"]
    went_on = []
    for point, action in points:
        code, output, errors = at_a_point(point, action, *arguments)
        number = signal.Signals[action]
        assert code == (-number if action == "SIGKILL" else 128 + number), (point, errors)
        assert not is_finished(folder)
        if action != "SIGKILL":
            step = load_checkpoint(folder)["trainer"]["steps"]
            assert f"stopped at step {step} of 6, which is saved: the same command" in errors
            assert "Traceback" not in errors
        went_on.append("going on from step" in output)
    first = went_on.index(True)  # from then on always
    assert first <= 2 and all(went_on[first:])
    process = started("train.py", *arguments)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "going on from step 6 of 6" in output
    assert_same_run(whole, folder)
    assert not [path.name for path in folder.iterdir() if path.name.endswith(".tmp")]


@pytest.mark.slow
def test_25_kills_at_random_moments(mnist_root, tmp_path):
    """kill -9 of the command itself, whatever it is doing; a checkpoint is written after each step.

    Every fifth comes while the program starts, the others after its first new checkpoint; they are
    so close together that the run isn't finished before the last of them.
    """
    arguments = [*LONG, f"data.root={mnist_root}"]
    never = ("step:0", "SIGKILL")
    code, _, errors = at_a_point(*never, *arguments, f"output_dir={tmp_path / 'whole'}")
    assert code == 0, errors
    seconds = load_metrics(tmp_path / "whole")["wall_seconds"]
    folder = tmp_path / "killed"
    path, moments, steps = folder / "checkpoint.pt", random.Random(0), []
    for number in range(25):
        before = path.stat().st_mtime_ns if path.exists() else 0
        process = started("tests/program/at_a_point.py", *never, *arguments, f"output_dir={folder}")
        if number % 5 == 4:
            time.sleep(moments.uniform(0, 3))
        else:
            for _ in range(12_000):
                if path.exists() and path.stat().st_mtime_ns != before:
                    break
                time.sleep(0.005)
            time.sleep(moments.uniform(0, seconds / 40))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        steps.append(load_checkpoint(folder, say=lambda _: None)["trainer"]["steps"])
    print("killed at steps", steps)
    assert steps == sorted(steps)
    assert len(set(steps)) >= 20, steps
    code, _, errors = at_a_point(*never, *arguments, f"output_dir={folder}")
    assert code == 0, errors
    assert_same_run(tmp_path / "whole", folder)


def test_a_second_ctrl_c_stops_at_once(whole, mnist_root, tmp_path):
    """Without a checkpoint of that step, and without harm to what there is."""
    arguments = [*SMALL, f"data.root={mnist_root}", f"output_dir={tmp_path}"]
    code, _, errors = at_a_point("step:3", "SIGINT+SIGINT", *arguments)
    assert code == 130
    assert "interrupted: the same command goes on (without force=true" in errors
    assert "Traceback" not in errors
    assert load_checkpoint(tmp_path)["trainer"]["steps"] == 2
    code, _, errors = at_a_point("step:3", "SIGTERM+SIGTERM", *arguments)  # as timeout sends it
    assert code == 143 and "stopped at step 5 of 6, which is saved" in errors
    code, output, _ = at_a_point("step:99", "SIGINT", *arguments)
    assert code == 0 and "going on from step 5 of 6" in output
    assert_same_run(whole, tmp_path)


def test_signals_are_raised_or_deferred():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        before = signal.getsignal(number)
        with pytest.raises(Interrupted) as caught, signals.raised():
            signal.raise_signal(number)
        assert caught.value.exit_code == 128 + number
        with signals.deferred() as came:
            assert came() is None
            signal.raise_signal(number)
            signal.raise_signal(signal.SIGTERM)  # more of them change nothing
            assert came() == number
        assert signal.getsignal(number) == before
    with pytest.raises(KeyboardInterrupt), signals.deferred():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)


def test_a_signal_sent_twice_is_raised_once():
    """As `timeout` sends it; but a Ctrl-C after it is heard."""
    with signals.raised():
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)


def test_a_terminal_that_is_closed(mnist_root, tmp_path):
    """Nothing can be said any more; the step is saved all the same, and the exit code is right."""
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "train.py", *LONG, f"data.root={mnist_root}", f"output_dir={tmp_path}"],
        cwd=ROOT, stdin=secondary, stdout=secondary, stderr=secondary, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(secondary)
    for _ in range(6_000):
        if has_checkpoint(tmp_path):
            break
        time.sleep(0.01)
    os.close(primary)
    assert process.wait(60) == 128 + signal.SIGHUP
    assert load_checkpoint(tmp_path)["trainer"]["steps"] < 200
    assert not (tmp_path / "failure.txt").exists()


def test_ignored_signals_stay_ignored():
    """As nohup, and a sweep for its processes, have it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.raised():
            signal.raise_signal(signal.SIGHUP)
        with signals.deferred() as came:
            signal.raise_signal(signal.SIGHUP)
            assert came() is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_in_a_thread_are_left_alone():
    """A notebook may train in one; only the main thread can set handlers."""
    seen = []

    def work():
        with signals.deferred() as came:
            seen.append(came())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]


# ---- disks


def small_files() -> None:
    """In a process about to start: no file may be larger than 1 MB, as if the disk were full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))


def assert_one_error(errors: str, *texts: str) -> None:
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in errors, errors
    for text in texts:
        assert text in lines[0]


def test_a_full_disk(whole, mnist_root, tmp_path):
    """The checkpoint has no room. What was finished before stays, and the run can go on later."""
    shutil.copytree(whole, tmp_path / "finished")
    arguments = [*SMALL, f"data.root={mnist_root}", f"output_dir={tmp_path / 'run'}"]
    process = started("train.py", *arguments, preexec_fn=small_files)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert_one_error(errors, "checkpoint.pt can't be written (File too large): free some space")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.yaml", "failure.txt"}
    load_features(tmp_path / "finished")
    process = started("train.py", *arguments)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert_same_run(whole, tmp_path / "run")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]
    if os.getuid() != 0 or shutil.which("mount") is None or subprocess.run(mounted).returncode:
        pytest.skip("only root can mount a file system, and not everywhere")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_sweep_on_a_full_disk(small_disk, mnist_root):
    """Also its log and its summary have no room."""
    arguments = [*SMALL, f"data.root={mnist_root}", f"hydra.sweep.dir={small_disk}"]
    process = started("train.py", "-m", *arguments)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1 and "Traceback" not in errors
    assert errors.count("checkpoint.pt can't be written (No space left on device)") == 1
    assert "error: 1 of 1 runs failed" in errors
    assert not list(small_disk.rglob("checkpoint*"))
    for path in small_disk.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (small_disk / "filler").write_bytes(bytes(4 * 2**20 - 3 * 4096))
    process = started("train.py", "-m", *arguments)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert_one_error(errors, "No space left on device")


def test_a_folder_that_vanishes(mnist_root, tmp_path):
    """It isn't made again, half empty."""
    arguments = [*SMALL, f"data.root={mnist_root}", f"output_dir={tmp_path / 'run'}"]
    code, _, errors = at_a_point("step:3", "vanish", *arguments)
    assert code == 1
    assert_one_error(errors, "run/checkpoint.pt can't be written: its folder is gone, moved or")
    assert not (tmp_path / "run").exists()


def test_no_permission(mnist_root, tmp_path):
    """For root too, once it has given up its right to pass over permissions."""
    dropped = []
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may write everywhere, and setpriv isn't here to change that")
        dropped = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]
        if subprocess.run([*dropped, "true"], capture_output=True).returncode:
            pytest.skip("setpriv may not change what root may do")
    (tmp_path / "folder").mkdir(mode=0o500)
    folder = tmp_path / "folder/run"
    for program, texts in [
        (["train.py", *SMALL, f"data.root={mnist_root}", f"output_dir={folder}"],
         [f"{folder} can't be written (Permission denied)"]),
        (["train.py", "-m", *SMALL, f"data.root={mnist_root}", f"hydra.sweep.dir={folder}"],
         ["Permission denied"]),
        (["train.py", *SMALL, f"data.root={folder}", f"output_dir={tmp_path / 'run'}"],
         ["MNIST can't be stored in", "Permission denied", "data.root=FOLDER"]),
    ]:  # fmt: skip
        done = subprocess.run(
            [*dropped, sys.executable, *program], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 1
        assert_one_error(done.stderr, *texts)
    assert not list((tmp_path / "folder").iterdir())
    assert not (tmp_path / "run").exists()


# ---- divergence


@pytest.mark.parametrize(
    "wrong, what",
    [
        (["optimizer=sgd", "optimizer.lr=0.5", "loss.lam=0"], "(softmax loss|feature)"),
        (["loss.lam=300", "optimizer.adamw_lr=30"], "center loss"),
    ],
)
def test_figures_still_draw_a_diverged_run(mnist_root, tmp_path, capsys, wrong, what):
    """Its last finite checkpoint; the run isn't finished for all that."""
    arguments = [*SMALL, "train.max_steps=60", "train.snapshots=15", f"data.root={mnist_root}"]
    values = compose_train(*arguments, *wrong, f"output_dir={tmp_path / 'run'}")
    with pytest.raises(Diverged, match=f"diverged: (the|a) {what} is .* at step") as caught:
        train_one(values)
    metrics = load_metrics(tmp_path / "run", DIVERGED)
    state = load_checkpoint(tmp_path / "run")["trainer"]
    assert metrics["steps"] == state["steps"]
    assert caught.value.step - 10 <= metrics["steps"] <= caught.value.step
    assert metrics["diverged_at"] == caught.value.step
    assert all(weight.isfinite().all() for weight in state["net"].values())
    assert failure(tmp_path / "run") == str(caught.value)
    assert not is_finished(tmp_path / "run")
    figure = "fig2" if "loss.lam=0" in wrong else "fig3"
    figures.draw(figure, tmp_path, "paper")
    said = capsys.readouterr().out
    assert f"is drawn as it was (step {state['steps']}, diverged at {caught.value.step})" in said
    assert (tmp_path / f"{figure}_test.png").exists() and (tmp_path / "run/figure.png").exists()

    runs, others = find_runs(tmp_path)
    assert not runs and others[0].status == "failed"
    with pytest.raises(Diverged):  # the same command goes on, and comes to the same
        train_one(values)
    assert "going on from step" in capsys.readouterr().out


def test_a_diverged_run_is_left_out_where_others_are_finished(whole, mnist_root, tmp_path, capsys):
    shutil.copytree(whole, tmp_path / "whole")
    arguments = [*SMALL, "loss.lam=300", "optimizer.adamw_lr=30", "train.max_steps=60"]
    with pytest.raises(Diverged):
        train_one(compose_train(*arguments, f"data.root={mnist_root}", f"output_dir={tmp_path}/r"))
    figures.draw("fig3", tmp_path, "paper")
    assert f"left out: {tmp_path}/r failed: training diverged" in capsys.readouterr().out
