"""A training by hand: what the tests of the loop, of its files and of its speed set up."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from center_loss import training
from center_loss.data import MNIST
from center_loss.optim import OPTIMIZERS, Optimizers
from center_loss.recipe import Recipe
from center_loss.runs.folder import Folder

GROUP = {
    **dict.fromkeys(["lam", "lam_warmup", "lam_start"], "loss"),
    **dict.fromkeys(["pixel_mean", "pixel_std", "order"], "data"),
    **dict.fromkeys(["max_steps", "batch_size", "last_batch", "clip_norm", "snapshots"], "train"),
}


def recipe(center_loss: dict[str, Any], **options: Any) -> Recipe:
    """Of keys without their group's name; ``center_loss`` is the loss without λ."""
    config: dict[str, Any] = {"loss": dict(center_loss), "data": {}, "train": {}}
    for key, value in options.items():
        if key in GROUP:
            config[GROUP[key]][key] = value
        else:
            config[key] = value
    return Recipe.of(config)


def train(
    folder: Path,
    mnist: MNIST,
    *,
    precision: str = "fp32",
    compile: bool = False,
    say: Callable[[str], None] = print,
    **options: Any,
) -> dict[str, Any]:
    """Train ``recipe(**options)`` into a run folder; returns the metrics."""
    folder.mkdir(parents=True, exist_ok=True)
    record = Folder(folder, say)
    kind = recipe(**options)
    return training.train(kind, mnist, record, precision=precision, compile=compile, say=say)


def optimizers(net: nn.Module, choice: dict[str, Any], **more: Any) -> Optimizers:
    """Of a group's values in a configuration."""
    options = {key: value for key, value in choice.items() if key != "name"}
    return OPTIMIZERS[choice["name"]](net, **options, **more)
