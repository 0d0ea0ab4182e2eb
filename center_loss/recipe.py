"""What is trained: one frozen description of a run, and how two of them are told apart."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Annotated, Any

import torch

from center_loss import data, dialects, models, optim, schedules
from center_loss.base.checks import (
    Fraction,
    NotNegative,
    Positive,
    checked,
    integer,
    keys_of,
    number,
    one_of,
    or_null,
    shown,
    text,
)  # fmt: skip
from center_loss.base.errors import UsageError, one_line


@dataclass(frozen=True)
class Choice:
    """One of several, by its name, and its arguments."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Loss(Choice):
    """Eq. 5: λ, and a center loss. λ rises over a fraction of the steps, from lam_start · λ by
    equal factors, or where that is 0 in a straight line. At λ = 0 there is no center loss, whatever
    else is set for it."""

    lam: NotNegative
    lam_warmup: Fraction = 0.0
    lam_start: Fraction = 0.0


@dataclass(frozen=True)
class Data:
    """The first images of a data set, and how they are scaled: (pixel − mean) / std, in units of 0
    to 255. ``order`` is ``shuffle``, anew each epoch, ``shuffle_once`` or ``file``."""

    name: Annotated[str, one_of(*data.DATASETS)] = "mnist"
    train_size: Annotated[int, integer(1, 60_000)] = 60_000
    test_size: Annotated[int, integer(1, 10_000)] = 10_000
    pixel_mean: Annotated[float, number(0, 255)] = 127.5
    pixel_std: Positive = 128.0
    order: Annotated[str, one_of("shuffle", "shuffle_once", "file")] = "shuffle"


@dataclass(frozen=True)
class Length:
    """Batches, and how many of them: ``max_steps``, or else ``epochs`` passes over the images. An
    epoch's last batch goes on with the next one's images (``wrap``) or is ``short``."""

    max_steps: Annotated[int | None, or_null(integer(1, 10**9))] = None
    epochs: Annotated[float | None, or_null(number(0, 10**6, open_low=True))] = None
    batch_size: Annotated[int, integer(1, 60_000)] = 128
    last_batch: Annotated[str, one_of("wrap", "short")] = "wrap"
    clip_norm: Annotated[float | None, or_null(number(0, open_low=True))] = None  # of all gradients
    snapshots: Annotated[int, integer(0, 1_000)] = 25  # each checkpoint holds them


@dataclass(frozen=True)
class Recipe:
    """What is trained: with threads and hardware it determines the weights to the last bit.

    A key that came later has for its default what was done before there was such a key: an older
    run's configuration, which lacks it, is of the same run.
    """

    model: Choice
    loss: Loss
    optimizer: Choice
    schedule: Choice
    data: Data = Data()
    train: Length = Length()
    recipe: Annotated[str, text] = "paper"  # the set of values that this began with
    seed: Annotated[int, integer(0, 2**32 - 1)] = 0
    precision: Annotated[str, one_of("auto", "fp32", "bf16")] = "auto"

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Recipe":
        """The recipe of a configuration, where keys that say where or whether to run may lie too.

        At λ = 0 there is no center loss, whatever is set for it.

        Raises:
            UsageError: names the first key that is wrong, its value and what is allowed.
        """
        given = cls.as_given(config)
        return replace(given, loss=SOFTMAX_ALONE) if given.loss.lam == 0 else given

    @classmethod
    def as_given(cls, config: Mapping[str, Any]) -> "Recipe":
        """The same, with what is set for the center loss at λ = 0."""
        parts: dict[str, Any] = {
            group: _choice(group, kind, table, config.get(group, {}))
            for group, (kind, table) in CHOICES.items()
        }
        parts["data"] = Data(**checked(Data, config.get("data", {}), "data.", but=["root"]))
        parts["train"] = Length(**checked(Length, config.get("train", {}), "train."))
        own = [each.name for each in fields(cls) if each.name not in parts]
        plain = {key: config[key] for key in own if key in config}
        return cls(**parts, **checked(cls, plain, ""))

    def check(self) -> None:
        """Raise UsageError for values that are wrong together."""
        _ = self.max_steps
        dim = self.model.arguments["feature_dim"]
        try:
            with torch.device("meta"):  # nothing is computed
                net = models.build(self.model.name, num_classes=10, **self.model.arguments)
                dialects.build(
                    self.loss.name, num_classes=10, feature_dim=dim, **self.loss.arguments
                )
            optim.OPTIMIZERS[self.optimizer.name](net, **self.optimizer.arguments)
        except ValueError as error:
            raise UsageError(one_line(error)) from None

    @property
    def max_steps(self) -> int:
        """Length of the run in steps; ``max_steps`` wins over ``epochs``."""
        if self.train.max_steps is not None:
            return self.train.max_steps
        if self.train.epochs is None:
            raise UsageError("one of train.max_steps and train.epochs must be set, both are null")
        per_epoch = self.data.train_size / self.train.batch_size
        if self.train.last_batch == "short":
            per_epoch = math.ceil(per_epoch)
        return max(1, math.ceil(round(self.train.epochs * per_epoch, 6)))  # 6,875.000…1 is 6,875

    def config(self) -> dict[str, Any]:
        """The configuration that it was made of, each value as its type has it."""
        config = asdict(self)
        for group in CHOICES:
            config[group] |= config[group].pop("arguments")
        return config

    def values(self) -> dict[str, Any]:
        """What is trained, by the configuration's keys like "train.batch_size". Recipes with the
        same values are one run."""
        config = self.config()
        if self.loss.lam == 0:
            config["loss"] = {"lam": self.loss.lam}
        return flat(config)

    def identity(self, without: Iterable[str] = ()) -> tuple[tuple[str, str], ...]:
        """The same as a key for dicts, but for the keys ``without``."""
        values = self.values()
        return tuple(sorted((key, str(values[key])) for key in values.keys() - set(without)))


CHOICES: dict[str, tuple[type[Choice], Mapping[str, Callable[..., Any]]]] = {
    "model": (Choice, models.MODELS),
    "loss": (Loss, dialects.DIALECTS),
    "optimizer": (Choice, optim.OPTIMIZERS),
    "schedule": (Choice, schedules.SCHEDULES),
}
SOFTMAX_ALONE = Loss("paper", lam=0.0)


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration by keys like "train.batch_size"."""
    groups = {group: part for group, part in config.items() if isinstance(part, dict)}
    inner = {f"{group}.{key}": v for group, part in groups.items() for key, v in part.items()}
    return {key: value for key, value in config.items() if key not in groups} | inner


def differences(old: Recipe, new: Recipe) -> list[str]:
    """What makes two recipes two runs, in phrases like "train.batch_size: 128, now 64"."""
    return changes(old.values(), new.values())


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The keys that have another value, or that one of both lacks, in phrases as above."""
    return [
        f"{key}: {old.get(key, 'absent')}, now {new.get(key, 'absent')}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, "absent") != new.get(key, "absent")
    ]


def _choice(
    group: str, kind: type[Choice], table: Mapping[str, Callable[..., Any]], values: Any
) -> Choice:
    """One of a group, whose keys depend on its ``name``."""
    values = dict(values) if isinstance(values, Mapping) else {}
    name = values.pop("name", None)
    if not isinstance(name, str) or name not in table:
        raise UsageError(f"{group}.name must be one of {', '.join(table)}, got {shown(name)}")
    own = {key: values.pop(key) for key in keys_of(kind) if key in values}
    choice = kind(name, **checked(kind, own, f"{group}."))
    keys = keys_of(table[name])
    # a key of the group that this one hasn't is null
    values = {key: value for key, value in values.items() if key in keys or value is not None}
    beside = ["name", *keys_of(kind)]
    arguments = checked(table[name], values, f"{group}.", beside=beside)
    return replace(choice, arguments=arguments)
