"""One run of a sweep, and the process that trains it, wherever that is."""

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from center_loss.base.errors import UserError
from center_loss.job import Outcome

Status = Literal["finished", "failed", "refused", "waiting"]
DIED, PREEMPTED = -1, -2  # codes of a job that ended without a word, and that others pushed aside


@dataclass
class Job:
    """One run of a sweep."""

    overrides: list[str]  # what was typed for it, KEY=VALUE
    values: dict[str, Any]  # its composed configuration
    folder: Path
    status: Status = "waiting"
    code: int = 0  # exit code
    reason: str = ""  # what came out of it, or why it was refused or failed
    label: str = ""  # the overrides that tell it from the others
    threads: int | None = None  # its share of the cores; None: all, or its launcher's to say
    starts: int = 0  # how often its process was started
    began_at: float = 0.0  # how much of it was done already when it was last started, of 1


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


def refuse(job: Job, error: UserError) -> None:
    job.status, job.code, job.reason = "refused", error.exit_code, str(error)


def signal_name(number: int) -> str:
    """What a process died of, in words."""
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return f"killed by {name}" + (", perhaps out of memory" if name == "SIGKILL" else "")
