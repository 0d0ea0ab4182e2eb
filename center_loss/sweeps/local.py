"""Runs of a sweep as processes of this machine."""

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.context import SpawnProcess
from typing import Any

from center_loss.base import checks, signals
from center_loss.base.errors import UsageError, UserError
from center_loss.job import Outcome, die_with, train_alone
from center_loss.sweeps.jobs import DIED, Job


class Local:
    """Trains each run in a process of its own, ``n_jobs`` at a time (−1: one a core).

    With more than one, each process gets its share of the cores, or as many threads as
    OMP_NUM_THREADS says. With ``auto`` there are as many as finish soonest, the last few of which
    have all cores among them. On several GPUs ``n_jobs`` are on each, and ``auto`` and −1 are one.
    A job's share depends on the whole sweep and not on how much of it is left to train, since the
    number of threads changes what a run ends with.
    """

    also = "auto for as many as finish soonest"

    def __init__(self, n_jobs: int | str) -> None:
        self.n_jobs = n_jobs
        self.gpus: list[str] = []  # several, to be shared out
        self.running: list[_LocalProcess] = []

    def slots(self, jobs: Sequence[Job]) -> int:
        """How many jobs at a time; each is told its threads, or refused if it can't be started."""
        given, cores, last = number_of_slots(self.n_jobs, self.also), available_cores(), 0
        devices = devices_of(jobs)
        threads = os.environ.get("OMP_NUM_THREADS", "").strip().partition(",")[0]
        self.gpus = _gpus(jobs)
        if self.gpus:
            each = 1 if given is None or checks.shown(self.n_jobs) == "-1" else given
            slots = each * len(self.gpus)
        elif given is not None:
            slots = given
        elif devices - {"cpu"}:
            slots = 1
        elif threads:
            slots = max(1, cores // int(threads))
        else:
            slots = _soonest(len(jobs), cores)
            last = len(jobs) % slots
        if (slots > 1 or self.gpus) and not threads:
            for number, job in enumerate(jobs, start=1):
                job.threads = max(1, cores // (last if number > len(jobs) - last else slots))
        return slots

    def start(self, jobs: Sequence[Job]) -> Sequence["_LocalProcess"]:
        started = []
        for job in jobs:
            self.running = [each for each in self.running if each.is_alive()]
            values = dict(job.values)
            if self.gpus:  # the one with the fewest runs
                used = [each.device for each in self.running]
                values["device"] = min(self.gpus, key=used.count)
            started.append(_LocalProcess(values, job.threads))
            self.running.append(started[-1])
        return started


def devices_of(jobs: Sequence[Job]) -> set[str]:
    """The kinds of the jobs' devices; a job is refused whose device this machine hasn't got."""
    from center_loss.base.device import resolve_device  # imports torch

    kinds = set()
    for job in jobs:
        try:
            if job.status != "refused":
                kinds.add(resolve_device(job.values["device"]).type)
        except UserError as error:
            if job.status == "waiting":  # else it was finished elsewhere
                job.refuse(error)
    return kinds


def _gpus(jobs: Sequence[Job]) -> list[str]:
    """All GPUs, where there are several and each job may have any of them."""
    import torch  # takes a moment

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    theirs = {job.values["device"] for job in jobs if job.status != "refused"}
    return [f"cuda:{k}" for k in range(count)] if count > 1 and theirs <= {"auto", "cuda"} else []


def _soonest(jobs: int, cores: int) -> int:
    """How many of so many equal jobs at a time finish soonest, if n cores are n times as fast.

    Of several such numbers the largest, since n cores are not quite so fast.
    """

    def length(slots: int) -> float:
        rounds, last = divmod(jobs, slots)
        return rounds / (cores // slots) + (1 / (cores // last) if last else 0)

    return min(range(min(jobs, cores), 0, -1), key=length)


class _LocalProcess(SpawnProcess):  # CUDA and OpenMP don't survive a fork
    """Trains a run, and sends its outcome to the process that started it."""

    def __init__(self, config: dict[str, Any], threads: int | None) -> None:
        super().__init__()
        self.device = config["device"]
        self.arguments, self.parent = (config, threads), os.getpid()
        receiver, self.sender = multiprocessing.Pipe(duplex=False)
        vars(sys.modules["__main__"]).setdefault("__spec__", None)  # %run of IPython forgets it
        with signals.not_for_children():
            self.start()
        self.sender.close()
        self.receiver = receiver

    def run(self) -> None:
        die_with(self.parent)
        self.sender.send(train_alone(*self.arguments))

    def poll(self) -> Outcome | None:
        if not self.receiver.poll() and self.is_alive():
            return None
        try:
            outcome = self.receiver.recv()
        except EOFError:
            self.join()
            code = self.exitcode or 0
            how = f"ended with exit code {code}" if code >= 0 else signal_name(-code)
            outcome = Outcome(DIED, f"its process {how}")
        self.join()
        return outcome

    def state(self) -> str:
        return "running"


def signal_name(number: int) -> str:
    """What a process died of, in words."""
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return f"killed by {name}" + (", perhaps out of memory" if name == "SIGKILL" else "")


def number_of_slots(n_jobs: Any, also: str) -> int | None:
    """How many jobs at a time; None for what ``also`` begins with, the value that says more."""
    if checks.shown(n_jobs) == also.partition(" ")[0]:
        return None
    with contextlib.suppress(ValueError):
        slots: int = checks.integer(-1)(n_jobs)
        if slots != 0:
            return slots if slots > 0 else available_cores()
    allowed = ", or ".join(["an integer ≥ 1", "-1 for one a core", also])
    raise UsageError(f"hydra.launcher.n_jobs must be {allowed}, got {checks.shown(n_jobs)}")


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
