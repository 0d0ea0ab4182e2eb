"""The training loop: one run, from the first batch to the features that the figures draw."""

import time
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from center_loss.base import signals
from center_loss.base.device import hardware
from center_loss.base.errors import UserError
from center_loss.base.progress import progress_bar
from center_loss.base.signals import Interrupted
from center_loss.data import MNIST
from center_loss.recipe import Recipe, changes, differences
from center_loss.results import Results
from center_loss.trainer import CHECK_EVERY, Trainer

CHECKPOINT_SECONDS = 30  # at most, between two checkpoints


class Record(Protocol):
    """Where a training is kept."""

    name: str  # what lines about it begin with

    def progress(self, step: int, steps: int, text: str) -> None: ...
    def load_checkpoint(self) -> dict[str, Any] | None: ...
    def save_checkpoint(self, state: dict[str, Any]) -> None: ...
    def save_history(self, rows: list[dict[str, float]]) -> None: ...
    def save_features(self, arrays: dict[str, Tensor]) -> None: ...
    def save_snapshots(self, arrays: dict[str, Any]) -> None: ...


def train(
    recipe: Recipe,
    mnist: MNIST,
    record: Record,
    *,
    precision: str = "fp32",
    compile: bool = False,
    evaluate_only: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train a network with softmax loss and, where λ > 0, center loss, and record the run.

    Goes on from the record's checkpoint if there is one, and then ends with the same bytes as
    without the interruption, on the same device with the same precision, threads and versions.

    Args:
        recipe: what is trained.
        mnist: the data, on the device to train on.
        record: takes checkpoints, history, features and snapshots.
        precision: ``fp32``, or ``bf16`` for the convolutions and Muon's orthogonalisation.
        compile: run the network through ``torch.compile``.
        evaluate_only: take no step, but record what there is of the checkpoint's.
        say: called with each line of text.

    Returns:
        the metrics, which aren't recorded: to do so is to declare the run finished.

    Raises:
        Diverged: a loss, feature, center or weight became infinite or NaN; seen within ten steps.
        UserError: nothing can be recorded, or the checkpoint is damaged or of another run.
        Interrupted: a signal of ``signals.ENDING`` came; the checkpoint of that step is written.
    """
    began = time.perf_counter()
    conditions = _conditions(mnist, precision, compile)
    trainer = Trainer(recipe, mnist, precision)
    results = Results(trainer)
    earlier_seconds = _go_on(record, trainer, results, conditions, say)
    if compile:
        trainer.compile(say)
    last_step = trainer.steps if evaluate_only else trainer.max_steps
    record.progress(trainer.steps, trainer.max_steps, "")
    bar = progress_bar(trainer.max_steps, record.name.rpartition("/")[2], done=trainer.steps)
    with bar:
        with signals.deferred() as signal_came:
            trainer.net.train()
            results.take_snapshot()  # of the first weights
            saved_at = time.perf_counter()
            while trainer.steps < last_step and signal_came() is None:
                with results.timed():
                    while True:  # steps, until something else is due
                        results.add(*trainer.step())
                        due = trainer.ended_epoch() or results.snapshots.due(trainer.steps)
                        due = due or signal_came() is not None
                        if trainer.steps % CHECK_EVERY == 0 or due:
                            trainer.check_finite()
                            so_far = results.so_far()
                            record.progress(trainer.steps, trainer.max_steps, so_far)
                            bar.set_postfix_str(so_far, refresh=False)
                            bar.update(trainer.steps - bar.n)
                            if due or time.perf_counter() - saved_at > CHECKPOINT_SECONDS:
                                break
                if trainer.ended_epoch():
                    results.end_epoch()
                    record.save_history(results.history)
                results.take_snapshot()
                seconds = earlier_seconds + time.perf_counter() - began
                record.save_checkpoint(_state(trainer, results, conditions, seconds))
                saved_at = time.perf_counter()
        _stop_at(signal_came(), record, trainer)
        bar.set_postfix_str("evaluating")
        metrics, arrays = results.final()
    record.save_features(arrays)
    if moments := results.snapshots.arrays():
        record.save_snapshots(moments)
    seconds = earlier_seconds + time.perf_counter() - began
    seen = {key: conditions[key] for key in ("device", "hardware", "precision")}
    return metrics | {"wall_seconds": seconds, **seen}


def _stop_at(number: int | None, record: Record, trainer: Trainer) -> None:
    """End with the signal that came, if one did."""
    if number is not None:
        at = f"step {trainer.steps:,} of {trainer.max_steps:,}"
        stopped = f"{record.name}: stopped at {at}, which is saved"
        raise Interrupted(number, f"{stopped}: {signals.AGAIN}")


def _conditions(mnist: MNIST, precision: str, compile: bool) -> dict[str, Any]:
    """What has a say in the last bits, besides the recipe."""
    return {
        "device": mnist.train_images.device.type,
        "hardware": hardware(mnist.train_images.device),
        "precision": precision,
        "compile": compile,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "torch": str(torch.__version__),
    }


def _state(
    trainer: Trainer, results: Results, conditions: dict[str, Any], seconds: float
) -> dict[str, Any]:
    return {
        "recipe": trainer.recipe.config(),
        "conditions": conditions,
        "trainer": trainer.state_dict(),
        "results": results.state_dict(),
        "seconds": seconds,
    }


def _go_on(
    record: Record,
    trainer: Trainer,
    results: Results,
    conditions: dict[str, Any],
    say: Callable[[str], None],
) -> float:
    """Take up what the record has; returns the seconds that it took, 0 of nothing."""
    state = record.load_checkpoint()
    if state is None:
        return 0.0
    different = differences(Recipe.of(state["recipe"]), trainer.recipe)
    if different:
        raise UserError(
            f"{record.name}: its checkpoint is of another run ({'; '.join(different[:5])}): "
            "train this one from the start with force=true"
        )
    trainer.load_state_dict(state["trainer"])
    results.load_state_dict(state["results"])
    say(f"{record.name}: going on from step {trainer.steps:,} of {trainer.max_steps:,}")
    changed = changes(state["conditions"], conditions)
    if changed:
        say(
            f"{record.name}: it began under other conditions ({'; '.join(changed)}), "
            "so it won't end with the same bytes"
        )
    return float(state["seconds"])
