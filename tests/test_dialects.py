"""Each dialect against its equations in plain loops, and as a module among others.

The reference works on Python's floats and shares no line with the implementation.
"""

import copy
import math
import os

import pytest
import torch
import torch.multiprocessing as mp
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from center_loss import CenterLoss
from center_loss.dialects import (
    DIALECTS,
    CaffeFaceCenterLoss,
    IJCVCenterLoss,
    MXNetCenterLoss,
    PyTorchCenterLoss,
    build,
)


def reference(dialect, features, labels, centers, velocity, rate, momentum):
    """One training step: loss, its gradient on the features, new centers and new velocity.

    ``rate`` is α, or for caffe_face and ijcv the solver's learning rate; ``momentum`` is for
    caffe_face alone.
    """
    batch, dim, classes = len(features), len(features[0]), len(centers)
    loss, gradient = 0.0, []
    if dialect == "pytorch_center_loss":
        inside = []  # whether a sample's distance is within the clamp
        for x, y in zip(features, labels, strict=True):
            for j in range(classes):
                entry = sum((x[d] - centers[j][d]) ** 2 for d in range(dim)) if j == y else 0.0
                loss += min(max(entry, 1e-12), 1e12) / batch
                if j == y:
                    inside.append(1e-12 <= entry <= 1e12)
            gradient.append([2 * (x[d] - centers[y][d]) / batch * inside[-1] for d in range(dim)])
    else:
        divisor = batch**2 if dialect == "mxnet_center_loss" else batch
        for x, y in zip(features, labels, strict=True):
            loss += sum((x[d] - centers[y][d]) ** 2 for d in range(dim)) / 2 / divisor
            gradient.append([(x[d] - centers[y][d]) / divisor for d in range(dim)])

    new_centers = [list(c) for c in centers]
    new_velocity = [list(v) for v in velocity]
    for j in range(classes):
        members = [i for i in range(batch) if labels[i] == j]
        for d in range(dim):
            if dialect == "pytorch_center_loss":
                step = rate * sum(
                    2 * (centers[j][d] - features[i][d]) / batch for i in members if inside[i]
                )
            else:
                more = 1e-5 if dialect == "ijcv" else 1
                delta = sum(centers[j][d] - features[i][d] for i in members) / (more + len(members))
                step = rate * delta
            if dialect == "caffe_face":
                step = new_velocity[j][d] = momentum * velocity[j][d] + step
            new_centers[j][d] = centers[j][d] - step
    return loss, gradient, new_centers, new_velocity


@st.composite
def problems(draw):
    batch, dim = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    classes = draw(st.integers(1, 8))
    labels = st.lists(st.integers(0, classes - 1), min_size=batch, max_size=batch)
    orders = draw(st.lists(labels, min_size=1, max_size=3))  # the batches' labels, in turns
    scale = draw(st.sampled_from([1e-6, 1e-3, 1.0, 1e3, 1e6]))
    rates = draw(st.lists(st.floats(0, 1), min_size=1, max_size=3))  # as a schedule has them
    momentum = draw(st.floats(0, 0.95))
    return batch, dim, classes, orders, scale, rates, momentum, draw(st.integers(0, 2**31))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("dialect", DIALECTS)
@given(problem=problems(), steps=st.sampled_from([1, 1, 1, 200]))
@settings(max_examples=40)
def test_equals_its_equations(dialect, dtype, tolerance, problem, steps):
    batch, dim, classes, orders, scale, rates, momentum, seed = problem
    # one smaller step is within the tolerance, but 200 vanish in a float32 center's last place
    if dtype == torch.float32 and steps > 1:
        assume(all(rate == 0 or rate >= 1e-4 for rate in rates))
    torch.manual_seed(seed)
    own = {"momentum": momentum} if dialect == "caffe_face" else {}
    criterion = DIALECTS[dialect](classes, dim, **own).to(dtype)
    criterion.centers.copy_(scale * torch.randn(classes, dim))
    centers = criterion.centers.tolist()
    velocity = [[0.0] * dim for _ in range(classes)]
    for step in range(steps):
        labels, rate = orders[step % len(orders)], rates[step % len(rates)]
        setattr(criterion, "lr" if dialect in ("caffe_face", "ijcv") else "alpha", rate)
        x = (scale * torch.randn(batch, dim)).to(dtype).requires_grad_()
        size = max(x.norm(dim=1).max().item(), criterion.centers.norm(dim=1).max().item())
        loss = criterion(x, torch.tensor(labels))
        loss.backward()
        expected, gradient, centers, velocity = reference(
            dialect, x.tolist(), labels, centers, velocity, rate, momentum
        )
        assert abs(loss.item() - expected) <= tolerance * max(size**2, expected)
        difference = x.grad - torch.tensor(gradient, dtype=torch.float64)
        assert difference.abs().max() <= tolerance * size
        size = max(size, criterion.centers.norm(dim=1).max().item())
        difference = criterion.centers - torch.tensor(centers, dtype=torch.float64)
        assert difference.abs().max() <= tolerance * size


# ---- weights, labels that mean none, reductions


def both(dialect, problem, **options):
    """Two alike in float64, with the same random centers; the features and labels of a batch."""
    batch, dim, classes, orders, _, _, _, seed = problem
    torch.manual_seed(seed)
    pair = [DIALECTS[dialect](classes, dim).double() for _ in range(2)]
    pair[0] = DIALECTS[dialect](classes, dim, **options).double()
    pair[1].centers.normal_()
    pair[0].load_state_dict(pair[1].state_dict())
    return *pair, torch.randn(batch, dim, dtype=torch.float64), torch.tensor(orders[0])


def pulled(criterion, x, *rest):
    x = x.clone().requires_grad_()
    loss = criterion(x, *rest)
    loss.sum().backward()
    return loss.detach(), x.grad


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dialect", DIALECTS)
@given(problem=problems(), data=st.data())
@settings(max_examples=40)
def test_a_sample_of_weight_n_counts_as_n_samples(dialect, problem, data):
    """Of weight 0 as none: of a batch with some of its rows several times, or left out."""
    weighted, wanted, x, y = both(dialect, problem)
    counts = st.lists(st.integers(0, 3), min_size=len(y), max_size=len(y)).filter(any)
    n = torch.tensor(data.draw(counts))
    loss, gradient = pulled(weighted, x, y, n)
    index = torch.arange(len(y)).repeat_interleave(n)
    expected, rows = pulled(wanted, x[index], y[index])
    close(loss, expected)
    close(gradient, torch.zeros_like(x).index_add_(0, index, rows))
    close(weighted.state_dict(), wanted.state_dict())


@pytest.mark.parametrize("none", [-100, 0, 255])
@pytest.mark.parametrize("dialect", DIALECTS)
@given(problem=problems(), data=st.data())
@settings(max_examples=20)
def test_ignored_samples_are_left_out(dialect, none, problem, data):
    """Whatever lies in their features. The label that means none may be a class's, too."""
    ignoring, wanted, x, y = both(dialect, problem, ignore_index=none)
    if none == 0:
        ignored = y == 0
    else:
        ignored = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(y), max_size=len(y))))
    assume(not ignored.all())
    x[ignored] = float("nan")
    weight = torch.rand(len(y), dtype=torch.float64) + 0.1
    for extra in ((), (weight,)):
        loss, gradient = pulled(ignoring, x, y.masked_fill(ignored, none), *extra)
        expected, rows = pulled(wanted, x[~ignored], y[~ignored], *(w[~ignored] for w in extra))
        close(loss, expected)
        close(gradient, torch.zeros_like(x).masked_scatter(~ignored[:, None], rows))
        close(ignoring.state_dict(), wanted.state_dict())
    ignoring.update_centers(x, y.masked_fill(ignored, none))
    wanted.update_centers(x[~ignored], y[~ignored])
    close(ignoring.state_dict(), wanted.state_dict())


@pytest.mark.parametrize("dialect", DIALECTS)
@given(problem=problems(), weighted=st.booleans())
@settings(max_examples=20)
def test_reductions(dialect, problem, weighted):
    """The mean is the sum over B, or over the weights; the centers take the same step."""
    losses, gradients, states = [], [], []
    for reduction in ("mean", "sum", "none"):
        criterion, _, x, y = both(dialect, problem, reduction=reduction)
        weight = torch.linspace(0.5, 2, len(y), dtype=torch.float64)
        loss, gradient = pulled(criterion, x, y, *([weight] if weighted else []))
        losses.append(loss)
        gradients.append(gradient)
        states.append(criterion.state_dict())
    total = weight.sum() if weighted else len(y)
    assert losses[2].shape == (len(y),) and losses[0].shape == losses[1].shape == ()
    close(losses[2].sum(), losses[1])
    close(losses[0] * total, losses[1])
    close(gradients[0] * total, gradients[1])
    close(gradients[1], gradients[2])
    close(states[0], states[1])
    close(states[0], states[2])


@pytest.mark.parametrize("kind", DIALECTS.values())
def test_each_sample_has_the_loss_that_it_has_alone(kind):
    criterion = kind(4, 3, reduction="none", ignore_index=-1).double()
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 3, -1, 3, 1, 0])
    before = copy.deepcopy(criterion.eval())
    losses = criterion(x, y)
    assert losses[2] == 0
    for i in (0, 1, 3, 4, 5):
        alone = before(x[i : i + 1], y[i : i + 1])
        close(losses[i], alone[0] / 5 if kind is MXNetCenterLoss else alone[0])


@pytest.mark.parametrize("kind", DIALECTS.values())
def test_a_batch_without_a_sample_that_counts(kind):
    """Its loss and its gradient are 0, not NaN, which would end a training for good."""
    for arguments in ((torch.full((5,), -100),), (torch.arange(5) % 4, torch.zeros(5))):
        for reduction in ("mean", "sum"):
            criterion = kind(4, 3, ignore_index=-100, reduction=reduction)
            before = criterion.centers.clone()
            loss, gradient = pulled(criterion, torch.randn(5, 3), *arguments)
            assert loss == 0 and not gradient.any()
            assert torch.equal(criterion.centers, before)


# ---- what sets them apart, by hand


def test_only_pytorch_center_loss_has_no_half():
    x, y = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([0, 1])
    values = {}
    for name, kind in DIALECTS.items():
        criterion = kind(2, 2)
        criterion.centers.zero_()
        values[name] = criterion(x, y).item()
    half = (25 + 4) / 2 / 2
    expected = {name: half for name in DIALECTS}
    expected |= {"mxnet_center_loss": half / 2, "pytorch_center_loss": 2 * half}
    assert values == pytest.approx(expected)


def test_an_absent_class_stays_but_coasts_in_caffe_face():
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    for name, kind in DIALECTS.items():
        criterion = kind(2, 2)
        criterion.centers.zero_()
        criterion(x, y)
        before = criterion.centers[0].clone()
        criterion(x, y + 1)  # class 0 is absent
        assert before.any()
        assert torch.equal(criterion.centers[0], before) == (name != "caffe_face")
    # v = 0.01 · (0 − 1)/2, then 0.9 v: the center goes on by 0.9 of its last step
    criterion = CaffeFaceCenterLoss(2, 2)
    criterion.centers.zero_()
    criterion(x, y)
    assert criterion.centers[0, 0].item() == pytest.approx(0.005)
    criterion(x, y + 1)
    assert criterion.centers[0, 0].item() == pytest.approx(0.0095)


def test_caffe_face_tends_to_a_rate_of_lr_over_one_minus_momentum():
    """Of a Δc that stays the same, every later step takes 0.01/(1 − 0.9) = 0.1."""
    criterion = CaffeFaceCenterLoss(1, 1, lr=0.01, momentum=0.9)
    y = torch.tensor([0])
    for _ in range(300):
        before = criterion.centers.clone()
        criterion(before + 2, y)  # Δc = −2/2 = −1, wherever the center is
    assert (criterion.centers - before).item() == pytest.approx(0.1, rel=1e-3)


def test_pytorch_center_loss_moves_a_class_by_its_share_of_the_batch():
    """Nine of ten samples: α · 2 · 9/10 of the way; one of ten: α · 2/10. Eq. 4: α 9/10, α 1/2."""
    x, y = torch.ones(10, 2), torch.tensor([0] * 9 + [1])
    gradient, eq4 = PyTorchCenterLoss(2, 2, alpha=0.5), CenterLoss(2, 2, alpha=0.5)
    gradient.centers.zero_()
    for criterion in (gradient, eq4):
        criterion(x, y)
    torch.testing.assert_close(gradient.centers[:, 0], torch.tensor([0.9, 0.1]))
    torch.testing.assert_close(eq4.centers[:, 0], torch.tensor([0.45, 0.25]))
    fast = PyTorchCenterLoss(1000, 2, alpha=64)  # one sample of 256: 2 · 64/256 = ½ of the way
    fast.centers.zero_()
    fast(torch.ones(256, 2), torch.arange(256))
    torch.testing.assert_close(fast.centers[:256], torch.full((256, 2), 0.5))


def test_pytorch_center_loss_clamps_every_entry_of_the_matrix():
    """A feature on its center: B·C entries of 1e-12. One too far away: no gradient, no step."""
    criterion = PyTorchCenterLoss(10, 2).double()
    criterion.centers.zero_()
    loss = criterion(torch.zeros(4, 2, dtype=torch.double), torch.arange(4))
    assert loss.item() == pytest.approx(10 * 1e-12, rel=1e-9)
    x = torch.tensor([[2e6, 0.0]], dtype=torch.double, requires_grad=True)
    loss = criterion(x, torch.tensor([0]))
    loss.backward()
    assert loss.item() == pytest.approx(1e12)
    assert not x.grad.any() and not criterion.centers.any()


def test_ijcv_goes_the_same_share_of_the_way_however_few_a_class_has():
    """lr · n/(ε + n), so lr, where Eq. 4 goes α/2 for one sample and α for many."""
    x, y = torch.ones(100, 2), torch.tensor([0] * 99 + [1])
    criterion = IJCVCenterLoss(3, 2, lr=0.5)
    criterion.centers.zero_()
    criterion(x, y)
    expected = torch.tensor([0.5, 0.5, 0.0]).unsqueeze(1).expand(3, 2)
    torch.testing.assert_close(criterion.centers, expected, rtol=2e-5, atol=0)


def test_mxnet_center_loss_with_its_lam_is_the_papers():
    """λ = 1 and batches of 100 act as λ = 0.01; the centers move as the paper's."""
    torch.manual_seed(0)
    x, y = torch.randn(100, 2), torch.randint(10, (100,))
    mxnet, paper = MXNetCenterLoss(10, 2, alpha=0.5), CenterLoss(10, 2, alpha=0.5)
    torch.testing.assert_close(1.0 * mxnet(x, y), 0.01 * paper(x, y))
    assert torch.equal(mxnet.centers, paper.centers)


def test_where_the_centers_start():
    torch.manual_seed(0)
    assert not DIALECTS["paper"](1000, 50).centers.any()
    assert not DIALECTS["mxnet_center_loss"](1000, 50).centers.any()
    bound = math.sqrt(3 / 50)
    for name in ("caffe_face", "ijcv"):
        xavier = DIALECTS[name](1000, 50).centers
        assert 0.999 * bound < xavier.abs().max() <= bound
        assert xavier.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    normal = DIALECTS["pytorch_center_loss"](1000, 50).centers
    assert normal.std().item() == pytest.approx(1, rel=0.02)
    assert normal.abs().max() > 3.5


def test_the_step_of_the_centers_does_not_know_lam():
    """Of 0.001 · loss and 1000 · loss, the centers move alike."""
    for kind in DIALECTS.values():
        moved = []
        for lam in (1e-3, 1e3):
            torch.manual_seed(0)
            criterion = kind(4, 3)
            x = torch.randn(8, 3, requires_grad=True)
            (lam * criterion(x, torch.arange(8) % 4)).backward()
            moved.append(criterion.centers)
        assert torch.equal(*moved)


# ---- as modules; see test_loss.py for what is tested of CenterLoss alone


@pytest.mark.parametrize("kind", DIALECTS.values())
def test_eval_moves_nothing_and_has_the_same_loss(kind):
    criterion = kind(4, 3)
    x, y = torch.randn(8, 3), torch.randint(4, (8,))
    criterion(x, y)
    before = copy.deepcopy(criterion.state_dict())
    loss = criterion.eval()(x, y)
    assert all(torch.equal(value, before[key]) for key, value in criterion.state_dict().items())
    assert criterion.train()(x, y) == loss


@pytest.mark.parametrize("kind", DIALECTS.values())
def test_gradcheck(kind):
    torch.manual_seed(0)
    criterion = kind(4, 3).double().eval()
    criterion.centers.copy_(torch.randn(4, 3))
    x = torch.randn(6, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: criterion(x, torch.tensor([0, 1, 1, 3, 3, 3])), x)


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", DIALECTS.values())
def test_low_precision_features_are_computed_in_float32(kind, low):
    x, y = (100 * torch.randn(64, 2)).to(low), torch.randint(10, (64,))
    criterion = kind(10, 2)
    wanted = copy.deepcopy(criterion)
    expected = wanted(x.float(), y)
    with torch.autocast("cpu", torch.bfloat16):
        loss = criterion(x, y)
    assert loss.dtype == criterion.centers.dtype == torch.float32
    assert loss == expected
    assert torch.equal(criterion.centers, wanted.centers)


@pytest.mark.parametrize("kind", DIALECTS.values())
def test_state_dict_and_deepcopy_carry_all_that_moves(kind):
    criterion = kind(10, 2)
    x, y = torch.randn(64, 2), torch.randint(10, (64,))
    criterion(x, y)
    loaded, twin = kind(10, 2), copy.deepcopy(criterion)
    loaded.load_state_dict(criterion.state_dict())
    for _ in range(2):  # with the same past they have the same future
        criterion(x, y)
    assert not torch.equal(criterion.centers, twin.centers)
    for other in (loaded, twin):
        for _ in range(2):
            other(x, y)
        assert torch.equal(other.centers, criterion.centers)


@pytest.mark.parametrize("kind", DIALECTS.values())
def test_to_moves_all_of_it(kind):
    criterion = kind(10, 2).to(torch.float64).to("meta")
    assert list(criterion.buffers()) and not list(criterion.parameters())
    for buffer in criterion.buffers():
        assert buffer.device.type == "meta"
        assert buffer.dtype == torch.float64


@pytest.mark.parametrize("kind", DIALECTS.values())
def test_from_the_meta_device(kind):
    """``to_empty`` leaves what was in memory; ``reset_parameters`` is what ``__init__`` does."""
    torch.manual_seed(0)
    wanted = kind(10, 2)
    with torch.device("meta"):
        criterion = kind(10, 2)
    assert all(buffer.is_meta for buffer in criterion.buffers())
    criterion.to_empty(device="cpu")
    for buffer in criterion.buffers():
        buffer.fill_(float("nan"))
    torch.manual_seed(0)
    criterion.reset_parameters()
    torch.testing.assert_close(criterion.state_dict(), wanted.state_dict(), rtol=0, atol=0)
    criterion(torch.randn(8, 2), torch.arange(8))
    criterion.reset_parameters()
    assert all(not b.any() for name, b in criterion.named_buffers() if name == "velocity")


@pytest.mark.parametrize("kind", DIALECTS.values())
def test_update_centers_is_the_step_of_a_forward(kind):
    torch.manual_seed(0)
    forward, manual = kind(4, 3), kind(4, 3, update="manual")
    manual.load_state_dict(forward.state_dict())
    for _ in range(3):
        x, y = torch.randn(8, 3), torch.randint(4, (8,))
        assert forward(x, y) == manual(x, y)
        manual.eval().update_centers(x, y)
        manual.train().update_centers(x[:0], y[:0])
        torch.testing.assert_close(manual.state_dict(), forward.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("kind", DIALECTS.values())
def test_compiles_in_one_graph(kind):
    torch.compiler.reset()
    eager = kind(10, 2)
    criterion = copy.deepcopy(eager)
    compiled = torch.compile(criterion, backend="aot_eager", fullgraph=True)
    for _ in range(3):
        x, y = torch.randn(32, 2), torch.randint(10, (32,))
        torch.testing.assert_close(compiled(x, y), eager(x, y))
    torch.testing.assert_close(criterion.centers, eager.centers)


@pytest.mark.parametrize(
    "kind, arguments, name",
    [
        (CaffeFaceCenterLoss, {"lr": -0.1}, "lr must be a number ≥ 0 and ≤ 1"),
        (CaffeFaceCenterLoss, {"lr": 1.1}, "lr must be a number ≥ 0 and ≤ 1"),
        (CaffeFaceCenterLoss, {"momentum": 1}, "momentum must be a number ≥ 0 and < 1"),
        (CaffeFaceCenterLoss, {"momentum": float("nan")}, "momentum must be a number ≥ 0 and < 1"),
        (IJCVCenterLoss, {"lr": 1.1}, "lr must be a number ≥ 0 and ≤ 1"),
        (PyTorchCenterLoss, {"alpha": -1}, "alpha must be a number ≥ 0"),
        (PyTorchCenterLoss, {"alpha": float("inf")}, "alpha must be a number ≥ 0"),
        (MXNetCenterLoss, {"alpha": -1}, "alpha must be a number ≥ 0 and ≤ 1"),
        (CaffeFaceCenterLoss, {"lr": "x"}, "lr must be a number ≥ 0 and ≤ 1, got 'x'"),
        (CaffeFaceCenterLoss, {"momentum": None}, "momentum must be a number"),
        (PyTorchCenterLoss, {"alpha": "1"}, "alpha must be a number ≥ 0, got '1'"),
        (PyTorchCenterLoss, {"alpha": True}, "alpha must be a number"),
        *((kind, {"update": "x"}, "update must be one of") for kind in DIALECTS.values()),
        *((kind, {"reduction": "x"}, "reduction must be one of") for kind in DIALECTS.values()),
    ],
)
def test_wrong_arguments(kind, arguments, name):
    with pytest.raises((TypeError, ValueError), match=name):
        kind(10, 2, **arguments)


def test_build():
    assert isinstance(build("caffe_face", num_classes=10, feature_dim=2), CaffeFaceCenterLoss)
    with pytest.raises(ValueError, match=r"one of paper, caffe_face, .*, got 'caffe'"):
        build("caffe", num_classes=10, feature_dim=2)
    for name in (None, ["paper"], 1):
        with pytest.raises(ValueError, match="name must be one of paper"):
            build(name, num_classes=10, feature_dim=2)


STEPS = 50


def batches():
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        yield (
            torch.randn(16, 3, generator=generator, dtype=torch.float64),
            torch.randint(6, (16,), generator=generator),
        )


def start(kind):
    torch.manual_seed(0)
    return kind(6, 3).double()


def train_a_rank(rank: int, folder: str) -> None:
    os.environ.update({"GLOO_SOCKET_IFNAME": "lo"})
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    results = {}
    for name, kind in DIALECTS.items():
        criterion = start(kind)
        losses = [criterion(x[rank::2], y[rank::2]) for x, y in batches()]
        results[name] = criterion.centers, torch.stack(losses)
    torch.save(results, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_equal_one(tmp_path):
    mp.spawn(train_a_rank, (str(tmp_path),), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name, kind in DIALECTS.items():
        criterion = start(kind)
        whole = torch.stack([criterion(x, y) for x, y in batches()])
        for rank in ranks:
            torch.testing.assert_close(rank[name][0], criterion.centers, rtol=0, atol=1e-12)
        mean = (ranks[0][name][1] + ranks[1][name][1]) / 2
        torch.testing.assert_close(mean, whole, rtol=0, atol=1e-12)
