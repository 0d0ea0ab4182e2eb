"""Many runs: which of them to train, several at a time, and what became of each."""

import contextlib
import itertools
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from tqdm import tqdm

from center_loss.base.errors import UsageError, UserError, one_line
from center_loss.job import Outcome, checked
from center_loss.runs.contents import load_config, load_metrics
from center_loss.runs.files import CONFIG, LOG
from center_loss.runs.folder import begin, held, is_finished, is_finished_as, save_failure
from center_loss.sweeps import summary

Status = Literal["finished", "failed", "refused", "waiting"]
POLL_SECONDS = 0.2
REPORT_SECONDS = {True: 0.5, False: 30}  # between two reports, by whether there is a terminal
LINES = 8  # for running jobs
GOING_ON, STEP = r"going on from step ([\d,]+) of ([\d,]+)", r"step (\d+)/(\d+)"  # in a log
DIED, PREEMPTED = -1, -2  # codes of a job that ended without a word, and that others pushed aside
STARTS = 2  # of a job that dies


@dataclass
class Job:
    """One run of a sweep."""

    overrides: list[str]  # what was typed for it, KEY=VALUE
    values: dict[str, Any]  # its composed configuration
    folder: Path
    status: Status = "waiting"
    code: int = 0  # exit code
    reason: str = ""  # why it was refused or failed
    label: str = ""  # the overrides that tell it from the others
    threads: int | None = None  # its share of the cores; None: all, or its launcher's to say
    starts: int = 0  # how often its process was started
    log_from: int = 0  # where in its log the last start begins
    began_at: float = 0.0  # how much of it was done already when that began, of 1


class Process(Protocol):
    """A job that was started, wherever it runs."""

    def poll(self) -> Outcome | None:
        """How it ended, perhaps with DIED or PREEMPTED for a code; None while it hasn't."""

    def state(self) -> str:
        """A word on it while it doesn't run, "pending" for example; else ""."""

    def stop(self) -> None:
        """Have it end soon, its state saved."""

    def wait(self) -> None:
        """Wait until it has, where that takes moments."""

    def kill(self) -> None:
        """End it at once."""


def plan(jobs: Sequence[Job], root: Path) -> list[Job]:
    """Say of each job whether it is finished, refused or to be trained, and in which folder.

    A run is recognised by its configuration: wherever in ``root`` it lies, it isn't trained again,
    and a folder that holds a run of another configuration isn't taken for it.

    Returns:
        The jobs, one that is the same run as an earlier one replaced by that.
    """
    from center_loss.recipe import Recipe  # imports torch
    from center_loss.runs.load import folders

    known: dict[tuple, list[Path]] = {}
    for folder in folders(root):
        try:
            known.setdefault(Recipe.of(load_config(folder)).identity(), []).append(folder)
        except UserError:
            continue  # damaged: not recognised, so its own job, if any, is refused
    planned: dict[tuple, Job] = {}
    taken: dict[Path, Job] = {}
    result = []
    for job in jobs:
        try:
            job.values = checked({**job.values, "output_dir": str(job.folder)})
            recipe = Recipe.of(job.values)
            own = recipe.identity()
            if own in planned:
                result.append(planned[own])
                continue
            job.folder = _folder(job.folder, known.get(own, []))
            if job.folder in taken:
                raise UsageError(
                    f"{job.folder} is the folder of {' '.join(taken[job.folder].overrides)} too: "
                    "hydra.sweep.subdir must tell the runs apart"
                )
            planned[own] = taken[job.folder] = job
            job.values["output_dir"] = str(job.folder)
            if not job.values["force"] and is_finished_as(job.folder, recipe):
                load_metrics(job.folder)
                job.status = "finished"
        except UserError as error:
            refuse(job, error)
        result.append(job)
    common = set.intersection(*(set(job.overrides) for job in result)) if result else set()
    for job in result:
        apart = [each for each in job.overrides if each not in common]
        job.label = " ".join(apart or job.overrides) or job.folder.name
    return result


def refuse(job: Job, error: UserError) -> None:
    job.status, job.code, job.reason = "refused", error.exit_code, str(error)


def train(
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
                    board.say(f"{job.label}: {outcome.reason}; started again")
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
        job.log_from, job.began_at = _size(job.folder / LOG), 0.0
    processes = start(batch)
    for job in batch:
        job.starts += 1
    return list(zip(batch, processes, strict=True))


def report(jobs: Sequence[Job], root: Path) -> None:
    """Write the summary of all runs in ``root``, print these jobs' part of it, and what failed."""
    rows = summary.rows(root, jobs)
    paths = summary.write(root, rows)
    folders = {str(job.folder.relative_to(root)) for job in jobs if job.status != "refused"}
    own = [row for row in rows if row["folder"] in folders or row["status"] == "refused"]
    print(f"\n{summary.table(own)}\n")
    if len(rows) > len(own):
        print(f"{len(rows) - len(own)} more runs lie there; the summary has them too")
    for path in paths:
        print(path)
    tell_reasons(jobs, "refused")
    tell_reasons(jobs, "failed")


def tell_reasons(jobs: Sequence[Job], status: Status) -> None:
    """A line for each reason why jobs failed, or were refused."""
    reasons: dict[str, list[str]] = {}
    for job in jobs:
        if job.status == status:
            reasons.setdefault(job.reason, []).append(job.label)
    for reason, labels in reasons.items():
        which = ", ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")
        print(f"{status}: {which}: {reason}", file=sys.stderr)


def error(jobs: Sequence[Job]) -> UserError | None:
    """What a sweep's failures come to, with the highest of their exit codes; None without any."""
    bad = [job for job in jobs if job.status in ("refused", "failed")]
    if not bad:
        return None
    kind = UsageError if any(job.code == UsageError.exit_code for job in bad) else UserError
    refused = {job.reason for job in bad if job.status == "refused"}
    if all(job.status == "refused" for job in jobs) and len(refused) == 1:
        return kind(refused.pop())
    what = "failed or were refused" if refused else "failed"
    return kind(f"{len(bad)} of {len(jobs)} runs {what}, see above")


def signal_name(number: int) -> str:
    """What a process died of, in words."""
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return f"killed by {name}" + (", perhaps out of memory" if name == "SIGKILL" else "")


def _folder(own: Path, alike: Sequence[Path]) -> Path:
    """Of several folders of the same run a finished one, or the job's own."""
    return min(alike, key=lambda each: (not is_finished(each), each != own), default=own)


def _end(job: Job, outcome: Outcome) -> None:
    job.code, job.reason = abs(outcome.code), outcome.reason
    job.status = "finished" if outcome.code == 0 else "failed"
    if outcome.code < 0 and (job.folder / CONFIG).exists():
        with contextlib.suppress(UserError):  # the disk may be full
            save_failure(job.folder, outcome.reason)  # itself it couldn't


class Board:
    """The progress of a sweep: a line for each running job, and one for the whole with an ETA.

    On a terminal they are redrawn, elsewhere they are printed now and then.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
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
        said = _last_line(_log(job)) if job.status == "finished" else job.reason
        self.say(f"[{self.done}/{self.total}] {_labelled(job, said)}")

    def show(self, running: Sequence[tuple[Job, Process]], waiting: Sequence[Job]) -> None:
        now = time.monotonic()
        if now - self.shown < REPORT_SECONDS[self.terminal]:
            return
        self.shown = now
        texts, fractions, worked = [], 0.0, self.worked
        # those that run come before those that wait in a queue
        for job, process in sorted(running, key=lambda each: each[1].state() != ""):
            log = _log(job)
            job.began_at = _fraction(GOING_ON, log) or job.began_at
            fraction = _fraction(STEP, log) or job.began_at
            fractions += fraction
            worked += fraction - job.began_at
            texts.append(_labelled(job, process.state() or _last_line(log) or "starting"))
        if len(texts) > LINES:
            texts[LINES - 1 :] = [f"and {len(texts) - LINES + 1} more"]
        left = "?"
        if worked > 0:
            rest = len(waiting) + len(running) - fractions
            left = tqdm.format_interval(rest / worked * (now - self.began))
        whole = f"sweep: {self.done} of {self.total} runs"
        if not self.terminal:
            share = (self.done + fractions) / self.total
            lines = [*texts, f"{whole}, {share:.0%}, {left} left"]
            with contextlib.suppress(OSError):
                print("\n".join(lines), file=sys.stderr, flush=True)
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


def _log(job: Job) -> str:
    """The end of what the job's last start has printed."""
    path = job.folder / LOG
    try:
        with open(path, "rb") as file:
            file.seek(max(job.log_from, path.stat().st_size - 4096))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _last_line(log: str) -> str:
    return log.strip().rpartition("\n")[2]


def _labelled(job: Job, text: str) -> str:
    """A log's lines begin with the folder or its name: the label says it shorter."""
    text = text.removeprefix(f"{job.folder}: ").removeprefix(f"{job.folder.name}: ")
    return f"{job.label}: {text}"


def _fraction(steps: str, log: str) -> float:
    """How much of a run is done, by the last line of its log that says so; 0 without one."""
    found = re.findall(steps, log)
    return int(found[-1][0].replace(",", "")) / int(found[-1][1].replace(",", "")) if found else 0.0
