"""Snapshots: a fixed set of test images, embedded at some moments of the training."""

import numpy as np
import torch
from torch import Tensor, nn

from center_loss import metrics

IMAGES = 2_000


class Snapshots:
    """Room for all snapshots of a run, and those that were taken so far.

    It is allocated at once: one by one between the large blocks of the steps, they would keep those
    from being used again, and the process would grow with each.

    Args:
        moments: the steps to take them at, ascending.
        test_labels: (N,) int64, on the CPU.
        classifier: the network's last layer.

    Attributes:
        indices: (M,), of the test images that are embedded.
        labels: (M,), theirs.
    """

    def __init__(self, moments: list[int], test_labels: Tensor, classifier: nn.Linear) -> None:
        classes, dim = classifier.weight.shape
        self.indices = balanced_subset(test_labels, IMAGES, classes)
        self.labels = test_labels[self.indices]
        self._moments, self._classifier, self._taken = moments, classifier, 0
        count = len(moments)
        self._room = {
            "steps": torch.tensor(moments, dtype=torch.int64),
            "accuracy": torch.zeros(count),
            "features": torch.zeros(count, len(self.indices), dim),
            "centers": torch.zeros(count, classes, dim),
        }
        for name, value in classifier.named_parameters():  # weight, perhaps bias
            self._room[name] = torch.zeros(count, *value.shape)

    def due(self, step: int) -> bool:
        """Whether the next one is of this step."""
        return step in self._moments[self._taken : self._taken + 1]

    def add(self, features: Tensor, predictions: Tensor, centers: Tensor) -> None:
        """Take the next one, with the last layer as it is now.

        Args:
            features: (M, D), of the images at ``indices``, on the CPU as all of these.
            predictions: (M,), of the same.
            centers: (C, D).
        """
        k = self._taken
        self._room["accuracy"][k] = metrics.accuracy(predictions, self.labels)
        self._room["features"][k] = features
        self._room["centers"][k] = centers
        for name, value in self._classifier.named_parameters():
            self._room[name][k] = value.detach()
        self._taken += 1

    def state_dict(self) -> dict[str, Tensor]:
        """Those that were taken, for the checkpoint."""
        return {key: values[: self._taken].clone() for key, values in self._room.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what ``state_dict`` returned."""
        self._taken = len(state["steps"])
        for key, values in state.items():
            self._room[key][: self._taken] = values

    def arrays(self) -> dict[str, np.ndarray]:
        """Those that were taken, as ``load_snapshots`` describes them; {} if none was."""
        if not self._taken:
            return {}
        fixed = {"indices": self.indices, "labels": self.labels.byte()}
        return {key: values.numpy() for key, values in (self.state_dict() | fixed).items()}


def snapshot_moments(max_steps: int, count: int) -> list[int]:
    """At most ``count`` different steps from 0 to ``max_steps``, dense at the start."""
    if count < 2:
        return [max_steps][:count]
    moments = [0]
    for k in range(1, count):
        moment = round(max_steps * (k / (count - 1)) ** 3)
        moments.append(min(max(moment, moments[-1] + 1), max_steps))
    return sorted(set(moments))


def balanced_subset(labels: Tensor, size: int, num_classes: int) -> Tensor:
    """Indices, in ascending order, of the first ``size`` / C samples of each class, or of all."""
    each = size // num_classes
    return torch.cat([(labels == j).nonzero()[:each, 0] for j in range(num_classes)]).sort().values
