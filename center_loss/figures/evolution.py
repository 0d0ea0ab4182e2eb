"""How the features form: softmax alone beside softmax + center loss, as a GIF and an MP4."""

import contextlib
import io
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from center_loss.base.errors import UserError, one_line
from center_loss.base.progress import progress_bar
from center_loss.figures import Options, choose, style
from center_loss.runs.contents import has_snapshots, load_snapshots
from center_loss.runs.load import Run

SIZE, MP4_DPI = (9.6, 5.4), 200  # inches; 1920 × 1080 pixels
SHRINK = 2  # the GIF is smaller by this factor
FRAMES, FPS = 200, 20  # at most so many frames
FRAMES_BETWEEN = 12  # two snapshots, at most
FIRST_SECONDS, LAST_SECONDS = 0.6, 3  # how long the first and the last picture stand
COLORS = 160  # of the GIF
GIF_BYTES = 8_000_000  # at most
GLIDE = 3  # frames over which a jump of the axes is spread, to each side
FFMPEG_SECONDS = 60  # it may take for a frame


def in_all(runs: list[Run]) -> bool:
    return True


def files(runs: list[Run], options: Options, say: Callable[[str], None]) -> dict[str, bytes | None]:
    with_snapshots = [one for one in runs if has_snapshots(one.folder)]
    if not with_snapshots:
        raise UserError("evolution needs runs with snapshots (train.snapshots=25), there is none")
    pair = choose.pair(with_snapshots, options.lam, "evolution, of the runs with snapshots,")
    gif, mp4, problem = render(*pair, options.palette)
    if mp4 is None:
        say(f"left out: evolution.mp4: {problem}")
    return {"evolution.gif": gif, "evolution.mp4": mp4}


class Moment(NamedTuple):
    """What a panel shows in one frame."""

    features: np.ndarray  # (M, 2)
    centers: np.ndarray  # (C, 2)
    reach: float  # the axes go from −reach to +reach
    step: int  # of the last snapshot so far
    accuracy: float  # at that step


def moments(snapshots: dict[str, np.ndarray], frames_at: np.ndarray) -> list[Moment]:
    """What a run's panel shows in each frame, from its snapshots (``load_snapshots``).

    Between two snapshots the features go straight from one place in the axes to the next, while the
    axes grow or shrink by the same factor in each frame. Step and accuracy aren't interpolated.

    Args:
        snapshots: of one run.
        frames_at: (F,) the steps that the frames show, ascending.
    """
    steps, features, centers = (snapshots[key] for key in ("steps", "features", "centers"))
    centers = np.nan_to_num(centers)  # at λ = 0 they are class means, which absent classes lack
    reaches = np.array([style.reach(*each) for each in zip(features, centers, strict=True)])
    at = np.interp(frames_at, steps, np.arange(len(steps)))  # in snapshots
    before = np.minimum(at.astype(int), len(steps) - 1)
    after = np.minimum(before + 1, len(steps) - 1)
    share = at - before
    reach = np.exp(np.interp(at, np.arange(len(steps)), np.log(reaches)))
    shown = []
    for k, (i, j, t, r, limit) in enumerate(
        zip(before, after, share, reach, gliding(reach), strict=True)
    ):
        dots, middles = (
            r * ((1 - t) * each[i] / reaches[i] + t * each[j] / reaches[j])
            for each in (features, centers)
        )
        last = max(np.searchsorted(steps, frames_at[k], side="right") - 1, 0)
        accuracy = float(snapshots["accuracy"][last])
        shown.append(Moment(dots, middles, limit, int(steps[last]), accuracy))
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
    frames = min(FRAMES, FRAMES_BETWEEN * (len(steps) - 1) + 1)
    return np.interp(np.linspace(0, len(steps) - 1, frames), np.arange(len(steps)), steps)


class _Panel:
    """One run's axes, drawn once and then moved from frame to frame."""

    def __init__(
        self, ax: Axes, titles: tuple[str, str], labels: np.ndarray, palette: str, centers: bool
    ) -> None:
        self.ax, self.labels = ax, labels
        self.order = np.random.default_rng(0).permutation(len(labels))
        colors = np.array(style.PALETTES[palette])[labels[self.order]]
        nowhere = np.zeros(len(labels))
        self.dots = ax.scatter(nowhere, nowhere, s=16, c=colors, alpha=0.75, linewidths=0)
        self.centers = None
        if centers:
            style.draw_center_dots(ax, np.zeros((len(style.DIGITS), 2)), size=7.5)
            (self.centers,) = ax.lines
        self.digits = {
            digit: ax.annotate(
                str(digit), (0, 0), xytext=(0, 0), textcoords="offset points", ha="center",
                va="center", fontsize=style.SLIDE_TEXT, weight="bold", zorder=6,
                path_effects=style.SLIDE_HALO,
            )
            for digit in np.unique(labels)
        }  # fmt: skip
        title, self.second = titles
        self.second_line = style.slide_title(ax, title, self.second)
        ax.set_aspect("equal")
        style.quiet_frame(ax)
        ax.tick_params(labelsize=style.TEXT)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))

    def show(self, moment: Moment) -> None:
        self.dots.set_offsets(moment.features[self.order])
        self.ax.set(xlim=(-moment.reach, moment.reach), ylim=(-moment.reach, moment.reach))
        self.second_line.set_text(f"{self.second}accuracy {moment.accuracy:.1%}")
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


def draw(softmax: Run, joint: Run, palette: str) -> tuple[Figure, int, Iterator[None]]:
    """The figure, the number of frames, and an iterator that moves it from frame to frame."""
    figure = Figure(figsize=SIZE)
    FigureCanvasAgg(figure)
    snapshots = [load_snapshots(one.folder) for one in (softmax, joint)]
    longer = max((each["steps"] for each in snapshots), key=lambda steps: steps[-1])
    frames_at = frame_steps(longer)
    titles = style.slide_titles(joint.metrics)
    panels, shown = [], []
    # fixed places: a layout would move the axes as their ticks change
    for k, (arrays, both) in enumerate(zip(snapshots, titles, strict=True)):
        ax = figure.add_axes((0.064 + 0.467 * k, 0.07, 0.398, 0.398 * 16 / 9))
        panels.append(_Panel(ax, both, arrays["labels"], palette, k == 1 and joint.has_centers))
        shown.append(moments(arrays, frames_at))
    step = figure.text(0.012, 0.975, "", va="top", color="0.4", weight="bold")
    step.set_fontsize(style.SLIDE_TEXT)
    style.slide_legend(figure, palette, "center right")

    def frames() -> Iterator[None]:
        for both in zip(*shown, strict=True):
            for panel, moment in zip(panels, both, strict=True):
                panel.show(moment)
            at = max(moment.step for moment in both)
            step.set_text(f"step {at:,}, {len(both[0].features):,} test images")
            yield

    return figure, len(frames_at), frames()


def render(softmax: Run, joint: Run, palette: str) -> tuple[bytes, bytes | None, str]:
    """The GIF, at most 8 MB, and the MP4; without ffmpeg None, and the reason."""
    figure, count, frames = draw(softmax, joint, palette)
    figure.set_dpi(MP4_DPI)
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)  # draw made it
    pictures = []
    with tempfile.TemporaryDirectory() as scratch:
        film = _Film(Path(scratch) / "evolution.mp4", *canvas.get_width_height())
        progress = progress_bar(count, "evolution", unit="frame")
        with film, progress:
            for _ in frames:
                canvas.draw()
                pixels = np.asarray(canvas.buffer_rgba())[..., :3]
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
    colors = np.array(sheet.quantize(COLORS).getpalette()).reshape(-1, 3)
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
        if file.tell() <= GIF_BYTES or len(quantized) <= 2:
            return file.getvalue()
        quantized = [*quantized[:-1:2], quantized[-1]]
        milliseconds *= 2


class _Film:
    """An MP4 made by ffmpeg, or the reason why there is none."""

    def __init__(self, path: Path, width: int, height: int) -> None:
        self.path, self.problem, self.last = path, "", b""
        self.content: bytes | None = None
        self.process: subprocess.Popen[bytes] | None = None
        ffmpeg = shutil.which("ffmpeg")
        if ffmpeg is None:
            self.problem = "ffmpeg isn't installed"
            return
        self.log = path.with_suffix(".log")
        command = [
            ffmpeg, "-loglevel", "error", "-y",
            "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
            "-r", str(FPS), "-i", "-",
            "-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p",  # what all players know
            "-movflags", "+faststart", str(path),
        ]  # fmt: skip
        try:
            with open(self.log, "wb") as log:  # a pipe that nobody reads could fill up
                self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log)
        except OSError as error:
            self.problem = f"ffmpeg can't be run: {error.strerror}"

    def add(self, pixels: np.ndarray) -> None:
        times = 1 if self.last else round(FIRST_SECONDS * FPS)
        self.last = np.ascontiguousarray(pixels).tobytes()
        self._write(times)

    def _write(self, times: int) -> None:
        if self.process is None or self.problem:
            return
        assert self.process.stdin is not None  # it is a pipe
        stuck = threading.Timer(FFMPEG_SECONDS, self.process.kill)
        stuck.start()
        try:
            for _ in range(times):
                self.process.stdin.write(self.last)
        except OSError:
            self.problem = "ffmpeg failed"
        finally:
            stuck.cancel()

    def __enter__(self) -> "_Film":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self.process is None:
            return
        if kind is None:
            self._write(round(LAST_SECONDS * FPS))
        else:
            self.process.kill()
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended
            self.process.stdin.close()
        try:
            code = self.process.wait(FFMPEG_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        said = self.log.read_text(errors="replace")[-300:]
        if code != 0 or self.problem:
            self.problem = (
                f"ffmpeg failed: {one_line(said) if said.strip() else f'exit code {code}'}"
            )
        elif kind is None:
            self.content = self.path.read_bytes()
