"""The network that a run has trained, for whoever wants to use it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

from center_loss import models
from center_loss.data import NUM_CLASSES, scale
from center_loss.recipe import Recipe
from center_loss.runs import files
from center_loss.runs.checkpoint import has_checkpoint, load_checkpoint
from center_loss.runs.contents import load_config, load_metrics


@dataclass(frozen=True)
class Trained:
    """A network, in ``eval()`` and float32 on the CPU, and what its features gather around.

    ``centers`` are (C, D): the center loss's, with softmax alone the means of the classes.
    """

    net: nn.Module
    centers: Tensor
    recipe: Recipe

    @torch.no_grad()
    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, D) and logits (B, C) of uint8 images (B, 28, 28), white on black as MNIST's.

        They may be on any device that the network is on.
        """
        data = self.recipe.data
        features, logits = self.net(scale(images, data.pixel_mean, data.pixel_std))
        return features, logits


def load(folder: str | Path) -> Trained:
    """The network of a finished run, from its checkpoint, or from what ``save`` wrote.

    Nothing in these files is run as code.

    Raises:
        UserError: the folder holds no finished run, or a file of it is damaged.
    """
    folder = Path(folder)
    recipe = Recipe.of(load_config(folder))
    centers = torch.tensor(load_metrics(folder)["centers"])
    net = models.build(recipe.model.name, num_classes=NUM_CLASSES, **recipe.model.arguments)
    load_weights(net, folder)
    return Trained(net.eval(), centers, recipe)


def has_network(folder: Path) -> bool:
    return (folder / files.NETWORK).exists() or has_checkpoint(folder)


def load_weights(net: nn.Module, folder: Path) -> None:
    """Give a network the weights of a run, which needn't be finished.

    Raises:
        UserError: its file is missing, damaged or of another recipe.
    """
    if (folder / files.NETWORK).exists():
        file = folder / files.NETWORK
        weights = files.read(file, lambda each: torch.load(io.BytesIO(each), weights_only=True))
    else:
        weights = load_checkpoint(folder)["trainer"]["net"]
    try:
        net.load_state_dict(weights)  # halves become float32
    except (RuntimeError, TypeError) as error:
        raise files.Damaged(f"{folder} has the weights of another network") from error


def save(folder: Path, into: Path) -> None:
    """Write what ``load`` needs of a run but its metrics, with weights in half precision.

    Raises:
        UserError: as ``load``, or a file can't be written.
    """
    trained = load(folder)
    config = yaml.safe_dump(trained.recipe.config(), sort_keys=False, allow_unicode=True)
    halved = {name: each.half() for name, each in trained.net.state_dict().items()}
    files.make_folder(into)
    files.write_text(into / files.CONFIG, config)
    files.write_file(into / files.NETWORK, lambda file: torch.save(halved, file))
