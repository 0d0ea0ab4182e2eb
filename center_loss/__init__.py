"""Center loss and the networks of its MNIST example.

``from center_loss import CenterLoss, LeNetPP`` needs PyTorch alone. The names are imported when
they are first used, so that the command line can answer ``--help`` without PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from center_loss.loss import CenterLoss
    from center_loss.models import LeNetPP
    from center_loss.runs.network import load

__all__ = ["CenterLoss", "LeNetPP", "load"]
__version__ = "1.0.0"

_HOME = {"CenterLoss": "loss", "LeNetPP": "models", "load": "runs.network"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
