"""The keys of ``visualize.py``; those of ``train.py`` are a recipe's and ``job.Place``'s."""

from dataclasses import dataclass
from typing import Annotated, Any

from center_loss.base.checks import POSITIVE, checked, one_of, or_null, path
from center_loss.figures import FIGURES


@dataclass(frozen=True)
class Drawing:
    """What is drawn, from which runs, and how."""

    figure: Annotated[str, one_of(*FIGURES, "all")] = "all"
    runs: Annotated[str, path] = "outputs/figures"
    palette: Annotated[str, one_of("paper", "colorblind")] = "paper"
    width: Annotated[str, one_of("auto", "column", "page")] = "auto"
    lam: Annotated[float | None, or_null(POSITIVE)] = None
    out: Annotated[str | None, or_null(path)] = None


@dataclass(frozen=True)
class DataPlace:
    """Where MNIST lies, for the page's images; None: where the runs had it."""

    root: Annotated[str | None, or_null(path)] = None


def visualize_settings(config: dict[str, Any]) -> tuple[Drawing, DataPlace]:
    """The configuration of ``visualize.py``, checked.

    Raises:
        UsageError: names the first key that is wrong, its value and what is allowed.
    """
    drawing = Drawing(**checked(Drawing, config, "", but=["data"]))
    return drawing, DataPlace(**checked(DataPlace, config.get("data", {}), "data."))
