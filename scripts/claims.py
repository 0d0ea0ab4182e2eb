"""The paper's claims, tested with the committed runs: python -m scripts.claims [--write]

Reads outputs/reference and prints the tables of docs/results.md and of the README, or puts them
there with --write. Nothing here is trained, and no number is typed in. Most claims are statements
about each run, or about runs with the same seed, and their verdicts count these.
"""

import csv
import math
import re
import statistics
import sys
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from center_loss.runs.contents import load_history, load_metrics
from center_loss.runs.files import HISTORY, METRICS
from scripts import panels
from scripts.panels import circle
from scripts.tables import name, percent, seeds, spread, table

PROJECT = Path(__file__).parents[1]
ROOT = PROJECT / "outputs/reference"
PAGES = [
    "README.md",
    "README.zh-CN.md",
    "docs/results.md",
    "docs/speed.md",
]  # where a marker asks for a table
LAMS = [0, 0.001, 0.01, 0.1, 1]  # of experiment=figures
MARGIN = 0.0025  # of accuracy: about twice what seeds alone do, so five of them can tell it apart
# Student's t for 95 %, two-sided, by number of runs
T95 = dict(enumerate([12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262], start=2))

Metrics = dict[str, Any]
Runs = dict[float, dict[int, Metrics]]  # λ → seed → metrics.json, with history.csv as "history"


def load(folder: Path, **wanted: Any) -> Runs:
    """The runs below a folder whose metrics have the values ``wanted``, by λ and seed.

    Raises:
        SystemExit: there is none, or two are of the same λ and seed.
    """
    runs: Runs = {}
    for path in sorted(folder.rglob(METRICS)):
        metrics = load_metrics(path.parent)
        if (path.parent / HISTORY).exists():
            metrics["history"] = load_history(path.parent)
        if all(metrics[key] == value for key, value in wanted.items()):
            seeds = runs.setdefault(metrics["lam"], {})
            if metrics["seed"] in seeds:
                sys.exit(f"{path}: a second run of λ = {metrics['lam']}, seed {metrics['seed']}")
            seeds[metrics["seed"]] = metrics
    if not runs:
        sys.exit(f"no run in {folder}")
    return dict(sorted(runs.items()))


def fast() -> Runs:
    """The runs of ``recipe=fast`` at α = 0.5, and softmax alone."""
    softmax = load(ROOT / "fast_seeds", alpha=None)
    return softmax | load(ROOT / "fast_seeds", alpha=0.5)


# ---- what is measured of a run


def lowest_recall(metrics: Metrics) -> float:
    return min(metrics["test_recall"])


def worst_recall(runs: Iterable[Metrics]) -> str:
    """That of the worst digit in the worst run, in words."""
    return f"{100 * min(map(lowest_recall, runs)):.1f} %"


def ratio(metrics: Metrics, split: str = "test") -> float:
    return metrics[f"{split}_intra_inter_ratio"]


def relative_inter(metrics: Metrics) -> float:
    """Smallest distance of two class means, over the mean length of a class mean (test set)."""
    return metrics["test_inter"] / float(np.linalg.norm(metrics["test_class_means"], axis=1).mean())


def drift(metrics: Metrics) -> float:
    """Mean distance of a center to its class's mean, over the smallest distance of two means."""
    return metrics["center_drift"] / metrics["train_inter"]


def shift(metrics: Metrics) -> float:
    """Mean distance of a class's training and test mean, over the smallest distance of two."""
    train, test = (np.array(metrics[f"{split}_class_means"]) for split in ("train", "test"))
    return float(np.linalg.norm(train - test, axis=1).mean()) / metrics["test_inter"]


def on_circle(metrics: Metrics) -> bool:
    """Radii within a fifth, and gaps within a third of the 36° that ten centers have."""
    *_, radius, gap = circle(metrics["centers"])
    return radius < 0.2 and gap < 12


def epochs_to(metrics: Metrics, accuracy: float) -> float:
    """The first epoch after which the test accuracy is reached; infinite if none."""
    reached = (row["epoch"] for row in metrics["history"] if row["test_accuracy"] >= accuracy)
    return next(reached, math.inf)


# ---- the tables


def by_lam(runs: Runs) -> str:
    """Accuracy and compactness against λ."""
    rows = []
    for lam, group in runs.items():
        each = list(group.values())
        rows.append(
            [
                name(lam),
                percent(m["test_accuracy"] for m in each),
                spread(map(ratio, each)),
                worst_recall(each),
                seeds(group),
            ]
        )
    head = ["λ", "test accuracy", "test intra/inter", "lowest recall of a digit", "seeds"]
    return table(head, rows)


def geometry(runs: Runs) -> str:
    """Where the class means and centers lie, against λ."""
    rows = []
    for lam, group in runs.items():
        each = list(group.values())
        circles = [circle(m["centers"]) for m in each]
        rows.append(
            [
                name(lam),
                spread((m["test_inter"] for m in each), "{:.1f}"),
                spread(map(relative_inter, each), "{:.2f}"),
                percent((radius for *_, radius, _ in circles), "{:.0f}"),
                spread((gap for *_, gap in circles), "{:.1f}") + "°",
                percent(map(drift, each), "{:.1f}") if lam else "0 by definition",
                percent(map(shift, each), "{:.1f}"),
                spread((ratio(m, "train") / ratio(m) for m in each), "{:.2f}"),
            ]
        )
    head = [
        "λ", "inter", "inter / mean length", "radius, std", "gap between neighbours, std",
        "center off its mean", "training mean off the test mean", "intra/inter, training / test",
    ]  # fmt: skip
    return table(head, rows)


def claims(runs: Runs, paper: Runs, grid: list[dict[str, str]], mxnet: Runs) -> str:
    """Each claim with what was counted, over how many runs, and a verdict."""
    rows = [
        separable(runs), compact(runs), falls(runs), at_one(runs),
        falls_in_the_papers_training(paper), accurate(runs), lies_on_circle(runs), alike(runs),
        alpha(grid), centered(runs), converges(mxnet, 0.95), converges(mxnet, 0.97),
        half_way(runs), *distances(runs),
    ]  # fmt: skip
    return table(["claim", "measured", "in how many", "verdict"], rows)


def counted(right: Iterable[bool]) -> tuple[str, str]:
    """ "4 of 5", and the verdict: all of them, at least nine in ten, at least half, fewer."""
    right = list(right)
    share = sum(right) / len(right)
    verdict = "holds" if share == 1 else "mostly holds" if share >= 0.9 else "undecided"
    return f"{sum(right)} of {len(right)}", verdict if share >= 0.5 else "doesn't hold"


def claim(text: str, measured: str, right: Iterable[bool]) -> list[str]:
    how_many, verdict = counted(right)
    return [text, measured, how_many, f"**{verdict}**"]


def paired(runs: Runs, *lams: float) -> list[list[Metrics]]:
    """The metrics of the given λ, for each seed that has them all."""
    common = set.intersection(*(set(runs[lam]) for lam in lams))
    return [[runs[lam][seed] for lam in lams] for seed in sorted(common)]


def separable(runs: Runs) -> list[str]:
    each = list(runs[0].values())
    return claim(
        "Softmax features are separable",
        f"accuracy {percent(m['test_accuracy'] for m in each)}, "
        f"lowest recall {worst_recall(each)} (asked: 98 and 95 %)",
        [m["test_accuracy"] >= 0.98 and lowest_recall(m) >= 0.95 for m in each],
    )


def compact(runs: Runs) -> list[str]:
    each = list(runs[0].values())
    return claim(
        "… but not compact",
        f"intra/inter {spread(map(ratio, each))} (asked: above 0.5, a class's mean distance to its "
        "mean is half of the way to the next)",
        [ratio(m) > 0.5 for m in each],
    )


def falling(groups: list[list[Metrics]]) -> str:
    """The mean intra/inter of each λ, one after the other."""
    return " > ".join(
        f"{statistics.fmean(map(ratio, each)):.3f}" for each in zip(*groups, strict=True)
    )


def falls(runs: Runs) -> list[str]:
    lams = [lam for lam in LAMS if lam < 1]
    groups = paired(runs, *lams)
    return claim(
        f"Intra/inter falls with λ, at each step from 0 to {lams[-1]:g}",
        falling(groups),
        [all(ratio(a) > ratio(b) for a, b in pairwise(group)) for group in groups],
    )


def at_one(runs: Runs) -> list[str]:
    pairs = paired(runs, 0.1, 1)
    return claim(
        "… and on to λ = 1, with no digit lost",
        f"{falling(pairs)}; lowest recall at λ = 1 {worst_recall(b for _, b in pairs)} "
        "(asked: 90 %)",
        [ratio(a) > ratio(b) and lowest_recall(b) >= 0.9 for a, b in pairs],
    )


def falls_in_the_papers_training(paper: Runs) -> list[str]:
    """From each λ of ``recipe=paper`` to the next, in each seed."""
    groups = paired(paper, *paper)
    return claim(
        f"… with the paper's own training (`recipe=paper`), from 0 to {max(paper):g}",
        f"{falling(groups)}; lowest recall {worst_recall(m for group in groups for m in group)} "
        "(asked: 90 %)",
        [
            all(ratio(a) > ratio(b) and lowest_recall(b) >= 0.9 for a, b in pairwise(group))
            for group in groups
        ],
    )


def accurate(runs: Runs, lams: list[float] = LAMS[1:]) -> list[str]:
    """Whether the mean difference to softmax alone is above −MARGIN, with 95 % confidence."""
    cells, verdicts, pairs = [], [], 0
    for lam in lams:
        changes = [b["test_accuracy"] - a["test_accuracy"] for a, b in paired(runs, 0, lam)]
        low, high = interval(changes)
        verdicts.append("holds" if low > -MARGIN else "doesn't" if high < -MARGIN else "undecided")
        cells.append(f"{lam:g}: {100 * low:+.2f} … {100 * high:+.2f}".replace("-", "−"))
        pairs += len(changes)
    worst = "doesn't hold" if "doesn't" in verdicts else "undecided"
    points = f"{100 * MARGIN:g} points"
    return [
        f"The joint loss isn't less accurate than softmax alone by {points}, λ up to {lams[-1]:g}",
        f"95 % interval of the difference, points: {'; '.join(cells)}",
        f"{pairs} pairs of a seed",
        f"**{'holds' if set(verdicts) == {'holds'} else worst}**",
    ]


def interval(values: list[float]) -> tuple[float, float]:
    """95 % confidence interval of the mean, by Student's t."""
    mean = statistics.fmean(values)
    half = T95[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def joint(runs: Runs) -> list[Metrics]:
    """The runs with center loss of the seeds that have all λ, so that each λ counts alike."""
    return [m for group in paired(runs, *LAMS[1:]) for m in group]


def lies_on_circle(runs: Runs) -> list[str]:
    *_, radii, gaps = zip(*(circle(m["centers"]) for m in joint(runs)), strict=True)
    return claim(
        "The centers lie on a circle",
        f"radius varies by {percent(radii, '{:.0f}')}, the 36° between neighbours by "
        f"{spread(gaps, '{:.1f}')}° (asked: below 20 % and 12°)",
        [on_circle(m) for m in joint(runs)],
    )


def alike(runs: Runs) -> list[str]:
    each = [m for group in runs.values() for m in group.values()]
    shifts = [shift(m) for m in each]
    quotients = [ratio(m, "train") / ratio(m) for m in each]
    return claim(
        "Training and test set look alike",
        f"a digit's two means lie {percent(shifts, '{:.1f}')} of inter apart, the ratios differ "
        f"by a factor of {spread(quotients, '{:.2f}')} (asked: below 10 %, and 0.8 to 1.25)",
        [s < 0.1 and 0.8 < q < 1.25 for s, q in zip(shifts, quotients, strict=True)],
    )


def alpha(grid: list[dict[str, str]]) -> list[str]:
    """From the grid over λ and α, whose α are 0.1, 0.5 and 1 here."""
    accuracies, ratios = [], []
    for lam in LAMS[1:]:
        cells = [
            row
            for row in grid
            if float(row["loss.lam"]) == lam and float(row["loss.alpha"] or 0) >= 0.1
        ]
        values = [float(row["test_accuracy"]) for row in cells]
        accuracies.append(max(values) - min(values))
        values = [float(row["test_intra_inter_ratio"]) for row in cells]
        ratios.append(max(values) / min(values))
    return claim(
        "α hardly matters from 0.1 to 1",
        f"at each λ: accuracies within {100 * max(accuracies):.2f} points, ratios within a factor "
        f"of {max(ratios):.2f} (asked: {100 * MARGIN:g} and 1.25)",
        [a < MARGIN and r < 1.25 for a, r in zip(accuracies, ratios, strict=True)],
    )


def centered(runs: Runs) -> list[str]:
    drifts = [drift(m) for m in joint(runs)]
    return claim(
        "A center is the mean of its class's features",
        f"off by {percent(drifts, '{:.1f}')} of inter (asked: below 10 %)",
        [value < 0.1 for value in drifts],
    )


def converges(mxnet: Runs, level: float) -> list[str]:
    both = [[epochs_to(m, level) for m in pair] for pair in paired(mxnet, 0, 1)]
    return claim(
        f"Center loss helps convergence (mxnet_center_loss's README), to {100 * level:g} %",
        "epochs to this test accuracy there, without and with: "
        + ", ".join(f"{a:g} → {b:g}" for a, b in both),
        [b < a for a, b in both],
    )


def half_way(runs: Runs) -> list[str]:
    """Test accuracy after the first of two epochs; of the seeds whose history is there."""
    pairs = [
        [m["history"][0]["test_accuracy"] for m in pair]
        for pair in paired(runs, 0, 0.01)
        if all("history" in m for m in pair)
    ]
    without, both = zip(*pairs, strict=True)
    return claim(
        "… here too",
        f"`recipe=fast`, test accuracy after the first of two epochs: {percent(without)} without, "
        f"{percent(both)} with λ = 0.01",
        [b > a for a, b in pairs],
    )


def distances(runs: Runs) -> list[list[str]]:
    groups = paired(runs, *LAMS)
    pairs = [(group[0], other) for group in groups for other in group[1:]]

    def means(value: Callable[[Metrics], float], form: str) -> str:
        return ", ".join(
            form.format(statistics.fmean(map(value, each))) for each in zip(*groups, strict=True)
        )

    return [
        claim(
            "The distance between classes shrinks with center loss, as it is",
            f"inter at λ = 0 and up: {means(lambda m: m['test_inter'], '{:.0f}')}",
            [b["test_inter"] < a["test_inter"] for a, b in pairs],
        ),
        claim(
            "… and grows beside the features' length",
            f"inter over the means' mean length: {means(relative_inter, '{:.2f}')}",
            [relative_inter(b) > relative_inter(a) for a, b in pairs],
        ),
    ]


def sources() -> str:
    """The recipes of the sources, by λ."""
    rows = [
        [
            f"`{recipe}`",
            name(lam),
            percent(m["test_accuracy"] for m in group.values()),
            spread(map(ratio, group.values())),
            worst_recall(group.values()),
            ", ".join({f"{m['steps']:,}": None for m in group.values()}),
            seeds(group),
            ", ".join(sorted({m["precision"] for m in group.values()})),
        ]
        for recipe in ("paper", "caffe_face", "pytorch_center_loss", "mxnet_center_loss")
        for lam, group in load(ROOT / recipe).items()
    ]
    head = [
        "recipe", "λ", "test accuracy", "test intra/inter", "lowest recall of a digit", "steps",
        "seeds", "precision",
    ]  # fmt: skip
    return table(head, rows)


def tried() -> str:
    """Other settings of ``recipe=fast`` at λ = 1, by what their folders' names say."""
    groups: dict[str, dict[int, Metrics]] = {}
    for folder in sorted(path.parent for path in (ROOT / "fast_tried").rglob(METRICS)):
        pairs = re.findall(r"([a-z_.]+)-([\d.e-]+)(?:_|$)", folder.name)
        settings = " ".join(
            f"{key}={value}" for key, value in pairs if key.startswith(("optimizer.", "loss.lam_"))
        )
        metrics = load_metrics(folder)
        groups.setdefault(f"`{settings}`", {})[metrics["seed"]] = metrics
    groups["`recipe=fast`"] = fast()[1]
    rows = [
        [
            settings,
            percent(m["test_accuracy"] for m in group.values()),
            spread(map(ratio, group.values())),
            worst_recall(group.values()),
            seeds(group),
        ]
        for settings, group in groups.items()
    ]
    head = ["settings", "test accuracy", "test intra/inter", "lowest recall of a digit", "seeds"]
    return table(head, rows)


def tables(page: str = "") -> dict[str, str]:
    """Every table, by name, in the language of the page."""
    runs = fast()
    mxnet = load(ROOT / "mxnet_center_loss")
    with (ROOT / "sweep/summary.csv").open() as file:
        grid = list(csv.DictReader(file))
    measured = panels.load(ROOT / "fast_seeds" / panels.FILE)
    made = {
        "fast": by_lam(runs),
        "geometry": geometry(runs),
        "claims": claims(runs, load(ROOT / "paper"), grid, mxnet),
        "sources": sources(),
        "tried": tried(),
        "fig2": panels.fig2_table(measured),
        "fig3": panels.fig3_table(measured),
    }
    return {k: in_chinese(v) for k, v in made.items()} if ".zh-" in page else made


CHINESE = {
    "test accuracy": "测试准确率",
    "test intra/inter": "测试集 intra/inter",
    "lowest recall of a digit": "各数字召回率的最低值",
    "seeds": "随机种子",
    "recipe": "配方",
    "steps": "步数",
    "precision": "数值精度",
    "0 (softmax alone)": "0（仅 softmax）",
}


def in_chinese(table: str) -> str:
    """A table with those of its cells that are words in Chinese; numbers stay."""
    return "\n".join(
        " | ".join(CHINESE.get(cell, cell) for cell in line.strip("| ").split(" | ")).join(
            ("| ", " |")
        )
        for line in table.splitlines()
    )


def filled(text: str, tables: dict[str, str]) -> str:
    """A page with the tables below their markers, <!-- claims: NAME -->."""

    def fill(match: re.Match[str]) -> str:
        return f"{match[1]}\n\n{tables[match[2]]}\n"

    return re.sub(r"(<!-- claims: (\w+) -->)\n(?:\n(?:\|.*\n)+)?", fill, text)


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--write"]):
        sys.exit(f"error: the one argument is --write, got {' '.join(sys.argv[1:])}")
    if sys.argv[1:]:
        for page in PAGES:
            path = PROJECT / page
            path.write_text(filled(path.read_text(), tables(page)))
    else:
        for title, text in tables().items():
            print(f"{title}\n\n{text}\n")
