"""What each dialect does to its centers, all on the same features: where they go, and how fast."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from center_loss.base.errors import UserError
from center_loss.dialects import build
from center_loss.figures import Options, choose, style
from center_loss.runs.contents import load_features
from center_loss.runs.load import Run

BATCH, STEPS = 128, 120
ABSENT, FROM, TO = 5, 60, 90  # no batch of these steps holds this digit
# title, the loss's arguments and line; mxnet_center_loss moves its centers as the paper does
SHOWN: dict[str, tuple[str, dict[str, float], dict[str, Any]]] = {
    "paper": ("paper, mxnet_center_loss (α = {alpha})", {"alpha": 0.5}, {"color": "#0072b2"}),
    "caffe_face": (
        "caffe_face (lr {lr}, momentum {momentum})",
        {"lr": 0.01, "momentum": 0.9},
        {"color": "#cc3311"},
    ),
    "ijcv": ("ijcv (lr {lr})", {"lr": 0.01}, {"color": "#009e73"}),
    "pytorch_center_loss": (
        "pytorch_center_loss (α = {alpha})",
        {"alpha": 0.5},
        {"color": "#111111", "linestyle": (0, (4, 2))},
    ),
}


def in_all(runs: list[Run]) -> bool:
    return False  # it is about the losses, not the runs


def files(runs: list[Run], options: Options, say: Callable[[str], None]) -> dict[str, Figure]:
    chosen = choose.softmax_alone(runs, "dialects")
    say(f"dialects is drawn on the features of {chosen.folder}")
    return {"dialects": draw(chosen, options.palette)}


def draw(softmax: Run, palette: str) -> Figure:
    """The centers of each dialect over the first steps on a run's training features.

    The features stay as they are, so that the centers' start and steps are all that differs.
    """
    arrays = load_features(softmax.folder)
    features, labels = arrays["train_features"], arrays["train_labels"]
    digits = np.arange(len(style.DIGITS))
    missing = np.setdiff1d(digits, labels)
    if missing.size:
        raise UserError(f"{softmax.folder} has no training image of the digit {missing[0]}")
    means = np.stack([features[labels == digit].mean(0) for digit in digits])
    paths = {name: path(name, features, labels) for name in SHOWN}

    layout = ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.06)
    figure = style.figure_of([softmax.metrics], figsize=(12.4, 6.6), layout=layout)
    axes = figure.subplot_mosaic(
        [[*SHOWN], ["distance", "distance", "absent", "absent"]], height_ratios=[1.15, 1]
    )
    for name, (title, arguments, _) in SHOWN.items():
        ax = axes[name]
        style.draw_features(ax, features, labels, palette)
        ax.collections[0].set(facecolor="0.6", alpha=0.08)
        for digit in digits:
            ax.plot(*paths[name][:, digit].T, ".-", color=style.PALETTES[palette][digit],
                    markersize=4, linewidth=0.8, markeredgewidth=0)  # fmt: skip
        style.draw_centers(ax, means, turn=80)  # beside the path
        reach = 1.4 * np.abs(means).max()
        ax.set(xlim=(-reach, reach), ylim=(-reach, reach))
        ax.set_title(title.format(**arguments), fontsize=style.TEXT)

    steps = np.arange(STEPS + 1)
    for name, (title, arguments, line) in SHOWN.items():
        away = np.linalg.norm(paths[name] - means, axis=2)
        axes["distance"].plot(steps, away.mean(1), label=title.format(**arguments), **line)
        moved = np.linalg.norm(paths[name][:, ABSENT] - paths[name][FROM, ABSENT], axis=1)
        axes["absent"].plot(steps[FROM : TO + 1], moved[FROM : TO + 1], **line)
    axes["distance"].set_yscale("log")
    axes["distance"].set_ylim(top=10 * axes["distance"].get_ylim()[1])  # room for the legend
    axes["distance"].yaxis.set_major_formatter("{x:g}")
    axes["distance"].set_title("From a center to the mean of its digit (mean over the ten)",
                               fontsize=style.TEXT)  # fmt: skip
    axes["distance"].legend(fontsize=style.TEXT, frameon=False, loc="upper right", ncols=2)
    axes["absent"].set_title(f"How far c{ABSENT} goes without a {ABSENT}", fontsize=style.TEXT)
    for key in ("distance", "absent"):
        axes[key].set_xlabel("Step", fontsize=style.TEXT)
        axes[key].set_ylabel("Distance", fontsize=style.TEXT)
        style.quiet_frame(axes[key])
    figure.suptitle(
        f"Ten centers over {STEPS} batches of {BATCH} images with the same features (grey); "
        "white: the means of the digits",
        fontsize=style.TEXT + 1,
    )
    return figure


def path(name: str, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The centers (STEPS + 1, C, D) before each step and after the last."""
    torch.manual_seed(0)
    classes, dim = len(style.DIGITS), features.shape[1]
    criterion = build(name, num_classes=classes, feature_dim=dim, **SHOWN[name][1])
    rng = np.random.default_rng(0)  # the same batches for each dialect
    centers = [criterion.centers.numpy().copy()]
    for step in range(STEPS):
        allowed = np.flatnonzero((labels != ABSENT) | (step < FROM) | (step >= TO))
        batch = rng.choice(allowed, min(BATCH, len(allowed)), replace=False)
        criterion(torch.from_numpy(features[batch]), torch.from_numpy(labels[batch]).long())
        centers.append(criterion.centers.numpy().copy())
    return np.stack(centers)
