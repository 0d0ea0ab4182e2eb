"""One HTML file to play with the test features of up to five runs, offline, in any browser.

``web/page.js`` draws it on a plain canvas; docs/figures.md says why with no library.
"""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from center_loss.base.errors import UserError
from center_loss.data import DATASETS
from center_loss.figures import Options, captions, choose, style, web, weights
from center_loss.runs.contents import has_snapshots, load_features, load_snapshots
from center_loss.runs.files import FEATURES
from center_loss.runs.load import Run

RUNS = 5  # at most
PAGE_BYTES = 12_000_000  # at most
COLUMNS = 100  # digits in a row of the picture that holds them all
STYLES = ["common", "page"]
SCRIPTS = [
    *["basics", "colours", "words", "keys", "plane", "worker"],
    *["runs", "network", "prepare", "pad", "drawing", "small", "panel", "page"],
]


def in_all(runs: list[Run]) -> bool:
    return True


def files(runs: list[Run], options: Options, say: Callable[[str], None]) -> dict[str, str]:
    drawable = choose.with_2d_features(runs)
    if not drawable:
        raise UserError("page needs runs with 2-D features, there is none")
    chosen, first = choose.for_page(drawable, RUNS)
    left_out = [one for one in drawable if one not in chosen]
    if left_out:
        say(f"page holds {RUNS} runs; draw {choose.names(left_out)} with runs=FOLDER")
    roots = [one.config["data"].get("root") for one in chosen]
    there = [
        root for root in roots if isinstance(root, str) and (Path(root) / "MNIST/raw").is_dir()
    ]
    root = options.mnist or (there[0] if there else "data")
    test = DATASETS[chosen[0].recipe.data.name](root, train_size=1, say=say)
    images, labels = test.test_images.numpy(), test.test_labels.numpy().astype("uint8")
    return {"page.html": build(chosen, images, labels, options.palette, first, say)}


def build(
    runs: list[Run],
    test_images: np.ndarray,
    test_labels: np.ndarray,
    palette: str,
    first: int,
    say: Callable[[str], None],
) -> str:
    """The page.

    Args:
        runs: at most ``RUNS``, with 2-D features.
        test_images: (N, 28, 28) uint8, at least as many as a run has test features.
        test_labels: (N,) uint8.
        palette: a key of ``style.PALETTES``.
        first: which run is shown first.
        say: called with a line of text if the page would be too large with all snapshots.

    Raises:
        UserError: a run's labels aren't those of MNIST's test set, or its files don't fit together.
    """
    loaded = [_load(one, test_labels) for one in runs]
    names = run_names(runs)
    networks = [
        weights.packed(one, test_images, arrays["test_features"])
        for one, (arrays, _) in zip(runs, loaded, strict=True)
    ]
    most = max(len(arrays["test_labels"]) for arrays, _ in loaded)
    sheet = _sheet(test_images[:most])
    keep = 1
    while True:
        described = [
            {**_describe(one, name, arrays, _thinned(snapshots, keep)), "network": network}
            for one, name, (arrays, snapshots), network in zip(
                runs, names, loaded, networks, strict=True
            )
        ]
        page = _fill(described, sheet, test_labels[:most], palette, first)
        few = all(len(each["snapshots"]) <= 2 for each in described)
        if few or len(page.encode()) <= PAGE_BYTES:
            break
        keep *= 2
    if keep > 1:
        say(f"page: it would be too large with all snapshots; one in {keep} of them is in it")
    return page


def run_names(runs: list[Run]) -> list[str]:
    """What a run is called in the page: λ, and what else tells it from the others."""
    _, joint = choose.by_loss(runs)

    def differ(key: str, among: list[Run]) -> bool:
        return len({one.metrics.get(key) for one in among}) > 1

    def name(one: Run) -> str:
        metrics = one.metrics
        parts = [f"λ = {metrics['lam']:g}"] if one in joint else ["softmax"]
        if one in joint and differ("alpha", joint) and metrics["alpha"] is not None:
            parts.append(f"α = {metrics['alpha']:g}")
        if one in joint and differ("loss", joint):
            parts.append(f"loss {metrics['loss']}")
        parts += [f"recipe {metrics['recipe']}"] if differ("recipe", runs) else []
        parts += [f"seed {metrics['seed']}"] if differ("seed", runs) else []
        return ", ".join(parts)

    names = [name(one) for one in runs]
    return [
        text if names.count(text) == 1 else f"{text}, {'/'.join(one.folder.parts[-2:])}"
        for text, one in zip(names, runs, strict=True)
    ]


def _load(
    one: Run, test_labels: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray] | None]:
    arrays = load_features(one.folder)
    labels = arrays["test_labels"]
    if len(labels) > len(test_labels) or (labels != test_labels[: len(labels)]).any():
        raise UserError(f"{one.folder} has other test labels than MNIST")
    logits = arrays["test_features"] @ arrays["weight"].T + arrays.get("bias", 0)
    if (logits.argmax(1) != arrays["test_predictions"]).mean() > 0.01:
        raise UserError(
            f"{one.folder}/{FEATURES} lacks the last layer's bias, or isn't of one network: "
            "train this run anew with force=true"
        )
    snapshots = load_snapshots(one.folder) if has_snapshots(one.folder) else None
    return arrays, snapshots


def _thinned(snapshots: dict[str, np.ndarray] | None, keep: int) -> dict[str, np.ndarray] | None:
    """Every ``keep``-th snapshot, counted from the last, and the first."""
    if snapshots is None or keep == 1:
        return snapshots
    count = len(snapshots["steps"])
    kept = sorted({0, *range(count - 1, -1, -keep)})
    fixed = ("indices", "labels")
    return {key: each if key in fixed else each[kept] for key, each in snapshots.items()}


def _describe(
    one: Run,
    name: str,
    arrays: dict[str, np.ndarray],
    snapshots: dict[str, np.ndarray] | None,
) -> dict[str, Any]:
    """A run as web/runs.js reads it; features still as arrays, relative to the reach."""
    features, labels, centers = (arrays[k] for k in ("test_features", "test_labels", "centers"))
    reach = style.reach(features, centers)
    last_step = one.metrics.get("steps")
    end = _moment(arrays, reach, last_step or 0, one.metrics["test_accuracy"])
    moments, indices = [], np.array([], int)
    if snapshots is not None:
        indices = snapshots["indices"]
        for k, step in enumerate(snapshots["steps"].tolist()):
            at = {key: snapshots[key][k] for key in snapshots if key not in ("indices", "labels")}
            own = style.reach(at["features"], at["centers"])
            if step == last_step:
                own = reach  # it is the finished run's picture, of fewer images
            moment = _moment(at, own, step, float(at["accuracy"]))
            moments.append({**moment, "features": at["features"] / own})
        if last_step is not None and moments[-1]["step"] != last_step:  # of one that diverged
            moments.append({**end, "features": features[indices] / reach})
    # at λ = 0 a digit without images has no mean
    present = np.isin(np.arange(len(centers)), labels) & np.isfinite(centers).all(1)
    return {
        "name": name,
        "caption": {"en": captions.run_numbers(one), "zh": captions.run_numbers_zh(one)},
        "hasCenters": one.has_centers,
        "present": present.tolist(),
        "predictions": web.as_base64(arrays["test_predictions"].astype(np.uint8)),
        "indices": web.as_base64(indices.astype("<u2")),
        "features": features / reach,
        "end": end,
        "snapshots": moments,
    }


def _moment(arrays: dict[str, np.ndarray], reach: float, step: int, accuracy: float) -> dict:
    bias = arrays.get("bias")
    return {
        "step": step,
        "accuracy": round(accuracy, 5),
        "reach": _rounded(reach),
        "centers": _rounded(np.nan_to_num(arrays["centers"])),
        "weight": _rounded(arrays["weight"]),
        "bias": None if bias is None else _rounded(bias),
    }


def _fill(
    described: list[dict[str, Any]],
    sheet: bytes,
    labels: np.ndarray,
    palette: str,
    first: int,
) -> str:
    relative = [each["features"] for each in described]
    relative += [moment["features"] for each in described for moment in each["snapshots"]]
    limit = max(float(np.abs(each).max()) for each in relative)

    def packed(features: np.ndarray) -> str:
        return web.as_base64(np.round(features * (32767 / limit)).astype("<i2"))

    data = {
        "limit": limit,
        "first": first,
        "columns": COLUMNS,
        "colors": style.on_light_and_dark(palette),
        "labels": web.as_base64(labels.astype(np.uint8)),
        "images": "data:image/png;base64," + base64.b64encode(sheet).decode(),
        "runs": [
            {
                **each,
                "features": packed(each["features"]),
                "snapshots": [
                    {**moment, "features": packed(moment["features"])}
                    for moment in each["snapshots"]
                ],
            }
            for each in described
        ],
    }
    return web.put_together("page", STYLES, SCRIPTS, data)


def _sheet(images: np.ndarray) -> bytes:
    """All images (N, 28, 28) in one PNG, ``COLUMNS`` in a row."""
    rows = -(-len(images) // COLUMNS)
    padded = np.zeros((rows * COLUMNS, 28, 28), np.uint8)
    padded[: len(images)] = images
    sheet = padded.reshape(rows, COLUMNS, 28, 28).swapaxes(1, 2).reshape(rows * 28, COLUMNS * 28)
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "PNG", optimize=True)
    return file.getvalue()


def _rounded(values: Any) -> Any:
    """As JSON has it, with six digits."""
    if isinstance(values, np.ndarray):
        return [_rounded(each) for each in values.tolist()]
    if isinstance(values, list):
        return [_rounded(each) for each in values]
    return float(f"{values:.6g}")
