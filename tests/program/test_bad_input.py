"""Whatever a user gets wrong ends in one line: no traceback, no half-made folder, an exit code."""

import argparse
import contextlib
import copy
import json
import math
import os
import runpy
import shlex
import signal
import subprocess
import sys
import traceback
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, assert_one_line, assert_told
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from benchmarks import compose_train
from center_loss import figures, training
from center_loss.base import signals
from center_loss.base.errors import UsageError, UserError, one_line
from center_loss.data import DATASETS
from center_loss.figures import style
from center_loss.job import checked
from center_loss.program import cli, multirun
from center_loss.recipe import Recipe
from center_loss.sweeps import summary
from visualize import settings as visualize_settings

LONG = "x" * 300  # no file system takes such a name
GO_ON = 130  # what `in_process` returns for a command line that would train
SECONDS = 30  # for one command; what takes longer hangs
REALLY_TRAIN, REALLY_TRAIN_ALL = training.train, multirun.train_all


def everything_in(folder: Path) -> dict[str, bytes | None]:
    """The content of each file below a folder, None for what isn't a file."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@contextlib.contextmanager
def limited(seconds: int = SECONDS):
    """What hangs fails, instead of hanging all the tests."""

    def give_up(number, frame):
        pytest.fail(f"still not finished after {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def of_the_process() -> list:
    """What a program might change for its whole process."""
    handlers = [signal.getsignal(number) for number in signals.ENDING]
    hydra = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    parser, environment = argparse.ArgumentParser.error, dict(os.environ)
    return [handlers, hydra, parser, environment, os.getcwd(), torch.get_rng_state().tolist()]


@pytest.fixture
def in_process(tmp_path, monkeypatch, capsys):
    """Run a program as `python train.py …` would, but in this process: ten times as fast.

    Nothing is trained: a command line that would train ends with GO_ON.
    """

    def would_train(*arguments, **keywords):
        raise KeyboardInterrupt

    def run(program: str, *arguments: str) -> subprocess.CompletedProcess:
        monkeypatch.setattr(sys, "argv", [str(ROOT / program), *map(str, arguments)])
        before = of_the_process()
        capsys.readouterr()
        with warnings.catch_warnings(), limited():
            warnings.simplefilter("default")  # and not into pytest's report
            warnings.showwarning = lambda *args: print(warnings.formatwarning(*args[:4]),
                                                       file=sys.stderr)  # fmt: skip
            try:
                runpy.run_path(str(ROOT / program), run_name="__main__")
                code = 0
            except SystemExit as error:
                code = error.code or 0
            except Exception:
                traceback.print_exc()
                code = 1
        assert of_the_process() == before
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, printed.out, printed.err)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "train", would_train)
    monkeypatch.setattr(multirun, "train_all", would_train)
    monkeypatch.setattr(style, "DPI", 20)  # drawn sooner
    for name in ("MPLBACKEND", cli.TRACEBACK):
        monkeypatch.delenv(name, raising=False)
    return run


def split(line: str) -> list[str]:
    return [word.replace("<LONG>", LONG) for word in shlex.split(line)]


RECIPES = "caffe_face, fast, ijcv, mxnet_center_loss, paper, pytorch_center_loss, smoke"
LOSSES = "caffe_face, ijcv, mxnet_center_loss, paper, pytorch_center_loss"
SEED = "seed must be an integer from 0 to 4294967295, got "
LAUNCHER = "hydra.launcher.n_jobs must be an integer ≥ 1"

# the command line, the exit code, and what the line says
TRAIN = [
    # what is mistyped most
    ("seed=x", 2, SEED + "x"),
    ("loss.lam=-1", 2, "loss.lam must be a number ≥ 0, got -1"),
    ("loss.alpha=2", 2, "loss.alpha must be a number ≥ 0 and ≤ 1, got 2"),
    ("device=tpu", 2, "device must be auto, cpu, cuda, cuda:N or mps, got tpu"),
    ("recipe=nope", 2, "recipe/nope", RECIPES),
    ("loss=nope", 2, "loss/nope", LOSSES),
    ("optimizer=sgd optimizer.nesterov=true optimizer.momentum=0", 2, "nesterov=true wants"),
    ("optimizer=nope", 2, "optimizer/nope", "caffe_sgd, ", "muon", "sgd"),
    ("experiment=nope", 2, "experiment/nope", "figures"),
    ("recipe=caffe_face loss.alpha=0.5", 2, "loss.alpha is no key here; there are loss.name"),
    ("output_dir=a/lam=0.1,b", 2, "output_dir=a/lam=0.1,b"),
    ("nonsense", 2, "nonsense"),
    ("--seed 3", 2, "unrecognized arguments"),
    ("recipe=smoke -m seed=1", 2, "unrecognized arguments"),
    # keys and groups that don't exist, or not like that
    ("loss.lamda=1", 2, "loss.lamda is no key here"),
    ("+losss=paper", 2, "losss is no key here; there are model, loss"),
    ("++foo=1", 2, "foo is no key here"),
    ("+loss.beta=1", 2, "loss.beta is no key here; there are loss.name, loss.lam"),
    ("++loss.lam=x", 2, "loss.lam must be a number ≥ 0, got x"),
    ("~seed=3", 2, "'seed' is 0 and not 3"),
    ("~loss.lam", 2, "loss.lam is missing"),
    ("~loss", 2, "loss.name must be one of"),
    ("~nope", 2, "'nope' does not exist"),
    ("~recipe", 2, "train.max_steps and train.epochs"),
    ("~", 2),
    ("loss@model=paper", 2, "loss@model is no key here"),
    ("+loss@foo=paper", 2, "foo is no key here"),
    ("+recipe=paper", 2, "recipe"),
    ("++loss=paper", 2, "++loss=paper"),
    ("+seed=1", 2, "seed=1"),
    ("seed.x=4", 2, "seed.x is no key here"),
    ("loss/lam=1", 2, "loss/lam is no key here"),
    ("LOSS=paper", 2, "LOSS is no key here"),
    ("recipe=", 2, RECIPES),
    ("recipe=FAST", 2, "recipe/FAST", RECIPES),
    ("recipe=/etc", 2, RECIPES),
    ("loss=paper/x", 2, "loss/paper/x", LOSSES),
    ("loss=[paper,nope]", 2, "loss/nope"),
    ("schedule=cosine", 2, "linear, step, step_epochs"),
    ("schedule.milestones=[1]", 2, "schedule.milestones is no key here"),
    ("model.name=lenet", 2, "there are model.name, model.feature_dim"),
    ("experiment=[figures,nope]", 2, "experiment/nope"),
    ("experiment={}", 2, "experiment"),
    # wrong types and ranges
    ("seed=null", 2, SEED + "null"),
    ("seed=???", 2, SEED + "???"),
    ("seed=", 2, SEED + "''"),
    ("seed=1e400", 2, SEED + "inf"),
    ("seed=0x10", 2, SEED + "0x10"),
    ("seed=99999999999999999999999", 2, SEED + "99999999999999999999999"),
    ("seed=-1", 2, SEED + "-1"),
    ("seed=true", 2, SEED),
    ("seed=[1,2]", 2, SEED + "[1, 2]"),
    ("seed={a:1}", 2, SEED),
    ("seed='str(x)'", 2, SEED + "x"),
    ("loss.lam=nan", 2, "loss.lam must be a number ≥ 0, got nan"),
    ("loss.alpha=null", 2, "loss.alpha must be a number ≥ 0 and ≤ 1, got null"),
    ("loss=caffe_face loss.momentum=1", 2, "loss.momentum", "< 1"),
    ("train.batch_size=1e5", 2, "train.batch_size must be an integer from 1 to 60000"),
    ("train.max_steps=2.5", 2, "train.max_steps", "2.5"),
    ("train.epochs=null", 2, "train.max_steps and train.epochs"),
    ("data.train_size=60001", 2, "data.train_size must be an integer from 1 to 60000"),
    ("schedule=step schedule.milestones=[2,1]", 2, "ascending order, got [2, 1]"),
    ("precision=16", 2, "precision must be one of auto, fp32, bf16, got 16"),
    ("force=1", 2, "force must be true or false"),
    ("device=", 2, "device"),
    ("device=[cpu]", 2, "device"),
    ("device=CPU", 2, "device must be auto, cpu, cuda, cuda:N or mps"),
    ("device=cuda:99", 1, "device=cuda:99 isn't on this machine"),
    # text that is a number is one, other text isn't
    ("'loss.lam=\"1,5\"'", 2, "loss.lam must be a number ≥ 0, got 1,5"),
    ("'loss.lam=\"nan\"'", 2, "loss.lam must be a number ≥ 0, got nan"),
    ("'seed=\"1.5\"'", 2, SEED + "1.5"),
    ("'force=\"1\"'", 2, "force must be true or false, got 1"),
    ("schedule=step 'schedule.milestones=\"2,1\"'", 2, "ascending order, got 2,1"),
    # which of several groups is wrong
    ("recipe=smoke experiment=3", 2, "Config group override must be"),
    ("experiment=null loss=3 recipe=fast", 2, "Config group override must be"),
    ("loss=paper recipe=null", 2, "Config group override must be"),
    ("-m recipe=smoke experiment=null,demo", 2, "Config group override must be"),
    # a group or a list where a value is wanted, and the other way round
    ("loss=3", 2, "Config group override must be"),
    ("loss=null", 2, "Config group override must be"),
    ("recipe=true", 2, "Config group override must be"),
    ("experiment=1.5", 2, "Config group override must be"),
    ("train=3", 2, "train must hold max_steps"),
    ("train=null", 2, "train must hold max_steps"),
    ("loss=[]", 2, "loss.name must be one of"),
    ("loss.name=[paper]", 2, "loss.name must be one of", "paper"),
    ("model.name={a:1}", 2, "model.name must be one of"),
    # interpolations
    ("'seed=${nope}'", 2, "nope", "seed"),
    ("'seed=${oc.env:NOPE}'", 2, "NOPE", "seed"),
    ("'seed=${oc.env:HOME}'", 2, SEED),
    ("'seed=${seed}'", 2, "seed"),
    ("'output_dir=${nope:1}'", 2, "nope", "output_dir"),
    ("'loss=${nope}'", 2, "${nope}"),
    ("'seed=${data}'", 2, SEED),
    # grammar
    ("seed", 2, "'seed' can't be parsed"),
    ("=x", 2),
    ("''", 2, "can't be parsed"),
    ("'seed = x'", 2, "seed = x"),
    ("seed:3", 2, "seed:3"),
    ("seed==3", 2, "seed==3"),
    ("seed=[1", 2, "seed=[1"),
    ("'seed=\"1'", 2, "seed=\"1"),
    ("'seed=${'", 2, "seed=${"),
    ("seed=٣", 2, "seed=٣"),
    ("loss.lam=λ", 2, "loss.lam=λ"),
    ("'seed=nope(1)'", 2, "nope"),
    ("seed=1 -", 2, "'-'"),
    ("'seed =1'", 2, "'seed =1'", "KEY=VALUE"),
    ("loss.lam=½", 2, "can't be parsed", "in quotes, as in"),
    # paths with what the grammar takes for its own
    ("'data.root=data (1)'", 2, "can't be parsed", "in quotes, as in"),
    ("'output_dir=runs(1)'", 2, "can't be parsed", "in quotes, as in"),
    ("output_dir=lam=0.1", 2, "can't be parsed", "in quotes, as in"),
    ("experiment=figures hydra.mode=RUN", 2, "loss.lam has several values", "hydra.mode"),
    ("output_dir=a,b", 2, "output_dir=a,b", "use it as string, quote", "--multirun"),
    ("output_dir=a[b", 2, "can't be parsed", "in quotes, as in"),
    ("output_dir=\"it's\"", 2, "can't be parsed", "in quotes, as in"),
    ("output_dir=~nobody_here/x", 2, "there is no user for ~nobody_here"),
    ("-m hydra.sweep.dir=~nobody_here seed=1,2", 2, "there is no user for ~nobody_here"),
    # folders
    ("output_dir=", 2, "output_dir must be a path, or null, got ''"),
    ("output_dir=true", 2, "output_dir must be a path, or null"),
    ("output_dir=/dev/null", 1, "/dev/null", "Not a directory"),
    ("output_dir=file/x", 1, "file/x", "Not a directory"),
    ("output_dir=/proc/x", 1, "/proc/x"),
    ("output_dir=<LONG>", 1, "File name too long"),
    ("data.root=", 2, "data.root must be a path, got ''"),
    ("data.root=file", 1, "file/MNIST/raw", "data.root=FOLDER"),
    ("data.root=/proc/x", 1, "/proc/x", "data.root=FOLDER"),
    ("data.root=<LONG>", 1, "File name too long"),
    # several values without -m
    ("loss.lam=0,1", 2, "loss.lam=0,1"),
    ("optimizer=muon,sgd", 2, "optimizer=muon,sgd"),
    ("'seed=range(0,2)'", 2, "seed=range(0,2)", "multirun"),
    # sweeps
    ("-m loss.lam=0,", 2, "loss.lam=0,"),
    ("-m 'seed=choice()'", 2, "choice()"),
    ("-m 'seed=range(0,0)'", 2, "seed"),
    ("-m 'seed=range(0,5,0)'", 2, "range() arg 3 must not be zero"),
    ("-m 'seed=interval(0,1)'", 2, "seed must have a list of values"),
    ("-m 'loss.lam=glob(x)'", 2, "loss.lam"),
    ("-m 'recipe=glob(zz*)'", 2, "recipe"),
    ("-m loss.lamda=1,2", 2, "loss.lamda is no key here"),
    ("-m optimizer=muon,adam", 2, "optimizer/adam", "caffe_sgd, muon"),
    ("-m loss=paper,3", 2, "Config group override must be"),
    ("-m 'loss.lam=0,${nope}'", 2, "nope"),
    ("-m seed=x,x", 2, SEED + "x"),
    ("hydra.sweep.dir=x", 2, "hydra.sweep.dir is for a multirun", "output_dir=FOLDER"),
    ("--cfg job experiment=figures loss.lam=0,1", 2, "--cfg"),
    ("experiment=sweep,figures", 2, "experiment"),
    ("-m experiment=sweep,nope", 2, "experiment=sweep is several runs"),
    ("-m experiment=null,nope recipe=smoke", 2, "Config group override must be"),
    ("-m experiment=nope", 2, "experiment/nope", "demo, figures, sweep"),
    ("experiment=demo seed=x", 2, SEED + "x"),
    ("experiment=demo 'seed=${nope}'", 2, "nope", "seed"),
    ("experiment=figures 'loss.lam=range(0,0)'", 2, "loss.lam"),
    ("experiment=demo output_dir=x", 2, "output_dir", "hydra.sweep.dir"),
    ("-m output_dir=x,y", 2, "output_dir", "hydra.sweep.dir"),
    ("-m hydra.sweep.subdir=.. seed=1,2", 2, "hydra.sweep.subdir must be a folder in"),
    ("-m hydra.sweep.dir=empty hydra.sweep.subdir=<LONG> seed=1,2", 1, "File name too long"),
    ("-m hydra.sweep.dir= seed=1,2", 2, "hydra.sweep.dir"),
    ("-m hydra.sweep.dir=null seed=1,2", 2, "hydra.sweep.dir"),
    ("-m hydra.sweep.dir=. seed=x", 2, SEED + "x"),
    ("-m hydra.sweep.dir=empty seed=x", 2, SEED + "x"),
    ("-m hydra.sweep.dir=new/sweep seed=x", 2, SEED + "x"),
    ("-m hydra.sweep.dir=file seed=1,2", 1, "file"),
    ("-m hydra.sweep.dir=file/x seed=1,2", 1, "file/x", "Not a directory"),
    ("-m data.root=file seed=1,2", 1, "data.root=FOLDER"),
    ("-m hydra.sweep.dir=/proc/nothing seed=1,2", 1, "/proc/nothing"),
    ("experiment=sweep optimizer=adam loss.lam=0", 2, "optimizer/adam", "caffe_sgd"),
    ("experiment=sweep hydra.launcher.foo=1 loss.lam=0,1", 2, "hydra.launcher.foo is no key here"),
    ("experiment=sweep recipe=caffe_face loss.lam=1 loss.alpha=1", 2, "loss.alpha is no key here"),
    # Hydra's own keys
    ("-m seed=1,2 hydra.launcher.n_jobs=0", 2, LAUNCHER, "got 0"),
    ("experiment=demo hydra.launcher.n_jobs=x", 2, LAUNCHER, "got x"),
    ("-m seed=1,2 hydra/launcher=local hydra.launcher.n_jobs=null", 2, LAUNCHER, "got null"),
    ("-m seed=1,2 hydra.launcher.foo=1", 2, "hydra.launcher.foo is no key here"),
    ("-m seed=1,2 +hydra.launcher.foo=1", 2, "unexpected keyword argument 'foo'"),
    ("-m seed=1,2 hydra.launcher=3", 2, "hydra/launcher must be one of local, parallel"),
    ("-m seed=1,2 hydra.launcher=slurm", 2, "hydra/launcher must be one of local, parallel"),
    ("-m seed=1,2 hydra.launcher._target_=nope", 2, "hydra/launcher must be one of"),
    ("-m seed=1,2 hydra/launcher=nope", 2, "hydra/launcher/nope", "local, parallel, slurm"),
    ("-m seed=1,2 hydra/launcher=basic", 2, "hydra/launcher must be one of local, parallel"),
    ("-m seed=1,2 hydra/launcher=null", 2, "Config group override must be"),
    ("-m seed=1,2 hydra/sweeper=nope", 2, "hydra/sweeper/nope"),
    ("-m seed=1,2 hydra.sweeper.max_batch_size=1", 2, "hydra.launcher.n_jobs"),
    ("hydra.mode=nope", 2, "hydra.mode"),
    ("hydra.run.dir=file", 2, "hydra.run.dir has no use here", "output_dir=FOLDER"),
    ("hydra.run.dir=new", 2, "hydra.run.dir has no use here", "output_dir=FOLDER"),
    ("-m hydra.run.dir=new seed=1,2", 2, "hydra.run.dir", "hydra.sweep.dir=FOLDER"),
    ("'hydra.run.dir=${nope}'", 2, "nope", "hydra.run.dir"),
    ("hydra.output_subdir=new", 2, "hydra.output_subdir has no use here"),
    ("-m hydra.output_subdir=.hydra seed=1,2", 2, "hydra.output_subdir has no use here"),
    ("hydra.job.chdir=true", 2, "hydra.job.chdir has no use here"),
    ("-m hydra.job.chdir=true seed=1,2", 2, "hydra.job.chdir has no use here"),
    ("hydra.verbose=true", 2, "hydra.verbose has no use here"),
    ("hydra.verbose=[a]", 2, "hydra.verbose has no use here"),
    ("hydra/job_logging=default", 2, "hydra/job_logging has no use here", "train.log"),
    ("-m hydra/hydra_logging=default seed=1,2", 2, "hydra/hydra_logging has no use here"),
    ("hydra.sweep.subdir=x", 2, "hydra.sweep.subdir is for a multirun"),
    ("hydra.launcher.n_jobs=2", 2, "hydra.launcher.n_jobs is for a multirun"),
    ("hydra/launcher=local", 2, "hydra/launcher is for a multirun"),
    ("hydra.job.config.override_dirname.kv_sep=x", 2, "is for a multirun"),
    ("experiment=null hydra.sweep.dir=x", 2, "hydra.sweep.dir is for a multirun"),
    ("hydra.job.chdir=x", 2, "hydra.job.chdir"),
    ("hydra/job_logging=nope", 2, "hydra/job_logging/nope"),
    ("hydra.nope=1", 2, "hydra.nope is no key here"),
    ("hydra=3", 2, "Config group override must be"),
    ("hydra.searchpath=3", 2, "hydra.searchpath"),
    ("'hydra.searchpath=[x://nope]'", 2, "x"),
    # Hydra's flags
    ("--cfg nope", 2, "--cfg", "job"),
    ("seed=1 --cfg", 2, "--cfg"),
    ("--cfg job --resolve 'seed=${nope}'", 2, "nope"),
    ("--config-name=nope", 2, "nope"),
    ("--config-dir=nope", 2, "nope"),
    ("--config-path=nope", 2, "nope"),
    ("--resolve", 2, "--resolve", "--cfg"),
    ("--info nope", 2, "--info", "config"),
    ("--run --multirun", 2, "--run", "--multirun"),
    ("--shell-completion", 2, "install"),
    ("--experimental-rerun file", 2),
    ("--nope", 2, "unrecognized arguments"),
    ("--seed=3", 2, "unrecognized arguments"),
    ("seed=1 -m seed=2", 2, "unrecognized arguments"),
    ("-m=1", 2, "-m"),
    ("--help loss=nope", 2, LOSSES),
]  # fmt: skip
FIGURES = (
    "figure must be one of fig2, fig3, compare, evolution, page, sweep, dialects, "
    "playground, all, got "
)
VISUALIZE = [
    ("figure=fig9", 2, FIGURES + "fig9"),
    ("width=narrow", 2, "width must be one of auto, column, page, got narrow"),
    ("lam=0", 2, "lam must be a number > 0, or null, got 0"),
    ("figure=compare lam=x", 2, "lam must be a number > 0, or null, got x"),
    ("palette=pink", 2, "palette must be one of paper, colorblind, got pink"),
    ("runs=nowhere", 1, "nowhere is no folder"),
    ("--runs x", 2, "unrecognized arguments"),
    ("figure=", 2, FIGURES + "''"),
    ("figure=null", 2, FIGURES + "null"),
    ("figure=3", 2, FIGURES + "3"),
    ("figure=FIG2", 2, FIGURES + "FIG2"),
    ("figure={a:1}", 2, FIGURES),
    ("figure=fig2,fig3", 2, "figure=fig2,fig3"),
    ("-m figure=fig2,fig3", 2, "-m"),
    ("-m runs=empty", 2, "-m"),
    ("hydra.mode=MULTIRUN", 2, "hydra.mode"),
    ("'figure=${nope}'", 2, "nope", "figure"),
    ("figures=fig2", 2, "figures is no key here"),
    ("+figures=fig2", 2, "figures is no key here; there are figure, runs, palette"),
    ("~figure=x", 2, "figure"),
    ("runs=null", 2, "runs must be a path, got null"),
    ("runs=[a]", 2, "runs must be a path"),
    ("runs=a,b", 2, "runs=a,b"),
    ("'runs=('", 2, "can't be parsed", "in quotes, as in"),
    ("out=", 2, "out must be a path, or null, got ''"),
    ("out=file/x runs=.", 1, "no finished run in ."),
    ("data.root=[a]", 2, "data.root must be a path, or null"),
    ("hydra.sweep.dir=x", 2, "hydra.sweep.dir is for a multirun of train.py"),
    ("hydra.launcher.n_jobs=2", 2, "hydra.launcher.n_jobs is no key here"),
    ("hydra/launcher=local", 2, "hydra/launcher is for a multirun of train.py"),
    ("hydra.output_subdir=x", 2, "hydra.output_subdir has no use here"),
    ("'runs=${oc.env:NOPE}'", 2, "NOPE", "runs"),
    ("runs=file", 1, "file is no folder"),
    ("runs=file/x", 1, "file/x"),
    ("runs=/dev/null", 1, "/dev/null is no folder"),
    ("runs=<LONG>", 1, "File name too long"),
    ("runs=empty", 1, "no finished run in empty"),
    ("figure=sweep runs=empty", 1, "no finished run in empty", "experiment=sweep"),
    ("palette=", 2, "palette must be one of paper, colorblind, got ''"),
    ("palette=null", 2, "palette must be one of paper, colorblind, got null"),
    ("palette=[paper]", 2, "palette must be one of paper, colorblind"),
    ("pallete=paper", 2, "pallete is no key here"),
    ("palette", 2, "palette"),
    ("empty", 2, "empty"),
    ("--figure=fig2", 2, "unrecognized arguments"),
    ("--config-name=train", 2),
    ("--resolve", 2, "--resolve"),
    ("experiment=figures", 2, "experiment is no key here"),
    ("loss.lam=0", 2, "loss.lam is no key here"),
    ("hydra.run.dir=file/x", 2, "hydra.run.dir has no use here", "out=FOLDER"),
    ("hydra/launcher=nope", 2, "hydra/launcher/nope"),
]  # fmt: skip
AS_PROCESSES = [
    "train.py loss.lamda=1", "train.py seed=[1", "train.py loss=3", "train.py --resolve",
    "train.py 'seed=${nope}'", "train.py experiment=demo seed=x",
    "train.py -m 'seed=range(0,0)'", "train.py hydra.run.dir=file",
    "visualize.py figure=null", "visualize.py runs=file", "visualize.py -m runs=empty",
]  # fmt: skip
ROWS = {f"train.py {line}": rest for line, *rest in TRAIN}
ROWS |= {f"visualize.py {line}": rest for line, *rest in VISUALIZE}


@pytest.fixture
def workplace(tmp_path):
    """A folder with a file and an empty folder, which what is wrong leaves as they are."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    before = everything_in(tmp_path)
    yield tmp_path
    assert everything_in(tmp_path).keys() == before.keys(), "something is left behind"
    assert everything_in(tmp_path) == before


def arguments_of(line: str, mnist_root: str) -> list[str]:
    words = split(line)
    # behind an option that lacks its value it would be taken for that
    if words[0] == "train.py" and "data.root" not in line and not words[-1].startswith("--"):
        words.append(f"data.root={mnist_root}")
    return words


@pytest.mark.parametrize("line", ROWS)
def test_wrong_command_lines(in_process, mnist_root, workplace, line):
    code, *texts = ROWS[line]
    assert_told(in_process(*arguments_of(line, mnist_root)), code, *texts)


PATHS = ["~/mine", "~/jürgen/数据", "~/R&D #1; no!", "/tmp/é", "läufe", "a b", "$x/ü", "~"]
PATHS += ["1.10", "1e3", "1_0", "007"]  # no numbers


@pytest.fixture
def typed(in_process, tmp_path, monkeypatch):
    """Run a program in a home folder; returns what was to be trained, or else what was said."""
    monkeypatch.setenv("HOME", str(tmp_path / "home ü"))
    (tmp_path / "home ü").mkdir()
    monkeypatch.setitem(DATASETS, "mnist", lambda *_: None)
    taken: list[dict] = []

    def trained(config: dict, reports: bool) -> str:
        taken.append(config)
        return ""

    def all_trained(jobs, *_) -> None:
        taken.extend(job.values for job in jobs)
        raise KeyboardInterrupt

    monkeypatch.setattr("center_loss.job._train", trained)
    monkeypatch.setattr(multirun, "train_all", all_trained)

    def run(*arguments: str) -> list[dict]:
        done = in_process("train.py", *arguments)
        return taken or [done.stderr]

    return run


@pytest.mark.parametrize("value", PATHS)
def test_paths_as_they_are_typed(typed, tmp_path, value):
    expected = os.path.expanduser(value)
    assert "~" not in expected
    (taken,) = typed(f"data.root={value}", f"output_dir={value}")
    assert (taken["data"]["root"], taken["output_dir"]) == (expected, expected)


@pytest.mark.parametrize("value", ["~/mine", "läufe", "~/R&D ü"])
def test_the_folder_of_a_sweep_as_it_is_typed(typed, tmp_path, value):
    first, second = typed("-m", f"hydra.sweep.dir={value}", f"data.root={value}", "seed=1,2")
    for taken in (first, second):
        assert taken["output_dir"] == f"{os.path.expanduser(value)}/seed-{taken['seed']}"
        assert taken["data"]["root"] == os.path.expanduser(value)
    assert not (tmp_path / value.split("/")[0]).exists()  # removed again, and no folder called ~


@pytest.mark.parametrize("quote", ['"', "'"])
def test_paths_in_quotes(typed, quote):
    value = "~/R&D, (1) = ü[0]"
    (taken,) = typed(f"output_dir={quote}{value}{quote}")
    assert taken["output_dir"] == os.path.expanduser(value)


def test_the_quotes_that_are_told_are_right(in_process, typed):
    """What the message says is typed, and taken."""
    (told,) = typed("output_dir=data (1), x=3")
    (typed_again,) = shlex.split(told.partition("as in ")[2])
    (taken,) = typed(typed_again)
    assert taken["output_dir"] == "data (1), x=3"


def test_paths_of_figures_as_they_are_typed(make_run, in_process, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    make_run("softmax", 0).rename(tmp_path / "runs/ü")
    done = in_process("visualize.py", "figure=fig2", "runs=~/runs/ü", "out=~/bilder/für dich")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "bilder/für dich/fig2_test.pdf").exists()
    assert not list((tmp_path / "runs").rglob("fig2*"))


def test_numbers_from_the_environment(typed, monkeypatch):
    given = {"LAM": "0.02", "SEED": "3", "FORCE": "True", "EPOCHS": " 1e1 ", "STEPS": "null"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    keys = {"loss.lam": "LAM", "seed": "SEED", "force": "FORCE", "train.epochs": "EPOCHS",
            "train.max_steps": "STEPS"}  # fmt: skip
    (taken,) = typed(*(f"{key}=${{oc.env:{name}}}" for key, name in keys.items()))
    assert (taken["loss"]["lam"], taken["seed"], taken["force"]) == (0.02, 3, True)
    assert taken["train"]["epochs"] == 10.0 and taken["train"]["max_steps"] is None


def test_a_multiruns_variables_are_its_jobs(in_process, mnist_root, monkeypatch):
    seen = []

    def look(*_):
        seen.append(os.environ.get("A_VARIABLE"))
        raise KeyboardInterrupt

    monkeypatch.setattr(multirun, "train_all", look)
    line = "train.py -m +hydra.job.env_set.A_VARIABLE=1 seed=1,2"
    assert in_process(*arguments_of(line, mnist_root)).returncode == GO_ON
    assert seen == ["1"] and "A_VARIABLE" not in os.environ


def test_no_experiment_is_one_that_is_null(typed):
    (taken,) = typed("recipe=smoke", "experiment=null")
    assert taken["recipe"] == "smoke"


@pytest.mark.parametrize("line", AS_PROCESSES)
def test_wrong_command_lines_as_processes(command, mnist_root, workplace, line):
    """A few of them as a user types them, so that the faster test above can be believed."""
    code, *texts = ROWS[line]
    assert_one_line(command(*arguments_of(line, mnist_root), cwd=workplace), code, *texts)


def test_runs_that_no_figure_can_be_drawn_from(in_process, make_run, tmp_path):
    unfinished, softmax = make_run("unfinished", 0), make_run("softmax", 0)
    (unfinished / "metrics.json").unlink()
    (softmax / "features.npz").unlink()
    done = in_process("visualize.py", "runs=runs/unfinished")
    assert_one_line(done, 1, "no finished run in runs/unfinished (1 left out)")
    assert "left out: runs/unfinished isn't finished" in done.stdout
    done = in_process("visualize.py", "figure=fig2", "runs=runs/softmax")
    assert_one_line(done, 1, "features.npz is missing")
    done = in_process("visualize.py", "figure=fig3", "runs=runs/softmax")
    assert_one_line(done, 1, "fig3 needs runs with λ > 0")


def test_a_launcher_that_cannot_start_anything(in_process, mnist_root, workplace, monkeypatch):
    monkeypatch.setattr(multirun, "train_all", REALLY_TRAIN_ALL)
    monkeypatch.setitem(sys.modules, "submitit", None)
    line = "train.py -m seed=1,2 hydra/launcher=slurm_local"
    done = in_process(*arguments_of(line, mnist_root))
    assert_one_line(done, 1, "pip install -r requirements-submitit.txt")


def test_the_tables_have_no_row_twice():
    assert len(ROWS) == len(TRAIN) + len(VISUALIZE) >= 100
    assert set(AS_PROCESSES) <= ROWS.keys()


@pytest.mark.parametrize(
    "line",
    [
        "train.py 'seed=\"1'", "train.py seed=1=2", "train.py loss.lam=λ",
        "train.py 'seed=${oc.env:NOPE}'", "train.py -m hydra.sweep.dir=null seed=1,2",
        "train.py experiment=sweep hydra.launcher.foo=1 loss.lam=0,1",
    ],
)  # fmt: skip
def test_the_line_speaks_of_the_users_things(in_process, mnist_root, workplace, line):
    """Not of the parser's and Hydra's own: who reads it knows neither."""
    done = in_process(*arguments_of(line, mnist_root))
    assert_one_line(done, 2)
    for word in ["Exception", "Error raised", "TypeError", "__init__", "object_type", "<EOF>"]:
        assert word not in done.stderr


def test_one_wrong_choice_is_named_before_the_good_ones_are_trained(
    in_process, mnist_root, workplace
):
    """What can be known at once isn't found out by starting each of the runs."""
    line = "train.py -m device=tpu seed=1,2"
    assert_one_line(in_process(*arguments_of(line, mnist_root)), 2, "device must be auto, cpu")


# ---- the surroundings


def shell(line: str, cwd: Path, **environment: str | None) -> subprocess.CompletedProcess:
    """Run ``line`` with the programs as $TRAIN and $VISUALIZE; None removes a variable."""
    for name in ("train", "visualize"):
        program = shlex.join([sys.executable, str(ROOT / f"{name}.py")])
        line = line.replace(f"${name.upper()}", program)
    values = {**os.environ, **environment}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=cwd, env={key: value for key, value in values.items() if value is not None},
        capture_output=True, text=True, encoding="utf-8", errors="replace",
        stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("value", ["abc", "0", "-1"])
def test_a_number_of_threads_that_is_none(workplace, value):
    """libgomp would say so in a line of its own, and then take all cores."""
    done = shell("$TRAIN recipe=smoke train.max_steps=x", workplace, OMP_NUM_THREADS=value)
    assert_one_line(done, 2, "OMP_NUM_THREADS", value)


@pytest.mark.parametrize(
    "line, code, texts, environment",
    [
        ("$VISUALIZE runs=empty", 1, ["no finished run"], {"MPLBACKEND": "nonsense"}),
        ("$TRAIN loss.lam=λ", 2, ["loss.lam="], {"PYTHONIOENCODING": "ascii"}),
        ("$TRAIN output_dir=λ/( ", 2, ["output_dir="],
         {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        ("$VISUALIZE runs=empty", 1, ["no finished run"],
         {cli.TRACEBACK: "nonsense", "TMPDIR": "/nowhere", "HOME": None}),
        ("$VISUALIZE runs=empty >&-", 1, ["no finished run"], {}),
        ("$VISUALIZE runs=empty >/dev/full", 1, ["no finished run"], {}),
        ("$TRAIN --cfg job >/dev/full", 1, ["No space left on device"], {}),
        ("mkdir x; cd x; rmdir ../x; $TRAIN -m", 1, ["folder"], {}),
        ("mkdir x; cd x; rmdir ../x; $VISUALIZE runs=x", 1, ["folder"], {}),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value),
)  # fmt: skip
def test_surroundings(workplace, line, code, texts, environment):
    assert_one_line(shell(line.replace("(", "'('"), workplace, **environment), code, *texts)


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
    ids=str,
)
def test_a_terminal_without_lambda(workplace, environment):
    done = shell("$TRAIN --help", workplace, **environment)
    assert done.returncode == 0, done.stderr[-500:]
    assert "softmax alone" in done.stdout and not done.stderr


@pytest.mark.parametrize("line", ["$TRAIN --cfg job | true", "$TRAIN --help | head -0"])
def test_a_reader_that_has_gone(workplace, line):
    """As `… | head`: nobody is told what nobody reads, or in one line."""
    done = shell(line, workplace)
    assert "Traceback" not in done.stderr and "ignored" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1, done.stderr


@pytest.mark.parametrize("where", [">/dev/full", "| true", ">&-"])
def test_figures_are_drawn_though_nobody_is_told(make_run, tmp_path, where):
    """Names of files that can't be printed are one line at most, at the end as well."""
    make_run("softmax", 0)
    done = shell(f"$VISUALIZE figure=fig2 runs=runs {where}", tmp_path)
    assert "Traceback" not in done.stderr and "ignored" not in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) <= 1
    assert done.returncode in (0, 1) or where == "| true"
    if not done.stderr:
        assert (tmp_path / "runs/fig2_test.pdf").exists()


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(make_run, mnist_root, tmp_path, closed):
    """Nothing is lost with them, and no file is taken for one."""
    settings = "recipe=smoke train.max_steps=2 data.train_size=64 data.test_size=50"
    done = shell(f"$TRAIN {settings} data.root={mnist_root} output_dir=run {closed}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for arguments in ("loss.lam=x", "-m loss.lam=x,y"):
        assert shell(f"$TRAIN {arguments} {closed}", tmp_path).returncode == 2
    done = shell(f"$VISUALIZE figure=fig3 runs=run {closed}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "run/fig3_test.pdf").exists()
    sums = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path / "run",
                          capture_output=True)  # fmt: skip
    assert sums.returncode == 0, sums


@pytest.mark.parametrize(
    "line, code", [("$VISUALIZE figure=x", 2), ("$VISUALIZE runs=empty", 1), ("$TRAIN seed", 2)]
)
def test_the_traceback_on_request_keeps_line_and_code(workplace, line, code):
    done = shell(line, workplace, **{cli.TRACEBACK: "1"})
    assert "Traceback" in done.stderr
    assert done.returncode == code
    lines = [each for each in done.stderr.splitlines() if each.startswith("error: ")]
    assert len(lines) == 1 and done.stderr.strip().endswith(lines[0])


def test_matplotlibs_backend_has_no_effect(make_run, tmp_path):
    make_run("softmax", 0)
    done = shell("$VISUALIZE figure=fig2 runs=runs", tmp_path, MPLBACKEND="nonsense")
    assert done.returncode == 0 and not done.stderr, done.stderr[-500:]


@pytest.mark.parametrize(
    "place",
    ["here", *(pytest.param(each, marks=pytest.mark.slow) for each in
               ("MATPLOTLIBRC", "MPLCONFIGDIR"))],
)  # fmt: skip
@pytest.mark.parametrize(
    "content",
    [b"text.usetex: True\nfigure.facecolor: black\nsavefig.bbox: tight",
     b"nonsense: 1\nno key\nlines.linewidth: x", b"text.usetex: True # \xff", None],
    ids=["valid", "invalid", "undecodable", "unreadable"],
)  # fmt: skip
def test_matplotlibs_settings_have_no_effect(make_run, tmp_path, place, content):
    make_run("softmax", 0)
    drawn = tmp_path / "runs/fig2_test.png"
    assert not shell("$VISUALIZE figure=fig2 runs=runs", tmp_path).stderr
    expected = drawn.read_bytes()
    drawn.unlink()
    (tmp_path / "settings").mkdir()
    file = tmp_path / "matplotlibrc" if place == "here" else tmp_path / "settings/matplotlibrc"
    if content is None:  # not even by root
        file.symlink_to("/proc/self/mem")
    else:
        file.write_bytes(content)
    environment = {} if place == "here" else {place: str(tmp_path / "settings")}
    done = shell("$VISUALIZE figure=fig2 runs=runs", tmp_path, **environment)
    assert done.returncode == 0 and not done.stderr, done.stderr[-500:]
    assert drawn.read_bytes() == expected


def test_matplotlib_without_a_folder_of_its_own(make_run, tmp_path):
    make_run("softmax", 0)
    done = shell("$VISUALIZE figure=fig2 runs=runs", tmp_path, MPLCONFIGDIR="/proc/nowhere")
    assert done.returncode == 0 and not done.stderr, done.stderr[-500:]


# ---- run folders that hold something else


NOT_MAPPINGS = [b"", b"null", b"[1, 2]", b"\x00\x01\xff\xfe\x80", b"[" * 100_000,
                b'{"a":' * 100_000, b"{" * 50]  # fmt: skip
WHOLE_FILES = [
    *[("config.yaml", content) for content in NOT_MAPPINGS],
    ("config.yaml", b"!!python/object/apply:os.getcwd []"),
    ("config.yaml", b"!nope {a: 1}"),
    ("config.yaml", b"a: *nope"),
    ("config.yaml", b"{recipe: 1, model: &a {x: *a}, loss: {lam: 0, alpha: 1}, seed: 0}"),
    ("config.yaml", b"{[1]: 2}"),
    ("config.yaml", b"{2024-13-45: 1}"),
    ("config.yaml", "recipe: é".encode("latin-1")),
    *[("metrics.json", content) for content in NOT_MAPPINGS],
    ("metrics.json", b'{"recipe": "smoke"}'),
    ("metrics.json", b"{" + b'"a": 1' + b"9" * 5000 + b"}"),
    ("features.npz", b""),
    ("features.npz", b"\x93NUMPY\x01\x00"),
    ("features.npz", b"PK\x03\x04" + b"\x00" * 100),
    ("features.npz", b"\x80\x04K\x01."),
]


def clean(done: subprocess.CompletedProcess) -> None:
    """Either it works, or there is one line."""
    if done.returncode == 0:
        assert not done.stderr
    else:
        assert_one_line(done, done.returncode)
        assert done.returncode in (1, 2)


def short(value: object) -> str:
    return repr(value)[:40]


@pytest.mark.parametrize("name, content", WHOLE_FILES, ids=short)
def test_a_file_of_a_run_holds_something_else(make_run, in_process, tmp_path, name, content):
    folder = make_run("damaged", 0)
    (folder / name).write_bytes(content)
    before = everything_in(tmp_path)
    done = in_process("visualize.py", "figure=fig2", "runs=runs")
    assert_one_line(done, 1)
    assert name in done.stdout + done.stderr
    assert everything_in(tmp_path) == before
    with limited():
        assert summary.table(summary.rows(tmp_path / "runs"))


@pytest.mark.parametrize("kind", ["folder", "fifo", "dangling", "loop"])
@pytest.mark.parametrize("name", ["config.yaml", "metrics.json", "features.npz"])
def test_no_file_at_all(make_run, in_process, tmp_path, name, kind):
    path = make_run("damaged", 0) / name
    path.unlink()
    match kind:
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "dangling":
            path.symlink_to("nowhere")
        case "loop":
            path.symlink_to(path.name)
    done = in_process("visualize.py", "figure=fig2", "runs=runs")
    assert_one_line(done, 1)
    assert not list(tmp_path.rglob("fig2*"))


def test_a_run_folder_without_permission(make_run, tmp_path):
    """As root everything can be read, so the capability is given away first."""
    make_run("closed", 0).chmod(0)
    drop = "setpriv --bounding-set=-all --inh-caps=-all " if os.getuid() == 0 else ""
    try:
        if drop and shell(f"{drop}cat runs/closed/config.yaml", tmp_path).returncode == 0:
            pytest.skip("nothing is closed to this user")
        done = shell(f"{drop}$VISUALIZE runs=runs", tmp_path)
        assert_one_line(done, 1, "runs")
        (tmp_path / "empty").mkdir(mode=0o500)
        done = shell(f"{drop}$TRAIN -m hydra.sweep.dir=empty/sweep seed=1,2", tmp_path)
        assert_one_line(done, 1, "empty/sweep", "Permission denied")
    finally:
        (tmp_path / "runs/closed").chmod(0o700)


def test_runs_on_a_disk_that_cannot_be_written(make_run, tmp_path):
    make_run("softmax", 0)
    (tmp_path / "runs").chmod(0o500)
    drop = "setpriv --bounding-set=-all --inh-caps=-all " if os.getuid() == 0 else ""
    if drop and shell(f"{drop}touch runs/x", tmp_path).returncode == 0:
        pytest.skip("nothing is closed to this user")
    try:
        for figure in ("fig2", "all"):
            done = shell(f"{drop}$VISUALIZE figure={figure} runs=runs", tmp_path)
            assert_one_line(done, 1, "runs/fig2_train.png", "Permission denied", "out=FOLDER")
        done = shell(f"{drop}$VISUALIZE figure=fig2 runs=runs out=a/b", tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert {path.suffix for path in (tmp_path / "a/b").iterdir()} == {".png", ".pdf", ".txt"}
    finally:
        (tmp_path / "runs").chmod(0o700)


def changed(values: dict, key: str, value: object) -> dict:
    head, _, tail = key.partition(".")
    inner = values.get(head)
    new = changed(inner if isinstance(inner, dict) else {}, tail, value) if tail else value
    return {**values, head: new}


ODD = [None, -1, "x", "0.5", [], {"a": 1}, math.nan, 10**400]
CONFIG_KEYS = ["model", "model.feature_dim", "loss", "loss.lam", "loss.alpha", "seed"]
METRIC_KEYS = ["lam", "alpha", "seed", "test_accuracy", "test_intra_inter_ratio", "test_recall",
               "wall_seconds"]  # fmt: skip


def as_read(runs: Path, figure: str) -> None:
    """Draw, and make the table: figures, or an error of ours in one line."""
    lines = []
    with limited():
        try:
            figures.draw(figure, runs, "paper", say=lines.append)
        except UserError as error:
            assert_printable(one_line(error))
        rows = summary.rows(runs)
        assert summary.table(rows)
        summary.write(runs, rows)
    for line in lines:
        assert_printable(line)


def assert_printable(line: str) -> None:
    assert len(line.splitlines()) == 1 and line.strip(), repr(line)
    kinds = {unicodedata.category(character) for character in line}
    assert not kinds & {"Cc", "Cs", "Zl", "Zp"}, repr(line)  # control characters, half characters


@pytest.fixture
def three_runs(make_run, monkeypatch):
    """A run to damage beside two good ones, so that there is something to compare it with."""
    monkeypatch.setattr(style, "save", lambda figure, path, *suffixes: [])  # most of the time
    make_run("softmax", 0)
    make_run("good", 0.1, 0.1)
    return make_run("odd", 0.01)


@pytest.mark.parametrize("key", CONFIG_KEYS)
def test_odd_values_in_a_configuration(three_runs, key):
    config = yaml.safe_load((three_runs / "config.yaml").read_text())
    failed = {}
    for value in ODD:
        (three_runs / "config.yaml").write_text(yaml.safe_dump(changed(config, key, value)))
        with noted(failed, value):
            as_read(three_runs.parent, "sweep")
    assert not failed


@pytest.mark.parametrize("key", METRIC_KEYS)
def test_odd_values_in_metrics(three_runs, key):
    metrics = json.loads((three_runs / "metrics.json").read_text())
    failed = {}
    for value in ODD:
        (three_runs / "metrics.json").write_text(json.dumps({**metrics, key: value}))
        with noted(failed, value):
            as_read(three_runs.parent, "sweep" if key.endswith("ratio") else "fig3")
    assert not failed


@contextlib.contextmanager
def noted(failed: dict[str, str], value: object):
    """Note what goes wrong with a value, and go on with the next."""
    try:
        yield
    except Exception as error:
        failed[repr(value)[:20]] = f"{type(error).__name__}: {str(error)[:80]}"


@pytest.mark.parametrize("key", ["recipe", "model", "loss", "seed", "model.name", "loss.lam"])
def test_keys_that_are_missing(make_run, in_process, tmp_path, key):
    folder = make_run("lacking", 0.01)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    head, _, tail = key.partition(".")
    del (config[head] if tail else config)[tail or head]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    done = in_process("visualize.py", "figure=sweep", "runs=runs")
    assert_one_line(done, 1)
    assert "config.yaml" in done.stdout + done.stderr


@pytest.mark.parametrize("key", ["recipe", "lam", "alpha", "seed", "test_accuracy"])
def test_metrics_that_are_missing(make_run, in_process, key):
    folder = make_run("lacking", 0)
    metrics = json.loads((folder / "metrics.json").read_text())
    del metrics[key]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    done = in_process("visualize.py", "figure=fig2", "runs=runs")
    assert_one_line(done, 1)
    assert "metrics.json" in done.stdout + done.stderr


FEATURES = {
    "text": ("train_features", lambda a: a.astype(str)),
    "complex": ("train_features", lambda a: a + 1j),
    "object": ("train_features", lambda a: a.astype(object)),
    "bool": ("test_features", lambda a: a > 0),
    "time": ("test_features", lambda a: a.astype(np.int64).view("datetime64[s]")),
    "NaN": ("test_features", lambda a: a * np.nan),
    "structured": ("test_features", lambda a: np.zeros(400, [("x", "f4"), ("y", "f4")])),
    "one number": ("train_features", lambda a: a[0, 0]),
    "3-D": ("train_features", lambda a: np.column_stack([a, a[:, 0]])),
    "too few": ("train_features", lambda a: a[:-1]),
    "labels as floats": ("train_labels", lambda a: a.astype(np.float32)),
    "labels of a class too many": ("train_labels", lambda a: a + np.uint8(1)),
    "labels as a table": ("train_labels", lambda a: a[:, None]),
    "one label": ("train_labels", lambda a: a[0]),
    "text for predictions": ("test_predictions", lambda a: a.astype(str)),
    "text for centers": ("centers", lambda a: a.astype(str)),
    "NaN for centers": ("centers", lambda a: a * np.nan),
    "complex centers": ("centers", lambda a: a + 1j),
    "no centers": ("centers", lambda a: a[:0]),
    "one weight": ("weight", lambda a: a[0]),
    "text for weight": ("weight", lambda a: a.astype(str)),
}
ALLOWED = {"bool", "text for predictions"}  # no figure needs them


@pytest.mark.parametrize("name", FEATURES)
def test_odd_features(make_run, in_process, tmp_path, name):
    key, change = FEATURES[name]
    folder = make_run("odd", 0.01)
    with np.load(folder / "features.npz") as file:
        arrays = dict(file)
    np.savez(folder / "features.npz", **{**arrays, key: change(arrays[key])})
    before = everything_in(tmp_path)
    done = in_process("visualize.py", "figure=fig3", "runs=runs")
    if name in ALLOWED:
        clean(done)
        return
    assert_one_line(done, 1, "features.npz")
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("figure", ["fig2", "fig3", "sweep", "dialects"])
def test_hardly_any_images(make_run, in_process, tmp_path, figure, count):
    for name, lam in [("softmax", 0), ("a", 0.01), ("b", 0.1)]:
        folder = make_run(name, lam)
        with np.load(folder / "features.npz") as file:
            arrays = {k: v if k in ("centers", "weight") else v[:count] for k, v in file.items()}
        np.savez(folder / "features.npz", **arrays)
    clean(in_process("visualize.py", f"figure={figure}", "runs=runs"))


@pytest.mark.parametrize("name", ["SHA256SUMS", "failure.txt", "figure.png", "history.csv"])
def test_files_of_others_where_a_run_is_to_go(in_process, mnist_root, tmp_path, name):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("mine")
    before = everything_in(tmp_path)
    done = in_process("train.py", "output_dir=mine", f"data.root={mnist_root}")
    assert_one_line(done, 2, f"mine holds {name} but no config.yaml")
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize("name", ["summary.csv", "summary_over_seeds.csv"])
def test_tables_of_others_where_a_sweep_is_to_go(in_process, mnist_root, tmp_path, name):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("month,sum\n")
    before = everything_in(tmp_path)
    done = in_process(
        "train.py", "-m", "seed=1,2", "hydra.sweep.dir=mine", f"data.root={mnist_root}"
    )
    assert_one_line(done, 1, f"mine/{name} isn't a sweep's")
    assert everything_in(tmp_path) == before


TRAIN_FOLDER = [
    *[("config.yaml", content) for content in (b"", b"[1, 2]", b"[" * 100_000)],
    ("config.yaml", b"{recipe: 1, model: &a {x: *a}, loss: {lam: 0, alpha: 1}, seed: 0}"),
    ("config.yaml", b"{recipe: [], model: 3, loss: [], seed: {}}"),
    ("config.yaml", b"{recipe: smoke, model: {1: 2, a: {}}, loss: {lam: .nan}, seed: 0, 5: 6}"),
]


@pytest.mark.parametrize("name, content", TRAIN_FOLDER, ids=short)
def test_training_where_something_else_lies(make_run, in_process, mnist_root, tmp_path, name,
                                            content):  # fmt: skip
    """Neither a single run nor a sweep takes it for a run, and both leave it alone."""
    folder = make_run("damaged", 0.01)
    (folder / name).write_bytes(content)
    before = everything_in(tmp_path)
    for arguments in (
        ["train.py", f"output_dir={folder}"],
        ["train.py", "-m", "hydra.sweep.dir=runs", "hydra.sweep.subdir=damaged"],
    ):
        done = in_process(*arguments, "recipe=smoke", "seed=0", f"data.root={mnist_root}")
        assert done.returncode in (1, 2)
        assert_one_line(done, done.returncode, "damaged")
        assert everything_in(tmp_path) == before


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04K\x01.", b"text"], ids=short)
def test_a_checkpoint_that_is_none(in_process, mnist_root, tmp_path, monkeypatch, content):
    monkeypatch.setattr(training, "train", REALLY_TRAIN)
    settings = ["recipe=smoke", "output_dir=run", "train.max_steps=1", "data.train_size=64"]
    settings += [f"data.root={mnist_root}"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump(compose_train(*settings)))
    (tmp_path / "run/checkpoint.pt").write_bytes(content)
    assert_one_line(in_process("train.py", *settings), 1, "checkpoint.pt")


# ---- any value at all

texts = st.text(st.characters(codec=None), max_size=20)
drawn = st.sampled_from(["fig2", "fig3", "sweep"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
quick = settings(
    max_examples=100,
    phases=[Phase.explicit, Phase.generate],  # shrinking what takes long takes longer
    report_multiple_bugs=False,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def composed() -> dict:
    return compose_train()


def leaves(config: dict, prefix: str = "") -> list[str]:
    keys = []
    for key, value in config.items():
        keys.append(f"{prefix}{key}")
        keys += leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else []
    return keys


@quick
@given(st.data())
def test_any_value_for_any_key_of_training(composed, data):
    key = data.draw(st.sampled_from([*leaves(composed), "loss.beta", "nope"]))
    value = data.draw(values)
    try:
        config = checked(changed(copy.deepcopy(composed), key, value))
    except UsageError as error:
        assert_printable(one_line(error))
    else:
        assert leaves(config) and Recipe.of(config).max_steps >= 1


@quick
@given(st.sampled_from(["figure", "runs", "palette", "nope"]), values)
def test_any_value_for_any_key_of_drawing(key, value):
    good = {"figure": "all", "runs": "runs", "palette": "paper"}
    try:
        visualize_settings({**good, key: value})
    except UsageError as error:
        assert_printable(one_line(error))


@quick
@given(texts)
def test_any_text_is_one_line(text):
    """Printable, too: an escape sequence of a file's name would be obeyed by the terminal."""
    assert_printable(one_line(text))
    assert_printable(one_line(UserError(text)))
    assert_printable(one_line(OSError(2, "No such file", text or "x")))


@settings(quick, max_examples=15)
@given(st.sampled_from([*METRIC_KEYS, "recipe", "loss"]), values, drawn)
def test_any_value_in_metrics(three_runs, key, value, figure):
    path = three_runs / "metrics.json"
    metrics = json.loads((three_runs.parent / "good/metrics.json").read_text())
    path.write_text(json.dumps({**metrics, "lam": 0.01, key: value}))
    as_read(three_runs.parent, figure)


@settings(quick, max_examples=15)
@given(st.sampled_from([*CONFIG_KEYS, "recipe", "train", "loss.lam.x"]), values, drawn)
def test_any_value_in_a_configuration(three_runs, key, value, figure):
    config = yaml.safe_load((three_runs.parent / "good/config.yaml").read_text())
    config["loss"]["lam"] = 0.01
    try:
        text = yaml.safe_dump(changed(config, key, value), allow_unicode=False)
    except yaml.YAMLError:  # a lone surrogate
        return
    (three_runs / "config.yaml").write_text(text)
    as_read(three_runs.parent, figure)
