"""The launchers of sweeps: processes on this machine, and jobs of a cluster through submitit.

Hydra looks for its plugins in packages called ``hydra_plugins``. It imports them at each start, so
nothing heavy is imported here before it is needed.
"""

import math
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from center_loss import cli, sweep
from center_loss.errors import UsageError, UserError
from center_loss.job import Outcome, die_with_parent, train_alone
from center_loss.run import load_metrics
from center_loss.sweep import Job, Process

DIED = -1  # the code of an outcome that nobody was left to tell
SQUEUE_SECONDS = 5  # between two questions to Slurm
GRACE_SECONDS = 20  # for a job's result to arrive over a network's file system
ALIVE = {  # states, in submitit and Slurm, in which a job may still end well
    "pending", "configuring", "running", "completing", "suspended", "stopped", "signaling",
    "stage_out", "resizing", "requeued", "requeue_fed", "requeue_hold", "special_exit",
    "resv_del_hold", "revoked", "preempted",
}  # fmt: skip


class _Launcher(Launcher):
    """Plans the jobs, has a subclass start them, and reports what became of them."""

    n_jobs: int | None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.hydra_context, self.config = hydra_context, config

    def start(self, jobs: Sequence[Job]) -> Sequence[Process]:
        raise NotImplementedError

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        root = Path(str(self.config.hydra.sweep.dir))
        if self.n_jobs is not None and not _is_count(self.n_jobs):
            cli.remove_if_empty(root)
            raise UsageError(
                "hydra.launcher.n_jobs must be an integer ≥ 1, or -1 for one a core, "
                f"got {self.n_jobs}"
            )
        self.slots = {None: 10**9, -1: _cores()}.get(self.n_jobs, self.n_jobs)
        jobs = [self._job(list(each), initial_job_idx + k) for k, each in enumerate(job_overrides)]
        planned = sweep.plan(jobs, root)
        jobs = list({id(job): job for job in planned}.values())
        if all(job.status == sweep.REFUSED for job in jobs):
            cli.remove_if_empty(root)
            error = sweep.error(jobs)
            if error.args[0] != jobs[0].reason:
                sweep.tell_reasons(jobs, sweep.REFUSED)
            raise error
        sweep.tell_reasons(jobs, sweep.REFUSED)
        finished = sum(job.status == sweep.FINISHED for job in jobs)
        if finished:
            print(
                f"{root}: {finished} of {len(jobs)} runs finished already, skipped "
                "(force=true trains them anew)"
            )
        if any(job.status == sweep.WAITING for job in jobs):
            from center_loss.data import ensure_mnist

            ensure_mnist(Path(jobs[0].values["data"]["root"]))  # once, before they all try
        try:
            sweep.train(jobs, self.start, self.slots)
        finally:
            if any(job.starts or job.status == sweep.FINISHED for job in jobs):
                sweep.report(jobs, root)
            else:
                cli.remove_if_empty(root)
        failure = sweep.error(jobs)
        return [_returned(job, failure) for job in planned]

    def _job(self, overrides: list[str], number: int) -> Job:
        setup_globals()
        before = HydraConfig.instance().cfg
        config = self._composed(overrides, number)
        if config.loss.get("lam") == 0:  # softmax alone has no α: it is one run, not one an α
            overrides = [each for each in overrides if not each.startswith("loss.alpha=")]
            config = self._composed(overrides, number)
        folder = Path(str(config.hydra.sweep.dir)) / str(config.hydra.sweep.subdir)
        values = {key: value for key, value in config.items_ex(resolve=False) if key != "hydra"}
        values = OmegaConf.to_container(OmegaConf.create(values), resolve=True)
        if before is not None:
            HydraConfig.instance().cfg = before
        if values["output_dir"] is not None:
            cli.remove_if_empty(folder.parent)
            raise UsageError(
                "output_dir is for a single run; a multirun's folder is hydra.sweep.dir=FOLDER"
            )
        return Job(overrides, values, folder)

    def _composed(self, overrides: list[str], number: int) -> DictConfig:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        OmegaConf.set_readonly(config.hydra, False)
        OmegaConf.set_struct(config.hydra, False)
        config.hydra.job.id = str(number)
        config.hydra.job.num = number
        HydraConfig.instance().set_config(config)  # what ${hydra:…} resolves from
        return config


class LocalLauncher(_Launcher):
    """Trains each run in a process of its own, ``n_jobs`` at a time (−1: one a core).

    With more than one, each process gets its share of the cores, or as many threads as
    OMP_NUM_THREADS says. The share doesn't depend on how many runs are left to train, since the
    number of threads changes what a run ends with.
    """

    def __init__(self, n_jobs: int) -> None:
        self.n_jobs = n_jobs

    def start(self, jobs: Sequence[Job]) -> Sequence[Process]:
        threads = None
        if self.slots > 1 and "OMP_NUM_THREADS" not in os.environ:
            threads = max(1, _cores() // self.slots)
        return [_LocalProcess(job.values, threads) for job in jobs]


class _LocalProcess:
    def __init__(self, settings: dict[str, Any], threads: int | None) -> None:
        context = multiprocessing.get_context("spawn")  # CUDA and OpenMP don't survive a fork
        self.receiver, sender = context.Pipe(duplex=False)
        self.process = context.Process(target=_train, args=(settings, threads, sender))
        self.process.start()
        sender.close()

    def poll(self) -> Outcome | None:
        if self.process.is_alive():
            return None
        try:
            return self.receiver.recv()
        except EOFError:
            code = self.process.exitcode
            if code is not None and code < 0:
                return Outcome(DIED, sweep.signal_name(-code))
            return Outcome(DIED, f"its process ended with exit code {code}")

    def state(self) -> str:
        return ""

    def stop(self) -> None:
        self.process.join(timeout=5)  # Ctrl-C reached it too
        self.process.terminate()
        self.process.join()


def _train(settings: dict[str, Any], threads: int | None, sender: Any) -> None:
    die_with_parent()
    try:
        sender.send(train_alone(settings, threads))
    except KeyboardInterrupt:
        sys.exit(130)


class SubmititLauncher(_Launcher):
    """Trains each run as a job of ``cluster`` (``slurm``, or ``local`` for processes here).

    A job that is preempted or reaches its time limit goes back into the queue, and then on from
    its checkpoint. The launcher waits for the jobs; Ctrl-C cancels them.

    Args:
        cluster: ``slurm`` or ``local``.
        n_jobs: number of jobs submitted at a time; −1: one a core; None: all of them.
        submitit_folder: for submitit's scripts and logs; all nodes must see it.
        max_num_timeout: how often a job that reaches its time limit is put back into the queue.
        parameters: submitit's, by the names that Hydra's own launcher for submitit gives them.
    """

    def __init__(
        self,
        cluster: str,
        n_jobs: int | None,
        submitit_folder: str,
        max_num_timeout: int,
        **parameters: Any,
    ) -> None:
        self.n_jobs = n_jobs
        self.cluster, self.folder, self.max_num_timeout = cluster, submitit_folder, max_num_timeout
        self.parameters = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in parameters.items()
            if value is not None
        }
        self.states: dict[str, str] = {}
        self.asked = -math.inf

    def start(self, jobs: Sequence[Job]) -> Sequence[Process]:
        try:
            import submitit
        except ImportError as error:
            raise UserError(
                f"hydra/launcher=submitit_{self.cluster} needs submitit: "
                "pip install -r requirements-submitit.txt"
            ) from error
        # where the jobs' Python finds this code
        paths = [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        shared = {"timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb", "name"}
        try:
            executor = submitit.AutoExecutor(
                folder=self.folder,
                cluster=self.cluster,
                **{f"{self.cluster}_max_num_timeout": self.max_num_timeout},
            )
            executor.update_parameters(
                **{
                    key if key in shared else f"{self.cluster}_{key}": value
                    for key, value in self.parameters.items()
                }
            )
            threads = self.parameters.get("cpus_per_task")
            with executor.batch():  # in Slurm a job array
                submitted = [executor.submit(Training(job.values, threads)) for job in jobs]
        except Exception as error:  # submitit's errors have no class in common
            raise UserError(f"submitit can't submit the jobs: {error}") from error
        return [_SubmittedJob(each, self) for each in submitted]

    def slurm_state(self, job_id: str) -> str:
        """Slurm's word for the state of a job, "PENDING" for example; "" if it knows no such job.

        From squeue, asked every few seconds for all jobs at once: unlike sacct, it needs no
        accounting database.
        """
        if time.monotonic() - self.asked > SQUEUE_SECONDS:
            self.asked = time.monotonic()
            done = subprocess.run(
                ["squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i %T"],
                capture_output=True,
                text=True,
            )
            if done.returncode == 0:  # else the controller didn't answer, and nothing new is known
                self.states = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
        return self.states.get(job_id, "")


class Training:
    """What submitit pickles, calls in the job, and asks for what to requeue."""

    def __init__(self, settings: dict[str, Any], threads: int | None) -> None:
        self.settings, self.threads = settings, threads

    def __call__(self) -> None:
        outcome = train_alone(self.settings, self.threads)
        if outcome.code != 0:  # raised, so that Slurm doesn't call the job COMPLETED
            raise UserError(outcome.reason)

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)  # the checkpoint is in the run folder


class _SubmittedJob:
    """A job of a cluster. submitit knows whether it has ended by itself, the cluster if it died."""

    def __init__(self, job: Any, launcher: SubmititLauncher) -> None:
        self.job, self.launcher = job, launcher
        self.gone: float | None = None  # when the cluster first said that it no longer runs

    def poll(self) -> Outcome | None:
        if self.job.paths.result_pickle.exists():
            error = self.job.exception()
            if error is None:
                return Outcome(0)
            ours = re.search(rf"{UserError.__module__}\.{UserError.__name__}: (.*)", str(error))
            return Outcome(1, ours[1] if ours else f"its log says why: {self.job.paths.stderr}")
        state = self._cluster_state()
        if state in ALIVE:
            self.gone = None
            return None
        self.gone = self.gone or time.monotonic()
        if time.monotonic() - self.gone < GRACE_SECONDS:
            return None
        cancelled = state.startswith("cancelled")
        return Outcome(1 if cancelled else DIED, f"job {self.job.job_id} is {state or 'gone'}")

    def state(self) -> str:
        state = self._cluster_state()
        return "" if state == "running" else state

    def _cluster_state(self) -> str:
        local = self.launcher.cluster == "local"
        return (self.job.state if local else self.launcher.slurm_state(self.job.job_id)).lower()

    def stop(self) -> None:
        self.job.cancel(check=False)


def _is_count(n_jobs: Any) -> bool:
    integer = isinstance(n_jobs, int) and not isinstance(n_jobs, bool)
    return integer and (n_jobs >= 1 or n_jobs == -1)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _returned(job: Job, failure: UserError | None) -> JobReturn:
    """What a Hydra sweeper gets to see of a job: its test accuracy, or that it failed."""
    if job.status == sweep.FINISHED:
        accuracy = load_metrics(job.folder)["test_accuracy"]
        return _Returned(job.overrides, status=JobStatus.COMPLETED, _return_value=accuracy)
    return _Returned(job.overrides, status=JobStatus.FAILED, _return_value=failure)


class _Returned(JobReturn):
    @property
    def return_value(self) -> Any:
        """Raises a failed job's error without printing a line of its own, as Hydra's does."""
        if self.status == JobStatus.FAILED:
            raise self._return_value
        return self._return_value
