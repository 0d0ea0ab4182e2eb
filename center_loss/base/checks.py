"""Checks of one value that a user has set."""

import inspect
import json
import numbers
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from typing import Annotated, Any, get_args, get_origin

from center_loss.base.errors import UsageError

Check = Callable[[Any], Any]  # value → the value to use; ValueError says what is allowed
LARGEST = sys.float_info.max  # no float holds what is beyond it
_signature: Callable[..., inspect.Signature] = cache(partial(inspect.signature, eval_str=True))


def take(check: Check, value: Any) -> Any:
    """What a check makes of a value, or if it is a text that won't do, of what the text says.

    Variables of the environment are texts, all of them: "0.5", "1e4", "true", "null", "[1, 2]".
    """
    try:
        return check(value)
    except ValueError:
        if not (isinstance(value, str) and value.isascii()):
            raise
        for read in (int, float, json.loads):
            try:
                return check(read(value.lower()))
            except (ValueError, RecursionError):  # it can't be read so, or won't do either
                continue
        raise


def integer(low: int, high: int | None = None) -> Check:
    def check(value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # 1e4
        if type(value) is not int or value < low or (high is not None and value > high):
            raise ValueError(allowed)
        return value

    allowed = f"an integer from {low} to {high}" if high is not None else f"an integer ≥ {low}"
    return check


def number(
    low: float,
    high: float = LARGEST,
    open_low: bool = False,
    open_high: bool = False,
) -> Check:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(allowed)
        above = low < value if open_low else low <= value
        below = value < high if open_high else value <= high
        if not (above and below):  # or NaN
            raise ValueError(allowed)
        return float(value)

    allowed = f"a number {'>' if open_low else '≥'} {low:g}"
    if high < LARGEST:
        allowed += f" and {'<' if open_high else '≤'} {high:g}"
    return check


def one_of(*names: str) -> Check:
    def check(value: Any) -> str:
        value = str(value).lower() if isinstance(value, bool) else value  # compile=true
        if value not in names:
            raise ValueError("one of " + ", ".join(names))
        return value

    return check


def or_null(check: Check) -> Check:
    def optional(value: Any) -> Any:
        try:
            return None if value is None else check(value)
        except ValueError as error:
            raise ValueError(f"{error}, or null") from None

    return optional


def text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("a text that isn't empty")
    return value


def path(value: Any) -> str:
    """A path, with ~ and ~USER for the folder that a shell would take; it may not have seen them.

    A file of a run's holds the path, in UTF-8.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)  # a folder called 1
    try:
        expanded = os.path.expanduser(text(value))
        expanded.encode()
    except ValueError as error:
        utf8 = " in UTF-8" if isinstance(error, UnicodeEncodeError) else ""
        raise ValueError(f"a path{utf8}") from None
    if expanded.startswith("~"):
        raise ValueError(f"a path (there is no user for {expanded.split('/')[0]})")
    return expanded


def device_name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(
        r"auto|cpu|cpu:0|mps|mps:0|cuda(:(0|[1-9][0-9]*))?", value
    ):
        raise ValueError("auto, cpu, cuda, cuda:N or mps")
    return value


def true_or_false(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def ascending_steps(value: Any) -> list[int]:
    try:
        steps = [take(integer(0), item) for item in value] if isinstance(value, list) else None
    except ValueError:
        steps = None
    if steps is None or steps != sorted(steps):
        raise ValueError("a list of steps in ascending order")
    return steps


def shown(value: Any) -> str:
    """A value as it is typed."""
    return "null" if value is None else repr(value) if value == "" else str(value)


# ---- the types of what a user can set, as signatures have them: the type, and its check

FRACTION, POSITIVE = number(0, 1), number(0, open_low=True)

Fraction = Annotated[float, FRACTION]
Positive = Annotated[float, POSITIVE]
NotNegative = Annotated[float, number(0)]
BelowOne = Annotated[float, number(0, 1, open_high=True)]
Integer = Annotated[int, integer(1)]  # ≥ 1
Steps = Annotated[list[int], ascending_steps]
Length = Annotated[int, integer(1, 10**9)]  # of a feature


def check_of(annotation: Any) -> Check | None:
    """The check that a signature's type brings along; None of what isn't a user's to set."""
    if get_origin(annotation) is Annotated:
        return get_args(annotation)[1]
    return true_or_false if annotation is bool else None


def keys_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The arguments that a user sets: those whose type in the signature has a check."""
    parameters = _signature(function).parameters.values()
    return {each.name: each for each in parameters if check_of(each.annotation) is not None}


def checked(
    function: Callable[..., Any],
    values: Any,
    prefix: str,
    but: Iterable[str] = (),
    beside: Iterable[str] = (),
) -> dict[str, Any]:
    """The arguments of a function as its signature's types have them, defaults filled in.

    Args:
        function: or a class.
        values: by the arguments' names.
        prefix: of the keys in what is said.
        but: keys that are somebody else's.
        beside: keys that are taken already, which what is said names too.

    Raises:
        UsageError: names the first key that is wrong, its value and what is allowed.
    """
    keys = keys_of(function)
    if not isinstance(values, Mapping):
        raise UsageError(f"{prefix[:-1]} must hold {', '.join(keys)}, got {shown(values)}")
    values = {key: value for key, value in values.items() if key not in but}
    unknown = values.keys() - keys.keys()
    if unknown:
        raise UsageError(
            f"{prefix}{min(unknown)} is no key here; there are "
            + ", ".join(prefix + key for key in [*beside, *keys])
        )
    values_of = {}
    for key, parameter in keys.items():
        if key not in values and parameter.default is parameter.empty:
            raise UsageError(f"{prefix}{key} is missing")
        value = values.get(key, parameter.default)
        check = check_of(parameter.annotation)
        assert check is not None  # keys_of has it
        try:
            values_of[key] = take(check, value)
        except ValueError as error:
            raise UsageError(f"{prefix}{key} must be {error}, got {shown(value)}") from None
    return values_of


def argument(name: str, value: Any, kind: Any) -> Any:
    """A library's argument as its type has it, one like those above; NumPy's numbers are numbers.

    Raises:
        ValueError: it is another; 4.0 isn't taken for an integer here.
    """
    if not isinstance(value, bool) and isinstance(value, numbers.Real):
        value = int(value) if isinstance(value, numbers.Integral) else float(value)
    try:
        found = get_args(kind)[1](value)
    except ValueError as error:
        raise ValueError(f"{name} must be {error}, got {value!r}") from None
    if isinstance(value, float) and isinstance(found, int):
        raise ValueError(f"{name} must be an integer, got {value!r}")
    return found


def named(name: str, table: Mapping[str, Any]) -> Any:
    """What a table has under a name; another name is a ValueError."""
    return table[argument("name", name, Annotated[str, one_of(*table)])]
