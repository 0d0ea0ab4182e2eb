"""LeNet++ against the paper's Table 1 and the authors' MNIST example."""

import math

import pytest
import torch
from torch import nn

from center_loss import LeNetPP


def test_parameters():
    assert sum(p.numel() for p in LeNetPP().parameters()) == 797_624
    assert sum(p.numel() for p in LeNetPP(feature_dim=128).parameters()) == 797_624 + 126 * (
        1152 + 1 + 1 + 10
    )


def test_shapes_layer_by_layer():
    model, shapes = LeNetPP(), []
    for layer in model.features:
        layer.register_forward_hook(
            lambda layer, _, out: shapes.append((type(layer).__name__, *out.shape[1:]))
        )
    features, logits = model(torch.randn(5, 1, 28, 28))
    block = [("Conv2d", "PReLU")] * 2
    expected = []
    for channels, size, pooled in [(32, 28, 14), (64, 14, 7), (128, 7, 3)]:
        expected += [(name, channels, size, size) for pair in block for name in pair]
        expected += [("MaxPool2d", channels, pooled, pooled)]
    assert shapes == [*expected, ("Flatten", 1152)]
    assert features.shape == (5, 2)
    assert logits.shape == (5, 10)


def test_layers_that_shape_the_picture():
    model = LeNetPP()
    assert model.classifier.bias is None  # the centers lie on a circle
    slopes = [m.weight for m in model.modules() if isinstance(m, nn.PReLU)]
    assert [len(s) for s in slopes] == [32, 32, 64, 64, 128, 128, 2]  # one a channel
    assert all((s == 0.25).all() for s in slopes)
    features, _ = model(torch.randn(200, 1, 28, 28))
    assert (features < 0).any()  # not only the first quadrant


def test_initial_distribution():
    torch.manual_seed(0)
    for name, module in LeNetPP().named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = math.sqrt(3 / module.weight[0].numel())
            weight = module.weight.detach()
            assert weight.abs().max() <= bound, name
            if weight.numel() > 500:
                assert weight.abs().max() > 0.95 * bound, name
                assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.1), name
            assert module.bias is None or not module.bias.any(), name


def test_features_are_float32_under_autocast():
    """bfloat16 features would lie on a lattice."""
    model = LeNetPP()
    with torch.autocast("cpu", torch.bfloat16):
        features, logits = model(torch.randn(300, 1, 28, 28))
    assert features.dtype == logits.dtype == torch.float32
    assert (features != features.bfloat16().float()).float().mean() > 0.9
    assert LeNetPP().double()(torch.randn(2, 1, 28, 28).double())[0].dtype == torch.float64
