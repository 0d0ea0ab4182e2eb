"""A run folder's life: held by one process, begun, finished, or failed."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from center_loss.base.errors import UsageError, UserError, one_line
from center_loss.runs.contents import as_json, load_config, save_config
from center_loss.runs.files import (
    CHECKPOINT,
    CHECKSUMS,
    CONFIG,
    DIVERGED,
    FAILURE,
    FEATURES,
    FIGURE,
    HISTORY,
    METRICS,
    PREVIOUS,
    PROGRESS,
    SNAPSHOTS,
    SUMMED,
    CantBeWritten,
    cant_be_written,
    make_folder,
    read,
    sum_line,
    write_text,
)

if TYPE_CHECKING:
    from center_loss.recipe import Recipe

# removed in this order: without a checkpoint nothing goes on from what is half removed
_RESULTS = [CHECKPOINT, PREVIOUS, METRICS, FEATURES, SNAPSHOTS, HISTORY, FIGURE]
_OF_THIS_START = [CHECKSUMS, FAILURE, DIVERGED]  # what an earlier start said of the run


def save_failure(folder: Path, reason: str) -> None:
    write_text(folder / FAILURE, reason + "\n")


def is_finished(folder: Path) -> bool:
    return (folder / METRICS).is_file()


def failure(folder: Path) -> str | None:
    """Why the run in the folder failed; None where it didn't."""
    path = folder / FAILURE
    return one_line(path.read_text(errors="replace")) if path.is_file() else None


def is_finished_as(folder: Path, recipe: Recipe) -> bool:
    """Whether the folder holds a finished run of this recipe.

    Raises:
        UsageError: it holds a run, finished or not, of another one.
        UserError: a file of the finished run is damaged, or one in SHA256SUMS is missing.
    """
    if not (folder / CONFIG).exists():
        return False
    from center_loss.recipe import Recipe, differences

    different = differences(Recipe.of(load_config(folder)), recipe)
    if different:
        raise UsageError(
            f"{folder} holds a run of another configuration ({'; '.join(different[:5])}): "
            "give another output_dir (a multirun: hydra.sweep.dir), or force=true to train it anew"
        )
    if not is_finished(folder):
        return False
    sums = folder / CHECKSUMS
    listed = sums.read_text(errors="replace") if sums.is_file() else ""
    for name in SUMMED:
        if (folder / name).exists() or f"  {name}" in listed:
            read(folder / name, lambda content: content)  # is it there, and whole?
    return True


def begin(folder: Path, config: dict[str, Any]) -> None:
    """Make the run folder with its configuration.

    With ``force`` the files of an earlier run are removed.

    Raises:
        UsageError: there are files of a run, and no configuration to say of which.
        UserError: the folder can't be written.
    """
    found = [name for name in [*_RESULTS, *_OF_THIS_START] if (folder / name).exists()]
    if found and not config["force"] and not (folder / CONFIG).exists():
        raise UsageError(
            f"{folder} holds {', '.join(found)} but no {CONFIG}: "
            "give another output_dir, or force=true to replace them"
        )
    if config["force"]:
        for name in _RESULTS:
            (folder / name).unlink(missing_ok=True)
    for name in _OF_THIS_START:
        (folder / name).unlink(missing_ok=True)
    (folder / PROGRESS).unlink(missing_ok=True)
    for name in [CONFIG, PROGRESS, *_OF_THIS_START, *_RESULTS]:
        for leftover in folder.glob(f".{name}.*.tmp"):  # of a process that was killed
            leftover.unlink(missing_ok=True)
    save_config(folder, config)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the folder if it isn't there, and keep other processes from training in it.

    Raises:
        UserError: another process trains there, or the folder can't be made.
    """
    make_folder(folder)
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise CantBeWritten(cant_be_written(folder, error)) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{folder} is being trained by another process: wait for it") from error
        except OSError:  # a file system that can't lock a folder
            pass
        yield
    finally:
        os.close(handle)


def finish(folder: Path, metrics: dict[str, Any]) -> None:
    """Write the metrics, and with them declare the run finished. NaN and infinity become null."""
    content = as_json(metrics)
    there = [name for name in SUMMED if (folder / name).exists()]
    contents = {name: (folder / name).read_bytes() for name in there}
    contents[METRICS] = content.encode()  # its checksum comes before it, for it comes last
    lines = [sum_line(name, each) for name, each in contents.items()]
    write_text(folder / CHECKSUMS, "\n".join(lines) + "\n")
    write_text(folder / METRICS, content)
    for name in (PREVIOUS, PROGRESS):
        (folder / name).unlink(missing_ok=True)


def save_diverged(folder: Path, metrics: dict[str, Any]) -> None:
    """Write the metrics of a diverged run's last checkpoint, with the step it diverged at."""
    write_text(folder / DIVERGED, as_json(metrics))
