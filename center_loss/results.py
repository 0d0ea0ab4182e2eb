"""What a training leaves behind: a row an epoch, snapshots, and what figures and tables need."""

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from center_loss import metrics
from center_loss.base.device import synchronize
from center_loss.data import NUM_CLASSES
from center_loss.snapshots import Snapshots, snapshot_moments
from center_loss.trainer import Trainer


class Results:
    """Of one training, as far as it has come; it survives an interruption with it.

    Attributes:
        history: a row an epoch.
        snapshots: those that were taken.
        sums: this epoch's: L_S, L_C, L and right answers, (4,) on the device.
        counted: images in those sums.
        evaluated: images, by all evaluations and snapshots.
        train_seconds, evaluation_seconds: of the steps, and of evaluations and snapshots.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, mnist = trainer, trainer.mnist
        self.test_labels = mnist.test_labels.cpu()
        moments = snapshot_moments(trainer.max_steps, trainer.recipe.train.snapshots)
        self.snapshots = Snapshots(moments, self.test_labels, trainer.net.classifier)
        self.history: list[dict[str, float]] = []
        self.sums, self.counted = torch.zeros(4, device=trainer.device), 0
        self.evaluated = 0
        self.tested: tuple[Tensor, Tensor] | None = None  # at the end of the last epoch
        self.train_seconds = self.evaluation_seconds = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """In the block steps are taken."""
        synchronize(self.trainer.device)
        self.lap = time.perf_counter()
        yield
        self.train_seconds += time.perf_counter() - self.lap

    def add(self, parts: Tensor, images: int) -> None:
        """What a step returned."""
        self.sums += parts * images
        self.counted += images

    def so_far(self) -> str:
        """This epoch's mean loss and accuracy, and the rate of all steps, for a progress bar."""
        *_, loss, accuracy = (self.sums / self.counted).tolist()
        seconds = self.train_seconds + time.perf_counter() - self.lap
        rate = self.trainer.images_before(self.trainer.steps) / seconds
        return f"loss {loss:.4f}, accuracy {accuracy:.2%}, {rate:,.0f} images/s"

    def evaluate(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images (N, 28, 28) → features (N, D), predictions (N,), both on the CPU."""
        began = time.perf_counter()
        features, predictions = self.trainer.evaluate(images)
        self.evaluation_seconds += time.perf_counter() - began
        self.evaluated += len(images)
        return features, predictions

    def end_epoch(self) -> None:
        """A row of the epoch that has just ended, with the accuracy on the test set."""
        softmax_mean, center_mean, mean_loss, accuracy = (self.sums / self.counted).tolist()
        self.tested = self.evaluate(self.trainer.mnist.test_images)
        self.history.append(
            {
                "epoch": len(self.history) + 1,
                "step": self.trainer.steps,
                "lr": self.trainer.groups[0]["lr"],
                "loss": mean_loss,
                "softmax_loss": softmax_mean,
                "center_loss": center_mean,
                "train_accuracy": accuracy,
                **_scores("test", *self.tested, self.test_labels),
            }
        )
        self.sums, self.counted = torch.zeros_like(self.sums), 0

    def take_snapshot(self) -> None:
        """If one is due."""
        if self.snapshots.due(self.trainer.steps):
            images = self.trainer.mnist.test_images
            features, predictions = self.evaluate(images[self.snapshots.indices.to(images.device)])
            centers = self.trainer.centers(features, self.snapshots.labels)
            self.snapshots.add(features, predictions, centers)

    def final(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The metrics, and the arrays that figures need: features, predictions, centers, W."""
        trainer, mnist = self.trainer, self.trainer.mnist
        result: dict[str, Any] = {}
        arrays: dict[str, Tensor] = {}
        for split, (features, predictions), labels in [
            ("train", self.evaluate(mnist.train_images), mnist.train_labels.cpu()),
            ("test", self.tested or self.evaluate(mnist.test_images), self.test_labels),
        ]:
            result |= _scores(split, features, predictions, labels)
            means = metrics.class_means(features.double(), labels, NUM_CLASSES)
            result[f"{split}_class_means"] = means.tolist()
            arrays[f"{split}_features"] = features
            arrays[f"{split}_labels"] = labels.byte()
            arrays[f"{split}_predictions"] = predictions.byte()
            if split == "train":
                arrays["centers"] = centers = trainer.centers(features, labels)
                result["centers"] = centers.tolist()
                result["center_drift"] = metrics.center_drift(centers, features, labels)
            else:
                result["test_recall"] = metrics.recall(predictions, labels, NUM_CLASSES)
        if trainer.recipe.loss.lam > 0 and not trainer.has_centers:
            result["has_centers"] = False
        classifier = trainer.net.classifier
        result["classifier_norm"] = classifier.weight.norm(dim=1).mean().item()
        arrays |= {name: each.detach().cpu() for name, each in classifier.named_parameters()}
        return {
            **{key: result[key] for key in sorted(result)},
            "steps": trainer.steps,
            "images_per_second": trainer.images_before(trainer.steps) / self.train_seconds,
            "train_seconds": self.train_seconds,
            "evaluation_images_per_second": self.evaluated / self.evaluation_seconds,
            "evaluation_seconds": self.evaluation_seconds,
            "data_md5": mnist.md5,
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        }, arrays

    _STATE = ("history", "sums", "counted", "evaluated", "train_seconds", "evaluation_seconds")

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        state = {key: getattr(self, key) for key in self._STATE}
        return {**state, "snapshots": self.snapshots.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` returned."""
        for key in self._STATE:
            setattr(self, key, state[key])
        self.sums = self.sums.to(self.trainer.device)
        self.snapshots.load_state_dict(state["snapshots"])


def _scores(split: str, features: Tensor, predictions: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy and compactness of a split, by names that begin with it."""
    scores = {"accuracy": metrics.accuracy(predictions, labels)}
    scores |= metrics.compactness(features, labels, NUM_CLASSES)
    return {f"{split}_{name}": value for name, value in scores.items()}
