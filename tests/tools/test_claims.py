"""The script that computes the paper's claims, and the pages that say what it printed."""

import json
import math

import numpy as np
import pytest
from conftest import ROOT

from scripts import claims

ANGLES = np.arange(10) * math.tau / 10
RING = np.column_stack([np.cos(ANGLES), np.sin(ANGLES)])


def a_run(**values) -> claims.Metrics:
    means = (20 * RING).tolist()
    return {
        "test_accuracy": 0.99, "test_recall": [0.98] * 10, "test_intra": 1.0, "test_inter": 10.0,
        "test_intra_inter_ratio": 0.1, "train_intra_inter_ratio": 0.1, "train_inter": 10.0,
        "center_drift": 0.1, "centers": means, "test_class_means": means,
        "train_class_means": means, **values,
    }  # fmt: skip


def runs_with(key: str, values: dict[float, list[float]]) -> claims.Runs:
    return {
        lam: {seed: a_run(**{key: value}) for seed, value in enumerate(each)}
        for lam, each in values.items()
    }


# ---- the committed runs and the pages


@pytest.mark.parametrize("page", claims.PAGES)
def test_the_pages_tables_are_those_of_the_committed_runs(page):
    text = (ROOT / page).read_text()
    assert "<!-- claims: " in text
    assert claims.filled(text, claims.tables(page)) == text, "python -m scripts.claims --write"


def test_every_table_is_in_a_page():
    pages = "".join((ROOT / page).read_text() for page in claims.PAGES)
    assert all(f"<!-- claims: {name} -->" in pages for name in claims.tables())


def test_in_chinese():
    table = claims.table(["λ", "seeds"], [["0 (softmax alone)", "0–4"]])
    assert claims.in_chinese(table) == "| λ | 随机种子 |\n| --- | --- |\n| 0（仅 softmax） | 0–4 |"


def test_every_seed_and_every_lam_is_there():
    runs = claims.fast()
    assert list(runs) == claims.LAMS
    assert set(runs[0]) >= set(range(5))
    assert all(runs[lam].keys() == runs[0].keys() for lam in claims.LAMS)  # so that each counts
    assert all(m["recipe"] == "fast" for group in runs.values() for m in group.values())


def test_filled_replaces_a_table_and_nothing_else():
    page = "a\n\n<!-- claims: x -->\n\n| old |\n| --- |\n\n| another |\n\n<!-- claims: y -->\nb\n"
    once = claims.filled(page, {"x": "| X |", "y": "| Y |"})
    assert once == (
        "a\n\n<!-- claims: x -->\n\n| X |\n\n| another |\n\n<!-- claims: y -->\n\n| Y |\nb\n"
    )
    assert claims.filled(once, {"x": "| X |", "y": "| Y |"}) == once


def test_two_runs_of_one_seed_are_refused(tmp_path):
    with pytest.raises(SystemExit, match="no run in"):
        claims.load(tmp_path)
    accuracy = {"train_accuracy": 0.99, "test_accuracy": 0.98}
    metrics = {"recipe": "fast", "lam": 0.1, "alpha": 0.5, "seed": 3, **accuracy}
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(SystemExit, match=r"a second run of λ = 0\.1, seed 3"):
        claims.load(tmp_path)
    assert list(claims.load(tmp_path / "a")[0.1]) == [3]


# ---- what is measured


def test_circle():
    middle, mean, *spreads = claims.circle(5 * RING + [3, -2])
    assert (*middle, mean, *spreads) == pytest.approx((3, -2, 5, 0, 0), abs=1e-9)
    *_, radius, gap = claims.circle(RING * [1, 0.5])  # an ellipse
    assert radius > 0.2 and gap > 5
    dense = np.radians(np.arange(10) * 18)  # half of the circle: nine gaps of 18°, one of 198°
    *_, radius, gap = claims.circle(np.column_stack([np.cos(dense), np.sin(dense)]))
    assert radius == pytest.approx(0, abs=1e-9)
    assert gap == pytest.approx(np.std([18] * 9 + [198]))


@pytest.mark.parametrize(
    ("stretch", "turn", "expected"), [(1, 0, True), (2, 0, False), (1, 0.9, False)]
)
def test_on_circle(stretch, turn, expected):
    angles = ANGLES + turn * (np.arange(10) % 2) * math.radians(36)
    centers = np.column_stack([stretch * np.cos(angles), np.sin(angles)])
    assert claims.on_circle(a_run(centers=centers)) is expected


def test_distances_are_relative():
    run = a_run(test_class_means=(5 * RING).tolist(), train_class_means=(5 * RING + 1).tolist())
    assert claims.relative_inter(run) == pytest.approx(10 / 5)
    assert claims.shift(run) == pytest.approx(math.sqrt(2) / 10)
    assert claims.drift(run) == pytest.approx(0.01)


def test_epochs_to():
    run = {"history": [{"epoch": 1.0, "test_accuracy": 0.9}, {"epoch": 2.0, "test_accuracy": 0.95}]}
    assert [claims.epochs_to(run, level) for level in (0.9, 0.95, 0.96)] == [1, 2, math.inf]


def test_spread():
    assert claims.spread([1, 2, 3], "{:.1f}") == "2.0 ± 1.0"
    assert claims.spread([0.5]) == "0.500"
    assert claims.percent([0.99, 0.98]) == "98.50 ± 0.71 %"
    assert [claims.seeds(dict.fromkeys(numbers)) for numbers in ([0, 1, 2], [1], [0, 2])] == [
        "0–2", "1", "0, 2",
    ]  # fmt: skip


# ---- the verdicts


@pytest.mark.parametrize(
    ("right", "verdict"),
    [
        (20, "holds"),
        (18, "mostly holds"),
        (17, "undecided"),
        (10, "undecided"),
        (9, "doesn't hold"),
    ],
)
def test_verdicts(right, verdict):
    assert claims.counted([True] * right + [False] * (20 - right)) == (f"{right} of 20", verdict)


def test_falls_counts_the_seeds_in_which_each_step_falls():
    lams = claims.LAMS
    falling = {lam: [0.5 - 0.1 * k] * 3 for k, lam in enumerate(lams)}
    runs = runs_with("test_intra_inter_ratio", falling)
    assert claims.falls(runs)[2:] == ["3 of 3", "**holds**"]
    runs[lams[2]][1]["test_intra_inter_ratio"] = 0.45  # above the λ before it
    assert claims.falls(runs)[2:] == ["2 of 3", "**undecided**"]


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ([0.001, -0.001, 0, 0.0005, -0.0005], "holds"),
        ([0.01, -0.01, 0, 0.005, -0.005], "undecided"),
        ([-0.01, -0.011, -0.009, -0.01, -0.01], "doesn't hold"),
    ],
)
def test_accurate_within_a_margin(changes, verdict):
    runs = runs_with("test_accuracy", {0: [0.99] * 5, 0.1: [0.99 + change for change in changes]})
    assert claims.accurate(runs, [0.1])[2:] == ["5 pairs of a seed", f"**{verdict}**"]


def test_interval():
    """Of 1 … 5: the mean is 3, the standard error √2.5/√5, and t₄ is 2.776."""
    assert claims.interval([1, 2, 3, 4, 5]) == pytest.approx((3 - 1.963, 3 + 1.963), abs=2e-3)


@pytest.mark.parametrize(
    ("claim", "values"),
    [
        (claims.separable, {"test_accuracy": 0.97}),
        (claims.separable, {"test_recall": [0.9] + [1] * 9}),
        (claims.compact, {"test_intra_inter_ratio": 0.4}),
        (claims.lies_on_circle, {"centers": (RING * [2, 1]).tolist()}),
        (claims.alike, {"train_intra_inter_ratio": 0.05}),
        (claims.alike, {"train_class_means": (20 * RING + 2).tolist()}),
        (claims.centered, {"center_drift": 1.5}),
    ],
)
def test_a_claim_that_is_false_is_said_to_be(claim, values):
    good = {"test_intra_inter_ratio": 0.6, "train_intra_inter_ratio": 0.6}
    for changed, verdict in (({}, "**holds**"), (values, "**doesn't hold**")):
        runs = {lam: {0: a_run(**good | changed)} for lam in claims.LAMS}
        assert claim(runs)[3] == verdict


def test_at_one_wants_all_digits():
    runs = runs_with("test_intra_inter_ratio", {0.1: [0.2, 0.2], 1: [0.1, 0.1]})
    assert claims.at_one(runs)[2:] == ["2 of 2", "**holds**"]
    runs[1][0]["test_recall"] = [0.98] * 9 + [0.5]
    assert claims.at_one(runs)[2:] == ["1 of 2", "**undecided**"]
    runs[1][1]["test_intra_inter_ratio"] = 0.3
    assert claims.at_one(runs)[2:] == ["0 of 2", "**doesn't hold**"]


def test_falls_in_the_papers_training_counts_the_seeds():
    ratios = {0: [0.5, 0.5], 0.1: [0.2, 0.2], 1: [0.1, 0.1]}
    runs = runs_with("test_intra_inter_ratio", ratios)
    assert claims.falls_in_the_papers_training(runs)[2:] == ["2 of 2", "**holds**"]
    assert "0.500 > 0.200 > 0.100" in claims.falls_in_the_papers_training(runs)[1]
    runs[1][0]["test_recall"] = [0.98] * 9 + [0.5]
    assert claims.falls_in_the_papers_training(runs)[2:] == ["1 of 2", "**undecided**"]
    runs[0.1][1]["test_intra_inter_ratio"] = 0.6
    assert claims.falls_in_the_papers_training(runs)[2:] == ["0 of 2", "**doesn't hold**"]


def test_alpha_compares_the_cells_of_a_lam():
    grid = [
        {"loss.lam": str(lam), "loss.alpha": alpha, "test_accuracy": "0.99",
         "test_intra_inter_ratio": ratio}
        for lam in claims.LAMS[1:]
        for alpha, ratio in (("0.01", "9"), ("0.1", "0.1"), ("0.5", "0.11"), ("1", "0.12"))
    ]  # fmt: skip
    assert claims.alpha(grid)[2:] == ["4 of 4", "**holds**"]
    grid[3]["test_intra_inter_ratio"] = "0.2"
    grid[6]["test_accuracy"] = "0.98"
    assert claims.alpha(grid)[2:] == ["2 of 4", "**undecided**"]


def test_converges_and_distances():
    def history(epoch):
        rows = [{"epoch": k, "test_accuracy": 0.96 * (k >= epoch)} for k in range(9)]
        return a_run(history=rows)

    mxnet = {0: {0: history(5), 1: history(5)}, 1: {0: history(4), 1: history(5)}}
    assert claims.converges(mxnet, 0.95)[1:3] == [
        "epochs to this test accuracy there, without and with: 5 → 4, 5 → 5", "1 of 2",
    ]  # fmt: skip
    halves = {0: {0: history(2), 1: history(1)}, 0.01: {0: history(1), 1: history(1)}}
    for runs in halves.values():
        for run in runs.values():
            del run["history"][0]
    assert claims.half_way(halves)[2:] == ["1 of 2", "**undecided**"]
    runs = runs_with("test_inter", {lam: [10 - k] for k, lam in enumerate(claims.LAMS)})
    shrinks, grows = claims.distances(runs)
    assert shrinks[3] == "**holds**" and grows[3] == "**doesn't hold**"
