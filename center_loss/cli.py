"""What both programs do around Hydra: errors in one line, exit codes, folders left clean."""

import argparse
import functools
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from center_loss.errors import UsageError, UserError

TRACEBACK = "CENTER_LOSS_TRACEBACK"  # set to 1, errors come with their traceback

_codes: list[int] = []  # exit codes of the jobs so far; a multirun has several


def catching(job: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """Decorate a Hydra job: a ``UserError`` is reported at once and ends this job alone.

    Raised through Hydra, it would stop a multirun's summary and print lines of Hydra's own.
    """

    @functools.wraps(job)
    def reported(config: DictConfig) -> None:
        try:
            job(config)
            _codes.append(0)
        except UserError as error:
            _codes.append(_report(error, error.exit_code))
        except OSError as error:
            _codes.append(_report(_os_error(error), 1, error))

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
        # Hydra's own advice, to append the key with a +, would only lead to the next error
        unknown = re.match(r"Could not override '([^']+)'", str(error))
        if unknown:
            text = f"{unknown[1]} is no key here; --help lists the keys, --cfg job shows them all"
            return _report(text, 2, error)
        return _report(error, 2)
    except OSError as error:  # Hydra makes the folder of a multirun before our code runs
        return _report(_os_error(error), 1, error)
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr)
        return 130
    failed = sum(code != 0 for code in _codes)
    if failed and len(_codes) > 1:
        print(f"error: {failed} of {len(_codes)} runs failed, see above", file=sys.stderr)
    return max(_codes, default=0)


def one_line(error: BaseException | str) -> str:
    """The text of an error on one line. Hydra's have several, with lists one item a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "Config search path:" in lines:  # where Hydra looks for its files: noise to a user
        lines = lines[: lines.index("Config search path:")]
    text = ""
    for line in lines:
        text += ("" if not text else " " if text[-1] in ":,.;" else ", ") + line
    return text or type(error).__name__


def remove_if_empty(folder: Path) -> None:
    """Remove what Hydra made for a job that never began: its empty folder, and the sweep's."""
    for path in (folder, folder.parent):
        names = {each.name for each in path.iterdir()} if path.is_dir() else {"not ours"}
        if names == {"multirun.yaml"}:
            (path / "multirun.yaml").unlink()
            names = set()
        if not names:
            path.rmdir()


def _os_error(error: OSError) -> str:
    return f"{error.filename} can't be used: {error.strerror}" if error.filename else str(error)


def _usage_error(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    raise UsageError(f"{message}; a value is given as KEY=VALUE, and -m comes before all of them")


def _report(text: BaseException | str, code: int, error: BaseException | None = None) -> int:
    if os.environ.get(TRACEBACK) == "1":
        raise error or text
    print(f"error: {one_line(text)}", file=sys.stderr)
    return code
