"""What the figures show: the right points in the right colours, centers, labels, limits."""

import json

import matplotlib
import numpy as np
import pytest
import torch
from cycler import cycler
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from center_loss import figures, metrics
from center_loss.base.errors import UserError
from center_loss.data import DATASETS
from center_loss.figures import (
    captions,
    choose,
    compare,
    dialects,
    evolution,
    fig2,
    fig3,
    one_run,
    style,
    sweep,
)
from center_loss.runs.contents import load_features
from center_loss.runs.load import Run, find_runs


def load_run(folder) -> Run:
    (one,), _ = find_runs(folder)
    return one


def points_and_digits(ax, palette):
    """The drawn points and, from their colours, their digits."""
    (dots,) = ax.collections
    colors = np.array([to_rgb(color) for color in style.PALETTES[palette]])
    distance = np.abs(dots.get_facecolors()[:, None, :3] - colors[None]).sum(2)
    assert distance.min(1).max() < 1e-6
    return np.asarray(dots.get_offsets()), distance.argmin(1)


def assert_same_points(ax, features, labels, palette):
    points, digits = points_and_digits(ax, palette)
    drawn = sorted(map(tuple, np.column_stack([points, digits]).tolist()))
    wanted = sorted(map(tuple, np.column_stack([features, labels]).astype(float).tolist()))
    np.testing.assert_allclose(drawn, wanted, rtol=1e-6)


def assert_equal_axes_hold_everything(ax, features):
    assert ax.get_aspect() == 1
    (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
    assert x1 - x0 == pytest.approx(y1 - y0)
    assert x0 < features[:, 0].min() and features[:, 0].max() < x1
    assert y0 < features[:, 1].min() and features[:, 1].max() < y1


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("palette", ["paper", "colorblind"])
def test_fig2(make_run, split, palette):
    softmax = load_run(make_run("softmax", 0))
    arrays = load_features(softmax.folder)
    figure = fig2.draw(softmax, split, palette)
    (ax,) = figure.axes
    features = arrays[f"{split}_features"]
    assert_same_points(ax, features, arrays[f"{split}_labels"], palette)
    assert_equal_axes_hold_everything(ax, features)
    assert ax.get_xlabel() == "Activation of the 1st neuron"
    assert ax.get_ylabel() == "Activation of the 2nd neuron"
    assert {"train": "training set", "test": "test set"}[split] in ax.get_title()
    assert ax.collections[0].get_rasterized()
    names = {text.get_text(): text for text in ax.texts}
    assert set(names) == set("0123456789")
    for digit in range(10):  # at the outer end of its ray
        own = features[arrays[f"{split}_labels"] == digit]
        x, y = names[str(digit)].xy
        assert np.linalg.norm([x, y]) == pytest.approx(np.linalg.norm(own, axis=1).max(), rel=0.06)
        assert np.cos(np.arctan2(y, x) - np.radians(36 * digit)) > 0.999
        outward = names[str(digit)].get_position()
        assert np.dot(outward, [x, y]) > 0
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list("0123456789")
    for handle, color in zip(legend.legend_handles, style.PALETTES[palette], strict=True):
        assert handle.get_color() == color


@pytest.mark.parametrize("split", ["train", "test"])
def test_fig3(make_run, split):
    lams = [0.001, 0.01, 0.1, 1]
    joint = [load_run(make_run(f"l{lam}", lam)) for lam in lams]
    figure = fig3.draw(joint, split, "paper")
    assert len(figure.axes) == 4
    for ax, one, lam in zip(figure.axes, joint, lams, strict=True):
        arrays = load_features(one.folder)
        features = arrays[f"{split}_features"]
        assert_same_points(ax, features, arrays[f"{split}_labels"], "paper")
        assert_equal_axes_hold_everything(ax, features)
        (dots,) = ax.lines
        np.testing.assert_allclose(dots.get_xydata(), arrays["centers"])
        assert dots.get_markerfacecolor() == "white"
        assert [text.get_text() for text in ax.texts] == [f"c{j}" for j in range(10)]
        for text, center in zip(ax.texts, arrays["centers"], strict=True):
            np.testing.assert_allclose(text.xy, center)
        assert f"λ = {lam:g}" in ax.get_title()
    assert "α = 0.5" in figure.get_suptitle()
    labels = [[ax.get_xlabel() != "", ax.get_ylabel() != ""] for ax in figure.axes]
    assert labels == [[False, True], [False, False], [True, True], [True, False]]


def test_train_and_test_have_the_same_axes(make_run):
    """As in the paper's Fig. 2, so that one picture can be compared with the other."""
    softmax, joint = load_run(make_run("s", 0)), load_run(make_run("j", 0.1))
    pairs = [
        [fig2.draw(softmax, split, "paper").axes[0] for split in style.SPLITS],
        [fig3.draw([joint], split, "paper", "column").axes[0] for split in style.SPLITS],
        [fig3.draw([joint], split, "paper").axes[0] for split in style.SPLITS],
        one_run.draw(joint.folder, joint.metrics).axes,
    ]
    for (train, test), one in zip(pairs, [softmax, joint, joint, joint], strict=True):
        assert train.get_xlim() == test.get_xlim() and train.get_ylim() == test.get_ylim()
        for split in style.SPLITS:
            assert_equal_axes_hold_everything(train, load_features(one.folder)[f"{split}_features"])


def test_more_dots_are_smaller_and_fainter():
    rng = np.random.default_rng(0)
    drawn = {}
    for count in (400, 10_000, 60_000):
        ax = Figure(figsize=(3.5, 3.5)).subplots()
        style.draw_features(ax, rng.normal(size=(count, 2)), rng.integers(0, 10, count), "paper")
        (dots,) = ax.collections
        drawn[count] = dots.get_sizes()[0], dots.get_alpha()
    ax = Figure(figsize=(3.5, 3.5)).add_axes((0, 0, 1, 1))  # in no grid
    style.draw_features(ax, rng.normal(size=(400, 2)), rng.integers(0, 10, 400), "paper")
    assert ax.collections[0].get_sizes()[0] == drawn[400][0]
    sizes, alphas = zip(*drawn.values(), strict=True)
    assert list(sizes) == sorted(sizes, reverse=True) and list(alphas) == sorted(alphas)[::-1]
    assert alphas[2] < 0.4  # three on top of each other are darker than one
    assert alphas[2] * sizes[2] > 0.2  # one alone is still seen


@pytest.mark.parametrize("width", ["column", "page"])
def test_widths_are_those_of_a_paper(make_run, tmp_path, width):
    joint = [load_run(make_run(f"{lam}", lam)) for lam in (0.001, 0.01, 0.1, 1)]
    softmax = load_run(make_run("s", 0))
    for figure in (
        fig2.draw(softmax, "test", "paper", width), fig3.draw(joint, "test", "paper", width)
    ):  # fmt: skip
        assert figure.get_figwidth() == {"column": 3.5, "page": 7.16}[width]
        style.save(figure, tmp_path / "figure", ".png")
        with Image.open(tmp_path / "figure.png") as picture:
            assert picture.width == int(figure.get_figwidth() * 300)
        for text in figure.findobj(Text):
            if text.get_text().strip():
                assert text.get_fontsize() >= 6  # points: what journals ask for
        figure.set_dpi(style.DPI)
        assert_nothing_overlaps(figure)


def test_a_picture_leads_back_to_its_runs(make_run, tmp_path):
    """PNG and PDF say what was trained for them, without a path, and the same bytes each time."""
    for lam in (0, 0.01, 1):
        make_run(str(lam), lam)
    folder = tmp_path / "runs"
    finished, _ = find_runs(folder)
    for one in finished:  # as a finished training has them
        more = {"versions": {"torch": "2.13.0"}, "data_md5": {"images": "68b329da"}}
        text = json.dumps(one.metrics | more | {"precision": "bf16"})
        (one.folder / "metrics.json").write_text(text)
    shown = {"fig2_test": [0], "fig3_train": [0.01, 1], "compare": [0, 0.01], "dialects": [0]}
    shown |= {"sweep": [0, 0.01, 1], "sweep_curves": [0, 0.01, 1]}
    contents = []
    for out in (tmp_path / "a", tmp_path / "b"):
        for name in ("fig2", "fig3", "compare", "dialects", "sweep"):
            figures.draw(name, folder, "paper", say=lambda _: None, out=out)
        contents.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert contents[0] == contents[1]
    for name, lams in shown.items():
        with Image.open(tmp_path / "a" / f"{name}.png") as picture:
            said = picture.text["Description"]
        assert said.encode() in contents[0][f"{name}.pdf"]
        runs = json.loads(said)["runs"]
        assert [one["lam"] for one in runs] == lams
        for one in runs:
            assert one["recipe"] == "smoke" and one["seed"] == 0 and one["precision"] == "bf16"
            assert one.get("alpha") == (0.5 if one["lam"] else None)
            assert one["versions"]["torch"] == "2.13.0" and one["data_md5"]["images"] == "68b329da"
        assert str(tmp_path) not in said


def test_a_runs_own_picture_says_which_it_is(make_run, tmp_path):
    one = load_run(make_run("one", 0.1))
    style.save(one_run.draw(one.folder, one.metrics), tmp_path / "figure", ".png")
    with Image.open(tmp_path / "figure.png") as picture:
        (said,) = json.loads(picture.text["Description"])["runs"]
    assert (said["lam"], said["recipe"]) == (0.1, one.metrics["recipe"])


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_fig3_has_a_panel_for_each_run(make_run, count):
    joint = [load_run(make_run(str(k), 10.0**-k)) for k in range(count)]
    figure = fig3.draw(joint, "test", "paper")
    assert sum(ax.axison for ax in figure.axes) == count


def test_nothing_is_clipped_or_overlaps(make_run, tmp_path):
    joint = [load_run(make_run(f"{lam}", lam)) for lam in (0.001, 0.01, 0.1, 1)]
    for figure in (
        fig3.draw(joint, "test", "paper"),
        fig2.draw(load_run(make_run("s", 0)), "test", "paper"),
        one_run.draw(joint[0].folder, joint[0].metrics),
    ):
        figure.set_dpi(style.DPI)
        style.save(figure, tmp_path / "figure", ".png")
        assert_nothing_overlaps(figure)


def assert_nothing_overlaps(figure):
    """Nor is anything clipped, of legend, titles and labels."""
    width, height = figure.canvas.get_width_height()
    boxes = [figure.legends[0].get_window_extent()]
    boxes += [ax.title.get_window_extent() for ax in figure.axes]
    boxes += [figure._suptitle.get_window_extent()] if figure._suptitle else []
    labels = [label for ax in figure.axes for label in (ax.xaxis.label, ax.yaxis.label)]
    shown = [label.get_window_extent() for label in labels if label.get_text()]
    ticks = [
        tick.label1.get_window_extent()
        for ax in figure.axes
        for tick in ax.xaxis.get_major_ticks()
        if ax.get_xlim()[0] <= tick.get_loc() <= ax.get_xlim()[1] and tick.label1.get_text()
    ]
    for box in [*boxes, *shown, *ticks]:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
    boxes += shown
    for k, a in enumerate(boxes):
        assert not any(a.overlaps(b) for b in boxes[k + 1 :])
    for ax in figure.axes:
        assert not boxes[0].overlaps(ax.get_tightbbox())


@pytest.mark.parametrize("seed", range(6))
def test_compare_writes_intra_where_no_digit_stands(make_run, seed):
    rng = np.random.default_rng(seed)
    folder = make_run("s", 0)
    arrays = load_features(folder)
    labels = arrays["test_labels"]
    angles = 2 * np.pi * (np.arange(10) / 10 + rng.uniform(-0.03, 0.03, 10))
    rays = np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(30, 250, (10, 1))
    features = rays[labels] * rng.uniform(0.3, 1, (len(labels), 1))
    arrays["test_features"] = (features + rng.normal(0, 4, features.shape)).astype(np.float32)
    np.savez(folder / "features.npz", **arrays)
    softmax = load_run(folder)
    figure = compare.draw(softmax, load_run(make_run("j", 0.1)), "paper")
    figure.draw_without_rendering()
    boxes = {text.get_text(): text.get_window_extent() for text in figure.axes[0].texts}
    assert not [digit for digit in "0123456789" if boxes["intra"].overlaps(boxes[digit])]


def test_one_run_shows_both_splits(make_run):
    for lam, alpha in [(0, 0.5), (0.01, 0.5), (0.01, None)]:
        folder = make_run(f"{lam}{alpha}", lam, alpha)
        one = load_run(folder)
        figure = one_run.draw(folder, one.metrics)
        arrays = load_features(folder)
        for ax, split in zip(figure.axes, ("train", "test"), strict=True):
            assert_same_points(ax, arrays[f"{split}_features"], arrays[f"{split}_labels"], "paper")
            assert len(ax.lines) == (lam > 0)
            name = "c" if lam > 0 else ""
            assert {text.get_text() for text in ax.texts} == {f"{name}{j}" for j in range(10)}
        assert ("α" in figure.get_suptitle()) == (lam > 0 and alpha is not None)


def test_centers_outside_of_the_features_are_shown(make_run):
    """At the start they are at 0, wherever the features are."""
    folder = make_run("early", 0.01)
    arrays = dict(np.load(folder / "features.npz"))
    arrays["centers"] = np.full((10, 2), 3 * np.abs(arrays["train_features"]).max())
    (folder / "SHA256SUMS").unlink(missing_ok=True)
    np.savez(folder / "features.npz", **arrays)
    one = load_run(folder)
    swept = sweep.draw(sweep.grid([one], []), "test", "paper")
    for ax in [
        *one_run.draw(folder, one.metrics).axes,
        fig3.draw([one], "test", "paper").axes[0],
        next(ax for ax in swept.subfigs[0].axes if ax.axison),
    ]:
        (dots,) = ax.lines
        assert all(ax.viewLim.contains(x, y) for x, y in dots.get_xydata())


@pytest.mark.parametrize(
    "recipe, loss, in_run, in_fig3",
    [
        ("fast", "paper", "fast: λ = 0.1", "Softmax + center loss, α"),
        (
            "fast", "caffe_face", "fast: center loss of caffe_face, λ = 0.1",
            "Softmax + center loss of caffe_face, α",
        ),
        (
            "caffe_face", "caffe_face", "caffe_face: λ = 0.1",
            "Softmax + center loss of caffe_face, α",
        ),
    ],
)  # fmt: skip
def test_titles_name_the_loss(make_run, recipe, loss, in_run, in_fig3):
    one = load_run(make_run("one", 0.1))
    one.metrics.update(recipe=recipe, loss=loss)
    assert one_run.draw(one.folder, one.metrics).get_suptitle().startswith(in_run)
    assert fig3.draw([one], "test", "paper").get_suptitle().startswith(in_fig3)


def test_draw_all_writes_what_the_runs_allow(make_run, tmp_path):
    make_run("joint", 0.01)
    half = make_run("half", 0.1)
    (half / "metrics.json").unlink()
    (make_run("broken", 0) / "metrics.json").write_text("{")
    said = []
    figures.draw("all", tmp_path / "runs", "paper", said.append)
    names = {path.name for path in (tmp_path / "runs").iterdir() if path.is_file()}
    assert names == {f"fig3_{s}{x}" for s in ("train", "test") for x in (".png", ".pdf", ".txt")}
    assert any("half isn't finished" in line for line in said)
    assert any("broken/metrics.json is damaged" in line for line in said)
    for name in ("fig2", "compare"):
        assert any(f"{name} needs a run with λ = 0" in line for line in said)
    assert any("evolution needs runs with snapshots" in line for line in said)
    assert any("page: " in line and "has other test labels" in line for line in said)
    with pytest.raises(UserError, match="fig2 needs a run with λ = 0"):
        figures.draw("fig2", tmp_path / "runs", "paper", said.append)
    assert (tmp_path / "runs/fig3_test.pdf").stat().st_size < 300_000


def test_the_same_runs_give_the_same_bytes(make_run, tmp_path):
    make_run("softmax", 0)
    contents = []
    for _ in range(2):
        figures.draw("fig2", tmp_path / "runs", "colorblind", lambda line: None)
        contents.append([p.read_bytes() for p in sorted((tmp_path / "runs").glob("fig2*"))])
    assert len(contents[0]) == 5
    assert contents[0] == contents[1]


DARK = {
    "text.usetex": True,
    "savefig.bbox": "tight",
    "savefig.transparent": True,
    "savefig.dpi": 50,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "black",
    "axes.facecolor": "black",
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=["red"]),
    "text.color": "white",
    "font.size": 20,
    "lines.marker": "x",
    "image.cmap": "gray",
    "pdf.fonttype": 42,
    "path.sketch": (1, 100, 2),
}


def test_what_a_user_has_set_for_matplotlib_changes_nothing(make_run, tmp_path, monkeypatch):
    """The same bytes of every kind of figure, and afterwards the user's settings again."""
    monkeypatch.setattr(style, "DPI", 20)
    for name, lam, alpha in [("softmax", 0, 0.5), ("a", 0.01, 0.5), ("b", 0.1, 0.1)]:
        make_run(name, lam, alpha, snapshots=2)
    folder = tmp_path / "runs"

    def drawn() -> dict[str, bytes]:
        figures.draw("all", folder, "paper", say=lambda line: None)
        figures.draw("dialects", folder, "paper", say=lambda line: None)
        (one,) = find_runs(folder / "a")[0]
        figures.draw_run(one.folder, one.metrics)
        kinds = (".png", ".pdf", ".gif", ".mp4")
        return {str(p): p.read_bytes() for p in folder.rglob("*") if p.suffix in kinds}

    before = drawn()
    assert len(before) > 12
    with matplotlib.rc_context(DARK):
        assert drawn() == before
        assert matplotlib.rcParams["figure.facecolor"] == "black"


def test_figures_go_where_they_are_wanted(make_run, tmp_path):
    make_run("joint", 0.01)
    out, said = tmp_path / "new/figures", []
    with pytest.raises(UserError, match="fig2 needs a run"):
        figures.draw("fig2", tmp_path / "runs", "paper", said.append, out=out)
    assert not out.parent.exists()  # nothing was drawn
    figures.draw("fig3", tmp_path / "runs", "paper", said.append, out=out)
    assert len(list(out.iterdir())) == 6
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["joint"]


def test_what_is_elsewhere_is_not_removed(make_run, tmp_path, monkeypatch):
    """Beside the runs, an animation of other runs is; anywhere else it may be another program's."""
    for name, lam in [("softmax", 0), ("joint", 0.01)]:
        make_run(name, lam, snapshots=2)
    monkeypatch.setattr(evolution.shutil, "which", lambda name: None)  # no ffmpeg
    for folder, out in [(tmp_path / "runs", None), (tmp_path / "out", tmp_path / "out")]:
        folder.mkdir(exist_ok=True)
        (folder / "evolution.mp4").write_text("mine")
        figures.draw("evolution", tmp_path / "runs", "paper", lambda line: None, out=out)
        assert (folder / "evolution.gif").exists()
        assert (folder / "evolution.mp4").exists() == (out is not None)


def test_the_program_removes_what_would_be_of_other_runs(make_run, tmp_path, command):
    """Curves of a sweep, where neither λ nor α is swept any more."""
    make_run("one", 0.01)
    old = tmp_path / "runs/sweep_curves.png"
    old.write_text("old")
    done = command("visualize.py", "figure=sweep", f"runs={tmp_path / 'runs'}")
    assert done.returncode == 0, done.stderr
    assert not old.exists()
    old.write_text("old")
    done = command(
        "visualize.py", "figure=sweep", f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'runs'}"
    )
    assert done.returncode == 0 and old.exists()


@pytest.mark.parametrize("root", [None, "elsewhere"])
def test_mnist_for_the_page_is_where_it_is_said_to_be(make_run, tmp_path, monkeypatch, root):
    (tmp_path / "of_runs/MNIST/raw").mkdir(parents=True)
    make_run("joint", 0.01, data={"root": str(tmp_path / "of_runs")})
    asked = []

    def load(root, **options):
        asked.append(root)
        raise UserError("not there")

    monkeypatch.setitem(DATASETS, "mnist", load)
    with pytest.raises(UserError, match="not there"):
        figures.draw("page", tmp_path / "runs", "paper", lambda line: None, mnist=root)
    assert asked == [root or str(tmp_path / "of_runs")]


def test_fig2_takes_the_run_that_fits_fig3(make_run, tmp_path):
    for recipe, lams in [("smoke", [0]), ("paper", [0, 0.01])]:
        for lam in lams:
            make_run(f"{recipe}-{lam}", lam, recipe=recipe)
    said, chosen, other = [], tmp_path / "runs/paper-0", tmp_path / "runs/smoke-0"
    figures.draw("fig2", tmp_path / "runs", "paper", said.append)
    assert said[0] == f"fig2 is drawn from {chosen}; draw {other} with runs=FOLDER"


def test_captions_hold_the_numbers(make_run):
    softmax = load_run(make_run("s", 0))
    joint = [load_run(make_run(f"{lam}", lam, seed=3)) for lam in (0.01, 0.1)]
    for k, one in enumerate([softmax, *joint]):
        one.metrics.update(test_accuracy=0.9 + 0.01 * k, test_intra_inter_ratio=0.1 * (k + 1),
                           train_accuracy=0.8 + 0.01 * k, steps=1234, precision="bf16")  # fmt: skip
    of_fig2 = fig2.caption(softmax)
    for text in ["LeNet++", "softmax loss alone", "(a) training set, 400 images, accuracy 80.00%",
                 "(b) test set, 400 images, accuracy 90.00%, intra/inter 0.100",
                 "recipe smoke, seed 0, 1,234 steps (bf16)"]:  # fmt: skip
        assert text in of_fig2
    of_fig3 = fig3.caption(joint, "test")
    for text in ["(α = 0.5)", "seed 3",
                 "(a) λ = 0.01: test set, 400 images, accuracy 91.00%, intra/inter 0.200",
                 "(b) λ = 0.1: test set, 400 images, accuracy 92.00%"]:  # fmt: skip
        assert text in of_fig3
    of_compare = compare.caption(softmax, joint[0])
    for text in ["accuracy 90.00%", "accuracy 91.00%", "λ = 0.01"]:
        assert text in of_compare
    joint[1].metrics.update(diverged_at=900)
    diverged = fig3.caption(joint, "train")
    assert (
        "λ = 0.1: Trained with recipe smoke, seed 3, 1,234 steps (it diverged at 900)" in diverged
    )
    assert "λ = 0.01: Trained with recipe smoke, seed 3, 1,234 steps" in diverged
    assert "diverged at 900" in captions.run_numbers(joint[1])


def test_compare_draws_the_distances(make_run):
    softmax, joint = (load_run(make_run(name, lam)) for name, lam in [("s", 0), ("j", 0.01)])
    arrays = dict(np.load(softmax.folder / "features.npz"))
    arrays["test_features"] *= np.random.default_rng(0).uniform(0.1, 1, (400, 1))  # rays
    np.savez(softmax.folder / "features.npz", **arrays)
    figure = compare.draw(softmax, joint, "paper")
    panels, bars = figure.axes[:2], figure.axes[2:]
    assert [ax.get_title() for ax in panels] == [
        "Softmax loss alone", "Softmax + center loss",
    ]  # fmt: skip
    for one, ax, bar in zip([softmax, joint], panels, bars, strict=True):
        arrays = load_features(one.folder)
        features, labels = arrays["test_features"].astype(float), arrays["test_labels"]
        assert_same_points(ax, features, labels, "paper")
        wanted = metrics.compactness(
            torch.from_numpy(features), torch.from_numpy(labels).long(), 10
        )
        means = np.stack([features[labels == digit].mean(0) for digit in range(10)])
        circles = ax.patches
        np.testing.assert_allclose([circle.center for circle in circles], means)
        for digit, circle in enumerate(circles):
            own = features[labels == digit]
            away = np.linalg.norm(own - means[digit], axis=1).mean()
            assert circle.radius == pytest.approx(away)
        lines = {}
        for text in ax.texts:
            if getattr(text, "arrow_patch", None):
                length = np.linalg.norm(np.subtract(text.xy, text.xyann))
                lines[text.arrow_patch.get_arrowstyle().__class__.__name__] = length
        assert lines["CurveAB"] == pytest.approx(wanted["inter"])  # two heads
        assert lines["Curve"] == pytest.approx(wanted["intra"])
        inter, intra = (patch.get_width() for patch in bar.patches)
        assert inter == 1
        assert intra == pytest.approx(wanted["intra_inter_ratio"])
        assert f"= {wanted['intra_inter_ratio']:.3f} × inter" in bar.texts[1].get_text()
        texts = [text.get_text() for text in ax.texts]
        second = "" if one is softmax else "λ = 0.01, "
        assert f"{second}test accuracy 98.76%" in texts
        assert set("0123456789") < set(texts)  # the digits' names
    figure.set_dpi(100)
    figure.draw_without_rendering()
    assert_nothing_overlaps(figure)


def test_compare_takes_the_lam_that_is_asked_for(make_run, tmp_path):
    for lam in (0, 0.001, 0.02, 0.1):
        make_run(f"{lam}", lam)
    runs, _ = find_runs(tmp_path / "runs")
    for lam, wanted in [(None, 0.02), (0.1, 0.1)]:
        softmax, joint = choose.pair(runs, lam, "compare")
        assert (softmax.metrics["lam"], joint.metrics["lam"]) == (0, wanted)
    for figure in ("compare", "all"):
        with pytest.raises(
            UserError, match=r"no run has lam=0\.5; there are 0, 0\.001, 0\.02, 0\.1"
        ):
            figures.draw(figure, tmp_path / "runs", "paper", lambda _: None, lam=0.5)
    make_run("many digits", 1 / 81)
    runs, _ = find_runs(tmp_path / "runs")
    assert choose.pair(runs, 0.0123457, "compare")[1].metrics["lam"] == 1 / 81


def test_compare_of_wide_classes_and_of_one(make_run):
    """Where intra is larger than inter, and where there is no inter."""
    for name, digits in [("wide", 10), ("one", 1)]:
        folders = [make_run(f"{name}{lam}", lam) for lam in (0, 0.0001)]
        for folder in folders:
            arrays = dict(np.load(folder / "features.npz"))
            keep = arrays["test_labels"] < digits
            for key in ("test_features", "test_labels", "test_predictions"):
                arrays[key] = arrays[key][keep]
            arrays["test_features"] += np.random.default_rng(0).normal(0, 99, (keep.sum(), 2))
            np.savez(folder / "features.npz", **arrays)
        softmax, joint = map(load_run, folders)
        joint.metrics["loss"] = "pytorch_center_loss"
        figure = compare.draw(softmax, joint, "paper")
        figure.set_dpi(100)
        figure.draw_without_rendering()
        assert_nothing_overlaps(figure)
        panel = figure.axes[0].get_window_extent()
        assert panel.width > 0.38 * figure.bbox.width  # what is written doesn't shrink it
        widths = [patch.get_width() for patch in figure.axes[2].patches]
        assert widths == [] if digits == 1 else widths[1] > 1


def test_fig3_prefers_the_papers_loss(make_run):
    runs = [load_run(make_run(name, 0.1, loss={"name": name, "lam": 0.1, "alpha": 0.5}))
            for name in ("mxnet_center_loss", "paper")]  # fmt: skip
    for one in runs:
        one.metrics["loss"] = one.config["loss"]["name"]
    assert [one.folder.name for one in choose.differing_in_lam(runs)] == ["paper"]


def test_fig3_takes_runs_that_differ_in_lam_alone(make_run):
    runs = [
        load_run(make_run(f"{lam}-{alpha}-{seed}", lam, alpha, seed))
        for seed in (1, 0)
        for alpha in (1.0, 0.5)
        for lam in (0.1, 0.01)
    ]
    runs.append(load_run(make_run("other", 0.001, 0.5, 0, recipe="paper")))
    chosen = choose.differing_in_lam(runs)
    assert [each.folder.name for each in chosen] == ["0.01-0.5-0", "0.1-0.5-0"]


def test_dialects(make_run):
    """Four ways to the same means; only caffe_face moves a class that is absent."""
    softmax = load_run(make_run("softmax", 0))
    arrays = load_features(softmax.folder)
    features, labels = arrays["train_features"], arrays["train_labels"]
    means = np.stack([features[labels == digit].mean(0) for digit in range(10)])
    figure = dialects.draw(softmax, "paper")
    *panels, distance, absent = figure.axes
    names = ["paper, mxnet_center_loss", "caffe_face", "ijcv", "pytorch_center_loss"]
    titles = [ax.get_title() for ax in panels]
    assert [title.split(" (")[0] for title in titles] == names
    assert [text.get_text() for text in distance.get_legend().get_texts()] == titles
    for k, (ax, name) in enumerate(zip(panels, dialects.SHOWN, strict=True)):
        points = np.asarray(ax.collections[0].get_offsets())
        np.testing.assert_allclose(np.sort(points, axis=0), np.sort(features, axis=0), rtol=1e-6)
        *paths, white = ax.lines
        np.testing.assert_allclose(np.column_stack(white.get_data()), means, rtol=1e-5)
        drawn = np.stack([np.column_stack(path.get_data()) for path in paths], axis=1)
        assert drawn.shape == (dialects.STEPS + 1, 10, 2)
        np.testing.assert_array_equal(drawn, dialects.path(name, features, labels))
        assert [path.get_color() for path in paths] == style.PALETTES["paper"]
        assert np.linalg.norm(drawn[0], axis=1).max() < 5  # they start near the origin
        away = np.linalg.norm(drawn - means, axis=2).mean(1)
        np.testing.assert_allclose(distance.lines[k].get_ydata(), away)
        assert away[-1] < (0.4 if name == "ijcv" else 0.1) * away[0]  # 0.99¹²⁰ = 0.3
        steps, moved = absent.lines[k].get_data()
        assert (steps[0], steps[-1]) == (dialects.FROM, dialects.TO)
        assert moved.any() == (name == "caffe_face")
    first = [distance.lines[k].get_ydata()[5] for k in range(4)]
    # α n/(1+n) of the way; 2 α n/B; from a standstill, with momentum; lr
    assert first[0] < first[3] < first[1] < first[2]
