"""CenterLoss by hand, its arguments, its use. Its equations are tested in test_dialects.py."""

import re
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT

from center_loss import CenterLoss


def test_one_step_by_hand():
    """Two features of class 0 at (3, 0) and (0, 6), center at 0: Δc = −(3, 6)/3, half of it."""
    criterion = CenterLoss(num_classes=2, feature_dim=2, alpha=0.5)
    loss = criterion(torch.tensor([[3.0, 0.0], [0.0, 6.0]]), torch.tensor([0, 0]))
    assert loss.item() == (9 + 36) / 2 / 2
    assert criterion.centers.tolist() == [[0.5, 1.0], [0.0, 0.0]]


def test_centers_do_not_take_the_gradient_of_eq_2():
    """Many samples of a class: Eq. 4 tends to their mean, the gradient of the mean loss doesn't."""
    criterion = CenterLoss(num_classes=10, feature_dim=2, alpha=1.0)
    criterion(torch.full((99, 2), 5.0), torch.zeros(99, dtype=torch.long))
    torch.testing.assert_close(criterion.centers[0], torch.full((2,), 5 * 99 / 100))
    assert not list(criterion.parameters())


@pytest.mark.parametrize("label_type", [torch.uint8, torch.int8, torch.int16, torch.int64])
@pytest.mark.parametrize("classes", [10, 256, 266, 100_000])
def test_any_integer_labels(label_type, classes):
    x, y = torch.randn(5, 2), torch.tensor([0, 9, 9, 3, 1])
    assert CenterLoss(classes, 2)(x, y.to(label_type)) == CenterLoss(classes, 2)(x, y)
    if label_type != torch.uint8:
        with pytest.raises(ValueError, match="labels must be in"):
            CenterLoss(classes, 2)(x, -y.to(label_type))


@pytest.mark.parametrize(
    "features, labels, names",
    [
        (torch.randn(4, 3), torch.zeros(4).long(), ["features", "(batch, 2)", "(4, 3)"]),
        (torch.randn(4), torch.zeros(4).long(), ["features", "(batch, 2)", "(4,)"]),
        (torch.ones(4, 2).long(), torch.zeros(4).long(), ["features", "floating", "int64"]),
        (torch.randn(4, 2), torch.zeros(5).long(), ["labels", "(4,)", "(5,)"]),
        (torch.randn(4, 2), torch.zeros(4, 1).long(), ["labels", "(4,)", "(4, 1)"]),
        (torch.randn(4, 2), torch.zeros(4), ["labels", "integers", "float32"]),
        (torch.randn(4, 2), torch.zeros(4).bool(), ["labels", "integers", "bool"]),
        (torch.randn(4, 2), torch.tensor([0, 1, 2, 10]), ["labels", "[0, 10)", "0 to 10"]),
        (torch.randn(4, 2), torch.tensor([0, 1, 2, -1]), ["labels", "[0, 10)", "-1 to 2"]),
        (torch.randn(0, 2), torch.zeros(0).long(), ["empty"]),
    ],
)
def test_wrong_input(features, labels, names):
    criterion = CenterLoss(10, 2)
    with pytest.raises(ValueError) as caught:
        criterion(features, labels)
    assert all(name in str(caught.value) for name in names)
    assert not criterion.centers.any()


@pytest.mark.parametrize(
    "arguments, name",
    [
        ((0, 2, 0.5), "num_classes"),
        ((10, 0, 0.5), "feature_dim"),
        ((10, 2, -0.1), "alpha"),
        ((10, 2, 1.1), "alpha"),
        ((10, 2, float("nan")), "alpha"),
    ],
)
def test_wrong_arguments(arguments, name):
    with pytest.raises(ValueError, match=name):
        CenterLoss(*arguments)


def test_in_a_network_of_ones_own():
    """The README's five lines, with 1,000 classes and 128 dimensions."""
    torch.manual_seed(0)
    backbone, head = torch.nn.Linear(64, 128), torch.nn.Linear(128, 1000)
    optimizer = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=0.1)
    criterion = CenterLoss(num_classes=1000, feature_dim=128, alpha=0.5)
    images, labels = torch.randn(256, 64), torch.randint(1000, (256,))
    losses = []
    for _ in range(20):
        features = backbone(images)
        logits = head(features)
        loss = F.cross_entropy(logits, labels) + 0.1 * criterion(features, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    present = labels.unique()
    assert criterion.centers[present].any(dim=1).all()
    absent = torch.ones(1000, dtype=torch.bool).index_fill_(0, present, False)
    assert not criterion.centers[absent].any()


def test_the_lines_of_the_readme():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (block,) = [each for each in blocks if "CenterLoss(" in each]
    assert len([line for line in block.splitlines() if line.strip()]) <= 5
    images, labels = torch.randn(256, 64), torch.randint(1000, (256,))
    backbone, head = torch.nn.Linear(64, 128), torch.nn.Linear(128, 1000)
    names = {"F": F, "backbone": backbone, "head": head, "images": images, "labels": labels}
    exec(block, names)
    names["loss"].backward()
    assert backbone.weight.grad.any() and head.weight.grad.any()
    assert names["criterion"].centers.any(dim=1).sum() == len(labels.unique())


def test_importing_it_needs_pytorch_alone():
    blocked = ["hydra", "omegaconf", "torchvision", "matplotlib", "tqdm", "yaml"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked}))\n"
        "from center_loss import CenterLoss, LeNetPP; print(CenterLoss(10, 2))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "num_classes=10, feature_dim=2, alpha=0.5" in done.stdout


def test_no_warning_of_todays_pytorch():
    code = (
        "import torch; from center_loss import CenterLoss\n"
        "x = torch.randn(5, 2, requires_grad=True)\n"
        "CenterLoss(10, 2)(x, torch.arange(5)).backward()"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.gpu
def test_no_host_synchronisation_on_a_gpu():
    criterion = CenterLoss(10, 2).cuda()
    x, y = torch.randn(32, 2, device="cuda"), torch.randint(10, (32,), device="cuda")
    criterion(x, y)
    torch.cuda.set_sync_debug_mode("error")
    try:
        criterion(x, y)
    finally:
        torch.cuda.set_sync_debug_mode("default")
