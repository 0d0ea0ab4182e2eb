"""What "auto" means on this machine: device, precision, compilation; and its memory."""

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterator

import torch

from center_loss.base.checks import device_name
from center_loss.base.errors import UsageError, UserError

# torch.compile costs tens of seconds. On a CPU it saves next to nothing (`make bench`): four fifths
# of a step are convolutions, which are the library's either way. So it pays at no length there. On
# CUDA it fuses a step's many small launches; from where on that pays is an estimate, not measured.
COMPILE_FROM_IMAGES = 2_000_000


def resolve_device(name: str) -> torch.device:
    """``auto`` → CUDA, then MPS, then the CPU; anything else must exist on this machine.

    Raises:
        UsageError: no such kind of device. UserError: this machine has none.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        kind, _, index = device_name(name).partition(":")
    except ValueError as error:
        raise UsageError(f"device must be {error}, got {name}") from None
    mps = int(torch.backends.mps.is_available())
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": mps}[kind]
    if int(index or 0) >= count:
        raise UserError(
            f"device={name} isn't on this machine (it has {count} of that kind): use device=auto"
        )
    return torch.device(name)


def resolve_precision(name: str, device: torch.device) -> str:
    """``auto`` → ``bf16`` where the hardware computes it fast, else ``fp32``."""
    if name != "auto":
        return name
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        # the backend's own question: PyTorch runs bfloat16 on any CPU, but only these have
        # instructions for it; without them it is slower than float32
        fast = device.type == "cpu" and any(
            getattr(torch.cpu, f"_is_{name}_supported", bool)()
            for name in ("avx512_bf16", "amx_tile")
        )
    return "bf16" if fast else "fp32"


def resolve_compile(name: str, device: torch.device, images: int) -> bool:
    """``auto`` → whether compiling pays for a run that trains on so many images in all.

    The whole run counts, never what is left of it: a resumed run must stay bit-equal.
    """
    if name != "auto":
        return name == "true"
    return device.type == "cuda" and images >= COMPILE_FROM_IMAGES


def hardware(device: torch.device) -> str:
    """The device's model in words, for the metrics."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{platform.machine()}, {threads} thread{'s' if threads > 1 else ''}"


def be_deterministic() -> None:
    """Have PyTorch take deterministic algorithms alone, from here on in this process.

    To be called before the first use of CUDA. An operation that has none raises a RuntimeError.
    """
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # what cuBLAS needs for it
    torch.use_deterministic_algorithms(True)
    # nothing reads uninitialized memory
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextlib.contextmanager
def left_as_it_was() -> Iterator[None]:
    """What the block sets for the whole of PyTorch is set back: a notebook may go on with it."""
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that a clock read afterwards means something."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def keep_freed_memory() -> None:
    """Have glibc keep the memory that this process frees, for what it allocates next.

    By default it hands large blocks back to the kernel, and each training step gets them anew, a
    page at a time, thousands of page faults (docs/speed.md). It can't be undone, so this is for
    programs, not for a library. Where the C library is another, nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
    libc.mallopt(M_MMAP_MAX, 0)  # no block comes straight from the kernel
    libc.mallopt(M_TRIM_THRESHOLD, -1)  # and the heap is never shortened
