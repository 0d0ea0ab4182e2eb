"""How near the pictures are to the paper's, in numbers: python -m scripts.panels FOLDER

Measures each run in a folder as the panels of the paper's Fig. 2 and Fig. 3 were measured in the
pictures of its PDF, writes ``panels.csv`` there, and prints both beside each other, as means over
the seeds. What counts is a pixel, not a feature: one that a hundred dots cover counts once. So
this sees what an eye sees, the outline.
"""

import csv
import math
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from center_loss.base.errors import UserError
from center_loss.runs.contents import load_features
from center_loss.runs.files import write_csv
from center_loss.runs.load import Run, find_runs
from scripts.tables import percent, seeds, spread, table

FILE = "panels.csv"
IMAGES = 50_000  # of the training set, as in the paper: more images cover more pixels
SETS = {"train": "training", "test": "test"}


class Fig3(NamedTuple):
    """A panel of Fig. 3: R, the centers' mean distance from the middle of the circle that fits
    them best; the disc in which a center hides what is under it; and what was measured."""

    R: int  # pixels
    disc: int  # pixels, its radius
    by_angle: bool  # whether a pixel belongs to the nearest center in angle, not in distance
    spread: float  # mean distance of a digit's pixels to their centroid, mean over digits, over R
    coverage: float  # pixels, over R²
    gap: float  # smallest distance of two centroids, over R
    radius: float  # standard deviation of the centers' distances from the middle, over R
    angle: float  # that of the angles between neighbours, degrees


class Fig2(NamedTuple):
    """A panel of Fig. 2: lengths within which 99 % of a ray's pixels lie, and what was measured."""

    lengths: list[float]  # of the rays, over the longest
    width: float  # root mean square angle of a pixel to its ray, degrees, mean over the rays
    x: tuple[float, float]  # from the lowest to the highest, in units of the axes
    y: tuple[float, float]


PAPER = {
    0.001: Fig3(288, 15, True, 0.232, 1.87, 0.54, 0.115, 6.8),
    0.01: Fig3(344, 15, False, 0.156, 0.96, 0.45, 0.097, 6.4),
    0.1: Fig3(336, 15, False, 0.122, 0.61, 0.55, 0.096, 3.2),
    1: Fig3(360, 13, False, 0.087, 0.32, 0.54, 0.094, 2.8),
}
PAPER_RAYS = {
    "train": Fig2(
        [1, 0.91, 0.70, 0.70, 0.59, 0.58, 0.57, 0.55, 0.46, 0.26], 5.5, (-200, 115), (-218, 119)
    ),
    "test": Fig2(
        [1, 0.83, 0.70, 0.68, 0.60, 0.57, 0.56, 0.53, 0.44, 0.26], 5.5, (-183, 113), (-213, 118)
    ),
}
LONGEST = 580  # pixels, the longest ray of Fig. 2

# A dot's pixels, around its own: in Fig. 3 a diamond, in Fig. 2 a square
_NEAR = np.stack(np.meshgrid(np.arange(-5, 6), np.arange(-5, 6)), -1).reshape(-1, 2)
DIAMOND = _NEAR[np.abs(_NEAR).sum(1) <= 5]
SQUARE = _NEAR[np.abs(_NEAR).max(1) <= 2]


def circle(centers: Iterable[Iterable[float]]) -> tuple[np.ndarray, float, float, float]:
    """The circle that fits centers (C, 2) best, by least squares, and how far they are from lying
    evenly on it.

    Returns:
        Its middle (2,); the centers' mean distance from there, in the features' units; the standard
        deviation of these distances over that; and that of the angles between neighbours, degrees.
    """
    points = np.array(centers, dtype=float)
    # x² + y² = 2ax + 2by + c is linear in a, b and c
    left = np.column_stack([2 * points, np.ones(len(points))])
    middle = np.linalg.lstsq(left, (points**2).sum(1), rcond=None)[0][:2]
    offsets = points - middle
    radii = np.linalg.norm(offsets, axis=1)
    angles = np.sort(np.degrees(np.arctan2(offsets[:, 1], offsets[:, 0])))
    gaps = np.diff(angles, append=angles[0] + 360)
    return middle, float(radii.mean()), float(radii.std() / radii.mean()), float(gaps.std())


def covered(points: np.ndarray, dot: np.ndarray) -> np.ndarray:
    """The pixels (P, 2) that dots at points (N, 2) cover, each once; units are pixels."""
    at = np.rint(points).astype(np.int64)
    pixels = (np.unique(at, axis=0)[:, None] + dot).reshape(-1, 2)
    low = pixels.min(0)
    width = int(np.ptp(pixels[:, 1])) + 1
    rows, columns = np.divmod(np.unique((pixels - low) @ [width, 1]), width)
    return np.column_stack([rows, columns]) + low


def clusters(features: np.ndarray, centers: np.ndarray, like: Fig3) -> Fig3:
    """Measure features (N, 2) with their centers (C, 2), drawn as a panel of the paper is."""
    middle, R, radius, angle = circle(centers)
    dots = (centers - middle) * (like.R / R)
    pixels = covered((features - middle) * (like.R / R), DIAMOND)
    distances = np.linalg.norm(pixels[:, None] - dots, axis=2)
    seen = distances.min(1) > like.disc
    pixels, distances = pixels[seen], distances[seen]
    owner = nearest_in_angle(pixels, dots) if like.by_angle else distances.argmin(1)
    own = [pixels[owner == j] for j in np.unique(owner)]
    centroids = np.array([each.mean(0) for each in own]).reshape(-1, 2)
    spreads = [
        np.linalg.norm(each - centroid, axis=1).mean()
        for each, centroid in zip(own, centroids, strict=True)
    ]
    apart = np.linalg.norm(centroids[:, None] - centroids, axis=2)
    gap = apart[np.triu_indices(len(own), 1)].min(initial=math.inf)
    return Fig3(
        *like[:3], float(np.sum(spreads)) / max(len(own), 1) / like.R, len(pixels) / like.R**2,
        float(gap) / like.R, radius, angle,
    )  # fmt: skip


def rays(features: np.ndarray, directions: np.ndarray) -> Fig2:
    """Measure features (N, 2), drawn as a panel of the paper's Fig. 2.

    ``directions`` (C, 2) are those in which the rays are looked for, the class means say.
    """
    lengths = np.linalg.norm(features, axis=1)
    owner = nearest_in_angle(features, directions)
    longest = max(np.quantile(lengths[owner == j], 0.99) for j in np.unique(owner))
    pixels = covered(features * (LONGEST / longest), SQUARE)
    for _ in range(20):  # a ray points to its pixels' mean, which changes whose some of them are
        owner = nearest_in_angle(pixels, directions)
        directions = np.array([pixels[owner == j].mean(0) for j in np.unique(owner)])
    owner = nearest_in_angle(pixels, directions)
    ends, widths = [], []
    for own, direction in ((pixels[owner == j], directions[j]) for j in np.unique(owner)):
        ends.append(float(np.quantile(np.linalg.norm(own, axis=1), 0.99)))
        off = np.angle(own @ [1, 1j] / (direction @ [1, 1j]), deg=True)
        widths.append(float(np.sqrt((off**2).mean())))
    x, y = zip(features.min(0).tolist(), features.max(0).tolist(), strict=True)
    lengths_over_the_longest = sorted((end / max(ends) for end in ends), reverse=True)
    return Fig2(lengths_over_the_longest, statistics.fmean(widths), x, y)


def nearest_in_angle(points: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Which of the directions (C, 2) each point (N, 2) is nearest to, seen from the origin."""
    return (points @ (directions / np.linalg.norm(directions, axis=1, keepdims=True)).T).argmax(1)


def measured(one: Run) -> list[dict[str, object]]:
    """A row for the training and one for the test set of a finished run with 2-D features."""
    arrays = load_features(one.folder)
    centers, lam = arrays["centers"].astype(float), one.metrics["lam"]
    rows = []
    for split in SETS:
        features = arrays[f"{split}_features"][:IMAGES].astype(float)
        if lam == 0:
            found = rays(features, centers)._asdict()
        else:  # a λ that the paper doesn't show is drawn as the nearest one that it does
            like = PAPER[min(PAPER, key=lambda each: abs(math.log(each / lam)))]
            found = clusters(features, centers, like)._asdict()
        rows.append(
            {key: one.metrics[key] for key in ("recipe", "lam", "alpha", "seed")}
            | {"split": split, "images": len(features)}
            | {
                key: " ".join(f"{each:.4g}" for each in np.atleast_1d(found.get(key, [])))
                for key in [*Fig3._fields[3:], *Fig2._fields]
            }
        )
    return rows


def load(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def grouped(rows: Sequence[dict[str, str]]) -> dict[tuple[float, str, str], list[dict[str, str]]]:
    """The seeds' rows of each λ, set and recipe, with its α where that isn't the paper's."""
    groups: dict[tuple[float, str, str], list[dict[str, str]]] = {}
    for row in rows:
        picture = f"`{row['recipe']}`"
        picture += "" if row["alpha"] in ("", "0.5") else f", α = {row['alpha']}"
        groups.setdefault((float(row["lam"]), row["split"], picture), []).append(row)
    return dict(sorted(groups.items(), key=lambda each: (each[0][0], each[0][1] == "test")))


def fig3_table(rows: Sequence[dict[str, str]]) -> str:
    """The panels of Fig. 3 beside the paper's, means over the seeds."""
    lines = []
    for lam, paper in PAPER.items():
        numbers = [f"{paper.spread:.3f}", f"{paper.coverage:.2f}", f"{paper.gap:.2f}"]
        numbers += [f"{100 * paper.radius:.1f} %", f"{paper.angle:.1f}°"]
        lines.append([f"{lam:g}", "**the paper**", "", *numbers, ""])
        for (of, split, picture), group in grouped(rows).items():
            if of != lam:
                continue
            values = {key: [float(row[key]) for row in group] for key in Fig3._fields[3:]}
            lines.append(
                [
                    "",
                    picture,
                    SETS[split],
                    f"{spread(values['spread'])} ({off(values['spread'], paper.spread)})",
                    f"{spread(values['coverage'], '{:.2f}')} "
                    f"({off(values['coverage'], paper.coverage)})",
                    spread(values["gap"], "{:.2f}"),
                    percent(values["radius"], "{:.1f}"),
                    f"{spread(values['angle'], '{:.1f}')}°",
                    seeds(int(row["seed"]) for row in group),
                ]
            )
    head = [
        "λ", "picture", "set", "spread", "coverage", "gap", "radius, sd", "angle, sd", "seeds",
    ]  # fmt: skip
    return table(head, lines)


def fig2_table(rows: Sequence[dict[str, str]]) -> str:
    """The panels of Fig. 2 beside the paper's: means over the seeds, axes over all of them."""
    lines = [
        ["**the paper**", SETS[split], *_rays([paper]), ""] for split, paper in PAPER_RAYS.items()
    ]
    for (lam, split, picture), group in grouped(rows).items():
        if lam == 0:
            found = [
                Fig2(
                    [float(each) for each in row["lengths"].split()],
                    float(row["width"]),
                    *([float(each) for each in row[axis].split()] for axis in "xy"),
                )
                for row in group
            ]
            own = seeds(int(row["seed"]) for row in group)
            lines.append([picture, SETS[split], *_rays(found), own])
    head = ["picture", "set", "lengths of the rays, over the longest", "width", "x", "y", "seeds"]
    return table(head, lines)


def _rays(found: list[Fig2]) -> list[str]:
    lengths = zip(*(one.lengths for one in found), strict=False)  # a ray may be missing
    ends = [
        f"{min(low for low, _ in axis):.0f} to {max(high for _, high in axis):.0f}"
        for axis in ([one.x for one in found], [one.y for one in found])
    ]
    return [
        " ".join(f"{statistics.fmean(each):.2f}" for each in lengths),
        f"{spread((one.width for one in found), '{:.1f}')}°",
        *(each.replace("-", "−") for each in ends),
    ]


def off(values: Sequence[float], wanted: float) -> str:
    """How far the mean is from the paper's, in per cent of that."""
    return f"{round(100 * (statistics.fmean(values) / wanted - 1)):+} %".replace("-", "−")


def main(folder: Path) -> None:
    runs = [one for one in find_runs(folder)[0] if one.config["model"]["feature_dim"] == 2]
    if not runs:
        raise UserError(f"{folder} holds no finished run with 2-D features")
    write_csv(folder / FILE, [row for one in runs for row in measured(one)])
    rows = load(folder / FILE)
    print(f"Fig. 2\n\n{fig2_table(rows)}\n\nFig. 3\n\n{fig3_table(rows)}\n\n{folder / FILE}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("error: give the folder of the runs: python -m scripts.panels FOLDER")
    try:
        main(Path(sys.argv[1]))
    except UserError as error:
        sys.exit(f"error: {error}")
