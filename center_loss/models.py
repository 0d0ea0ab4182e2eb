"""The networks. Each maps images to the features x (the embedding) and the class logits."""

import math
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from center_loss.base.checks import Length, argument, integer, named, one_of
from center_loss.base.prelu import PReLU

Slopes = Annotated[str, one_of("channel", "layer")]
Kernel = Annotated[int, integer(2, 3)]
Init = Annotated[str, one_of("caffe", "torch")]


class LeNetPP(nn.Module):
    """LeNet++ (Wen et al., ECCV 2016, Table 1; layer by layer as the authors' MNIST example).

    Three stages of two 5×5 convolutions, each followed by a PReLU with one slope per channel, and
    a max-pool; then a fully connected layer and its PReLU give the feature x, and a last layer
    without a bias gives the logits. For 28×28 images the stages end at 14×14×32, 7×7×64, 3×3×128.
    Weights start as Caffe's "xavier", U(−√(3/fan_in), +√(3/fan_in)), and biases at 0.

    The missing bias is what makes the centers lie on a circle: a class is then chosen by the
    feature's direction, and the decision regions are wedges that meet at the origin.

    Under autocast the convolutions run in the lower precision and all that follows in float32. A
    bfloat16 feature would lie on a lattice with a step of 0.5 at |x| = 64, visible in a plot.

    The last four arguments are where the public ports differ from the authors.

    Args:
        feature_dim: length D of the feature; 2 is what the figures draw.
        num_classes: number of classes C.
        classifier_bias: give the last layer a bias.
        slopes: ``channel``, a PReLU slope for each channel, or ``layer``, one for all of them.
        last_pool: kernel of the last max-pool, 3 or 2; its stride is 2 and both leave 3×3.
        init: ``caffe`` (see above), or ``torch`` for PyTorch's defaults.

    Raises:
        ValueError: ``slopes``, ``last_pool`` or ``init`` is none of these.
    """

    def __init__(
        self,
        feature_dim: Length = 2,
        num_classes: int = 10,
        classifier_bias: bool = False,
        slopes: Slopes = "channel",
        last_pool: Kernel = 3,
        init: Init = "caffe",
    ) -> None:
        super().__init__()
        slopes, init = argument("slopes", slopes, Slopes), argument("init", init, Init)
        last_pool = argument("last_pool", last_pool, Kernel)

        def stage(channels_in: int, channels_out: int) -> list[nn.Module]:
            return [
                nn.Conv2d(channels_in, channels_out, 5, padding=2),
                prelu(channels_out),
                nn.Conv2d(channels_out, channels_out, 5, padding=2),
                prelu(channels_out),
            ]

        def prelu(channels: int) -> PReLU:
            return PReLU(channels if slopes == "channel" else 1)

        self.features = nn.Sequential(
            *stage(1, 32),
            nn.MaxPool2d(2),  # 28 → 14
            *stage(32, 64),
            nn.MaxPool2d(2),  # 14 → 7
            *stage(64, 128),
            nn.MaxPool2d(last_pool, stride=2),  # 7 → 3
            nn.Flatten(),
        )
        self.embedding = nn.Linear(128 * 3 * 3, feature_dim)
        self.activation = prelu(feature_dim)
        self.classifier = nn.Linear(feature_dim, num_classes, bias=classifier_bias)
        if init == "caffe":
            self.apply(_init_caffe)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features and the logits.

        Args:
            images: (B, 1, 28, 28), scaled as the recipe says.

        Returns:
            features (B, D) and logits (B, C), both float32 (float64 in a float64 network).
        """
        flat = self.features(images)
        with torch.autocast(images.device.type, enabled=False):
            flat = flat.to(self.embedding.weight.dtype)
            features = self.activation(self.embedding(flat))
            return features, self.classifier(features)


class LeNet(nn.Module):
    """The LeNet with tanh of mxnet_center_loss: its feature is linear, its last layer has a bias.

    Convolutions of 5×5 without padding, 20 and 50 channels, each followed by tanh and a 2×2
    max-pool; then fully connected layers of 500 (tanh), D (the feature x) and C (the logits). The
    weights start as MXNet's "Xavier" with a gaussian of variance 2/fan_out, but the last layer's,
    N(0, 0.001²); biases start at 0.

    Args:
        feature_dim: length D of the feature.
        num_classes: number of classes C.
    """

    def __init__(self, feature_dim: Length = 2, num_classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 20, 5),  # 28 → 24
            nn.Tanh(),
            nn.MaxPool2d(2),  # 24 → 12
            nn.Conv2d(20, 50, 5),  # 12 → 8
            nn.Tanh(),
            nn.MaxPool2d(2),  # 8 → 4
            nn.Flatten(),
        )
        self.hidden = nn.Linear(50 * 4 * 4, 500)
        self.embedding = nn.Linear(500, feature_dim)
        self.classifier = nn.Linear(feature_dim, num_classes)
        self.apply(_init_mxnet)
        nn.init.normal_(self.classifier.weight, std=0.001)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """As ``LeNetPP.forward``."""
        flat = self.features(images)
        with torch.autocast(images.device.type, enabled=False):
            flat = flat.to(self.hidden.weight.dtype)
            features = self.embedding(self.hidden(flat).tanh())
            return features, self.classifier(features)


MODELS: dict[str, type[nn.Module]] = {"lenetpp": LeNetPP, "lenet": LeNet}


def build(name: str, **arguments: Any) -> nn.Module:
    """The network of a key of ``MODELS``; another name is a ValueError."""
    return named(name, MODELS)(**arguments)


def _init_caffe(module: nn.Module) -> None:
    """Caffe's "xavier" weights, U(−√(3/fan_in), +√(3/fan_in)), and biases of 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        bound = math.sqrt(3 / module.weight[0].numel())
        nn.init.uniform_(module.weight, -bound, bound)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _init_mxnet(module: nn.Module) -> None:
    """MXNet's Xavier(factor_type="out", rnd_type="gaussian", magnitude=2), and biases of 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        fan_out = len(module.weight) * module.weight[0, 0].numel()  # C_out, times k² for a conv
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
