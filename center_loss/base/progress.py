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
    """The standard error for tqdm. A terminal that was closed ends no training.

    ``lines``: with plain lines instead of a bar that is drawn again and again.
    """

    def __init__(self, lines: bool) -> None:
        self.lines = lines

    def write(self, text: str) -> None:
        if self.lines:
            text = text.strip("\r\n ")
            text += "\n" if text else ""
        with contextlib.suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


def progress_bar(total: int, name: str, done: int = 0, unit: str = "step") -> tqdm:
    """A bar of ``total`` steps on the standard error, or a line from time to time."""
    lines = not sys.stderr.isatty() or os.environ.get("TERM") == "dumb"
    options: dict[str, Any] = {"dynamic_ncols": True}
    if lines:
        layout = f"{{desc}}: {unit} {{n_fmt}}/{{total_fmt}}{{postfix}}, {{remaining}} left"
        # not left there, or the last line would be said twice
        options = {"mininterval": PLAIN_SECONDS, "leave": False, "bar_format": layout}
    return tqdm(total=total, initial=done, desc=name, unit=unit, file=_Errors(lines), **options)
