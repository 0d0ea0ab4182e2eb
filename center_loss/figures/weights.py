"""A run's network as ``web/network.js`` reads it: for a page that runs it in the browser.

Of LeNet++ some 800,000 weights travel, three quarters of them in its last two convolutions. Those
are rounded to int8 with a scale for each kernel of 5×5, other convolutions to half floats; what
makes the feature of two numbers isn't rounded. ``tests/figures/test_pad.py`` tests how far the
features then are from PyTorch's.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from center_loss import models
from center_loss.base.errors import UserError
from center_loss.data import scale
from center_loss.figures.web import as_base64
from center_loss.runs.load import Run
from center_loss.runs.network import has_network, load_weights

HALVES = 150_000  # layers of more weights are packed as int8
WATCHED = 64  # images whose features say whether a checkpoint is the finished run's
NEAR = 0.05  # how far they may be, relative to the largest; in bf16 they were by 0.002


def packed(one: Run, test_images: np.ndarray, features: np.ndarray) -> dict[str, Any]:
    """A run's network.

    Args:
        one: a run with 2-D features.
        test_images: (N, 28, 28) uint8.
        features: the run's own of the first of these images, (M, 2).

    Returns:
        what ``pack`` does; or ``missing``, why there is none: ``no-checkpoint``, ``bad-checkpoint``
        for one that can't be read or isn't of these features, or ``other-network``.
    """
    if not has_network(one.folder):
        return {"missing": "no-checkpoint"}
    net = models.build(one.recipe.model.name, **one.recipe.model.arguments).eval()
    if not isinstance(net, models.LeNetPP | models.LeNet):
        return {"missing": "other-network"}
    try:
        load_weights(net, one.folder)
    except UserError:
        return {"missing": "bad-checkpoint"}
    mean, std = one.recipe.data.pixel_mean, one.recipe.data.pixel_std
    watched = min(WATCHED, len(features))
    with torch.inference_mode():
        own = net(scale(torch.from_numpy(test_images[:watched]), mean, std))[0].numpy()
    if not np.abs(own - features[:watched]).max() <= NEAR * np.abs(features).max():
        return {"missing": "bad-checkpoint"}  # of another moment than the features
    return pack(net, mean, std)


def pack(net: models.LeNetPP | models.LeNet, mean: float, std: float) -> dict[str, Any]:
    """A network's weights.

    Args:
        net: on the CPU, in float32.
        mean: of the pixels, 0 to 255, as the recipe has it.
        std: the same.

    Returns:
        ``mean``, ``std`` and ``layers``, each with its ``kind``: ``conv`` (``out``, ``size``,
        ``padding``, ``weight`` (out, in · size²), ``bias``), ``linear`` (``out``, ``weight`` (out,
        in), ``bias`` or None), ``pool`` (``size``, ``stride``), ``prelu`` (``slopes``), ``tanh``
        and, before the last layer, ``feature``. Numbers are ``float`` or ``half``, or ``int8`` with
        ``scales`` by kernel or row, each in base64.
    """
    layers = [_layer(each) for each in _in_order(net)]
    return {"mean": mean, "std": std, "layers": [each for each in layers if each]}


def _in_order(net: models.LeNetPP | models.LeNet) -> list[nn.Module]:
    """The layers of a network, with an ``nn.Identity`` where it has its feature."""
    if isinstance(net, models.LeNetPP):
        middle = [net.embedding, net.activation]
    else:
        middle = [net.hidden, nn.Tanh(), net.embedding]
    return [*net.features, *middle, nn.Identity(), net.classifier]


def _layer(layer: nn.Module) -> dict[str, Any] | None:
    """None of one that does nothing to numbers in a row."""
    match layer:
        case nn.Conv2d():
            return {
                "kind": "conv", "out": layer.out_channels, "size": layer.kernel_size[0],
                "padding": int(layer.padding[0]), "weight": _rounded(layer.weight),
                "bias": _exact(layer.bias),
            }  # fmt: skip
        case nn.Linear():
            weight = layer.weight
            large = weight.numel() > HALVES
            return {
                "kind": "linear", "out": layer.out_features,
                "weight": _rounded(weight) if large else _exact(weight),
                "bias": _exact(layer.bias),
            }  # fmt: skip
        case nn.MaxPool2d():
            return {"kind": "pool", "size": layer.kernel_size, "stride": layer.stride}
        case nn.PReLU():
            return {"kind": "prelu", "slopes": _exact(layer.weight)}
        case nn.Tanh():
            return {"kind": "tanh"}
        case nn.Identity():
            return {"kind": "feature"}
        case nn.Flatten():
            return None
    raise TypeError(f"no page knows a layer like {layer}")


def _rounded(weight: Tensor) -> dict[str, str]:
    if weight.numel() <= HALVES:
        return {"half": as_base64(weight.detach().numpy().astype("<f2"))}
    columns = weight[0, 0].numel() if weight.ndim == 4 else weight.shape[1]
    rows = weight.detach().reshape(-1, columns).numpy()
    scales = (np.abs(rows).max(1) / 127).astype("<f4")
    steps = np.round(rows / np.maximum(scales, np.finfo("f4").tiny)[:, None])
    return {"int8": as_base64(steps.astype(np.int8)), "scales": as_base64(scales)}


def _exact(values: Tensor | None) -> dict[str, str] | None:
    return None if values is None else {"float": as_base64(values.detach().numpy().astype("<f4"))}
