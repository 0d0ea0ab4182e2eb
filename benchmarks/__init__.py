"""Programs that measure. `make bench` runs them; each prints a table and can write it as JSON."""

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from center_loss.base.device import hardware, synchronize
from center_loss.program.cli import VERSION

CONFIGS = Path(__file__).parent.parent / "configs"


def compose_train(*overrides: str) -> dict:
    """The configuration of `python train.py OVERRIDES` as plain values."""
    with initialize_config_dir(str(CONFIGS.resolve()), **VERSION):
        return OmegaConf.to_container(compose("train", list(overrides)), resolve=True)


def milliseconds(step: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    began = time.perf_counter()
    step()
    synchronize(device)
    return 1000 * (time.perf_counter() - began)


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}  # of the convolutions, by precision


def matmul_gflops(precision: str, device: torch.device, size: int = 2048) -> float:
    """GFLOP/s of a product of two square matrices, the median of five: a peak that is reached."""
    a, b = torch.randn(2, size, size, device=device).to(DTYPES[precision])
    a @ b  # warms up
    ms = statistics.median(milliseconds(lambda: a @ b, device) for _ in range(5))
    return 2 * size**3 / ms / 1e6


def write_json(path: Path | None, device: torch.device, tables: dict) -> None:
    """Write tables with what they were measured on."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    measured_on = {
        "device": device.type,
        "hardware": hardware(device),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    path.write_text(json.dumps({**measured_on, **tables}, indent=2) + "\n")
