"""The center loss of Wen et al., "A Discriminative Feature Learning Approach for Deep Face
Recognition", ECCV 2016, section 3. Needs nothing but PyTorch."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from center_loss.base import samples
from center_loss.base.checks import Fraction, argument, integer, one_of, or_null
from center_loss.base.ranks import gather, ranks

Count = Annotated[int, integer(1)]
Label = Annotated[int | None, or_null(integer(-(2**63)))]
Reduction = Annotated[str, one_of("mean", "sum", "none")]
Update = Annotated[str, one_of("forward", "manual")]


class CenterLoss(nn.Module):
    """The center loss (Eq. 2) with the paper's update of the centers (Eq. 4).

    L_C = 1/(2B) Σ_i ‖x_i − c_{y_i}‖², the mean over the batch of half the squared distance between
    a feature and the center of its class. Add it to the softmax loss with a weight λ (Eq. 5)::

        criterion = CenterLoss(num_classes=10, feature_dim=2, alpha=0.5)
        loss = F.cross_entropy(logits, labels) + lam * criterion(features, labels)

    It works as BatchNorm does. The centers are a buffer, not a parameter, since Eq. 4 is not the
    gradient of Eq. 2, so that no optimizer on L_C gives it: in ``train()`` a forward computes the
    loss with the centers as they are, then moves them; in ``eval()`` they stay. There is no second
    optimizer, and λ doesn't scale the centers' step. With ``update="manual"`` a forward moves
    nothing, and ``update_centers`` takes the step where you want it.

    Under ``torch.distributed`` the ranks' samples are gathered for the step, so that N ranks move
    the centers as one rank with all their samples, however many each of them has.

    Time and memory are O(B·D), whatever the number of classes.

    Args:
        num_classes: number of classes C, at least 1.
        feature_dim: length D of a feature, at least 1.
        alpha: the centers' rate α of Algorithm 1, in [0, 1]; 0 leaves the centers where they are.
        update: "forward": a forward in ``train()`` moves the centers; "manual": only
            ``update_centers`` does.
        ignore_index: samples with this label are left out, of the loss, of its mean and of Eq. 4.
        reduction: "mean" over the samples, "sum", or "none": a loss for each, (B,). Eq. 4 is the
            same with each.

    Attributes:
        centers: (C, D) buffer, the class centers c_j; they start at 0.

    Raises:
        ValueError: an argument of another type, or outside of the ranges above.
    """

    centers: Tensor

    def __init__(
        self,
        num_classes: int,
        feature_dim: int,
        alpha: Fraction = 0.5,
        *,
        update: str = "forward",
        ignore_index: int | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        self.num_classes: int = argument("num_classes", num_classes, Count)
        self.feature_dim: int = argument("feature_dim", feature_dim, Count)
        self.alpha: float = argument("alpha", alpha, Fraction)
        self.update: str = argument("update", update, Update)
        self.ignore_index: int | None = argument("ignore_index", ignore_index, Label)
        self.reduction: str = argument("reduction", reduction, Reduction)
        self.register_buffer("centers", torch.empty(self.num_classes, self.feature_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Put the centers, and all else that moves, where they start."""
        for buffer in self.buffers():
            nn.init.zeros_(buffer)

    def forward(
        self, features: Tensor, labels: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Return L_C and, in training mode with ``update="forward"``, take a step of the centers.

        Args:
            features: (B, D) floating point, x_i.
            labels: (B,) integers in [0, C), or ``ignore_index``: y_i.
            sample_weight: (B,) numbers w_i ≥ 0, 1 each where None: a sample counts as w_i samples
                do, in the loss, in its mean Σ w_i l_i / Σ w_i and in Eq. 4; 0 leaves it out.

        Returns:
            The loss, a scalar, or (B,) with ``reduction="none"``; float64 where the features are,
            else float32 (also under autocast). Where each sample is left out, the mean is 0.

        Raises:
            TypeError, ValueError: what isn't a tensor, wrong shapes, types or devices, an empty
                batch, a label out of range or a negative weight. On CUDA and under
                ``torch.compile`` labels and weights are checked by an assertion on the device, on
                MPS not at all.
            RuntimeError: a step of the centers that can't be right: within ``nn.DataParallel``,
                or inside of a backward, where ``torch.utils.checkpoint`` computes anew.
        """
        x, labels, weight = self._checked(features, labels, sample_weight)
        if len(labels) == 0:
            raise ValueError("features and labels are empty: the mean over no sample is undefined")
        moves = self.training and self.update == "forward"
        if moves:
            samples.refuse_recomputation()
        with torch.autocast(x.device.type, enabled=False):
            own = self._own_centers(labels, x, weight)
            loss = self._reduced(x, own, weight)
            if moves:
                with torch.no_grad():
                    self._step(x, own, labels, weight)
        return loss

    @torch.no_grad()
    def update_centers(
        self, features: Tensor, labels: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Take one step of the centers with these samples, in any mode and with any ``update``.

        The arguments and errors are those of a forward, but there may be no sample: under
        ``torch.distributed`` every rank must take part in a step, and one that has no sample calls
        this with features (0, D) and labels (0,).
        """
        x, labels, weight = self._checked(features, labels, sample_weight)
        with torch.autocast(x.device.type, enabled=False):
            self._step(x, self._own_centers(labels, x, weight), labels, weight)

    # ---- the paper's equations, by samples

    def _loss(self, x: Tensor, own: Tensor) -> Tensor:
        """Eq. 2: ½ Σ_i ‖x_i − c_{y_i}‖², a scalar, from x_i and c_{y_i}, both (B, D)."""
        return 0.5 * F.mse_loss(x, own, reduction="sum")

    def _losses(self, x: Tensor, own: Tensor) -> Tensor:
        """The terms of that sum, (B,)."""
        return 0.5 * F.mse_loss(x, own, reduction="none").sum(1)

    def _deltas(self, offset: Tensor, labels: Tensor, weight: Tensor | None) -> Tensor:
        """Eq. 4: Δc_j = Σ_i δ(y_i=j)(c_j − x_i) / (1 + Σ_i δ(y_i=j)) is the sum of these rows of
        its class, (c_{y_i} − x_i) / (1 + n_i), (B, D), from x_i − c_{y_i}.
        """
        n = class_counts(labels, weight).to(offset.dtype)
        return offset / -(1 + n).unsqueeze(1)

    def _move_centers(self, deltas: Tensor, labels: Tensor) -> None:
        """Algorithm 1: c_j ← c_j − α Δc_j."""
        self.centers.index_add_(0, labels, deltas.to(self.centers.dtype), alpha=-self.alpha)

    # ---- what goes in and comes out of them

    def _reduced(self, x: Tensor, own: Tensor, weight: Tensor | None) -> Tensor:
        """The mean, the sum or the terms of Eq. 2, each w_i times."""
        if weight is None and self.reduction != "none":
            loss = self._loss(x, own)  # a seventh faster than the sum of its terms
        else:
            losses = self._losses(x, own)
            losses = losses if weight is None else losses * weight
            if self.reduction == "none":
                return losses
            loss = losses.sum()
        return loss / batch_size(x, weight) if self.reduction == "mean" else loss

    def _own_centers(self, labels: Tensor, x: Tensor, weight: Tensor | None) -> Tensor:
        """c_{y_i}, (B, D), as the centers are now: the backward must not read them again."""
        if torch.compiler.is_compiling():
            from center_loss.base.compiled import saved_rows

            own = saved_rows(self.centers, labels)
        else:
            own = self.centers.index_select(0, labels)  # faster than [labels]
        if weight is not None:
            own = own.masked_fill((weight == 0).unsqueeze(1), 0)  # as x is there
        return own.to(x.dtype)

    def _step(self, x: Tensor, own: Tensor, labels: Tensor, weight: Tensor | None) -> None:
        """One step of the centers with the samples of all ranks."""
        samples.refuse_replica(self)
        offset = x - own
        if ranks() > 1 and torch.compiler.is_compiling():
            from center_loss.base import compiled  # it imports the compiler, which takes seconds

            weight = offset.new_ones(len(labels)) if weight is None else weight
            offset, labels, weight = compiled.gather(offset, labels, weight)
        elif ranks() > 1:
            offset, labels, weight = gather(offset, labels, weight)
        if len(labels) == 0:
            return
        deltas = self._deltas(offset, labels, weight)
        if weight is not None:
            deltas = deltas * weight.unsqueeze(1)
        if not torch.compiler.is_compiling():
            samples.unshare(self.centers)
        self._move_centers(deltas, labels)

    def _checked(
        self, features: Tensor, labels: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """x_i, y_i and w_i, None if all are 1, as ``samples.checked`` has them."""
        return samples.checked(
            features, labels, weight, self.centers.device, self.num_classes, self.feature_dim,
            self.ignore_index,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"num_classes={self.num_classes}, feature_dim={self.feature_dim}, alpha={self.alpha}"


def class_counts(labels: Tensor, weight: Tensor | None) -> Tensor:
    """n_i = Σ_k δ(y_k=y_i), or Σ_k w_k δ(y_k=y_i), (B,): how often y_i is in the batch.

    In O(B log B): no vector of length C is made.
    """
    ordered = labels.sort().values
    first = torch.searchsorted(ordered, labels)  # the same for all samples of a class
    if weight is None:
        return torch.searchsorted(ordered, labels, right=True) - first
    return torch.zeros_like(weight).index_add_(0, first, weight)[first]


def batch_size(samples: Tensor, weight: Tensor | None) -> int | Tensor:
    """B, or Σ_i w_i where there are weights; 1 where all are 0, so that 0/B is 0."""
    if weight is None:
        return len(samples)
    total = weight.sum()
    return torch.where(total > 0, total, 1)
