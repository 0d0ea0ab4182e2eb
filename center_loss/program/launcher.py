"""A multirun: Hydra's lists of values become the jobs of a sweep."""

import contextlib
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, read_write

from center_loss.base import checks
from center_loss.base.checks import shown
from center_loss.base.errors import UsageError, UserError
from center_loss.program import cli
from center_loss.runs.folder import held
from center_loss.sweeps import report, summary
from center_loss.sweeps.jobs import Job
from center_loss.sweeps.local import Local, number_of_slots
from center_loss.sweeps.plan import plan
from center_loss.sweeps.scheduler import train_all
from center_loss.sweeps.slurm import Slurm


class SweepLauncher(Launcher):
    """Plans the jobs, has ``workers`` train them, and reports what became of them."""

    more: tuple[str, ...] = ()  # overrides of each job, besides its own

    def __init__(self, workers: Local | Slurm) -> None:
        self.workers = workers

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.given_root = config.hydra.sweep.dir
        try:
            root = Path(checks.path(self.given_root))
        except ValueError as error:
            raise UsageError(
                f"hydra.sweep.dir must be {error}, got {shown(self.given_root)}"
            ) from None
        with read_write(config.hydra):  # the sweeper makes this folder
            config.hydra.sweep.dir = str(root)
        # Two sweeps in one folder would train the same runs. Hydra writes into it before launch.
        self.holding = contextlib.ExitStack()
        with cli.remove_if_unused(root):
            self.holding.enter_context(held(root))
        summary.refuse_others(root)

    @cli.catching
    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        root = Path(str(self.config.hydra.sweep.dir))
        with self.holding:
            return self._launched(root, job_overrides, initial_job_idx)

    def _launched(
        self, root: Path, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        planned = self._planned(root, job_overrides, initial_job_idx)
        jobs = list({id(job): job for job in planned}.values())
        report.tell_reasons(jobs, "refused")
        finished = sum(job.status == "finished" for job in jobs)
        if finished:
            print(
                f"{root}: {finished} of {len(jobs)} runs finished already, skipped "
                "(force=true trains them anew)"
            )
        try:
            train_all(jobs, self.workers.start, self.workers.slots(jobs))
        except KeyboardInterrupt:
            with contextlib.suppress(UserError, OSError):  # that it was interrupted comes first
                self._report(jobs, root)
            raise
        self._report(jobs, root)
        failure = report.failure(jobs)
        if failure is not None:
            raise failure
        return [JobReturn(job.overrides, status=JobStatus.COMPLETED) for job in planned]

    def _report(self, jobs: Sequence[Job], root: Path) -> None:
        if any(job.starts or job.status == "finished" for job in jobs):
            cli.keep_folders()
            report.report(jobs, root)

    def _planned(
        self, root: Path, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> list[Job]:
        """The jobs as ``plan`` has them; an error if none can be trained."""
        workers = self.workers
        with contextlib.suppress(ValueError):  # from the environment: a text
            workers.n_jobs = checks.take(checks.or_null(checks.integer(-1)), workers.n_jobs)
        if workers.n_jobs not in list(workers.also):
            number_of_slots(workers.n_jobs, *workers.also.values())
        if self.config.hydra.sweeper.get("max_batch_size") is not None:
            raise UsageError("hydra.sweeper.max_batch_size has no use: see hydra.launcher.n_jobs")
        if not job_overrides:
            lists = [each for each in sys.argv[1:] if "(" in each]  # range(0,0), glob(x)
            raise UsageError(f"a key has no value, so there is nothing to train: {' '.join(lists)}")
        if {"--run", "-r"} & set(sys.argv):
            raise UsageError("--run is for a single run: leave it out, or what makes several")
        experiments = {_experiment(each) for each in job_overrides}
        if len(experiments) > 1:  # then it tells the runs apart
            exclude = self.config.hydra.job.config.override_dirname.exclude_keys
            names = ",".join(each for each in exclude if each != "experiment")
            self.more = (f"hydra.job.config.override_dirname.exclude_keys=[{names}]",)
        jobs = [
            self._job(root, list(each), number)
            for number, each in enumerate(job_overrides, start=initial_job_idx)
        ]
        planned = plan(jobs, root)
        self.workers.check([job for job in planned if job.status == "waiting"])
        error = report.failure(planned)
        if error is not None and all(job.status == "refused" for job in planned):
            if str(error) != planned[0].reason:  # then they have several
                report.tell_reasons(planned, "refused")
            raise error
        waiting = [job for job in planned if job.status == "waiting"]
        if waiting:
            from center_loss.data import DATASETS  # imports torch

            places = {(job.values["data"]["name"], job.values["data"]["root"]) for job in waiting}
            for name, root_of_data in places:
                DATASETS[name](root_of_data, 1, 1)  # once, before they all try
        return planned

    def _job(self, root: Path, overrides: list[str], number: int) -> Job:
        setup_globals()
        before = HydraConfig.instance().cfg
        config = self._composed(overrides, number)
        if config.loss.get("lam") == 0:  # softmax alone has no α: it is one run, not one an α
            overrides = [each for each in overrides if not each.startswith("loss.alpha=")]
            config = self._composed(overrides, number)
        folder = root / str(config.hydra.sweep.subdir)
        ours = {key: value for key, value in config.items_ex(resolve=False) if key != "hydra"}
        values: Any = OmegaConf.to_container(OmegaConf.create(ours), resolve=True)
        if before is not None:
            HydraConfig.instance().cfg = before
        if values["output_dir"] is not None:
            raise UsageError(
                "output_dir is for a single run; a multirun's folder is hydra.sweep.dir=FOLDER"
            )
        # by their names: a run's folder may be a link to another disk
        names = Path(os.path.normpath(root)), Path(os.path.normpath(folder))
        if names[0] == names[1]:
            raise UsageError(
                "-m needs a key and its values, for example loss.lam=0,0.01, or one experiment=NAME"
            )
        if names[0] not in names[1].parents:
            raise UsageError(f"hydra.sweep.subdir must be a folder in {root}, got {folder}")
        return Job(overrides, values, folder)

    def _refuse_multirun(self, config: DictConfig, overrides: list[str]) -> None:
        """Of several experiments each is one run; refuse one that is a multirun by itself."""
        own = config.hydra.sweeper.params
        name = _experiment(overrides)
        if own and own != self.config.hydra.sweeper.params:
            raise UsageError(
                f"experiment={name} is several runs by itself ({', '.join(own)}): train it alone, "
                f"as experiment={name}"
            )
        if config.hydra.sweep.dir != self.given_root:
            raise UsageError(
                f"experiment={name} has a hydra.sweep.dir of its own: say where all of them go "
                "with hydra.sweep.dir=FOLDER"
            )

    def _composed(self, overrides: list[str], number: int) -> DictConfig:
        overrides = [*overrides, *self.more]
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        OmegaConf.set_readonly(config.hydra, False)
        OmegaConf.set_struct(config.hydra, False)
        config.hydra.job.id = str(number)
        config.hydra.job.num = number
        cli.refuse_ignored(config.hydra, several=True)
        self._refuse_multirun(config, overrides)
        config.hydra.sweep.dir = self.config.hydra.sweep.dir
        config.hydra.job.override_dirname = _short(config.hydra.job.override_dirname)
        HydraConfig.instance().set_config(config)  # what ${hydra:…} resolves from
        return config


def _experiment(overrides: Sequence[str]) -> str:
    given = [each.partition("=")[2] for each in overrides if each.startswith("experiment=")]
    return given[-1] if given else "null"


def _short(name: str) -> str:
    """The name of a folder in as many bytes as a file system takes, and still this name's alone."""
    most, content = 255, name.encode()
    if len(content) <= most:
        return name
    digest = hashlib.sha256(content).hexdigest()[:16]
    return f"{content[: most - 1 - len(digest)].decode(errors='ignore')}_{digest}"
