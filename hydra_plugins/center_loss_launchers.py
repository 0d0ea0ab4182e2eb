"""The launchers of sweeps: processes on this machine, and jobs of a cluster through submitit.

Hydra looks for its plugins in packages called ``hydra_plugins``. It imports them at each start, so
nothing heavy is imported here before it is needed.
"""

import contextlib
import hashlib
import math
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, read_write

from center_loss.base import checks, errors, signals
from center_loss.base.checks import shown
from center_loss.base.errors import UsageError, UserError
from center_loss.job import Outcome, die_with, train_alone
from center_loss.program import cli
from center_loss.runs.folder import held
from center_loss.sweeps import summary, sweep
from center_loss.sweeps.sweep import Job, Process

SQUEUE_SECONDS = 5  # between two questions to Slurm
LOOK_SECONDS = 2  # between two looks for a job's result, on a network's file system perhaps
GRACE_SECONDS = 20  # for the result of a job that has ended to arrive there
ALIVE = {  # states, in submitit and Slurm, in which a job may still end well
    "pending", "configuring", "running", "completing", "suspended", "stopped", "signaling",
    "stage_out", "resizing", "requeued", "requeue_fed", "requeue_hold", "special_exit",
    "resv_del_hold", "revoked",
}  # fmt: skip


class _Launcher(Launcher):
    """Plans the jobs, has a subclass start them, and reports what became of them."""

    n_jobs: int | str | None  # runs at a time; −1: one a core
    also: Mapping[Any, str] = {}  # what else n_jobs may be, and what that means
    more: tuple[str, ...] = ()  # overrides of each job, besides its own

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

    def check(self, jobs: Sequence[Job]) -> None:
        """Refuse what can't be started, while the results that force=true removes are there."""
        for job in jobs:
            if job.values["device"] != "auto":
                from center_loss.base.device import resolve_device  # imports torch

                try:
                    resolve_device(job.values["device"])
                except UserError as error:
                    sweep.refuse(job, error)

    def shared_out(self, jobs: Sequence[Job]) -> int:
        """How many jobs at a time; each is told its threads, where that is ours to say."""
        return 10**9 if self.n_jobs is None else _slots(self.n_jobs)

    def start(self, jobs: Sequence[Job]) -> Sequence[Process]:
        raise NotImplementedError

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
        sweep.tell_reasons(jobs, "refused")
        finished = sum(job.status == "finished" for job in jobs)
        if finished:
            print(
                f"{root}: {finished} of {len(jobs)} runs finished already, skipped "
                "(force=true trains them anew)"
            )
        try:
            sweep.train(jobs, self.start, self.shared_out(jobs))
        except KeyboardInterrupt:
            with contextlib.suppress(UserError, OSError):  # that it was interrupted comes first
                self._report(jobs, root)
            raise
        self._report(jobs, root)
        failure = sweep.error(jobs)
        if failure is not None:
            raise failure
        return [JobReturn(job.overrides, status=JobStatus.COMPLETED) for job in planned]

    def _report(self, jobs: Sequence[Job], root: Path) -> None:
        if any(job.starts or job.status == "finished" for job in jobs):
            cli.keep_folders()
            sweep.report(jobs, root)

    def _planned(
        self, root: Path, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> list[Job]:
        """The jobs as ``sweep.plan`` has them; an error if none can be trained."""
        with contextlib.suppress(ValueError):  # from the environment: a text
            self.n_jobs = checks.or_null(checks.integer(-1))(self.n_jobs)
        if self.n_jobs not in list(self.also):
            _slots(self.n_jobs, *self.also.values())
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
        planned = sweep.plan(jobs, root)
        self.check([job for job in planned if job.status == "waiting"])
        error = sweep.error(planned)
        if error is not None and all(job.status == "refused" for job in planned):
            if str(error) != planned[0].reason:  # then they have several
                sweep.tell_reasons(planned, "refused")
            raise error
        waiting = [job for job in planned if job.status == "waiting"]
        if waiting:
            from center_loss.fetch.mnist import ensure_mnist

            ensure_mnist(Path(waiting[0].values["data"]["root"]))  # once, before they all try
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


class LocalLauncher(_Launcher):
    """Trains each run in a process of its own, ``n_jobs`` at a time (−1: one a core).

    With more than one, each process gets its share of the cores, or as many threads as
    OMP_NUM_THREADS says. With ``auto`` there are as many as finish soonest, the last few of which
    have all cores among them; on an accelerator it is one. A job's share depends on the whole
    sweep and not on how much of it is left to train, since the number of threads changes what a run
    ends with.
    """

    also: Mapping[Any, str] = {"auto": "auto for as many as finish soonest"}

    def __init__(self, n_jobs: int | str) -> None:
        self.n_jobs = n_jobs

    def shared_out(self, jobs: Sequence[Job]) -> int:
        cores, last = _cores(), 0
        threads = os.environ.get("OMP_NUM_THREADS", "").strip().partition(",")[0]
        if self.n_jobs != "auto":
            slots = _slots(self.n_jobs)
        elif not all(map(_on_a_cpu, jobs)):
            slots = 1
        elif threads:
            slots = max(1, cores // int(threads))
        else:
            slots = _soonest(len(jobs), cores)
            last = len(jobs) % slots
        if slots > 1 and not threads:
            for job in jobs:
                job.threads = max(1, cores // slots)
            for job in jobs[len(jobs) - last :]:
                job.threads = cores // last
        return slots

    def start(self, jobs: Sequence[Job]) -> Sequence[Process]:
        return [_LocalProcess(job.values, job.threads) for job in jobs]


def _on_a_cpu(job: Job) -> bool:
    from center_loss.base.device import resolve_device  # imports torch

    try:
        return job.status == "refused" or resolve_device(job.values["device"]).type == "cpu"
    except UserError:  # finished elsewhere
        return True


def _soonest(jobs: int, cores: int) -> int:
    """How many of so many equal jobs at a time finish soonest, if n cores are n times as fast.

    Of several such numbers the largest, since n cores are not quite so fast.
    """

    def length(slots: int) -> float:
        rounds, last = divmod(jobs, slots)
        return rounds / (cores // slots) + (1 / (cores // last) if last else 0)

    return min(range(min(jobs, cores), 0, -1), key=length)


class _LocalProcess:
    def __init__(self, settings: dict[str, Any], threads: int | None) -> None:
        context = multiprocessing.get_context("spawn")  # CUDA and OpenMP don't survive a fork
        vars(sys.modules["__main__"]).setdefault("__spec__", None)  # %run of IPython forgets it
        self.receiver, sender = context.Pipe(duplex=False)
        self.process = context.Process(target=_train, args=(settings, threads, sender, os.getpid()))
        with signals.not_for_children():
            self.process.start()
        sender.close()

    def poll(self) -> Outcome | None:
        if not self.receiver.poll() and self.process.is_alive():
            return None
        try:
            outcome = self.receiver.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode or 0
            how = f"ended with exit code {code}" if code >= 0 else sweep.signal_name(-code)
            outcome = Outcome(sweep.DIED, f"its process {how}")
        self._close()
        return outcome

    def state(self) -> str:
        return ""

    def stop(self) -> None:
        self.process.terminate()

    def wait(self) -> None:
        self._close()

    def kill(self) -> None:
        self.process.kill()
        self._close()

    def _close(self) -> None:
        self.process.join()
        self.receiver.close()


def _train(settings: dict[str, Any], threads: int | None, sender: Any, parent: int) -> None:
    die_with(parent)
    sender.send(train_alone(settings, threads))


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

    also: Mapping[Any, str] = {None: "null for all"}

    def __init__(
        self,
        cluster: str,
        n_jobs: int | None,
        submitit_folder: str,
        max_num_timeout: int,
        **parameters: Any,
    ) -> None:
        self.n_jobs = n_jobs
        self.cluster, self.max_num_timeout = cluster, max_num_timeout
        self.folder = os.path.expanduser(submitit_folder)
        self.parameters: dict[str, Any] = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in parameters.items()
            if value is not None
        }
        self.states: dict[str, str] = {}  # by job id, as squeue last told them
        self.asked = self.answered = -math.inf

    def check(self, jobs: Sequence[Job]) -> None:
        try:
            import submitit  # noqa: F401
        except ImportError as error:
            raise UserError(
                f"hydra/launcher=submitit_{self.cluster} needs submitit: "
                "pip install -r requirements-submitit.txt"
            ) from error
        if self.cluster == "local":  # a cluster's nodes have devices that this machine hasn't
            super().check(jobs)

    def start(self, jobs: Sequence[Job]) -> Sequence[Process]:
        import submitit

        code, paths = str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH")
        if code not in (paths or "").split(os.pathsep):  # where the jobs' Python finds this code
            os.environ["PYTHONPATH"] = os.pathsep.join([code, paths] if paths else [code])
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
            if self.cluster == "slurm" and threads:  # from 22.05 on srun no longer asks sbatch
                executor.update_parameters(slurm_srun_args=[f"--cpus-per-task={threads}"])
            with signals.not_for_children(), executor.batch():  # in Slurm a job array
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
                lines = [line.split() for line in done.stdout.splitlines()]
                self.states = {line[0]: line[1] for line in lines if len(line) == 2}
                self.answered = self.asked
        return self.states.get(job_id, "")


class Training:
    """What submitit pickles, calls in the job, and asks for what to requeue."""

    def __init__(self, settings: dict[str, Any], threads: int | None) -> None:
        self.settings, self.threads = settings, threads

    def __call__(self) -> None:
        outcome = train_alone(self.settings, self.threads)
        if outcome.code != 0:  # raised, so that Slurm doesn't call the job COMPLETED
            raise (UsageError if outcome.code == UsageError.exit_code else UserError)(
                outcome.reason
            )

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)  # the checkpoint is in the run folder


class _SubmittedJob:
    """A job of a cluster. submitit knows whether it has ended by itself, the cluster if it died."""

    def __init__(self, job: Any, launcher: SubmititLauncher) -> None:
        self.job, self.launcher = job, launcher
        self.submitted = time.monotonic()
        self.look_at = 0.0
        self.gone: float | None = None  # when the cluster first said that it no longer runs

    def poll(self) -> Outcome | None:
        now = time.monotonic()
        if now < self.look_at:
            return None
        self.look_at = now + LOOK_SECONDS
        try:
            if self.job.paths.result_pickle.exists():
                return self._told()
        except OSError:  # the file system doesn't answer
            return None
        state = self._cluster_state()
        if state in ALIVE:
            self.gone = None
            return None
        self.gone = self.gone or now
        if now - self.gone < GRACE_SECONDS:
            return None
        codes = {"cancelled": UserError.exit_code, "preempted": sweep.PREEMPTED}
        how = f"job {self.job.job_id} ended without a result ({state or 'unknown to Slurm'})"
        return Outcome(codes.get(state, sweep.DIED), how)

    def _told(self) -> Outcome:
        error = self.job.exception()
        if error is None:
            return Outcome(0)
        kinds = f"{UserError.__name__}|{UsageError.__name__}"
        ours = re.search(rf"{UserError.__module__}\.({kinds}): (.*)", str(error))
        if not ours:
            return Outcome(1, f"its log says why: {self.job.paths.stderr}")
        return Outcome(getattr(errors, ours[1]).exit_code, ours[2])

    def state(self) -> str:
        state = self._cluster_state()
        return "" if state == "running" else state

    def _cluster_state(self) -> str:
        if self.launcher.cluster == "local":
            return self.job.state.lower()
        state = self.launcher.slurm_state(self.job.job_id).lower()
        return "pending" if self.launcher.answered < self.submitted else state

    def stop(self) -> None:
        if self.launcher.cluster == "local":  # the id is that of the process, which passes it on
            _send(int(self.job.job_id), signal.SIGTERM)
        else:
            self.job.cancel(check=False)

    def wait(self) -> None:
        if self.launcher.cluster == "local":  # else the cluster sees to it
            while self.job.state == "RUNNING":
                time.sleep(0.05)

    def kill(self) -> None:
        if self.launcher.cluster == "local":
            controller = Path(f"/proc/{self.job.job_id}/task/{self.job.job_id}/children")
            with contextlib.suppress(OSError):  # it has ended
                for number in [*controller.read_text().split(), self.job.job_id]:
                    _send(int(number), signal.SIGKILL)


def _send(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended
        os.kill(process, number)


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


def _slots(n_jobs: Any, *also: str) -> int:
    """How many jobs at a time; ``also`` says what else is allowed."""
    if n_jobs == -1:
        return _cores()
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or n_jobs < 1:
        allowed = ", or ".join(["an integer ≥ 1", "-1 for one a core", *also])
        raise UsageError(f"hydra.launcher.n_jobs must be {allowed}, got {shown(n_jobs)}")
    return n_jobs


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
