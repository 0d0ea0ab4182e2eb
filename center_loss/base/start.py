"""What both programs do before their imports, which take a moment and may be missing."""

import importlib.util
import io
import os
import signal
import sys

in_anothers_process = False  # as by %run in a notebook, whose kernel goes on afterwards


def before_imports(name: str) -> None:
    """Ctrl-C ends a program among its imports without a traceback; without Hydra it says so.

    Args:
        name: the program's ``__name__``; what is imported leaves all as it is.
    """
    global in_anothers_process
    if name == "__main__":
        in_anothers_process = sys._getframe(1).f_back is not None
        if not in_anothers_process:
            _open_closed_streams()
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, signal.SIG_DFL)  # until cli.main
    if importlib.util.find_spec("hydra") is None:
        sys.exit(
            "error: hydra isn't installed: pip install -r requirements.txt (or, after make, "
            "use .venv/bin/python)"
        )


def printable() -> None:
    """Have λ, or a path's ü, printed as its number where the streams' encoding hasn't got it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _open_closed_streams() -> None:
    """Have a stream that was closed, as by 2>&-, lead nowhere.

    Else the next file that is opened, a checkpoint perhaps, has its number, and gets what C
    libraries and other processes print.
    """
    for number, (name, mode) in enumerate([("stdin", "r"), ("stdout", "w"), ("stderr", "w")]):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it takes the lowest number that is free
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
