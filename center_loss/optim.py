"""Optimizers of the recipes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from center_loss.base.checks import BelowOne, Fraction, NotNegative, Positive


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
    def step(self) -> None:  # type: ignore[override]
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
    def step(self) -> None:  # type: ignore[override]
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


Optimizers = list[torch.optim.Optimizer]


def sgd(
    net: nn.Module,
    *,
    lr: Positive,
    momentum: Fraction,
    weight_decay: NotNegative,
    bias_lr_factor: NotNegative,
    decay_biases: bool,
    nesterov: bool = False,
) -> Optimizers:
    """PyTorch's SGD, where biases may have a learning rate of their own and no decay."""
    if nesterov and momentum == 0:
        raise ValueError("nesterov=true wants an optimizer.momentum > 0, got 0")
    groups = _weights_and_biases(net, lr * bias_lr_factor, weight_decay if decay_biases else 0.0)
    return [torch.optim.SGD(groups, lr, momentum, weight_decay=weight_decay, nesterov=nesterov)]


def caffe_sgd(
    net: nn.Module,
    *,
    lr: Positive,
    momentum: Fraction,
    weight_decay: NotNegative,
    bias_lr_factor: NotNegative,
    decay_biases: bool,
) -> Optimizers:
    """``CaffeSGD``, and the biases as for ``sgd``."""
    groups = _weights_and_biases(net, lr * bias_lr_factor, weight_decay if decay_biases else 0.0)
    return [CaffeSGD(groups, lr, momentum, weight_decay)]


def muon(
    net: nn.Module,
    *,
    lr: Positive,
    momentum: Fraction,
    weight_decay: NotNegative,
    adamw_lr: Positive,
    adamw_beta2: BelowOne,
    adamw_weight_decay: NotNegative,
    dtype: torch.dtype = torch.float32,
) -> Optimizers:
    """Muon on the convolutions' weights, orthogonalised in ``dtype``; AdamW on the rest."""
    convolutions = [p for p in net.parameters() if p.ndim == 4]
    others = [p for p in net.parameters() if p.ndim != 4]
    return [
        ConvMuon(convolutions, lr, momentum, weight_decay, dtype),
        torch.optim.AdamW(
            others,
            lr=adamw_lr,
            betas=(0.9, adamw_beta2),
            weight_decay=adamw_weight_decay,
            foreach=True,  # on a CPU the default is a Python loop
        ),
    ]


# each gives the optimizers over all parameters of a network, each parameter in exactly one of them
OPTIMIZERS: dict[str, Callable[..., Optimizers]] = {
    "sgd": sgd, "caffe_sgd": caffe_sgd, "muon": muon
}  # fmt: skip


def _weights_and_biases(net: nn.Module, bias_lr: float, bias_decay: float) -> list[dict[str, Any]]:
    parameters = dict(net.named_parameters())
    biases = [p for key, p in parameters.items() if key.endswith("bias")]
    weights = [p for key, p in parameters.items() if not key.endswith("bias")]
    return [
        {"params": weights},
        {"params": biases, "lr": bias_lr, "weight_decay": bias_decay},
    ]
