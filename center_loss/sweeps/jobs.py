"""The runs of a sweep: which are to be trained, and in which folder each lies."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from center_loss.base.errors import UsageError, UserError
from center_loss.job import Outcome, checked
from center_loss.runs.contents import load_config, load_metrics
from center_loss.runs.folder import is_finished, is_finished_as

Status = Literal["finished", "failed", "refused", "waiting"]
DIED, PREEMPTED = -1, -2  # codes of a job that ended without a word, and that others pushed aside


@dataclass
class Job:
    """One run of a sweep."""

    overrides: list[str]  # what was typed for it, KEY=VALUE
    values: dict[str, Any]  # its composed configuration
    folder: Path
    status: Status = "waiting"
    code: int = 0  # exit code
    reason: str = ""  # what came out of it, or why it was refused or failed
    label: str = ""  # the overrides that tell it from the others
    threads: int | None = None  # its share of the cores; None: all, or its launcher's to say
    starts: int = 0  # how often its process was started
    began_at: float = 0.0  # how much of it was done already when it was last started, of 1

    def refuse(self, error: UserError) -> None:
        self.status, self.code, self.reason = "refused", error.exit_code, str(error)


class Process(Protocol):
    """A job that was started, wherever it runs."""

    def poll(self) -> Outcome | None:
        """How it ended, perhaps with DIED or PREEMPTED for a code; None while it hasn't."""

    def state(self) -> str:
        """ "running", or a word on why it isn't, "pending" for example."""

    def terminate(self) -> None:
        """Have it end soon, its state saved."""

    def join(self) -> None:
        """Wait until it has, where that takes moments."""

    def kill(self) -> None:
        """End it at once."""


def plan(jobs: Sequence[Job], root: Path) -> list[Job]:
    """Say of each job whether it is finished, refused or to be trained, and in which folder.

    A run is recognised by its configuration: wherever in ``root`` it lies, it isn't trained again,
    and a folder that holds a run of another configuration isn't taken for it.

    Returns:
        The jobs, of those that are the same run only the first.
    """
    from center_loss.recipe import Recipe  # imports torch
    from center_loss.runs.load import folders

    known: dict[tuple, list[Path]] = {}
    for folder in folders(root):
        try:
            known.setdefault(Recipe.of(load_config(folder)).identity(), []).append(folder)
        except UserError:
            continue  # damaged: not recognised, so its own job, if any, is refused
    planned: dict[tuple, Job] = {}  # by their runs; of a wrong configuration by their numbers
    taken: dict[Path, Job] = {}
    for number, job in enumerate(jobs):
        own: tuple = (number,)
        try:
            job.values = checked({**job.values, "output_dir": str(job.folder)})
            recipe = Recipe.of(job.values)
            own = recipe.identity()
            if own in planned:
                continue
            # of several folders of the same run a finished one, or the job's own
            job.folder = min(
                known.get(own, [job.folder]),
                key=lambda each: (not is_finished(each), each != job.folder),
            )
            job.values["output_dir"] = str(job.folder)
            before = taken.setdefault(job.folder, job)
            if before is not job:
                raise UsageError(
                    f"{job.folder} is the folder of {' '.join(before.overrides)} too: "
                    "hydra.sweep.subdir must tell the runs apart"
                )
            if not job.values["force"] and is_finished_as(job.folder, recipe):
                load_metrics(job.folder)
                job.status = "finished"
        except UserError as error:
            job.refuse(error)
        planned[own] = job
    result = list(planned.values())
    common = set.intersection(*(set(job.overrides) for job in result)) if result else set()
    for job in result:
        apart = [each for each in job.overrides if each not in common]
        job.label = " ".join(apart or job.overrides) or job.folder.name
    return result
