"""Which configurations are of one run."""

from collections.abc import Iterable
from typing import Any

# Keys that came later, with what was done before there was such a key: an older config.yaml, which
# lacks it, is of a run with this value.
ADDED = {"loss.lam_start": 0.0}

# Keys that say where or whether to run, not what is trained.
_NOT_COMPARED = [
    "output_dir", "force", "experiment", "device", "compile", "deterministic", "data.root"
]  # fmt: skip


def compared(config: dict[str, Any]) -> dict[str, Any]:
    """The values that say what is trained, by their keys like "train.batch_size".

    Two configurations with the same ones are one run. At λ = 0 the center loss isn't computed, so
    its own keys don't count. A key that came later has its default in an older configuration.
    """
    values = {k: v for k, v in (ADDED | flatten(config)).items() if k not in _NOT_COMPARED}
    if values.get("loss.lam") == 0:
        values = {k: v for k, v in values.items() if not k.startswith("loss.") or k == "loss.lam"}
    return values


def identity(config: dict[str, Any], without: Iterable[str] = ()) -> tuple[tuple[str, str], ...]:
    """What two configurations have in common that are one run, but for the keys ``without``."""
    values = compared(config)
    return tuple(sorted((key, str(values[key])) for key in values.keys() - set(without)))


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What makes two configurations two runs, in phrases like "train.batch_size: 128, now 64"."""
    return changes(compared(old), compared(new))


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The keys that have another value, or that one of both lacks, in phrases as above."""
    return [
        f"{key}: {old.get(key, 'absent')}, now {new.get(key, 'absent')}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, "absent") != new.get(key, "absent")
    ]


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of a configuration by their keys like "train.batch_size"."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        inner = isinstance(value, dict)
        values |= flatten(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return values
