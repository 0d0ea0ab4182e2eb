"""The animation: every frame shows the snapshots' numbers, axes glide, files are small enough."""

import io
import itertools
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_figures import load_run

from center_loss import figures
from center_loss.base.errors import UserError
from center_loss.figures import evolution
from center_loss.runs.contents import load_snapshots


@pytest.fixture
def pair(make_run):
    return [load_run(make_run(name, lam, snapshots=4)) for name, lam in [("s", 0), ("j", 0.01)]]


def snapshots_of(reaches, steps=None, images=30):
    """Snapshots whose features reach about as far as asked for."""
    rng = np.random.default_rng(0)
    shape = rng.uniform(-1, 1, (len(reaches), images, 2))
    factor = np.array(reaches)[:, None, None]
    return {
        "steps": np.arange(len(reaches)) if steps is None else np.array(steps),
        "accuracy": np.linspace(0.1, 0.9, len(reaches)),
        "features": factor * shape,
        "centers": factor * shape[:, :10] / 2,
    }


def test_at_a_snapshot_a_frame_shows_it():
    arrays = snapshots_of([0.1, 5, 200, 180], steps=[0, 1, 9, 100])
    shown = evolution.moments(arrays, arrays["steps"].astype(float))
    for k, moment in enumerate(shown):
        np.testing.assert_allclose(moment.features, arrays["features"][k])
        np.testing.assert_allclose(moment.centers, arrays["centers"][k])
        assert moment.step == arrays["steps"][k]
        assert moment.accuracy == pytest.approx(arrays["accuracy"][k])


def test_between_snapshots_step_and_accuracy_are_the_last_ones():
    arrays = snapshots_of([1, 1], steps=[0, 10])
    (moment,) = evolution.moments(arrays, np.array([9.9]))
    assert (moment.step, moment.accuracy) == (0, pytest.approx(0.1))
    # where neither grows, half of the way in time is half of the way in space
    (moment,) = evolution.moments(snapshots_of([1, 1], steps=[0, 10]), np.array([5.0]))
    limits = [np.quantile(np.abs(each).max(1), 0.998) for each in arrays["features"]]
    middle = sum(each / limit for each, limit in zip(arrays["features"], limits, strict=True)) / 2
    np.testing.assert_allclose(moment.features, middle * np.sqrt(limits[0] * limits[1]))


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=60))
def test_axes_are_never_too_small(reach):
    glided = evolution.gliding(np.array(reach))
    assert glided.shape == (len(reach),)
    assert (glided >= np.array(reach) * (1 - 1e-9)).all()
    assert glided.max() <= max(reach) * (1 + 1e-9)


def test_axes_glide():
    arrays = snapshots_of([0.1] * 9 + [0.5] * 10)  # a jump by a factor of five
    shown = evolution.moments(arrays, evolution.frame_steps(arrays["steps"]))
    assert len(shown) == evolution.FRAMES
    growth = np.diff(np.log([moment.reach for moment in shown]))
    assert np.abs(growth).max() < np.log(1.3)  # from one frame to the next
    assert np.abs(np.diff(growth)).max() < np.log(1.06)
    for moment in shown:
        inside = (np.abs(moment.features) < moment.reach).all(1).mean()
        assert inside > 0.95


def test_frames_draw_what_the_snapshots_hold(pair, monkeypatch):
    monkeypatch.setattr(evolution, "FRAMES", 4)  # as many as there are snapshots
    figure, count, frames = evolution.draw(*pair, "colorblind")
    assert count == 4
    arrays = [load_snapshots(one.folder) for one in pair]
    for k, _ in enumerate(frames):
        for ax, held in zip(figure.axes, arrays, strict=True):
            points = np.asarray(ax.collections[0].get_offsets())
            wanted = held["features"][k]
            np.testing.assert_allclose(
                points[np.lexsort(points.T)], wanted[np.lexsort(wanted.T)], rtol=1e-5
            )
            low, high = ax.get_xlim()
            assert low == -high and high > np.abs(wanted).max()
            assert ax.get_ylim() == (low, high)
            texts = [text.get_text() for text in ax.texts]
            second = f"accuracy {held['accuracy'][k]:.1%}"
            assert (second if ax is figure.axes[0] else f"λ = 0.01, {second}") in texts
            for text in ax.texts:
                if text.get_text() in "0123456789":
                    own = wanted[held["labels"] == int(text.get_text())]
                    np.testing.assert_allclose(text.xy, own.mean(0), rtol=1e-4)
        softmax, joint = figure.axes
        assert not softmax.lines  # softmax alone has no centers
        np.testing.assert_allclose(joint.lines[0].get_xydata(), arrays[1]["centers"][k], rtol=1e-5)
        assert f"step {10 * k}, 200 test images" in [text.get_text() for text in figure.texts]
    assert k == 3
    assert [ax.get_title() for ax in figure.axes] == [
        "Softmax loss alone",
        "Softmax + center loss",
    ]


@pytest.mark.parametrize("scale", [1e-4, 1, 1000])
def test_nothing_overlaps_or_is_clipped(make_run, monkeypatch, scale):
    pair = [load_run(make_run(name, lam, snapshots=2)) for name, lam in [("s", 0), ("j", 0.0001)]]
    pair[1].metrics["loss"] = "pytorch_center_loss"
    for one in pair:
        arrays = dict(np.load(one.folder / "snapshots.npz"))
        for key in ("features", "centers"):
            arrays[key] *= np.float32(scale)
        np.savez(one.folder / "snapshots.npz", **arrays)
    monkeypatch.setattr(evolution, "FRAMES", 2)
    figure, _, frames = evolution.draw(*pair, "paper")
    for _ in frames:
        figure.canvas.draw()
        width, height = figure.canvas.get_width_height()
        boxes = [figure.legends[0].get_window_extent()]
        boxes += [text.get_window_extent() for text in figure.texts]
        boxes += [ax.title.get_window_extent() for ax in figure.axes]
        frames_of_axes = [ax.get_window_extent() for ax in figure.axes]
        boxes += frames_of_axes
        numbers = [
            tick.label1.get_window_extent()
            for ax in figure.axes
            for axis in (ax.xaxis, ax.yaxis)
            for tick in axis.get_major_ticks()
            if ax.get_xlim()[0] <= tick.get_loc() <= ax.get_xlim()[1]
        ]
        for a in numbers:
            assert a.x0 >= 0 and a.y0 >= 0 and a.x1 <= width
            assert not any(a.overlaps(b) for b in frames_of_axes)
        for k, a in enumerate(boxes):
            assert a.x0 >= 0 and a.y0 >= 0 and a.x1 <= width and a.y1 <= height
            assert not any(a.overlaps(b) for b in boxes[k + 1 :])


def test_files(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(evolution, "FRAMES", 6)
    said = []
    figures.draw("evolution", tmp_path / "runs", "paper", said.append)
    with Image.open(tmp_path / "runs/evolution.gif") as gif:
        assert gif.n_frames == 6
        assert gif.info["loop"] == 0
        assert gif.size == (960, 540)
        pictures, durations = [], []
        for k in range(gif.n_frames):
            gif.seek(k)
            durations.append(gif.info["duration"])
            pictures.append(np.asarray(gif.convert("RGB")))
        assert durations == [600, 50, 50, 50, 50, 3000]
        assert all((a != b).any() for a, b in itertools.pairwise(pictures))
        assert (pictures[0][-3, 3] == 255).all()  # paper is white
    if shutil.which("ffmpeg") is None:
        assert "left out: evolution.mp4: ffmpeg isn't installed" in said
        return
    probe = ["ffprobe", "-v", "error", "-count_frames", "-show_entries",
             "stream=width,height,nb_read_frames,codec_name,pix_fmt", "-of", "csv=p=0",
             str(tmp_path / "runs/evolution.mp4")]  # fmt: skip
    values = subprocess.run(probe, capture_output=True, text=True, check=True).stdout.strip()
    assert values == f"h264,1920,1080,yuv420p,{12 + 5 + 60}"  # the first and last stand


@pytest.mark.parametrize("what", ["missing", "fails", "says nothing", "isn't one", "hangs"])
def test_without_a_working_ffmpeg_there_is_the_gif(pair, tmp_path, monkeypatch, what):
    monkeypatch.setattr(evolution, "FRAMES", 3)
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(evolution, "FFMPEG_SECONDS", 1)
    programs = {
        "fails": "#!/bin/sh\necho no libx264 >&2\nexit 3\n",
        "says nothing": "#!/bin/sh\nexit 3\n",
        "isn't one": "",
        "hangs": f"#!/bin/sh\nexec {shutil.which('sleep')} 1000\n",
    }
    if what in programs:
        (tmp_path / "bin/ffmpeg").write_text(programs[what])
        (tmp_path / "bin/ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "runs/evolution.mp4").write_bytes(b"of other runs")
    said = []
    figures.draw("evolution", tmp_path / "runs", "paper", said.append)
    problem = {
        "missing": "ffmpeg isn't installed",
        "fails": "ffmpeg failed: no libx264",
        "says nothing": "ffmpeg failed: exit code 3",
        "isn't one": "ffmpeg can't be run: Exec format error",
        "hangs": "ffmpeg failed: exit code -9",
    }[what]
    assert said[0] == f"left out: evolution.mp4: {problem}"
    assert (tmp_path / "runs/evolution.gif").exists()
    assert not (tmp_path / "runs/evolution.mp4").exists()


def test_a_gif_that_were_too_large_has_fewer_pictures(monkeypatch):
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)) for _ in range(33)]
    whole = evolution.gif(pictures)
    monkeypatch.setattr(evolution, "GIF_BYTES", len(whole) // 3)
    less = evolution.gif(pictures)
    assert len(less) <= len(whole) // 3
    sums = []
    monkeypatch.setattr(evolution, "GIF_BYTES", 0)
    assert evolution.gif(pictures[:3])  # it ends, if two are too large as well
    for content in (whole, less):
        with Image.open(io.BytesIO(content)) as gif:
            durations = []
            for k in range(gif.n_frames):
                gif.seek(k)
                durations.append(gif.info["duration"])
            sums.append(sum(durations[1:-1]))
    assert len(durations) == 9  # of 33: every fourth
    assert sums[1] == pytest.approx(sums[0], rel=0.12)  # as long as before


def test_what_evolution_needs(make_run, tmp_path):
    make_run("s", 0)
    make_run("j", 0.01)
    with pytest.raises(UserError, match="needs runs with snapshots"):
        figures.draw("evolution", tmp_path / "runs", "paper", lambda _: None)
    make_run("t", 0.1, snapshots=3)
    with pytest.raises(UserError, match="of the runs with snapshots, needs a run with λ = 0"):
        figures.draw("evolution", tmp_path / "runs", "paper", lambda _: None)
    (tmp_path / "runs/t/snapshots.npz").write_bytes(b"no")
    make_run("u", 0, snapshots=3)
    with pytest.raises(UserError, match=r"t/snapshots\.npz is damaged"):
        figures.draw("evolution", tmp_path / "runs", "paper", lambda _: None)


def test_runs_of_other_lengths_play_side_by_side():
    """A run's panel stands still where it has no more snapshots."""
    arrays = snapshots_of([1, 2, 4], steps=[0, 5, 10])
    shown = evolution.moments(arrays, np.array([0.0, 10.0, 50.0]))
    np.testing.assert_allclose(shown[2].features, arrays["features"][2])
    assert shown[2].step == 10


def test_the_longer_run_is_played_to_its_end(make_run):
    softmax = load_run(make_run("s", 0, snapshots=6))
    joint = load_run(make_run("j", 0.01, snapshots=3))
    figure, _, frames = evolution.draw(softmax, joint, "paper")
    for _ in frames:
        pass
    assert "accuracy 98.8%" in [text.get_text() for text in figure.axes[0].texts]
    assert "step 50, 200 test images" in [text.get_text() for text in figure.texts]


@pytest.mark.parametrize(
    "key, damaged",
    [
        ("accuracy", np.full(3, np.nan)),
        ("accuracy", np.full(3, 2.0)),
        ("accuracy", np.full(3, "x")),
        ("centers", np.full((3, 10, 2), np.inf)),
        ("centers", np.full((3, 10, 2), "x")),
        ("steps", np.array([2, 1, 0])),
        ("indices", np.arange(200) + 70_000),
        ("indices", np.arange(200) - 1),
        ("features", np.zeros((3, 200, 3))),
        ("bias", np.full((3, 10), np.nan)),
    ],
)
def test_snapshots_that_cant_be(make_run, key, damaged):
    folder = make_run("s", 0, snapshots=3)
    arrays = dict(np.load(folder / "snapshots.npz"))
    np.savez(folder / "snapshots.npz", **{**arrays, key: damaged})
    with pytest.raises(UserError, match=r"snapshots\.npz is damaged"):
        load_snapshots(folder)


def test_snapshots_of_another_network(make_run):
    folder = make_run("s", 0, snapshots=3, model={"name": "lenetpp", "feature_dim": 3})
    with pytest.raises(UserError, match="has features of 2 numbers, its run of 3"):
        load_snapshots(folder)


def test_a_single_snapshot_is_a_picture(make_run, monkeypatch):
    pair = [load_run(make_run(name, lam, snapshots=1)) for name, lam in [("s", 0), ("j", 0.01)]]
    gif, *_ = evolution.render(*pair, "paper")
    with Image.open(io.BytesIO(gif)) as picture:
        assert getattr(picture, "n_frames", 1) == 1
