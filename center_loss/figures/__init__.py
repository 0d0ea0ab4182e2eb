"""The figures, one file a kind. Each is drawn from run folders alone; nothing here trains."""

import contextlib
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from center_loss.figures.defaults import own_defaults  # before Matplotlib

# isort: split
from matplotlib.figure import Figure

from center_loss.base.errors import UserError, reason
from center_loss.figures import captions, choose, compare, fig2, fig3, one_run, style, sweep
from center_loss.runs.contents import has_snapshots
from center_loss.runs.files import FIGURE, CantBeWritten, make_folder, write_file, write_text
from center_loss.runs.load import Run, Unfinished, find_runs


@own_defaults()
def draw_run(folder: Path, metrics: dict[str, Any]) -> None:
    """Write a run's own ``figure.png``. Its metrics aren't written yet, so they are handed in."""
    style.save(one_run.draw(folder, metrics), folder / FIGURE, ".png")


@own_defaults()
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
        figure: ``fig2``, ``fig3``, ``compare``, ``evolution``, ``page``, ``sweep``, ``dialects``,
            or ``all``: the first five, and the sixth where both λ and α were swept.
        folder: the runs, searched with its subfolders.
        palette: a key of ``style.PALETTES``.
        say: called with a line for each file written and each run or figure left out.
        width: of ``fig2`` and ``fig3``, a key of ``style.WIDTHS``; ``auto`` is a column and a page.
        lam: of the run that ``compare`` and ``evolution`` put beside softmax alone; None takes the
            λ that is nearest to ``choose.LAM``.
        out: where the figures go, made if it isn't there; None: into the folder of runs.
        mnist: the root of ``data.load_mnist`` for the page's images; None: that of the runs.

    Raises:
        UserError: the runs that the figure needs aren't there or can't be read, or a file can't be
            written.
    """
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
    if lam is not None:
        choose.with_lam(runs, lam)  # one that no run has isn't merely left out
    into = out or folder
    kinds: dict[str, Callable[[list[Run], str, Callable[[str], None]], dict[str, Any]]] = {
        "fig2": partial(_fig2, width),
        "fig3": partial(_fig3, width),
        "compare": partial(_compare, lam),
        "evolution": partial(_evolution, lam),
        "page": partial(_page, mnist),
        "sweep": partial(_sweep, others),
        "dialects": _dialects,
    }
    names = [figure]
    if figure == "all":
        names = ["fig2", "fig3", "compare", "evolution", "page"]
        names += ["sweep"] if _is_swept_in_both(runs) else []
    drawn, new = False, not into.exists()
    for name in names:
        try:
            for file, content in kinds[name](runs, palette, say).items():
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


def _written(path: Path, content: Figure | str | bytes) -> list[Path]:
    """Write a figure, whose name has no suffix yet, or a text or bytes as they are."""
    if isinstance(content, Figure):
        return style.save(content, path, ".png", ".pdf")
    if isinstance(content, str):
        write_text(path, content)
    else:
        write_file(path, lambda file: file.write(content))
    return [path]


# Each of these returns what is to be written, by file name; None takes a file away.


def _fig2(
    width: str, runs: list[Run], palette: str, say: Callable[[str], None]
) -> dict[str, Figure | str]:
    chosen = choose.softmax_alone(runs, "fig2")
    softmax, _ = choose.by_loss(choose.with_2d_features(runs))
    choose.say_others(softmax, [chosen], "fig2", say)
    width = "column" if width == "auto" else width
    drawn = {f"fig2_{split}": fig2.draw(chosen, split, palette, width) for split in style.SPLITS}
    return {**drawn, "fig2.txt": captions.fig2(chosen)}


def _fig3(
    width: str, runs: list[Run], palette: str, say: Callable[[str], None]
) -> dict[str, Figure | str]:
    joint = choose.with_center_loss(runs, "fig3")
    chosen = choose.differing_in_lam(joint)
    choose.say_others(joint, chosen, "fig3", say)
    width = "page" if width == "auto" else width
    drawn = {f"fig3_{split}": fig3.draw(chosen, split, palette, width) for split in style.SPLITS}
    return {
        **drawn,
        **{f"fig3_{split}.txt": captions.fig3(chosen, split) for split in style.SPLITS},
    }


def _compare(
    lam: float | None, runs: list[Run], palette: str, say: Callable[[str], None]
) -> dict[str, Figure | str]:
    pair = choose.pair(runs, lam, "compare")
    return {"compare": compare.draw(*pair, palette), "compare.txt": captions.compare(*pair)}


def _evolution(
    lam: float | None, runs: list[Run], palette: str, say: Callable[[str], None]
) -> dict[str, bytes | None]:
    from center_loss.figures import evolution  # imported here, since only this needs Pillow's GIFs

    with_snapshots = [one for one in runs if has_snapshots(one.folder)]
    if not with_snapshots:
        raise UserError("evolution needs runs with snapshots (train.snapshots=25), there is none")
    pair = choose.pair(with_snapshots, lam, "evolution, of the runs with snapshots,")
    gif, mp4, problem = evolution.render(*pair, palette)
    if mp4 is None:
        say(f"left out: evolution.mp4: {problem}")
    return {"evolution.gif": gif, "evolution.mp4": mp4}


def _page(
    mnist: str | None, runs: list[Run], palette: str, say: Callable[[str], None]
) -> dict[str, str]:
    from center_loss.data import load_mnist  # imported here, since it needs torch
    from center_loss.figures import page

    drawable = choose.with_2d_features(runs)
    if not drawable:
        raise UserError("page needs runs with 2-D features, there is none")
    chosen, first = choose.for_page(drawable, page.RUNS)
    left_out = [one for one in drawable if one not in chosen]
    if left_out:
        say(f"page holds {page.RUNS} runs; draw {choose.names(left_out)} with runs=FOLDER")
    roots = [one.config["data"].get("root") for one in chosen]
    there = [
        root for root in roots if isinstance(root, str) and (Path(root) / "MNIST/raw").is_dir()
    ]
    root = mnist or (there[0] if there else "data")
    test = load_mnist(root, train_size=1, say=say)
    images, labels = test.test_images.numpy(), test.test_labels.numpy().astype("uint8")
    return {"page.html": page.build(chosen, images, labels, palette, first, say)}


def _sweep(
    others: list[Unfinished], runs: list[Run], palette: str, say: Callable[[str], None]
) -> dict[str, Figure | None]:
    drawable = choose.with_2d_features(runs)
    swept = sweep.grid(drawable, others)
    choose.say_others(drawable, swept.runs, "sweep", say)
    if not swept.swept:
        say("left out: sweep_curves: no two of these runs differ in λ or in α")
    drawn: dict[str, Figure | None] = {}
    for split, suffix in (("test", ""), ("train", "_train")):
        drawn[f"sweep{suffix}"] = sweep.draw(swept, split, palette)
        if swept.swept:
            drawn[f"sweep_curves{suffix}"] = sweep.draw_curves(swept, split)
        else:
            drawn |= {f"sweep_curves{suffix}{file}": None for file in (".png", ".pdf")}
    return drawn


def _is_swept_in_both(runs: list[Run]) -> bool:
    try:
        return sweep.grid(choose.with_2d_features(runs), []).swept == 2
    except UserError:
        return False


def _dialects(runs: list[Run], palette: str, say: Callable[[str], None]) -> dict[str, Figure]:
    from center_loss.figures import dialects  # imported here, since it needs torch

    chosen = choose.softmax_alone(runs, "dialects")
    say(f"dialects is drawn on the features of {chosen.folder}")
    return {"dialects": dialects.draw(chosen, palette)}
