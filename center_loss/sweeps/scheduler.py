"""Trains the runs of a sweep, several at a time, sees to what becomes of each, and shows it."""

import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Sequence

from tqdm import tqdm

from center_loss.base.errors import UserError, one_line
from center_loss.job import Outcome
from center_loss.runs.files import CONFIG, PROGRESS
from center_loss.runs.folder import begin, held, save_failure
from center_loss.runs.progress import load_progress
from center_loss.sweeps.jobs import DIED, PREEMPTED, Job, Process

POLL_SECONDS = 0.2
STARTS = 2  # of a job that dies
REPORT_SECONDS = {True: 0.5, False: 30}  # between two reports, by whether there is a terminal
LINES = 8  # for running jobs


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
            batch = _alike(waiting[: slots - len(running)], [job for job, _ in running])
            waiting = waiting[len(batch) :]
            for job in batch:
                job.began_at = 0.0
                _forget_progress(job)
            try:
                running += zip(batch, start(batch) if batch else [], strict=True)
                for job in batch:
                    job.starts += 1
            except UserError as error:
                if not any(job.starts for job in jobs):
                    raise  # nothing can be started here
                for job in batch:
                    _end(job, Outcome(error.exit_code, str(error)))
                    board.ended(job)
            for job, process in list(running):
                outcome = process.poll()
                if outcome is None:
                    continue
                running.remove((job, process))
                if outcome.code == PREEMPTED or (outcome.code == DIED and job.starts < STARTS):
                    board.say(f"{job.label}: {outcome.text}; started again")
                    waiting.insert(0, job)
                else:
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
            process.terminate()
        for process in processes:
            process.join()
    except KeyboardInterrupt:
        for process in processes:
            process.kill()


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


class Board:
    """The progress of a sweep: a line for each running job, and one for the whole with an ETA.

    On a terminal they are redrawn, elsewhere they are printed now and then.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.worked = 0.0  # how many runs' worth was done here by those that have ended
        self.began = self.shown = time.monotonic()
        self.terminal = sys.stderr.isatty()
        self.lines: list[tqdm] = []
        self.whole = tqdm(
            total=total,
            disable=not self.terminal or not total,
            bar_format="{desc} {bar} {elapsed}{postfix} left",
            dynamic_ncols=True,
        )

    def say(self, text: str) -> None:
        with self.whole.external_write_mode(), contextlib.suppress(OSError):  # nobody reads it
            print(text, flush=True)

    def ended(self, job: Job) -> None:
        self.done += 1
        self.worked += 1 - job.began_at
        self.say(f"[{self.done}/{self.total}] {job.label}: {job.reason}")

    def show(self, running: Sequence[tuple[Job, Process]], waiting: Sequence[Job]) -> None:
        now = time.monotonic()
        if now - self.shown < REPORT_SECONDS[self.terminal]:
            return
        self.shown = now
        texts, fractions, worked = [], 0.0, self.worked
        states = [(process.state(), job) for job, process in running]
        # those that run come before those that wait in a queue
        for state, job in sorted(states, key=lambda each: each[0] != "running"):
            progress = load_progress(job.folder)
            fraction = job.began_at
            if progress is not None:
                job.began_at, fraction = progress.first / progress.of, progress.step / progress.of
            fractions += fraction
            worked += fraction - job.began_at
            text = state if state != "running" else progress or "starting"
            texts.append(f"{job.label}: {text}")
        if len(texts) > LINES:
            texts[LINES - 1 :] = [f"and {len(texts) - LINES + 1} more"]
        left = "?"
        if worked > 0:
            rest = len(waiting) + len(running) - fractions
            left = tqdm.format_interval(rest / worked * (now - self.began))
        whole = f"sweep: {self.done} of {self.total} runs"
        if not self.terminal:
            texts.append(f"{whole}, {(self.done + fractions) / self.total:.0%}, {left} left")
            with contextlib.suppress(OSError):
                print(*texts, sep="\n", file=sys.stderr, flush=True)
            return
        while len(self.lines) < len(texts):
            self.lines.append(tqdm(bar_format="{desc}", dynamic_ncols=True))
        for line, text in zip(self.lines, texts + [""] * len(self.lines), strict=False):
            line.set_description_str(text)
        self.whole.set_postfix_str(left, refresh=False)
        self.whole.set_description_str(whole, refresh=False)
        self.whole.n = self.done + fractions
        self.whole.refresh()

    def close(self) -> None:
        for line in [*self.lines, self.whole]:
            line.leave = False
            line.close()
