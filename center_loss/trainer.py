"""A network, its losses and its optimizers, and the step that they take together."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from center_loss import dialects, metrics, models
from center_loss.base.errors import UserError
from center_loss.batches import batches, images_in
from center_loss.data import MNIST, NUM_CLASSES, scale
from center_loss.optim import OPTIMIZERS
from center_loss.recipe import Recipe
from center_loss.schedules import SCHEDULES, ramp

CHECK_EVERY = 10  # steps between two looks at the losses, for which an accelerator is waited for
Network = Callable[[Tensor], tuple[Tensor, Tensor]]  # images → features (B, D), logits (B, C)


class Diverged(UserError):
    """A loss, a feature, a center or a weight is NaN or infinite."""

    def __init__(self, what: str, step: int, levers: list[str]) -> None:
        super().__init__(
            f"training diverged: {what} at step {step}; try to {' or '.join(levers)}. "
            "What was saved before is kept"
        )
        self.step = step


class Trainer:
    """What a recipe trains, from its first weights on.

    After the first weights no random number is drawn: the batches are a function of the step.

    Args:
        recipe: what is trained.
        mnist: the data, on the device to train on.
        precision: ``fp32``, or ``bf16`` for the convolutions and Muon's orthogonalisation.

    Attributes:
        net, criterion, optimizers: the network, the center loss, and what moves the weights.
        steps: number of steps that were taken.
        network: what a step calls, the network or a compiled one.

    Raises:
        ValueError: an argument of one of these is out of range.
    """

    def __init__(self, recipe: Recipe, mnist: MNIST, precision: str = "fp32") -> None:
        self.recipe, self.mnist, self.precision = recipe, mnist, precision
        self.device = mnist.train_images.device
        self.max_steps, self.steps = recipe.max_steps, 0
        torch.manual_seed(recipe.seed)
        net = models.build(recipe.model.name, num_classes=NUM_CLASSES, **recipe.model.arguments)
        self.net = net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network: Network = self.net
        self.criterion = dialects.build(
            recipe.loss.name, num_classes=NUM_CLASSES,
            feature_dim=recipe.model.arguments["feature_dim"], **recipe.loss.arguments,
        ).to(self.device)  # fmt: skip
        faster = {"dtype": torch.bfloat16} if precision == "bf16" else {}
        options = recipe.optimizer.arguments | (faster if recipe.optimizer.name == "muon" else {})
        self.optimizers = OPTIMIZERS[recipe.optimizer.name](self.net, **options)
        self.base_lrs = [group["lr"] for group in self.groups]
        self.schedule = SCHEDULES[recipe.schedule.name](**recipe.schedule.arguments)
        self.weights = list(self.net.parameters())
        data, length = recipe.data, recipe.train
        self.batch = batches(mnist, length.batch_size, data.order, length.last_batch, recipe.seed)
        self.losses = torch.zeros(CHECK_EVERY, 2, device=self.device)  # of the last steps

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The optimizers' groups of weights; loading a state replaces them."""
        return [group for each in self.optimizers for group in each.param_groups]

    def images_before(self, step: int) -> int:
        """Number of images in all batches before this step."""
        size, length = len(self.mnist.train_labels), self.recipe.train
        return images_in(step, size, length.batch_size, length.last_batch)

    def epoch(self, step: int) -> int:
        """The epoch, from 0, that a step's first image is in."""
        return self.images_before(step) // len(self.mnist.train_labels)

    def ended_epoch(self) -> bool:
        """Whether an epoch's last image was in the last batch, or the run's was."""
        ended = self.epoch(self.steps) > self.epoch(self.steps - 1)
        return ended or self.steps == self.max_steps

    def embed(self, network: Network, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images (B, 28, 28) → features (B, D), logits (B, C)."""
        data = self.recipe.data
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return network(scale(images, data.pixel_mean, data.pixel_std))

    def step(self) -> tuple[Tensor, int]:
        """Take the next step. Nothing in it waits for the device.

        Returns:
            (4,), on the device, as ``training_step``; and the number of images in the batch.
        """
        loss, step = self.recipe.loss, self.steps
        factor = self.schedule(step, self.epoch(step), self.max_steps)
        for group, base_lr in zip(self.groups, self.base_lrs, strict=True):
            group["lr"] = base_lr * factor
        if "lr" in loss.arguments:
            self.criterion.lr = loss.arguments["lr"] * factor
        images, labels = self.batch(step)
        parts = training_step(
            lambda images: self.embed(self.network, images),
            self.criterion if loss.lam > 0 else None,
            self.weights,
            self.optimizers,
            images,
            labels,
            loss.lam * ramp(step, self.max_steps, loss.lam_warmup, loss.lam_start),
            self.recipe.train.clip_norm,
        )
        self.losses[step % CHECK_EVERY] = parts[:2]
        self.steps += 1
        return parts, len(labels)

    @torch.no_grad()
    def evaluate(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images (N, 28, 28) → features (N, D), predictions (N,), both on the CPU."""
        chunk_size = 500 if self.device.type == "cpu" else 10_000  # on a CPU, what fits its caches
        parts = [self.embed(self.net, chunk) for chunk in images.split(chunk_size)]
        features, logits = (torch.cat(part) for part in zip(*parts, strict=True))
        features, predictions = features.cpu(), logits.argmax(1).cpu()
        if not features.isfinite().all():
            raise self.diverged("a feature is NaN or infinite", self.steps)
        return features, predictions

    def centers(self, features: Tensor, labels: Tensor) -> Tensor:
        """The class centers (C, D): the loss's own, or the class means where it has none."""
        if self.has_centers:
            return self.criterion.centers.to("cpu", copy=True)
        return metrics.class_means(features, labels, NUM_CLASSES)

    @property
    def has_centers(self) -> bool:
        return self.recipe.loss.lam > 0 and hasattr(self.criterion, "centers")

    def check_finite(self) -> None:
        """Raise if one of the losses since the last look isn't finite, for the first, or a center.

        Raises:
            Diverged: with what might help.
        """
        values = self.losses.tolist()
        for at in range(max(0, self.steps - CHECK_EVERY), self.steps):
            for name, value in zip(["softmax", "center"], values[at % CHECK_EVERY], strict=True):
                if not math.isfinite(value):
                    raise self.diverged(f"the {name} loss is {value}", at)
        if self.has_centers and not self.criterion.centers.isfinite().all():
            raise self.diverged("a center is NaN or infinite", self.steps)

    def diverged(self, what: str, step: int) -> Diverged:
        recipe = self.recipe
        levers = [
            f"lower optimizer.{key}" for key in recipe.optimizer.arguments if key[-2:] == "lr"
        ]
        levers += ["set train.clip_norm=1"]
        levers += [f"lower loss.lam (now {recipe.loss.lam:g})"] if recipe.loss.lam > 0 else []
        levers += ["set precision=fp32"] if self.precision == "bf16" else []
        return Diverged(what, step, levers)

    def compile(self, say: Callable[[str], None]) -> None:
        """Have the steps call the compiled network, where it can be (a C++ compiler is there)."""
        # a short last batch gets a graph of its own, instead of a slower one for every size
        network = torch.compile(self.net, dynamic=False)
        epoch = math.ceil(len(self.mnist.train_labels) / self.recipe.train.batch_size)
        try:
            for step in (0, epoch - 1):  # compilation happens here
                features, logits = self.embed(network, self.batch(step)[0])
                (features.sum() + logits.sum()).backward()
            self.network = network
        except Exception as error:  # the compilers raise whatever they like
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            say(f"torch.compile doesn't work here, training goes on without it ({reason[:120]})")
            torch.compiler.reset()
        self.net.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs.

        Raises:
            Diverged: a weight isn't finite.
        """
        if not all(weight.isfinite().all() for weight in self.net.state_dict().values()):
            raise self.diverged("a weight is NaN or infinite", self.steps)
        return {
            "steps": self.steps,
            "net": self.net.state_dict(),
            "criterion": self.criterion.state_dict(),
            "optimizers": [each.state_dict() for each in self.optimizers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` returned."""
        self.steps = state["steps"]
        self.net.load_state_dict(state["net"])
        self.criterion.load_state_dict(state["criterion"])
        for each, saved in zip(self.optimizers, state["optimizers"], strict=True):
            each.load_state_dict(saved)


def training_step(
    embed: Callable[[Tensor], tuple[Tensor, Tensor]],
    criterion: nn.Module | None,
    weights: list[nn.Parameter],
    optimizers: list[torch.optim.Optimizer],
    images: Tensor,
    labels: Tensor,
    lam: float,
    clip_norm: float | None = None,
) -> Tensor:
    """One step of all weights and centers on one batch. Nothing in it waits for the device.

    Args:
        embed: images → features (B, D), logits (B, C).
        criterion: the center loss; None for softmax alone.
        weights: the network's.
        optimizers: over those weights.
        images: (B, 28, 28) uint8.
        labels: (B,) int64.
        lam: λ of Eq. 5 at this step.
        clip_norm: largest norm of the whole gradient; None doesn't clip.

    Returns:
        (4,), on the device: L_S, L_C, L and the fraction of right answers, means over the batch.
    """
    features, logits = embed(images)
    softmax_loss = F.cross_entropy(logits, labels)  # Eq. 1, as a mean over the batch
    center_loss = torch.zeros_like(softmax_loss)
    if criterion is not None:
        center_loss = criterion(features, labels)  # Eq. 2; the centers move
    loss = softmax_loss + lam * center_loss  # Eq. 5
    loss.backward()
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(weights, clip_norm)
    for each in optimizers:
        each.step()
    for weight in weights:
        weight.grad = None
    with torch.no_grad():
        right = (logits.argmax(1) == labels).float().mean()
        return torch.stack([softmax_loss, center_loss, loss, right])
