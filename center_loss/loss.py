"""The center loss of Wen et al., "A Discriminative Feature Learning Approach for Deep Face
Recognition", ECCV 2016, section 3. Imports nothing but PyTorch."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


class CenterLoss(nn.Module):
    """The center loss (Eq. 2) with the paper's update of the centers (Eq. 4).

    L_C = 1/(2B) Σ_i ‖x_i − c_{y_i}‖², the mean over the batch of half the squared distance between
    a feature and the center of its class. Add it to the softmax loss with a weight λ (Eq. 5)::

        criterion = CenterLoss(num_classes=10, feature_dim=2, alpha=0.5)
        loss = F.cross_entropy(logits, labels) + lam * criterion(features, labels)

    It works as BatchNorm does. The centers are a buffer, not a parameter, since Eq. 4 is not the
    gradient of Eq. 2, so that no optimizer on L_C gives it: in ``train()`` a forward computes the
    loss with the centers as they are, then moves them; in ``eval()`` they stay. There is no second
    optimizer, and λ doesn't scale the centers' step.

    Under ``torch.distributed`` the ranks' features and labels are gathered for the step, so that N
    ranks of B/N samples move the centers as one rank of B; every rank must bring as many samples.

    Time and memory are O(B·D), whatever the number of classes.

    Args:
        num_classes: number of classes C, at least 1.
        feature_dim: length D of a feature, at least 1.
        alpha: the centers' rate α of Algorithm 1, in [0, 1]; 0 leaves the centers where they are.

    Attributes:
        centers: (C, D) buffer, the class centers c_j; they start at 0.

    Raises:
        ValueError: an argument outside of the ranges above.
    """

    centers: Tensor

    def __init__(self, num_classes: int, feature_dim: int, alpha: float = 0.5) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        if feature_dim < 1:
            raise ValueError(f"feature_dim must be at least 1, got {feature_dim}")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1], got {alpha}")
        self.num_classes = num_classes
        self.feature_dim = feature_dim
        self.alpha = alpha
        self.register_buffer("centers", torch.zeros(num_classes, feature_dim))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return L_C and, in training mode, take one step of the centers.

        Args:
            features: (B, D) floating point, x_i.
            labels: (B,) integers in [0, C), y_i.

        Returns:
            The loss, a scalar; float64 where the features are, else float32 (also under autocast).

        Raises:
            ValueError: wrong shapes or types, an empty batch, or a label out of range. On CUDA
                and under ``torch.compile`` the range is checked by an assertion on the device, on
                MPS not at all.
        """
        self._check(features, labels)
        labels = labels.long()
        self._check_range(labels)
        dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
        with torch.autocast(features.device.type, enabled=False):
            x = features.to(dtype)
            own = self.centers.index_select(0, labels).to(dtype)  # c_{y_i}; faster than [labels]
            loss = self._loss(x, own)
            if self.training:
                with torch.no_grad():
                    self._move_centers(gather(x - own), gather(labels))
        return loss

    def _loss(self, x: Tensor, own: Tensor) -> Tensor:
        """Eq. 2, as a mean over the batch, from x_i and c_{y_i}, both (B, D)."""
        return 0.5 * F.mse_loss(x, own, reduction="sum") / len(x)

    def _move_centers(self, offset: Tensor, labels: Tensor) -> None:
        """c_j ← c_j − α Δc_j, from x_i − c_{y_i} with the old c."""
        shares = delta_shares(offset, labels).to(self.centers.dtype)
        self.centers.index_add_(0, labels, shares, alpha=-self.alpha)

    def _check(self, features: Tensor, labels: Tensor) -> None:
        if features.ndim != 2 or features.shape[1] != self.feature_dim:
            raise ValueError(
                f"features must have the shape (batch, {self.feature_dim}), "
                f"got {tuple(features.shape)}"
            )
        if not features.is_floating_point():
            raise ValueError(f"features must be floating point, got {features.dtype}")
        if labels.shape != features.shape[:1]:
            raise ValueError(
                f"labels must have the shape ({features.shape[0]},), one for each row of features, "
                f"got {tuple(labels.shape)}"
            )
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise ValueError(f"labels must be integers, got {labels.dtype}")
        if len(labels) == 0:
            raise ValueError("features and labels are empty: the mean over no sample is undefined")

    def _check_range(self, labels: Tensor) -> None:
        """As int64, since in a label's own type num_classes may be out of range itself."""
        if labels.device.type == "mps":
            return  # it has no assertion of its own, and a look at the values would wait for it
        low, high = labels.aminmax()
        if labels.device.type != "cpu" or torch.compiler.is_compiling():
            # a look at the values would make the host wait for the device, or break the graph
            in_range = (low >= 0) & (high < self.num_classes)
            torch._assert_async(in_range, f"labels must be in [0, {self.num_classes})")
        elif low < 0 or high >= self.num_classes:
            raise ValueError(
                f"labels must be in [0, {self.num_classes}), got {low.item()} to {high.item()}"
            )

    def extra_repr(self) -> str:
        return f"num_classes={self.num_classes}, feature_dim={self.feature_dim}, alpha={self.alpha}"


def delta_shares(offset: Tensor, labels: Tensor) -> Tensor:
    """Eq. 4 by samples: Δc_j = Σ_i δ(y_i=j)(c_j − x_i) / (1 + Σ_i δ(y_i=j)) is the sum of the rows
    of its class.

    Args:
        offset: (B, D), x_i − c_{y_i}.
        labels: (B,) int64, y_i.

    Returns:
        (B, D), (c_{y_i} − x_i) / (1 + n_i).
    """
    # n_i = how often y_i occurs in the batch, in O(B log B): no vector of length C is made
    ordered = labels.sort().values
    n = torch.searchsorted(ordered, labels, right=True) - torch.searchsorted(ordered, labels)
    return offset / -(1 + n).to(offset.dtype).unsqueeze(1)


def ranks() -> int:
    """Number of processes that train together; 1 outside of ``torch.distributed``."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather(tensor: Tensor) -> Tensor:
    """(B, …) of each rank → (ranks·B, …), the same on every rank."""
    if ranks() == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(ranks())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)
