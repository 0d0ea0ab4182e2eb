"""The center losses of the public codes, each as its source computes it (see docs/dialects.md).

``CenterLoss`` is the paper's. Those here share its interface and differ from it where their source
does, in the loss, in the centers' step or in where the centers start. Where they start at random,
ranks that train together must be seeded alike.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from center_loss.base.checks import BelowOne, Fraction, NotNegative, argument, named
from center_loss.base.ranks import ranks
from center_loss.loss import CenterLoss, batch_size, class_counts


class CaffeFaceCenterLoss(CenterLoss):
    """The authors' release, caffe-face: Δc_j of Eq. 4 goes through the network's solver.

    v_j ← μ v_j + lr Δc_j, c_j ← c_j − v_j: Caffe's SGD with momentum, without weight decay. So
    there is no α: of a Δc that stays the same, a step comes to take lr/(1 − μ). A center
    overshoots, and a class that is absent from the batch moves on. The loss is the paper's, and λ
    doesn't scale the centers' step.

    A step's time and memory are O(B·D + C·D), since every center moves.

    Args:
        num_classes: number of classes C, at least 1.
        feature_dim: length D of a feature, at least 1.
        lr: the solver's learning rate, in [0, 1].
        momentum: μ, in [0, 1).
        options: ``update``, ``ignore_index`` and ``reduction``, as ``CenterLoss`` has them.

    Attributes:
        lr: to be set before a step where the rate is scheduled. Under ``torch.compile`` each new
            value compiles anew: leave this module out of what is compiled.
        centers: (C, D) buffer; they start as Caffe's "xavier" fills them, U(−√(3/D), +√(3/D)).
        velocity: (C, D) buffer, v_j.

    Raises:
        ValueError: an argument of another type, or outside of the ranges above.
    """

    velocity: Tensor

    def __init__(
        self,
        num_classes: int,
        feature_dim: int,
        lr: Fraction = 0.01,
        momentum: BelowOne = 0.9,
        **options: Any,
    ) -> None:
        super().__init__(num_classes, feature_dim, **options)
        del self.alpha
        self.lr: float = argument("lr", lr, Fraction)
        self.momentum: float = argument("momentum", momentum, BelowOne)
        self.register_buffer("velocity", torch.zeros_like(self.centers))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        _xavier(self.centers)

    def _move_centers(self, deltas: Tensor, labels: Tensor) -> None:
        deltas = deltas.to(self.velocity.dtype)
        self.velocity.mul_(self.momentum).index_add_(0, labels, deltas, alpha=self.lr)
        self.centers.sub_(self.velocity)

    def extra_repr(self) -> str:
        return (
            f"num_classes={self.num_classes}, feature_dim={self.feature_dim}, lr={self.lr}, "
            f"momentum={self.momentum}"
        )


class IJCVCenterLoss(CenterLoss):
    """The journal version (Wen et al., IJCV 2019), as its text has it.

    Its Eq. 4 divides by ε + n_j in place of 1 + n_j, so that Δc_j is the way to the mean of the
    class's samples in the batch, however few they are. A step is c_j ← c_j − μ Δc_j, with the
    network's learning rate μ and without α (its Algorithm 1). The loss is the conference paper's.

    Args:
        num_classes: number of classes C, at least 1.
        feature_dim: length D of a feature, at least 1.
        lr: μ, in [0, 1].
        options: ``update``, ``ignore_index`` and ``reduction``, as ``CenterLoss`` has them.

    Attributes:
        lr: to be set before a step where the rate is scheduled, as that of ``CaffeFaceCenterLoss``.
        centers: (C, D) buffer; they start as Xavier has them, U(−√(3/D), +√(3/D)).

    Raises:
        ValueError: an argument of another type, or outside of the ranges above.
    """

    EPSILON = 1e-5

    def __init__(
        self, num_classes: int, feature_dim: int, lr: Fraction = 0.01, **options: Any
    ) -> None:
        super().__init__(num_classes, feature_dim, **options)
        del self.alpha
        self.lr: float = argument("lr", lr, Fraction)

    def reset_parameters(self) -> None:
        _xavier(self.centers)

    def _deltas(self, offset: Tensor, labels: Tensor, weight: Tensor | None) -> Tensor:
        n = class_counts(labels, weight).to(offset.dtype)
        return offset / -(self.EPSILON + n).unsqueeze(1)

    def _move_centers(self, deltas: Tensor, labels: Tensor) -> None:
        self.centers.index_add_(0, labels, deltas.to(self.centers.dtype), alpha=-self.lr)

    def extra_repr(self) -> str:
        return f"num_classes={self.num_classes}, feature_dim={self.feature_dim}, lr={self.lr}"


class MXNetCenterLoss(CenterLoss):
    """mxnet_center_loss (pangyupo): the paper's loss and center step, with λ divided by B.

    Its operator takes the mean over the batch, and the optimizer then divides all gradients by the
    batch size again: so λ = 1 with batches of 100 acts as 0.01. The value returned here is divided
    twice as well.
    """

    def _reduced(self, x: Tensor, own: Tensor, weight: Tensor | None) -> Tensor:
        return super()._reduced(x, own, weight) / (batch_size(x, weight) * ranks())


class PyTorchCenterLoss(CenterLoss):
    """pytorch-center-loss (KaiyangZhou): the centers take the gradient of the loss, not Eq. 4.

    The loss is the mean of ‖x_i − c_{y_i}‖², without the ½ of Eq. 2, so λ pulls twice as hard. Each
    entry of the source's B×C matrix of distances, 0 but for the sample's own class, is clamped to
    [1e-12, 1e12] before the sum; beyond that a sample has no gradient. The centers are a parameter
    there, stepped by an SGD of their own with λ divided out, so that a class moves by its share of
    the batch: c_j ← c_j − α (2/B) Σ_{y_i=j} (c_j − x_i).

    Here no matrix is made and the centers are a buffer, as in ``CenterLoss``.

    Args:
        num_classes: number of classes C, at least 1.
        feature_dim: length D of a feature, at least 1.
        alpha: the centers' learning rate (``lr_cent`` in the source), ≥ 0. A class with n of B
            samples goes 2αn/B of the way to their mean.
        options: ``update``, ``ignore_index`` and ``reduction``, as ``CenterLoss`` has them.

    Attributes:
        centers: (C, D) buffer; they start N(0, 1).

    Raises:
        ValueError: an argument of another type, or outside of the ranges above.
    """

    LOW, HIGH = 1e-12, 1e12

    def __init__(
        self, num_classes: int, feature_dim: int, alpha: NotNegative = 0.5, **options: Any
    ) -> None:
        super().__init__(num_classes, feature_dim, **options)
        self.alpha = argument("alpha", alpha, NotNegative)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.centers)

    def _loss(self, x: Tensor, own: Tensor) -> Tensor:
        return self._losses(x, own).sum()

    def _losses(self, x: Tensor, own: Tensor) -> Tensor:
        distance = (x - own).square().sum(1).clamp(self.LOW, self.HIGH)
        return distance + (self.num_classes - 1) * self.LOW  # the zeros of the other classes

    def _deltas(self, offset: Tensor, labels: Tensor, weight: Tensor | None) -> Tensor:
        distance = offset.square().sum(1, keepdim=True)
        clamped = (distance < self.LOW) | (distance > self.HIGH)
        return (-2 / batch_size(labels, weight) * offset).masked_fill(clamped, 0)


DIALECTS: dict[str, type[nn.Module]] = {
    "paper": CenterLoss,
    "caffe_face": CaffeFaceCenterLoss,
    "ijcv": IJCVCenterLoss,
    "mxnet_center_loss": MXNetCenterLoss,
    "pytorch_center_loss": PyTorchCenterLoss,
}


def _xavier(centers: Tensor) -> None:
    """As Caffe's "xavier" fills them: U(−√(3/D), +√(3/D))."""
    bound = math.sqrt(3 / centers.shape[1])
    nn.init.uniform_(centers, -bound, bound)


def build(name: str, **arguments: Any) -> Any:
    """The center loss of a key of ``DIALECTS``; another name is a ValueError."""
    return named(name, DIALECTS)(**arguments)
