"""The runs in a folder."""

import contextlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from center_loss.base.errors import UserError
from center_loss.recipe import Recipe
from center_loss.runs.contents import load_config, load_metrics
from center_loss.runs.files import CONFIG, DIVERGED, Damaged
from center_loss.runs.folder import failure, is_finished


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, configuration and metrics."""

    folder: Path
    config: dict[str, Any]
    metrics: dict[str, Any]

    @cached_property
    def recipe(self) -> Recipe:
        return Recipe.of(self.config)

    @property
    def has_centers(self) -> bool:
        return has_centers(self.metrics)


class Unfinished(NamedTuple):
    """A run without results, and why; of a damaged one the configuration may be unknown."""

    folder: Path
    config: dict[str, Any] | None
    status: Literal["failed", "damaged", "unfinished"]  # the last: interrupted, or still training
    reason: str  # "" for an unfinished one
    metrics: dict[str, Any] | None = None  # of a diverged one: those of its last checkpoint

    def __str__(self) -> str:
        if self.status == "unfinished":
            return f"{self.folder} isn't finished (the same train.py command goes on with it)"
        return f"{self.folder} failed: {self.reason}" if self.status == "failed" else self.reason


def has_centers(metrics: dict[str, Any]) -> bool:
    """Whether a run's centers are its loss's own: else they are the means of the classes."""
    return metrics["lam"] > 0 and metrics.get("has_centers", True)


def folders(folder: Path) -> list[Path]:
    """The run folders in a folder (itself or anywhere below), whatever became of their runs.

    Links are followed; what lies in two places is found once, where it lies without a link. A link
    to nothing, or a folder that can't be read, might be a run's.
    """
    found: list[str] = []
    unreadable: list[OSError] = []
    seen = set(map(str, Path(os.path.realpath(folder)).parents))  # a link may lead back there
    links = [str(folder)]
    while links:  # what is there without a link comes first
        for path, below, files in os.walk(links.pop(0), onerror=unreadable.append):
            real = os.path.realpath(path)
            if real in seen:
                below.clear()
                continue
            seen.add(real)
            here = [os.path.join(path, name) for name in sorted([*below, *files])]
            links += [each for each in here if os.path.islink(each) and os.path.isdir(each)]
            if os.path.join(path, CONFIG) in here:
                found.append(path)
            else:
                own = [each for each in here if not os.path.basename(each).startswith(".")]
                found += [each for each in own if not os.path.exists(each)]
    return sorted(map(Path, [*found, *(error.filename for error in unreadable)]))


def find_runs(folder: Path) -> tuple[list[Run], list[Unfinished]]:
    """The finished runs in a folder (itself or anywhere below), and the others.

    Raises:
        UserError: the folder doesn't exist.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give the folder of the runs with runs=FOLDER")
    finished, others = [], []
    for path in folders(folder):
        config = None
        try:
            if path.is_symlink() and not path.exists():
                raise Damaged(f"{path} is a link to {os.readlink(path)}, which isn't there")
            config = load_config(path)
            if is_finished(path):
                finished.append(Run(path, config, load_metrics(path)))
                continue
        except UserError as error:
            others.append(Unfinished(path, config, "damaged", str(error)))
            continue
        reason = failure(path)
        metrics = None
        if (path / DIVERGED).exists():
            with contextlib.suppress(UserError):  # what was to be left out is left out
                metrics = load_metrics(path, DIVERGED)
        status: Literal["unfinished", "failed"] = "unfinished" if reason is None else "failed"
        others.append(Unfinished(path, config, status, reason or "", metrics))
    return finished, others
