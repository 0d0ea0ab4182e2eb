"""Solvers and schedules, against their formulas in plain numbers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loop import optimizers

from benchmarks import compose_train
from center_loss import LeNetPP, optim
from center_loss.optim import CaffeSGD, ConvMuon, orthogonalised
from center_loss.schedules import linear, ramp


@pytest.mark.parametrize("name", ["paper", "fast"])
def test_every_parameter_is_stepped_once(name):
    model = LeNetPP().to(memory_format=torch.channels_last)
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    solvers = optimizers(model, compose_train(f"recipe={name}")["optimizer"])
    features, logits = model(torch.randn(16, 1, 28, 28))
    (logits.logsumexp(1).mean() + features.sum()).backward()
    for optimizer in solvers:
        optimizer.step()
    unmoved = [key for key, p in model.named_parameters() if torch.equal(p, before[key])]
    assert not unmoved


def test_caffe_sgd_keeps_the_rate_in_the_velocity():
    """v ← μ v + lr (g + wd w), w ← w − v, over a drop of lr; PyTorch's form ends elsewhere."""
    w, v = 1.5, 0.0
    caffe = torch.nn.Parameter(torch.tensor([1.5], dtype=torch.double))
    torchs = torch.nn.Parameter(torch.tensor([1.5], dtype=torch.double))
    optimizers = [
        CaffeSGD([caffe], lr=0.1, momentum=0.9, weight_decay=0.01),
        torch.optim.SGD([torchs], lr=0.1, momentum=0.9, weight_decay=0.01),
    ]
    for step in range(10):
        lr = 0.1 if step < 5 else 0.08
        v = 0.9 * v + lr * (3 * w + 0.01 * w)  # of the loss 1.5 w²
        w -= v
        for p, optimizer in zip([caffe, torchs], optimizers, strict=True):
            optimizer.param_groups[0]["lr"] = lr
            p.grad = 3 * p.detach()
            optimizer.step()
        assert caffe.item() == pytest.approx(w, rel=1e-12)
        same = torchs.item() == pytest.approx(w, rel=1e-12)
        assert same == (step < 5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(16, 8, 3, 3), (32, 1, 5, 5)])  # a wide matrix, a tall one
def test_muon_in_bfloat16_is_torchs_to_the_bit(shape, layout):
    torch.manual_seed(0)

    def as_matrix(tensor):  # in the order of the memory: it decides the rounding
        if not tensor.is_contiguous():
            tensor = tensor.permute(0, 2, 3, 1)
        return tensor.reshape(len(tensor), -1)

    weight = torch.nn.Parameter(torch.randn(shape).to(memory_format=layout))
    matrix = torch.nn.Parameter(as_matrix(weight.detach()).clone())
    options = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.01}
    ours = ConvMuon([weight], **options, dtype=torch.bfloat16)
    theirs = torch.optim.Muon([matrix], **options)
    for _ in range(3):
        weight.grad = torch.randn(shape).to(memory_format=layout)
        matrix.grad = as_matrix(weight.grad)
        ours.step()
        theirs.step()
    assert torch.equal(as_matrix(weight.detach()), matrix.detach())


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 10**6))
def test_orthogonalised_has_singular_values_about_one(rows, columns, seed):
    """UᵀOV is diagonal, of 0.68 to 1.21 where the values weren't tiny to begin with."""
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    turned = u.T @ orthogonalised(matrix) @ v.T
    assert turned.diagonal().max() < 1.21
    assert turned.diagonal()[values > 0.02 * values.norm()].min() > 0.68
    assert (turned - turned.diagonal().diag()).abs().max() < 1e-3


def test_bfloat16_changes_little_of_it():
    torch.manual_seed(0)
    matrix = torch.randn(64, 800)
    exact, rounded = orthogonalised(matrix), orthogonalised(matrix, torch.bfloat16)
    assert (exact.dtype, rounded.dtype) == (torch.float32, torch.bfloat16)
    error = (exact - rounded).norm() / exact.norm()
    assert 1e-4 < error < 0.02


def test_a_recipe_orthogonalises_in_what_it_is_told(monkeypatch):
    """And the rest, momentum and weights, stays in float32."""
    seen = []
    monkeypatch.setattr(
        optim, "orthogonalised", lambda m, dtype: seen.append(dtype) or torch.zeros_like(m)
    )
    for dtype in (torch.float32, torch.bfloat16):
        model = LeNetPP().to(memory_format=torch.channels_last)
        muon, _ = optimizers(model, compose_train("recipe=fast")["optimizer"], dtype=dtype)
        model(torch.randn(2, 1, 28, 28))[1].logsumexp(1).mean().backward()
        muon.step()
        assert seen == [dtype] * 6
        seen.clear()
        buffers = [state["momentum_buffer"] for state in muon.state.values()]
        assert {buffer.dtype for buffer in buffers} == {torch.float32}


def test_linear_schedule_rises_then_falls_to_zero():
    factor = linear(warmup=0.2)
    assert factor(0, 0, 100) == pytest.approx(0.05)
    assert factor(19, 0, 100) == 1
    assert factor(60, 0, 100) == pytest.approx(0.5)
    assert factor(99, 0, 100) == pytest.approx(1 / 80)


def test_ramp():
    assert [ramp(s, 100, 0.5) for s in (0, 25, 50, 99)] == [0, 0.5, 1, 1]
    assert ramp(0, 100, 0) == 1


def test_ramp_by_equal_factors():
    """10⁻⁴, then ten times as much each eighth of the way to half of the steps."""
    factors = [ramp(s, 80, 0.5, 1e-4) for s in (0, 10, 20, 30, 40, 79)]
    assert factors == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1, 1])
    assert ramp(0, 80, 0, 1e-4) == 1
