"""Learning rate schedules of the recipes, and how λ rises.

A schedule is a factor of the learning rate as a function of the step (0 … max_steps − 1), of the
epoch (from 0) that the step is in, and of the number of steps in all.
"""

from collections.abc import Callable

from center_loss.base.checks import Fraction, Integer, Positive, Steps

Schedule = Callable[[int, int, int], float]  # step, epoch, max_steps → factor


def step(*, milestones: Steps, gamma: Positive) -> Schedule:
    """gamma^(number of milestones, in steps, that are reached), as Caffe's "multistep"."""
    return lambda step, epoch, max_steps: gamma ** sum(step >= each for each in milestones)


def step_epochs(*, every: Integer, gamma: Positive) -> Schedule:
    """gamma^(number of times that ``every`` epochs have passed)."""
    return lambda step, epoch, max_steps: gamma ** (epoch // every)


def linear(*, warmup: Fraction) -> Schedule:
    """Rises over the fraction ``warmup`` of the steps, then falls in a straight line towards 0."""

    def factor(step: int, epoch: int, max_steps: int) -> float:
        rise = max(1.0, warmup * max_steps)
        fall = max(1.0, max_steps - rise)
        return min((step + 1) / rise, (max_steps - step) / fall, 1.0)

    return factor


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "step": step, "step_epochs": step_epochs, "linear": linear
}  # fmt: skip


def ramp(step: int, max_steps: int, fraction: float, start: float = 0.0) -> float:
    """A factor that rises to 1 over ``fraction`` of the steps: from ``start`` by equal factors, or
    where that is 0 in a straight line."""
    risen = min(1.0, step / (fraction * max_steps)) if fraction > 0 else 1.0
    return start ** (1 - risen) if start > 0 else risen
