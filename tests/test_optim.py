"""Solvers and schedules, against their formulas in plain numbers."""

import pytest
import torch

from benchmarks import compose_train
from center_loss import LeNetPP
from center_loss.optim import CaffeSGD, ConvMuon, build_optimizers, lr_factor, ramp


@pytest.mark.parametrize("name", ["paper", "fast"])
def test_every_parameter_is_stepped_once(name):
    model = LeNetPP().to(memory_format=torch.channels_last)
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    optimizers = build_optimizers(model, compose_train(f"recipe={name}")["optimizer"])
    features, logits = model(torch.randn(16, 1, 28, 28))
    (logits.logsumexp(1).mean() + features.sum()).backward()
    for optimizer in optimizers:
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
def test_muon_on_a_convolution_is_muon_on_its_matrix(layout):
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(8, 16, 3).to(memory_format=layout)
    matrix = torch.nn.Parameter(conv.weight.detach().contiguous().reshape(16, -1).clone())
    ours = ConvMuon([conv.weight], lr=0.02, momentum=0.95, weight_decay=0.01)
    theirs = torch.optim.Muon([matrix], lr=0.02, momentum=0.95, weight_decay=0.01)
    for _ in range(3):
        gradient = torch.randn(16, 8, 3, 3)
        conv.weight.grad = gradient.to(memory_format=layout)
        matrix.grad = gradient.reshape(16, -1)
        ours.step()
        theirs.step()
    # Muon orthogonalises in bfloat16, and the order of the columns changes its rounding
    torch.testing.assert_close(
        conv.weight.detach().reshape(16, -1), matrix.detach(), rtol=0, atol=2e-3
    )


def test_linear_schedule_rises_then_falls_to_zero():
    factor = lr_factor({"name": "linear", "warmup": 0.2}, 100, epoch=lambda step: 0)
    assert factor(0) == pytest.approx(0.05)
    assert factor(19) == 1
    assert factor(60) == pytest.approx(0.5)
    assert factor(99) == pytest.approx(1 / 80)


def test_ramp():
    assert [ramp(s, 100, 0.5) for s in (0, 25, 50, 99)] == [0, 0.5, 1, 1]
    assert ramp(0, 100, 0) == 1
