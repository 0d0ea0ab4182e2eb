"""The look that all figures share: colours, dots, centers, axes, files."""

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

from center_loss.runs.files import write_file
from center_loss.runs.load import has_centers

DIGITS = range(10)
PALETTES = {
    # ten strong hues on white, as the paper's figures have
    "paper": [
        "#e6192b", "#f2a900", "#35b24a", "#00b4d8", "#2346d6",
        "#d81fc4", "#8c1c13", "#8f8f00", "#0b5d3b", "#6a4c93",
    ],
    # Petroff, "Accessible Color Sequences for Data Visualization", 2021, the sequence of ten, with
    # a near-black for its second grey, since dots as small as these don't tell two greys apart
    "colorblind": [
        "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
        "#a96b59", "#e76300", "#b9ac70", "#1f1f24", "#92dadd",
    ],
}  # fmt: skip
PALETTES_ON_DARK = {  # the same hues, light enough for a dark background
    "paper": [
        "#ff5a5f", "#f2a900", "#4cc763", "#29c5e6", "#6f8cff",
        "#f062df", "#b8604c", "#b9b82a", "#1f9c6b", "#a583d6",
    ],
    "colorblind": [
        "#3f90da", "#ffa90e", "#e0401f", "#94a4a2", "#b46be0",
        "#b98371", "#f07a2a", "#b9ac70", "#f4f4f6", "#92dadd",
    ],
}  # fmt: skip
PANEL = 3.5  # inches: the width of the panels that the dots' size is made for
AXES_LABELS = ["Activation of the 1st neuron", "Activation of the 2nd neuron"]
SPLITS = {"train": "training set", "test": "test set"}
TEXT, SMALL, TINY = 9, 7.5, 6  # points
SLIDE_TITLE, SLIDE_TEXT = 17, 13  # points, on figures of ten inches that are shown on a wall
SLIDE_HALO = [withStroke(linewidth=3, foreground="white")]
ORIGIN = (  # what a file says of a run in it
    "recipe", "loss", "lam", "alpha", "seed", "precision", "steps", "diverged_at", "device",
    "hardware", "versions", "data_md5",
)  # fmt: skip
DPI = 300  # what journals ask of pictures; a column is about 1,000 pixels wide then
WIDTHS = {"column": 3.5, "page": 7.16}  # inches, of a paper with two columns


def on_light_and_dark(palette: str) -> dict[str, list[str]]:
    """The digits' colours, as the pages have them."""
    return {"light": PALETTES[palette], "dark": PALETTES_ON_DARK[palette]}


def draw_features(ax: Axes, features: np.ndarray, labels: np.ndarray, palette: str) -> None:
    """Draw a dot for each feature (N, 2) in the colour of its label (N,), on equal, square axes.

    The more dots, the smaller and fainter they are, so that among 60,000 the dense parts stand out
    and single ones are still seen. They are drawn in a random order, so that no digit hides
    another where two overlap, and as pixels also in a PDF, which 60,000 vector dots would make
    unusable.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    colors = np.array(PALETTES[palette])[labels[order]]
    place = ax.get_subplotspec()  # None of axes that aren't in a grid
    panel = ax.figure.figure.get_figwidth() / (place.get_gridspec().ncols if place else 1)
    x, y = features[order].T
    ax.scatter(
        x,
        y,
        s=np.clip(20_000 / len(labels), 0.8, 5) * np.clip(panel / PANEL, 0.5, 1.5),
        c=colors,
        alpha=np.clip(0.3 * (60_000 / len(labels)) ** 0.4, 0.3, 0.8),
        linewidths=0,
        rasterized=True,
    )
    set_limits(ax, features)
    ax.set_aspect("equal")
    quiet_frame(ax)


def set_limits(ax: Axes, points: np.ndarray, margin: float = 0.04) -> None:
    """Square limits around all points (N, 2), with a margin of this share of their extent."""
    low, high = points.min(0), points.max(0)
    least = 1e-5 * max(np.abs(low).max(), np.abs(high).max(), 0.1)  # of a single point
    half = (0.5 + margin) * max((high - low).max(), least)
    x, y = (low + high) / 2
    ax.set(xlim=(x - half, x + half), ylim=(y - half, y + half))


def set_common_limits(ax: Axes, arrays: dict[str, np.ndarray], margin: float = 0.04) -> None:
    """Square limits around a run's features and centers, the same for training and test set."""
    both = [arrays[f"{split}_features"] for split in SPLITS]
    set_limits(ax, np.concatenate([*both, arrays["centers"]]), margin)


def quiet_frame(ax: Axes) -> None:
    """Small tick labels, a grey frame, and a pale grid behind what is drawn."""
    ax.grid(color="0.93", linewidth=0.5)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=SMALL, color="0.6")
    ax.spines[:].set_color("0.6")


def draw_centers(ax: Axes, centers: np.ndarray, turn: float = 0, small: bool = False) -> None:
    """Draw a white dot at each center (C, 2), its name c0 … c9 beside it, away from the others.

    ``turn`` turns the names' places round the dots, in degrees; ``small`` is for small panels.
    """
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    size = 2.6 if small else 4.5
    draw_center_dots(ax, centers, size)
    middle = centers.mean(0)
    for j, center in enumerate(centers):
        outward = (center - middle) / max(np.linalg.norm(center - middle), 1e-9)
        offset = (6.5 if small else 9) * outward @ [[cos, sin], [-sin, cos]]
        _write_beside(ax, f"c{j}", center, offset, fontsize=TINY if small else TEXT)


def draw_digits(
    ax: Axes, features: np.ndarray, labels: np.ndarray, fontsize: float = TEXT
) -> np.ndarray:
    """Write each digit at the outer end of its ray, whose features (N, 2) point away from 0.

    Returns:
        (C, 2), these ends.
    """
    ends = []
    for digit in np.unique(labels):
        own = features[labels == digit]
        mean = own.mean(0)
        outward = mean / max(np.linalg.norm(mean), 1e-9)
        end = np.quantile(own @ outward, 0.995) * outward  # single features are far out
        offset = 0.8 * fontsize * outward
        _write_beside(ax, str(digit), end, offset, weight="bold", fontsize=fontsize)
        ends.append(end)
    return np.array(ends)


def _write_beside(
    ax: Axes,
    text: str,
    point: np.ndarray,
    offset: np.ndarray,
    fontsize: float,
    **properties: Any,
) -> None:
    """Text with a white outline, centered ``offset`` points away from a point of the axes."""
    ax.annotate(
        text,
        tuple(point),
        xytext=tuple(offset),
        textcoords="offset points",
        ha="center",
        va="center",
        zorder=6,
        path_effects=[withStroke(linewidth=0.25 * fontsize, foreground="white")],
        fontsize=fontsize,
        **properties,
    )


def draw_center_dots(ax: Axes, centers: np.ndarray, size: float = 4.5) -> None:
    """Draw a white dot of ``size`` points at each center (C, 2)."""
    ax.plot(*centers.T, **_CENTER, markersize=size, markeredgewidth=0.18 * size, zorder=5)


_CENTER: dict[str, Any] = {
    "marker": "o",
    "linestyle": "none",
    "color": "white",
    "markeredgecolor": "black",
}


def center_handle() -> Line2D:
    """The centers' entry in a legend."""
    return Line2D([], [], **_CENTER, markersize=4, markeredgewidth=0.7, label="center")


def center_loss_name(metrics: dict[str, Any]) -> str:
    """A run's center loss in words; the paper's needs no name, and one without centers is none."""
    name = metrics["loss"]
    if name == "paper":
        return "center loss"
    return f"center loss of {name}" if has_centers(metrics) else f"loss {name}"


def slide_titles(joint: dict[str, Any]) -> list[tuple[str, str]]:
    """Title and what its second line begins with, of softmax alone and of the run beside it."""
    name = joint["loss"]
    lam = f"λ = {joint['lam']:g}"
    second = f"{lam}, " if name == "paper" else f"{name}, {lam}\n"
    what = "center loss" if has_centers(joint) else "another loss"
    return [("Softmax loss alone", ""), (f"Softmax + {what}", second)]


def slide_title(ax: Axes, title: str, second: str) -> Text:
    """Write a title and below it a smaller line or two, which are returned."""
    pad = 8 + 1.25 * SLIDE_TEXT * (1 + second.count("\n"))
    ax.set_title(title, fontsize=SLIDE_TITLE, weight="bold", pad=pad)
    return ax.text(0.5, 1.02, second, transform=ax.transAxes, ha="center", fontsize=SLIDE_TEXT)


def slide_legend(
    figure: Figure, palette: str, loc: Literal["center right", "outside right center"]
) -> None:
    """The digits' legend, large enough for a slide."""
    handles = legend_handles(palette)
    for handle in handles:
        handle.set_markersize(9)
    figure.legend(handles=handles, loc=loc, fontsize=SLIDE_TEXT, frameon=False,
                  handletextpad=0.1, labelspacing=0.6, borderpad=0.2)  # fmt: skip


def reach(features: np.ndarray, centers: np.ndarray) -> float:
    """How far axes around the origin go to show features (N, 2) and centers (C, 2).

    Single features are far out: two in a thousand may be outside.
    """
    most = np.quantile(np.abs(features).max(1), 0.998)
    return 1.12 * max(most, np.nanmax(np.abs(centers), initial=0), 1e-6)


def panel_name(k: int) -> str:
    """(a), (b), … and after (z) numbers."""
    return f"({chr(ord('a') + k) if k < 26 else k + 1})"


def stage(metrics: dict[str, Any]) -> str:
    """What a title adds for a run that diverged; nothing for others."""
    if "diverged_at" not in metrics:
        return ""
    return f"step {metrics['steps']:,}, diverged at {metrics['diverged_at']:,}"


def legend_handles(palette: str) -> list[Line2D]:
    """A dot for each digit in its colour."""
    return [
        Line2D([], [], marker="o", linestyle="none", markersize=5, color=color, label=str(digit))
        for digit, color in zip(DIGITS, PALETTES[palette], strict=True)
    ]


def legend_at_right(figure: Figure, palette: str, borderpad: float) -> None:
    """The digits' legend beside the axes; ``borderpad`` sets it off from the figure's top."""
    figure.legend(
        handles=legend_handles(palette),
        loc="outside right upper",
        fontsize=TEXT,
        frameon=False,
        handletextpad=0.1,
        borderpad=borderpad,
    )


def figure_of(shown: Iterable[dict[str, Any]], **options: Any) -> Figure:
    """A Matplotlib ``Figure`` that knows which runs it shows, by their metrics: see ``save``."""
    runs = [{key: one[key] for key in ORIGIN if one.get(key) is not None} for one in shown]
    return Figure(**options, label=json.dumps({"runs": runs}))


def save(figure: Figure, path: Path, *suffixes: str) -> list[Path]:
    """Write the figure to ``path`` with each suffix (".png", ".pdf"), whole or not at all.

    Which runs it shows goes into the file, as JSON: of a PNG in "Description", of a PDF in
    "Subject". It holds no path, date or name of a user: the same runs give the same bytes.
    """
    # The first layout settles the size of square axes, and with it their ticks; only a second one
    # makes room for the ticks' labels.
    figure.draw_without_rendering()
    written = []
    for suffix in suffixes:
        target = path.with_suffix(suffix)
        origin = figure.get_label() or None
        metadata = {
            ".png": {"Software": None, "Description": origin},
            ".pdf": {"CreationDate": None, "Subject": origin},
        }[suffix]
        write = partial(figure.savefig, format=suffix[1:], dpi=DPI, metadata=metadata)
        write_file(target, write)
        written.append(target)
    return written
