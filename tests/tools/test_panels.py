"""The script that measures pictures as the paper's were measured."""

import csv
import math
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from scripts import panels
from scripts.panels import Fig3

ANGLES = np.arange(10) * math.tau / 10
RING = np.column_stack([np.cos(ANGLES), np.sin(ANGLES)])
CENTERS = 100 * RING + [7, -3]  # R is 100 in the features' units: a pixel is 100 / like.R of them
LIKE = panels.PAPER[0.1]
PIXEL = 100 / LIKE.R


def around(offsets: np.ndarray) -> Fig3:
    """The panel in which each center has dots at these offsets, in pixels."""
    return panels.clusters((CENTERS[:, None] + PIXEL * offsets).reshape(-1, 2), CENTERS, LIKE)


def disc(radius: int) -> np.ndarray:
    grid = np.stack(np.meshgrid(*[np.arange(-radius, radius + 1)] * 2), -1).reshape(-1, 2)
    return grid[np.linalg.norm(grid, axis=1) <= radius]


def test_single_dots():
    """A dot is a diamond of 61 pixels, whatever lies on it."""
    one = around(np.array([[50, 0]]))
    assert one.coverage == 10 * 61 / LIKE.R**2
    assert one.spread * LIKE.R == pytest.approx(np.linalg.norm(panels.DIAMOND, axis=1).mean())
    assert around(np.array([[50, 0]] * 1000)) == one
    assert one.radius == pytest.approx(0, abs=1e-9) and one.angle == pytest.approx(0, abs=1e-9)
    assert one.gap == pytest.approx(2 * math.sin(math.pi / 10), abs=0.01)


def test_dots_that_touch_share_pixels():
    two = around(np.array([[50, 0], [51, 0]]))  # beside 61 pixels the second has 11 of its own
    assert two.coverage == 10 * 72 / LIKE.R**2


def test_a_disc():
    """Of radius r with a hole h, pixels are (2/3) (r³ − h³) / (r² − h²) from the middle."""
    found = around(disc(55))
    r, h = 55 + 4, LIKE.disc  # a diamond reaches 5 pixels in four directions, 2.5 √2 in others
    assert found.spread * LIKE.R == pytest.approx(2 / 3 * (r**3 - h**3) / (r**2 - h**2), rel=0.02)
    assert found.coverage * LIKE.R**2 == pytest.approx(10 * math.pi * (r**2 - h**2), rel=0.03)


def test_a_ring():
    turn = np.linspace(0, math.tau, 2000)
    ring = 60 * np.column_stack([np.cos(turn), np.sin(turn)])
    assert around(ring).spread * LIKE.R == pytest.approx(60, rel=0.01)


def test_what_a_center_hides_is_not_seen():
    hidden = around(disc(LIKE.disc - 6))
    assert hidden.spread == hidden.coverage == 0 and hidden.gap == math.inf
    assert panels.PAPER[1].disc < LIKE.disc


def test_a_misclassified_dot_belongs_to_the_center_that_it_lies_at():
    """Whatever its label, which isn't even asked for: here a dot of 0 is a fifth one of 5's."""
    dots = PIXEL * np.array([[50, 0], [-50, 0], [0, 50], [0, -50]])
    features = [CENTERS[:, None] + dots, (CENTERS[5] + PIXEL * np.array([30, 30]))[None, None]]
    found = panels.clusters(np.vstack([each.reshape(-1, 2) for each in features]), CENTERS, LIKE)
    without = around(dots / PIXEL)
    assert found.coverage == pytest.approx(without.coverage + 61 / LIKE.R**2)
    of_five = 5 * without.spread + (math.hypot(30, 30) - 50) / LIKE.R  # about, over its 5 dots
    assert found.spread == pytest.approx((9 * without.spread + of_five / 5) / 10, rel=0.02)


def test_by_angle_or_by_distance():
    """A dot on the way from the middle to center 0, but nearer to center 1's place in distance."""
    centers = np.array([[100, 0], [20, 50], [-60, 80], [-100, 0], [-60, -80], [20, -98]], float)
    far, near = panels.PAPER[0.001], panels.PAPER[0.01]
    assert far.by_angle and not near.by_angle
    middle, *_ = panels.circle(centers)
    offsets = centers - middle
    between = middle + 0.3 * offsets[0]
    assert np.linalg.norm(centers - between, axis=1).argmin() == 1  # so in distance
    assert panels.nearest_in_angle((between - middle)[None], offsets)[0] == 0
    features = np.vstack([centers + 0.25 * offsets, between[None]])
    spread_by_angle = panels.clusters(features, centers, far).spread
    spread_by_distance = panels.clusters(features, centers, near).spread
    assert spread_by_angle > spread_by_distance  # center 0's own dot is farther from it


def test_uneven_centers():
    stretched = CENTERS * [1.2, 1]
    found = panels.clusters(stretched + 50 * PIXEL * RING, stretched, LIKE)
    assert found.radius > 0.05 and found.angle > 1


def test_rays():
    """Ten wedges, 6° wide to each side, of lengths 0.5, 0.55, … 0.95 of the longest's."""
    lengths = 200 * np.append(np.arange(0.5, 0.95, 0.05), 1)
    along, across = np.meshgrid(np.linspace(0, 1, 300), np.radians(np.linspace(-6, 6, 60)))
    wedges = [
        length * np.sqrt(along)[..., None] * np.stack([np.cos(a + across), np.sin(a + across)], -1)
        for length, a in zip(lengths, ANGLES, strict=True)
    ]
    features = np.vstack([each.reshape(-1, 2) for each in wedges])
    found = panels.rays(features, RING @ [[0.99, 0.1], [-0.1, 0.99]])  # looked for 6° beside
    assert found.lengths == pytest.approx((lengths / 200)[::-1], abs=0.01)
    # at r pixels the wedge ends at 6° and half a dot, or half-way to the next; pixels count alike
    r = np.arange(1, panels.LONGEST + 1)
    half = np.minimum(np.radians(6) * r + 2.5, np.radians(18) * r)
    widths = [
        np.sqrt((half**3 / (3 * r**2))[:n].sum() / half[:n].sum())
        for n in (2.9 * lengths).astype(int)
    ]
    assert found.width == pytest.approx(np.degrees(np.mean(widths)), rel=0.06)
    assert found.x == pytest.approx((features[:, 0].min(), features[:, 0].max()))
    assert found.y == pytest.approx((features[:, 1].min(), features[:, 1].max()))


def command(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "scripts.panels", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip


def test_the_command(make_run, tmp_path):
    for lam in (0, 0.0001, 0.001, 1):
        for seed in (0, 1):
            make_run(f"{lam}-{seed}", lam, seed=seed)
    done = command(tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    lines = [line for line in lines if line]
    of_fig2 = [line for line in lines if len(line) == 7]
    assert [line[0] for line in of_fig2[2:]] == ["**the paper**"] * 2 + ["`smoke`"] * 2
    of_fig3 = [line for line in lines if len(line) == 9][2:]
    assert [line[:3] for line in of_fig3] == [
        ["0.001", "**the paper**", ""], ["", "`smoke`", "training"], ["", "`smoke`", "test"],
        ["0.01", "**the paper**", ""], ["0.1", "**the paper**", ""],
        ["1", "**the paper**", ""], ["", "`smoke`", "training"], ["", "`smoke`", "test"],
    ]  # fmt: skip
    assert of_fig3[1][-1] == "0–1" and " ± " in of_fig3[1][3] and " %)" in of_fig3[1][3]
    with (tmp_path / "runs/panels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 2 * 2  # 0.0001 too, which has no panel in the paper
    assert {row["images"] for row in rows} == {"400"}
    assert all(row["spread"] and not row["width"] for row in rows if row["lam"] != "0")


def test_nothing_to_measure(tmp_path, make_run):
    for folder, said in [(tmp_path, "no finished run"), (tmp_path / "no", "is no folder")]:
        done = command(folder)
        assert done.returncode == 1 and done.stderr.startswith("error: ") and said in done.stderr
        assert done.stderr.count("\n") == 1
    assert command().returncode == 1
