"""One HTML file in which a small network trains on MNIST while one moves λ, offline.

It needs no runs. The network, its losses and its optimizer are in ``web/playground_engine.js``.
"""

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

from center_loss.data import load_mnist
from center_loss.figures import Options, style, web
from center_loss.runs.load import Run

TRAIN, TEST = 10_000, 2_000  # MNIST's first images
STYLES = ["common", "playground"]
SCRIPTS = [
    "basics", "colours", "words", "keys", "plane", "worker",
    "playground_diagnosis", "playground_charts", "playground_slowly", "playground",
]  # fmt: skip
WORKER = ["playground_engine", "playground_worker"]


def in_all(runs: list[Run]) -> bool:
    return False


def files(runs: list[Run], options: Options, say: Callable[[str], None]) -> dict[str, str]:
    mnist = load_mnist(options.mnist or "data", TRAIN, TEST, say=say)
    data = {
        "colors": style.on_light_and_dark(options.palette),
        "train": pack(halved(mnist.train_images.numpy()), mnist.train_labels.numpy()),
        "test": pack(halved(mnist.test_images.numpy()), mnist.test_labels.numpy()),
        "worker": "".join((web.HERE / f"{name}.js").read_text("utf-8") for name in WORKER),
    }
    return {"playground.html": web.put_together("playground", STYLES, SCRIPTS, data)}


def halved(images: np.ndarray) -> np.ndarray:
    """The mean of each 2×2 pixels; (N, 28, 28) uint8 → (N, 14, 14) uint8, halves to even."""
    means = images.reshape(-1, 14, 2, 14, 2).mean((2, 4))
    return np.rint(means).astype(np.uint8)


def pack(images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Images (N, 14, 14) uint8 and labels (N,), as playground.js unpacks them.

    Three in four pixels are black: ``mask`` has a bit for each that isn't, 25 bytes an image, and
    ``values`` has those alone.
    """
    flat = images.reshape(len(images), -1)
    return {
        "mask": _base64(np.packbits(flat > 0, axis=1)),
        "values": _base64(flat[flat > 0]),
        "labels": _base64(labels.astype(np.uint8)),
    }


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
