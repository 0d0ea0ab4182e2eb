"""A run folder's files: their names, how they are written whole, and read without trust.

Every file is written under a temporary name, flushed and renamed: it is whole or absent. What
happens to it afterwards is noticed when it is read: a checkpoint ends with its own checksum, those
of a finished run's files are in SHA256SUMS. A folder without one, put together by hand, is read as
it is.
"""

import contextlib
import csv
import errno
import hashlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

from center_loss.base.errors import UserError

CONFIG = "config.yaml"  # resolved
METRICS = "metrics.json"  # final numbers; written last, so a run without it is not finished
NETWORK = "network.pt"  # weights alone, in half precision, of a run that was put aside
HISTORY = "history.csv"  # a row an epoch
FEATURES = "features.npz"  # of both sets, labels, predictions; centers; the last layer's weight
SNAPSHOTS = "snapshots.npz"  # features of some test images, and the centers, through training
CHECKPOINT = "checkpoint.pt"  # all that resuming needs
PREVIOUS = "checkpoint.previous.pt"  # while training: the one before
FIGURE = "figure.png"  # the run's training and test features
CHECKSUMS = "SHA256SUMS"  # of a finished run's files, as `sha256sum -c` reads them
FAILURE = "failure.txt"  # only after a failure: its reason, one line
DIVERGED = "diverged.json"  # only after a divergence: the metrics of the last checkpoint
PROGRESS = "progress.json"  # while a job of a sweep trains it: how far it has come
LOG = "train.log"  # of a job of a sweep: what training printed
SUMMED = [CONFIG, HISTORY, FEATURES, SNAPSHOTS, METRICS]
TRAIN_AGAIN = ": remove its folder, or train this run alone with force=true"
Parsed = TypeVar("Parsed")


class Damaged(UserError):
    """A file of a run isn't there, or isn't what was written."""


class CantBeWritten(UserError):
    """A disk is full or read-only, a folder closed; it ends with what to do."""

    def __init__(self, path: Path, error: OSError) -> None:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "free some space or choose another folder" if full else "choose another folder"
        super().__init__(f"{path} can't be written ({error.strerror or error}): {advice}")


def write_file(path: Path, write: Callable[[IO[bytes]], Any], kept: Path | None = None) -> None:
    """Call ``write`` with a temporary file, flush it to the disk, and rename it to ``path``.

    What was there before is first renamed to ``kept``, if that is given.

    Raises:
        UserError: the file can't be written (disk full, no permission, folder gone). What was at
            ``path`` before is still there then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if kept is not None:
            os.replace(path, kept)
        os.replace(temporary, path)
    except FileNotFoundError as error:
        gone = f"{path} can't be written: its folder is gone, moved or removed meanwhile"
        raise UserError(gone) from error
    except OSError as error:
        raise CantBeWritten(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # the reason is what was raised before
            temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make it, and those above it, where it isn't there."""
    try:
        with contextlib.suppress(FileExistsError):  # a file there is told when it is written into
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CantBeWritten(folder, error) from error


def write_text(path: Path, text: str) -> None:
    write_file(path, lambda file: file.write(text.encode()))


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a table with a row for each dict; all have the first one's keys."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read(path: Path, parse: Callable[[bytes], Parsed]) -> Parsed:
    try:
        if path.exists() and not path.is_file():  # a pipe could be read for ever
            raise Damaged(f"{path} isn't a file" + TRAIN_AGAIN)
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise Damaged(f"{path} is missing" + TRAIN_AGAIN) from error
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror})") from error
    try:
        _check_sum(path, content)
        return parse(content)
    except MemoryError:
        raise
    except Exception as error:  # parsers raise whatever they like when they read what isn't theirs
        reason = str(error).splitlines()[0].split(". ")[0] if str(error) else type(error).__name__
        what = f"{path} is damaged, or not of this program ({reason[:100]})"
        raise Damaged(what + TRAIN_AGAIN) from error


def _check_sum(path: Path, content: bytes) -> None:
    """Raise if the folder has checksums and this file's isn't among them or another."""
    sums = path.parent / CHECKSUMS
    if path.name not in SUMMED or not sums.is_file():
        return
    if sum_line(path.name, content) not in sums.read_text(errors="replace").splitlines():
        raise ValueError(f"not as {CHECKSUMS} has it")


def sum_line(name: str, content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()}  {name}"


def require(values: Any, keys: list[str]) -> None:
    if not isinstance(values, dict):
        raise ValueError("not a mapping")
    missing = [key for key in keys if key not in values]
    if missing:
        raise ValueError(f"no {', '.join(missing)}")
