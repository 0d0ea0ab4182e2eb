"""Each recipe against its source, value by value: what docs/dialects.md says is tested here."""

import pytest
import torch
from loop import optimizers

from benchmarks import compose_train
from center_loss.batches import images_in
from center_loss.data import scale
from center_loss.dialects import DIALECTS
from center_loss.job import checked
from center_loss.models import MODELS, build
from center_loss.optim import CaffeSGD
from center_loss.recipe import Recipe
from center_loss.runs.load import find_runs
from center_loss.schedules import SCHEDULES

SOURCES = ["paper", "caffe_face", "ijcv", "mxnet_center_loss", "pytorch_center_loss"]


def recipe(name: str) -> dict:
    return checked(compose_train(f"recipe={name}"))


@pytest.mark.parametrize(
    "name, steps, batch, order, last_batch, model, loss, lam",
    [
        ("paper", 10_000, 128, "file", "wrap", "LeNetPP", "CenterLoss", 0.01),
        ("caffe_face", 10_000, 128, "file", "wrap", "LeNetPP", "CaffeFaceCenterLoss", 0.01),
        ("ijcv", 10_000, 128, "file", "wrap", "LeNetPP", "IJCVCenterLoss", 0.01),
        ("mxnet_center_loss", 12_000, 100, "shuffle_once", "wrap", "LeNet", "MXNetCenterLoss", 1),
        ("pytorch_center_loss", 46_900, 128, "shuffle", "short", "LeNetPP", "PyTorchCenterLoss", 1),
    ],
)
def test_length_batches_network_and_loss(name, steps, batch, order, last_batch, model, loss, lam):
    config = recipe(name)
    assert Recipe.of(config).max_steps == steps
    assert config["train"]["batch_size"] == batch
    assert config["train"]["last_batch"] == last_batch
    assert config["train"]["clip_norm"] is None
    assert config["data"]["train_size"] == 60_000
    assert config["data"]["order"] == order
    assert MODELS[config["model"]["name"]].__name__ == model
    assert DIALECTS[config["loss"]["name"]].__name__ == loss
    assert config["loss"]["lam"] == lam
    assert config["loss"]["lam_warmup"] == 0
    expected = {"caffe_face": {"lr": 0.01, "momentum": 0.9}, "ijcv": {"lr": 0.01}}.get(
        name, {"alpha": 0.5}
    )
    assert config["loss"].get("alpha") == expected.get("alpha")
    loss = Recipe.of(config).loss
    assert (loss.name, loss.arguments) == (name, expected)
    DIALECTS[name](10, 2, **loss.arguments)


def test_each_loss_in_each_recipe_has_a_folder_and_a_lam_of_its_own():
    folders, lams = set(), {"paper": 0.01, "caffe_face": 0.01, "ijcv": 0.01}
    for name in SOURCES:
        for loss in SOURCES:
            config = checked(compose_train(f"recipe={name}", f"loss={loss}"))
            assert config["loss"]["name"] == loss
            assert config["loss"]["lam"] == lams.get(loss, 1)
            folders.add(config["output_dir"])
        own = recipe(name)["output_dir"]
        assert own in folders and not own.endswith(name)
    assert len(folders) == len(SOURCES) ** 2


@pytest.mark.parametrize(
    "name, black, white",
    [
        ("paper", -127.5 / 128, 127.5 / 128),
        ("caffe_face", -127.5 / 128, 127.5 / 128),
        ("ijcv", -127.5 / 128, 127.5 / 128),
        ("mxnet_center_loss", 0, 255 / 256),
        ("pytorch_center_loss", -0.1307 / 0.3081, (1 - 0.1307) / 0.3081),
    ],
)
def test_pixels(name, black, white):
    data = recipe(name)["data"]
    image = torch.tensor([[[0, 255]]], dtype=torch.uint8)
    scaled = scale(image, data["pixel_mean"], data["pixel_std"])
    assert scaled.flatten().tolist() == pytest.approx([black, white], rel=1e-6)


CAFFE = {0: 0.01, 4_999: 0.01, 5_000: 0.008, 7_999: 0.008, 8_000: 0.0064, 9_999: 0.0064}


@pytest.mark.parametrize(
    "name, rates",
    [
        ("paper", CAFFE),
        ("caffe_face", CAFFE),
        ("ijcv", CAFFE),
        ("mxnet_center_loss", {0: 0.01, 4_999: 0.01, 11_999: 0.01}),  # halved after the end
        ("pytorch_center_loss", {
            0: 1e-3, 9_379: 1e-3, 9_380: 5e-4, 18_759: 5e-4, 18_760: 2.5e-4, 28_140: 1.25e-4,
            37_519: 1.25e-4, 37_520: 6.25e-5, 46_899: 6.25e-5,
        }),  # 469 batches an epoch
    ],
)  # fmt: skip
def test_learning_rates(name, rates):
    config = recipe(name)
    batch, last = config["train"]["batch_size"], config["train"]["last_batch"]
    schedule = Recipe.of(config).schedule
    factor = SCHEDULES[schedule.name](**schedule.arguments)
    epochs = [images_in(step, 60_000, batch, last) // 60_000 for step in rates]
    lr, steps = config["optimizer"]["lr"], Recipe.of(config).max_steps
    found = [lr * factor(step, epoch, steps) for step, epoch in zip(rates, epochs, strict=True)]
    assert found == pytest.approx(list(rates.values()))


@pytest.mark.parametrize(
    "name, solver, weights, biases",
    [
        ("paper", CaffeSGD, (0.01, 5e-4), (0.02, 0)),
        ("caffe_face", CaffeSGD, (0.01, 5e-4), (0.02, 0)),
        ("ijcv", CaffeSGD, (0.01, 5e-4), (0.02, 0)),
        ("mxnet_center_loss", CaffeSGD, (0.01, 5e-4), (0.01, 0)),
        ("pytorch_center_loss", torch.optim.SGD, (0.001, 5e-4), (0.001, 5e-4)),
    ],
)
def test_solver(name, solver, weights, biases):
    """Learning rate and weight decay of each parameter; PReLU slopes are weights."""
    config = recipe(name)
    model = build(num_classes=10, **config["model"])
    (optimizer,) = optimizers(model, config["optimizer"])
    assert type(optimizer) is solver
    found = {}
    for group in optimizer.param_groups:
        assert group["momentum"] == 0.9
        assert not group.get("nesterov") and not group.get("dampening")
        for p in group["params"]:
            found[p] = (group["lr"], group["weight_decay"])
    for key, p in model.named_parameters():
        assert found.pop(p) == pytest.approx(biases if key.endswith("bias") else weights), key
    assert not found


TWINS = ("caffe_face", "ijcv")  # of the paper's but for the loss


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in TWINS else name
     for name in SOURCES],
)  # fmt: skip
def test_the_command(command, mnist_root, tmp_path, name):
    """`python train.py recipe=NAME`, shortened, and the figures of what it leaves."""
    done = command(
        "train.py", "-m", f"recipe={name}", "loss.lam=0,0.1", "train.max_steps=6",
        "train.batch_size=16", "data.train_size=300", "data.test_size=200", "train.snapshots=2",
        f"data.root={mnist_root}", f"hydra.sweep.dir={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs, others = find_runs(tmp_path)
    assert not others
    runs.sort(key=lambda each: each.metrics["lam"])
    assert [(each.metrics["recipe"], each.metrics["lam"]) for each in runs] == [
        (name, 0), (name, 0.1)
    ]  # fmt: skip
    alpha = None if name in ("caffe_face", "ijcv") else 0.5
    assert [each.metrics["alpha"] for each in runs] == [None, alpha]
    done = command("visualize.py", f"runs={tmp_path}")
    assert done.returncode == 0, done.stderr
    for figure in ("fig2_train", "fig2_test", "fig3_train", "fig3_test", "compare"):
        assert (tmp_path / f"{figure}.pdf").exists()
    for file in ("evolution.gif", "page.html"):  # some of them have a bias in the last layer
        assert (tmp_path / file).exists(), done.stdout
