"""Checks every value that a user can set. Hydra doesn't: ``seed=x`` arrives as it was typed."""

import math
from pathlib import Path
from typing import Any

from center_loss.base.checks import (
    Check,
    ascending_steps,
    device_name,
    integer,
    null,
    number,
    one_of,
    or_null,
    path,
    shown,
    text,
    true_or_false,
)
from center_loss.base.errors import UsageError


def train_settings(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of ``train.py``, checked, with the default of ``output_dir`` filled in.

    Args:
        config: the composed configuration as plain dicts, lists and values.

    Raises:
        UsageError: names the first key that is wrong, its value and what is allowed.
    """
    checks = TRAIN | {
        "model": _chosen("model", config, MODELS),
        "loss": _chosen("loss", config, LOSSES),
        "optimizer": _chosen("optimizer", config, OPTIMIZERS),
        "schedule": _chosen("schedule", config, SCHEDULES),
    }
    settings = _check(config, checks)
    if settings["train"]["max_steps"] is None and settings["train"]["epochs"] is None:
        raise UsageError("one of train.max_steps and train.epochs must be set, both are null")
    optimizer = settings["optimizer"]
    if optimizer.get("nesterov") and optimizer["momentum"] == 0:
        raise UsageError("optimizer.nesterov=true wants an optimizer.momentum > 0, got 0")
    if settings["output_dir"] is None:
        loss = settings["loss"]
        parts = [f"lam{loss['lam']:g}"]
        parts += [] if loss["alpha"] is None else [f"alpha{loss['alpha']:g}"]
        parts += [f"seed{settings['seed']}"]
        own = settings["recipe"] if settings["recipe"] in LOSSES else "paper"
        parts += [] if loss["name"] == own else [loss["name"]]
        settings["output_dir"] = str(Path("outputs/runs") / settings["recipe"] / "-".join(parts))
    return settings


def max_steps(settings: dict[str, Any]) -> int:
    """Length of the run in steps; ``train.max_steps`` wins over ``train.epochs``."""
    train = settings["train"]
    if train["max_steps"] is not None:
        return train["max_steps"]
    per_epoch = settings["data"]["train_size"] / train["batch_size"]
    if train["last_batch"] == "short":
        per_epoch = math.ceil(per_epoch)
    return max(1, math.ceil(round(train["epochs"] * per_epoch, 6)))  # 6,875.000…1 is 6,875


def train_arguments(settings: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of ``training.train`` that don't depend on the device."""
    data, length = settings["data"], settings["train"]
    loss = dict(settings["loss"])
    lams = {key: loss.pop(key) for key in LAMS}  # the sum's, not the center loss's
    if lams["lam"] == 0:  # whatever else is set for the center loss, it is the same run
        lams, loss = {"lam": 0.0}, {"name": "paper"}
    return {
        "model": settings["model"],
        **lams,
        "center_loss": {key: value for key, value in loss.items() if value is not None},
        "max_steps": max_steps(settings),
        "optimizer": settings["optimizer"],
        "schedule": settings["schedule"],
        **{key: data[key] for key in ("pixel_mean", "pixel_std", "order")},
        **{key: length[key] for key in ("batch_size", "last_batch", "clip_norm", "snapshots")},
        "seed": settings["seed"],
    }


def visualize_settings(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of ``visualize.py``, checked. Raises UsageError as ``train_settings``."""
    return _check(config, VISUALIZE)


# ---- the keys

FRACTION = number(0, 1)
POSITIVE = number(0, open_low=True)

MODELS: dict[str, dict[str, Check]] = {
    "lenetpp": {
        "feature_dim": integer(1),
        "classifier_bias": true_or_false,
        "slopes": one_of("channel", "layer"),
        "last_pool": integer(2, 3),
        "init": one_of("caffe", "torch"),
    },
    "lenet": {"feature_dim": integer(1)},
}
LAMS: dict[str, Check] = {"lam": number(0), "lam_warmup": FRACTION, "lam_start": FRACTION}
LOSSES: dict[str, dict[str, Check]] = {
    "paper": {**LAMS, "alpha": FRACTION},
    "caffe_face": {
        **LAMS,
        "alpha": null("caffe_face has no α: its centers go through the solver, see loss.lr"),
        "lr": number(0, 1, note="; it follows optimizer.lr"),
        "momentum": number(0, 1, open_high=True),
    },
    "mxnet_center_loss": {**LAMS, "alpha": FRACTION},
    "pytorch_center_loss": {**LAMS, "alpha": number(0)},  # a learning rate
}
OPTIMIZERS: dict[str, dict[str, Check]] = {
    "sgd": {
        "lr": POSITIVE,
        "momentum": FRACTION,
        "nesterov": true_or_false,
        "weight_decay": number(0),
        "bias_lr_factor": number(0),
        "decay_biases": true_or_false,
    },
    "caffe_sgd": {
        "lr": POSITIVE,
        "momentum": FRACTION,
        "weight_decay": number(0),
        "bias_lr_factor": number(0),
        "decay_biases": true_or_false,
    },
    "muon": {
        "lr": POSITIVE,
        "momentum": FRACTION,
        "weight_decay": number(0),
        "adamw_lr": POSITIVE,
        "adamw_beta2": number(0, 1, open_high=True),
        "adamw_weight_decay": number(0),
    },
}
SCHEDULES: dict[str, dict[str, Check]] = {
    "step": {"milestones": ascending_steps, "gamma": POSITIVE},
    "step_epochs": {"every": integer(1), "gamma": POSITIVE},
    "linear": {"warmup": FRACTION},
}
TRAIN: dict[str, Any] = {
    "recipe": text,
    "data": {
        "root": path,
        "train_size": integer(1, 60_000),
        "test_size": integer(1, 10_000),
        "pixel_mean": number(0, 255),
        "pixel_std": POSITIVE,
        "order": one_of("shuffle", "shuffle_once", "file"),
    },
    "train": {
        "max_steps": or_null(integer(1, 10**9)),
        "epochs": or_null(number(0, 10**6, open_low=True)),
        "batch_size": integer(1, 60_000),
        "last_batch": one_of("wrap", "short"),
        "clip_norm": or_null(POSITIVE),
        "snapshots": integer(0, 1_000),  # each checkpoint holds them
    },
    "seed": integer(0, 2**32 - 1),
    "device": device_name,
    "precision": one_of("auto", "fp32", "bf16"),
    "compile": one_of("auto", "true", "false"),
    "deterministic": true_or_false,
    "output_dir": or_null(path),
    "force": true_or_false,
    "experiment": or_null(text),
}
VISUALIZE: dict[str, Any] = {
    "figure": one_of("fig2", "fig3", "compare", "evolution", "page", "sweep", "dialects", "all"),
    "runs": path,
    "palette": one_of("paper", "colorblind"),
    "width": one_of("auto", "column", "page"),
    "lam": or_null(POSITIVE),
    "out": or_null(path),
    "data": {"root": or_null(path)},
}


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


def _chosen(group: str, config: dict, choices: dict[str, dict[str, Check]]) -> dict[str, Check]:
    """The checks of the group's keys, which depend on its ``name``."""
    value = config.get(group)
    name = value.get("name") if isinstance(value, dict) else None
    if not isinstance(name, str) or name not in choices:
        raise UsageError(f"{group}.name must be one of {', '.join(choices)}, got {shown(name)}")
    return {"name": one_of(name), **choices[name]}
