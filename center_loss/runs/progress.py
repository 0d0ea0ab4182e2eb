"""How far a run has come, for the sweep that it is a job of."""

import contextlib
import json
import os
import time
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from center_loss.runs.files import PROGRESS

SECONDS = 0.5  # between two writings


class Progress(NamedTuple):
    """A training that is under way."""

    step: int
    of: int  # steps in all
    first: int  # step at which this start began
    seconds: float  # since then
    text: str  # on the loss

    def __str__(self) -> str:
        done = self.step - self.first
        left = tqdm.format_interval((self.of - self.step) / done * self.seconds) if done else "?"
        return f"step {self.step}/{self.of}, {self.text + ', ' if self.text else ''}{left} left"


class Reporter:
    """Writes ``progress.json`` now and then. One that can't be written is nobody's loss."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / PROGRESS
        self.first: int | None = None

    def __call__(self, step: int, of: int, text: str) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first, self.began, self.wrote = step, now, now - SECONDS
        if now - self.wrote < SECONDS:
            return
        self.wrote = now
        progress = Progress(step, of, self.first, now - self.began, text)
        whole = self.path.with_name(f".{PROGRESS}.{os.getpid()}.tmp")
        with contextlib.suppress(OSError):
            whole.write_text(json.dumps(progress._asdict()) + "\n", encoding="utf-8")
            os.replace(whole, self.path)


def load_progress(folder: Path) -> Progress | None:
    """None where there is nothing, or nothing that can be read."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        found = Progress(**json.loads((folder / PROGRESS).read_text(encoding="utf-8")))
        return found if found.of > 0 else None
    return None
