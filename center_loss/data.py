"""MNIST as tensors on the training device; ``fetch.mnist`` has the files."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from center_loss.base.errors import UsageError
from center_loss.fetch.mnist import MD5, ensure_mnist

NUM_CLASSES = 10


class MNIST(NamedTuple):
    """The data set on one device.

    ``train_images`` (N, 28, 28) uint8, ``train_labels`` (N,) int64, the same for ``test_…``, and
    the MD5 of each raw file by its name.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    md5: dict[str, str]


def load_mnist(
    root: str | Path = "data",
    train_size: int = 60_000,
    test_size: int = 10_000,
    device: str | torch.device = "cpu",
    say: Callable[[str], None] = print,
) -> MNIST:
    """MNIST's first ``train_size`` and ``test_size`` images, on ``device``.

    Args:
        root: folder of the data; missing files are fetched into ``root/MNIST/raw``.
        train_size: 1 to 60,000. The paper's Fig. 2 speaks of 50,000.
        test_size: 1 to 10,000.
        device: where the tensors lie.
        say: called with a line of text for each thing worth knowing (a download, a bad file).

    Raises:
        UsageError: a size is out of range.
        UserError: the files are neither there nor to be had; the message says what was tried.
    """
    for name, size, most in [("train_size", train_size, 60_000), ("test_size", test_size, 10_000)]:
        if not 1 <= size <= most:
            raise UsageError(f"data.{name} must be from 1 to {most}, got {size}")
    files = ensure_mnist(root, say)
    train_images, train_labels, test_images, test_labels = (
        _parse(files[name])[:size].clone().to(device)
        for name, size in zip(MD5, [train_size, train_size, test_size, test_size], strict=True)
    )
    return MNIST(train_images, train_labels, test_images, test_labels, dict(MD5))


DATASETS = {"mnist": load_mnist}


def scale(images: Tensor, mean: float, std: float) -> Tensor:
    """(B, 28, 28) uint8 → (B, 1, 28, 28) float32, (pixel − mean) / std, in units of 0 to 255."""
    return images.unsqueeze(1).float().sub_(mean).div_(std)


def _parse(content: bytes) -> Tensor:
    """IDX bytes → uint8 images (N, 28, 28) or int64 labels (N,). The MD5 was checked before."""
    ndim = content[3]
    shape = struct.unpack_from(f">{ndim}I", content, 4)
    array = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=4 + 4 * ndim)
    return array.view(shape) if ndim == 3 else array.long()
