"""Train one model, or with -m or experiment=… several. `python train.py --help` lists the keys."""

import contextlib
import sys
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from center_loss import cli
from center_loss.errors import UsageError
from center_loss.job import train_one

LAUNCHERS = ["local", "joblib", "submitit_local", "submitit_slurm"]


@hydra.main(version_base="1.3", config_path="configs", config_name="train")
@cli.catching
def program(config: DictConfig) -> None:
    if HydraConfig.get().mode == RunMode.MULTIRUN:  # our launchers don't come here
        folder = Path(HydraConfig.get().runtime.output_dir)
        with contextlib.suppress(OSError):  # it holds something
            folder.rmdir()
        cli.remove_if_empty(folder.parent)
        raise UsageError(f"hydra/launcher must be one of {', '.join(LAUNCHERS)}")
    train_one(OmegaConf.to_container(config, resolve=True))


def forget_launchers_of_others() -> None:
    """Where Hydra's launchers for joblib and submitit are installed, make room for ours.

    They register schemas of these names, against which Hydra would check our configs.
    """
    Plugins.instance()  # loads them
    registered = ConfigStore.instance().repo["hydra"]["launcher"]
    for name in LAUNCHERS:
        registered.pop(f"{name}.yaml", None)


if __name__ == "__main__":
    forget_launchers_of_others()
    sys.exit(
        cli.main(
            program,
            "interrupted: the same command goes on from the last checkpoint, if there is one "
            "(without force=true, which starts anew)",
        )
    )
