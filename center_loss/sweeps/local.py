"""Runs of a sweep as processes of this machine."""

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from center_loss.base import signals
from center_loss.base.checks import shown
from center_loss.base.errors import UsageError, UserError
from center_loss.job import Outcome, die_with, train_alone
from center_loss.sweeps.jobs import DIED, Job, Process, refuse, signal_name


class Local:
    """Trains each run in a process of its own, ``n_jobs`` at a time (−1: one a core).

    With more than one, each process gets its share of the cores, or as many threads as
    OMP_NUM_THREADS says. With ``auto`` there are as many as finish soonest, the last few of which
    have all cores among them. On several GPUs
    ``n_jobs`` are on each, and ``auto`` and −1 are one. A job's
    share depends on the whole sweep and not on how much of it is left to train, since the number of
    threads changes what a run ends with.
    """

    also: Mapping[Any, str] = {"auto": "auto for as many as finish soonest"}

    def __init__(self, n_jobs: int | str) -> None:
        self.n_jobs = n_jobs
        self.gpus: list[str] = []  # several, to be shared out
        self.running: list[_LocalProcess] = []

    def check(self, jobs: Sequence[Job]) -> None:
        """Refuse what can't be started, while the results that force=true removes are there."""
        refuse_devices(jobs)

    def slots(self, jobs: Sequence[Job]) -> int:
        """How many jobs at a time; each is told its threads."""
        cores, last = available_cores(), 0
        threads = os.environ.get("OMP_NUM_THREADS", "").strip().partition(",")[0]
        self.gpus = _gpus(jobs)
        if self.gpus:
            each = 1 if self.n_jobs in ("auto", -1) else number_of_slots(self.n_jobs)
            for job in jobs if not threads else []:
                job.threads = max(1, cores // (each * len(self.gpus)))
            return each * len(self.gpus)
        if self.n_jobs != "auto":
            slots = number_of_slots(self.n_jobs)
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
        started = []
        for job in jobs:
            self.running = [each for each in self.running if each.process.is_alive()]
            values = dict(job.values)
            if self.gpus:  # the one with the fewest runs
                used = [each.device for each in self.running]
                values["device"] = min(self.gpus, key=used.count)
            started.append(_LocalProcess(values, job.threads))
            self.running.append(started[-1])
        return started


def refuse_devices(jobs: Sequence[Job]) -> None:
    """Refuse the jobs whose device this machine hasn't got."""
    for job in jobs:
        if job.values["device"] != "auto":
            from center_loss.base.device import resolve_device  # imports torch

            try:
                resolve_device(job.values["device"])
            except UserError as error:
                refuse(job, error)


def _gpus(jobs: Sequence[Job]) -> list[str]:
    """All GPUs, where there are several and each job may have any of them."""
    if not all(job.status == "refused" or job.values["device"] in ("auto", "cuda") for job in jobs):
        return []
    import torch  # takes a moment

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [f"cuda:{k}" for k in range(count)] if count > 1 else []


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
    def __init__(self, config: dict[str, Any], threads: int | None) -> None:
        self.device = config["device"]
        context = multiprocessing.get_context("spawn")  # CUDA and OpenMP don't survive a fork
        vars(sys.modules["__main__"]).setdefault("__spec__", None)  # %run of IPython forgets it
        self.receiver, sender = context.Pipe(duplex=False)
        self.process = context.Process(target=_train, args=(config, threads, sender, os.getpid()))
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
            how = f"ended with exit code {code}" if code >= 0 else signal_name(-code)
            outcome = Outcome(DIED, f"its process {how}")
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


def _train(config: dict[str, Any], threads: int | None, sender: Any, parent: int) -> None:
    die_with(parent)
    sender.send(train_alone(config, threads))


def number_of_slots(n_jobs: Any, *also: str) -> int:
    """How many jobs at a time; ``also`` says what else is allowed."""
    if n_jobs == -1:
        return available_cores()
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or n_jobs < 1:
        allowed = ", or ".join(["an integer ≥ 1", "-1 for one a core", *also])
        raise UsageError(f"hydra.launcher.n_jobs must be {allowed}, got {shown(n_jobs)}")
    return n_jobs


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
