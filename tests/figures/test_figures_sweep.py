"""The figure of a sweep: a panel and a number for each λ and α, holes where runs are missing."""

import json
import shutil

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.container import ErrorbarContainer

from center_loss import figures
from center_loss.base.errors import UserError
from center_loss.figures import style, sweep
from center_loss.runs.contents import load_features
from center_loss.runs.load import find_runs

LAMS, ALPHAS = [0.0001, 0.01, 1.0], [0.1, 0.5]


@pytest.fixture
def swept(make_run, tmp_path):
    """A grid of 3 λ × 2 α with two seeds and softmax alone; one cell failed, one is missing."""
    for lam in [0.0, *LAMS]:
        for alpha in ALPHAS if lam else [0.5]:
            for seed in (0, 1):
                if (lam, alpha) == (0.0001, 0.1):
                    continue  # never trained
                folder = make_run(f"{lam}-{alpha}-{seed}", lam, alpha, seed)
                if (lam, alpha) == (1.0, 0.5):
                    (folder / "metrics.json").unlink()
                    (folder / "failure.txt").write_text("training diverged: NaN; lower loss.lam\n")
                    continue
                metrics = json.loads((folder / "metrics.json").read_text())
                for split, part in (("train", 0.01), ("test", 0.0)):
                    metrics[f"{split}_accuracy"] = accuracy(lam, seed) + part
                    metrics[f"{split}_intra_inter_ratio"] = 0.2 + 0.1 * seed + alpha + part
                (folder / "metrics.json").write_text(json.dumps(metrics))
    make_run("other", 0.01, 0.5, 0, recipe="paper")  # not of this sweep
    return sweep.grid(*find_runs(tmp_path / "runs"))


def accuracy(lam: float, seed: int) -> float:
    return 0.9 + 0.02 * LAMS.index(lam) + 0.01 * seed if lam else 0.8 + 0.02 * seed


def test_the_grid_is_what_differs_in_lam_alpha_and_seed_alone(swept):
    assert swept.lams == LAMS and swept.alphas == ALPHAS
    assert set(swept.cells) == {(0.0001, 0.5), (0.01, 0.1), (0.01, 0.5), (1.0, 0.1)}
    assert all([one.metrics["seed"] for one in cell] == [0, 1] for cell in swept.cells.values())
    assert "other" not in {one.folder.name for one in swept.runs}
    assert [one.metrics["seed"] for one in swept.softmax] == [0, 1]
    assert swept.holes == {
        (0.0001, 0.1): "not trained",
        (1.0, 0.5): "training diverged: NaN; lower loss.lam",
    }
    assert swept.swept == 2


def test_softmax_of_another_training_is_not_beside_it(make_run, tmp_path):
    make_run("joint", 0.1)
    make_run("softmax", 0, recipe="paper")
    assert sweep.grid(*find_runs(tmp_path / "runs")).softmax == []


@pytest.mark.parametrize("split", ["train", "test"])
def test_panels(swept, split):
    figure = sweep.draw(swept, split, "colorblind")
    panels = [ax for ax in figure.subfigs[0].axes if ax.axison]
    assert len(panels) == 7  # softmax alone, four runs, two holes
    assert panels[0].get_title() == "softmax alone" and not panels[0].lines
    cells = [(lam, alpha) for alpha in ALPHAS for lam in LAMS]
    for ax, cell in zip(panels[1:], cells, strict=True):
        if cell in swept.holes:
            (text,) = ax.texts
            words = text.get_text().replace("\n", " ")
            assert words == swept.holes[cell].split(";")[0] and not ax.collections
            continue
        arrays = load_features(swept.cells[cell][0].folder)
        assert swept.cells[cell][0].metrics["seed"] == 0
        drawn = np.ma.getdata(ax.collections[0].get_offsets())
        features, labels = arrays[f"{split}_features"], arrays[f"{split}_labels"]
        np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(features, axis=0), rtol=1e-6)
        where = {tuple(point): label for point, label in zip(features, labels, strict=True)}
        colors = [to_rgba(style.PALETTES["colorblind"][where[tuple(p)]]) for p in drawn]
        faces = ax.collections[0].get_facecolors()
        np.testing.assert_allclose(faces[:, :3], np.array(colors)[:, :3])
        assert faces[:, 3].min() > 0.25
        (dots,) = ax.lines
        np.testing.assert_allclose(dots.get_xydata(), arrays["centers"])
    assert [ax.get_title() for ax in panels[1:4]] == ["λ = 0.0001", "λ = 0.01", "λ = 1"]
    assert [panels[1].get_ylabel(), panels[4].get_ylabel()] == ["α = 0.1", "α = 0.5"]
    (legend,) = [ax.get_legend() for ax in figure.subfigs[0].axes if ax.get_legend()]
    assert [text.get_text() for text in legend.get_texts()] == [*"0123456789", "center"]


def test_maps(swept):
    figure = sweep.draw(swept, "test", "paper")
    left, right = figure.subfigs[1].axes
    assert left.get_title() == "Accuracy (softmax alone: 81.00% ± 1.41%)"
    assert right.get_title().startswith("Intra/inter ratio (softmax alone: 0.750")
    texts = {text.get_position(): text.get_text() for text in left.texts}
    for i, alpha in enumerate(ALPHAS):
        for j, lam in enumerate(LAMS):
            mean = (accuracy(lam, 0) + accuracy(lam, 1)) / 2
            hole = (lam, alpha) in swept.holes
            assert texts[j, i] == ("–" if hole else f"{mean:.2%}\n± 0.71%")
    (colors,) = [image.get_array() for image in left.images]
    assert np.ma.getmaskarray(np.ma.masked_invalid(colors)).sum() == 2
    assert colors[0, 2] < colors[0, 1]  # what is coloured is the error
    assert [label.get_text() for label in left.get_xticklabels()] == ["0.0001", "0.01", "1"]
    assert [label.get_text() for label in left.get_yticklabels()] == ["0.1", "0.5"]


def test_curves(swept):
    figure = sweep.draw_curves(swept, "test")
    against_lam, against_alpha = figure.axes[:2]
    assert against_lam.get_title() == "Against λ at α = 0.5"
    assert against_alpha.get_title() == "Against α at λ = 0.01"
    for ax, xs, means in [
        (against_lam, LAMS, [0.905, 0.925, np.nan]),  # at λ = 1 the run failed
        (against_alpha, [0.1, 0.5], [0.925, 0.925]),
    ]:
        (bars,) = [each for each in ax.containers if isinstance(each, ErrorbarContainer)]
        np.testing.assert_allclose(bars.lines[0].get_xdata(orig=False), xs)
        np.testing.assert_allclose(bars.lines[0].get_ydata(orig=False), means)
        (lines,) = bars.lines[2]
        ends = [segment[:, 1] for segment in lines.get_segments() if len(segment)]
        finite = [mean for mean in means if np.isfinite(mean)]
        expected = np.add.outer(finite, [-0.0070711, 0.0070711])
        np.testing.assert_allclose(ends, expected, atol=1e-6)
        assert [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"] == [0.81]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [
        "softmax + center loss (mean ± standard deviation, 2 seeds)",
        "softmax alone (band: the same)",
    ]  # fmt: skip


def test_nothing_is_clipped_or_overlaps(swept, tmp_path):
    one_row = swept._replace(alphas=[0.5])
    for figure in (
        sweep.draw(swept, "test", "paper"), sweep.draw_curves(swept, "test"),
        sweep.draw(one_row, "test", "paper"), sweep.draw_curves(one_row, "test"),
    ):  # fmt: skip
        figure.set_dpi(style.DPI)
        style.save(figure, tmp_path / "figure", ".png")
        width, height = figure.canvas.get_width_height()
        axes = [ax for ax in figure.axes if ax.axison]
        boxes = [ax.get_tightbbox() for ax in axes]
        boxes += [ax.get_legend().get_window_extent() for ax in figure.axes if ax.get_legend()]
        boxes += [legend.get_window_extent() for legend in figure.legends]
        for part in (figure, *figure.subfigs):
            boxes += [part._suptitle.get_window_extent()] if part._suptitle else []
        for k, box in enumerate(boxes):
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
            assert not any(box.overlaps(other) for other in boxes[k + 1 :])
        for ax in axes:
            cells = [text.get_window_extent() for text in ax.texts]
            for k, cell in enumerate(cells):
                assert not any(cell.overlaps(other) for other in cells[k + 1 :])


def test_one_alpha_beside_softmax(make_run, tmp_path):
    """The legend has a column of its own, since there is no row below softmax alone."""
    for lam in (0, 0.01, 0.1):
        make_run(f"{lam}", lam)
    swept = sweep.grid(*find_runs(tmp_path / "runs"))
    figure = sweep.draw(swept, "test", "paper")
    style.save(figure, tmp_path / "figure", ".png")
    legend, *panels = figure.subfigs[0].axes
    assert [ax.get_title() for ax in panels] == ["softmax alone", "λ = 0.01", "λ = 0.1"]
    box = legend.get_legend().get_window_extent()
    assert not any(box.overlaps(ax.get_tightbbox()) for ax in panels)


def test_a_missing_seed_is_said(make_run, tmp_path):
    for lam, seed in [(0.01, 0), (0.01, 1), (0.1, 1)]:
        make_run(f"{lam}-{seed}", lam, 0.5, seed)
    make_run("again", 0.01, 0.5, 1)  # the same run in another folder
    swept = sweep.grid(*find_runs(tmp_path / "runs"))
    assert [len(cell) for cell in swept.cells.values()] == [2, 1]
    figure = sweep.draw(swept, "test", "paper")
    panels = [ax for ax in figure.subfigs[0].axes if ax.axison]
    assert [[text.get_text() for text in ax.texts] for ax in panels] == [[], ["seed 1"]]
    texts = [text.get_text() for text in figure.subfigs[1].axes[0].texts]
    assert texts == ["98.76%\n± 0.00%", "98.76%\n1 of 2 seeds"]


@pytest.mark.parametrize("values, scale", [((0.99, 0.985), "linear"), ((0.992, 0.8), "logit")])
def test_a_collapse_does_not_flatten_the_other_accuracies(make_run, tmp_path, values, scale):
    for lam, accuracy in zip((0.01, 0.1), values, strict=True):
        path = make_run(f"{lam}", lam) / "metrics.json"
        metrics = json.loads(path.read_text()) | {"test_accuracy": accuracy}
        path.write_text(json.dumps(metrics))
    ax = sweep.draw_curves(sweep.grid(*find_runs(tmp_path / "runs")), "test").axes[0]
    assert ax.get_yscale() == scale
    low, high = ax.get_ylim()
    assert low < min(values) and high > max(values)
    assert len([y for y in ax.get_yticks() if low <= y <= high]) >= 3


@pytest.mark.parametrize("values", [(0.22, 0.27), (0.001, 0.9), (0.1, 0.5)])
def test_the_ratio_always_has_ticks(make_run, tmp_path, values):
    for lam, ratio in zip((0.01, 0.1), values, strict=True):
        path = make_run(f"{lam}", lam) / "metrics.json"
        metrics = json.loads(path.read_text()) | {"test_intra_inter_ratio": ratio}
        path.write_text(json.dumps(metrics))
    swept = sweep.grid(*find_runs(tmp_path / "runs"))
    ratio = sweep.draw_curves(swept, "test").axes[1]
    low, high = ratio.get_ylim()
    assert 2 <= len([y for y in ratio.get_yticks() if low <= y <= high]) <= 6


def test_runs_without_a_ratio_and_alpha_zero(make_run, tmp_path):
    for alpha in (0.0, 0.01, 1.0):
        path = make_run(f"{alpha}", 0.1, alpha) / "metrics.json"
        metrics = json.loads(path.read_text()) | {"test_intra_inter_ratio": None}
        path.write_text(json.dumps(metrics))
    swept = sweep.grid(*find_runs(tmp_path / "runs"))
    sweep.draw(swept, "test", "paper")
    figure = sweep.draw_curves(swept, "test")
    style.save(figure, tmp_path / "figure", ".png")
    labels = [label.get_window_extent() for label in figure.axes[1].get_xticklabels()]
    assert not any(a.overlaps(b) for k, a in enumerate(labels) for b in labels[k + 1 :])


def test_one_seed_one_alpha_and_none(make_run, tmp_path):
    for lam in (0.01, 0.1):
        make_run(f"a{lam}", lam, None)
    runs, others = find_runs(tmp_path / "runs")
    swept = sweep.grid(runs, others)
    assert (swept.alphas, swept.swept) == ([None], 1)
    figure = sweep.draw(swept, "test", "paper")
    assert len([ax for ax in figure.subfigs[0].axes if ax.axison]) == 2
    assert figure.subfigs[1].axes[0].get_title() == "Accuracy"
    assert sweep.draw_curves(swept, "test").axes[0].get_title() == "Against λ"


def test_files(swept, tmp_path):
    said = []
    figures.draw("all", tmp_path / "runs", "paper", said.append)
    names = {path.stem for path in (tmp_path / "runs").glob("*.p*")}
    curves = {"sweep_curves", "sweep_curves_train"}
    assert names == {"fig2_train", "fig2_test", "fig3_train", "fig3_test", "compare",
                     "sweep", "sweep_train", *curves}  # fmt: skip
    assert sum("failed: training diverged" in line for line in said) == 2  # seeds
    (line,) = [line for line in said if line.startswith("sweep is drawn from")]
    assert " more, which differ in λ, α and seed alone; draw " in line and "/other with" in line


def test_curves_of_other_runs_are_taken_away(make_run, tmp_path):
    for lam in (0.01, 0.1):
        make_run(f"{lam}", lam)
    figures.draw("sweep", tmp_path / "runs", "paper", lambda _: None)
    assert len(list((tmp_path / "runs").glob("sweep_curves*"))) == 4
    shutil.rmtree(tmp_path / "runs/0.1")
    said = []
    figures.draw("sweep", tmp_path / "runs", "paper", said.append)
    assert "left out: sweep_curves: no two of these runs differ in λ or in α" in said
    names = {path.name for path in (tmp_path / "runs").glob("*.p*")}
    assert names == {"sweep.png", "sweep.pdf", "sweep_train.png", "sweep_train.pdf"}


def test_a_sweep_without_center_loss(make_run, tmp_path):
    make_run("softmax", 0)
    with pytest.raises(UserError, match="sweep needs runs with λ > 0"):
        figures.draw("sweep", tmp_path / "runs", "paper", print)
