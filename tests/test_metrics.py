"""The metrics against plain numpy, class by class."""

import math

import numpy as np
import pytest
import torch

from center_loss import metrics


def test_against_numpy():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(500, 2)) * 30, rng.integers(10, size=500)
    means = np.stack([x[y == j].mean(0) for j in range(10)])
    intra = np.mean([np.linalg.norm(a - means[j]) for a, j in zip(x, y, strict=True)])
    inter = min(np.linalg.norm(means[i] - means[j]) for i in range(10) for j in range(i))
    got = metrics.compactness(torch.from_numpy(x), torch.from_numpy(y), 10)
    assert got["intra"] == pytest.approx(intra)
    assert got["inter"] == pytest.approx(inter)
    assert got["intra_inter_ratio"] == pytest.approx(intra / inter)
    centers = torch.from_numpy(means + np.array([3, 4]))
    drift = metrics.center_drift(centers, torch.from_numpy(x), torch.from_numpy(y))
    assert drift == pytest.approx(5)


def test_the_ratio_does_not_depend_on_the_scale():
    x, y = torch.randn(300, 2), torch.randint(10, (300,))
    ratios = [metrics.compactness(s * x, y, 10)["intra_inter_ratio"] for s in (1, 1000)]
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-4)


def test_accuracy_and_recall():
    labels = torch.tensor([0, 0, 1, 1, 1, 3])
    predictions = torch.tensor([0, 1, 1, 1, 0, 3])
    assert metrics.accuracy(predictions, labels) == pytest.approx(4 / 6)
    recall = metrics.recall(predictions, labels, 4)
    assert recall[:2] == pytest.approx([1 / 2, 2 / 3])
    assert math.isnan(recall[2])  # no sample of class 2
    assert recall[3] == 1


def test_an_absent_class_is_left_out():
    x, y = torch.tensor([[0.0, 0], [2, 0], [10, 0]]), torch.tensor([0, 0, 2])
    got = metrics.compactness(x, y, 10)
    assert got["inter"] == pytest.approx(9)
    assert got["intra"] == pytest.approx(2 / 3)
