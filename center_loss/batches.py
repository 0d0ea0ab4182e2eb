"""Which images a step sees: a function of the step, so that a resumed run sees the same ones."""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from center_loss.data import MNIST


def batches(
    mnist: MNIST, batch_size: int, order: str, last_batch: str, seed: int
) -> Callable[[int], tuple[Tensor, Tensor]]:
    """A function from a step to its uint8 images (B, 28, 28) and labels (B,), on the device.

    The training set repeats without end, in the file's order, shuffled once, or shuffled anew for
    each epoch. The order is drawn on the CPU, so every device sees the same one.
    """
    size = len(mnist.train_labels)
    device = mnist.train_labels.device

    @lru_cache(maxsize=2)
    def indices(epoch: int) -> Tensor:
        if order == "file":
            return torch.arange(size, device=device)
        drawn = 0 if order == "shuffle_once" else epoch
        generator = torch.Generator().manual_seed((seed << 20) + drawn)
        return torch.randperm(size, generator=generator).to(device)

    def batch(step: int) -> tuple[Tensor, Tensor]:
        position, end = (images_in(k, size, batch_size, last_batch) for k in (step, step + 1))
        parts = []
        while position < end:
            epoch, offset = divmod(position, size)
            parts.append(indices(epoch)[offset : offset + end - position])
            position += len(parts[-1])
        chosen = torch.cat(parts) if len(parts) > 1 else parts[0]
        return mnist.train_images[chosen], mnist.train_labels[chosen]

    return batch


def images_in(steps: int, size: int, batch_size: int, last_batch: str) -> int:
    """Number of images in the first ``steps`` batches of a training set of ``size`` images."""
    if last_batch == "wrap":
        return steps * batch_size
    epochs, more = divmod(steps, math.ceil(size / batch_size))
    return epochs * size + min(more * batch_size, size)
