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


class ConvMuon(torch.optim.Optimizer):
    """Muon (K. Jordan, 2024) on convolution weights, each seen as a (C_out, C_in·k·k) matrix w.

    m ← μ m + (1 − μ) g, then w ← (1 − lr wd) w − lr √max(1, rows / columns) O, with O the
    ``orthogonalised`` μ m + (1 − μ) g (Nesterov's momentum). ``torch.optim.Muon`` is the same in
    bfloat16 alone, which a processor without instructions for it emulates: there it would take
    longer than the network.

    Args:
        weights: convolution weights (C_out, C_in, k, k), contiguous or channels_last.
        lr: learning rate.
        momentum: μ.
        weight_decay: wd.
        dtype: of the orthogonalisation.
    """

    def __init__(
        self,
        weights: list[nn.Parameter],
        lr: float,
        momentum: float,
        weight_decay: float,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                matrix, gradient = weight, weight.grad
                if not weight.is_contiguous():
                    # channels_last weights lie in memory as (C_out, k, k, C_in): flattened in that
                    # order they stay a view, and the order of the columns doesn't matter here
                    matrix, gradient = (t.permute(0, 2, 3, 1) for t in (matrix, gradient))
                matrix, gradient = matrix.view(len(weight), -1), gradient.reshape(len(weight), -1)
                average = self.state[weight].setdefault(
                    "momentum_buffer", torch.zeros_like(gradient)
                )
                average.lerp_(gradient, 1 - group["momentum"])
                ahead = gradient.lerp(average, group["momentum"])
                rows, columns = matrix.shape
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(
                    orthogonalised(ahead, self._dtype),
                    alpha=-group["lr"] * max(1, rows / columns) ** 0.5,
                )
        return loss


def orthogonalised(matrix: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """A matrix with its singular values moved to about 1 (0.68 to 1.21), its directions kept.

    Newton-Schulz: after X ← X / ‖X‖, five times X ← a X + (b A + c A²) X with A = X Xᵀ and
    K. Jordan's a, b, c, which are steepest at 0 and so lift the smallest values fastest.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.to(dtype)
    x = x.T if len(x) > x.shape[1] else x  # A is the smaller of the two products
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if len(matrix) > matrix.shape[1] else x


def build_optimizers(
    model: nn.Module, options: dict, dtype: torch.dtype = torch.float32
) -> list[torch.optim.Optimizer]:
    """The recipe's optimizers over all parameters of a model, each in exactly one of them.

    Args:
        model: the network, already on its device and in its memory format.
        options: ``name`` (``sgd``, ``caffe_sgd`` or ``muon``) and that optimizer's values, as in
            ``configs/optimizer/``.
        dtype: what Muon orthogonalises in; momenta and weights are float32.

    Raises:
        ValueError: ``name`` is none of these.
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
                dtype=dtype,
            ),
            torch.optim.AdamW(
                others,
                lr=options["adamw_lr"],
                betas=(0.9, options["adamw_beta2"]),
                weight_decay=options["adamw_weight_decay"],
                foreach=True,  # on a CPU the default is a Python loop
            ),
        ]
    classes = {"sgd": torch.optim.SGD, "caffe_sgd": CaffeSGD}
    if name not in classes:
        raise ValueError(f"name must be one of {', '.join(classes)}, muon, got {name}")
    biases = [p for key, p in parameters.items() if key.endswith("bias")]
    weights = [p for key, p in parameters.items() if not key.endswith("bias")]
    bias_lr = options["lr"] * options.pop("bias_lr_factor")
    bias_decay = options["weight_decay"] if options.pop("decay_biases") else 0.0
    groups = [
        {"params": weights},
        {"params": biases, "lr": bias_lr, "weight_decay": bias_decay},
    ]
    return [classes[name](groups, **options)]


def lr_factor(options: dict, max_steps: int, epoch: Callable[[int], int]) -> Callable[[int], float]:
    """The learning rate's factor as a function of the step (0 … max_steps − 1).

    Args:
        options: ``name`` and that schedule's values, as in ``configs/schedule/``: ``step`` is
            gamma^(number of milestones reached), as Caffe's "multistep"; ``step_epochs`` is
            gamma^(number of times that ``every`` epochs have passed); ``linear`` rises over the
            fraction ``warmup`` of the steps and then falls in a straight line towards 0.
        max_steps: number of steps of the whole run.
        epoch: the epoch (from 0) that a step is in.

    Raises:
        ValueError: ``name`` is none of these.
    """
    if options["name"] == "step":
        return lambda step: options["gamma"] ** sum(step >= m for m in options["milestones"])
    if options["name"] == "step_epochs":
        return lambda step: options["gamma"] ** (epoch(step) // options["every"])
    if options["name"] != "linear":
        raise ValueError(f"name must be one of step, step_epochs, linear, got {options['name']}")
    rise = max(1.0, options["warmup"] * max_steps)
    fall = max(1.0, max_steps - rise)
    return lambda step: min((step + 1) / rise, (max_steps - step) / fall, 1.0)


def ramp(step: int, max_steps: int, fraction: float, start: float = 0.0) -> float:
    """A factor that rises to 1 over ``fraction`` of the steps: from ``start`` by equal factors, or
    where that is 0 in a straight line."""
    risen = min(1.0, step / (fraction * max_steps)) if fraction > 0 else 1.0
    return start ** (1 - risen) if start > 0 else risen
