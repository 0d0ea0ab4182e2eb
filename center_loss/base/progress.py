"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import contextlib
import os
import sys
import threading
from typing import Any

from tqdm import tqdm

PLAIN_SECONDS = 10  # between two lines where the output is no terminal
tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a killed process would leave


class _Errors:
    """The standard error for tqdm. A terminal that was closed ends no training."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


class _Lines(_Errors):
    """The same, with plain lines instead of a bar that is drawn again and again."""

    def write(self, text: str) -> None:
        text = text.strip("\r\n ")
        if text:
            super().write(text + "\n")


def progress_bar(total: int, name: str, done: int = 0, unit: str = "step") -> tqdm:
    """A bar of ``total`` steps on the standard error, or a line from time to time."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return tqdm(
            total=total, initial=done, desc=name, unit=unit, dynamic_ncols=True, file=_Errors()
        )
    return tqdm(
        total=total,
        initial=done,
        desc=name,
        file=_Lines(),
        mininterval=PLAIN_SECONDS,
        leave=False,  # else the last line would be said twice
        bar_format=f"{{desc}}: {unit} {{n_fmt}}/{{total_fmt}}{{postfix}}, {{remaining}} left",
    )
