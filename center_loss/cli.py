"""What both programs do around Hydra: errors in one line, exit codes, folders left clean."""

import argparse
import contextlib
import functools
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from center_loss.errors import UsageError, UserError, one_line

TRACEBACK = "CENTER_LOSS_TRACEBACK"  # set to 1, errors come with their traceback


def catching(job: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """Decorate a Hydra job: what goes wrong is reported in one line, and ends the program.

    Raised through Hydra, an exception would print lines of Hydra's own.
    """

    @functools.wraps(job)
    def reported(config: DictConfig) -> None:
        try:
            job(config)
        except UserError as error:
            sys.exit(_report(error, error.exit_code))
        except OSError as error:
            sys.exit(_report(error, 1))

    return reported


def main(program: Callable[[], None], interrupted: str = "interrupted") -> int:
    """Run a Hydra program; return its exit code: 0, 2 for wrong usage, 1 for what else went wrong.

    Args:
        program: a function decorated by ``hydra.main`` over ``catching``.
        interrupted: what to say after Ctrl-C; the exit code is then 130.
    """
    argparse.ArgumentParser.error = _usage_error  # Hydra's parser prints seven lines of usage
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's own errors come here instead of being printed
    try:
        program()
    except UserError as error:
        return _report(error, error.exit_code)
    except OverrideParseException as error:
        return _report(f"{error.override!r} can't be parsed: {one_line(error)}", 2, error)
    except (HydraException, OmegaConfBaseException) as error:
        experiment = any(each.startswith("experiment=") for each in sys.argv)
        if experiment and str(error).startswith("Ambiguous value") and "-m" not in sys.argv:
            # something else is wrong, so that the experiment's being a multirun wasn't seen
            sys.argv.insert(1, "-m")
            return main(program, interrupted)
        # Hydra's own advice, to append the key with a +, would only lead to the next error
        unknown = re.match(r"Could not override '([^']+)'", str(error))
        if unknown:
            text = f"{unknown[1]} is no key here; --help lists the keys, --cfg job shows them all"
            if unknown[1].startswith("hydra.launcher."):
                text = f"{unknown[1]} is no key of this launcher: see configs/hydra/launcher"
            return _report(text, 2, error)
        return _report(error, 2)
    except OSError as error:  # Hydra makes the folder of a multirun before our code runs
        return _report(error, 1)
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr)
        return 130
    return 0


def remove_if_empty(folder: Path) -> None:
    """Remove what Hydra made for a multirun of which nothing began: a folder, and one file."""
    if {each.name for each in folder.iterdir()} == {"multirun.yaml"}:
        (folder / "multirun.yaml").unlink()
        folder.rmdir()


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that closes, end the block as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # nohup's
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _usage_error(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    raise UsageError(f"{message}; a value is given as KEY=VALUE, and -m comes before all of them")


def _report(text: BaseException | str, code: int, error: BaseException | None = None) -> int:
    if os.environ.get(TRACEBACK) == "1":
        raise error or text
    print(f"error: {one_line(text)}", file=sys.stderr)
    return code
