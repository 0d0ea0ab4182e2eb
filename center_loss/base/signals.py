"""Ctrl-C, SIGTERM and SIGHUP: what they end, and when."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, kill, a terminal that closes

Handler = Callable[[int, FrameType | None], Any] | int | None  # as signal.getsignal returns it

AGAIN = "the same command goes on (without force=true, which starts anew)"


class Interrupted(KeyboardInterrupt):
    """A signal asked this program to end. As text it says how to go on, where that is known."""

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message)
        self.exit_code = 128 + number  # what a shell reports of a process that a signal ended


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """In the block, the first signal raises ``Interrupted``, and so does each Ctrl-C after it.

    More of the others change nothing: `timeout`, for one, sends its signal twice.
    """
    came = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if not came or number == signal.SIGINT:
            came = True
            raise Interrupted(number)

    with _handled_by(interrupt):
        yield


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], int | None]]:
    """In the block, the first signal is only noted, for the block to end where it can.

    A Ctrl-C after it does at once what it would have done outside of the block.

    Yields:
        a function that returns the signal that came, or None.
    """
    came: int | None = None

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came is not None and number == signal.SIGINT:
            signal.signal(number, before[number])
            signal.raise_signal(number)
        came = number if came is None else came

    with _handled_by(note) as before:
        yield lambda: came


@contextlib.contextmanager
def not_for_children() -> Iterator[None]:
    """Processes started in the block ignore Ctrl-C, which a terminal sends to them all.

    It is then for their parent to end them.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which they inherit
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _handled_by(handler: Handler) -> Iterator[dict[int, Handler]]:
    """Yields the handlers that were there before. Ignored signals, as under nohup, stay ignored."""
    before: dict[int, Handler] = {number: signal.getsignal(number) for number in ENDING}
    ours = [number for number in ENDING if before[number] not in (signal.SIG_IGN, None)]
    if threading.current_thread() is not threading.main_thread():  # where none can be set
        ours = []
    try:
        for number in ours:
            signal.signal(number, handler)
        yield before
    finally:
        for number in ours:
            signal.signal(number, before[number])
