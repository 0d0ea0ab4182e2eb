"""The keys of ``visualize.py``; those of ``train.py`` are a recipe's and ``job.Place``'s."""

from typing import Any

from center_loss.base.checks import POSITIVE, one_of, or_null, path, shown
from center_loss.base.errors import UsageError
from center_loss.figures import FIGURES

VISUALIZE: dict[str, Any] = {
    "figure": one_of(*FIGURES, "all"),
    "runs": path,
    "palette": one_of("paper", "colorblind"),
    "width": one_of("auto", "column", "page"),
    "lam": or_null(POSITIVE),
    "out": or_null(path),
    "data": {"root": or_null(path)},
}


def visualize_settings(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of ``visualize.py``, checked.

    Raises:
        UsageError: names the first key that is wrong, its value and what is allowed.
    """
    return _check(config, VISUALIZE)


def _check(config: dict[str, Any], checks: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    unknown = config.keys() - checks.keys()
    if unknown:
        raise UsageError(
            f"{prefix}{min(unknown)} is no key here; there are "
            + ", ".join(prefix + key for key in checks)
        )
    settings = {}
    for key, check in checks.items():
        if key not in config:
            raise UsageError(f"{prefix}{key} is missing")
        value = config[key]
        if isinstance(check, dict):
            if not isinstance(value, dict):
                raise UsageError(f"{prefix}{key} must hold {', '.join(check)}, got {shown(value)}")
            settings[key] = _check(value, check, f"{prefix}{key}.")
            continue
        try:
            settings[key] = check(value)
        except ValueError as error:
            raise UsageError(f"{prefix}{key} must be {error}, got {shown(value)}") from None
    return settings
