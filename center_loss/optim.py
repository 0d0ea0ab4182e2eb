"""Optimizers and learning rate schedules of the recipes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT


class CaffeSGD(torch.optim.Optimizer):
    """SGD with momentum as Caffe computes it: v ← μ v + lr (g + wd w), w ← w − v.

    PyTorch keeps the learning rate out of v (w ← w − lr v). The two are the same until the
    learning rate changes: then Caffe's velocity still carries the old one.

    Args:
        params: parameters, or groups of them with their own ``lr`` and ``weight_decay``.
        lr: learning rate.
        momentum: μ.
        weight_decay: wd.
    """

    def __init__(
        self, params: ParamsT, lr: float, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            for p in weights:
                if "velocity" not in self.state[p]:
                    self.state[p]["velocity"] = torch.zeros_like(p)
            velocities = [self.state[p]["velocity"] for p in weights]
            gradients = [p.grad for p in weights]
            decay = group["weight_decay"]
            if decay:
                gradients = list(torch._foreach_add(gradients, weights, alpha=decay))
            torch._foreach_mul_(velocities, group["momentum"])
            torch._foreach_add_(velocities, gradients, alpha=group["lr"])
            torch._foreach_sub_(weights, velocities)
        return loss


class ConvMuon(torch.optim.Muon):
    """Muon on convolution weights, each seen as a (C_out, C_in·k·k) matrix.

    ``torch.optim.Muon`` takes matrices only. The matrices here are views of the weights, so a
    step on them moves the weights; the gradients are handed over before each step.
    """

    def __init__(self, weights: list[nn.Parameter], **options: Any) -> None:
        self._weights = weights
        # channels_last weights lie in memory as (C_out, k, k, C_in): flattened in that order they
        # stay a view; the orthogonalised step doesn't depend on the order of the columns
        self._matrices = [nn.Parameter(_as_matrix(weight.detach())) for weight in weights]
        for weight, matrix in zip(weights, self._matrices, strict=True):
            assert matrix.data_ptr() == weight.data_ptr()
        super().__init__(self._matrices, **options)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        for weight, matrix in zip(self._weights, self._matrices, strict=True):
            matrix.grad = None if weight.grad is None else _as_matrix(weight.grad, like=weight)
        return super().step(closure)


def _as_matrix(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    like = tensor if like is None else like
    if not like.is_contiguous():
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.reshape(len(tensor), -1)


def build_optimizers(model: nn.Module, options: dict) -> list[torch.optim.Optimizer]:
    """The recipe's optimizers over all parameters of a model, each in exactly one of them.

    Args:
        model: the network, already on its device and in its memory format.
        options: ``name`` (``sgd``, ``caffe_sgd`` or ``muon``) and that optimizer's values, as in
            ``configs/optimizer/``.
    """
    options = dict(options)
    name = options.pop("name")
    parameters = dict(model.named_parameters())
    if name == "muon":
        convolutions = [p for p in parameters.values() if p.ndim == 4]
        others = [p for p in parameters.values() if p.ndim != 4]
        return [
            ConvMuon(
                convolutions,
                lr=options["lr"],
                momentum=options["momentum"],
                weight_decay=options["weight_decay"],
            ),
            torch.optim.AdamW(
                others,
                lr=options["adamw_lr"],
                betas=(0.9, options["adamw_beta2"]),
                weight_decay=options["adamw_weight_decay"],
                foreach=True,  # on a CPU the default is a Python loop
            ),
        ]
    biases = [p for key, p in parameters.items() if key.endswith("bias")]
    weights = [p for key, p in parameters.items() if not key.endswith("bias")]
    bias_lr = options["lr"] * options.pop("bias_lr_factor")
    bias_decay = options["weight_decay"] if options.pop("decay_biases") else 0.0
    groups = [
        {"params": weights},
        {"params": biases, "lr": bias_lr, "weight_decay": bias_decay},
    ]
    cls = {"sgd": torch.optim.SGD, "caffe_sgd": CaffeSGD}[name]
    return [cls(groups, **options)]


def lr_factor(options: dict, max_steps: int, epoch: Callable[[int], int]) -> Callable[[int], float]:
    """The learning rate's factor as a function of the step (0 … max_steps − 1).

    Args:
        options: ``name`` and that schedule's values, as in ``configs/schedule/``: ``step`` is
            gamma^(number of milestones reached), as Caffe's "multistep"; ``step_epochs`` is
            gamma^(number of times that ``every`` epochs have passed); ``linear`` rises over the
            fraction ``warmup`` of the steps and then falls in a straight line towards 0.
        max_steps: number of steps of the whole run.
        epoch: the epoch (from 0) that a step is in.
    """
    if options["name"] == "step":
        return lambda step: options["gamma"] ** sum(step >= m for m in options["milestones"])
    if options["name"] == "step_epochs":
        return lambda step: options["gamma"] ** (epoch(step) // options["every"])
    rise = max(1.0, options["warmup"] * max_steps)
    fall = max(1.0, max_steps - rise)
    return lambda step: min((step + 1) / rise, (max_steps - step) / fall, 1.0)


def ramp(step: int, max_steps: int, fraction: float) -> float:
    """A factor that rises in a straight line from 0 to 1 over ``fraction`` of the steps."""
    return min(1.0, step / (fraction * max_steps)) if fraction > 0 else 1.0
