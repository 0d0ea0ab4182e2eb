"""Where a training step of LeNet++ spends its time, layer by layer, in milliseconds.

    python -m benchmarks.layers [--rounds 15] [--batch 128] [--json FILE]

Each layer's forward pass and gradients run by themselves, on the inputs that they have in a step,
and so does the fast recipe's optimizer. They and the whole step take turns, and each time is a
median. "the rest" is the difference between the whole and their sum: both losses, the fully
connected layers, copies between precisions, Python, and what a layer costs more, or less, in its
place than by itself.
"""

import argparse
import copy
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import DTYPES, compose_train, matmul_gflops, milliseconds, write_json
from center_loss import CenterLoss, LeNetPP
from center_loss.base.device import keep_freed_memory, resolve_device, resolve_precision
from center_loss.data import scale
from center_loss.optim import OPTIMIZERS
from center_loss.recipe import Recipe
from center_loss.trainer import training_step

Part = tuple[str, str, Callable[[], object], float]  # layer, part, how to run it, GFLOP


def parts_of(layer: nn.Module, x: Tensor) -> list[Part]:
    """A layer's forward pass and gradients on an input."""
    name = f"{type(layer).__name__} {'×'.join(map(str, x.shape[1:]))}"
    if not isinstance(layer, nn.Conv2d):
        layer = copy.deepcopy(layer).to(x.dtype)  # as autocast has it
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        grad, wanted = torch.randn_like(y), [leaf, *layer.parameters()]
        return [
            (name, "forward", torch.no_grad()(lambda: layer(x)), 0.0),
            (name, "gradients",
             lambda: torch.autograd.grad(y, wanted, grad, retain_graph=True), 0.0),
        ]  # fmt: skip
    weight, bias = layer.weight.detach().to(x.dtype), layer.bias.detach().to(x.dtype)
    y = torch.conv2d(x, weight, bias, padding=layer.padding)
    grad = torch.randn_like(y)
    gflop = 2 * weight.numel() * y[:, 0].numel() / 1e9

    def backward(data: bool, weights: bool) -> object:
        return torch.ops.aten.convolution_backward(
            grad, x, weight, [len(bias)], layer.stride, layer.padding, layer.dilation, False,
            [0, 0], 1, [data, weights, weights],
        )  # fmt: skip

    name = f"{name} → {len(weight)}"
    parts: list[Part] = [
        (name, "forward", lambda: torch.conv2d(x, weight, bias, padding=layer.padding), gflop),
        (name, "data gradient", lambda: backward(True, False), gflop),
        (name, "weight gradient", lambda: backward(False, True), gflop),
    ]
    return [parts[0], parts[2]] if x.shape[1] == 1 else parts  # the image needs no gradient


def profile(precision: str, batch: int, rounds: int, device: torch.device) -> list[dict]:
    """Rows of layer, part, milliseconds and, for a convolution, GFLOP/s."""
    torch.manual_seed(0)
    net = LeNetPP().to(device, memory_format=torch.channels_last)
    criterion = CenterLoss(10, 2).to(device)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    optimizer = Recipe.of(compose_train("recipe=fast")).optimizer
    optimizers = OPTIMIZERS[optimizer.name](net, **optimizer.arguments, dtype=dtype)
    images = torch.randint(256, (batch, 28, 28), dtype=torch.uint8, device=device)
    labels = torch.randint(10, (batch,), device=device)

    def embed(images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            return net(scale(images, 127.5, 128))

    def step() -> None:
        weights = list(net.parameters())
        training_step(embed, criterion, weights, optimizers, images, labels, lam=0.01)

    inputs: list[tuple[nn.Module, Tensor]] = []
    hooks = [
        layer.register_forward_pre_hook(
            lambda layer, args: inputs.append((layer, args[0].detach().to(DTYPES[precision])))
        )
        for layer in net.features
        if not isinstance(layer, nn.Flatten)
    ]
    features, logits = embed(images)
    for hook in hooks:
        hook.remove()
    (features.sum() + logits.logsumexp(1).sum()).backward()
    gradients = [weight.grad for weight in net.parameters()]

    def solve() -> None:
        for weight, gradient in zip(net.parameters(), gradients, strict=True):
            weight.grad = gradient
        for each in optimizers:
            each.step()

    parts = [part for layer, x in inputs for part in parts_of(layer, x)]
    parts += [("optimizer", "Muon, AdamW", solve, 0.0), ("whole step", "", step, 0.0)]
    times: list[list[float]] = [[] for _ in parts]
    for number in range(rounds + 2):  # the first two warm up
        for (_, _, part, _), each in zip(parts, times, strict=True):
            taken = milliseconds(part, device)
            if number >= 2:
                each.append(taken)
    rows = []
    for (layer, part, _, gflop), each in zip(parts, times, strict=True):
        rows.append({"layer": layer, "part": part, "ms": statistics.median(each)})
        if gflop:
            rows[-1]["gflops"] = 1000 * gflop / rows[-1]["ms"]
    rest = rows[-1]["ms"] - sum(row["ms"] for row in rows[:-1])
    return [*rows[:-1], {"layer": "the rest", "part": "", "ms": rest}, rows[-1]]


def kind(row: dict) -> str:
    """What a row is added up under: "Conv2d forward", or its own name."""
    return f"{row['layer'].split()[0]} {row['part']}" if "×" in row["layer"] else row["layer"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--json", type=Path, help="write the tables there too")
    options = parser.parse_args()
    device = resolve_device("auto")
    keep_freed_memory()
    tables = {}
    for precision in sorted({"fp32", resolve_precision("auto", device)}):
        peak = matmul_gflops(precision, device)
        rows = profile(precision, options.batch, options.rounds, device)
        whole = rows[-1]["ms"]
        kinds: dict[str, float] = {}
        for row in rows[:-1]:
            kinds[kind(row)] = kinds.get(kind(row), 0) + row["ms"] / whole
        tables[precision] = {"matmul_gflops": peak, "rows": rows, "shares": kinds}
        print(f"{precision}, batches of {options.batch}; a matrix product: {peak:.0f} GFLOP/s")
        print(f"{'layer':<24}{'part':<18}{'ms':>8}{'share':>8}{'GFLOP/s':>10}")
        for row in rows:
            rate = f"{row['gflops']:>10.0f}" if "gflops" in row else ""
            share = f"{row['ms'] / whole:.0%}"
            print(f"{row['layer']:<24}{row['part']:<18}{row['ms']:>8.2f}{share:>8}{rate}")
        print("in all: " + ", ".join(f"{name} {share:.0%}" for name, share in kinds.items()) + "\n")
    write_json(options.json, device, {"batch": options.batch, **tables})


if __name__ == "__main__":
    main()
