"""How good a set of features is: accuracy, compactness within classes, separation between them."""

import statistics
from collections.abc import Sequence

import torch
from torch import Tensor


def class_means(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """μ_j, the mean feature of each class; (N, D) and (N,) → (C, D). NaN for an absent class."""
    sums = features.new_zeros(num_classes, features.shape[1]).index_add_(0, labels, features)
    return sums / torch.bincount(labels, minlength=num_classes).unsqueeze(1)


def accuracy(predictions: Tensor, labels: Tensor) -> float:
    """Fraction of the predictions (N,) that equal the labels (N,)."""
    return (predictions == labels).sum().item() / len(labels)


def recall(predictions: Tensor, labels: Tensor, num_classes: int) -> list[float]:
    """Fraction of each class's samples that is predicted as that class; NaN for an absent class."""
    right = torch.bincount(labels[predictions == labels], minlength=num_classes)
    return (right.double() / torch.bincount(labels, minlength=num_classes)).tolist()


def compactness(features: Tensor, labels: Tensor, num_classes: int) -> dict[str, float]:
    """Intra- and inter-class distances of features (N, D), in the features' own units.

    Returns:
        ``intra``, the mean over samples of ‖x − μ_y‖; ``inter``, the smallest ‖μ_i − μ_j‖ of two
        classes; and ``intra_inter_ratio``, their quotient, which doesn't depend on the scale.
    """
    features = features.double()
    means = class_means(features, labels, num_classes)
    intra = (features - means[labels]).norm(dim=1).mean().item()
    present = means[~means.isnan().any(dim=1)]
    distances = torch.pdist(present)
    inter = distances.min().item() if len(distances) else float("nan")
    return {"intra": intra, "inter": inter, "intra_inter_ratio": _quotient(intra, inter)}


def center_drift(centers: Tensor, features: Tensor, labels: Tensor) -> float:
    """Mean over the classes of ‖c_j − μ_j‖: how far the centers are from what they stand for."""
    means = class_means(features.double(), labels, len(centers))
    return (centers.double() - means).norm(dim=1).nanmean().item()


def _quotient(a: float, b: float) -> float:
    return a / b if b else float("inf")


def mean_and_std(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The mean, None of none, and the standard deviation, None of fewer than two."""
    mean = statistics.fmean(values) if values else None
    return mean, statistics.stdev(values) if len(values) > 1 else None
