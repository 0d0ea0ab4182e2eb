"""The figures, one file a kind. Each is drawn from run folders alone; nothing here trains."""

import shlex
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from center_loss import run
from center_loss.errors import UserError
from center_loss.figures import fig2, fig3, one_run, style, sweep
from center_loss.run import Run, Unfinished


def draw_run(folder: Path, metrics: dict[str, Any]) -> None:
    """Write a run's own ``figure.png``. Its metrics aren't written yet, so they are handed in."""
    style.save(one_run.draw(folder, metrics), folder / run.FIGURE, ".png")


def draw(figure: str, folder: Path, palette: str, say: Callable[[str], None] = print) -> None:
    """Draw a figure, or with ``all`` each that the folder's runs allow, into the folder of runs.

    Args:
        figure: ``fig2``, ``fig3``, ``sweep``, ``dialects``, or ``all``: the first two, and the
            third where both λ and α were swept.
        folder: the runs, searched with its subfolders.
        palette: a key of ``style.PALETTES``.
        say: called with a line for each file written and each run or figure left out.

    Raises:
        UserError: the runs that the figure needs aren't there or can't be read, or a file can't be
            written.
    """
    runs, others = run.find_runs(folder)
    if not runs:  # of a diverged one there is the last checkpoint to see
        diverged = [other for other in others if other.metrics]
        runs = [Run(other.folder, other.config, other.metrics) for other in diverged]
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
    kinds = {
        "fig2": _fig2, "fig3": _fig3, "sweep": partial(_sweep, others), "dialects": _dialects
    }  # fmt: skip
    names = [figure]
    if figure == "all":
        names = ["fig2", "fig3", "sweep"] if _is_swept_in_both(runs) else ["fig2", "fig3"]
    drawn: dict[str, Figure] = {}  # by file name, without suffix
    for name in names:
        try:
            drawn |= kinds[name](runs, palette, say)
        except UserError as error:
            if figure != "all":
                raise
            say(f"left out: {name}: {error}")
    if not drawn:
        raise UserError(f"no figure can be drawn from the runs in {folder}, see above")
    for name, picture in drawn.items():
        for path in style.save(picture, folder / name, ".png", ".pdf"):
            say(str(path))


def _fig2(runs: list[Run], palette: str, say: Callable[[str], None]) -> dict[str, Figure]:
    softmax = _with_2d_features(each for each in runs if each.metrics["lam"] == 0)
    if not softmax:
        raise UserError("fig2 needs a run with λ = 0 and 2-D features, there is none")
    joint = _with_2d_features(each for each in runs if each.metrics["lam"] > 0)
    beside = differing_in_lam(joint)[0].config if joint else softmax[0].config

    def rank(each: Run) -> tuple:  # the run that is most like those of fig3
        alike = {**each.config, "loss": beside["loss"]}
        return len(run.differences(beside, alike)), each.metrics["seed"]

    chosen = min(softmax, key=rank)
    _say_others(softmax, [chosen], "fig2", say)
    return {f"fig2_{split}": fig2.draw(chosen, split, palette) for split in style.SPLITS}


def _fig3(runs: list[Run], palette: str, say: Callable[[str], None]) -> dict[str, Figure]:
    joint = _with_2d_features(each for each in runs if each.metrics["lam"] > 0)
    if not joint:
        raise UserError("fig3 needs runs with λ > 0 and 2-D features, there is none")
    chosen = differing_in_lam(joint)
    _say_others(joint, chosen, "fig3", say)
    return {f"fig3_{split}": fig3.draw(chosen, split, palette) for split in style.SPLITS}


def _sweep(
    others: list[Unfinished], runs: list[Run], palette: str, say: Callable[[str], None]
) -> dict[str, Figure]:
    drawable = _with_2d_features(runs)
    swept = sweep.grid(drawable, others)
    _say_others(drawable, swept.runs, "sweep", say)
    drawn = {}
    for split, suffix in (("test", ""), ("train", "_train")):
        drawn[f"sweep{suffix}"] = sweep.draw(swept, split, palette)
        if swept.swept:
            drawn[f"sweep_curves{suffix}"] = sweep.draw_curves(swept, split)
    return drawn


def _is_swept_in_both(runs: list[Run]) -> bool:
    try:
        return sweep.grid(_with_2d_features(runs), []).swept == 2
    except UserError:
        return False


def _dialects(runs: list[Run], palette: str, say: Callable[[str], None]) -> dict[str, Figure]:
    from center_loss.figures import dialects  # imported here, since only this needs torch

    softmax = _with_2d_features(each for each in runs if each.metrics["lam"] == 0)
    if not softmax:
        raise UserError(
            "dialects needs a run with λ = 0 and 2-D features, there is none: "
            "python train.py loss.lam=0 trains one into outputs/runs"
        )
    chosen = min(softmax, key=lambda each: each.metrics["seed"])
    say(f"dialects is drawn on the features of {chosen.folder}")
    return {"dialects": dialects.draw(chosen, palette)}


def differing_in_lam(runs: list[Run]) -> list[Run]:
    """The largest set of runs that differ in λ alone, by ascending λ.

    Of equally large sets, the one with the paper's loss, then with the α closest to its 0.5, then
    of the lowest seed.
    """
    groups: list[list[Run]] = []
    for each in sorted(runs, key=lambda each: each.metrics["lam"]):
        for group in groups:
            lams = [other.metrics["lam"] for other in group]
            config = {**each.config, "loss": {**each.config["loss"], "lam": lams[0]}}
            if each.metrics["lam"] not in lams and not run.differences(group[0].config, config):
                group.append(each)
                break
        else:
            groups.append([each])

    def rank(group: list[Run]) -> tuple:
        metrics = group[0].metrics
        distance = 0 if metrics["alpha"] is None else abs(metrics["alpha"] - 0.5)
        return -len(group), metrics.get("loss", "paper") != "paper", distance, metrics["seed"]

    return min(groups, key=rank)


def _with_2d_features(runs: Iterable[Run]) -> list[Run]:
    return [each for each in runs if each.config["model"]["feature_dim"] == 2]


def _say_others(runs: list[Run], chosen: list[Run], name: str, say: Callable[[str], None]) -> None:
    others = [each for each in runs if each not in chosen]
    if others:
        why = ", which differ in λ alone" if len(chosen) > 1 else ""
        if name == "sweep":
            why = ", which differ in λ, α and seed alone"
        say(f"{name} is drawn from {_names(chosen)}{why}; draw {_names(others)} with runs=FOLDER")


def _names(runs: list[Run]) -> str:
    names = [str(each.folder) for each in runs]
    return ", ".join(names if len(names) < 5 else [*names[:2], f"{len(names) - 2} more"])
