"""The networks. Each maps images to the features x (the embedding) and the class logits."""

import math

import torch
from torch import Tensor, nn


class LeNetPP(nn.Module):
    """LeNet++ (Wen et al., ECCV 2016, Table 1; layer by layer as the authors' MNIST example).

    Three stages of two 5×5 convolutions, each followed by a PReLU with one slope per channel, and
    a max-pool; then a fully connected layer and its PReLU give the feature x, and a last layer
    without a bias gives the logits. For 28×28 images the stages end at 14×14×32, 7×7×64, 3×3×128.

    The missing bias is what makes the centers lie on a circle: a class is then chosen by the
    feature's direction, and the decision regions are wedges that meet at the origin.

    Under autocast the convolutions run in the lower precision and all that follows in float32. A
    bfloat16 feature would lie on a lattice with a step of 0.5 at |x| = 64, visible in a plot.

    Args:
        feature_dim: length D of the feature; 2 is what the figures draw.
        num_classes: number of classes C.
    """

    def __init__(self, feature_dim: int = 2, num_classes: int = 10) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.num_classes = num_classes
        self.features = nn.Sequential(
            *_stage(1, 32),
            nn.MaxPool2d(2),  # 28 → 14
            *_stage(32, 64),
            nn.MaxPool2d(2),  # 14 → 7
            *_stage(64, 128),
            nn.MaxPool2d(3, stride=2),  # 7 → 3
            nn.Flatten(),
        )
        self.embedding = nn.Linear(128 * 3 * 3, feature_dim)
        self.activation = nn.PReLU(feature_dim)
        self.classifier = nn.Linear(feature_dim, num_classes, bias=False)
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


def _stage(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, 5, padding=2),
        nn.PReLU(channels_out),
        nn.Conv2d(channels_out, channels_out, 5, padding=2),
        nn.PReLU(channels_out),
    ]


def _init_caffe(module: nn.Module) -> None:
    """Caffe's "xavier" weights, U(−√(3/fan_in), +√(3/fan_in)), and biases of 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        bound = math.sqrt(3 / module.weight[0].numel())
        nn.init.uniform_(module.weight, -bound, bound)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
