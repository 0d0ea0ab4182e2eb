"""Training throughput, in images per second, beside the loop that the public ports run.

    python -m benchmarks.training [--rounds 5] [--steps 30] [--json FILE]

The variants take turns, round after round; rates are medians, ratios and shares medians of a
round's, since a shared machine's speed drifts. Run it with nothing else on the machine. "of peak"
is the share of what a 2048×2048 matrix product reaches in the same round and precision. "memory
handed back" is without `device.keep_freed_memory`.
"""

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import matmul_gflops, write_json
from center_loss import LeNetPP
from center_loss.base.device import (
    hardware,
    keep_freed_memory,
    resolve_device,
    resolve_precision,
)
from center_loss.base.prelu import PReLU
from center_loss.data import MNIST, load_mnist
from center_loss.recipe import Recipe
from center_loss.runs.folder import Folder
from center_loss.training import train

BATCH = 128
CONFIG: dict = {
    "model": {"name": "lenetpp"},
    "loss": {"name": "paper", "lam": 0.01},
    "optimizer": {
        "name": "sgd",
        "lr": 0.001,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "bias_lr_factor": 1,
        "decay_biases": True,
    },
    "schedule": {"name": "step", "milestones": [], "gamma": 1},
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
    """What torchvision's MNIST, ToTensor and Normalize do with each image, by itself."""

    def __init__(self, mnist: MNIST) -> None:
        self.images, self.labels = mnist.train_images.cpu(), mnist.train_labels.cpu()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.images[index].numpy())
        image = torch.from_numpy(np.array(picture)).unsqueeze(0).float().div(255)
        mean, std = torch.tensor([0.1307]), torch.tensor([0.3081])
        return image.sub(mean[:, None, None]).div(std[:, None, None]), int(self.labels[index])


def dataset(data: str, mnist: MNIST) -> Dataset:
    """torchvision's; PerImage, which does the same, where torchvision can't be imported."""
    try:
        from torchvision import datasets, transforms
    except Exception:  # a torchvision built for another torch raises RuntimeError
        return PerImage(mnist)
    steps = [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    return datasets.MNIST(data, train=True, transform=transforms.Compose(steps))


def plain_lenetpp() -> LeNetPP:
    """LeNet++ with PyTorch's own PReLU, as a port has it."""
    model = LeNetPP()
    for module in model.modules():
        if isinstance(module, PReLU):
            module.__class__ = nn.PReLU
    return model


def conventional(data: str, mnist: MNIST, steps: int) -> dict[str, float | str]:
    """The loop of the ports: float32, DataLoader with 2 workers, two optimizers, .item() a step."""
    device = mnist.train_images.device
    model, criterion = plain_lenetpp().to(device), DenseCenterLoss(10, 2).to(device)
    solvers = [
        torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, weight_decay=5e-4),
        torch.optim.SGD(criterion.parameters(), lr=0.5),
    ]
    images_and_labels = dataset(data, mnist)
    loader = DataLoader(images_and_labels, BATCH, shuffle=True, num_workers=2)
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
    return {
        "images_per_second": steps * BATCH / seconds,
        "dataset": "PerImage" if isinstance(images_and_labels, PerImage) else "torchvision",
    }


def ours(
    data: str, mnist: MNIST, steps: int, precision: str, compile: bool = False, batch: int = BATCH
) -> dict[str, float]:
    """`training.train`, whose own figures leave out compilation and evaluation."""
    said: list[str] = []
    sizes = [steps * batch, steps * batch, 500, 500]  # all of them are evaluated once
    few = MNIST(*(each[:size] for each, size in zip(mnist[:4], sizes, strict=True)), md5={})
    length = {"max_steps": steps, "batch_size": batch, "snapshots": 0}
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            Recipe.of(CONFIG | {"train": length}),
            few,
            Folder(Path(folder)),
            precision=precision,
            compile=compile,
            say=said.append,
        )
    if said:
        raise RuntimeError(f"not compiled: {said}")
    return {key: result[key] for key in ("images_per_second", "evaluation_images_per_second")}


def worker(data: str, device: torch.device, threads: int, keep: bool) -> ProcessPoolExecutor:
    """A process for a variant: what one leaves behind in the allocator helps no other."""
    return ProcessPoolExecutor(
        1, get_context("spawn"), initializer=_begin, initargs=(data, device, threads, keep)
    )


def _begin(data: str, device: torch.device, threads: int, keep: bool) -> None:
    global _data, _mnist
    if keep:
        keep_freed_memory()
    sys.stderr = io.StringIO()  # takes the progress of a hundred short trainings
    torch.set_num_threads(threads)
    _data, _mnist = data, load_mnist(data, device=device)


def _call(variant: Callable, *arguments) -> dict[str, float]:
    return variant(_data, _mnist, *arguments)


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
    if not 0 < options.steps < 60_000 // BATCH:
        parser.error(f"--steps must be from 1 to {60_000 // BATCH - 1}, less than an epoch")
    device = resolve_device("auto")
    best = resolve_precision("auto", device)
    threads = torch.get_num_threads()
    precisions = sorted({"fp32", best}, reverse=True)
    variants: dict[str, tuple] = {"conventional loop, fp32": ("fp32", conventional)}
    for precision in precisions:
        variants[f"ours, {precision}"] = (precision, ours, precision)
    handed_back, compiled = f"ours, {best}, memory handed back", f"ours, {best}, compiled"
    if device.type == "cpu":
        variants[handed_back] = (best, ours, best)
    if not options.no_compile:
        variants[compiled] = (best, ours, best, True)
    kept = {name for name in variants if name.startswith("ours") and name != handed_back}
    workers = {name: worker(options.data, device, threads, name in kept) for name in variants}
    if compiled in variants:
        try:
            workers[compiled].submit(_call, ours, 1, best, True).result()
        except RuntimeError as error:
            print(f"left out: {error}")
            del variants[compiled]
    singles = []
    if device.type == "cpu" and threads > 1:  # a thread each, as a sweep could do it
        singles = [worker(options.data, device, 1, keep=True) for _ in range(threads)]
    together = f"ours, {best}, {threads} runs at once"

    def one_round() -> dict[str, dict[str, float]]:
        """Each variant's rates, and what a matrix product reaches under its precision's name."""
        found = {}
        for name, (_, variant, *arguments) in variants.items():
            running = workers[name].submit(_call, variant, options.steps, *arguments)
            found[name] = running.result()
        if singles:
            running = [each.submit(_call, ours, options.steps, best) for each in singles]
            rates = [each.result()["images_per_second"] for each in running]
            found[together] = {"images_per_second": sum(rates)}
        for precision in precisions:
            found[precision] = {"gflops": matmul_gflops(precision, device)}
        return found

    rounds = [one_round() for _ in range(options.rounds + 1)][1:]  # the first one warms up

    images_from = rounds[0]["conventional loop, fp32"]["dataset"]
    gflop = flops_per_image() / 1e9
    names = [*variants, *([together] if singles else [])]
    rates = {name: [each[name]["images_per_second"] for each in rounds] for name in names}
    peaks = {name: [each[name]["gflops"] for each in rounds] for name in precisions}

    def ratio(above: Iterable[float], below: Iterable[float]) -> float:
        return statistics.median(a / b for a, b in zip(above, below, strict=True))

    rows = []
    for name in names:
        peak = peaks[variants[name][0] if name in variants else best]
        row = {
            "variant": name,
            "images_per_second": statistics.median(rates[name]),
            "ratio": ratio(rates[name], rates["conventional loop, fp32"]),
            "share_of_matmul_peak": gflop * ratio(rates[name], peak),
        }
        evaluation = [each[name].get("evaluation_images_per_second") for each in rounds]
        if all(evaluation):
            row["evaluation_over_training"] = ratio(evaluation, rates[name])
        rows.append(row)
    medians = {name: statistics.median(each) for name, each in peaks.items()}
    reached = ", ".join(f"{peak:,.0f} GFLOP/s in {name}" for name, peak in medians.items())
    print(f"{hardware(device)}, batches of {BATCH}, {gflop:.3f} GFLOP an image;")
    print(f"a matrix product reaches {reached}; the conventional loop's dataset: {images_from}")
    print(f"{'variant':<32}{'images/s':>10}{'ratio':>8}{'of peak':>9}{'evaluation':>12}")
    for row in rows:
        evaluation = row.get("evaluation_over_training")
        print(
            f"{row['variant']:<32}{row['images_per_second']:>10,.0f}{row['ratio']:>8.2f}"
            f"{row['share_of_matmul_peak']:>9.0%}"
            + (f"{f'{evaluation:.1f} times':>12}" if evaluation else "")
        )
    tables = {"gflop_per_image": gflop, "matmul_gflops": medians, "rows": rows}
    write_json(options.json, device, {"conventional_dataset": images_from, **tables})


if __name__ == "__main__":
    main()
