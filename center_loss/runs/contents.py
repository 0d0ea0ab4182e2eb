"""What a run's files hold: configuration, metrics, history, features and snapshots."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from center_loss.base.checks import integer, number, or_null, text
from center_loss.base.errors import UsageError
from center_loss.runs.files import (
    CONFIG,
    DIVERGED,
    FEATURES,
    HISTORY,
    METRICS,
    SNAPSHOTS,
    TRAIN_AGAIN,
    Damaged,
    read,
    require,
    write_csv,
    write_file,
    write_text,
)

if TYPE_CHECKING:
    import numpy as np

# What is read of a run's metrics by figures and tables.
_METRICS_CHECKS = {
    "recipe": text, "lam": number(0), "alpha": or_null(number(0)),
    "seed": integer(0, 2**32 - 1), "train_accuracy": number(0, 1), "test_accuracy": number(0, 1),
}  # fmt: skip
_MORE_METRICS = [
    "train_intra_inter_ratio", "test_intra_inter_ratio", "center_drift", "wall_seconds",
]  # fmt: skip


def save_config(folder: Path, config: dict[str, Any]) -> None:
    write_text(folder / CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def load_config(folder: Path) -> dict[str, Any]:
    """The configuration of a run, with defaults for the keys of its recipe that came later."""
    from center_loss.recipe import Recipe  # imports torch

    def parse(content: bytes) -> dict[str, Any]:
        config = yaml.safe_load(content)  # builds plain values alone, whatever its tags say
        require(config, ["recipe", "model", "loss", "seed"])
        try:
            given = Recipe.as_given(config).config()
        except UsageError as error:
            raise ValueError(str(error)) from None
        return config | given | {"data": config.get("data", {}) | given["data"]}

    return read(folder / CONFIG, parse)


def load_metrics(folder: Path, name: str = METRICS) -> dict[str, Any]:
    """The metrics of a finished run, or with ``DIVERGED`` of a diverged one's last checkpoint."""

    def parse(content: bytes) -> dict[str, Any]:
        metrics = json.loads(content)
        require(metrics, list(_METRICS_CHECKS))
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

    return read(folder / name, parse)


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


def save_history(folder: Path, rows: list[dict[str, float]]) -> None:
    write_csv(folder / HISTORY, rows)


def load_history(folder: Path) -> list[dict[str, float]]:
    """A dict an epoch."""

    def parse(content: bytes) -> list[dict[str, float]]:
        rows = csv.DictReader(io.StringIO(content.decode()))
        return [{key: float(value) for key, value in row.items()} for row in rows]

    return read(folder / HISTORY, parse)


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
        raise Damaged(f"{path} has features of {dim} numbers, its run of {wanted}" + TRAIN_AGAIN)
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

    return read(path, parse)


def _check(key: str, value: Any, check: Callable[[Any], Any]) -> None:
    try:
        changed = check(value) != value  # a number as text: ours are numbers
    except ValueError as error:
        raise ValueError(f"{key} must be {error}") from None
    if changed:
        raise ValueError(f"{key} must be a number")
