"""What a run folder holds. Nothing else reads or writes its files, but for train.log.

    config.yaml     the resolved configuration
    metrics.json    final numbers; written last, so a run without it is not finished
    history.csv     a row an epoch
    features.npz    train and test features, labels, predictions; centers; the last layer's weight
    snapshots.npz   features of a fixed set of test images, and the centers, through training
    checkpoint.pt   all that resuming needs; while training checkpoint.previous.pt, the one before
    figure.png      the run's training and test features
    SHA256SUMS      checksums of a finished run's files, as `sha256sum -c` reads them
    failure.txt     only after a failure: its reason, one line
    diverged.json   only after a divergence: the metrics of the last checkpoint
    train.log       of a multirun's runs: what training printed

Every file is written under a temporary name, flushed and renamed: it is whole or absent. What
happens to it afterwards is noticed when it is read: a checkpoint ends with its own checksum, those
of a finished run's files are in SHA256SUMS. A folder without one, put together by hand, is read as
it is.

NumPy and PyTorch are imported where they are needed: both programs import this file at each start.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import yaml

from center_loss.errors import UsageError, UserError, one_line
from center_loss.settings import ADDED, integer, number, or_null, text

if TYPE_CHECKING:
    import numpy as np

CONFIG = "config.yaml"
METRICS = "metrics.json"
HISTORY = "history.csv"
FEATURES = "features.npz"
SNAPSHOTS = "snapshots.npz"
CHECKPOINT = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"
FIGURE = "figure.png"
CHECKSUMS = "SHA256SUMS"
FAILURE = "failure.txt"
DIVERGED = "diverged.json"
LOG = "train.log"
# removed in this order: without a checkpoint nothing goes on from what is half removed
_RESULTS = [CHECKPOINT, PREVIOUS, METRICS, FEATURES, SNAPSHOTS, HISTORY, FIGURE]
_OF_THIS_START = [CHECKSUMS, FAILURE, DIVERGED]  # what an earlier start said of the run
_SUMMED = [CONFIG, HISTORY, FEATURES, SNAPSHOTS, METRICS]

CHECKPOINT_KEYS = [  # what `training.train` goes on from
    "run", "conditions", "step", "model", "center_loss", "optimizers", "history", "snapshots",
    "sums", "counted", "evaluated", "train_seconds", "evaluation_seconds", "seconds",
]  # fmt: skip
CHECKPOINT_VERSION = 2  # another one when the meaning of a key changes

# What is read of a run's configuration and metrics by figures and tables.
_CONFIG_CHECKS = {
    "recipe": text, "seed": integer(0, 2**32 - 1), "model.feature_dim": integer(1, 10**9),
    "loss.lam": number(0), "loss.alpha": or_null(number(0)),
}  # fmt: skip
_METRICS_CHECKS = {
    "recipe": text, "lam": number(0), "alpha": or_null(number(0)),
    "seed": integer(0, 2**32 - 1), "train_accuracy": number(0, 1), "test_accuracy": number(0, 1),
}  # fmt: skip
_MORE_METRICS = [
    "train_intra_inter_ratio", "test_intra_inter_ratio", "center_drift", "wall_seconds",
]  # fmt: skip

_TRAIN_AGAIN = ": remove its folder, or train this run alone with force=true"

Parsed = TypeVar("Parsed")

# Keys that say where or whether to run, not what is trained.
_NOT_COMPARED = [
    "output_dir", "force", "experiment", "device", "compile", "deterministic", "data.root"
]  # fmt: skip


class Run(NamedTuple):
    """A finished run: its folder, configuration and metrics."""

    folder: Path
    config: dict[str, Any]
    metrics: dict[str, Any]


class Damaged(UserError):
    """A file of a run isn't there, or isn't what was written."""


class CantBeWritten(UserError):
    """A disk is full or read-only, a folder gone; it ends with what to do."""


class Unfinished(NamedTuple):
    """A run without results, and why; of a damaged one the configuration may be unknown."""

    folder: Path
    config: dict[str, Any] | None
    status: Literal["failed", "damaged", "unfinished"]  # the last: interrupted, or still training
    reason: str  # "" for an unfinished one
    metrics: dict[str, Any] | None = None  # of a diverged one: those of its last checkpoint

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
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):  # the reason is what was raised before
                temporary.unlink(missing_ok=True)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            gone = f"{path} can't be written: its folder is gone, moved or removed meanwhile"
            raise UserError(gone) from error
        raise CantBeWritten(_cant_be_written(path, error)) from error


def _cant_be_written(path: Path, error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    advice = "free some space or choose another folder" if full else "choose another folder"
    return f"{path} can't be written ({error.strerror or error}): {advice}"


def make_folder(folder: Path) -> None:
    """Make it, and those above it, where it isn't there."""
    try:
        with contextlib.suppress(FileExistsError):  # a file there is told when it is written into
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CantBeWritten(_cant_be_written(folder, error)) from error


def write_text(path: Path, text: str) -> None:
    write_file(path, lambda file: file.write(text.encode()))


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a table with a row for each dict; all have the first one's keys."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def save_config(folder: Path, config: dict[str, Any]) -> None:
    write_text(folder / CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def load_config(folder: Path) -> dict[str, Any]:
    def parse(content: bytes) -> dict[str, Any]:
        config = yaml.safe_load(content)  # builds plain values alone, whatever its tags say
        _require(config, ["recipe", "model", "loss", "seed"])
        values = {"loss.alpha": None, **flatten(config)}
        for key, check in _CONFIG_CHECKS.items():
            _check(key, values.get(key), check)
        return config

    return _load(folder / CONFIG, parse)


def load_metrics(folder: Path, name: str = METRICS) -> dict[str, Any]:
    """The metrics of a finished run, or with ``DIVERGED`` of a diverged one's last checkpoint."""

    def parse(content: bytes) -> dict[str, Any]:
        metrics = json.loads(content)
        _require(metrics, list(_METRICS_CHECKS))
        for key, check in _METRICS_CHECKS.items():
            _check(key, metrics[key], check)
        for key in _MORE_METRICS:
            _check(key, metrics.get(key), or_null(number(0)))
        recall = metrics.get("test_recall") or []
        for value in recall if isinstance(recall, list) else [recall]:
            _check("test_recall", value, or_null(number(0, 1)))
        _check("loss", metrics.setdefault("loss", "paper"), text)
        for key in ("steps", "diverged_at"):
            _check(key, metrics.get(key), integer(0) if name == DIVERGED else or_null(integer(0)))
        return metrics

    return _load(folder / name, parse)


def save_history(folder: Path, rows: list[dict[str, float]]) -> None:
    write_csv(folder / HISTORY, rows)


def load_history(folder: Path) -> list[dict[str, float]]:
    """A dict an epoch."""

    def parse(content: bytes) -> list[dict[str, float]]:
        rows = csv.DictReader(io.StringIO(content.decode()))
        return [{key: float(value) for key, value in row.items()} for row in rows]

    return _load(folder / HISTORY, parse)


def save_features(folder: Path, **arrays: np.ndarray) -> None:
    _save_arrays(folder / FEATURES, arrays)


def load_features(folder: Path) -> dict[str, np.ndarray]:
    """A finished run's arrays.

    Returns:
        ``{train,test}_features`` (N, D), ``_labels`` and ``_predictions`` (N,); ``centers`` (C, D),
        which at λ = 0 are the class means, NaN for a class that isn't in the training set; the last
        layer's ``weight`` (C, D), and ``bias`` (C,) where it has one.

    Raises:
        UserError: the file is missing, damaged or of another run.
    """
    parts = [f"{s}_{k}" for s in ("train", "test") for k in ("features", "labels", "predictions")]
    arrays = _load_arrays(folder / FEATURES, [*parts, "centers", "weight"], _check_features)
    return _of_the_run(folder / FEATURES, arrays)


def _check_features(arrays: dict[str, np.ndarray]) -> None:
    import numpy as np

    classes, dim = arrays["weight"].shape
    fits = arrays["centers"].shape == (classes, dim)
    floats = ["weight", "centers", "train_features", "test_features"]
    fits &= all(arrays[key].dtype.kind == "f" for key in floats)
    fits &= bool(np.isfinite(arrays["weight"]).all())
    fits &= _is_bias(arrays.get("bias", np.zeros(classes)), (classes,))
    for split in ("train", "test"):
        features, labels = arrays[f"{split}_features"], arrays[f"{split}_labels"]
        fits &= features.shape == (len(labels), dim) and bool(np.isfinite(features).all())
        fits &= len(labels) > 0
        fits &= arrays[f"{split}_predictions"].shape == labels.shape
        fits &= labels.dtype == np.uint8 and labels.max(initial=0) < classes
    # with softmax alone they are the class means, which absent classes have none of
    fits = fits and bool(np.isfinite(arrays["centers"][np.unique(arrays["train_labels"])]).all())
    if not fits:
        raise ValueError("its arrays don't fit together")


def _is_bias(bias: np.ndarray, shape: tuple[int, ...]) -> bool:
    import numpy as np

    return bias.shape == shape and bias.dtype.kind == "f" and bool(np.isfinite(bias).all())


def save_snapshots(folder: Path, **arrays: np.ndarray) -> None:
    _save_arrays(folder / SNAPSHOTS, arrays)


def load_snapshots(folder: Path) -> dict[str, np.ndarray]:
    """K moments of M test images: ``steps`` (K,), ``accuracy`` (K,), ``features`` (K, M, D),
    ``centers`` (K, C, D), ``weight`` (K, C, D), ``indices`` (M,) and ``labels`` (M,), and ``bias``
    (K, C) where the last layer has one."""
    keys = ["steps", "accuracy", "features", "centers", "weight", "indices", "labels"]
    return _of_the_run(folder / SNAPSHOTS, _load_arrays(folder / SNAPSHOTS, keys, _check_snapshots))


def _of_the_run(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not (path.parent / CONFIG).exists():
        return arrays
    dim, wanted = arrays["weight"].shape[-1], load_config(path.parent)["model"]["feature_dim"]
    if dim != wanted:
        raise Damaged(f"{path} has features of {dim} numbers, its run of {wanted}" + _TRAIN_AGAIN)
    return arrays


def has_snapshots(folder: Path) -> bool:
    """Whether any were taken, readable or not."""
    return (folder / SNAPSHOTS).exists()


def _check_snapshots(arrays: dict[str, np.ndarray]) -> None:
    import numpy as np

    features, labels, steps = (arrays[key] for key in ("features", "labels", "steps"))
    moments, classes, dim = arrays["weight"].shape
    fits = moments > 0 and features.shape == (moments, len(labels), dim) and len(labels) > 0
    fits = fits and arrays["centers"].shape == (moments, classes, dim)
    fits = fits and arrays["accuracy"].shape == steps.shape == (moments,)
    fits = fits and bool((np.diff(steps) > 0).all()) and bool(steps[0] >= 0)
    fits = fits and arrays["indices"].shape == labels.shape and arrays["indices"].dtype.kind in "iu"
    fits = fits and labels.dtype == np.uint8 and labels.max(initial=0) < classes
    floats = ("features", "weight", "centers", "accuracy")
    fits = fits and all(arrays[key].dtype.kind == "f" for key in floats)
    fits = fits and all(np.isfinite(arrays[key]).all() for key in ("features", "weight"))
    fits = fits and not np.isinf(arrays["centers"]).any()  # class means are NaN for absent classes
    fits = fits and bool(((arrays["accuracy"] >= 0) & (arrays["accuracy"] <= 1)).all())
    fits = fits and bool(((arrays["indices"] >= 0) & (arrays["indices"] < 10_000)).all())
    fits = fits and _is_bias(arrays.get("bias", np.zeros((moments, classes))), (moments, classes))
    if not fits:
        raise ValueError("its arrays don't fit together")


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write ``checkpoint.pt``, and keep the one that was there as ``checkpoint.previous.pt``."""
    import torch

    buffer = io.BytesIO()  # given a file, torch.save makes a RuntimeError of a full disk
    torch.save({"version": CHECKPOINT_VERSION, **state}, buffer)
    content = _sealed(buffer.getvalue())
    path = folder / CHECKPOINT

    def write(file: IO[bytes]) -> None:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        # not before the new one is whole, and a damaged one doesn't take a good one's place
        if path.is_file() and _is_sealed(path.read_bytes()):
            os.replace(path, folder / PREVIOUS)

    write_file(path, write)


def has_checkpoint(folder: Path) -> bool:
    return any((folder / name).exists() for name in (CHECKPOINT, PREVIOUS))


def load_checkpoint(folder: Path, say: Callable[[str], None] = print) -> dict[str, Any]:
    """The state in ``checkpoint.pt``, or if that is damaged in ``checkpoint.previous.pt``.

    Tensors are on the CPU.

    Args:
        folder: the run folder.
        say: called with a line of text if it isn't the last checkpoint.

    Raises:
        UserError: none of them is whole.
    """
    problems: list[Damaged] = []
    for name in (CHECKPOINT, PREVIOUS):
        try:
            state = _load(folder / name, _parsed_checkpoint)
        except Damaged as problem:
            problems.append(problem)
            continue
        if problems:
            say(f"{str(problems[0]).removesuffix(_TRAIN_AGAIN)}: taking the one before, {name}")
        return state
    raise problems[0]


def _parsed_checkpoint(content: bytes) -> dict[str, Any]:
    import torch

    # weights_only: a checkpoint from someone else can't run code
    if not _is_sealed(content):
        raise ValueError("wrong checksum")
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    _require(state, ["version"])
    if state["version"] != CHECKPOINT_VERSION:
        raise ValueError(f"version {state['version']}, this is for {CHECKPOINT_VERSION}")
    _require(state, CHECKPOINT_KEYS)
    return state


def _sealed(archive: bytes) -> bytes:
    """A zip archive, which torch.save's files are, with its SHA-256 for a comment."""
    digest_size = 64
    archive = archive[:-2] + digest_size.to_bytes(2, "little")  # the comment's length comes last
    return archive + hashlib.sha256(archive).hexdigest().encode()


def _is_sealed(content: bytes) -> bool:
    """Whether the last 64 bytes are the checksum of what comes before."""
    return hashlib.sha256(content[:-64]).hexdigest().encode() == content[-64:]


def save_failure(folder: Path, reason: str) -> None:
    write_text(folder / FAILURE, reason + "\n")


def is_finished(folder: Path) -> bool:
    return (folder / METRICS).is_file()


def failure(folder: Path) -> str | None:
    """Why the run in the folder failed; None where it didn't."""
    path = folder / FAILURE
    return one_line(path.read_text(errors="replace")) if path.is_file() else None


def is_finished_as(folder: Path, config: dict[str, Any]) -> bool:
    """Whether the folder holds a finished run of this configuration.

    Raises:
        UsageError: it holds a run, finished or not, of another one.
        UserError: a file of the finished run is damaged, or one in SHA256SUMS is missing.
    """
    if not (folder / CONFIG).exists():
        return False
    different = differences(load_config(folder), config)
    if different:
        raise UsageError(
            f"{folder} holds a run of another configuration ({'; '.join(different[:5])}): "
            "give another output_dir (a multirun: hydra.sweep.dir), or force=true to train it anew"
        )
    if not is_finished(folder):
        return False
    sums = folder / CHECKSUMS
    listed = sums.read_text(errors="replace") if sums.is_file() else ""
    for name in _SUMMED:
        if (folder / name).exists() or f"  {name}" in listed:
            _load(folder / name, lambda content: content)  # is it there, and whole?
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
    for name in [CONFIG, *_OF_THIS_START, *_RESULTS]:
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
        raise CantBeWritten(_cant_be_written(folder, error)) from error
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
    content = _as_json(metrics)
    there = [name for name in _SUMMED if (folder / name).exists()]
    contents = {name: (folder / name).read_bytes() for name in there}
    contents[METRICS] = content.encode()  # its checksum comes before it, for it comes last
    lines = [_sum_line(name, each) for name, each in contents.items()]
    write_text(folder / CHECKSUMS, "\n".join(lines) + "\n")
    write_text(folder / METRICS, content)
    (folder / PREVIOUS).unlink(missing_ok=True)


def save_diverged(folder: Path, metrics: dict[str, Any]) -> None:
    """Write the metrics of a diverged run's last checkpoint, with the step it diverged at."""
    write_text(folder / DIVERGED, _as_json(metrics))


def _as_json(metrics: dict[str, Any]) -> str:
    text = json.dumps(_finite(metrics), indent=2, allow_nan=False) + "\n"
    # a list of numbers is a line
    return re.sub(r"\[\s+([^][]*?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)


def folders(folder: Path) -> list[Path]:
    """The run folders in a folder (itself or anywhere below), whatever became of their runs.

    Links are followed; what lies in two places is found once, where it lies without a link. A link
    to nothing, or a folder that can't be read, might be a run's.
    """
    found: list[str] = []
    seen: set[str] = set()
    links = [str(folder)]

    def unreadable(error: OSError) -> None:
        found.append(error.filename)

    while links:  # what is there without a link comes first
        for path, below, files in os.walk(links.pop(0), onerror=unreadable):
            real = os.path.realpath(path)
            if real in seen or (seen and _holds(real, folder)):
                below.clear()
                continue
            seen.add(real)
            here = [os.path.join(path, name) for name in sorted([*below, *files])]
            links += [each for each in here if os.path.islink(each) and os.path.isdir(each)]
            if os.path.join(path, CONFIG) in here:
                found.append(path)
            else:
                own = [each for each in here if not os.path.basename(each).startswith(".")]
                found += [each for each in own if _is_dangling(each)]
    return sorted(map(Path, found))


def _holds(outer: str, folder: Path) -> bool:
    """Whether a folder lies in another one, to which a link leads back from there."""
    return outer in map(str, Path(os.path.realpath(folder)).parents)


def _is_dangling(path: str | Path) -> bool:
    return os.path.islink(path) and not os.path.exists(path)


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
            if _is_dangling(path):
                raise Damaged(f"{path} is a link to {os.readlink(path)}, which isn't there")
            config = load_config(path)
            if is_finished(path):
                finished.append(Run(path, config, load_metrics(path)))
                continue
        except UserError as error:
            others.append(Unfinished(path, config, "damaged", str(error)))
            continue
        reason = failure(path)
        metrics = None
        if (path / DIVERGED).exists():
            with contextlib.suppress(UserError):  # what was to be left out is left out
                metrics = load_metrics(path, DIVERGED)
        status: Literal["unfinished", "failed"] = "unfinished" if reason is None else "failed"
        others.append(Unfinished(path, config, status, reason or "", metrics))
    return finished, others


def compared(config: dict[str, Any]) -> dict[str, Any]:
    """The values that say what is trained, by their keys like "train.batch_size".

    Two configurations with the same ones are one run. At λ = 0 the center loss isn't computed, so
    its own keys don't count. A key that came later has its default in an older configuration.
    """
    values = {k: v for k, v in (ADDED | flatten(config)).items() if k not in _NOT_COMPARED}
    if values.get("loss.lam") == 0:
        values = {k: v for k, v in values.items() if not k.startswith("loss.") or k == "loss.lam"}
    return values


def identity(config: dict[str, Any], without: Iterable[str] = ()) -> tuple[tuple[str, str], ...]:
    """What two configurations have in common that are one run, but for the keys ``without``."""
    values = compared(config)
    return tuple(sorted((key, str(values[key])) for key in values.keys() - set(without)))


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What makes two configurations two runs, in phrases like "train.batch_size: 128, now 64"."""
    return changes(compared(old), compared(new))


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The keys that have another value, or that one of both lacks, in phrases as above."""
    return [
        f"{key}: {old.get(key, 'absent')}, now {new.get(key, 'absent')}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, "absent") != new.get(key, "absent")
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

    # no array is called allow_pickle, savez's one option
    write_file(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def _load_arrays(
    path: Path, keys: list[str], check: Callable[[dict[str, np.ndarray]], None]
) -> dict[str, np.ndarray]:
    import numpy as np

    def parse(content: bytes) -> dict[str, np.ndarray]:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {key: file[key] for key in [*keys, *({"bias"} & set(file.files))]}
        check(arrays)
        return arrays

    return _load(path, parse)


def _check(key: str, value: Any, check: Callable[[Any], Any]) -> None:
    try:
        changed = check(value) != value  # a number as text: ours are numbers
    except ValueError as error:
        raise ValueError(f"{key} must be {error}") from None
    if changed:
        raise ValueError(f"{key} must be a number")


def _load(path: Path, parse: Callable[[bytes], Parsed]) -> Parsed:
    try:
        if path.exists() and not path.is_file():  # a pipe could be read for ever
            raise Damaged(f"{path} isn't a file" + _TRAIN_AGAIN)
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise Damaged(f"{path} is missing" + _TRAIN_AGAIN) from error
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
        raise Damaged(what + _TRAIN_AGAIN) from error


def _check_sum(path: Path, content: bytes) -> None:
    """Raise if the folder has checksums and this file's isn't among them or another."""
    sums = path.parent / CHECKSUMS
    if path.name not in _SUMMED or not sums.is_file():
        return
    if _sum_line(path.name, content) not in sums.read_text(errors="replace").splitlines():
        raise ValueError(f"not as {CHECKSUMS} has it")


def _sum_line(name: str, content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()}  {name}"
