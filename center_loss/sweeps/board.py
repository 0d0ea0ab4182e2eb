"""The progress of a sweep, as it is shown."""

import contextlib
import sys
import time
from collections.abc import Sequence

from tqdm import tqdm

from center_loss.runs.progress import load_progress
from center_loss.sweeps.jobs import Job, Process

REPORT_SECONDS = {True: 0.5, False: 30}  # between two reports, by whether there is a terminal
LINES = 8  # for running jobs


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
        self.say(f"[{self.done}/{self.total}] {job.label}: {job.reason}")

    def show(self, running: Sequence[tuple[Job, Process]], waiting: Sequence[Job]) -> None:
        now = time.monotonic()
        if now - self.shown < REPORT_SECONDS[self.terminal]:
            return
        self.shown = now
        texts, fractions, worked = [], 0.0, self.worked
        # those that run come before those that wait in a queue
        for job, process in sorted(running, key=lambda each: each[1].state() != ""):
            progress = load_progress(job.folder)
            fraction = job.began_at
            if progress is not None:
                job.began_at, fraction = progress.first / progress.of, progress.step / progress.of
            fractions += fraction
            worked += fraction - job.began_at
            text = process.state() or (str(progress) if progress else "starting")
            texts.append(f"{job.label}: {text}")
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
