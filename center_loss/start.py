"""What both programs do before their imports, which take a moment and may be missing."""

import importlib.util
import signal
import sys


def before_imports(name: str) -> None:
    """Ctrl-C ends a program among its imports without a traceback; without Hydra it says so.

    Args:
        name: the program's ``__name__``; what is imported leaves signals alone.
    """
    if name == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until cli.main
    if importlib.util.find_spec("hydra") is None:
        sys.exit(
            "error: hydra isn't installed: pip install -r requirements.txt (or, after make, "
            "use .venv/bin/python)"
        )
