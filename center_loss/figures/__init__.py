"""The figures, one file a kind. Each is drawn from run folders alone; nothing here trains.

A figure's module says whether ``all`` draws it from some runs, ``in_all(runs)``, and draws it:
``files(runs, options, say)`` returns what is to be written by file name (a Matplotlib figure
without a suffix; None takes a file away), and raises UserError where the runs don't have what it
needs. Its caption is there, too. A module is imported when its figure is drawn. Those in ``ALONE``
need no runs, and are drawn when they are named, into ``OUTPUTS``.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from center_loss.base.errors import UserError, reason

if TYPE_CHECKING:
    from center_loss.runs.load import Run, Unfinished

FIGURES = {  # by the names of their modules; the lines are those of --help
    "fig2": "softmax alone",
    "fig3": "softmax + center loss, a panel for each λ",
    "compare": "both side by side, with their distances",
    "evolution": "both as they learn: a GIF, and an MP4 with ffmpeg",
    "page": "an HTML file to play with and to draw digits into, offline",
    "sweep": "λ × α",
    "dialects": "what each center loss does to its centers",
    "playground": "an HTML file in which a small network trains, offline; needs no runs",
}
ALONE = ["playground"]
OUTPUTS = Path("outputs")


class Options(NamedTuple):
    """What a figure may be told besides its runs, as ``draw`` has it."""

    palette: str = "paper"
    width: str = "auto"
    lam: float | None = None
    mnist: str | None = None
    others: Sequence[Unfinished] = ()  # the runs without results


def draw_run(folder: Path, metrics: dict[str, Any]) -> None:
    """Write a run's own ``figure.png``. Its metrics aren't written yet, so they are handed in."""
    from center_loss.figures.defaults import own_defaults  # before Matplotlib

    with own_defaults():
        from center_loss.figures import one_run, style
        from center_loss.runs.files import FIGURE

        style.save(one_run.draw(folder, metrics), folder / FIGURE, ".png")


def draw(
    figure: str,
    folder: Path,
    palette: str,
    say: Callable[[str], None] = print,
    width: str = "auto",
    lam: float | None = None,
    out: Path | None = None,
    mnist: str | None = None,
) -> None:
    """Draw a figure, or with ``all`` each that the folder's runs allow.

    Args:
        figure: a key of ``FIGURES``, or ``all``: ``dialects`` isn't among those, nor ``sweep``
            where not both of λ and α were swept.
        folder: the runs, searched with its subfolders.
        palette: a key of ``style.PALETTES``.
        say: called with a line for each file written and each run or figure left out.
        width: of ``fig2`` and ``fig3``, a key of ``style.WIDTHS``; ``auto`` is a column and a page.
        lam: of the run that ``compare`` and ``evolution`` put beside softmax alone; None takes the
            λ that is nearest to ``choose.LAM``.
        out: where the figures go, made if it isn't there; None: into the folder of runs, or into
            ``OUTPUTS`` where the figure needs none.
        mnist: the root of ``data.load_mnist`` for the images of ``page`` and ``playground``; None:
            that of the runs, or ``data``.

    Raises:
        UserError: the runs that the figure needs aren't there or can't be read, or a file can't be
            written.
    """
    from center_loss.figures.defaults import own_defaults  # before Matplotlib

    with own_defaults():
        _draw(figure, folder, Options(palette, width, lam, mnist), out, say)


def _draw(
    figure: str, folder: Path, options: Options, out: Path | None, say: Callable[[str], None]
) -> None:
    from center_loss.figures import choose
    from center_loss.runs.files import CantBeWritten, make_folder

    runs: list[Run] = []
    into = out or OUTPUTS
    if figure not in ALONE:
        runs, others = _runs_in(folder, figure, say)
        if options.lam is not None:
            choose.with_lam(runs, options.lam)  # one that no run has isn't merely left out
        options = options._replace(others=others)
        into = out or folder
    drawn, new = False, not into.exists()
    for name in FIGURES if figure == "all" else [figure]:
        try:
            module = import_module(f"center_loss.figures.{name}")
            if figure == "all" and not module.in_all(runs):
                continue
            for file, content in module.files(runs, options, say).items():
                if content is None:  # an older one would be of other runs
                    if out is None:  # elsewhere it may be anybody's
                        (into / file).unlink(missing_ok=True)
                    continue
                if not drawn:
                    make_folder(into)
                for path in _written(into / file, content):
                    say(str(path))
                    drawn = True
        except CantBeWritten as error:  # nor can the others
            if new:
                with contextlib.suppress(OSError):  # it isn't there, or isn't empty
                    into.rmdir()
            raise UserError(f"{error}, with out=FOLDER") from error
        except Exception as error:
            if figure != "all":
                raise
            why = reason(error)
            say(f"left out: {why if why.startswith(name) else f'{name}: {why}'}")
    if not drawn:
        raise UserError(f"no figure can be drawn from the runs in {folder}, see above")


def _runs_in(
    folder: Path, figure: str, say: Callable[[str], None]
) -> tuple[list[Run], list[Unfinished]]:
    """The runs to draw, finished or, where none is, diverged, and those that are left out."""
    from center_loss.figures import style
    from center_loss.runs.load import Run, find_runs

    runs, others = find_runs(folder)
    if not runs:  # of a diverged one there is the last checkpoint to see
        runs = [
            Run(other.folder, other.config, other.metrics)
            for other in others
            if other.config and other.metrics
        ]
        for one in runs:
            say(f"no run is finished: {one.folder} is drawn as it was ({style.stage(one.metrics)})")
        others = [other for other in others if not other.metrics]
    for other in others:
        say(f"left out: {other}")
    if not runs:
        what = f"{len(others)} left out" if others else "none at all"
        experiment = "sweep" if figure == "sweep" else "figures"
        raise UserError(
            f"no finished run in {folder} ({what}): train some first, for example with "
            f"python train.py experiment={experiment} {shlex.quote(f'hydra.sweep.dir={folder}')}"
        )
    return runs, others


def _written(path: Path, content: Any) -> list[Path]:
    """Write a figure, whose name has no suffix yet, or a text or bytes as they are."""
    from center_loss.figures import style
    from center_loss.runs.files import write_file, write_text

    if isinstance(content, str):
        write_text(path, content)
    elif isinstance(content, bytes):
        write_file(path, lambda file: file.write(content))
    else:
        return style.save(content, path, ".png", ".pdf")
    return [path]
