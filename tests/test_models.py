"""LeNet++ against the paper's Table 1 and the authors' MNIST example; the ports' networks."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import compose_train
from center_loss import LeNetPP
from center_loss.base import prelu
from center_loss.base.prelu import PReLU
from center_loss.models import LeNet, build


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
        features, logits = model(torch.randn(3, 1, 28, 28))
    assert features.dtype == logits.dtype == torch.float32
    assert (features != features.bfloat16().float()).float().mean() > 0.9
    assert LeNetPP().double()(torch.randn(2, 1, 28, 28).double())[0].dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("slopes", [1, 6])
@pytest.mark.parametrize("shape", [(8, 6, 5, 5), (8, 6, 5), (8, 6)])
def test_prelu_has_pytorchs_own_gradients(dtype, slopes, shape):
    torch.manual_seed(0)
    ours, theirs = PReLU(slopes).to(dtype), nn.PReLU(slopes).to(dtype)
    with torch.no_grad():
        ours.weight.uniform_(-0.5, 1)
        theirs.weight.copy_(ours.weight)
    x, grad = torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype)
    x.flatten()[::7] = 0
    if len(shape) == 4:  # as in training
        x = x.to(memory_format=torch.channels_last)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [layer(each) for layer, each in zip((ours, theirs), inputs, strict=True)]
    for output in outputs:
        output.backward(grad)
    assert type(outputs[0].grad_fn).__name__ == "_PReLUBackward"
    torch.testing.assert_close(*outputs, rtol=0, atol=0)
    torch.testing.assert_close(*(each.grad for each in inputs))
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_prelu_elsewhere_is_pytorchs_own_too():
    """Under autocast on a float32 input, for gradients of gradients, and in torch.func."""
    layer, x = PReLU(6), torch.randn(8, 6, 5, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = layer(x), F.prelu(x, layer.weight)
        assert ours.dtype == theirs.dtype == torch.bfloat16
    wanted = (x, layer.weight)
    gradients = [torch.autograd.grad(y, wanted, torch.ones_like(y)) for y in (ours, theirs)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
    double = torch.randn(3, 2, 4, dtype=torch.double, requires_grad=True)
    slope = torch.tensor([0.25, -0.5], dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(prelu._PReLU.apply, (double, slope))

    def loss(weight, each):
        return torch.func.functional_call(layer, {"weight": weight}, each[None]).square().sum()

    per_sample = torch.func.vmap(torch.func.grad(loss), (None, 0))(layer.weight, x)
    expected = [torch.autograd.grad(loss(layer.weight, each), layer.weight)[0] for each in x]
    torch.testing.assert_close(per_sample, torch.stack(expected))


def of_recipe(name: str) -> nn.Module:
    return build(num_classes=10, **compose_train(f"recipe={name}")["model"])


def test_lenetpp_of_pytorch_center_loss():
    """One slope a layer, a bias in the last layer, 2×2 pools, PyTorch's initial weights."""
    model = of_recipe("pytorch_center_loss")
    assert sum(p.numel() for p in model.parameters()) == 797_624 - 450 + 7 + 10
    slopes = [m.weight for m in model.modules() if isinstance(m, nn.PReLU)]
    assert [s.tolist() for s in slopes] == [[0.25]] * 7
    assert model.classifier.bias.shape == (10,)
    assert [m.kernel_size for m in model.features if isinstance(m, nn.MaxPool2d)] == [2, 2, 2]
    torch.manual_seed(0)
    model = of_recipe("pytorch_center_loss")
    # as one writes the layers down in PyTorch, with nothing else drawn in between
    torch.manual_seed(0)
    channels = [1, 32, 32, 64, 64, 128, 128]
    plain = [nn.Conv2d(a, b, 5) for a, b in itertools.pairwise(channels)]
    plain += [nn.Linear(128 * 3 * 3, 2), nn.Linear(2, 10)]
    ours = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for a, b in zip(ours, plain, strict=True):
        assert torch.equal(a.weight, b.weight)
        assert torch.equal(a.bias, b.bias)


def test_wrong_arguments():
    for wrong in ({"slopes": "chanel"}, {"init": "xavier"}, {"last_pool": 4}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
            LeNetPP(**wrong)
    with pytest.raises(ValueError, match="one of lenetpp, lenet, got 'resnet'"):
        build("resnet")


def test_both_last_pools_leave_3x3():
    """7 → 3 with a kernel of 2 looks at 6 of the 7 rows, with a kernel of 3 at all of them."""
    image = torch.zeros(1, 1, 7, 7)
    image[..., -1, -1] = 1
    pools = [LeNetPP(last_pool=k).features[-2](image) for k in (2, 3)]
    assert [p.shape[-2:] for p in pools] == [(3, 3), (3, 3)]
    assert [p.sum().item() for p in pools] == [0, 1]


def test_lenet_of_mxnet_center_loss():
    torch.manual_seed(0)
    model = of_recipe("mxnet_center_loss")
    assert isinstance(model, LeNet)
    counts = {name: p.numel() for name, p in model.named_parameters()}
    assert list(counts.values()) == [500, 20, 25_000, 50, 400_000, 500, 1000, 2, 20, 10]
    shapes = []
    for layer in model.features:
        layer.register_forward_hook(lambda _layer, _input, out: shapes.append((*out.shape[1:],)))
    features, logits = model(torch.randn(5, 1, 28, 28))
    expected = [(20, 24, 24)] * 2 + [(20, 12, 12)] + [(50, 8, 8)] * 2 + [(50, 4, 4), (800,)]
    assert shapes == expected
    assert features.shape == (5, 2) and logits.shape == (5, 10)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.bias)  # so that a bias left out would show
    images = torch.randn(5, 1, 28, 28)
    features, logits = model(images)
    w = [p.detach() for p in model.parameters()]
    x = F.max_pool2d(torch.tanh(F.conv2d(images, w[0], w[1])), 2, 2)
    x = F.max_pool2d(torch.tanh(F.conv2d(x, w[2], w[3])), 2, 2)
    x = torch.tanh(x.reshape(5, -1) @ w[4].T + w[5])
    torch.testing.assert_close(features, x @ w[6].T + w[7])
    torch.testing.assert_close(logits, features @ w[8].T + w[9])


def test_initial_weights_of_mxnet_center_loss():
    torch.manual_seed(0)
    model = of_recipe("mxnet_center_loss")
    stds = {
        "features.0": math.sqrt(2 / (20 * 25)),
        "features.3": math.sqrt(2 / (50 * 25)),
        "hidden": math.sqrt(2 / 500),
        "embedding": 1.0,
        "classifier": 0.001,
    }
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            tolerance = 0.5 if name == "classifier" else 0.1  # of 20 draws
            assert module.weight.std().item() == pytest.approx(stds[name], rel=tolerance), name
            if module.weight.numel() > 1000:  # a uniform one would end at √3 · std
                assert module.weight.abs().max() > 2.5 * stds[name]
            assert not module.bias.any()
