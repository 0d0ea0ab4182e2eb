"""Where a training step of LeNet++ spends its time, layer by layer, in milliseconds.

    python -m benchmarks.layers [--rounds 15] [--json FILE]

Each layer's forward pass and gradients run by themselves, on the shapes that they have in a step of
batch 128, and the optimizer too. What the whole step takes beyond their sum is everything else:
both losses, the fully connected layers, copies between precisions, Python.
"""

import argparse
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import matmul_peak, median_ms, write_json
from center_loss import CenterLoss, LeNetPP
from center_loss.data import scale
from center_loss.device import resolve_precision
from center_loss.optim import build_optimizers
from center_loss.training import training_step

BATCH = 128
MUON = {
    **{"name": "muon", "lr": 0.02, "momentum": 0.95, "weight_decay": 0},
    **{"adamw_lr": 0.01, "adamw_beta2": 0.99, "adamw_weight_decay": 0.5},
}


def layer_times(layer: nn.Module, x: Tensor, rounds: int) -> dict[str, float]:
    """Milliseconds of a layer's forward pass and of its gradients."""
    time = partial(median_ms, rounds=rounds)
    if not isinstance(layer, nn.Conv2d):
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        grad = torch.randn_like(y)
        wanted = [leaf, *layer.parameters()]
        with torch.no_grad():
            forward = time(lambda: layer(x))
        return {
            "forward": forward,
            "gradients": time(lambda: torch.autograd.grad(y, wanted, grad, retain_graph=True)),
        }
    weight, bias = layer.weight.detach().to(x.dtype), layer.bias.detach().to(x.dtype)
    y = torch.conv2d(x, weight, bias, padding=layer.padding)
    grad = torch.randn_like(y)

    def backward(data: bool, weights: bool) -> tuple[Tensor, ...]:
        return torch.ops.aten.convolution_backward(
            grad, x, weight, [len(bias)], layer.stride, layer.padding, layer.dilation, False,
            [0, 0], 1, [data, weights, weights],
        )  # fmt: skip

    times = {"forward": time(lambda: torch.conv2d(x, weight, bias, padding=layer.padding))}
    if x.shape[1] > 1:  # the first layer's input is the image, which needs no gradient
        times["data gradient"] = time(lambda: backward(True, False))
    times["weight gradient"] = time(lambda: backward(False, True))
    return times


def profile(precision: str, rounds: int) -> list[dict]:
    """Rows of layer, part, milliseconds and, for a convolution, GFLOP/s."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    torch.manual_seed(0)
    net = LeNetPP().to(memory_format=torch.channels_last)
    criterion = CenterLoss(10, 2)
    optimizers = build_optimizers(net, MUON)
    images = torch.randint(256, (BATCH, 28, 28), dtype=torch.uint8)
    labels = torch.randint(10, (BATCH,))

    def embed(images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            return net(scale(images, 127.5, 128))

    def step() -> None:
        training_step(
            embed, criterion, list(net.parameters()), optimizers, images, labels, lam=0.01
        )

    inputs: list[tuple[nn.Module, Tensor]] = []
    hooks = [
        layer.register_forward_pre_hook(
            lambda layer, args: inputs.append((layer, args[0].detach().to(dtype)))
        )
        for layer in net.features
        if not isinstance(layer, nn.Flatten)
    ]
    with torch.no_grad():
        embed(images)
    for hook in hooks:
        hook.remove()

    rows = []
    for layer, x in inputs:
        name = f"{type(layer).__name__} {'×'.join(map(str, x.shape[1:]))}"
        for part, ms in layer_times(layer, x, rounds).items():
            row = {"layer": name, "part": part, "ms": ms}
            if isinstance(layer, nn.Conv2d):
                flops = 2 * layer.weight.numel() * BATCH * x.shape[2] * x.shape[3]
                row |= {"layer": f"{name} → {len(layer.weight)}", "gflops": flops / ms / 1e6}
            rows.append(row)
    step()  # leaves momentum behind, but no gradients
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    solve = median_ms(lambda: [each.step() for each in optimizers], rounds)
    rows.append({"layer": "optimizer", "part": "Muon, AdamW", "ms": solve})
    whole = median_ms(step, rounds)
    rows.append({"layer": "the rest", "part": "", "ms": whole - sum(row["ms"] for row in rows)})
    rows.append({"layer": "whole step", "part": "", "ms": whole})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write the tables there too")
    options = parser.parse_args()
    tables = {}
    best = resolve_precision("auto", torch.device("cpu"))
    for precision in ["bf16", "fp32"] if best == "bf16" else ["fp32"]:
        peak = matmul_peak(torch.bfloat16 if precision == "bf16" else torch.float32)
        rows = profile(precision, options.rounds)
        whole = rows[-1]["ms"]
        tables[precision] = {"matmul_gflops": peak, "rows": rows}
        print(f"{precision}: a matrix product reaches {peak:.0f} GFLOP/s")
        print(f"{'layer':<24}{'part':<18}{'ms':>8}{'share':>8}{'GFLOP/s':>10}")
        for row in rows:
            rate = f"{row['gflops']:>10.0f}" if "gflops" in row else ""
            print(
                f"{row['layer']:<24}{row['part']:<18}{row['ms']:>8.2f}"
                f"{row['ms'] / whole:>8.0%}{rate}"
            )
        kinds: dict[str, float] = {}
        for row in rows[:-1]:
            kind = (
                f"{row['layer'].split()[0]} {row['part']}" if "×" in row["layer"] else row["layer"]
            )
            kinds[kind] = kinds.get(kind, 0) + row["ms"]
        shares = (f"{kind} {ms / whole:.0%}" for kind, ms in kinds.items())
        print(f"in all: {', '.join(shares)}\n")
    write_json(options.json, tables)


if __name__ == "__main__":
    main()
