"""The cells of tables in Markdown."""

import statistics
from collections.abc import Iterable


def spread(values: Iterable[float], form: str = "{:.3f}", factor: float = 1) -> str:
    """Mean ± standard deviation, a single value as it is."""
    values = [value * factor for value in values]
    mean = form.format(statistics.fmean(values))
    return f"{mean} ± {form.format(statistics.stdev(values))}" if len(values) > 1 else mean


def percent(values: Iterable[float], form: str = "{:.2f}") -> str:
    return f"{spread(values, form, 100)} %"


def seeds(values: Iterable[int]) -> str:
    """ "0–4" where none is left out, else "0, 2, 5"."""
    numbers = sorted(values)
    whole = numbers == list(range(numbers[0], numbers[-1] + 1)) and len(numbers) > 1
    return f"{numbers[0]}–{numbers[-1]}" if whole else ", ".join(map(str, numbers))


def name(lam: float) -> str:
    return f"{lam:g}" + (" (softmax alone)" if lam == 0 else "")


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
