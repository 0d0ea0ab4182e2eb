"""Softmax alone beside softmax + center loss, with the two distances that tell them apart."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Circle

from center_loss.figures import Options, captions, choose, style
from center_loss.runs.contents import load_features
from center_loss.runs.load import Run

SIZE = (10, 5.55)  # inches
PANEL = 280  # points: the side of a panel, nearly
NAME = np.array([45, 16])  # points: the size of "intra" and "inter"
ALIGNED = {"left": 1, "center": 0, "right": -1}  # where a text's middle is from where it is put


def in_all(runs: list[Run]) -> bool:
    return True


def files(runs: list[Run], options: Options, say: Callable[[str], None]) -> dict[str, Figure | str]:
    pair = choose.pair(runs, options.lam, "compare")
    return {"compare": draw(*pair, options.palette), "compare.txt": caption(*pair)}


def caption(softmax: Run, joint: Run) -> str:
    return captions.text(
        f"The 2-D features of MNIST's test set that {captions.network(softmax)} learns, left with "
        f"the softmax loss alone ({captions.numbers(softmax, 'test')}), right with λ = "
        f"{joint.metrics['lam']:g} times the {captions.center_loss(joint)} added "
        f"({captions.numbers(joint, 'test')}).",
        "Circles: the mean distance of a class's features to their mean. Lines: the mean of "
        "those distances over all features (intra), and the smallest distance of two class means "
        "(inter); the bars below show both with inter as 1.",
        *captions.trainings([softmax, joint]),
    )


def draw(softmax: Run, joint: Run, palette: str) -> Figure:
    """The test features of both runs, with intra- and inter-class distances drawn in.

    A circle around each class's mean has the mean distance of its features as radius. The lines
    are the two distances of ``metrics.compactness``; the bars below show them with inter as 1,
    since the two panels differ in scale.
    """
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06, hspace=0, wspace=0.02)
    figure = style.figure_of([softmax.metrics, joint.metrics], figsize=SIZE, layout=layout)
    axes = figure.subplots(2, 2, height_ratios=[1, 0.11])
    titles = style.slide_titles(joint.metrics)
    for one, (title, second), (ax, bar) in zip([softmax, joint], titles, axes.T, strict=True):
        arrays = load_features(one.folder)
        features, labels = arrays["test_features"], arrays["test_labels"]
        style.draw_features(ax, features, labels, palette)
        names = style.draw_digits(ax, features, labels, fontsize=style.SLIDE_TEXT)
        style.set_limits(ax, features, margin=0.1)  # room for the digits
        ax.tick_params(labelsize=style.TEXT)
        second += style.stage(one.metrics) or f"test accuracy {one.metrics['test_accuracy']:.2%}"
        style.slide_title(ax, title, second)
        intra, inter = _draw_distances(ax, features, labels, names)
        _draw_bars(bar, intra, inter)
    style.slide_legend(figure, palette, "outside right center")
    return figure


def _draw_distances(
    ax: Axes, features: np.ndarray, labels: np.ndarray, names: np.ndarray
) -> tuple[float, float]:
    """Draw the circles and both lines, away from the digits' names; returns intra and inter."""
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
        circle = Circle(mean, radius, fill=False, edgecolor="black", linewidth=1.2, zorder=4)
        circle.set(linestyle=(0, (3, 2)), path_effects=style.SLIDE_HALO)
        ax.add_patch(circle)
    # intra is drawn on a class of about that size, to the side where its name has most room
    points = PANEL / np.ptp(ax.get_xlim())  # a unit of the axes
    ends = []
    for k in range(len(classes)):
        across = np.array([-means[k][1], means[k][0]]) / max(np.linalg.norm(means[k]), 1e-9)
        others = features[labels != classes[k]]
        for side in (1, -1):
            end = means[k] + side * intra * across
            (x, y), align = _name_place(side * across)
            middle = np.array([x + NAME[0] / 2 * ALIGNED[align], y])
            fits = k not in (i, j) and abs(radii[k] - intra) < 0.5 * intra
            # in its own widths or heights, from its middle: of a digit's name, and of a dot
            clear, room = (
                np.abs(((each - end) * points - middle) / NAME).max(1).min(initial=np.inf)
                for each in (names, others)
            )
            ends.append((fits, clear > 1, room, k, end))
    *_, k, end = max(ends, key=lambda each: each[:3])
    _line(ax, "intra", means[k], end, "-")  # a head might be longer
    if i != j:
        _line(ax, "inter", means[i], means[j], "<->")
    return intra, inter


def _line(ax: Axes, name: str, start: np.ndarray, end: np.ndarray, heads: str) -> None:
    ax.annotate(
        "", tuple(end), tuple(start),
        arrowprops={"arrowstyle": heads, "linewidth": 2, "shrinkA": 0, "shrinkB": 0,
                    "mutation_scale": 13, "path_effects": style.SLIDE_HALO},
        zorder=7,
    )  # fmt: skip
    at = end if name == "intra" else (start + end) / 2
    outward = at - start if name == "intra" else at  # at its end, or outside of the circle of means
    offset, align = _name_place(outward)
    ax.annotate(
        name, tuple(at), xytext=tuple(offset), textcoords="offset points", ha=align, va="center",
        fontsize=style.SLIDE_TEXT, weight="bold", path_effects=style.SLIDE_HALO, zorder=8,
    )  # fmt: skip


def _name_place(outward: np.ndarray) -> tuple[np.ndarray, str]:
    """Where a name is that stands beside a point in this direction: offset in points, alignment."""
    x, y = outward / max(np.linalg.norm(outward), 1e-9)
    return np.array([9 * x, 13 * y]), "center" if abs(x) < 0.4 else "left" if x > 0 else "right"


def _draw_bars(ax: Axes, intra: float, inter: float) -> None:
    """Both distances to one scale, inter as 1. Of a single class there is no inter."""
    if not 0 < inter < np.inf:
        ax.set_axis_off()
        return
    ratio = intra / inter
    lengths = [1.0, ratio]
    ax.barh(["inter", "intra"], lengths, color=["0.75", "black"], height=0.72)
    most = max(lengths)
    ax.set_xlim(0, 1.28 * most)
    ax.tick_params(axis="y", labelsize=style.SLIDE_TEXT, length=0)
    ax.set_xticks([])
    ax.spines[:].set_visible(False)
    ax.invert_yaxis()
    texts = [f"{inter:,.4g}", f"{intra:,.4g} = {ratio:.3f} × inter"]
    for k, (length, text) in enumerate(zip(lengths, texts, strict=True)):
        inside = length > 0.64 * most and len(text) > 10  # it takes half of the width
        ax.text(length + (-0.02 if inside else 0.02) * most, k, text, va="center",
                ha="right" if inside else "left", color="white" if inside else "black",
                fontsize=style.SLIDE_TEXT, in_layout=False)  # fmt: skip
