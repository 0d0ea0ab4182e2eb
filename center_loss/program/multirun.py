"""A multirun: Hydra's lists of values become the jobs of a sweep."""

import contextlib
import hashlib
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins import sweeper
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from center_loss.base import checks
from center_loss.base.errors import UsageError, UserError
from center_loss.program import cli
from center_loss.runs.folder import held
from center_loss.sweeps import summary
from center_loss.sweeps.jobs import Job, plan
from center_loss.sweeps.local import Local
from center_loss.sweeps.scheduler import train_all
from center_loss.sweeps.slurm import Slurm


class Sweeper(sweeper.Sweeper):
    """Makes jobs of what Hydra's own sweeper reads, trains them, and says what became of them."""

    config: DictConfig

    def __init__(self, params: dict[str, str] | None, **options: None) -> None:
        self.params = params or {}

    def setup(self, **given: Any) -> None:
        self.loader, self.config = given["hydra_context"].config_loader, given["config"]
        OmegaConf.set_readonly(self.config.hydra, False)  # which Hydra 1.4 makes it

    def sweep(self, arguments: list[str]) -> None:
        hydra = self.config.hydra
        os.environ.update(hydra.job.env_set)  # the jobs' processes have it from this one
        try:
            hydra.sweep.dir = checks.path(hydra.sweep.dir)
        except ValueError as error:
            wrong = f"hydra.sweep.dir must be {error}, got {checks.shown(hydra.sweep.dir)}"
            raise UsageError(wrong) from None
        launcher = hydra.launcher  # with hydra.launcher=slurm it is a text
        if not OmegaConf.is_dict(launcher) or "center_loss" not in launcher.get("_target_", ""):
            raise UsageError("hydra/launcher must be one of local, parallel, slurm, slurm_local")
        workers = instantiate(launcher, _convert_="all")
        swept = [f"{key}={values}" for key, values in self.params.items()]
        given = OverridesParser.create(self.loader).parse_overrides([*swept, *arguments])
        values = {each.get_key_element(): _values(each) for each in given}  # the last of a key's
        all_overrides = [list(each) for each in itertools.product(*values.values())]
        if not all_overrides:  # range(0,0), glob(x)
            empty = " ".join(each for each in sys.argv[1:] if "(" in each)
            raise UsageError(f"a key has no value, so there is nothing to train: {empty}")
        if any(each.key_or_group == "experiment" and each.is_sweep_override() for each in given):
            # then it tells the runs apart
            exclude = hydra.job.config.override_dirname.exclude_keys
            keys = [each for each in exclude if each != "experiment"]
            hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys={keys}")
        root = Path(hydra.sweep.dir)
        self._train(root, [self._job(root, *each) for each in enumerate(all_overrides)], workers)

    @cli.catching
    def _train(self, root: Path, jobs: Sequence[Job], workers: Local | Slurm) -> None:
        jobs = plan(jobs, root)
        slots = workers.slots(jobs)  # it refuses some, before force=true removes their results
        failure = summary.failure(jobs)
        if failure is not None and all(job.status == "refused" for job in jobs):
            if len({job.reason for job in jobs}) > 1:
                summary.tell_reasons(jobs, "refused")
            raise failure
        summary.refuse_others(root)
        from center_loss.data import DATASETS  # imports torch

        waiting = [job.values["data"] for job in jobs if job.status == "waiting"]
        for name, place in {(data["name"], data["root"]) for data in waiting}:
            DATASETS[name](place, 1, 1)  # once, before they all try
        file = root / "multirun.yaml"
        new = [each for each in (file, root, *root.parents) if not each.exists()]
        with held(root):  # two sweeps in one folder would train the same runs
            OmegaConf.save(self.config, file)
            summary.tell_reasons(jobs, "refused")
            finished = sum(job.status == "finished" for job in jobs)
            if finished:
                print(
                    f"{root}: {finished} of {len(jobs)} runs finished already, skipped "
                    "(force=true trains them anew)"
                )
            try:
                train_all(jobs, workers.start, slots)
            except BaseException as error:
                with contextlib.suppress(UserError, OSError):  # the error comes first
                    if not finished and not any(job.starts for job in jobs):
                        for path in new:
                            path.rmdir() if path.is_dir() else path.unlink()
                    elif isinstance(error, KeyboardInterrupt):
                        summary.report(jobs, root)
                raise
            summary.report(jobs, root)
        failure = summary.failure(jobs)
        if failure is not None:
            raise failure

    def _job(self, root: Path, number: int, overrides: list[str]) -> Job:
        config = self._composed(number, overrides)
        if config.loss.get("lam") == 0:  # softmax alone has no α: it is one run, not one an α
            overrides = [each for each in overrides if not each.startswith("loss.alpha=")]
            config = self._composed(number, overrides)
        params = config.hydra.sweeper.params
        if params and params != self.config.hydra.sweeper.params:
            name = f"experiment={config.hydra.runtime.choices.experiment}"
            raise UsageError(f"{name} is several runs by itself ({', '.join(params)})")
        own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        values: Any = OmegaConf.to_container(own, resolve=True)
        if values["output_dir"] is not None:
            raise UsageError("output_dir is for a single run; several have hydra.sweep.dir=FOLDER")
        folder = root / str(config.hydra.sweep.subdir)
        # by their names: a run's folder may be a link to another disk
        inside = Path(os.path.relpath(folder, root)).parts
        if not inside:
            raise UsageError("-m needs a key with values, as loss.lam=0,0.01, or experiment=NAME")
        if inside[0] == "..":
            raise UsageError(f"hydra.sweep.subdir must be a folder in {root}, got {folder}")
        return Job(overrides, values, folder)

    def _composed(self, number: int, overrides: list[str]) -> DictConfig:
        config = self.loader.load_sweep_config(self.config, overrides)
        OmegaConf.set_readonly(config.hydra, False)
        job = config.hydra.job
        job.id, job.num = str(number), number
        job.override_dirname = _short(job.override_dirname)
        config.hydra.sweep.dir = self.config.hydra.sweep.dir
        HydraConfig.instance().set_config(config)  # what ${hydra:…} resolves from
        return config


def _values(override: Override) -> list[str]:
    """Each as KEY=VALUE."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    if not override.is_discrete_sweep():  # interval(0,1)
        raise UsageError(f"{key} must have a list of values, got {override.input_line}")
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def _short(name: str) -> str:
    """The name of a folder in as many bytes as a file system takes, and still this name's alone."""
    most, content = 255, name.encode()
    if len(content) <= most:
        return name
    digest = hashlib.sha256(content).hexdigest()[:16]
    return f"{content[: most - 1 - len(digest)].decode(errors='ignore')}_{digest}"
