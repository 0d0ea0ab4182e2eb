"""CenterLoss under torch.compile with the default backend: gradient, loss and centers.

A loss that is right and moves the centers right can still have a wrong gradient: the backward is a
graph of its own, which runs after the centers have moved.
"""

import copy
import itertools
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from center_loss import CenterLoss
from center_loss.dialects import DIALECTS

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler"
)


@pytest.fixture(autouse=True)
def afresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def start(dialect: str, classes: int, dim: int, **options: Any) -> CenterLoss:
    torch.manual_seed(0)
    criterion = DIALECTS[dialect](classes, dim, **options)
    criterion.centers.normal_()
    return criterion


def pulled(criterion: nn.Module, x: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss and its gradient on the features."""
    x = x.clone().requires_grad_()
    loss = criterion(x, *rest)
    loss.sum().backward()
    return loss.detach(), x.grad


@pytest.mark.parametrize("dialect", DIALECTS)
def test_gradient_loss_and_centers(dialect):
    """Three steps with fewer classes than samples, and one in eval()."""
    eager = start(dialect, classes=3, dim=4)
    criterion = copy.deepcopy(eager)
    compiled = torch.compile(criterion, fullgraph=True)
    for _ in range(3):
        x, y = torch.randn(8, 4), torch.randint(3, (8,))
        before = criterion.centers.clone()
        loss, gradient = pulled(compiled, x, y)
        # Eq. 3, in its dialects
        scale = {"pytorch_center_loss": 2 / 8, "mxnet_center_loss": 1 / 64}.get(dialect, 1 / 8)
        torch.testing.assert_close(gradient, scale * (x - before[y]))
        torch.testing.assert_close((loss, gradient), pulled(eager, x, y))
        torch.testing.assert_close(criterion.state_dict(), eager.state_dict())
        assert not torch.equal(criterion.centers, before)


def every_pair(factors: dict[str, list]) -> Iterator[dict[str, Any]]:
    """Few cases, in which each two values of two factors meet."""
    cases = [
        dict(zip(factors, values, strict=True)) for values in itertools.product(*factors.values())
    ]

    def pairs(case: dict[str, Any]) -> set:
        return set(itertools.combinations(case.items(), 2))

    missing = set().union(*map(pairs, cases))
    while missing:
        best = max(cases, key=lambda case: len(pairs(case) & missing))
        missing -= pairs(best)
        yield best


PAIRS = list(
    every_pair(
        {
            "dialect": list(DIALECTS),
            "backend": ["inductor", "aot_eager_decomp_partition"],
            "in_model": [False, True],
            "fullgraph": [False, True],
            "dynamic": [False, True],
            "classes": [3, 40],
            "training": [True, False],
            "bfloat16": [False, True],
            "update": ["forward", "manual"],
            "reduction": ["mean", "sum", "none"],
            "weighted": [False, True],
        }
    )
)


class Model(nn.Module):
    def __init__(self, criterion: CenterLoss) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(4, 16), nn.PReLU(), nn.Linear(16, 4))
        self.criterion = criterion

    def forward(self, inputs, *rest):
        return self.criterion(self.embed(inputs), *rest)


@pytest.mark.slow
@pytest.mark.parametrize("case", PAIRS, ids=lambda case: "-".join(map(str, case.values())))
def test_every_pair_of_circumstances(case):
    weighted = {"ignore_index": 1} if case["weighted"] else {}
    eager = start(
        case["dialect"],
        case["classes"],
        4,
        update=case["update"],
        reduction=case["reduction"],
        **weighted,
    )
    eager = (Model(eager) if case["in_model"] else eager).train(case["training"])
    module = copy.deepcopy(eager)
    compiled = torch.compile(
        module, backend=case["backend"], fullgraph=case["fullgraph"], dynamic=case["dynamic"]
    )
    close = {"rtol": 0.05, "atol": 0.05} if case["bfloat16"] and case["in_model"] else {}
    for step in range(3):
        batch = 8 + step if case["dynamic"] else 8
        x, y = torch.randn(batch, 4), torch.randint(case["classes"], (batch,))
        rest = (y, torch.rand(batch)) if case["weighted"] else (y,)
        with torch.autocast("cpu", torch.bfloat16, enabled=case["bfloat16"]):
            ours, wanted = (pulled(each, x, *rest) for each in (compiled, eager))
        torch.testing.assert_close(ours, wanted, **close)
        for a, b in zip(module.parameters(), eager.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, **close)
        torch.testing.assert_close(
            dict(module.named_buffers()), dict(eager.named_buffers()), **close
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "budget",
    [
        {"activation_memory_budget": 0.5},
        {"activation_memory_budget": 0.0},
        {"aggressive_recomputation": True},
    ],
)
def test_a_compiler_that_saves_less(budget):
    """With a budget of 0 nothing but inputs is saved: then they mustn't move in the graph."""
    import torch._functorch.config as config

    update = "manual" if budget == {"activation_memory_budget": 0.0} else "forward"
    criterion = start("paper", 3, 4, update=update)
    x, y, before = torch.randn(8, 4), torch.randint(3, (8,)), criterion.centers.clone()
    with config.patch(**budget):
        _, gradient = pulled(torch.compile(criterion), x, y)
    torch.testing.assert_close(gradient, (x - before[y]) / 8)


@pytest.mark.slow
def test_two_forwards_before_the_backward():
    """Two views of the same samples: each loss with the centers of its own forward."""
    results = []
    for wrap in (lambda f: f, torch.compile):
        criterion = start("paper", 3, 4)
        x, y = torch.randn(8, 4), torch.randint(3, (8,))

        @wrap
        def both(x, y, criterion=criterion):
            return criterion(x, y) + criterion(2 * x, y)

        results.append((*pulled(both, x, y), *pulled(both, x, y), criterion.centers))
    torch.testing.assert_close(*results)


@pytest.mark.slow
def test_inside_compiled_activation_checkpointing():
    criterion = start("paper", 3, 4)
    eager = copy.deepcopy(criterion)
    compiled = torch.compile(lambda x, y: checkpoint(criterion, x, y, use_reentrant=False))
    for _ in range(2):
        x, y = torch.randn(8, 4), torch.randint(3, (8,))
        torch.testing.assert_close(pulled(compiled, x, y), pulled(eager, x, y))
        torch.testing.assert_close(criterion.centers, eager.centers)


@pytest.mark.slow
def test_a_manual_step_and_own_terms():
    """With update="manual" nothing moves in the graph, so own terms may read the centers."""
    results = []
    for wrap in (lambda f: f, torch.compile):
        criterion = start("paper", 3, 4, update="manual")

        @wrap
        def whole(x, y, criterion=criterion):
            apart = F.relu(3 - torch.cdist(x, criterion.centers)).mean()
            return criterion(x, y) + apart + (x - criterion.centers[y]).abs().mean()

        for _ in range(2):
            x, y = torch.randn(8, 4), torch.randint(3, (8,))
            results.append(pulled(whole, x, y))
            wrap(criterion.update_centers)(x, y)
            results.append(criterion.centers.clone())
    torch.testing.assert_close(results[:4], results[4:])
