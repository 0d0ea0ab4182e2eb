"""Runs of a sweep as jobs of a Slurm cluster, through submitit."""

import contextlib
import json
import math
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from center_loss.base import signals
from center_loss.base.errors import UserError
from center_loss.job import Outcome, train_alone
from center_loss.sweeps.jobs import DIED, PREEMPTED, Job
from center_loss.sweeps.local import devices_of, number_of_slots

SQUEUE_SECONDS = 5  # between two questions to Slurm
LOOK_SECONDS = 2  # between two looks for a job's result, on a network's file system perhaps
GRACE_SECONDS = 20  # for the result of a job that has ended to arrive there
ALIVE = {  # states, in submitit and Slurm, in which a job may still end well
    "pending", "configuring", "running", "completing", "suspended", "stopped", "signaling",
    "stage_out", "resizing", "requeued", "requeue_fed", "requeue_hold", "special_exit",
    "resv_del_hold", "revoked",
}  # fmt: skip


class Slurm:
    """Trains each run as a job of ``cluster`` (``slurm``, or ``local`` for processes here).

    A job that is preempted or reaches its time limit goes back into the queue, and then on from
    its checkpoint. The launcher waits for the jobs; Ctrl-C cancels them.

    The arguments are the keys of configs/hydra/launcher/slurm.yaml, those in ``parameters``
    submitit's, by the names that Hydra's own launcher for it gives them; None leaves one to the
    cluster.
    """

    also = "null for all"

    def __init__(
        self,
        cluster: str,
        n_jobs: int | None,
        submitit_folder: str,
        max_num_timeout: int,
        **parameters: Any,
    ) -> None:
        self.n_jobs, self.cluster, self.max_num_timeout = n_jobs, cluster, max_num_timeout
        self.folder = os.path.expanduser(submitit_folder)
        self.parameters = {key: each for key, each in parameters.items() if each is not None}
        self.states: dict[str, str] = {}  # by job id, as squeue last told them
        self.asked = self.answered = -math.inf

    def slots(self, jobs: Sequence[Job]) -> int:
        """How many jobs at a time; one that can't be started is refused."""
        try:
            import submitit  # noqa: F401
        except ImportError as error:
            raise UserError(
                "this launcher needs submitit: pip install -r requirements-submitit.txt"
            ) from error
        if self.cluster == "local":  # a cluster's nodes have devices that this machine hasn't
            devices_of(jobs)
        return number_of_slots(self.n_jobs, self.also) or len(jobs)

    def start(self, jobs: Sequence[Job]) -> Sequence["_SubmittedJob"]:
        import submitit

        code, paths = str(Path(__file__).parent.parent.parent), os.environ.get("PYTHONPATH", "")
        if code not in paths.split(os.pathsep):  # where the jobs' Python finds this code
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [code, paths]))
        shared = {"timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb", "name"}
        threads = self.parameters.get("cpus_per_task")
        own = {
            key if key in shared else f"{self.cluster}_{key}": value
            for key, value in self.parameters.items()
        }
        if self.cluster == "slurm" and threads:  # from 22.05 on srun no longer asks sbatch
            own["slurm_srun_args"] = [f"--cpus-per-task={threads}"]
        timeouts: dict[str, Any] = {f"{self.cluster}_max_num_timeout": self.max_num_timeout}
        try:
            executor = submitit.AutoExecutor(self.folder, self.cluster, **timeouts)
            executor.update_parameters(**own)
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

    def __init__(self, config: dict[str, Any], threads: int | None) -> None:
        self.config, self.threads = config, threads

    def __call__(self) -> None:
        import submitit

        outcome = train_alone(self.config, self.threads)
        result = submitit.JobEnvironment().paths.result_pickle
        result.with_suffix(".json").write_text(json.dumps(outcome))
        if outcome.code != 0:  # raised, so that Slurm doesn't call the job COMPLETED
            raise UserError(outcome.text)

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)  # the checkpoint is in the run folder


class _SubmittedJob:
    """A job of a cluster. submitit knows whether it has ended by itself, the cluster if it died."""

    def __init__(self, job: Any, launcher: Slurm) -> None:
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
        state = self.state()
        if state in ALIVE:
            self.gone = None
            return None
        self.gone = self.gone or now
        if now - self.gone < GRACE_SECONDS:
            return None
        codes = {"cancelled": UserError.exit_code, "preempted": PREEMPTED}
        how = f"job {self.job.job_id} ended without a result ({state or 'unknown to Slurm'})"
        return Outcome(codes.get(state, DIED), how)

    def _told(self) -> Outcome:
        with contextlib.suppress(OSError, ValueError):  # it isn't there, or not whole
            told = self.job.paths.result_pickle.with_suffix(".json").read_text()
            return Outcome(*json.loads(told))
        if self.job.exception() is None:
            return Outcome(0)
        return Outcome(1, f"its log says why: {self.job.paths.stderr}")

    def state(self) -> str:
        if self.launcher.cluster == "local":
            return self.job.state.lower()
        state = self.launcher.slurm_state(self.job.job_id).lower()
        return "pending" if self.launcher.answered < self.submitted else state

    def terminate(self) -> None:
        if self.launcher.cluster == "local":  # the id is that of the process, which passes it on
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.kill(int(self.job.job_id), signal.SIGTERM)
        else:
            self.job.cancel(check=False)

    def join(self) -> None:
        if self.launcher.cluster == "local":  # else the cluster sees to it
            while self.job.state == "RUNNING":
                time.sleep(0.05)

    def kill(self) -> None:
        """It was told to end, and does after the step that it is at."""
