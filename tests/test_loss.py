"""CenterLoss against Eq. 2 and Eq. 4 in plain loops, and as a module among others."""

import copy
import os
import subprocess
import sys

import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from center_loss import CenterLoss


def reference(features, labels, centers, alpha):
    """Loss (Eq. 2, batch mean), its gradient (Eq. 3) and the new centers (Eq. 4), with loops."""
    batch, dim = len(features), len(features[0])
    loss, gradient = 0.0, []
    for x, y in zip(features, labels, strict=True):
        loss += sum((x[d] - centers[y][d]) ** 2 for d in range(dim)) / 2 / batch
        gradient.append([(x[d] - centers[y][d]) / batch for d in range(dim)])
    moved = [list(c) for c in centers]
    for j, center in enumerate(centers):
        members = [x for x, y in zip(features, labels, strict=True) if y == j]
        for d in range(dim):
            delta = sum(center[d] - x[d] for x in members) / (1 + len(members))
            moved[j][d] = center[d] - alpha * delta
    return loss, gradient, moved


@st.composite
def problems(draw):
    batch, dim = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    classes = draw(st.integers(1, 8))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=batch, max_size=batch))
    scale = draw(st.sampled_from([1e-3, 1.0, 1e3]))
    seed = draw(st.integers(0, 2**31))
    alpha = draw(st.floats(0, 1))
    return batch, dim, classes, labels, scale, seed, alpha


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@given(problem=problems(), steps=st.sampled_from([1, 1, 1, 200]))
@settings(max_examples=60, deadline=None)
def test_equals_the_equations(dtype, tolerance, problem, steps):
    batch, dim, classes, labels, scale, seed, alpha = problem
    torch.manual_seed(seed)
    criterion = CenterLoss(classes, dim, alpha).to(dtype)
    criterion.centers.copy_(scale * torch.randn(classes, dim))
    centers = criterion.centers.tolist()
    for _ in range(steps):
        x = (scale * torch.randn(batch, dim)).to(dtype).requires_grad_()
        loss = criterion(x, torch.tensor(labels))
        loss.backward()
        expected, gradient, centers = reference(x.tolist(), labels, centers, alpha)
        size = max(x.abs().max().item(), criterion.centers.abs().max().item())
        assert loss.item() == pytest.approx(expected, rel=tolerance, abs=tolerance * size**2)
        torch.testing.assert_close(
            x.grad, torch.tensor(gradient, dtype=dtype), rtol=0, atol=tolerance * size
        )
    torch.testing.assert_close(
        criterion.centers, torch.tensor(centers, dtype=dtype), rtol=0, atol=tolerance * size
    )


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


@given(alpha=st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_eval_moves_nothing_and_has_the_same_loss(alpha):
    criterion = CenterLoss(4, 3, alpha)
    x, y = torch.randn(8, 3), torch.randint(4, (8,))
    criterion(x, y)
    before = criterion.centers.clone()
    loss = criterion.eval()(x, y)
    assert torch.equal(criterion.centers, before)
    assert criterion.train()(x, y) == loss


def test_gradcheck():
    criterion = CenterLoss(4, 3).double().eval()
    criterion.centers.copy_(torch.randn(4, 3))
    x = torch.randn(6, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: criterion(x, torch.tensor([0, 1, 1, 3, 3, 3])), x)


@pytest.mark.parametrize("label_type", [torch.uint8, torch.int8, torch.int16, torch.int64])
@pytest.mark.parametrize("classes", [10, 256, 266, 100_000])
def test_any_integer_labels(label_type, classes):
    x, y = torch.randn(5, 2), torch.tensor([0, 9, 9, 3, 1])
    assert CenterLoss(classes, 2)(x, y.to(label_type)) == CenterLoss(classes, 2)(x, y)
    if label_type != torch.uint8:
        with pytest.raises(ValueError, match="labels must be in"):
            CenterLoss(classes, 2)(x, -y.to(label_type))


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_low_precision_features_are_computed_in_float32(low):
    x, y = (100 * torch.randn(64, 2)).to(low), torch.randint(10, (64,))
    wanted, criterion = CenterLoss(10, 2), CenterLoss(10, 2)
    expected = wanted(x.float(), y)
    with torch.autocast("cpu", torch.bfloat16):
        loss = criterion(x, y)
    assert loss.dtype == criterion.centers.dtype == torch.float32
    assert loss == expected
    assert torch.equal(criterion.centers, wanted.centers)


def test_state_dict_and_deepcopy_carry_the_centers():
    criterion = CenterLoss(10, 2)
    criterion(torch.randn(64, 2), torch.randint(10, (64,)))
    loaded = CenterLoss(10, 2)
    loaded.load_state_dict(criterion.state_dict())
    twin = copy.deepcopy(criterion)
    assert criterion.centers.any()
    assert torch.equal(loaded.centers, criterion.centers)
    criterion.centers.zero_()
    assert torch.equal(loaded.centers, twin.centers)


def test_compiles_in_one_graph():
    torch.compiler.reset()
    eager, criterion = CenterLoss(10, 2), CenterLoss(10, 2)
    compiled = torch.compile(criterion, backend="aot_eager", fullgraph=True)
    for _ in range(3):
        x, y = torch.randn(32, 2), torch.randint(10, (32,))
        torch.testing.assert_close(compiled(x, y), eager(x, y))
    torch.testing.assert_close(criterion.centers, eager.centers)


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


def test_importing_it_needs_pytorch_alone():
    blocked = ["hydra", "omegaconf", "torchvision", "matplotlib", "tqdm", "yaml"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked}))\n"
        "from center_loss import CenterLoss, LeNetPP; print(CenterLoss(10, 2))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "num_classes=10, feature_dim=2, alpha=0.5" in done.stdout


STEPS = 50


def _batches(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        yield (
            torch.randn(16, 3, generator=generator, dtype=dtype),
            torch.randint(6, (16,), generator=generator),
        )


def _rank(rank: int, folder: str) -> None:
    os.environ.update({"GLOO_SOCKET_IFNAME": "lo"})
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    criterion = CenterLoss(6, 3).double()
    losses = [criterion(x[rank::2], y[rank::2]) for x, y in _batches()]
    torch.save((criterion.centers, torch.stack(losses)), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_equal_one(tmp_path):
    mp.spawn(_rank, (str(tmp_path),), nprocs=2)
    criterion = CenterLoss(6, 3).double()
    whole = torch.stack([criterion(x, y) for x, y in _batches()])
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for centers, _ in ranks:
        torch.testing.assert_close(centers, criterion.centers, rtol=0, atol=1e-12)
    torch.testing.assert_close((ranks[0][1] + ranks[1][1]) / 2, whole, rtol=0, atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_no_host_synchronisation_on_a_gpu():
    criterion = CenterLoss(10, 2).cuda()
    x, y = torch.randn(32, 2, device="cuda"), torch.randint(10, (32,), device="cuda")
    criterion(x, y)
    torch.cuda.set_sync_debug_mode("error")
    try:
        criterion(x, y)
    finally:
        torch.cuda.set_sync_debug_mode("default")
