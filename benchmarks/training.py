"""Training throughput, in images per second, beside the loop that the public ports run.

    python -m benchmarks.training [--rounds 4] [--steps 30] [--json FILE]

The variants take turns, round after round, and each figure is a median over the rounds, since a
shared machine's speed drifts. Run it with nothing else on the machine.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from center_loss import LeNetPP
from center_loss.data import MNIST, load_mnist
from center_loss.device import resolve_device, resolve_precision
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
    """Each image is converted and normalised by itself, in a worker, as with torchvision."""

    def __init__(self, mnist: MNIST) -> None:
        self.images, self.labels = mnist.train_images.cpu(), mnist.train_labels.cpu()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.images[index].unsqueeze(0).float().div(255)
        return (image - 0.1307) / 0.3081, self.labels[index]


def conventional(mnist: MNIST, steps: int) -> float:
    """The loop of the ports: float32, DataLoader with 2 workers, two optimizers, .item() a step."""
    device = mnist.train_images.device
    model, criterion = LeNetPP().to(device), DenseCenterLoss(10, 2).to(device)
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
        images, labels = images.to(device), labels.to(device)
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
    return steps * BATCH / seconds


def ours(mnist: MNIST, steps: int, precision: str, compile: bool) -> float:
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            Path(folder), mnist, **OPTIONS, max_steps=steps, precision=precision, compile=compile
        )
    return result["images_per_second"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--data", default="data", help="MNIST's root folder")
    parser.add_argument("--json", type=Path, help="write the table there too")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    options = parser.parse_args()
    device = resolve_device("auto")
    mnist = load_mnist(options.data, (options.steps + 2) * BATCH, 100, device)
    variants = {
        "conventional loop, fp32": lambda: conventional(mnist, options.steps),
        "ours, fp32": lambda: ours(mnist, options.steps, "fp32", False),
    }
    if resolve_precision("auto", device) == "bf16":
        variants["ours, bf16"] = lambda: ours(mnist, options.steps, "bf16", False)
    if "ours, bf16" in variants and not options.no_compile:
        variants["ours, bf16, compiled"] = lambda: ours(mnist, options.steps, "bf16", True)
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(options.rounds + 1):
        for name, variant in variants.items():
            rate = variant()
            if number:  # the first round warms up
                rates[name].append(rate)
    base = rates["conventional loop, fp32"]
    rows = [
        {
            "variant": name,
            "images_per_second": statistics.median(each),
            "ratio": statistics.median(a / b for a, b in zip(each, base, strict=True)),
        }
        for name, each in rates.items()
    ]
    print(f"{'variant':<26}{'images/s':>10}{'ratio':>8}")
    for row in rows:
        print(f"{row['variant']:<26}{row['images_per_second']:>10,.0f}{row['ratio']:>8.2f}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
