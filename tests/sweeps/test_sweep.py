"""Sweeps: what is trained, skipped, refused or started again, and what is left of a bad run."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
import yaml
from conftest import ROOT, assert_one_line

from benchmarks import compose_train
from center_loss.base.errors import UsageError, UserError
from center_loss.job import Outcome, checked, train_alone
from center_loss.program.multirun import _short
from center_loss.recipe import Recipe
from center_loss.runs import folder as run_folder
from center_loss.runs.checkpoint import load_checkpoint
from center_loss.runs.contents import load_config, load_metrics, save_config
from center_loss.runs.files import FAILURE
from center_loss.runs.folder import held, is_finished, is_finished_as, save_failure
from center_loss.runs.progress import Progress
from center_loss.sweeps import local, scheduler, summary
from center_loss.sweeps import slurm as cluster
from center_loss.sweeps.jobs import DIED, PREEMPTED, Job, plan
from center_loss.sweeps.local import Local, signal_name
from center_loss.sweeps.scheduler import Board, train_all
from center_loss.sweeps.slurm import Slurm

SMALL = [
    "recipe=smoke", "data.train_size=300", "data.test_size=100", "train.max_steps=2",
    "train.snapshots=0",
]  # fmt: skip


def job(root: Path, *overrides: str, name: str | None = None) -> Job:
    folder = root / (name or "_".join(overrides).replace("=", "-"))
    return Job(list(overrides), compose_train(*SMALL, *overrides), folder)


def finish(one: Job, **metrics) -> None:
    """Leave in the job's folder what a training would."""
    settings = checked({**one.values, "output_dir": str(one.folder)})
    one.folder.mkdir(parents=True, exist_ok=True)
    save_config(one.folder, settings)
    values = {"lam": 0.1, "alpha": 0.5, "seed": settings["seed"], "recipe": "smoke"}
    accuracies = {"train_accuracy": 1.0, "test_accuracy": 0.5}
    run_folder.finish(one.folder, {**values, **accuracies, **metrics})


# ---- which jobs are trained


def test_finished_runs_are_recognised_by_their_configuration(tmp_path):
    plan([one := job(tmp_path, "loss.lam=0.1")], tmp_path)
    assert one.status == "waiting"
    finish(one)
    again, elsewhere, other = (
        job(tmp_path, "loss.lam=0.1"),
        job(tmp_path, "loss.lam=0.1", "seed=0"),  # seed 0 by name, so in another folder
        job(tmp_path, "loss.lam=0.1", "optimizer.lr=0.001"),
    )
    planned = plan([again, elsewhere, other], tmp_path)
    assert [each.status for each in planned] == ["finished", "waiting"]
    assert planned[0] is again and planned[1] is other  # elsewhere is the same run, once
    plan([alone := job(tmp_path, "loss.lam=0.1", "seed=0")], tmp_path)
    assert (alone.status, alone.folder) == ("finished", one.folder)


MANY = [
    "optimizer.lr=0.01", "optimizer.momentum=0.95", "optimizer.weight_decay=0.01",
    "optimizer.adamw_lr=0.003", "optimizer.adamw_beta2=0.999", "optimizer.adamw_weight_decay=0.02",
    "model.slopes=channel", "model.last_pool=3", "model.init=caffe", "train.clip_norm=1",
    "train.batch_size=32", "loss.alpha=0.5",
]  # fmt: skip


@pytest.fixture
def experiments(tmp_path) -> str:
    """The option for a folder of configurations with experiments of one's own."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    for name, text in {
        "e1": "train: {max_steps: 1}",
        "e2": "train: {max_steps: 2}\nhydra: {mode: MULTIRUN}",
        "folder": "hydra: {run: {dir: new/folder}}",
    }.items():
        file = tmp_path / f"configs/experiment/{name}.yaml"
        file.write_text(f"# @package _global_\n{text}\n")
    return f"--config-path={tmp_path / 'configs'}"


def test_experiments_of_ones_own_can_be_swept(command, mnist_root, tmp_path, experiments):
    """And with 18 overrides, which are too long for a name, each run has a folder all the same."""
    small = [each for each in SMALL if not each.startswith("train.max_steps")]
    arguments = [
        "train.py", "-m", experiments, *small, *MANY, f"data.root={mnist_root}", "seed=3",
        "experiment=e1,e2", f"hydra.sweep.dir={tmp_path / 'sweep'}",
    ]  # fmt: skip
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    folders = [path for path in (tmp_path / "sweep").iterdir() if path.is_dir()]
    assert all(len(folder.name) == 255 for folder in folders)
    steps = [load_config(folder)["train"]["max_steps"] for folder in folders]
    assert sorted(steps) == [1, 2]
    assert "2 of 2 runs finished already" in command(*arguments).stdout


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["-m", "experiment=e1,demo"], "experiment=demo is several runs by itself (loss.lam)"),
        (["experiment=folder"], "hydra.run.dir has no use here"),
        (["-m", "experiment=folder", "seed=0,1"], "hydra.run.dir has no use here"),
    ],
)
def test_experiments_that_would_not_be_heeded(command, tmp_path, experiments, arguments, text):
    flags = [each for each in arguments if each == "-m"]
    overrides = [each for each in arguments if each != "-m"]
    done = command("train.py", *flags, experiments, *overrides, cwd=tmp_path)
    assert_one_line(done, 2, text)
    assert [path.name for path in tmp_path.iterdir()] == ["configs"]


@pytest.mark.parametrize("name", ["a" * 255, "ü" * 127])
def test_a_name_that_fits_is_kept(name):
    assert _short(name) == name


def test_names_that_are_too_long_stay_apart():
    names = ["ü" * 200 + str(k) for k in range(100)]
    short = [_short(name) for name in names]
    assert len(set(short)) == 100 and short == [_short(name) for name in names]
    assert all(240 < len(each.encode()) <= 255 for each in short)


@pytest.mark.parametrize("finished", [True, False])
def test_a_link_to_a_run_elsewhere_is_its_run(command, mnist_root, tmp_path, finished):
    """Also under a name that isn't the sweep's; an unfinished one is trained where it lies."""
    name = "loss.lam-0.1_recipe-smoke_seed-0"
    root, bulk = tmp_path / "sweep", tmp_path / "bulk"
    root.mkdir()
    settings = [*SMALL, f"data.root={mnist_root}", "device=cpu", "seed=0"]
    one = Job([], compose_train(*settings, "loss.lam=0.1"), bulk / "of_one")
    if finished:
        finish(one)
    else:
        one.folder.mkdir(parents=True)
        save_config(one.folder, checked({**one.values, "output_dir": str(one.folder)}))
    (root / ("any" if finished else name)).symlink_to("../bulk/of_one")
    done = command(
        "train.py", "-m", *settings, "loss.lam=0.1", f"hydra.sweep.dir={root}",
        "hydra.job.config.override_dirname.exclude_keys=[data.root,data.train_size,data.test_size,"
        "train.max_steps,train.snapshots,device]",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert ("1 of 1 runs finished already" in done.stdout) == finished
    assert is_finished(one.folder) and [each.name for each in bulk.iterdir()] == ["of_one"]
    assert not [each for each in root.iterdir() if each.is_dir() and not each.is_symlink()]


def test_a_folder_of_another_configuration_is_not_taken_for_the_run(tmp_path):
    finish(job(tmp_path, "loss.lam=0.1"))
    changed = Job(["loss.lam=0.1"], compose_train(*SMALL, "loss.lam=0.1", "optimizer.lr=0.001"),
                  tmp_path / "loss.lam-0.1")  # fmt: skip
    plan([changed], tmp_path)
    assert (changed.status, changed.code) == ("refused", 2)
    assert "optimizer.lr: 0.01, now 0.001" in changed.reason


def test_softmax_alone_is_one_run_whatever_alpha(tmp_path):
    jobs = [job(tmp_path, "loss.lam=0", f"loss.alpha={alpha}") for alpha in (0.1, 0.5)]
    assert plan(jobs, tmp_path) == jobs[:1]
    joint = [job(tmp_path, "loss.lam=0.1", f"loss.alpha={alpha}") for alpha in (0.1, 0.5)]
    assert plan(joint, tmp_path) == joint


def test_a_finished_folder_is_preferred(tmp_path):
    for name in ("a", "b", "c"):
        one = job(tmp_path, "loss.lam=0.1", name=name)
        finish(one)
        if name != "b":
            (one.folder / "metrics.json").unlink()
    plan([one := job(tmp_path, "loss.lam=0.1", name="c")], tmp_path)
    assert (one.status, one.folder.name) == ("finished", "b")


def test_two_runs_do_not_share_a_folder(tmp_path):
    first, second = jobs = [job(tmp_path, f"loss.lam={lam}", name="x") for lam in (0.1, 0.2)]
    plan(jobs, tmp_path)
    assert (first.status, second.status) == ("waiting", "refused")
    assert "is the folder of loss.lam=0.1 too: hydra.sweep.subdir must" in second.reason


def test_damaged_metrics_cost_their_run_alone(tmp_path):
    for lam in (0.1, 0.2):
        plan([one := job(tmp_path, f"loss.lam={lam}")], tmp_path)
        finish(one)
    (one.folder / "metrics.json").write_text("{")
    planned = plan([job(tmp_path, f"loss.lam={lam}") for lam in (0.1, 0.2)], tmp_path)
    assert [each.status for each in planned] == ["finished", "refused"]
    assert "metrics.json is damaged" in planned[1].reason


def test_force_trains_what_is_finished(tmp_path):
    finish(job(tmp_path, "loss.lam=0.1"))
    plan([one := job(tmp_path, "loss.lam=0.1", "force=true")], tmp_path)
    assert one.status == "waiting"


def test_labels_are_what_tells_jobs_apart(tmp_path):
    jobs = [job(tmp_path, "seed=0", f"loss.lam={lam}") for lam in (0.1, 0.2)]
    assert [one.label for one in plan(jobs, tmp_path)] == ["loss.lam=0.1", "loss.lam=0.2"]


# ---- the loop, with processes that do as they are told


class Told:
    """A process that ends with the next of the outcomes it was given for its job."""

    alive: ClassVar[list["Told"]] = []
    most = 0

    def __init__(self, one: Job, outcomes: list[Outcome]) -> None:
        self.one, self.outcome, self.polls = one, outcomes.pop(0), 0
        Told.alive.append(self)
        Told.most = max(Told.most, len(Told.alive))

    def poll(self):
        self.polls += 1
        if self.polls < 2:
            return None
        Told.alive.remove(self)
        if self.outcome.code == 0:
            finish(self.one)
        return self.outcome

    def state(self) -> str:
        return "running"

    def terminate(self) -> None:
        self.stopped = True

    def join(self) -> None:
        assert self.stopped
        Told.alive.remove(self)


@pytest.fixture
def told(monkeypatch):
    monkeypatch.setattr(scheduler, "POLL_SECONDS", 0)
    Told.alive, Told.most = [], 0

    def train(jobs, outcomes, slots=2):
        train_all(jobs, lambda batch: [Told(one, outcomes[one.label]) for one in batch], slots)

    return train


def test_one_bad_run_costs_one_run(tmp_path, told, capsys):
    jobs = [job(tmp_path, f"loss.lam={lam}") for lam in (0, 0.1, 0.2, -1)]
    planned = plan(jobs, tmp_path)
    jobs[1].folder.mkdir(exist_ok=True)
    save_config(jobs[1].folder, jobs[1].values)
    died, well = Outcome(DIED, "killed by SIGKILL"), Outcome(0)
    told(planned, {
        "loss.lam=0": [well],
        "loss.lam=0.1": [died, died],  # started again, once
        "loss.lam=0.2": [died, well],
    })  # fmt: skip
    assert Told.most == 2 and not Told.alive
    assert [one.status for one in planned] == ["finished", "failed", "finished", "refused"]
    assert [one.starts for one in planned] == [1, 2, 2, 0]
    assert (jobs[1].folder / FAILURE).read_text() == "killed by SIGKILL\n"
    error = summary.failure(planned)
    assert error.exit_code == 2 and str(error) == "2 of 4 runs failed or were refused, see above"
    summary.report(planned, tmp_path)
    out, err = capsys.readouterr()
    assert "failed: loss.lam=0.1: killed by SIGKILL" in err
    assert "refused: loss.lam=-1: loss.lam must be a number" in err
    rows = list(csv.DictReader((tmp_path / "summary.csv").open()))
    assert [(row["loss.lam"], row["status"], row["reason"]) for row in rows] == [
        ("-1", "refused", jobs[3].reason),
        ("0.0", "finished", ""),
        ("0.1", "failed", "killed by SIGKILL"),
        ("0.2", "finished", ""),
    ]
    assert "loss.lam must be a number ≥ 0, got -1" in jobs[3].reason
    assert [line.split()[:3] for line in out.splitlines() if "finished" in line] == [
        ["0", "–", "finished"], ["0.2", "0.5", "finished"],
    ]  # fmt: skip


def test_jobs_of_different_shares_of_the_cores_take_turns(tmp_path, told):
    jobs = [job(tmp_path, f"loss.lam={lam}") for lam in (0, 0.1, 0.2, 0.3, 0.4)]
    planned = plan(jobs, tmp_path)
    for one in planned:
        one.threads = 4 if one is planned[4] else 2
    beside = []

    def start(batch):
        beside.append(([each.one.threads for each in Told.alive], [one.threads for one in batch]))
        return [Told(one, [Outcome(0)]) for one in batch]

    train_all(planned, start, 2)
    assert [one.status for one in planned] == ["finished"] * 5
    assert beside[0] == ([], [2, 2])
    assert beside[-1] == ([], [4])
    assert Told.most == 2


@pytest.mark.parametrize(
    "cores, jobs, slots, threads",
    [
        (2, 5, 2, [1, 1, 1, 1, 2]),  # the last one has both
        (2, 1, 1, [None]),
        (2, 2, 2, [1, 1]),
        (1, 3, 1, [None] * 3),
        (4, 5, 4, [1, 1, 1, 1, 4]),
        (8, 5, 4, [2, 2, 2, 2, 8]),  # five would leave three cores idle
        (4, 18, 4, [1] * 16 + [2, 2]),
    ],
)
def test_auto_makes_the_most_of_the_cores(monkeypatch, tmp_path, cores, jobs, slots, threads):
    monkeypatch.setattr(local, "available_cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    planned = [job(tmp_path, f"seed={seed}", "device=cpu") for seed in range(jobs)]
    assert Local("auto").slots(planned) == slots
    assert [one.threads for one in planned] == threads
    planned[0].status = "finished"  # what is left to train has the same threads
    assert Local("auto").slots(planned) == slots
    assert [one.threads for one in planned] == threads


def test_auto_keeps_to_the_threads_that_were_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(local, "available_cores", lambda: 8)
    planned = [job(tmp_path, f"seed={seed}", "device=cpu") for seed in range(5)]
    for given, slots in [("1", 8), ("2", 4), (" 2", 4), ("2,1", 4), ("16", 1)]:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert Local("auto").slots(planned) == slots
        assert [one.threads for one in planned] == [None] * 5


def test_auto_is_one_run_at_a_time_on_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr("center_loss.base.device.resolve_device", lambda name: torch.device("cuda"))
    planned = [job(tmp_path, f"seed={seed}") for seed in range(5)]
    assert Local("auto").slots(planned) == 1
    assert [one.threads for one in planned] == [None] * 5


def test_an_interruption_stops_what_runs(tmp_path, told, monkeypatch):
    planned = plan([job(tmp_path, f"loss.lam={lam}") for lam in (0, 0.1, 0.2)], tmp_path)

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(scheduler.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        told(planned, {one.label: [Outcome(0)] for one in planned})
    assert not Told.alive
    assert [one.status for one in planned] == ["waiting"] * 3


def test_force_starts_anew_once(tmp_path, told, monkeypatch):
    """A forced run that is killed goes on from its checkpoint instead of starting anew again."""
    finish(job(tmp_path, "loss.lam=0.1"))
    planned = plan([job(tmp_path, "loss.lam=0.1", "force=true")], tmp_path)
    (one,) = planned
    (one.folder / "checkpoint.pt").touch()
    one.label, seen = "x", []
    start = Told.__init__

    def look(self, *arguments):
        seen.append((one.values["force"], {path.name for path in one.folder.iterdir()}))
        (one.folder / "checkpoint.pt").touch()
        start(self, *arguments)

    monkeypatch.setattr(Told, "__init__", look)
    assert (one.folder / "metrics.json").exists()  # until the first begins
    told(planned, {"x": [Outcome(DIED, "killed"), Outcome(0)]})
    assert seen == [(False, {"config.yaml"}), (False, {"config.yaml", "checkpoint.pt"})]


def test_force_replaces_a_run_of_another_configuration(tmp_path, told):
    finish(job(tmp_path, "loss.lam=0.1", name="one"))
    forced = job(tmp_path, "loss.lam=0.2", "force=true", name="one")
    planned = plan([forced], tmp_path)
    (tmp_path / "one/checkpoint.pt").touch()
    planned[0].label = "x"
    told(planned, {"x": [Outcome(0)]})
    assert (planned[0].status, planned[0].starts) == ("finished", 1)
    assert load_config(tmp_path / "one")["loss"]["lam"] == 0.2
    assert not (tmp_path / "one/checkpoint.pt").exists()
    assert is_finished_as(
        tmp_path / "one", Recipe.of(planned[0].values)
    )  # nothing stands in its way


def test_force_removes_nothing_where_nothing_can_be_started(command, mnist_root, tmp_path):
    arguments = ["train.py", "-m", *SMALL[1:], "recipe=smoke", f"data.root={mnist_root}",
                 "device=cuda:99", "force=true", "loss.lam=0,0.1",
                 f"hydra.sweep.dir={tmp_path}", "hydra.sweep.subdir=${loss.lam}"]  # fmt: skip
    finish(job(tmp_path, "loss.lam=0.1", name="0.1"))
    done = command(*arguments)
    assert done.returncode == 1 and "device=cuda:99 isn't on this machine" in done.stderr
    assert (tmp_path / "0.1/metrics.json").exists()


def test_a_forced_sweep_that_is_interrupted_leaves_no_old_results(tmp_path, told, monkeypatch):
    """Else the same command without force=true would take them for new ones."""
    for lam in (0, 0.1, 0.2):
        finish(job(tmp_path, f"loss.lam={lam}"))
    planned = plan(
        [job(tmp_path, f"loss.lam={lam}", "force=true", name=f"loss.lam-{lam}")
         for lam in (0, 0.1, 0.2)], tmp_path
    )  # fmt: skip

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(scheduler.time, "sleep", interrupt)
    with held(planned[2].folder):
        with pytest.raises(KeyboardInterrupt):
            told(planned, {one.label: [Outcome(0)] for one in planned}, slots=1)
        assert [one.status for one in planned] == ["waiting", "waiting", "failed"]
    assert "is being trained by another process" in planned[2].reason
    assert [(one.folder / "metrics.json").exists() for one in planned] == [False, False, True]


def test_preempted_jobs_are_started_again_and_again(tmp_path, told):
    planned = plan([job(tmp_path, "loss.lam=0.1")], tmp_path)
    planned[0].label = "x"
    told(planned, {"x": [Outcome(PREEMPTED, "preempted")] * 4 + [Outcome(0)]})
    assert (planned[0].status, planned[0].starts) == ("finished", 5)


def test_what_can_not_be_started_later_costs_itself(tmp_path, told, monkeypatch):
    planned = plan([job(tmp_path, f"loss.lam={lam}") for lam in (0.1, 0.2)], tmp_path)
    outcomes, start = {one.label: [Outcome(0)] for one in planned}, Told.__init__

    def fail(self, one, outcomes):
        if one is planned[broken]:
            raise UserError("the queue is full")
        start(self, one, outcomes)

    monkeypatch.setattr(Told, "__init__", fail)
    broken = 1
    told(planned, outcomes, slots=1)
    assert [one.status for one in planned] == ["finished", "failed"]
    assert planned[1].reason == "the queue is full"
    # but where nothing can be started at all, that is that
    planned[0].status, planned[0].starts, broken = "waiting", 0, 0
    with pytest.raises(UserError, match="the queue is full"):
        told(planned, outcomes, slots=1)


def test_progress_counts_what_was_done_here(tmp_path, capsys, monkeypatch):
    """The time left comes from this start's steps alone, not from an earlier one's."""
    planned = plan([job(tmp_path, f"loss.lam={lam}") for lam in (0.1, 0.2)], tmp_path)
    one = planned[0]
    one.folder.mkdir()
    monkeypatch.setitem(scheduler.REPORT_SECONDS, False, 0)
    shown = Board(2)
    process = Told(one, [Outcome(0)])
    shown.show([(one, process)], planned[1:])
    assert capsys.readouterr().err.splitlines() == [
        "loss.lam=0.1: starting", "sweep: 0 of 2 runs, 0%, ? left",
    ]  # fmt: skip
    now = Progress(step=50, of=100, first=40, seconds=10, text="loss 1")
    (one.folder / "progress.json").write_text(json.dumps(now._asdict()))
    shown.began = time.monotonic() - 10
    shown.show([(one, process)], planned[1:])
    *_, line, whole = capsys.readouterr().err.splitlines()
    assert line == "loss.lam=0.1: step 50/100, loss 1, 00:50 left"
    assert whole == "sweep: 0 of 2 runs, 25%, 02:30 left"  # 0.1 runs in 10 s, 1.5 to come


def test_only_killed_processes_are_started_again(tmp_path, told):
    planned = plan([job(tmp_path, "loss.lam=0.1")], tmp_path)
    planned[0].label = "x"
    told(planned, {"x": [Outcome(1, "training diverged")]})
    assert (planned[0].status, planned[0].starts) == ("failed", 1)
    assert str(summary.failure(planned)) == "1 of 1 runs failed, see above"


def test_signal_names():
    assert signal_name(9) == "killed by SIGKILL, perhaps out of memory"
    assert signal_name(11) == "killed by SIGSEGV"


# ---- the summary


def test_summary_over_seeds(tmp_path, capsys):
    jobs = [job(tmp_path, f"seed={seed}", f"loss.lam={lam}") for lam in (0.1, 1) for seed in (0, 1)]
    planned = plan(jobs, tmp_path)
    for one, accuracy in zip(planned[:3], (0.5, 0.7, 0.9), strict=True):
        finish(one, test_accuracy=accuracy, test_recall=[1.0, accuracy, None])
        one.status = "finished"
    planned[3].status, planned[3].reason = "failed", "diverged"
    planned[3].folder.mkdir(exist_ok=True)
    save_config(planned[3].folder, planned[3].values)
    save_failure(planned[3].folder, "diverged")
    summary.report(planned, tmp_path)
    first, second = csv.DictReader((tmp_path / "summary_over_seeds.csv").open())
    assert (first["loss.lam"], first["seeds"], first["runs"]) == ("0.1", "2", "2")
    assert float(first["test_accuracy_mean"]) == pytest.approx(0.6)
    assert float(first["test_accuracy_std"]) == pytest.approx(0.1414, abs=1e-4)
    assert float(first["test_lowest_recall_mean"]) == pytest.approx(0.6)
    assert (second["seeds"], second["runs"], second["test_accuracy_std"]) == ("1", "2", "")
    printed = capsys.readouterr().out
    assert "60.00% ± 14.14%" in printed and "1 of 2" in printed


def test_a_refused_job_is_not_the_run_in_its_folder(tmp_path):
    finish(job(tmp_path, "loss.lam=0.1"), test_accuracy=0.9)
    changed = Job(["loss.lam=0.1"], compose_train(*SMALL, "loss.lam=0.1", "optimizer.lr=0.001"),
                  tmp_path / "loss.lam-0.1")  # fmt: skip
    plan([changed], tmp_path)
    refused, other = summary.rows(tmp_path, [changed])
    assert (refused["status"], refused["test_accuracy"], refused["folder"]) == ("refused", None, "")
    assert (other["status"], other["test_accuracy"]) == ("finished", 0.9)


def test_a_failure_now_wins_over_a_result_of_before(tmp_path):
    finish(one := job(tmp_path, "loss.lam=0.1"))
    one.status, one.reason = "failed", "no device"
    (row,) = summary.rows(tmp_path, [one])
    assert (row["status"], row["reason"], row["test_accuracy"]) == ("failed", "no device", None)


def test_summary_shows_what_else_differs(tmp_path):
    for overrides in (["loss.lam=0.1"], ["loss.lam=0.1", "optimizer.lr=0.001"]):
        one = job(tmp_path, *overrides)
        plan([one], tmp_path)
        finish(one)
    (damaged := tmp_path / "damaged").mkdir()
    (damaged / "config.yaml").write_text("[")
    rows = summary.rows(tmp_path)
    assert [row["status"] for row in rows] == ["damaged", "finished", "finished"]
    assert "loss.lam_start" not in rows[0]  # of a damaged one no value is known
    assert [row["optimizer.lr"] for row in rows] == [None, 0.001, 0.01]
    assert "train.batch_size" not in rows[0]
    assert [row["folder"] for row in rows[1:]] == [
        "loss.lam-0.1_optimizer.lr-0.001",
        "loss.lam-0.1",
    ]


# ---- a job in a process of its own


def test_a_crash_leaves_its_reason_and_traceback(tmp_path, mnist_root, monkeypatch, capfd):
    one = job(tmp_path, "loss.lam=0.1", f"data.root={mnist_root}")
    plan([one], tmp_path)

    def crash(*arguments, **more):
        print("about to crash")
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr("center_loss.training.train", crash)
    with capfd.disabled():  # else the test runner has what is printed
        outcome = train_alone(one.values, None)
    assert outcome.code == 1
    assert outcome.text.startswith("RuntimeError: out of, memory (the traceback is in ")
    assert (one.folder / "failure.txt").read_text() == "RuntimeError: out of, memory\n"
    log = (one.folder / "train.log").read_text()
    assert "about to crash" in log and "Traceback" in log


@pytest.mark.parametrize(
    "error, said",
    [
        (OSError(5, "Input/output error", "/disk"), "/disk can't be used: Input/output error"),
        (MemoryError(), "out of memory: lower train.batch_size"),
    ],
)
def test_what_is_no_bug_leaves_no_traceback(tmp_path, mnist_root, monkeypatch, capfd, error, said):
    one = job(tmp_path, "loss.lam=0.1", f"data.root={mnist_root}")
    plan([one], tmp_path)

    def fail(*arguments, **more):
        raise error

    monkeypatch.setattr("center_loss.training.train", fail)
    with capfd.disabled():
        outcome = train_alone(one.values, None)
    assert outcome.code == 1 and outcome.text.startswith(said)
    log = (one.folder / "train.log").read_text()
    assert f"error: {outcome.text}\n" in log and "Traceback" not in log


def test_what_never_began_leaves_nothing(tmp_path):
    one = job(tmp_path, "device=cuda:77", "loss.lam=0.1")
    plan([one], tmp_path)
    outcome = train_alone(one.values, None)
    assert outcome.code == 1 and "cuda:77 isn't on this machine" in outcome.text
    assert not list(tmp_path.iterdir())


# ---- whole sweeps, as a user starts them


def command_line(folder: Path, root: str, *overrides: str) -> list[str]:
    return [
        sys.executable, str(ROOT / "train.py"), "experiment=sweep", "recipe=smoke",
        f"data.root={root}", f"hydra.sweep.dir={folder}", *overrides,
    ]  # fmt: skip


def test_the_grid_has_one_softmax_run(command, mnist_root, tmp_path):
    done = subprocess.run(
        command_line(tmp_path / "sweep", mnist_root, *SMALL[1:4], "loss.lam=0,0.01",
                     "loss.alpha=0.1,0.5", "hydra.launcher.n_jobs=2"),
        capture_output=True, text=True, cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "\r" not in done.stderr + done.stdout
    rows = list(csv.DictReader((tmp_path / "sweep/summary.csv").open()))
    assert [(row["loss.lam"], row["loss.alpha"], row["status"]) for row in rows] == [
        ("0.0", "", "finished"), ("0.01", "0.1", "finished"), ("0.01", "0.5", "finished"),
    ]  # fmt: skip
    assert rows[0]["folder"].startswith("data.test_size-100_data.train_size-300_loss.lam-0_recipe")
    assert not list((tmp_path / "sweep").rglob("progress.json"))  # while it is trained alone
    for row in rows:  # the cores are shared out: one each
        metrics = load_metrics(tmp_path / "sweep" / row["folder"])
        assert metrics["hardware"].endswith(", 1 thread")
    done = command("visualize.py", "figure=sweep", f"runs={tmp_path / 'sweep'}")
    assert done.returncode == 0, done.stderr
    names = [f"sweep{k}{s}" for k in ("", "_train") for s in (".png", ".pdf")]
    names += [f"sweep_curves{k}{s}" for k in ("", "_train") for s in (".png", ".pdf")]
    assert all((tmp_path / "sweep" / name).stat().st_size > 5_000 for name in names)


def test_a_sweep_survives_kill_and_interruption(mnist_root, tmp_path):
    """A killed run goes on at once; an interrupted sweep goes on with the same command."""
    folder = tmp_path / "sweep"
    arguments = command_line(
        folder, mnist_root, "hydra/launcher=local", "loss.lam=0,0.01", "loss.alpha=0.5",
        "train.max_steps=60",
        "data.train_size=320", "data.test_size=100",  # a checkpoint each five steps
        "hydra.sweep.subdir=${loss.lam}",
    )  # fmt: skip
    first, second = folder / "0", folder / "0.01"
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    wait_for(first / "checkpoint.pt")
    for more in ([], ["force=true"]):  # another sweep in the same folder is refused
        other = subprocess.run([*arguments, *more], capture_output=True, text=True, cwd=tmp_path)
        assert other.returncode == 1
        assert other.stderr.splitlines() == [
            f"error: {folder} is being trained by another process: wait for it"
        ]
    assert (first / "checkpoint.pt").exists()
    assert "- force=true" not in (folder / "multirun.yaml").read_text()  # it is the first one's
    (child,) = training_processes(process.pid)
    os.kill(child, signal.SIGKILL)
    wait_for(second / "checkpoint.pt")
    (child,) = training_processes(process.pid)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    step = load_checkpoint(second)["trainer"]["steps"]  # Ctrl-C cost nothing
    assert f"stopped at step {step} of 60, which is saved" in (second / "train.log").read_text()
    assert "killed by SIGKILL, perhaps out of memory; started again" in out
    assert "interrupted: the same command goes on (without force=true" in err
    assert not Path(f"/proc/{child}").exists()
    assert (first / "metrics.json").exists() and not (second / "metrics.json").exists()
    assert "going on from step" in (first / "train.log").read_text()
    rows = list(csv.DictReader((folder / "summary.csv").open()))
    assert [row["status"] for row in rows] == ["finished", "unfinished"]

    done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 of 2 runs finished already, skipped" in done.stdout
    assert f"going on from step {step} of 60" in (second / "train.log").read_text()
    rows = list(csv.DictReader((folder / "summary.csv").open()))
    assert [row["status"] for row in rows] == ["finished", "finished"]


def test_training_ends_with_the_sweep_that_started_it(mnist_root, tmp_path):
    process = subprocess.Popen(
        command_line(tmp_path / "sweep", mnist_root, "loss.lam=0", "train.max_steps=2000"),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path,
    )  # fmt: skip
    wait_for(tmp_path / "sweep/loss.lam-0_recipe-smoke_train.max_steps-2000/checkpoint.pt")
    (child,) = training_processes(process.pid)
    process.kill()
    process.wait()
    for _ in range(50):
        if not Path(f"/proc/{child}").exists():
            return
        time.sleep(0.1)
    pytest.fail("the training outlived its sweep")


def wait_for(path: Path) -> None:
    for _ in range(1200):
        if path.exists():
            return
        time.sleep(0.1)
    pytest.fail(f"{path} didn't come within two minutes")


def training_processes(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [
        int(child)
        for child in children
        if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()
    ]


# ---- clusters


def test_submitit_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    launcher = Slurm("slurm", None, "x", 3)
    with pytest.raises(UserError, match=r"needs submitit: pip install -r requirements-submitit"):
        launcher.slots([])


class Submitted:
    """A job as submitit has it."""

    job_id = "7_0"

    def __init__(self, folder: Path) -> None:
        self.paths = SimpleNamespace(result_pickle=folder / "result", stderr=folder / "log")
        self.error = None

    def exception(self):
        return self.error


@pytest.fixture
def slurm(monkeypatch, tmp_path):
    """A submitted job, and a squeue that answers what it is told to (None: nothing)."""
    clock, answer = [0.0], [""]
    monkeypatch.setattr(cluster, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def squeue(*arguments, **more):
        text = answer[0]
        return SimpleNamespace(returncode=int(text is None), stdout=text or "")

    monkeypatch.setattr(cluster.subprocess, "run", squeue)
    launcher = Slurm("slurm", None, "x", 3)
    job = cluster._SubmittedJob(Submitted(tmp_path), launcher)

    def poll(text, seconds=100.0):
        answer[0] = text
        clock[0] += seconds
        return job.poll()

    return poll, job


def test_a_job_is_gone_when_slurm_says_so(slurm):
    poll, job = slurm
    assert poll(None) is None and job.state() == "pending"  # the controller doesn't answer
    assert poll(None) is None
    assert poll("7_0 PENDING\n8 RUNNING") is None and job.state() == "pending"
    assert poll("7_0 RUNNING") is None and job.state() == "running"
    assert poll(None) is None and job.state() == "running"
    assert poll("7_0 REQUEUED\n\n") is None
    assert poll("7_0 FAILED") is None  # its result may still arrive
    assert poll("7_0 FAILED", 10) is None
    assert poll("7_0 FAILED", 11) == (DIED, "job 7_0 ended without a result (failed)")


@pytest.mark.parametrize(
    "answer, code, words",
    [
        ("", DIED, "unknown to Slurm"),
        ("7_0 CANCELLED", 1, "cancelled"),
        ("7_0 PREEMPTED", PREEMPTED, "preempted"),
        ("7_0 NODE_FAIL", DIED, "node_fail"),
    ],
)
def test_how_a_job_of_slurm_ended(slurm, answer, code, words):
    poll, _ = slurm
    assert poll(answer) is None
    assert poll(answer) == (code, f"job 7_0 ended without a result ({words})")


def test_what_a_job_of_slurm_says_itself(slurm):
    poll, job = slurm
    job.job.paths.result_pickle.touch()
    assert poll("7_0 COMPLETED") == (0, "")
    job.job.error = "Traceback …\nImportError: x"
    assert poll("7_0 FAILED") == (1, f"its log says why: {job.job.paths.stderr}")
    told = job.job.paths.result_pickle.with_suffix(".json")
    told.write_text("{")
    assert poll("7_0 FAILED") == (1, f"its log says why: {job.job.paths.stderr}")
    told.write_text('[2, "seed is wrong"]')
    assert poll("7_0 FAILED") == (2, "seed is wrong")


def test_slurms_jobs_as_processes_here(command, mnist_root, tmp_path):
    """One run of two diverges: its job fails, the other's doesn't."""
    pytest.importorskip("submitit")
    done = command(
        "train.py", "-m", *SMALL, f"data.root={mnist_root}", "loss.lam=0", "optimizer=sgd",
        "optimizer.lr=0.01,1e9", "hydra/launcher=slurm_local", "hydra.launcher.n_jobs=2",
        f"hydra.sweep.dir={tmp_path / 'sweep'}", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "failed: optimizer.lr=1000000000.0: training diverged" in done.stderr
    assert done.stderr.splitlines()[-1] == "error: 1 of 2 runs failed, see above"
    rows = list(csv.DictReader((tmp_path / "sweep/summary.csv").open()))
    assert [row["status"] for row in rows] == ["finished", "failed"]
    config = yaml.safe_load((tmp_path / "sweep" / rows[0]["folder"] / "config.yaml").read_text())
    assert config["optimizer"]["lr"] == 0.01


@pytest.mark.parametrize(
    "old, now",
    [
        ("joblib", "hydra/launcher=parallel hydra.launcher.n_jobs=-1"),
        ("submitit_slurm", "hydra/launcher=slurm"),
        ("submitit_local", "hydra/launcher=slurm_local"),
    ],
)
def test_older_names_of_launchers(command, mnist_root, tmp_path, old, now):
    """They do what they did, and say the new one."""
    done = command(
        "train.py", "-m", *SMALL, f"data.root={mnist_root}", "loss.lam=0", f"hydra/launcher={old}",
        f"hydra.sweep.dir={tmp_path}", "hydra.launcher.n_jobs=0",
    )  # fmt: skip
    assert f"hydra/launcher={old} is {now} now" in done.stdout
    assert_one_line(done, 2, "n_jobs must be an integer ≥ 1")


@pytest.mark.parametrize("n_jobs, slots", [("auto", 3), (2, 6), (1, 3)])
def test_all_gpus_are_used(tmp_path, monkeypatch, n_jobs, slots):
    """n_jobs on each of three; a job goes to the one that has the fewest."""

    class Process:
        def __init__(self, values, threads):
            self.device, self.alive = values["device"], True

        def is_alive(self):
            return self.alive

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(local, "available_cores", lambda: 12)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(local, "_LocalProcess", Process)
    planned = plan([job(tmp_path, f"loss.lam={k}") for k in range(1, 9)], tmp_path)
    workers = Local(n_jobs)
    assert workers.slots(planned) == slots
    assert {each.threads for each in planned} == {12 // slots}
    started = workers.start(planned[:6])
    assert [each.device for each in started] == [f"cuda:{k}" for k in (0, 1, 2, 0, 1, 2)]
    started[1].alive = started[5].alive = started[4].alive = False
    assert [each.device for each in workers.start(planned[6:])] == ["cuda:1", "cuda:1"]
    planned[0].values["device"] = "cpu"  # no longer any job's any GPU
    assert Local(1).slots(planned) == 1


SLURM = all(shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")
            for name in ("slurmctld", "slurmd", "sbatch", "munged"))  # fmt: skip


@pytest.mark.skipif(not SLURM, reason="Slurm isn't installed")
@pytest.mark.skipif(os.geteuid() != 0, reason="Slurm's daemons run as root")
@pytest.mark.slow
def test_slurm(mnist_root):
    """A real Slurm: one job is preempted, one killed, and the sweep ends well all the same."""
    pytest.importorskip("submitit")
    done = subprocess.run(
        [ROOT / "scripts/slurm_on_loopback.sh", "demo"],
        env={**os.environ, "PYTHON": sys.executable, "DATA": mnist_root, "STEPS": "100"},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The sweep ended with exit code 0" in done.stdout
    assert "loss.lam=0.01: job 1_1 ended without a result (failed); started again" in done.stdout
    went_on = [line for line in done.stdout.splitlines() if "going on from step" in line]
    assert len(went_on) == 2
    assert done.stdout.count(" finished ") == 3


def test_usage_errors_win_over_others(tmp_path):
    jobs = [job(tmp_path, f"loss.lam={lam}") for lam in (0.1, -1, 0.2)]
    planned = plan(jobs, tmp_path)
    jobs[0].status, jobs[0].code, jobs[0].reason = "failed", 1, "a disk"
    assert isinstance(summary.failure(planned), UsageError)
    jobs[1].status = "finished"
    assert summary.failure(planned).exit_code == 1
