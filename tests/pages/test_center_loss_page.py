"""docs/center_loss.md: every block of Python runs, and what the page says comes of it does."""

import copy
import functools
import json
import math
import os
import re
import socket
import subprocess
import sys
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from torch import nn

from center_loss import CenterLoss
from center_loss.dialects import DIALECTS, PyTorchCenterLoss
from center_loss.schedules import ramp

PAGE = (ROOT / "docs" / "center_loss.md").read_text(encoding="utf-8")
SCRIPT = "# train_ddp.py"  # begins the block that is a program by itself


class Ran(NamedTuple):
    before: Any  # copy of the network
    names: dict[str, Any]  # after the block


def python_blocks() -> list[tuple[str, str]]:
    """(heading, code) of each block; a fence that isn't closed would swallow what follows."""
    assert PAGE.count("```") == 2 * len(re.findall(r"^```python$", PAGE, re.MULTILINE))
    found = re.finditer(r"^## ([^\n]*)$|^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    heading, blocks = "", []
    for each in found:
        heading = each[1] or heading
        if each[2]:
            blocks.append((heading, each[2]))
    return blocks


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Operations as small as these wait for a second thread longer than they take."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def page():
    """All blocks run in one namespace, in order; what each section left."""
    names: dict[str, Any] = {"__name__": "page"}
    sections: dict[str, Ran] = {}
    with pytest.MonkeyPatch.context() as patch:
        # the default backend compiles C++ for half a minute
        patch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
        for heading, code in python_blocks():
            if not code.startswith(SCRIPT):
                before = copy.deepcopy(names.get("net"))
                exec(compile(code, f"docs/center_loss.md, {heading}", "exec"), names)
                sections[heading] = Ran(before, dict(names))
    return sections


# ---- the loop, and λ


def test_the_loop_and_how_to_see_that_it_works(page):
    names = page["Did it work?"].names
    joint, alone = names["joint"], names["softmax_alone"]
    distances = torch.pdist(names["net"].center_loss.centers)
    assert 0.5 < joint["intra/inter"] / alone["intra/inter"] < 0.75  # "by 40 %"
    assert joint["accuracy"] > 0.95
    assert joint["lowest recall"] >= alone["lowest recall"] - 0.02
    assert joint["center drift"] < 0.3 < 0.1 * distances.min()


def test_no_optimizer_touches_the_centers(page):
    net = page["The smallest complete loop"].names["Net"]()
    assert "center_loss.centers" in net.state_dict()
    assert not any(name.startswith("center_loss") for name, _ in net.named_parameters())


def steps_with(names: dict, lam: float, steps: int, clip: float | None = None):
    """The page's loop for some steps; the last batch's two losses."""
    torch.manual_seed(0)
    net, inputs, labels = names["Net"](), names["inputs"], names["labels"]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(steps):
        batch = torch.randperm(len(labels))[:50]
        features, logits = net(inputs[batch])
        softmax = F.cross_entropy(logits, labels[batch])
        center = net.center_loss(features, labels[batch])
        optimizer.zero_grad()
        (softmax + lam * center).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimizer.step()
    return softmax, center


def test_too_large_a_lam(page):
    names = page["The smallest complete loop"].names
    softmax, center = steps_with(names, lam=10, steps=11)
    assert not (softmax + center).isfinite()
    softmax, center = steps_with(names, lam=100, steps=200, clip=1.0)
    assert math.log(10) - 0.2 < softmax < math.log(10) + 0.1 and center < 0.01


def test_lam_rises(page):
    lam_at = page["λ"].names["lam_at"]
    rising = [lam_at(step, 100) for step in (0, 25, 50, 99)]
    assert rising == pytest.approx([1e-5, 1e-3, 0.1, 0.1])
    ours = [0.1 * ramp(step, 100, 0.5, 1e-4) for step in (0, 25, 50, 99)]
    assert rising == pytest.approx(ours)


# ---- features and α


def test_ten_times_as_long_features_have_a_hundredfold_loss():
    short, long = CenterLoss(4, 3), CenterLoss(4, 3)
    for _ in range(3):
        x, y = torch.randn(8, 3), torch.randint(4, (8,))
        torch.testing.assert_close(long(10 * x, y), 100 * short(x, y))


def test_features_of_length_one():
    criterion = CenterLoss(4, 3, alpha=1.0)
    for k in range(50):
        y = torch.randint(4, (8,))
        x = (-1) ** k * F.normalize(1 + y.unsqueeze(1) * torch.tensor([[1.0, -1, 0]]))
        assert criterion(x, y) < 2
        assert (criterion.centers.norm(dim=1) <= 1 + 1e-6).all()


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 5, 1000])
def test_share_of_the_way(alpha, n):
    criterion = CenterLoss(2, 3, alpha)
    x = 7 + torch.randn(n, 3)
    criterion(x, torch.zeros(n, dtype=torch.long))
    torch.testing.assert_close(criterion.centers[0], alpha * n / (1 + n) * x.mean(0))


def test_a_class_with_one_sample_a_batch():
    """What is left of the first distance: (1 − α/2)^k."""
    criterion = CenterLoss(2, 3, alpha=0.5)
    left = []
    for _ in range(10):
        criterion(torch.ones(1, 3), torch.tensor([1]))
        left.append(1 - criterion.centers[1, 0].item())
    assert left == pytest.approx([0.75**k for k in range(1, 11)])
    assert left[4] == pytest.approx(0.25, abs=0.02) and left[9] == pytest.approx(0.06, abs=0.005)
    assert not criterion.centers[0].any()


def test_sequences_and_labels_that_mean_none():
    x, y = torch.randn(2, 5, 3), torch.randint(4, (2, 5))
    CenterLoss(4, 3)(x.flatten(0, 1), y.flatten())
    y[0, 0] = -100
    with pytest.raises(ValueError, match="labels must be in"):
        CenterLoss(4, 3)(x.flatten(0, 1), y.flatten())
    criterion, wanted = CenterLoss(4, 3, ignore_index=-100), CenterLoss(4, 3)
    loss = criterion(x.flatten(0, 1), y.flatten())
    torch.testing.assert_close(loss, wanted(x.flatten(0, 1)[1:], y.flatten()[1:]))
    torch.testing.assert_close(criterion.centers, wanted.centers)


def test_weights_that_add_up_to_1_hardly_move_the_centers():
    x, y = torch.ones(200, 3), torch.zeros(200, dtype=torch.long)
    moved = []
    for weight in (None, torch.ones(200), torch.full((200,), 1 / 200)):
        criterion = CenterLoss(4, 3)
        criterion(x[:50], y[:50], None if weight is None else weight[:50])
        moved.append(criterion.centers[0, 0].item())
    assert moved == [pytest.approx(0.5 * n / (1 + n)) for n in (50, 50, 0.25)]


# ---- the centers, eval(), checkpoints


def test_the_centers_are_a_classifier(page):
    names = page["The centers"].names
    assert (names["nearest"] == names["test_labels"]).float().mean() > 0.95
    assert names["centers"] is names["net"].center_loss.centers
    means = torch.stack([names["features"][names["labels"] == j].mean(0) for j in range(10)])
    last_means = page["The centers"].names["class_means"]
    assert last_means(names["features"], names["labels"], 10).allclose(means, atol=1e-4)


def test_classes_that_are_added(page):
    names = page["The centers"].names
    net, grown = copy.deepcopy(names["net"]), copy.deepcopy(names["grown"])
    assert grown.centers.shape == (15, 16) and not grown.centers[10:].any()
    assert grown.centers[:10].any(dim=1).all()
    net.center_loss = grown.train()
    features, _ = net(names["inputs"][:50])
    net.center_loss(features, torch.arange(50) % 15)
    assert grown.centers.any(dim=1).all()


def test_a_slice_stays_behind_where_autograd_keeps_the_centers():
    """See test_loss.py for the gradient."""
    criterion, x, y = CenterLoss(4, 3), torch.randn(8, 3, requires_grad=True), torch.arange(8) % 4
    row, where = criterion.centers[0], criterion.centers.data_ptr()
    apart = torch.cdist(x, criterion.centers).mean()
    (criterion(x, y) + apart).backward()
    assert criterion.centers.data_ptr() != where and criterion.centers.all() and not row.any()
    manual = CenterLoss(4, 3, update="manual")
    where = manual.centers.data_ptr()
    (manual(x, y) + torch.cdist(x, manual.centers).mean()).backward()
    manual.update_centers(x, y)
    assert manual.centers.data_ptr() == where
    assert torch.equal(manual.centers, criterion.centers)


def test_the_lines_for_transformers(page):
    """See test_loss.py for from_pretrained."""
    criterion = CenterLoss(4, 3)
    criterion.centers.fill_(1e24)
    page["eval(), checkpoints"].names["_init_weights"](None, criterion)
    assert not criterion.centers.any()


def test_no_grad_moves_the_centers_and_eval_does_not():
    criterion, x, y = CenterLoss(4, 3), torch.randn(8, 3), torch.randint(4, (8,))
    with torch.no_grad():
        criterion(x, y)
    moved = criterion.centers.clone()
    assert moved.any()
    in_eval = criterion.eval()(x, y)
    assert torch.equal(criterion.centers, moved)
    assert criterion.train()(x, y) == in_eval


def test_checkpoints(page):
    names = page["eval(), checkpoints"].names
    saved = page["Mixed precision, torch.compile, checkpointing"].before  # before it goes on
    assert torch.equal(names["again"].center_loss.centers, saved.center_loss.centers)
    without = nn.ModuleDict({"embed": names["Net"]().embed, "classify": names["Net"]().classify})
    with pytest.raises(RuntimeError, match="center_loss"):
        without.load_state_dict(names["state"])
    without.load_state_dict(names["state"], strict=False)


# ---- mixed precision, torch.compile, checkpointing


def test_an_infinite_feature_stays_in_its_center():
    criterion, y = CenterLoss(4, 3), torch.arange(8) % 4
    bad = torch.randn(8, 3)
    bad[1, 0] = float("inf")
    criterion(bad, y)
    for _ in range(20):
        criterion(torch.randn(8, 3), y)
    assert criterion.centers.isfinite().all(dim=1).tolist() == [True, False, True, True]
    criterion.centers.nan_to_num_(0, 0, 0)
    assert criterion(torch.randn(8, 3), y).isfinite() and criterion.centers.isfinite().all()


def test_bfloat16_centers_round_small_steps_away():
    ends = []
    for criterion in (CenterLoss(1, 1, alpha=0.01), CenterLoss(1, 1, alpha=0.01).bfloat16()):
        for _ in range(1500):
            criterion(torch.full((1, 1), 5.0), torch.tensor([0]))
        ends.append(criterion.centers.item())
    assert ends == [pytest.approx(5, abs=0.01), pytest.approx(3.4, abs=0.1)]
    assert nn.Sequential(CenterLoss(1, 1)).bfloat16()[0].float().centers.dtype == torch.float32


def test_a_label_out_of_range_when_compiled():
    x, y = torch.randn(8, 3), torch.full((8,), 7)
    with pytest.raises(ValueError, match=r"labels must be in \[0, 4\), got 7"):
        CenterLoss(4, 3)(x, y)
    torch.compiler.reset()
    with pytest.raises(RuntimeError, match="labels must be in"):
        torch.compile(CenterLoss(4, 3), backend="aot_eager")(x, y)


def test_compiled_under_autocast(page):
    ran = page["Mixed precision, torch.compile, checkpointing"]
    net, before = ran.names["net"], ran.before
    assert ran.names["loss"].dtype == torch.float32 and ran.names["loss"].isfinite()
    assert ran.names["features"].dtype == torch.bfloat16
    assert net.center_loss.centers.dtype == torch.float32
    assert not torch.equal(before.center_loss.centers, net.center_loss.centers)


def test_gradient_accumulation_is_one_step_of_the_whole_batch(page):
    ran = page["A step by hand"]
    whole, inputs, labels = ran.before, ran.names["inputs"][:200], ran.names["labels"][:200]
    optimizer = torch.optim.SGD(whole.parameters(), lr=0.05)
    features, logits = whole(inputs)
    loss = F.cross_entropy(logits, labels) + 0.1 * whole.center_loss(features, labels)
    optimizer.zero_grad()
    loss.backward()
    start = {key: value.clone() for key, value in whole.state_dict().items()}
    optimizer.step()
    end = ran.names["net"].state_dict()
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(end[key], value, rtol=1e-4, atol=1e-5)
        if key != "center_loss.centers":
            assert not torch.equal(value, start[key])


# ---- several processes

ALSO_TRIED = """
import json, warnings
warnings.simplefilter("ignore", FutureWarning)
from center_loss.dialects import PyTorchCenterLoss

def gathered(tensor):
    parts = [torch.empty_like(tensor) for _ in range(ranks)]
    dist.all_gather(parts, tensor)
    return [torch.equal(part, parts[0]) for part in parts]

tried = {"default": all(gathered(net.module.center_loss.centers))}
for broadcast in (True, False):
    torch.manual_seed(0)
    one = DistributedDataParallel(Net(), broadcast_buffers=broadcast)
    optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
    torch.manual_seed(1)
    for step in range(10):
        inputs, labels = torch.randn(32, 20), torch.randint(10, (32,))
        loss = one(inputs[rank::ranks], labels[rank::ranks])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    centers = one.module.center_loss.centers
    tried[f"equal {broadcast}"] = all(gathered(centers))
    tried[f"centers {broadcast}"] = centers.tolist()
    torch.manual_seed(rank)
    random = Net()
    random.center_loss = PyTorchCenterLoss(10, 16)
    random = DistributedDataParallel(random, broadcast_buffers=broadcast)
    tried[f"random {broadcast}"] = all(gathered(random.module.center_loss.centers))
torch.manual_seed(1)
alone = CenterLoss(10, 16)
inputs, labels = torch.randn(32, 16), torch.randint(10, (32,))
alone(inputs[rank::ranks], labels[rank::ranks])
tried["outside"] = alone.centers.tolist()
tried["outside equal"] = all(gathered(alone.centers))
try:
    DistributedDataParallel(CenterLoss(10, 16))
except RuntimeError as error:
    tried["refused"] = str(error)
if rank == 0:
    alone.eval()(inputs, labels)  # by itself
    with open("tried.json", "w") as file:
        json.dump(tried, file)
del one, random  # they hold the group too
"""

# a thread of gloo's that is left can abort the process at its end: it did in one run of eight
THREADS_HAVE_ENDED = """
import pathlib, sys, time
for _ in range(100):  # /proc is a little late
    threads = [path.read_text() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
    if not any("gloo" in name for name in threads):
        break
    time.sleep(0.1)
else:
    sys.exit(f"gloo's threads are left: {threads}")
"""


@pytest.fixture(scope="module")
def script():
    (code,) = [code for _, code in python_blocks() if code.startswith(SCRIPT)]
    return code


@pytest.fixture(scope="module")
def two_ranks(script, tmp_path_factory):
    """The page's program with two processes: its weights, and what else it tried of DDP."""
    end = "del net, loss, optimizer"
    assert script.count(f"\n{end}") == 1
    assert script.rstrip().endswith("dist.destroy_process_group()")
    folder = tmp_path_factory.mktemp("ddp")
    text = script.replace(end, ALSO_TRIED + end) + THREADS_HAVE_ENDED
    (folder / "train_ddp.py").write_text(text, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
        "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": 1, "PYTHONPATH": ROOT,
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, "train_ddp.py"],
            cwd=folder,
            env=os.environ | {k: str(v) for k, v in {**environment, "RANK": rank}.items()},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
            process.wait()
    tried = json.loads((folder / "tried.json").read_text())
    return torch.load(folder / "model.pt", weights_only=True), tried


def whole_batches(script: str, steps: int, seed: int | None = None) -> dict[str, torch.Tensor]:
    """The page's program without torch.distributed: one process with the whole batch."""
    names: dict[str, Any] = {"__name__": "page"}
    exec(script.partition("dist.init_process_group")[0], names)
    torch.manual_seed(0)
    net = names["Net"]()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    if seed is not None:
        torch.manual_seed(seed)
    for _ in range(steps):
        loss = net(torch.randn(32, 20), torch.randint(10, (32,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.state_dict()


def test_two_processes_are_one_with_the_whole_batch(script, two_ranks):
    one, two = whole_batches(script, steps=20), two_ranks[0]
    assert one.keys() == two.keys() and one["center_loss.centers"].any()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-5)


def test_what_ddp_does_with_the_centers(script, two_ranks):
    tried = two_ranks[1]
    assert tried["default"] and tried["outside equal"]
    wanted = whole_batches(script, steps=10, seed=1)["center_loss.centers"]
    for broadcast in (True, False):
        assert tried[f"equal {broadcast}"]
        assert tried[f"random {broadcast}"] == broadcast  # without it each rank keeps its own
        centers = torch.tensor(tried[f"centers {broadcast}"])
        torch.testing.assert_close(centers, wanted, rtol=1e-4, atol=1e-5)
    assert tried["centers True"] == tried["centers False"]
    torch.manual_seed(1)
    alone = CenterLoss(10, 16)
    alone(torch.randn(32, 16), torch.randint(10, (32,)))
    torch.testing.assert_close(torch.tensor(tried["outside"]), alone.centers)
    assert "parameter" in tried["refused"]


# ---- from pytorch-center-loss, and other dialects


def test_what_is_left_over_of_a_second_optimizer():
    with pytest.raises(ValueError, match="optimizer got an empty parameter list"):
        torch.optim.SGD(CenterLoss(4, 3).parameters(), lr=0.5)


def test_twice_the_lam_pulls_alike_and_its_checkpoint_loads():
    class Theirs(nn.Module):
        def __init__(self):
            super().__init__()
            self.centers = nn.Parameter(torch.randn(4, 3))

    ours, theirs = CenterLoss(4, 3), PyTorchCenterLoss(4, 3)
    state = Theirs().state_dict()
    for each in (ours, theirs):
        each.load_state_dict(state)
        assert torch.equal(each.centers, state["centers"])
    x, y = torch.randn(8, 3, requires_grad=True), torch.randint(4, (8,))
    (a,) = torch.autograd.grad(2 * 0.3 * ours(x, y), x)
    (b,) = torch.autograd.grad(0.3 * theirs(x, y), x)
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", DIALECTS.values())
def test_every_dialect_trains_in_its_place(page, kind):
    names = page["Another dialect"].names
    torch.manual_seed(0)
    net = names["Net"]()
    net.center_loss = kind(10, 16)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for batch in torch.randperm(len(names["labels"])).split(50):
        features, logits = net(names["inputs"][batch])
        center = net.center_loss(features, names["labels"][batch])
        optimizer.zero_grad()
        (F.cross_entropy(logits, names["labels"][batch]) + 0.01 * center).backward()
        optimizer.step()
    assert names["evaluate"](net)["accuracy"] > 0.8
