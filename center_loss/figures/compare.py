"""Softmax alone beside softmax + center loss, with the two distances that tell them apart."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke

from center_loss.figures import style
from center_loss.run import Run, load_features

SIZE = (10, 5.55)  # inches; large text on it, for a slide
TITLE, TEXT = 17, 13  # points
HALO = [withStroke(linewidth=3, foreground="white")]


def draw(softmax: Run, joint: Run, palette: str) -> Figure:
    """The test features of both runs, with intra- and inter-class distances drawn in.

    A circle around each class's mean has the mean distance of its features as radius. The lines
    are the two distances of ``metrics.compactness``; the bars below show them with inter as 1,
    since the two panels differ in scale.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06, hspace=0, wspace=0.02)
    axes = figure.subplots(2, 2, height_ratios=[1, 0.11])
    titles = ["Softmax loss alone", f"Softmax + {style.center_loss_name(joint.metrics)}"]
    titles[1] += f", λ = {joint.metrics['lam']:g}"
    for one, title, (ax, bar) in zip([softmax, joint], titles, axes.T, strict=True):
        arrays = load_features(one.folder)
        features, labels = arrays["test_features"], arrays["test_labels"]
        style.draw_features(ax, features, labels, palette)
        ax.tick_params(labelsize=style.TEXT)
        ax.set_title(title, fontsize=TITLE, weight="bold", pad=24)
        stage = style.stage(one.metrics)
        ax.text(0.5, 1.02, stage or f"test accuracy {one.metrics['test_accuracy']:.2%}",
                transform=ax.transAxes, ha="center", va="bottom", fontsize=TEXT)  # fmt: skip
        intra, inter = _draw_distances(ax, features, labels)
        _draw_bars(bar, intra, inter)
    handles = style.legend_handles(palette)
    for handle in handles:
        handle.set_markersize(9)
    figure.legend(handles=handles, loc="outside right center", fontsize=TEXT, frameon=False,
                  handletextpad=0.1, labelspacing=0.6)  # fmt: skip
    return figure


def _draw_distances(ax: Axes, features: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Draw the circles and both arrows; returns intra and inter."""
    features = features.astype(float)
    classes = np.unique(labels)
    means = np.stack([features[labels == digit].mean(0) for digit in classes])
    away = np.linalg.norm(features - means[np.searchsorted(classes, labels)], axis=1)
    radii = np.array([away[labels == digit].mean() for digit in classes])
    intra = away.mean()
    between = np.linalg.norm(means[:, None] - means[None], axis=2)
    between[np.diag_indices(len(classes))] = np.inf
    i, j = np.unravel_index(between.argmin(), between.shape)
    inter = between[i, j]

    for mean, radius in zip(means, radii, strict=True):
        ax.add_patch(Circle(mean, radius, fill=False, edgecolor="black", linewidth=1.2,
                            linestyle=(0, (3, 2)), path_effects=HALO, zorder=4))  # fmt: skip
    # intra is drawn on the class whose own mean distance is next to it
    others = [k for k in range(len(classes)) if k not in (i, j)]
    k = min(others or range(len(classes)), key=lambda k: abs(radii[k] - intra))
    along = np.array([-means[k][1], means[k][0]]) / max(np.linalg.norm(means[k]), 1e-9)
    _line(ax, "intra", means[k], means[k] + intra * along, "-")  # a head might be longer
    _line(ax, "inter", means[i], means[j], "<->")
    return intra, inter


def _line(ax: Axes, name: str, start: np.ndarray, end: np.ndarray, heads: str) -> None:
    ax.annotate(
        "", end, start,
        arrowprops={"arrowstyle": heads, "linewidth": 2, "shrinkA": 0, "shrinkB": 0,
                    "mutation_scale": 13, "path_effects": HALO},
        zorder=7,
    )  # fmt: skip
    at = end if name == "intra" else (start + end) / 2
    outward = at - start if name == "intra" else at  # at its end, or outside of the circle of means
    x, y = outward / max(np.linalg.norm(outward), 1e-9)
    ax.annotate(
        name, at, xytext=(9 * x, 13 * y), textcoords="offset points",
        ha="center" if abs(x) < 0.4 else "left" if x > 0 else "right", va="center",
        fontsize=TEXT, weight="bold", path_effects=HALO, zorder=8,
    )  # fmt: skip


def _draw_bars(ax: Axes, intra: float, inter: float) -> None:
    """Both distances to one scale, inter as 1."""
    ratio = intra / inter if inter else float("inf")
    lengths = [1.0, ratio if np.isfinite(ratio) else 0.0]
    ax.barh(["inter", "intra"], lengths, color=["0.75", "black"], height=0.72)
    ax.set_xlim(0, max(1.0, lengths[1]) * 1.28)
    ax.tick_params(axis="y", labelsize=TEXT, length=0)
    ax.set_xticks([])
    ax.spines[:].set_visible(False)
    ax.invert_yaxis()
    ax.text(lengths[0] + 0.02, 0, f"{inter:,.4g}", va="center", fontsize=TEXT)
    ax.text(lengths[1] + 0.02, 1, f"{intra:,.4g}, intra/inter {ratio:.3f}", va="center",
            fontsize=TEXT)  # fmt: skip
