"""recipe=pytorch_center_loss beside the original code: how far apart are they after 50 steps?

    git clone https://github.com/KaiyangZhou/pytorch-center-loss
    python -m benchmarks.against_original pytorch-center-loss [--steps 50] [--json FILE]

The original's network and loss, from its own files, take the steps that its main.py takes. Ours is
`Trainer` with the recipe's values. Both start from the same seed, which gives the same
weights and centers, and see the same batches, a short one at the end of the epoch among them; all
in float32. What is left is rounding, and to show how much of it float32 leaves, the original also
runs beside itself with the images of each batch in reverse order.
"""

import argparse
import importlib.util
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import compose_train, write_json
from center_loss.batches import batches
from center_loss.data import MNIST, load_mnist, scale
from center_loss.recipe import Recipe
from center_loss.trainer import Trainer

Trace = dict[str, list[Tensor]]  # a tensor for each step, by what it is


def module_from(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"original_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def vector(tensors: Iterable[Tensor]) -> Tensor:
    """All numbers of some tensors in one row, whatever their layout in memory."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def run_original(folder: Path, mnist: MNIST, recipe: Recipe, reverse: bool = False) -> Trace:
    """The steps of the original's main.py, with its network, loss and two optimizers."""
    torch.manual_seed(recipe.seed)
    model = module_from(folder / "models.py").ConvNet(10)
    criterion = module_from(folder / "center_loss.py").CenterLoss(10, 2, use_gpu=False)
    solvers = [
        torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, weight_decay=5e-4),
        torch.optim.SGD(criterion.parameters(), lr=0.5),
    ]
    batch = batches(mnist, 128, "shuffle", "short", recipe.seed)
    trace: Trace = {name: [] for name in ("softmax loss", "center loss", "centers", "weights")}
    trace["weights"].append(vector(model.parameters()))
    lam = recipe.loss.lam
    for step in range(recipe.max_steps):
        images, labels = (each.flip(0) if reverse else each for each in batch(step))
        images = scale(images, recipe.data.pixel_mean, recipe.data.pixel_std)
        features, logits = model(images)
        softmax_loss = F.cross_entropy(logits, labels)
        center_loss = criterion(features, labels)
        for solver in solvers:
            solver.zero_grad()
        (softmax_loss + lam * center_loss).backward()
        solvers[0].step()
        criterion.centers.grad.mul_(1 / lam)
        solvers[1].step()
        trace["softmax loss"].append(softmax_loss.detach())
        trace["center loss"].append(center_loss.detach())
        trace["centers"].append(criterion.centers.detach().clone())
        trace["weights"].append(vector(model.parameters()))
    return trace


def run_ours(mnist: MNIST, recipe: Recipe) -> Trace:
    """The steps of a training, watched from outside."""
    trace: Trace = {name: [] for name in ("softmax loss", "center loss", "centers", "weights")}
    trainer = Trainer(recipe, mnist)
    trace["weights"].append(vector(trainer.net.parameters()))
    for _ in range(trainer.max_steps):
        parts, _ = trainer.step()
        trace["softmax loss"].append(parts[0])
        trace["center loss"].append(parts[1])
        trace["centers"].append(trainer.criterion.centers.clone())
        trace["weights"].append(vector(trainer.net.parameters()))
    return trace


def largest_differences(a: Trace, b: Trace) -> dict[str, float]:
    """By what it is, the largest difference of any number at any step."""
    return {
        name: max((x - y).abs().max().item() for x, y in zip(a[name], b[name], strict=True))
        for name in a
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a clone of KaiyangZhou/pytorch-center-loss")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--data", default="data", help="MNIST's root folder")
    parser.add_argument("--json", type=Path, help="write the table there too")
    options = parser.parse_args()
    for name in ("models.py", "center_loss.py"):
        if not (options.folder / name).is_file():
            parser.error(f"{options.folder} holds no {name}: give a clone of the original")
    warnings.filterwarnings("ignore", "This overload of addmm_", UserWarning)
    length = [f"train.max_steps={options.steps}", "train.snapshots=0"]
    recipe = Recipe.of(compose_train("recipe=pytorch_center_loss", *length))
    mnist = load_mnist(options.data, train_size=4_000, test_size=100)  # an epoch: 31 · 128 + 32
    original = run_original(options.folder, mnist, recipe)
    traces = {
        "ours": run_ours(mnist, recipe),
        "the original, batches reversed": run_original(options.folder, mnist, recipe, reverse=True),
    }
    change = {name: max((x - each[0]).abs().max().item() for x in each)
              for name, each in original.items()}  # fmt: skip
    rows = {"largest change of the original": change} | {
        name: largest_differences(original, trace) for name, trace in traces.items()
    }
    print(f"{options.steps} steps; largest difference to the original at any step")
    print(f"{'':<32}" + "".join(f"{name:>15}" for name in change))
    for name, row in rows.items():
        print(f"{name:<32}" + "".join(f"{value:>15.2g}" for value in row.values()))
    write_json(options.json, torch.device("cpu"), {"steps": options.steps, **rows})


if __name__ == "__main__":
    main()
