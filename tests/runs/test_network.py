"""A trained network is read back from its run folder, whole or from what was put aside of it."""

import shutil

import pytest
import torch

from benchmarks import compose_train
from center_loss import load
from center_loss.base.errors import UserError
from center_loss.data import load_mnist
from center_loss.job import train_one
from center_loss.runs.contents import load_features
from center_loss.runs.network import save


@pytest.fixture(scope="module", params=["recipe=smoke", "recipe=mxnet_center_loss"])
def run(request, mnist_root, tmp_path_factory):
    """A short training in float32, of each network."""
    folder = tmp_path_factory.mktemp("network") / "run"
    short = ["train.max_steps=3", "data.train_size=300", "data.test_size=200", "precision=fp32"]
    places = [f"data.root={mnist_root}", f"output_dir={folder}", "train.snapshots=0"]
    train_one(compose_train(request.param, "loss.lam=0.1", *short, *places))
    return folder


def test_its_features_are_those_of_the_run(run, mnist_root):
    trained, arrays = load(run), load_features(run)
    images = load_mnist(mnist_root, test_size=200).test_images
    features, logits = trained.embed(images)
    torch.testing.assert_close(features, torch.from_numpy(arrays["test_features"]))
    assert (logits.argmax(1).numpy() == arrays["test_predictions"]).all()
    torch.testing.assert_close(trained.centers, torch.from_numpy(arrays["centers"]))
    assert not trained.net.training and not features.requires_grad


def test_what_is_put_aside_is_half_as_large_and_gives_the_same(run, tmp_path, mnist_root):
    save(run, tmp_path / "aside")
    shutil.copy(run / "metrics.json", tmp_path / "aside")
    assert {path.name for path in (tmp_path / "aside").iterdir()} == {
        "config.yaml", "metrics.json", "network.pt"
    }  # fmt: skip
    assert str(tmp_path.anchor + "tmp") not in (tmp_path / "aside/config.yaml").read_text()
    whole, half = load(run), load(tmp_path / "aside")
    weights = sum(weight.numel() for weight in whole.net.parameters())
    assert (tmp_path / "aside/network.pt").stat().st_size < 2 * weights + 20_000
    images = load_mnist(mnist_root, test_size=200).test_images
    expected, _ = whole.embed(images)
    features, _ = half.embed(images)
    assert (features - expected).norm(dim=1).max() < 0.01 * expected.norm(dim=1).max()
    assert half.recipe == whole.recipe


def test_what_cant_be_read(run, tmp_path):
    with pytest.raises(UserError, match=r"config\.yaml is missing"):
        load(tmp_path)
    save(run, tmp_path / "aside")
    with pytest.raises(UserError, match=r"metrics\.json is missing"):
        load(tmp_path / "aside")
    shutil.copy(run / "metrics.json", tmp_path / "aside")
    content = (tmp_path / "aside/network.pt").read_bytes()
    (tmp_path / "aside/network.pt").write_bytes(content[:1000])
    with pytest.raises(UserError, match=r"network\.pt is damaged"):
        load(tmp_path / "aside")
    torch.save({"other": torch.zeros(2)}, tmp_path / "aside/network.pt")
    with pytest.raises(UserError, match=r"aside has the weights of another network"):
        load(tmp_path / "aside")
