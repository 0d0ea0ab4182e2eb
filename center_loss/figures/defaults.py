"""Matplotlib as it comes, whatever a user has set for it: a seed's figures are the same anywhere.

Imported before anything else of Matplotlib's, which reads the user's matplotlibrc when it begins.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without its remarks on a user's files: figures don't depend on them."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _nothing_of_the_users() -> Iterator[None]:
    """No matplotlibrc, neither named nor in the working folder, and no window."""
    here, environment = Path.cwd(), dict(os.environ)
    os.environ["MATPLOTLIBRC"] = os.devnull
    os.environ.pop("MPLBACKEND", None)
    os.chdir(Path(__file__).parent)
    try:
        yield
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(environment)


with _quiet():
    try:
        import matplotlib.figure
    except ImportError:
        raise
    except Exception:  # a matplotlibrc that can't be read, a backend that there isn't
        for name in [each for each in sys.modules if each.startswith("matplotlib.")]:
            del sys.modules[name]  # what it had imported by then
        with _nothing_of_the_users():
            import matplotlib.figure

_DEFAULTS: dict[Any, Any] = {
    key: value
    for key, value in matplotlib.rcParamsDefault.items()
    if key != "backend"  # of windows, which nothing here opens
}


@contextlib.contextmanager
def own_defaults() -> Iterator[None]:
    """In the block, or as a decorator in the function, a figure is made and drawn as it comes."""
    with matplotlib.rc_context(_DEFAULTS):
        yield
