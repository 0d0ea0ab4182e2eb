"""CenterLoss by hand, its arguments, its use. Its equations are tested in test_dialects.py."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from torch import nn
from torch.utils.checkpoint import checkpoint

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
        ([[1.0, 2.0]], torch.zeros(1).long(), ["features", "a tensor", "list"]),
        (None, torch.zeros(1).long(), ["features", "a tensor", "NoneType"]),
        (torch.randn(4, 2).numpy(), torch.zeros(4).long(), ["features", "a tensor", "ndarray"]),
        (torch.randn(1, 2), [0], ["labels", "a tensor", "list"]),
        (torch.randn(1, 2), 0, ["labels", "a tensor", "int"]),
        (torch.randn(4, 2).to("meta"), torch.zeros(4).long(), ["features", "device", "meta"]),
        (torch.randn(4, 2), torch.zeros(4).long().to("meta"), ["labels", "device", "meta"]),
    ],
)
def test_wrong_input(features, labels, names):
    criterion = CenterLoss(10, 2)
    calls = [criterion, criterion.update_centers]
    for call in calls[:1] if names == ["empty"] else calls:
        with pytest.raises((TypeError, ValueError)) as caught:
            call(features, labels)
        assert all(name in str(caught.value) for name in names)
        assert "\n" not in str(caught.value)
    assert not criterion.centers.any()


@pytest.mark.parametrize(
    "weight, names",
    [
        ([1.0] * 4, ["a tensor", "list"]),
        (torch.ones(3), ["(4,)", "(3,)"]),
        (torch.ones(4, 1), ["(4,)", "(4, 1)"]),
        (torch.tensor([1, 1, 1, -0.5]), ["at least 0", "-0.5 to 1"]),
        (torch.tensor([1, 1, 1, float("nan")]), ["finite"]),
        (torch.tensor([1, 1, 1, float("inf")]), ["finite"]),
        (torch.ones(4, dtype=torch.complex64), ["real", "complex64"]),
    ],
)
def test_wrong_weights(weight, names):
    criterion = CenterLoss(10, 2)
    for call in (criterion, criterion.update_centers):
        with pytest.raises((TypeError, ValueError), match="sample_weight") as caught:
            call(torch.randn(4, 2), torch.arange(4), weight)
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
        (("4", 2, 0.5), "num_classes must be an integer ≥ 1, got '4'"),
        ((4.0, 2, 0.5), "num_classes must be an integer, got 4.0"),
        ((True, 2, 0.5), "num_classes must be an integer ≥ 1, got True"),
        ((None, 2, 0.5), "num_classes"),
        (([4], 2, 0.5), "num_classes"),
        ((10, 2.5, 0.5), "feature_dim must be an integer ≥ 1, got 2.5"),
        ((10, "2", 0.5), "feature_dim"),
        ((10, True, 0.5), "feature_dim"),
        ((10, 2, "x"), "alpha must be a number ≥ 0 and ≤ 1, got 'x'"),
        ((10, 2, "0.5"), "alpha"),
        ((10, 2, True), "alpha"),
        ((10, 2, None), "alpha"),
        ((10, 2, 1j), "alpha"),
    ],
)
def test_wrong_arguments(arguments, name):
    with pytest.raises((TypeError, ValueError), match=name) as caught:
        CenterLoss(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"update": "never"}, "update must be one of forward, manual, got 'never'"),
        ({"update": None}, "update must be one of"),
        ({"reduction": "batchmean"}, "reduction must be one of mean, sum, none, got 'batchmean'"),
        ({"reduction": ["mean"]}, "reduction must be one of"),
        ({"ignore_index": "pad"}, "ignore_index must be an integer .* got 'pad'"),
        ({"ignore_index": -100.0}, "ignore_index must be an integer, got"),
        ({"ignore_index": False}, "ignore_index must be an integer"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        CenterLoss(10, 2, **options)


def test_numbers_of_numpy_are_numbers():
    criterion = CenterLoss(np.int64(10), np.int32(2), np.float32(0.5), ignore_index=np.int8(-1))
    assert repr(criterion) == repr(CenterLoss(10, 2, 0.5))
    assert [type(value) for value in (criterion.num_classes, criterion.alpha)] == [int, float]


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


# ---- an explicit step


def test_update_centers_is_the_step_of_a_forward_in_any_mode():
    x, y = torch.randn(8, 3), torch.randint(4, (8,))
    wanted = CenterLoss(4, 3)
    wanted(x, y)
    for update in ("forward", "manual"):
        for training in (True, False):
            criterion = CenterLoss(4, 3, update=update).train(training)
            assert criterion.update_centers(x.clone().requires_grad_(), y) is None
            assert torch.equal(criterion.centers, wanted.centers)
            assert not criterion.centers.requires_grad


def test_a_manual_forward_moves_nothing():
    x, y = torch.randn(8, 3, requires_grad=True), torch.randint(4, (8,))
    criterion, twin = CenterLoss(4, 3, update="manual"), CenterLoss(4, 3)
    assert criterion(x, y) == twin(x, y)
    assert criterion.training and not criterion.centers.any() and twin.centers.any()


def test_an_empty_step_moves_nothing():
    criterion = CenterLoss(4, 3)
    criterion(torch.randn(8, 3), torch.randint(4, (8,)))
    before = criterion.centers.clone()
    criterion.update_centers(torch.empty(0, 3), torch.empty(0, dtype=torch.long))
    criterion.update_centers(torch.empty(0, 3), torch.empty(0).long(), torch.empty(0))
    assert torch.equal(criterion.centers, before)


def test_a_step_before_the_backward_leaves_the_gradient():
    criterion, x, y = CenterLoss(4, 3, update="manual"), torch.randn(8, 3), torch.randint(4, (8,))
    criterion.centers.normal_()
    x.requires_grad_()
    wanted = (x - criterion.centers[y]).detach() / 8
    loss = criterion(x, y)
    criterion.update_centers(x, y)
    loss.backward()
    torch.testing.assert_close(x.grad, wanted)


# ---- where the centers are read by others, or a forward is done twice


OWN_TERMS = {
    "cdist": lambda x, c: F.relu(3 - torch.cdist(x, c)).mean(),
    "linear": lambda x, c: F.cross_entropy(F.linear(x, c), torch.arange(8) % 4),
    "cosine": lambda x, c: (F.normalize(x) @ F.normalize(c).T).square().mean(),
    "rows": lambda x, c: (x * c[:1]).square().sum(),
    "broadcast": lambda x, c: (x.unsqueeze(1) - c).square().mean(),
}


@pytest.mark.parametrize("term", OWN_TERMS)
def test_a_term_of_ones_own_before_the_call(term):
    """Its gradient is that of the centers it read, and all keep hold of the same centers."""
    criterion, twin = CenterLoss(4, 3), CenterLoss(4, 3)
    held = criterion.centers
    for _ in range(3):
        x, y = torch.randn(8, 3, requires_grad=True), torch.randint(4, (8,))
        own = OWN_TERMS[term](x, twin.centers.clone())
        (wanted,) = torch.autograd.grad(own + twin(x, y), x)
        own = OWN_TERMS[term](x, criterion.centers)
        (own + criterion(x, y)).backward()
        torch.testing.assert_close(x.grad, wanted)
        assert criterion.centers is held and torch.equal(held, twin.centers)
    assert criterion.state_dict()["centers"].data_ptr() == held.data_ptr()


def test_the_centers_are_moved_in_place_where_nobody_else_needs_them():
    criterion = CenterLoss(4, 3)
    where = criterion.centers.data_ptr()
    for _ in range(3):
        x, y = torch.randn(8, 3, requires_grad=True), torch.randint(4, (8,))
        torch.cdist(x, criterion.centers).mean().backward()
        criterion(x, y).backward()
        assert criterion.centers.data_ptr() == where


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing(reentrant):
    """What is computed anew in the backward would be with other centers: an error, or by hand."""
    x, y = torch.randn(8, 3, requires_grad=True), torch.randint(4, (8,))
    criterion, manual = CenterLoss(4, 3), CenterLoss(4, 3, update="manual")
    loss = checkpoint(criterion, x, y, use_reentrant=reentrant)
    with pytest.raises(RuntimeError, match=r"outside of it, or take update=.manual.*after backwa"):
        loss.backward()
    assert x.grad is None
    checkpoint(manual, x, y, use_reentrant=reentrant).backward()
    torch.testing.assert_close(x.grad, x.detach() / 8)
    manual.update_centers(x, y)
    assert torch.equal(manual.centers, criterion.centers)  # moved once
    x.grad = None
    checkpoint(criterion.eval(), x, y, use_reentrant=reentrant).backward()
    torch.testing.assert_close(x.grad, (x.detach() - criterion.centers[y]) / 8)


def replicas(module: nn.Module, number: int = 2) -> list[nn.Module]:
    """As nn.DataParallel makes them of a module without submodules, with copies of its buffers."""
    made = [module._replicate_for_data_parallel() for _ in range(number)]
    for replica in made[1:]:
        replica.centers = module.centers.clone()
    return made


def test_data_parallel():
    x, y = torch.randn(8, 3), torch.randint(4, (8,))
    criterion = CenterLoss(4, 3)
    for replica in replicas(criterion):
        with pytest.raises(
            RuntimeError, match=r"in nn\.DataParallel .*use DistributedDataParallel"
        ):
            replica(x[:4], y[:4])
        with pytest.raises(RuntimeError, match=r"call this loss outside of nn\.DataParallel"):
            replica.update_centers(x, y)
    assert not criterion.centers.any()
    for harmless in (criterion.eval(), CenterLoss(4, 3, update="manual")):
        parts = [
            each(*part)
            for each, part in zip(
                replicas(harmless), zip(x.split(4), y.split(4), strict=True), strict=True
            )
        ]
        torch.testing.assert_close(sum(parts) / 2, harmless(x, y))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_data_parallel_on_gpus():
    net = nn.DataParallel(CenterLoss(4, 3).cuda())
    with pytest.raises(RuntimeError, match="DistributedDataParallel"):
        net(torch.randn(8, 3).cuda(), torch.randint(4, (8,)).cuda())


# ---- transformers


def test_from_pretrained_by_the_lines_of_the_page(tmp_path):
    transformers = pytest.importorskip("transformers")
    from center_loss.dialects import CaffeFaceCenterLoss

    class Config(transformers.PretrainedConfig):
        model_type = "with-center-loss"

        def __init__(self, loss=None, **rest):
            super().__init__(**rest)
            self.loss = loss

    class Model(transformers.PreTrainedModel):
        config_class = Config

        def __init__(self, config):
            super().__init__(config)
            self.embed = nn.Linear(20, 16)
            if config.loss:
                self.center_loss = {"paper": CenterLoss, "caffe": CaffeFaceCenterLoss}[config.loss](
                    10, 16
                )
            self.post_init()

        def _init_weights(self, module):
            super()._init_weights(module)
            if isinstance(module, CenterLoss):
                module.reset_parameters()

    Model(Config()).save_pretrained(tmp_path / "without")
    trained = Model(Config("paper"))
    trained.center_loss.centers.fill_(7)
    trained.save_pretrained(tmp_path / "trained")
    for _ in range(5):
        new = Model.from_pretrained(tmp_path / "without", config=Config("paper"))
        assert not new.center_loss.centers.any()
        solver = Model.from_pretrained(tmp_path / "without", config=Config("caffe")).center_loss
        assert 0 < solver.centers.abs().max() <= (3 / 16) ** 0.5 and not solver.velocity.any()
        assert (Model.from_pretrained(tmp_path / "trained").center_loss.centers == 7).all()
        # centers that were saved, a velocity that wasn't
        solver = Model.from_pretrained(tmp_path / "trained", config=Config("caffe")).center_loss
        assert (solver.centers == 7).all() and not solver.velocity.any()


def test_an_ignored_sample_is_disturbed_by_no_center():
    """It has no class; a center that was lost to an infinite feature is another one's matter."""
    criterion = CenterLoss(3, 2, ignore_index=-100)
    criterion.centers[0] = torch.inf
    x = torch.ones(2, 2, requires_grad=True)
    loss = criterion(x, torch.tensor([-100, 1]))
    loss.backward()
    assert loss == 1 and x.grad.tolist() == [[0, 0], [1, 1]]
