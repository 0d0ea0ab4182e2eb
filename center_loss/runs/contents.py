"""What a run's files hold: configuration, metrics, history, features and snapshots."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from center_loss.base.checks import Check, integer, number, or_null, text
from center_loss.runs import files

if TYPE_CHECKING:
    import numpy as np

# What is read of a run's metrics by figures and tables; the others may be absent.
_METRICS = {
    "recipe": text, "lam": number(0), "alpha": or_null(number(0)),
    "seed": integer(0, 2**32 - 1), "train_accuracy": number(0, 1), "test_accuracy": number(0, 1),
}  # fmt: skip
_MORE_METRICS: dict[str, Check] = {
    "loss": text, "steps": or_null(integer(0)), "diverged_at": or_null(integer(0)),
    "train_intra_inter_ratio": or_null(number(0)), "test_intra_inter_ratio": or_null(number(0)),
    "center_drift": or_null(number(0)), "wall_seconds": or_null(number(0)),
    "test_recall": lambda values: [or_null(number(0, 1))(value) for value in values or []],
}  # fmt: skip
_DIVERGED_METRICS = {"steps": integer(0), "diverged_at": integer(0)}
# Of each array a letter a dimension, and the kinds of numbers as NumPy calls them: K moments,
# N training and M test images, C classes, D features. A classifier may have no bias.
_FEATURES = {
    "weight": ("CD", "f"), "bias": ("C", "f"), "centers": ("CD", "f"),
    "train_features": ("ND", "f"), "train_labels": ("N", "u"), "train_predictions": ("N", "iu"),
    "test_features": ("MD", "f"), "test_labels": ("M", "u"), "test_predictions": ("M", "iu"),
}  # fmt: skip
_SNAPSHOTS = {
    "weight": ("KCD", "f"), "bias": ("KC", "f"), "centers": ("KCD", "f"),
    "features": ("KMD", "f"), "labels": ("M", "u"), "indices": ("M", "iu"),
    "steps": ("K", "iu"), "accuracy": ("K", "f"),
}  # fmt: skip


def save_config(folder: Path, config: dict[str, Any]) -> None:
    content = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    files.write_text(folder / files.CONFIG, content)


def load_config(folder: Path) -> dict[str, Any]:
    """The configuration of a run, with defaults for the keys of its recipe that came later."""
    from center_loss.recipe import Recipe  # imports torch

    def parse(content: bytes) -> dict[str, Any]:
        config = yaml.safe_load(content)  # builds plain values alone, whatever its tags say
        files.require(config, ["recipe", "model", "loss", "seed"])
        given = Recipe.as_given(config).config()
        return config | given | {"data": config.get("data", {}) | given["data"]}

    return files.read(folder / files.CONFIG, parse)


def load_metrics(folder: Path, name: str = files.METRICS) -> dict[str, Any]:
    """The metrics of a finished run, or with ``DIVERGED`` of a diverged one's last checkpoint."""

    def parse(content: bytes) -> dict[str, Any]:
        metrics = json.loads(content)
        files.require(metrics, list(_METRICS))
        metrics.setdefault("loss", "paper")
        diverged = _DIVERGED_METRICS if name == files.DIVERGED else {}
        for key, check in (_METRICS | _MORE_METRICS | diverged).items():
            try:
                check(metrics.get(key))
            except ValueError as error:
                raise ValueError(f"{key} must be {error}") from None
        return metrics

    return files.read(folder / name, parse)


def as_json(metrics: dict[str, Any]) -> str:
    text = json.dumps(_finite(metrics), indent=2, allow_nan=False) + "\n"
    # a list of numbers is a line
    return re.sub(r"\[\s+([^][]*?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load_history(folder: Path) -> list[dict[str, float]]:
    """A dict an epoch."""

    def parse(content: bytes) -> list[dict[str, float]]:
        rows = csv.DictReader(io.StringIO(content.decode()))
        return [{key: float(value) for key, value in row.items()} for row in rows]

    return files.read(folder / files.HISTORY, parse)


def load_features(folder: Path) -> dict[str, np.ndarray]:
    """A finished run's arrays.

    Returns:
        ``{train,test}_features`` (N, D), ``_labels`` and ``_predictions`` (N,); ``centers`` (C, D),
        which at λ = 0 are the class means, NaN for a class that isn't in the training set; the last
        layer's ``weight`` (C, D), and ``bias`` (C,) where it has one.

    Raises:
        UserError: the file is missing, damaged or of another run.
    """
    return _load_arrays(folder, files.FEATURES, _FEATURES)


def load_snapshots(folder: Path) -> dict[str, np.ndarray]:
    """K moments of M test images: ``steps`` (K,), ``accuracy`` (K,), ``features`` (K, M, D),
    ``centers`` (K, C, D), ``weight`` (K, C, D), ``indices`` (M,) and ``labels`` (M,), and ``bias``
    (K, C) where the last layer has one."""
    return _load_arrays(folder, files.SNAPSHOTS, _SNAPSHOTS)


def has_snapshots(folder: Path) -> bool:
    """Whether any were taken, readable or not."""
    return (folder / files.SNAPSHOTS).exists()


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    import numpy as np

    # no array is called allow_pickle, savez's one option
    files.write_file(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def _load_arrays(
    folder: Path, name: str, shapes: dict[str, tuple[str, str]]
) -> dict[str, np.ndarray]:
    import numpy as np

    def parse(content: bytes) -> dict[str, np.ndarray]:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {key: file[key] for key in shapes if key != "bias" or key in file}
        sizes: dict[str, int] = {}
        for key, array in arrays.items():
            if not _fits(key, array, *shapes[key], sizes):
                raise ValueError(f"its arrays don't fit together, {key} to the others")
        if "train_labels" in arrays:
            centers = arrays["centers"][np.unique(arrays["train_labels"])]
            if not np.isfinite(centers).all():
                raise ValueError("its centers aren't all finite")
        return arrays

    arrays = files.read(folder / name, parse)
    if (folder / files.CONFIG).exists():
        dim, wanted = arrays["weight"].shape[-1], load_config(folder)["model"]["feature_dim"]
        if dim != wanted:
            what = f"{folder / name} has features of {dim} numbers, its run of {wanted}"
            raise files.Damaged(what + files.TRAIN_AGAIN)
    return arrays


def _fits(key: str, array: np.ndarray, shape: str, kinds: str, sizes: dict[str, int]) -> bool:
    """Whether an array is of this shape and kind, with values that can be; notes its sizes."""
    import numpy as np

    if array.dtype.kind not in kinds or array.ndim != len(shape) or not array.size:
        return False
    if any(sizes.setdefault(*each) != each[1] for each in zip(shape, array.shape, strict=True)):
        return False
    if key == "steps":
        return bool((np.diff(array) > 0).all() and array[0] >= 0)
    if key == "indices":
        return bool(array.min() >= 0 and array.max() < 10_000)
    if key == "accuracy":
        return bool(array.min() >= 0 and array.max() <= 1)  # neither is so of NaN
    if key.endswith("labels"):
        return bool(array.max() < sizes["C"])
    if key == "centers":  # class means are NaN for absent classes
        return not np.isinf(array).any()
    return kinds != "f" or bool(np.isfinite(array).all())
