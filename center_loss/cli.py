"""What both programs do around Hydra: errors in one line, exit codes, folders left clean."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from center_loss.errors import UserError

TRACEBACK = "CENTER_LOSS_TRACEBACK"  # set to 1, errors come with their traceback


def main(program: Callable[[], None]) -> int:
    """Run a Hydra program; return its exit code: 0, 2 for wrong usage, 1 for what else went wrong.

    Args:
        program: the function that ``hydra.main`` decorated. It raises ``UserError``.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's own errors come here instead of being printed
    try:
        program()
        return 0
    except UserError as error:
        return _report(error, error.exit_code)
    except (HydraException, OmegaConfBaseException) as error:
        return _report(error, 2)
    except OSError as error:  # Hydra makes the folder of a multirun before our code runs
        return _report(error, 1)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


def one_line(error: BaseException) -> str:
    """The text of an error on one line. Hydra's have several, with lists one item a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
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


def _report(error: BaseException, code: int) -> int:
    if os.environ.get(TRACEBACK) == "1":
        raise error
    print(f"error: {one_line(error)}", file=sys.stderr)
    return code
