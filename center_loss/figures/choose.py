"""Which runs a figure shows, of all that lie in a folder."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from center_loss.base.errors import UserError
from center_loss.recipe import differences
from center_loss.runs.load import Run

# Of the run that stands for softmax + center loss where a figure has room for one, and what curves
# hold fixed; where no run has them, the nearest that one has.
LAM, ALPHA = 0.01, 0.5


def by_loss(runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """The runs of softmax alone, λ = 0, and those of softmax + center loss, λ > 0."""
    softmax = [one for one in runs if one.metrics["lam"] == 0]
    joint = [one for one in runs if one.metrics["lam"] > 0]
    return softmax, joint


def with_2d_features(runs: list[Run]) -> list[Run]:
    """The runs whose features can be drawn as they are."""
    return [one for one in runs if one.config["model"]["feature_dim"] == 2]


def with_lam(runs: list[Run], lam: float) -> list[Run]:
    """The runs with this λ, as it is printed: with six digits.

    Raises:
        UserError: there is none.
    """
    found = [one for one in runs if math.isclose(one.metrics["lam"], lam, rel_tol=1e-5)]
    if not found:
        lams = ", ".join(f"{value:g}" for value in sorted({one.metrics["lam"] for one in runs}))
        raise UserError(f"no run has lam={lam:g}; there are {lams}")
    return found


def softmax_alone(runs: list[Run], figure: str, like: Run | None = None) -> Run:
    """The run with λ = 0 that differs least from ``like`` but for the loss.

    Args:
        runs: to choose from.
        figure: what the error calls the figure.
        like: None takes the first of those that differ in λ alone, or else of those with λ = 0.

    Raises:
        UserError: there is none with 2-D features.
    """
    softmax, joint = by_loss(with_2d_features(runs))
    if not softmax:
        raise UserError(
            f"{figure} needs a run with λ = 0 and 2-D features, there is none: "
            "python train.py -m loss.lam=0 hydra.sweep.dir=FOLDER trains one into the runs' folder"
        )
    beside = (like or next(iter(differing_in_lam(joint)), softmax[0])).recipe

    def rank(one: Run) -> tuple:
        alike = replace(one.recipe, loss=beside.loss)
        return len(differences(beside, alike)), one.metrics["seed"]

    return min(softmax, key=rank)


def with_center_loss(runs: list[Run], figure: str) -> list[Run]:
    """The runs with λ > 0 and 2-D features.

    Raises:
        UserError: there is none; ``figure`` is what the error calls the figure.
    """
    _, joint = by_loss(with_2d_features(runs))
    if not joint:
        raise UserError(f"{figure} needs runs with λ > 0 and 2-D features, there is none")
    return joint


def differing_in_lam(runs: list[Run]) -> list[Run]:
    """The largest set of runs that differ in λ alone, by ascending λ; of no runs an empty one.

    Of equally large sets, the one with the paper's loss, then with the α closest to ``ALPHA``,
    then of the lowest seed.
    """
    groups: list[list[Run]] = []
    for one in sorted(runs, key=lambda one: one.metrics["lam"]):
        for group in groups:
            lams = [other.metrics["lam"] for other in group]
            alike = replace(one.recipe, loss=replace(one.recipe.loss, lam=lams[0]))
            if one.metrics["lam"] not in lams and not differences(group[0].recipe, alike):
                group.append(one)
                break
        else:
            groups.append([one])

    def rank(group: list[Run]) -> tuple:
        metrics = group[0].metrics
        return (
            -len(group),
            metrics["loss"] != "paper",
            far(metrics["alpha"], ALPHA),
            metrics["seed"],
        )

    return min(groups, key=rank, default=[])


def pair(runs: list[Run], lam: float | None, figure: str) -> tuple[Run, Run]:
    """Softmax alone, and the run with center loss to put beside it.

    Args:
        runs: to choose from.
        lam: of the run with center loss; None takes the one that is nearest to ``LAM``.
        figure: what the errors call the figure.

    Raises:
        UserError: one of the two isn't there.
    """
    joint = with_center_loss(runs, figure)
    if lam is None:
        chosen = min(differing_in_lam(joint), key=_from_lam)
    else:
        chosen = differing_in_lam(with_lam(joint, lam))[0]
    return softmax_alone(runs, figure, like=chosen), chosen


def for_page(runs: list[Run], most: int) -> tuple[list[Run], int]:
    """At most ``most`` of the runs, softmax alone first, then by λ; and which to show first."""
    softmax, joint = by_loss(runs)
    group = differing_in_lam(joint)
    chosen = [softmax_alone(runs, "page")] if softmax else []
    room = most - len(chosen)
    if len(group) > room:  # of many, some that span them
        group = [group[round(k * (len(group) - 1) / (room - 1))] for k in range(room)]
    chosen += group
    chosen += [one for one in runs if one not in chosen][: most - len(chosen)]
    chosen.sort(key=lambda one: (one.metrics["lam"], one.metrics["alpha"] or 0))
    return chosen, chosen.index(min(chosen, key=_from_lam))


def far(value: float | None, wanted: float) -> float:
    """How far a λ or an α is from the one that is wanted, as the logarithm of their quotient."""
    return 0.0 if value is None else abs(np.log(max(value, 1e-12)) - np.log(wanted))


def say_others(runs: list[Run], chosen: list[Run], figure: str, say: Callable[[str], None]) -> None:
    """Say which of the runs that ``figure`` could show it doesn't, and why."""
    others = [one for one in runs if one not in chosen]
    if others:
        keys = "λ, α and seed" if figure == "sweep" else "λ"
        why = f", which differ in {keys} alone" if len(chosen) > 1 else ""
        say(f"{figure} is drawn from {names(chosen)}{why}; draw {names(others)} with runs=FOLDER")


def names(runs: list[Run]) -> str:
    """The runs' folders, of many the first two."""
    folders = [str(one.folder) for one in runs]
    few = folders if len(folders) < 5 else [*folders[:2], f"{len(folders) - 2} more"]
    return ", ".join(few)


def _from_lam(one: Run) -> float:
    return far(one.metrics["lam"], LAM)
