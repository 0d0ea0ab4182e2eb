"""What λ and α do: a panel for each pair of them, maps of their results, and the paper's curves."""

import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from center_loss.base.errors import UserError
from center_loss.figures import Options, choose, style
from center_loss.metrics import mean_and_std
from center_loss.recipe import Recipe
from center_loss.runs.contents import load_features
from center_loss.runs.load import Run, Unfinished

PANEL, MAP_ROW = 1.46, 0.38  # inches: a panel's width, the height of a row of a map
ACCURACY, RATIO = "accuracy", "intra_inter_ratio"


def in_all(runs: list[Run]) -> bool:
    """Where both λ and α were swept."""
    try:
        return grid(choose.with_2d_features(runs), []).swept == 2
    except UserError:
        return False


def files(
    runs: list[Run], options: Options, say: Callable[[str], None]
) -> dict[str, Figure | None]:
    drawable = choose.with_2d_features(runs)
    swept = grid(drawable, options.others)
    choose.say_others(drawable, swept.runs, "sweep", say)
    if not swept.swept:
        say("left out: sweep_curves: no two of these runs differ in λ or in α")
    drawn: dict[str, Figure | None] = {}
    for split, suffix in (("test", ""), ("train", "_train")):
        drawn[f"sweep{suffix}"] = draw(swept, split, options.palette)
        if swept.swept:
            drawn[f"sweep_curves{suffix}"] = draw_curves(swept, split)
        else:
            drawn |= {f"sweep_curves{suffix}{file}": None for file in (".png", ".pdf")}
    return drawn


class Grid(NamedTuple):
    """Runs that differ in λ, α and seed alone. α is None where the loss has none."""

    lams: list[float]  # ascending, without 0
    alphas: list[float | None]
    cells: dict[tuple[float, float | None], list[Run]]  # by λ and α: one run a seed, ascending
    softmax: list[Run]  # λ = 0, one a seed
    holes: dict[tuple[float, float | None], str]  # why a cell has no run

    @property
    def runs(self) -> list[Run]:
        return [*self.softmax, *(one for cell in self.cells.values() for one in cell)]

    @property
    def swept(self) -> int:
        """How many of λ and α were swept."""
        return (len(self.lams) > 1) + (len(self.alphas) > 1)


def grid(runs: Sequence[Run], others: Sequence[Unfinished]) -> Grid:
    """The largest set of runs that differ in λ, α and seed alone, and what is missing in it.

    Raises:
        UserError: no run has λ > 0.
    """
    alone, joint = choose.by_loss(runs)
    groups: dict[tuple, list[Run]] = {}
    for one in joint:
        groups.setdefault(_kind(one.config), []).append(one)
    if not groups:
        raise UserError("sweep needs runs with λ > 0 and 2-D features, there is none")
    kind = max(groups, key=lambda each: len(groups[each]))
    cells: dict[tuple[float, float | None], list[Run]] = {}
    for one in sorted(groups[kind], key=lambda one: one.metrics["seed"]):
        cell = cells.setdefault(_place(one.config), [])
        if one.metrics["seed"] not in [other.metrics["seed"] for other in cell]:
            cell.append(one)  # else the same run lies in two folders
    softmax = {
        one.metrics["seed"]: one
        for one in alone
        if _without_loss(_kind(one.config)) == _without_loss(kind)
    }
    holes = {
        _place(one.config): one.reason or one.status
        for one in others
        if one.config and one.config["loss"]["lam"] > 0 and _kind(one.config) == kind
    }
    places = cells.keys() | holes.keys()
    lams = sorted({lam for lam, _ in places})
    alphas = sorted({alpha for _, alpha in places}, key=lambda alpha: (alpha is not None, alpha))
    for place in [(lam, alpha) for lam in lams for alpha in alphas]:
        if place in cells:
            holes.pop(place, None)  # another seed of it is there
        else:
            holes.setdefault(place, "not trained")
    return Grid(lams, alphas, cells, [softmax[seed] for seed in sorted(softmax)], holes)


def draw(swept: Grid, split: str, palette: str) -> Figure:
    """All panels, λ across and α down, over maps of accuracy and intra/inter ratio.

    Softmax alone has no α, so its panel stands beside the grid, with the legend below it.
    """
    rows = len(swept.alphas)
    beside = 2 if rows == 1 and swept.softmax else 1  # columns for softmax alone and the legend
    columns = beside + len(swept.lams)
    width, height = max(PANEL * columns + 0.35, 7.4), PANEL * rows
    map_height = MAP_ROW * rows + 0.6
    layout = ConstrainedLayoutEngine(h_pad=0.04, w_pad=0.03, hspace=0, wspace=0)
    size = (width, height + map_height + 0.95)
    figure = style.figure_of([one.metrics for one in swept.runs], figsize=size, layout=layout)
    heights = [height + 0.5, map_height + 0.45]
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=heights).flat

    axes = top.subplots(rows, columns, squeeze=False)
    for ax in axes[:, :beside].flat:
        ax.set_axis_off()
    seeds = sorted({one.metrics["seed"] for one in swept.runs})
    if swept.softmax:
        ax = axes[0, beside - 1]
        _panel(ax, swept.softmax[0], seeds[0], split, palette)
        ax.set_axis_on()
        ax.set_title("softmax alone", fontsize=style.TEXT)
    for (i, alpha), (j, lam) in (
        (row, column) for row in enumerate(swept.alphas) for column in enumerate(swept.lams)
    ):
        ax = axes[i, beside + j]
        if (lam, alpha) in swept.cells:
            _panel(ax, swept.cells[lam, alpha][0], seeds[0], split, palette)
        else:
            _hole(ax, swept.holes[lam, alpha])
        if i == 0:
            ax.set_title(f"λ = {lam:g}", fontsize=style.TEXT)
        if j == 0 and alpha is not None:
            ax.set_ylabel(f"α = {alpha:g}", fontsize=style.TEXT)
    top.suptitle(
        f"What λ and α do, {style.SPLITS[split]}"
        + (f" (panels: seed {seeds[0]}; maps: {len(seeds)} seeds)" if len(seeds) > 1 else ""),
        fontsize=style.TEXT + 1,
    )
    centers = [style.center_handle()] if any(one.has_centers for one in swept.runs) else []
    axes[min(1, rows - 1), 0].legend(
        handles=[*style.legend_handles(palette), *centers],
        loc="upper center" if rows > 1 else "center",
        ncols=2,
        fontsize=style.SMALL,
        frameon=False,
        handletextpad=0.1,
        columnspacing=0.8,
        title="digit",
        title_fontsize=style.SMALL,
    )

    top.align_ylabels(axes[:, beside])

    left, right = bottom.subplots(1, 2, gridspec_kw={"wspace": 0.06})
    _map(left, swept, f"{split}_{ACCURACY}", "Accuracy", "{:.2%}", good="high")
    _map(right, swept, f"{split}_{RATIO}", "Intra/inter ratio", "{:.3f}", good="low")
    return figure


def draw_curves(swept: Grid, split: str) -> Figure:
    """Accuracy and ratio against λ at a fixed α and against α at a fixed λ, as the paper's Fig. 5.

    What wasn't swept has no curve. Points are means over the seeds, bars their standard deviations.
    """
    what = style.center_loss_name(swept.runs[-1].metrics)
    alpha = min(swept.alphas, key=lambda each: choose.far(each, choose.ALPHA))
    lam = min(swept.lams, key=lambda each: choose.far(each, choose.LAM))
    at = "" if alpha is None else f" at α = {alpha:g}"
    lines: list[tuple[str, str, list[tuple[float, list[Run]]]]] = [
        (f"Against λ{at}", "λ", [(x, swept.cells.get((x, alpha), [])) for x in swept.lams]),
        (
            f"Against α at λ = {lam:g}",
            "α",
            [(x, swept.cells.get((lam, x), [])) for x in swept.alphas if x is not None],
        ),
    ]
    # a line has two points at least, as far as there is any that has
    lines = [line for line in lines if len(line[2]) > 1]
    lines = [line for line in lines if sum(bool(runs) for _, runs in line[2]) > 1] or lines
    layout = ConstrainedLayoutEngine(h_pad=0.06, w_pad=0.08)
    size = (7.4 if len(lines) > 1 else 4.8, 5.0)
    figure = style.figure_of([one.metrics for one in swept.runs], figsize=size, layout=layout)
    axes = figure.subplots(2, len(lines), sharex="col", sharey="row", squeeze=False)
    for column, (title, name, cells) in enumerate(lines):
        for row, (key, label) in enumerate([(ACCURACY, "Accuracy"), (RATIO, "Intra/inter ratio")]):
            ax = axes[row, column]
            _curve(ax, cells, swept.softmax, f"{split}_{key}", what)
            if cells[0][0] > 0:
                ax.set_xscale("log")
            else:  # α = 0
                ax.set_xscale("symlog", linthresh=cells[1][0])
            style.quiet_frame(ax)
            if row == 0:
                ax.set_title(title, fontsize=style.TEXT)
            else:
                ax.set_xlabel(name, fontsize=style.TEXT)
                ax.set_xticks([x for x, _ in cells], [f"{x:g}" for x, _ in cells])
                ax.xaxis.set_minor_formatter(NullFormatter())
                ax.minorticks_off()
                ax.margins(x=0.08)
            if column == 0:
                ax.set_ylabel(label, fontsize=style.TEXT)
    _accuracy_ticks(axes[0])
    _ratio_ticks(axes[1])
    figure.align_ylabels(axes[:, 0])
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=len(lines),
                  fontsize=style.TEXT, frameon=False)  # fmt: skip
    figure.suptitle(f"Softmax + {what}, {style.SPLITS[split]}", fontsize=style.TEXT + 1)
    return figure


def _panel(ax: Axes, one: Run, seed: int, split: str, palette: str) -> None:
    """A run's features; one of another seed than ``seed``, of which there was none, says so."""
    arrays = load_features(one.folder)
    features = arrays[f"{split}_features"]
    style.draw_features(ax, features, arrays[f"{split}_labels"], palette)
    if one.has_centers:
        style.draw_center_dots(ax, arrays["centers"], size=2.6)
        style.set_limits(ax, np.concatenate([features, arrays["centers"]]))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    ax.tick_params(labelsize=style.TINY, length=2, pad=1.5)
    if one.metrics["seed"] != seed:
        ax.text(0.03, 0.97, f"seed {one.metrics['seed']}", transform=ax.transAxes, va="top",
                fontsize=style.TINY)  # fmt: skip


def _hole(ax: Axes, reason: str) -> None:
    """An empty panel that says why."""
    ax.set_box_aspect(1)
    ax.set(xticks=[], yticks=[], facecolor="0.96")
    ax.spines[:].set(color="0.6", linestyle="--")
    short = textwrap.shorten(reason.split(";")[0], 90, placeholder=" …")
    ax.text(0.5, 0.5, textwrap.fill(short, 20), transform=ax.transAxes, ha="center", va="center",
            fontsize=style.TINY, color="0.3")  # fmt: skip


def _map(ax: Axes, swept: Grid, key: str, name: str, form: str, good: str) -> None:
    """A number and a colour for each λ and α, the darker the better; a hole has neither."""
    most = max(map(len, swept.cells.values()))
    values = np.full((len(swept.alphas), len(swept.lams)), np.nan)
    for i, alpha in enumerate(swept.alphas):
        for j, lam in enumerate(swept.lams):
            mean, std, count = _mean(swept.cells.get((lam, alpha), []), key)
            if mean is None:
                ax.text(j, i, "–", ha="center", va="center", fontsize=style.SMALL)
                continue
            values[i, j] = mean
            more = "" if std is None else f"\n± {form.format(std)}"
            more += f"\n{count} of {most} seeds" if count < most else ""
            ax.text(j, i, form.format(mean) + more, ha="center", va="center", gid="value",
                    fontsize=style.TINY if more else style.SMALL)  # fmt: skip
    # what is far from good differs by orders of magnitude: errors, not accuracies, on a log scale
    shown = np.clip(1 - values if good == "high" else values, 1e-5, None)
    finite = shown[np.isfinite(shown)]
    low, high = (finite.min(), finite.max()) if finite.size else (1, 1)
    norm = LogNorm(low, max(high, low * 1.001))
    ax.set_facecolor("0.96")
    ax.imshow(shown, cmap="YlGnBu_r", norm=norm, aspect="auto")
    for text in ax.texts:
        if text.get_gid() == "value":
            x, y = text.get_position()
            dark = norm(shown[int(y), int(x)]) < 0.5
            text.set_color("white" if dark else "black")
    ax.set_xticks(range(len(swept.lams)), [f"{lam:g}" for lam in swept.lams])
    ax.set_yticks(range(len(swept.alphas)), ["" if a is None else f"{a:g}" for a in swept.alphas])
    ax.set_xlabel("λ", fontsize=style.TEXT)
    if swept.alphas != [None]:
        ax.set_ylabel("α", fontsize=style.TEXT, rotation=0, labelpad=8)
    ax.tick_params(labelsize=style.SMALL, length=0)
    ax.spines[:].set_visible(False)
    alone, spread, _ = _mean(swept.softmax, key)
    beside = "" if alone is None else f" (softmax alone: {form.format(alone)}"
    beside += "" if spread is None else f" ± {form.format(spread)}"
    ax.set_title(name + (f"{beside})" if beside else ""), fontsize=style.TEXT)


def _curve(
    ax: Axes,
    cells: Sequence[tuple[float, list[Run]]],
    softmax: Sequence[Run],
    key: str,
    what: str,
) -> None:
    """A point for each cell; where one has no run the line is broken."""
    points = [(x, *_mean(runs, key)) for x, runs in cells]
    x, means, spreads, counts = zip(*points, strict=True)
    if max(counts) > 0:
        low = min(count for count in counts if count > 0)
        seeds = f"{low}" if low == max(counts) else f"{low}–{max(counts)}"
        y, error = (np.array(each, dtype=float) for each in (means, spreads))  # None: NaN
        ax.errorbar(
            x, y, error if max(counts) > 1 else None,
            fmt="o-", color="#0072b2", markersize=4, linewidth=1.2, capsize=3,
            label=f"softmax + {what}"
            + (f" (mean ± standard deviation, {seeds} seeds)" if max(counts) > 1 else ""),
        )  # fmt: skip
    mean, spread, _ = _mean(softmax, key)
    if mean is not None:
        ax.axhline(
            mean,
            color="0.35",
            linestyle=(0, (4, 2)),
            linewidth=1,
            label="softmax alone" + (" (band: the same)" if spread is not None else ""),
        )
        if spread is not None:
            ax.axhspan(mean - spread, mean + spread, color="0.5", alpha=0.15, linewidth=0)


def _accuracy_ticks(axes: Sequence[Axes]) -> None:
    """Percents; on a scale that widens towards 100 % where the errors differ much."""
    low = min(ax.dataLim.y0 for ax in axes)
    high = max(ax.dataLim.y1 for ax in axes)
    if high < 1 and 1 - low > 4 * (1 - high):
        low, high = 1 - 1.2 * (1 - low), 1 - (1 - high) / 1.2
        axes[0].set_yscale("logit")
        places = [0.1, 0.5, 0.8, 0.9, 0.95, 0.98, 0.985, 0.99, 0.9925, 0.995, 0.998, 0.999]
        axes[0].set_yticks([y for y in places if low <= y <= high])
        axes[0].set_ylim(low, high)
        for ax in axes:
            ax.minorticks_off()
    axes[0].yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.6g} %"))


def _ratio_ticks(axes: Sequence[Axes]) -> None:
    """0.1 and 0.2 instead of powers of ten, of which so short a range has one or none."""
    axes[0].set_yscale("log")
    low, high = axes[0].get_ylim()
    decades = np.log10(high / low)
    marks = (1, 2, 3, 5, 7) if decades < 1.2 else (1, 2, 5) if decades < 2 else (1,)
    places = [k * 10.0**e for e in range(-5, 5) for k in marks]
    inside = [y for y in places if low <= y <= high]
    if len(inside) < 2:
        inside = [y for y in MaxNLocator(4).tick_values(low, high) if low <= y <= high]
    axes[0].set_yticks(inside, [f"{y:g}" for y in inside])
    for ax in axes:
        ax.minorticks_off()


def _mean(runs: Sequence[Run], key: str) -> tuple[float | None, float | None, int]:
    """Mean, standard deviation (None of fewer than two) and number of the runs' metrics."""
    values = [one.metrics[key] for one in runs if one.metrics.get(key) is not None]
    return *mean_and_std(values), len(values)


def _place(config: dict[str, Any]) -> tuple[float, float | None]:
    return config["loss"]["lam"], config["loss"].get("alpha")


def _kind(config: dict[str, Any]) -> tuple:
    """What two runs must have in common to differ in λ, α and seed alone."""
    return Recipe.of(config).identity(without=["loss.lam", "loss.alpha", "seed"])


def _without_loss(kind: tuple) -> tuple:
    return tuple((key, value) for key, value in kind if not key.startswith("loss."))
