"""The loop: batches, moments, resuming, divergence, and that it learns."""

import contextlib
import csv
import json

import numpy as np
import pytest
import torch
from loop import optimizers, train
from torch import Tensor, nn

from benchmarks.training import plain_lenetpp
from center_loss import CenterLoss, LeNetPP, dialects, metrics, models, trainer, training
from center_loss.batches import batches, images_in
from center_loss.data import MNIST, load_mnist, scale
from center_loss.dialects import CaffeFaceCenterLoss
from center_loss.runs import checkpoint
from center_loss.runs.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from center_loss.runs.contents import load_features, load_history, load_snapshots
from center_loss.runs.load import find_runs
from center_loss.schedules import linear
from center_loss.snapshots import balanced_subset, snapshot_moments
from center_loss.trainer import CHECK_EVERY, Diverged

MUON = {
    "name": "muon",
    "lr": 0.02,
    "momentum": 0.95,
    "weight_decay": 0,
    "adamw_lr": 3e-3,
    "adamw_beta2": 0.999,
    "adamw_weight_decay": 0,
}
OPTIONS = {
    "model": {"name": "lenetpp", "feature_dim": 2},
    "lam": 0.01,
    "center_loss": {"name": "paper", "alpha": 0.5},
    "lam_warmup": 0.5,
    "max_steps": 12,
    "batch_size": 64,
    "optimizer": MUON,
    "schedule": {"name": "linear", "warmup": 0.2},
    "pixel_mean": 127.5,
    "pixel_std": 128,
    "snapshots": 4,
}

CAFFE_SGD = {
    **{"name": "caffe_sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
    **{"bias_lr_factor": 2, "decay_biases": False},
}


# A CPU without bf16 instructions emulates it, ten times slower than float32: little of it, then
BF16 = {
    "precision": "bf16",
    "batch_size": 8,
    "model": {"name": "lenet", "feature_dim": 2},
}


@pytest.fixture(scope="module")
def mnist(mnist_root) -> MNIST:
    return load_mnist(mnist_root, train_size=320, test_size=200)


@pytest.fixture(scope="module")
def few(mnist_root) -> MNIST:
    return load_mnist(mnist_root, train_size=40, test_size=70)  # all ten digits in both


def numbers(size: int) -> MNIST:
    """A training set whose labels are 0, 1, … size − 1."""
    images, labels = torch.zeros(size, 28, 28, dtype=torch.uint8), torch.arange(size)
    return MNIST(images, labels, images[:1], labels[:1], {})


def test_batches_in_file_order_wrap_round_the_end():
    batch = batches(numbers(10), 4, "file", "wrap", seed=0)
    assert [batch(step)[1].tolist() for step in range(3)] == [
        [0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]
    ]  # fmt: skip
    batch = batches(numbers(3), 8, "file", "wrap", seed=0)
    assert batch(0)[1].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_a_short_last_batch():
    batch = batches(numbers(10), 4, "file", "short", seed=0)
    assert [batch(step)[1].tolist() for step in range(4)] == [
        [0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [0, 1, 2, 3]
    ]  # fmt: skip
    assert [images_in(k, 10, 4, "short") for k in range(7)] == [0, 4, 8, 10, 14, 18, 20]
    assert [images_in(k, 8, 4, "short") for k in range(4)] == [0, 4, 8, 12]
    assert [images_in(k, 10, 4, "wrap") for k in range(4)] == [0, 4, 8, 12]


def test_one_shuffled_order_for_all_epochs():
    batch = batches(numbers(12), 4, "shuffle_once", "wrap", seed=3)
    epochs = [torch.cat([batch(3 * epoch + k)[1] for k in range(3)]).tolist() for epoch in (0, 1)]
    assert epochs[0] == epochs[1] != sorted(epochs[0])
    assert sorted(epochs[0]) == list(range(12))


def test_shuffled_batches_hold_each_image_once_an_epoch():
    batch = batches(numbers(12), 4, "shuffle", "wrap", seed=3)
    drawn = [torch.cat([batch(3 * epoch + k)[1] for k in range(3)]) for epoch in range(2)]
    for labels in drawn:
        assert labels.sort().values.tolist() == list(range(12))
        assert labels.tolist() != list(range(12))
    assert drawn[0].tolist() != drawn[1].tolist()
    later = batches(numbers(12), 4, "shuffle", "wrap", seed=3)
    assert later(5)[1].tolist() == batch(5)[1].tolist()  # as a resumed run asks
    other = batches(numbers(12), 4, "shuffle", "wrap", seed=4)
    assert other(5)[1].tolist() != batch(5)[1].tolist()


@pytest.mark.parametrize("max_steps, count", [(938, 25), (30, 25), (10_000, 25), (3, 25), (50, 1)])
def test_snapshot_moments(max_steps, count):
    moments = snapshot_moments(max_steps, count)
    assert len(moments) == min(count, max_steps + 1)
    assert moments == sorted(set(moments))
    assert moments[-1] == max_steps
    if count > 1:
        assert moments[0] == 0
        gaps = np.diff(moments)
        assert gaps[0] <= gaps[-1]


def test_no_snapshots():
    assert snapshot_moments(100, 0) == []


def test_balanced_subset(mnist_root):
    labels = load_mnist(mnist_root).test_labels
    chosen = balanced_subset(labels, 2000, 10)
    assert torch.bincount(labels[chosen]).tolist() == [200] * 10
    assert chosen.tolist() == sorted(set(chosen.tolist()))


def test_what_a_run_leaves(mnist, tmp_path):
    result = train(tmp_path, mnist, **OPTIONS)
    arrays = load_features(tmp_path)
    for split, size in [("train", 320), ("test", 200)]:
        assert arrays[f"{split}_features"].shape == (size, 2)
        labels, predictions = arrays[f"{split}_labels"], arrays[f"{split}_predictions"]
        assert result[f"{split}_accuracy"] == np.mean(labels == predictions)
        scores = arrays[f"{split}_features"] @ arrays["weight"].T
        assert np.mean(scores.argmax(1) == predictions) > 0.99  # the head has no bias
        intra = metrics.compactness(
            torch.from_numpy(arrays[f"{split}_features"]), torch.from_numpy(labels).long(), 10
        )
        assert result[f"{split}_intra"] == pytest.approx(intra["intra"], rel=1e-5)
    snapshots = load_snapshots(tmp_path)
    assert snapshots["steps"].tolist() == snapshot_moments(12, 4)
    size = len(snapshots["labels"])
    assert snapshots["features"].shape == (4, size, 2)
    assert snapshots["centers"].shape == snapshots["weight"].shape == (4, 10, 2)
    assert not snapshots["centers"][0].any()  # they start at 0
    np.testing.assert_array_equal(snapshots["centers"][-1], arrays["centers"])
    final = arrays["test_features"][snapshots["indices"]]
    np.testing.assert_allclose(snapshots["features"][-1], final, rtol=1e-4, atol=1e-4)
    with open(tmp_path / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "5"), ("2", "10"), ("3", "12")]
    assert float(rows[-1]["test_accuracy"]) == result["test_accuracy"]
    assert not (tmp_path / "metrics.json").exists()
    json.dumps(result)


def test_softmax_alone_computes_no_center_loss(mnist, tmp_path, monkeypatch):
    def forbidden(*_):
        raise AssertionError("computed")

    monkeypatch.setattr(CenterLoss, "forward", forbidden)
    train(tmp_path, mnist, **{**OPTIONS, "lam": 0})
    arrays = load_features(tmp_path)
    means = metrics.class_means(
        torch.from_numpy(arrays["train_features"]),
        torch.from_numpy(arrays["train_labels"]).long(),
        10,
    )
    np.testing.assert_allclose(arrays["centers"], means.numpy(), rtol=1e-4, atol=1e-4)


def test_the_rate_falls_with_the_epochs_and_the_centers_follow(mnist, tmp_path, monkeypatch):
    """A step schedule by epochs, batches with a short last one; caffe_face's lr goes with it."""
    seen, forward = [], CaffeFaceCenterLoss.forward

    def watched(self, features, labels):
        seen.append((self.lr, len(labels)))
        return forward(self, features, labels)

    monkeypatch.setattr(CaffeFaceCenterLoss, "forward", watched)
    options = OPTIONS | {
        "batch_size": 90,  # of 320 images: 90, 90, 90, 50
        "last_batch": "short",
        "max_steps": 10,
        "schedule": {"name": "step_epochs", "every": 1, "gamma": 0.5},
        "center_loss": {"name": "caffe_face", "lr": 0.08, "momentum": 0.9},
        "optimizer": CAFFE_SGD,
        "snapshots": 0,
    }
    train(tmp_path, mnist, **options)
    assert [size for _, size in seen] == [90, 90, 90, 50] * 2 + [90, 90]
    assert [lr for lr, _ in seen] == [0.08] * 4 + [0.04] * 4 + [0.02] * 2
    rows = load_history(tmp_path)
    assert [(row["step"], row["lr"]) for row in rows] == [(4, 0.01), (8, 0.005), (10, 0.0025)]


class Killed(BaseException):
    pass


CAFFE_FACE = {"name": "caffe_face", "lr": 0.01, "momentum": 0.9}
PYTORCH = {"name": "pytorch_center_loss", "alpha": 0.5}
EVERY_EPOCH = {"name": "step_epochs", "every": 1, "gamma": 0.5}


@pytest.mark.parametrize(
    "options",
    [
        BF16,
        {"precision": "fp32", "optimizer": CAFFE_SGD, "order": "file", "center_loss": CAFFE_FACE},
        {"center_loss": PYTORCH, "last_batch": "short", "schedule": EVERY_EPOCH},
        pytest.param({**BF16, "compile": True}, marks=pytest.mark.slow),
    ],
    ids=["muon", "caffe_face", "pytorch_center_loss", "compiled"],
)
def test_a_resumed_run_ends_with_the_same_bytes(mnist, few, tmp_path, monkeypatch, options):
    """Killed after its steps 1, 6 and 12; random numbers that others draw change nothing."""
    if options.get("precision") == "bf16":
        mnist = few
    options = {
        **OPTIONS,
        "schedule": {"name": "step", "milestones": [4, 8], "gamma": 0.8},
    } | options
    whole = train(tmp_path / "whole", mnist, **options)
    save = save_checkpoint

    kills = {1, 6, 12}

    def save_and_die(folder, state):
        save(folder, state)
        torch.rand(1)
        if (step := state["trainer"]["steps"]) in kills:
            kills.remove(step)
            raise Killed

    said = []
    with monkeypatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_SECONDS", 0)
        patch.setattr(training, "CHECK_EVERY", 1)
        patch.setattr(checkpoint, "save_checkpoint", save_and_die)
        while kills:
            with pytest.raises(Killed):
                train(tmp_path / "killed", mnist, **options, say=said.append)
    resumed = train(tmp_path / "killed", mnist, **options, say=said.append)
    going_on = f"{tmp_path / 'killed'}: going on from step "
    assert said == [f"{going_on}{step} of 12" for step in (1, 6, 12)]
    for result in (whole, resumed):
        for name in [name for name in result if name.endswith("_seconds") or "per_second" in name]:
            assert result.pop(name) > 0
    assert resumed == whole
    for name in ("features.npz", "snapshots.npz", "history.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (
            tmp_path / "whole" / name
        ).read_bytes(), name
    states = [load_checkpoint(tmp_path / name) for name in ("whole", "killed")]
    for part in ("net", "criterion"):
        for key, value in states[0]["trainer"][part].items():
            assert torch.equal(value, states[1]["trainer"][part][key])


def test_a_missing_checkpoint_is_said(mnist, tmp_path):
    options = {**OPTIONS, "max_steps": 2, "snapshots": 0}
    first = train(tmp_path, mnist, **options)
    (tmp_path / "checkpoint.pt").unlink()
    said = []
    again = train(tmp_path, mnist, **options, say=said.append)
    assert said == [f"{tmp_path}: its checkpoint.pt is missing, starting from step 0"]
    assert again["test_intra"] == first["test_intra"]


def test_a_loss_that_is_not_finite_stops_the_run(few, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    cross_entropy, calls = torch.nn.functional.cross_entropy, []

    def poisoned(logits, labels):
        calls.append(0)
        loss = cross_entropy(logits, labels)
        return loss * float("nan") if len(calls) == 14 else loss  # at step 13

    monkeypatch.setattr(trainer.F, "cross_entropy", poisoned)
    with pytest.raises(Diverged, match="the softmax loss is nan at step 13; ") as caught:
        train(tmp_path, few, **{**OPTIONS, **BF16, "max_steps": 60, "snapshots": 0})
    for lever in ("optimizer.lr", "train.clip_norm", "loss.lam (now 0.01)", "precision=fp32"):
        assert lever in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(calls) <= 13 + CHECK_EVERY
    state = load_checkpoint(tmp_path)
    assert state["trainer"]["steps"] == 10
    assert all(weight.isfinite().all() for weight in state["trainer"]["net"].values())


def test_weights_that_are_not_finite_are_never_saved(mnist, tmp_path, monkeypatch):
    cross_entropy = torch.nn.functional.cross_entropy

    def poisoned(logits, labels):
        loss = cross_entropy(logits, labels)
        loss.register_hook(lambda gradient: gradient * float("inf"))  # the loss itself is finite
        return loss

    monkeypatch.setattr(trainer.F, "cross_entropy", poisoned)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(training, "CHECK_EVERY", 1)
    with pytest.raises(Diverged, match="diverged: a weight is NaN or infinite at step 1"):
        train(tmp_path, mnist, **{**OPTIONS, "snapshots": 0})
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where, said", [("features", "the softmax loss is "), ("centers", "")])
def test_features_and_centers_that_are_not_finite(mnist, tmp_path, monkeypatch, where, said, value):
    """From step 17 on, so far from a look at the losses as can be; seen within ten steps."""
    steps, forward = [], CenterLoss.forward

    def poisoned(self, features, labels):
        steps.append(0)
        if len(steps) == 18 and where == "centers":
            self.centers[3, 1] = value
        return forward(self, features, labels)

    def embed(self, images):
        features, logits = embedded(self, images)
        if len(steps) >= 17 and where == "features" and torch.is_grad_enabled():
            features = features + value
            logits = self.classifier(features)
        return features, logits

    embedded = LeNetPP.forward
    monkeypatch.setattr(CenterLoss, "forward", poisoned)
    monkeypatch.setattr(LeNetPP, "forward", embed)
    with pytest.raises(Diverged, match=f"diverged: {said}.* at step 17; try to") as caught:
        train(tmp_path, mnist, **{**OPTIONS, "max_steps": 60, "snapshots": 0})
    assert caught.value.step == 17
    assert len(steps) <= 17 + CHECK_EVERY
    assert load_checkpoint(tmp_path)["trainer"]["steps"] == 15  # of an epoch's end


def test_test_features_that_are_not_finite(mnist, tmp_path, monkeypatch):
    """No image that is trained on has them, so no loss shows them."""
    forward = LeNetPP.forward

    def embed(self, images):
        features, logits = forward(self, images)
        return (features, logits) if torch.is_grad_enabled() else (features * float("inf"), logits)

    monkeypatch.setattr(LeNetPP, "forward", embed)
    with pytest.raises(Diverged, match="a feature is NaN or infinite at step 5"):
        train(tmp_path, mnist, **{**OPTIONS, "snapshots": 0})
    assert not has_checkpoint(tmp_path)


def test_a_huge_learning_rate_ends_in_one_line(mnist, tmp_path):
    sgd = {
        **{"name": "sgd", "lr": 1e4, "momentum": 0.9, "nesterov": False, "weight_decay": 5e-4},
        **{"bias_lr_factor": 1, "decay_biases": True},
    }
    with pytest.raises(Diverged, match=r"diverged: the \w+ loss is (nan|inf) at step \d+"):
        train(tmp_path, mnist, **{**OPTIONS, "optimizer": sgd, "max_steps": 60, "snapshots": 0})


def test_lam_changes_what_is_learned_and_alpha_the_centers(mnist, tmp_path):
    results = {}
    for lam, alpha in [(0.01, 0.5), (10, 0.5), (0.01, 0.1)]:
        folder = tmp_path / f"{lam}-{alpha}"
        changed = {"lam": lam, "center_loss": {"name": "paper", "alpha": alpha}, "snapshots": 0}
        train(folder, mnist, **OPTIONS | changed)
        results[lam, alpha] = load_features(folder)
    assert np.linalg.norm(results[10, 0.5]["test_features"]) < np.linalg.norm(
        results[0.01, 0.5]["test_features"]
    )
    centers = [np.linalg.norm(results[0.01, alpha]["centers"]) for alpha in (0.5, 0.1)]
    assert centers[0] > 1.5 * centers[1]


def test_compile_falls_back_where_it_cannot_work(mnist, tmp_path, monkeypatch):
    def broken(model, **_):
        def network(images):
            raise RuntimeError("no C++ compiler\nsecond line")

        return network

    monkeypatch.setattr(torch, "compile", broken)
    said = []
    options = {**OPTIONS, "max_steps": 3, "snapshots": 0}
    train(tmp_path / "a", mnist, **options, compile=True, say=said.append)
    assert len(said) == 1 and "goes on without it (no C++ compiler)" in said[0]
    train(tmp_path / "b", mnist, **options)
    a, b = (load_features(tmp_path / name) for name in "ab")
    np.testing.assert_array_equal(a["test_features"], b["test_features"])


@pytest.mark.parametrize("optimizer", [MUON, CAFFE_SGD])
@pytest.mark.parametrize("loss", [None, *dialects.DIALECTS])
def test_a_step_never_waits_for_an_accelerator(monkeypatch, optimizer, loss):
    """On the meta device, where tensors hold no values, each look at a value is an error."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # it has none
    net = LeNetPP().to("meta", memory_format=torch.channels_last)
    criterion = loss and dialects.build(loss, num_classes=10, feature_dim=2).to("meta")
    solvers = optimizers(net, optimizer)
    data = MNIST(*(tensor.to("meta") for tensor in numbers(20)[:4]), {})
    batch = batches(data, 8, "shuffle", "wrap", seed=0)

    def embed(images):
        return net(scale(images, 127.5, 128))

    def step(number):
        weights = list(net.parameters())
        return trainer.training_step(
            embed, criterion, weights, solvers, *batch(number), 0.01, clip_norm=1.0
        )

    for number in range(4):  # beyond an epoch
        assert step(number).device.type == "meta"
    for look in (Tensor.item, Tensor.tolist, Tensor.cpu, bool):  # the test can fail

        def looking(logits, labels, look=look):
            return look(logits.sum())

        monkeypatch.setattr(trainer.F, "cross_entropy", looking)
        with pytest.raises((RuntimeError, NotImplementedError), match="meta tensor"):
            step(0)


def plain_training(mnist: MNIST, seed: int, lam: float = 0.01) -> tuple[Tensor, Tensor]:
    """Test features and centers after three steps of the loop as one would write it down."""
    torch.manual_seed(seed)
    net = plain_lenetpp()
    solver = torch.optim.SGD(
        net.parameters(), lr=0.01, momentum=0.9, weight_decay=0.05, foreach=False
    )
    centers = torch.zeros(10, 2)
    factor = linear(warmup=0.2)
    for step in range(3):
        solver.param_groups[0]["lr"] = 0.01 * factor(step, 0, 3)
        picked = slice(64 * step, 64 * (step + 1))
        images = (mnist.train_images[picked].float().unsqueeze(1) - 127.5) / 128
        labels = mnist.train_labels[picked]
        features, logits = net(images)
        distance = features - centers[labels]
        loss = nn.functional.cross_entropy(logits, labels)
        loss = loss + lam * (distance**2).sum() / (2 * 64)
        solver.zero_grad()
        loss.backward()
        solver.step()
        for j in range(10):
            of_class = features[labels == j].detach()
            centers[j] -= 0.5 * (centers[j] - of_class).sum(0) / (1 + len(of_class))
    with torch.no_grad():
        return net((mnist.test_images.float().unsqueeze(1) - 127.5) / 128)[0], centers


def test_what_makes_it_fast_changes_no_result(mnist, tmp_path):
    """Over five seeds, since now and then a rounding decides another max-pool."""

    def apart(a, b):
        return (torch.as_tensor(a) - b).norm() / b.norm()

    sgd = {**CAFFE_SGD, "name": "sgd", "nesterov": False, "weight_decay": 0.05}
    sgd |= {"bias_lr_factor": 1, "decay_biases": True}
    length = {"lam_warmup": 0.0, "max_steps": 3, "order": "file", "snapshots": 0}
    ours, other_lam = [], []
    for seed in range(5):
        folder = tmp_path / str(seed)
        train(folder, mnist, **{**OPTIONS, **length, "optimizer": sgd}, seed=seed)
        saved = load_features(folder)
        features, centers = plain_training(mnist, seed)
        ours.append(max(apart(saved["test_features"], features), apart(saved["centers"], centers)))
        other_lam.append(apart(plain_training(mnist, seed, lam=0.011)[0], features))
    assert torch.stack(ours).median() < 3e-4
    assert torch.stack(ours).max() < 1e-2
    assert torch.stack(other_lam).median() > 6e-4  # so it would be seen


@pytest.mark.parametrize(
    "options", [{}, {"precision": "bf16", "batch_size": 8, "max_steps": 3, "snapshots": 0}],
    ids=["fp32", "bf16"],
)  # fmt: skip
def test_our_prelu_changes_no_result(few, tmp_path, monkeypatch, options):
    train(tmp_path / "ours", few, **OPTIONS | options)
    monkeypatch.setattr(models, "PReLU", nn.PReLU)
    train(tmp_path / "theirs", few, **OPTIONS | options)
    ours, theirs = (load_features(tmp_path / name) for name in ("ours", "theirs"))
    np.testing.assert_allclose(ours["test_features"], theirs["test_features"], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_figures_runs(command, tmp_path, mnist_root):
    """The five models of the figures on the whole of MNIST: accurate, compact, no digit lost."""
    done = command(
        "train.py", "experiment=figures", "train.snapshots=0", f"data.root={mnist_root}",
        f"hydra.sweep.dir={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = {each.metrics["lam"]: each.metrics for each in find_runs(tmp_path)[0]}
    assert sorted(results) == [0, 0.001, 0.01, 0.1, 1]
    for lam, result in results.items():
        assert result["steps"] * 64 <= 2 * 60_000
        assert result["test_accuracy"] >= (0.986 if lam == 0 else 0.988)
        assert min(result["test_recall"]) >= 0.9
    ratios = [results[lam]["test_intra_inter_ratio"] for lam in (0, 0.001, 0.01, 0.1, 1)]
    assert ratios == sorted(ratios, reverse=True)


@pytest.mark.gpu
def test_on_a_gpu(mnist_root, tmp_path):
    on_gpu = load_mnist(mnist_root, 2000, 1000, "cuda")
    result = train(
        tmp_path, on_gpu, **{**OPTIONS, "max_steps": 30, "batch_size": 128}, precision="bf16"
    )
    assert result["device"] == "cuda"
    assert load_features(tmp_path)["test_features"].shape == (1000, 2)
    again = train(  # from its checkpoint
        tmp_path, on_gpu, **{**OPTIONS, "max_steps": 30, "batch_size": 128}, precision="bf16"
    )
    assert again["test_accuracy"] == result["test_accuracy"]


@pytest.mark.gpu
def test_a_step_never_waits_for_a_gpu(mnist_root):
    data = load_mnist(mnist_root, 512, 10, "cuda")
    net = LeNetPP().to("cuda", memory_format=torch.channels_last)
    criterion = CenterLoss(10, 2).cuda()
    solvers = optimizers(net, MUON)
    batch = batches(data, 128, "shuffle", "wrap", seed=0)

    def step(number):
        trainer.training_step(
            lambda images: net(scale(images, 127.5, 128)),
            *(criterion, list(net.parameters()), solvers, *batch(number), 0.01),
        )

    step(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(1)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_deterministic_on_a_gpu(command, mnist_root, tmp_path):
    for name in "ab":
        done = command(
            "train.py", "recipe=smoke", "device=cuda", "deterministic=true", "precision=fp32",
            f"data.root={mnist_root}", f"output_dir={tmp_path / name}",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    a, b = ((tmp_path / name / "features.npz").read_bytes() for name in "ab")
    assert a == b
