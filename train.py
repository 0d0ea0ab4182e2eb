"""Train one model, or with -m or experiment=… several. `python train.py --help` lists the keys."""

import sys
from typing import Any, cast

from center_loss.base.start import before_imports

before_imports(__name__)

import hydra
from omegaconf import DictConfig, OmegaConf

from center_loss.base import signals
from center_loss.job import train_one
from center_loss.program import cli


@hydra.main(**cli.MAIN, config_path="configs", config_name="train")
@cli.catching
def program(config: DictConfig) -> None:
    train_one(cast(dict[str, Any], OmegaConf.to_container(config, resolve=True)))


if __name__ == "__main__":
    sys.exit(cli.main(program, f"interrupted: {signals.AGAIN}"))
