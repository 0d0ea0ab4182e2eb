"""What a run folder holds. This is the only code that reads or writes one.

    config.yaml     the resolved configuration
    metrics.json    final numbers; written last, so a run without it is not finished
    history.csv     a row an epoch
    features.npz    train and test features, labels, predictions; centers; the last layer's weight
    snapshots.npz   features of a fixed set of test images, and the centers, through training
    checkpoint.pt   all that resuming needs
    figure.png      the run's training and test features
    failure.txt     only after a failure: its reason, one line
    train.log       of a multirun's runs: what training printed

Every file is written under a temporary name, flushed and renamed: it is whole or absent.

NumPy and PyTorch are imported where they are needed: both programs import this file at each start.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import math
import os
import pickle
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import yaml

from center_loss.errors import UsageError, UserError, one_line

if TYPE_CHECKING:
    import numpy as np

CONFIG = "config.yaml"
METRICS = "metrics.json"
HISTORY = "history.csv"
FEATURES = "features.npz"
SNAPSHOTS = "snapshots.npz"
CHECKPOINT = "checkpoint.pt"
FIGURE = "figure.png"
FAILURE = "failure.txt"
LOG = "train.log"
# removed in this order: without a checkpoint nothing goes on from what is half removed
_RESULTS = [CHECKPOINT, METRICS, FEATURES, SNAPSHOTS, HISTORY, FIGURE]

CHECKPOINT_KEYS = [  # what `training.train` goes on from
    "step", "model", "center_loss", "optimizers", "history", "snapshots", "sums", "counted",
    "evaluated", "train_seconds", "evaluation_seconds", "seconds",
]  # fmt: skip

_CANT_BE_WRITTEN = "{} can't be written ({}): free some space or choose another folder"
_DAMAGED = "is damaged, or not of this program ({}): train this run again with force=true"

# Keys that say where or whether to run, not what is trained.
_NOT_COMPARED = ["output_dir", "force", "experiment", "device", "compile", "data.root"]


class Run(NamedTuple):
    """A finished run: its folder, configuration and metrics."""

    folder: Path
    config: dict[str, Any]
    metrics: dict[str, Any]


class Unfinished(NamedTuple):
    """A run without results, and why; of a damaged one the configuration may be unknown."""

    folder: Path
    config: dict[str, Any] | None
    status: str  # "failed", "damaged", or "unfinished": interrupted, or still training
    reason: str  # "" for an unfinished one

    def __str__(self) -> str:
        if self.status == "unfinished":
            return f"{self.folder} isn't finished (the same train.py command goes on with it)"
        return f"{self.folder} failed: {self.reason}" if self.status == "failed" else self.reason


def write_file(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Call ``write`` with a temporary file, flush it to the disk, and rename it to ``path``.

    Raises:
        UserError: the file can't be written (disk full, no permission, folder gone). What was at
            ``path`` before is still there then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(_CANT_BE_WRITTEN.format(path, error.strerror or error)) from error


def write_text(path: Path, text: str) -> None:
    write_file(path, lambda file: file.write(text.encode()))


def save_config(folder: Path, config: dict[str, Any]) -> None:
    write_text(folder / CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def load_config(folder: Path) -> dict[str, Any]:
    def parse(content: bytes) -> dict[str, Any]:
        config = yaml.safe_load(content)
        _require(config, ["recipe", "model", "loss", "seed"])
        return config

    return _load(folder / CONFIG, parse, (yaml.YAMLError, ValueError))


def load_metrics(folder: Path) -> dict[str, Any]:
    def parse(content: bytes) -> dict[str, Any]:
        metrics = json.loads(content)
        _require(metrics, ["recipe", "lam", "alpha", "seed", "train_accuracy", "test_accuracy"])
        return metrics

    return _load(folder / METRICS, parse, (ValueError, TypeError))


def save_history(folder: Path, rows: list[dict[str, float]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / HISTORY, text.getvalue())


def load_history(folder: Path) -> list[dict[str, float]]:
    """A dict an epoch."""

    def parse(content: bytes) -> list[dict[str, float]]:
        rows = csv.DictReader(io.StringIO(content.decode()))
        return [{key: float(value) for key, value in row.items()} for row in rows]

    return _load(folder / HISTORY, parse, (ValueError, TypeError))


def save_features(folder: Path, **arrays: np.ndarray) -> None:
    _save_arrays(folder / FEATURES, arrays)


def load_features(folder: Path) -> dict[str, np.ndarray]:
    """``{train,test}_{features,labels,predictions}``, ``centers`` (C, D), ``weight`` (C, D)."""
    parts = [f"{s}_{k}" for s in ("train", "test") for k in ("features", "labels", "predictions")]
    return _load_arrays(folder / FEATURES, [*parts, "centers", "weight"], _check_features)


def _check_features(arrays: dict[str, np.ndarray]) -> None:
    import numpy as np

    classes, dim = arrays["weight"].shape
    fits = arrays["centers"].shape == (classes, dim)
    for split in ("train", "test"):
        features, labels = arrays[f"{split}_features"], arrays[f"{split}_labels"]
        fits &= features.shape == (len(labels), dim) and bool(np.isfinite(features).all())
        fits &= arrays[f"{split}_predictions"].shape == labels.shape
        fits &= labels.dtype == np.uint8 and labels.max(initial=0) < classes
    if not fits:
        raise ValueError("its arrays don't fit together")


def save_snapshots(folder: Path, **arrays: np.ndarray) -> None:
    _save_arrays(folder / SNAPSHOTS, arrays)


def load_snapshots(folder: Path) -> dict[str, np.ndarray]:
    """K moments of M test images: ``steps`` (K,), ``accuracy`` (K,), ``features`` (K, M, D),
    ``centers`` (K, C, D), ``weight`` (K, C, D), ``indices`` (M,) and ``labels`` (M,)."""
    keys = ["steps", "accuracy", "features", "centers", "weight", "indices", "labels"]
    return _load_arrays(folder / SNAPSHOTS, keys)


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    import torch

    write_file(folder / CHECKPOINT, lambda file: torch.save(state, file))


def load_checkpoint(folder: Path, device: Any = "cpu") -> dict[str, Any]:
    import torch

    def parse(content: bytes) -> dict[str, Any]:
        # weights_only: a checkpoint from someone else can't run code
        state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        _require(state, CHECKPOINT_KEYS)
        return state

    errors = (RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError)
    return _load(folder / CHECKPOINT, parse, errors)


def save_failure(folder: Path, reason: str) -> None:
    write_text(folder / FAILURE, reason + "\n")


def is_finished(folder: Path) -> bool:
    return (folder / METRICS).is_file()


def failure(folder: Path) -> str | None:
    """Why the run in the folder failed; None where it didn't."""
    try:
        return one_line((folder / FAILURE).read_text())
    except OSError:
        return None


def is_finished_as(folder: Path, config: dict[str, Any]) -> bool:
    """Whether the folder holds a finished run of this configuration.

    Raises:
        UsageError: it holds a run, finished or not, of another one.
    """
    if not (folder / CONFIG).exists():
        return False
    different = differences(load_config(folder), config)
    if different:
        raise UsageError(
            f"{folder} holds a run of another configuration ({'; '.join(different[:5])}): "
            "give another output_dir (a multirun: hydra.sweep.dir), or force=true to train it anew"
        )
    return is_finished(folder)


def begin(folder: Path, config: dict[str, Any]) -> None:
    """Make the run folder with its configuration.

    With ``force`` the files of an earlier run are removed.

    Raises:
        UsageError: there are files of a run, and no configuration to say of which.
        UserError: the folder can't be written.
    """
    found = [name for name in _RESULTS if (folder / name).exists()]
    if found and not config["force"] and not (folder / CONFIG).exists():
        raise UsageError(
            f"{folder} holds {', '.join(found)} but no {CONFIG}: "
            "give another output_dir, or force=true to replace them"
        )
    if config["force"]:
        clear(folder)
    (folder / FAILURE).unlink(missing_ok=True)
    for name in [CONFIG, FAILURE, *_RESULTS]:
        for leftover in folder.glob(f".{name}.*.tmp"):  # of a process that was killed
            leftover.unlink(missing_ok=True)
    save_config(folder, config)


def clear(folder: Path) -> None:
    """Remove the files of an earlier run, but for its configuration."""
    for name in _RESULTS:
        (folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the folder if it isn't there, and keep other processes from training in it.

    Raises:
        UserError: another process trains there, or the folder can't be made.
    """
    try:
        with contextlib.suppress(FileExistsError):  # to be told below if that is a file
            folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UserError(_CANT_BE_WRITTEN.format(folder, error.strerror)) from error
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
    write_text(folder / METRICS, json.dumps(_finite(metrics), indent=2, allow_nan=False) + "\n")


def folders(folder: Path) -> list[Path]:
    """The run folders in a folder (itself or anywhere below), whatever became of their runs."""
    return sorted(path.parent for path in folder.rglob(CONFIG))


def find_runs(folder: Path) -> tuple[list[Run], list[Unfinished]]:
    """The finished runs in a folder (itself or anywhere below), and the others.

    Raises:
        UserError: the folder doesn't exist.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give the folder of the runs with runs=FOLDER")
    finished, others = [], []
    for path in folders(folder):
        config = None
        try:
            config = load_config(path)
            if is_finished(path):
                finished.append(Run(path, config, load_metrics(path)))
                continue
        except UserError as error:
            others.append(Unfinished(path, config, "damaged", str(error)))
            continue
        reason = failure(path)
        status = "unfinished" if reason is None else "failed"
        others.append(Unfinished(path, config, status, reason or ""))
    return finished, others


def compared(config: dict[str, Any]) -> dict[str, Any]:
    """The values that say what is trained, by their keys like "train.batch_size".

    Two configurations with the same ones are one run. At λ = 0 the center loss isn't computed, so
    its own keys don't count.
    """
    values = {k: v for k, v in flatten(config).items() if k not in _NOT_COMPARED}
    if values.get("loss.lam") == 0:
        values = {k: v for k, v in values.items() if not k.startswith("loss.") or k == "loss.lam"}
    return values


def identity(config: dict[str, Any], without: Iterable[str] = ()) -> tuple[tuple[str, str], ...]:
    """What two configurations have in common that are one run, but for the keys ``without``."""
    values = compared(config)
    return tuple(sorted((key, str(values[key])) for key in values.keys() - set(without)))


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What makes two configurations two runs, in phrases like "train.batch_size: 128, now 64"."""
    a, b = compared(old), compared(new)
    return [
        f"{key}: {a.get(key, 'absent')}, now {b.get(key, 'absent')}"
        for key in sorted(a.keys() | b.keys())
        if a.get(key, "absent") != b.get(key, "absent")
    ]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of a configuration by their keys like "train.batch_size"."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        inner = isinstance(value, dict)
        values |= flatten(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return values


def _require(values: Any, keys: list[str]) -> None:
    if not isinstance(values, dict):
        raise ValueError("not a mapping")
    missing = [key for key in keys if key not in values]
    if missing:
        raise ValueError(f"no {', '.join(missing)}")


def _save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    import numpy as np

    write_file(path, lambda file: np.savez(file, **arrays))


def _load_arrays(
    path: Path, keys: list[str], check: Callable[[dict[str, np.ndarray]], None] = lambda _: None
) -> dict[str, np.ndarray]:
    import numpy as np

    def parse(content: bytes) -> dict[str, np.ndarray]:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {key: file[key] for key in keys}
        check(arrays)
        return arrays

    return _load(path, parse, (ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile))


def _load(path: Path, parse: Callable[[bytes], Any], errors: tuple[type[Exception], ...]) -> Any:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: train this run again with force=true") from error
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror})") from error
    try:
        return parse(content)
    except errors as error:
        reason = str(error).splitlines()[0].split(". ")[0] if str(error) else type(error).__name__
        raise UserError(f"{path} {_DAMAGED.format(reason[:100])}") from error
