"""What "auto" means, on machines that this one isn't."""

import platform
import subprocess
import sys

import pytest
import torch

from center_loss.base import device
from center_loss.base.errors import UsageError, UserError


@pytest.fixture
def machine(monkeypatch):
    def pretend(cuda: int = 0, mps: bool = False, bf16_cpu: bool = False, capability=(8, 0)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        for name in ("avx512_bf16", "amx_tile"):
            monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda: bf16_cpu, raising=False)

    return pretend


@pytest.mark.parametrize(
    "cuda, mps, expected", [(1, True, "cuda"), (0, True, "mps"), (0, False, "cpu")]
)
def test_auto_takes_cuda_then_mps_then_the_cpu(machine, cuda, mps, expected):
    machine(cuda, mps)
    assert device.resolve_device("auto").type == expected


def test_a_device_must_exist(machine):
    machine(cuda=2)
    assert device.resolve_device("cuda:1") == torch.device("cuda:1")
    for name in ("cuda:2", "mps"):
        with pytest.raises(UserError, match=f"device={name} isn't on this machine"):
            device.resolve_device(name)
    for name in ("tpu", "cuda:x", "cuda:", "cuda:01", "cuda:٠", "", "CPU"):
        with pytest.raises(UsageError, match="device must be auto, cpu"):
            device.resolve_device(name)


def test_synchronize_waits_for_the_device_that_trains(monkeypatch):
    waited_for = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited_for.append)
    for name in ("cpu", "cuda:1", "mps"):
        device.synchronize(torch.device(name))
    assert waited_for == [torch.device("cuda:1"), torch.device("mps")]


def test_auto_precision_is_bf16_where_the_hardware_has_it(machine):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    machine(bf16_cpu=True)
    assert device.resolve_precision("auto", cpu) == "bf16"
    machine(cuda=1, capability=(7, 5))
    assert device.resolve_precision("auto", cpu) == "fp32"
    assert device.resolve_precision("auto", cuda) == "fp32"
    machine(cuda=1, capability=(9, 0))
    assert device.resolve_precision("auto", cuda) == "bf16"
    assert device.resolve_precision("auto", torch.device("mps")) == "fp32"
    assert device.resolve_precision("bf16", cpu) == "bf16"


def test_auto_compiles_long_runs_on_cuda_alone():
    cpu, cuda, long = torch.device("cpu"), torch.device("cuda"), device.COMPILE_FROM_IMAGES
    assert device.resolve_compile("auto", cuda, long)
    assert not device.resolve_compile("auto", cuda, long - 1)
    assert not device.resolve_compile("auto", cpu, long)
    assert not device.resolve_compile("auto", torch.device("mps"), long)
    assert device.resolve_compile("true", cpu, 1)
    assert not device.resolve_compile("false", cuda, long)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept():
    def page_faults(first: str) -> int:
        """Of ten blocks of 64 MB in turn, in a process of its own, once the heap has its size."""
        code = (
            "import resource, torch; from center_loss.base import device\n"
            "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
            f"{first}\n"
            "for _ in range(50): torch.ones(2**24)\n"
            "before = faults()\n"
            "for _ in range(10): torch.ones(2**24)\n"
            "print(faults() - before)"
        )
        return int(subprocess.check_output([sys.executable, "-c", code], text=True))

    assert page_faults("device.keep_freed_memory()") < page_faults("") / 10


def test_deterministic_algorithms():
    code = (
        "import os, torch; from center_loss.base.device import be_deterministic\n"
        "be_deterministic()\n"
        "print(torch.are_deterministic_algorithms_enabled(), os.environ['CUBLAS_WORKSPACE_CONFIG'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["True", ":4096:8"], done.stderr
