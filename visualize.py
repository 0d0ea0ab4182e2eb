"""Draw the figures of a folder of runs. `python visualize.py --help` lists the keys."""

import sys
from pathlib import Path
from typing import Annotated, Any, cast

from center_loss.base.start import before_imports

before_imports(__name__)

import hydra
from omegaconf import DictConfig, OmegaConf

from center_loss import figures
from center_loss.base.checks import POSITIVE, checked, one_of, or_null, path
from center_loss.figures import FIGURES
from center_loss.program import cli


@hydra.main(**cli.MAIN, config_path="configs", config_name="visualize")
@cli.catching
def program(config: DictConfig) -> None:
    draw(**settings(cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))))


def draw(
    figure: Annotated[str, one_of(*FIGURES, "all")] = "all",
    runs: Annotated[str, path] = "outputs/figures",
    palette: Annotated[str, one_of("paper", "colorblind")] = "paper",
    width: Annotated[str, one_of("auto", "column", "page")] = "auto",
    lam: Annotated[float | None, or_null(POSITIVE)] = None,
    out: Annotated[str | None, or_null(path)] = None,
    mnist: str | None = None,
) -> None:
    """The program's keys, and ``data.root``, as ``figures.draw`` has them."""
    into = None if out is None else Path(out)
    figures.draw(figure, Path(runs), palette, width=width, lam=lam, out=into, mnist=mnist)


def data_root(root: Annotated[str | None, or_null(path)] = None) -> str | None:
    """Where MNIST lies, for the page's images; None: where the runs had it."""
    return root


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``draw``.

    Raises:
        UsageError: names the first key that is wrong, its value and what is allowed.
    """
    mnist = data_root(**checked(data_root, config.get("data", {}), "data."))
    return {**checked(draw, config, "", but=["data"]), "mnist": mnist}


def figure_lines(indent: int) -> str:
    """The figures for --help, each in a line of its own."""
    lines = [f"{name:<10} {line}" for name, line in FIGURES.items()]
    lines += [f"{'all':<10} those that the runs allow, but for dialects"]
    return ("\n" + indent * " ").join(lines)


# by the name that it has in the OmegaConf of each Hydra
register: Any = OmegaConf.register_resolver if cli.HYDRA_1_4 else OmegaConf.register_new_resolver
register("figures", figure_lines, replace=True)

if __name__ == "__main__":
    sys.exit(cli.main(program))
