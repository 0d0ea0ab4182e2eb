"""How the features form: softmax alone beside softmax + center loss, as a GIF and an MP4."""

import io
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from PIL import Image

from center_loss.errors import one_line
from center_loss.figures import style
from center_loss.progress import progress_bar
from center_loss.run import Run, load_snapshots

SIZE, MP4_DPI = (9.6, 5.4), 200  # inches; 1920 × 1080 pixels
SHRINK = 2  # the GIF is smaller by this factor
FRAMES, FPS = 200, 20
FIRST_SECONDS, LAST_SECONDS = 0.6, 3  # how long the first and the last picture stand
COLORS = 96  # of the GIF
GIF_BYTES = 8_000_000  # at most
TITLE, TEXT = 17, 13  # points
MARGIN = 1.12  # of the axes, beyond the features
GLIDE = 3  # frames over which a jump of the axes is spread, to each side
HALO = [withStroke(linewidth=3, foreground="white")]


class Moment(NamedTuple):
    """What a panel shows in one frame."""

    features: np.ndarray  # (M, 2)
    centers: np.ndarray  # (C, 2)
    reach: float  # the axes go from −reach to +reach
    step: int  # of the last snapshot so far
    accuracy: float  # at that step


def moments(snapshots: dict[str, np.ndarray], frames_at: np.ndarray) -> list[Moment]:
    """What a run's panel shows in each frame, from its snapshots (``run.load_snapshots``).

    Between two snapshots the features go straight from one place in the axes to the next, while the
    axes grow or shrink by the same factor in each frame. Step and accuracy aren't interpolated.

    Args:
        snapshots: of one run.
        frames_at: (F,) the steps that the frames show, ascending.
    """
    steps, features, centers = (snapshots[key] for key in ("steps", "features", "centers"))
    centers = np.nan_to_num(centers)  # at λ = 0 they are class means, which absent classes lack
    # single features are far out: a few of 2,000 may leave the picture
    reaches = np.quantile(np.abs(features).max(2), 0.998, axis=1)
    reaches = MARGIN * np.maximum(np.maximum(reaches, np.abs(centers).max((1, 2))), 1e-6)
    at = np.interp(frames_at, steps, np.arange(len(steps)))  # in snapshots
    before = np.minimum(at.astype(int), len(steps) - 1)
    after = np.minimum(before + 1, len(steps) - 1)
    share = at - before
    reach = np.exp(np.interp(at, np.arange(len(steps)), np.log(reaches)))
    shown = []
    for k, (i, j, t, r, limit) in enumerate(
        zip(before, after, share, reach, gliding(reach), strict=True)
    ):
        between = [
            r * ((1 - t) * each[i] / reaches[i] + t * each[j] / reaches[j])
            for each in (features, centers)
        ]
        last = np.searchsorted(steps, frames_at[k], side="right") - 1
        last = max(last, 0)
        shown.append(Moment(*between, limit, int(steps[last]), float(snapshots["accuracy"][last])))
    return shown


def gliding(reach: np.ndarray) -> np.ndarray:
    """A smooth curve that lies nowhere below ``reach`` (F,): what the axes show."""
    window = 2 * GLIDE + 1
    padded = np.pad(np.log(reach), 2 * GLIDE, mode="edge")
    highest = np.lib.stride_tricks.sliding_window_view(padded, window).max(1)
    weights = np.hanning(window + 2)[1:-1]
    return np.exp(np.convolve(highest, weights / weights.sum(), mode="valid"))


def frame_steps(steps: np.ndarray) -> np.ndarray:
    """The step that each frame shows: as many frames from any snapshot to the next."""
    if len(steps) == 1:
        return steps.astype(float)
    return np.interp(np.linspace(0, len(steps) - 1, FRAMES), np.arange(len(steps)), steps)


class _Panel:
    """One run's axes, drawn once and then moved from frame to frame."""

    def __init__(self, ax: Axes, title: str, labels: np.ndarray, palette: str, centers: bool):
        self.ax, self.labels = ax, labels
        self.order = np.random.default_rng(0).permutation(len(labels))
        colors = np.array(style.PALETTES[palette])[labels[self.order]]
        nowhere = np.zeros((len(labels), 2))
        self.dots = ax.scatter(*nowhere.T, s=16, c=colors, alpha=0.75, linewidths=0)
        self.centers = None
        if centers:
            style.draw_center_dots(ax, np.zeros((len(style.DIGITS), 2)), size=7.5)
            (self.centers,) = ax.lines
        self.digits = {
            digit: ax.annotate(
                str(digit), (0, 0), xytext=(0, 0), textcoords="offset points", ha="center",
                va="center", fontsize=TEXT, weight="bold", path_effects=HALO, zorder=6,
            )
            for digit in np.unique(labels)
        }  # fmt: skip
        self.accuracy = ax.text(0.5, 1.02, "", transform=ax.transAxes, ha="center", fontsize=TEXT)
        ax.set_title(title, fontsize=TITLE, weight="bold", pad=24)
        ax.set_aspect("equal")
        style.quiet_frame(ax)
        ax.tick_params(labelsize=style.TEXT)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))

    def show(self, moment: Moment) -> None:
        self.dots.set_offsets(moment.features[self.order])
        self.ax.set(xlim=(-moment.reach, moment.reach), ylim=(-moment.reach, moment.reach))
        self.accuracy.set_text(f"accuracy {moment.accuracy:.1%}")
        means = {d: moment.features[self.labels == d].mean(0) for d in self.digits}
        if self.centers is not None:
            self.centers.set_data(*moment.centers.T)
        for digit, text in self.digits.items():
            text.xy = means[digit]
            others = [np.linalg.norm(means[digit] - means[d]) for d in means if d != digit]
            apart = min(others, default=moment.reach) / moment.reach
            text.set_alpha(np.clip((apart - 0.08) / 0.08, 0, 1))  # it appears as it gets room
            if self.centers is not None:  # beside the center's dot
                outward = means[digit] / max(np.linalg.norm(means[digit]), 1e-9)
                text.set_position(15 * outward)


def draw(softmax: Run, joint: Run, palette: str) -> tuple[Figure, Iterator[None]]:
    """The figure, and an iterator that moves it from frame to frame."""
    figure = Figure(figsize=SIZE)
    FigureCanvasAgg(figure)
    snapshots = [load_snapshots(one.folder) for one in (softmax, joint)]
    frames_at = frame_steps(snapshots[1]["steps"])
    titles = ["Softmax loss alone", f"Softmax + {style.center_loss_name(joint.metrics)}"]
    titles[1] += f", λ = {joint.metrics['lam']:g}"
    panels, shown = [], []
    # fixed places: a layout would move the axes as their ticks change
    for k, (arrays, title) in enumerate(zip(snapshots, titles, strict=True)):
        ax = figure.add_axes((0.052 + 0.47 * k, 0.07, 0.41, 0.41 * 16 / 9))
        panels.append(_Panel(ax, title, arrays["labels"], palette, centers=k == 1))
        shown.append(moments(arrays, frames_at))
    step = figure.text(0.012, 0.975, "", va="top", fontsize=TITLE, weight="bold", color="0.4")
    handles = style.legend_handles(palette)
    for handle in handles:
        handle.set_markersize(9)
    figure.legend(handles=handles, loc="center right", fontsize=TEXT, frameon=False,
                  handletextpad=0.1, labelspacing=0.6, borderpad=0.2)  # fmt: skip

    def frames() -> Iterator[None]:
        for both in zip(*shown, strict=True):
            for panel, moment in zip(panels, both, strict=True):
                panel.show(moment)
            step.set_text(f"step {both[1].step:,}")
            yield

    return figure, frames()


def render(softmax: Run, joint: Run, palette: str) -> tuple[bytes, bytes | None, str]:
    """The GIF, at most 8 MB, and the MP4; without ffmpeg None, and the reason."""
    figure, frames = draw(softmax, joint, palette)
    figure.set_dpi(MP4_DPI)
    pictures = []
    with tempfile.TemporaryDirectory() as scratch:
        film = _Film(Path(scratch) / "evolution.mp4", *figure.canvas.get_width_height())
        progress = progress_bar(FRAMES, "evolution", unit="frame")
        with film, progress:
            for _ in frames:
                figure.canvas.draw()
                pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
                film.add(pixels)
                pictures.append(Image.fromarray(pixels).reduce(SHRINK))
                progress.update()
        return gif(pictures), film.content, film.problem


def gif(pictures: list[Image.Image]) -> bytes:
    """A GIF that plays for ever; of every other picture if it were too large with all."""
    # one palette for all, from pictures of all stages: colours don't flicker
    some = pictures[:: max(1, len(pictures) // 8)]
    width, height = some[0].size
    sheet = Image.new("RGB", (width, height * len(some)))
    for k, picture in enumerate(some):
        sheet.paste(picture, (0, k * height))
    colors = np.reshape(sheet.quantize(COLORS).getpalette(), (-1, 3))
    colors[colors.min(1) >= 248] = 255  # its white is a mean with what is nearly white
    palette = Image.new("P", (1, 1))
    palette.putpalette(colors.ravel().tolist())
    quantized = [each.quantize(palette=palette, dither=Image.Dither.NONE) for each in pictures]
    milliseconds = 1000 // FPS
    while True:
        durations = [milliseconds] * len(quantized)
        durations[0] = max(durations[0], round(1000 * FIRST_SECONDS))
        durations[-1] = round(1000 * LAST_SECONDS)
        file = io.BytesIO()
        quantized[0].save(
            file, "GIF", save_all=True, append_images=quantized[1:], duration=durations, loop=0
        )
        if file.tell() <= GIF_BYTES or len(quantized) == 1:
            return file.getvalue()
        quantized = [*quantized[:-1:2], quantized[-1]]
        milliseconds *= 2


class _Film:
    """An MP4 made by ffmpeg, or the reason why not."""

    def __init__(self, path: Path, width: int, height: int) -> None:
        self.path, self.content, self.problem = path, None, ""
        self.process = None
        self.last = b""
        ffmpeg = shutil.which("ffmpeg")
        if ffmpeg is None:
            self.problem = "ffmpeg isn't installed"
            return
        self.process = subprocess.Popen(
            [
                ffmpeg, "-loglevel", "error", "-y",
                "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
                "-r", str(FPS), "-i", "-",
                "-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p",  # what all players know
                "-movflags", "+faststart", str(path),
            ],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def add(self, pixels: np.ndarray) -> None:
        times = round(FIRST_SECONDS * FPS) if not self.last else 1
        self.last = np.ascontiguousarray(pixels).tobytes()
        self._write(times)

    def _write(self, times: int) -> None:
        try:
            for _ in range(times if self.process and not self.problem else 0):
                self.process.stdin.write(self.last)
        except OSError:
            self.problem = "ffmpeg failed"

    def __enter__(self) -> "_Film":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self.process is None:
            return
        if kind is not None:
            self.process.kill()
        self._write(round(LAST_SECONDS * FPS))
        _, said = self.process.communicate()
        if self.process.returncode != 0 or self.problem:
            self.problem = f"ffmpeg failed: {one_line(said.decode(errors='replace')[-300:])}"
        elif kind is None:
            self.content = self.path.read_bytes()
