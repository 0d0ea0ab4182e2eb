"""Draw the figures of a folder of runs. `python visualize.py --help` lists the keys."""

import sys
from pathlib import Path
from typing import Any, cast

from center_loss.base.start import before_imports

before_imports(__name__)

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from center_loss.figures import FIGURES
from center_loss.program import cli


@hydra.main(version_base="1.3", config_path="configs", config_name="visualize")
@cli.catching
def program(config: DictConfig) -> None:
    cli.refuse_ignored(HydraConfig.get(), several=False, program="visualize.py")

    from center_loss import figures
    from center_loss.program.settings import visualize_settings

    values = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    drawing, data = visualize_settings(values)
    figures.draw(
        drawing.figure,
        Path(drawing.runs),
        drawing.palette,
        width=drawing.width,
        lam=drawing.lam,
        out=Path(drawing.out) if drawing.out else None,
        mnist=data.root,
    )


def figure_lines(indent: int) -> str:
    """The figures for --help, each in a line of its own."""
    lines = [f"{name:<10} {line}" for name, line in FIGURES.items()]
    lines += [f"{'all':<10} those that the runs allow, but for dialects"]
    return ("\n" + indent * " ").join(lines)


OmegaConf.register_new_resolver("figures", figure_lines, replace=True)

if __name__ == "__main__":
    sys.exit(cli.main(program))
