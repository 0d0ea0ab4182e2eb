"""Trains the runs of a sweep, several at a time, and sees to what becomes of each."""

import contextlib
import itertools
import time
from collections.abc import Callable, Sequence

from center_loss.base.errors import UserError, one_line
from center_loss.job import Outcome
from center_loss.runs.files import CONFIG, PROGRESS
from center_loss.runs.folder import begin, held, save_failure
from center_loss.sweeps.board import Board
from center_loss.sweeps.jobs import DIED, PREEMPTED, Job, Process

POLL_SECONDS = 0.2
STARTS = 2  # of a job that dies


def train_all(
    jobs: Sequence[Job], start: Callable[[Sequence[Job]], Sequence[Process]], slots: int
) -> None:
    """Train what ``plan`` left waiting, at most ``slots`` jobs at a time.

    A job that fails costs itself alone. One whose process was killed is started once more, and
    goes on from its checkpoint.

    Args:
        jobs: the sweep; each job's outcome is written into it.
        start: starts the jobs it is given.
        slots: number of jobs at a time.
    """
    for job in jobs:
        if job.status == "waiting" and job.values["force"]:
            _clear(job)
    waiting = [job for job in jobs if job.status == "waiting"]
    running: list[tuple[Job, Process]] = []
    board = Board(len(waiting))
    try:
        while waiting or running:
            free = slots - len(running)
            batch = _alike(waiting[: max(free, 0)], [job for job, _ in running])
            if batch:
                waiting = waiting[len(batch) :]
                try:
                    running += _started(batch, start)
                except UserError as error:
                    if not any(job.starts for job in jobs):
                        raise  # nothing can be started here
                    for job in batch:
                        _end(job, Outcome(error.exit_code, str(error)))
                        board.ended(job)
            for pair in list(running):
                job, process = pair
                outcome = process.poll()
                if outcome is None:
                    continue
                running.remove(pair)
                if outcome.code == PREEMPTED or (outcome.code == DIED and job.starts < STARTS):
                    board.say(f"{job.label}: {outcome.text}; started again")
                    waiting.insert(0, job)
                    continue
                _end(job, outcome)
                board.ended(job)
            board.show(running, waiting)
            time.sleep(POLL_SECONDS)
    finally:
        _stop([process for _, process in running])
        board.close()


def _alike(waiting: Sequence[Job], running: Sequence[Job]) -> list[Job]:
    """The first of those that wait which can start: only jobs of equal shares of the cores run
    side by side, since shares that differ don't add up to the cores."""
    share = [*running, *waiting][:1]
    return list(itertools.takewhile(lambda job: job.threads == share[0].threads, waiting))


def _clear(job: Job) -> None:
    """Put this run in an earlier one's place, before any job begins.

    Once: a job that is started again goes on from its checkpoint, and so does a sweep that was
    interrupted, without force=true, without taking an old result for a new one.
    """
    try:
        if job.folder.exists():
            with held(job.folder):
                begin(job.folder, job.values)
    except (UserError, OSError) as error:
        _end(job, Outcome(UserError.exit_code, one_line(error)))
    job.values["force"] = False


def _stop(processes: Sequence[Process]) -> None:
    """End them, all at once, each after the step that it is at; a Ctrl-C meanwhile kills them."""
    try:
        for process in processes:
            process.stop()
        for process in processes:
            process.wait()
    except KeyboardInterrupt:
        for process in processes:
            process.kill()


def _started(
    batch: Sequence[Job], start: Callable[[Sequence[Job]], Sequence[Process]]
) -> list[tuple[Job, Process]]:
    for job in batch:
        job.began_at = 0.0
        _forget_progress(job)
    processes = start(batch)
    for job in batch:
        job.starts += 1
    return list(zip(batch, processes, strict=True))


def _end(job: Job, outcome: Outcome) -> None:
    job.code, job.reason = abs(outcome.code), outcome.text
    job.status = "finished" if outcome.code == 0 else "failed"
    _forget_progress(job)
    if outcome.code < 0 and (job.folder / CONFIG).exists():
        with contextlib.suppress(UserError):  # the disk may be full
            save_failure(job.folder, outcome.text)  # itself it couldn't


def _forget_progress(job: Job) -> None:
    """Of an earlier start, or of a job that has ended: its outcome is told."""
    with contextlib.suppress(OSError):
        (job.folder / PROGRESS).unlink(missing_ok=True)
