"""A run folder's life: held by one process, begun, trained into, finished, or failed."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from center_loss.base.errors import UsageError, UserError, one_line
from center_loss.runs import checkpoint, contents, files

if TYPE_CHECKING:
    from torch import Tensor

    from center_loss.recipe import Recipe

# removed in this order: without a checkpoint nothing goes on from what is half removed
_RESULTS = [
    *(files.CHECKPOINT, files.PREVIOUS, files.METRICS),
    *(files.FEATURES, files.SNAPSHOTS, files.HISTORY, files.FIGURE),
]
_OF_THIS_START = [files.CHECKSUMS, files.FAILURE, files.DIVERGED]  # what an earlier one said


class Folder:
    """A run folder as the training loop sees it.

    Takes all files of a run but the configuration, the figure and the metrics. ``report`` is told
    the step, the number of steps and a text on the loss.
    """

    def __init__(
        self,
        folder: Path,
        say: Callable[[str], None] = print,
        report: Callable[[int, int, str], None] = lambda step, steps, text: None,
    ) -> None:
        self.folder, self.name, self.say, self.progress = folder, str(folder), say, report

    def load_checkpoint(self) -> dict[str, Any] | None:
        if checkpoint.has_checkpoint(self.folder):
            return checkpoint.load_checkpoint(self.folder, self.say)
        if (self.folder / files.HISTORY).exists():
            self.say(f"{self.folder}: its {files.CHECKPOINT} is missing, starting from step 0")
        return None

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        checkpoint.save_checkpoint(self.folder, state)

    def save_history(self, rows: list[dict[str, float]]) -> None:
        files.write_csv(self.folder / files.HISTORY, rows)

    def save_features(self, arrays: dict[str, Tensor]) -> None:
        contents.save_arrays(
            self.folder / files.FEATURES, {key: each.numpy() for key, each in arrays.items()}
        )

    def save_snapshots(self, arrays: dict[str, Any]) -> None:
        contents.save_arrays(self.folder / files.SNAPSHOTS, arrays)


def save_failure(folder: Path, reason: str) -> None:
    files.write_text(folder / files.FAILURE, reason + "\n")


def failure(folder: Path) -> str | None:
    """Why the run in the folder failed; None where it didn't."""
    path = folder / files.FAILURE
    return one_line(path.read_text(errors="replace")) if path.is_file() else None


def is_finished(folder: Path) -> bool:
    return (folder / files.METRICS).is_file()


def is_finished_as(folder: Path, recipe: Recipe) -> bool:
    """Whether the folder holds a finished run of this recipe.

    Raises:
        UsageError: it holds a run, finished or not, of another one.
        UserError: a file of the finished run is damaged, or one in SHA256SUMS is missing.
    """
    if not (folder / files.CONFIG).exists():
        return False
    from center_loss.recipe import Recipe, differences

    different = differences(Recipe.of(contents.load_config(folder)), recipe)
    if different:
        raise UsageError(
            f"{folder} holds a run of another configuration ({'; '.join(different[:5])}): "
            "give another output_dir (a multirun: hydra.sweep.dir), or force=true to train it anew"
        )
    if not is_finished(folder):
        return False
    sums = folder / files.CHECKSUMS
    listed = sums.read_text(errors="replace") if sums.is_file() else ""
    for name in files.SUMMED:
        if (folder / name).exists() or f"  {name}" in listed:
            files.read(folder / name, lambda content: content)  # is it there, and whole?
    return True


def begin(folder: Path, config: dict[str, Any]) -> None:
    """Make the run folder with its configuration.

    With ``force`` the files of an earlier run are removed.

    Raises:
        UsageError: there are files of a run, and no configuration to say of which.
        UserError: the folder can't be written.
    """
    found = [name for name in [*_RESULTS, *_OF_THIS_START] if (folder / name).exists()]
    if found and not config["force"] and not (folder / files.CONFIG).exists():
        raise UsageError(
            f"{folder} holds {', '.join(found)} but no {files.CONFIG}: "
            "give another output_dir, or force=true to replace them"
        )
    results = _RESULTS if config["force"] else []
    for name in [*results, *_OF_THIS_START, files.PROGRESS]:
        (folder / name).unlink(missing_ok=True)
    for name in [files.CONFIG, files.PROGRESS, *_OF_THIS_START, *_RESULTS]:
        for leftover in folder.glob(f".{name}.*.tmp"):  # of a process that was killed
            leftover.unlink(missing_ok=True)
    contents.save_config(folder, config)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the folder if it isn't there, and keep other processes from training in it.

    Raises:
        UserError: another process trains there, or the folder can't be made.
    """
    files.make_folder(folder)
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise files.CantBeWritten(folder, error) from error
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
    metrics_json = contents.as_json(metrics)
    paths = [folder / name for name in files.SUMMED if (folder / name).exists()]
    summed = {path.name: path.read_bytes() for path in paths}
    summed[files.METRICS] = metrics_json.encode()  # its checksum comes before it: it comes last
    lines = [files.sum_line(name, content) for name, content in summed.items()]
    files.write_text(folder / files.CHECKSUMS, "\n".join(lines) + "\n")
    files.write_text(folder / files.METRICS, metrics_json)
    for name in (files.PREVIOUS, files.PROGRESS):
        (folder / name).unlink(missing_ok=True)
