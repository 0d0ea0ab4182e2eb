"""Which runs of a sweep are to be trained, and in which folder each lies."""

from collections.abc import Sequence
from pathlib import Path

from center_loss.base.errors import UsageError, UserError
from center_loss.job import checked
from center_loss.runs.contents import load_config, load_metrics
from center_loss.runs.folder import is_finished, is_finished_as
from center_loss.sweeps.jobs import Job, refuse


def plan(jobs: Sequence[Job], root: Path) -> list[Job]:
    """Say of each job whether it is finished, refused or to be trained, and in which folder.

    A run is recognised by its configuration: wherever in ``root`` it lies, it isn't trained again,
    and a folder that holds a run of another configuration isn't taken for it.

    Returns:
        The jobs, one that is the same run as an earlier one replaced by that.
    """
    from center_loss.recipe import Recipe  # imports torch
    from center_loss.runs.load import folders

    known: dict[tuple, list[Path]] = {}
    for folder in folders(root):
        try:
            known.setdefault(Recipe.of(load_config(folder)).identity(), []).append(folder)
        except UserError:
            continue  # damaged: not recognised, so its own job, if any, is refused
    planned: dict[tuple, Job] = {}
    taken: dict[Path, Job] = {}
    result = []
    for job in jobs:
        try:
            job.values = checked({**job.values, "output_dir": str(job.folder)})
            recipe = Recipe.of(job.values)
            own = recipe.identity()
            if own in planned:
                result.append(planned[own])
                continue
            job.folder = _folder(job.folder, known.get(own, []))
            if job.folder in taken:
                raise UsageError(
                    f"{job.folder} is the folder of {' '.join(taken[job.folder].overrides)} too: "
                    "hydra.sweep.subdir must tell the runs apart"
                )
            planned[own] = taken[job.folder] = job
            job.values["output_dir"] = str(job.folder)
            if not job.values["force"] and is_finished_as(job.folder, recipe):
                load_metrics(job.folder)
                job.status = "finished"
        except UserError as error:
            refuse(job, error)
        result.append(job)
    common = set.intersection(*(set(job.overrides) for job in result)) if result else set()
    for job in result:
        apart = [each for each in job.overrides if each not in common]
        job.label = " ".join(apart or job.overrides) or job.folder.name
    return result


def _folder(own: Path, alike: Sequence[Path]) -> Path:
    """Of several folders of the same run a finished one, or the job's own."""
    return min(alike, key=lambda each: (not is_finished(each), each != own), default=own)
