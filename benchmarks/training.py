"""Training throughput, in images per second, beside the loop that the public ports run.

    python -m benchmarks.training [--rounds 5] [--steps 30] [--json FILE]

The variants take turns, round after round, and each figure is a median over the rounds, since a
shared machine's speed drifts. Run it with nothing else on the machine. The last column is the share
of what a 2048×2048 matrix product reaches in the same rounds and the same precision.
"""

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import matmul_peak, write_json
from center_loss import LeNetPP
from center_loss.data import MNIST, load_mnist
from center_loss.device import resolve_precision
from center_loss.models import PReLU
from center_loss.training import train

BATCH = 128
OPTIONS = {
    "model": {"name": "lenetpp", "feature_dim": 2},
    "lam": 0.01,
    "center_loss": {"name": "paper", "alpha": 0.5},
    "batch_size": BATCH,
    "optimizer": {
        "name": "sgd",
        "lr": 0.001,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 5e-4,
        "bias_lr_factor": 1,
        "decay_biases": True,
    },
    "schedule": {"name": "step", "milestones": [], "gamma": 1},
    "pixel_mean": 127.5,
    "pixel_std": 128,
    "snapshots": 0,
}


class DenseCenterLoss(nn.Module):
    """Center loss as the ports compute it: all B×C distances, masked; centers as parameters."""

    def __init__(self, num_classes: int, feature_dim: int) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.randn(num_classes, feature_dim))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        squared = features.square().sum(1, keepdim=True) + self.centers.square().sum(1)
        distances = squared - 2 * features @ self.centers.t()
        mask = labels.unsqueeze(1) == torch.arange(len(self.centers), device=labels.device)
        return (distances * mask).clamp(1e-12, 1e12).sum() / len(labels)


class PerImage(Dataset):
    """Each image is converted and normalised by itself, in a worker, as torchvision's transforms
    do; they also go through a PIL image, which only costs more."""

    def __init__(self, mnist: MNIST) -> None:
        self.images, self.labels = mnist.train_images, mnist.train_labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.images[index].unsqueeze(0).float().div(255)
        return (image - 0.1307) / 0.3081, self.labels[index]


def plain_lenetpp() -> LeNetPP:
    """LeNet++ with PyTorch's own PReLU, as a port has it."""
    model = LeNetPP()
    for module in model.modules():
        if isinstance(module, PReLU):
            module.__class__ = nn.PReLU
    return model


def conventional(mnist: MNIST, steps: int) -> dict[str, float]:
    """The loop of the ports: float32, DataLoader with 2 workers, two optimizers, .item() a step."""
    model, criterion = plain_lenetpp(), DenseCenterLoss(10, 2)
    solvers = [
        torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, weight_decay=5e-4),
        torch.optim.SGD(criterion.parameters(), lr=0.5),
    ]
    loader = DataLoader(PerImage(mnist), BATCH, shuffle=True, num_workers=2, drop_last=True)
    seconds = 0.0
    batches = iter(loader)
    next(batches)  # the workers' start isn't counted
    for _ in range(steps):
        began = time.perf_counter()
        images, labels = next(batches)
        features, logits = model(images)
        loss = F.cross_entropy(logits, labels) + 0.01 * criterion(features, labels)
        for solver in solvers:
            solver.zero_grad()
        loss.backward()
        for parameter in criterion.parameters():
            parameter.grad.mul_(1 / 0.01)
        for solver in solvers:
            solver.step()
        loss.item()
        seconds += time.perf_counter() - began
    return {"images_per_second": steps * BATCH / seconds}


def ours(mnist: MNIST, steps: int, precision: str, compile: bool = False) -> dict[str, float]:
    """`training.train`, whose own figures leave out compilation and evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            Path(folder), mnist, **OPTIONS, max_steps=steps, precision=precision, compile=compile
        )
    return {key: result[key] for key in ("images_per_second", "evaluation_images_per_second")}


def worker(data: str, images: int, threads: int) -> ProcessPoolExecutor:
    """A process for a variant: what one leaves behind in the allocator helps no other."""
    return ProcessPoolExecutor(
        1, get_context("spawn"), initializer=_begin, initargs=(data, images, threads)
    )


def _begin(data: str, images: int, threads: int) -> None:
    global _mnist
    sys.stderr = io.StringIO()  # takes the progress of a hundred short trainings
    torch.set_num_threads(threads)
    _mnist = load_mnist(data, images, 100)


def _call(variant: Callable, *arguments) -> dict[str, float]:
    return variant(_mnist, *arguments)


def flops_per_image() -> float:
    """Of one training step: forward, data gradients and weight gradients."""
    with FlopCounterMode(display=False) as counter:
        features, logits = LeNetPP()(torch.randn(1, 1, 28, 28))
        (features.sum() + logits.sum()).backward()
    return counter.get_total_flops()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--data", default="data", help="MNIST's root folder")
    parser.add_argument("--json", type=Path, help="write the table there too")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    options = parser.parse_args()
    threads, steps = torch.get_num_threads(), options.steps
    bf16 = resolve_precision("auto", torch.device("cpu")) == "bf16"
    best = "bf16" if bf16 else "fp32"
    variants: dict[str, tuple] = {
        "conventional loop, fp32": ("fp32", conventional),
        "ours, fp32": ("fp32", ours, "fp32"),
    }
    if bf16:
        variants["ours, bf16"] = ("bf16", ours, "bf16")
    if not options.no_compile:
        variants[f"ours, {best}, compiled"] = (best, ours, best, True)
    start = partial(worker, options.data, (steps + 2) * BATCH)
    workers = {name: start(threads) for name in variants}
    together = f"ours, {best}, {threads} runs at once"
    singles = [start(1) for _ in range(threads)]  # a thread each, as a sweep could do it

    precisions = ["fp32", "bf16"] if bf16 else ["fp32"]
    peaks: dict[str, list[float]] = {precision: [] for precision in precisions}
    rates: dict[str, list[float]] = {name: [] for name in [*variants, together]}
    evaluation: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(options.rounds + 1):  # the first round warms up
        round_rates = {}
        for name, (_, variant, *arguments) in variants.items():
            result = workers[name].submit(_call, variant, steps, *arguments).result()
            round_rates[name] = result["images_per_second"]
            if number and "evaluation_images_per_second" in result:
                evaluation[name].append(result["evaluation_images_per_second"])
        pending = [single.submit(_call, ours, steps, best) for single in singles]
        round_rates[together] = sum(each.result()["images_per_second"] for each in pending)
        for precision in precisions:
            dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            peak = matmul_peak(dtype)
            if number:
                peaks[precision].append(peak)
        for name, rate in round_rates.items():
            if number:
                rates[name].append(rate)

    flops = flops_per_image()
    base = rates["conventional loop, fp32"]
    rows = []
    for name, each in rates.items():
        precision = variants[name][0] if name in variants else best
        rate, peak = statistics.median(each), statistics.median(peaks[precision])
        rows.append(
            {
                "variant": name,
                "images_per_second": rate,
                "ratio": statistics.median(a / b for a, b in zip(each, base, strict=True)),
                "share_of_matmul_peak": rate * flops / 1e9 / peak,
            }
        )
        if evaluation.get(name):
            rows[-1]["evaluation_images_per_second"] = statistics.median(evaluation[name])
    print(
        f"{threads} threads, torch {torch.__version__}, batches of {BATCH}, "
        f"{flops / 1e9:.3f} GFLOP an image; a matrix product reaches "
        + ", ".join(f"{statistics.median(peaks[p]):.0f} GFLOP/s in {p}" for p in precisions)
    )
    print(f"{'variant':<26}{'images/s':>10}{'ratio':>8}{'of peak':>9}{'evaluation':>12}")
    for row in rows:
        seen = row.get("evaluation_images_per_second")
        print(
            f"{row['variant']:<26}{row['images_per_second']:>10,.0f}{row['ratio']:>8.2f}"
            f"{row['share_of_matmul_peak']:>9.0%}{f'{seen:,.0f}' if seen else '-':>12}"
        )
    write_json(
        options.json,
        {
            "threads": threads,
            "torch": torch.__version__,
            "flops_per_image": flops,
            "matmul_gflops": {name: statistics.median(each) for name, each in peaks.items()},
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
