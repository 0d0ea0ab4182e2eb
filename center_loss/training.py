"""The training loop: one run, from the first batch to the features that the figures draw."""

import contextlib
import inspect
import math
import platform
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from center_loss import dialects, metrics, models, optim
from center_loss.base import signals
from center_loss.base.device import hardware, synchronize
from center_loss.base.errors import UserError
from center_loss.base.progress import progress_bar
from center_loss.base.signals import Interrupted
from center_loss.data import MNIST, scale
from center_loss.runs.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from center_loss.runs.contents import save_features, save_history, save_snapshots
from center_loss.runs.files import CHECKPOINT, HISTORY
from center_loss.runs.identity import changes, flatten
from center_loss.snapshots import Snapshots, snapshot_moments

NUM_CLASSES = 10
CHECK_EVERY = 10  # steps between two looks at the loss, for which an accelerator must be waited for
CHECKPOINT_SECONDS = 30  # at most, between two checkpoints
Network = Callable[[Tensor], tuple[Tensor, Tensor]]  # images → features (B, D), logits (B, C)
# arguments of train that don't say which run it is
_NOT_THE_RUN = ["folder", "mnist", "precision", "compile", "evaluate_only", "say"]


class Diverged(UserError):
    """A loss, a feature, a center or a weight is NaN or infinite."""

    def __init__(self, what: str, step: int, levers: list[str]) -> None:
        super().__init__(
            f"training diverged: {what} at step {step}; try to {' or '.join(levers)}. "
            "What was saved before is kept"
        )
        self.step = step


def train(
    folder: Path,
    mnist: MNIST,
    *,
    model: dict[str, Any],
    lam: float,
    center_loss: dict[str, Any],
    max_steps: int,
    batch_size: int,
    optimizer: dict[str, Any],
    schedule: dict[str, Any],
    pixel_mean: float,
    pixel_std: float,
    order: str = "shuffle",
    last_batch: str = "wrap",
    lam_warmup: float = 0.0,
    lam_start: float = 0.0,
    clip_norm: float | None = None,
    snapshots: int = 25,
    seed: int = 0,
    precision: str = "fp32",
    compile: bool = False,
    evaluate_only: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train a network with softmax loss and, where λ > 0, center loss, and write the run's files.

    Goes on from the checkpoint in ``folder`` if there is one, and then ends with the same bytes as
    without the interruption, on the same device with the same precision, threads and versions: the
    batches are a function of the step, and after the initial weights no random number is drawn.
    Writes all files of a run folder but the configuration, the figure and the metrics, which are
    returned: to write them is to declare the run finished.

    Args:
        folder: the run folder.
        mnist: the data, on the device to train on.
        model: ``name``, a key of ``models.MODELS``, and that network's arguments.
        lam: λ of Eq. 5; at 0 the center loss isn't computed.
        center_loss: ``name``, a key of ``dialects.DIALECTS``, and that loss's arguments. An ``lr``
            among them follows the schedule.
        max_steps: number of batches to train on.
        batch_size: images in a batch.
        optimizer: what ``optim.build_optimizers`` takes.
        schedule: what ``optim.lr_factor`` takes.
        pixel_mean, pixel_std: pixels become (pixel − mean) / std, in units of 0 to 255.
        order: ``shuffle`` anew each epoch, ``shuffle_once`` for all of them, or ``file`` for the
            order of the file.
        last_batch: an epoch's last batch goes on with the next one's images (``wrap``) or is
            ``short``.
        lam_warmup: λ rises over this fraction of the steps,
        lam_start: from lam_start · λ by equal factors, or where that is 0 in a straight line.
        clip_norm: largest norm of the whole gradient; None doesn't clip.
        snapshots: number of moments at which a fixed set of test images is embedded.
        seed: of the initial weights and of the order.
        precision: ``fp32``, or ``bf16`` for the convolutions and Muon's orthogonalisation.
        compile: run the network through ``torch.compile``.
        evaluate_only: take no step, but write what there is of the checkpoint's.
        say: called with each line of text.

    Raises:
        ValueError: the network, center loss, optimizer or schedule that is named doesn't exist.
        Diverged: a loss, feature, center or weight became infinite or NaN; seen within ten steps.
        UserError: a file couldn't be written, or the checkpoint is damaged or of another run.
        Interrupted: a signal of ``signals.ENDING`` came; the checkpoint of that step is written.
    """
    this_run = {k: v for k, v in locals().items() if k not in _NOT_THE_RUN}
    this_run |= {"train_images": len(mnist.train_labels), "test_images": len(mnist.test_labels)}
    device = mnist.train_images.device
    conditions = {
        "device": device.type,
        "hardware": hardware(device),
        "precision": precision,
        "compile": compile,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "torch": str(torch.__version__),
    }
    levers = [f"lower optimizer.{key}" for key in optimizer if key.endswith("lr")]
    levers += ["set train.clip_norm=1"]
    levers += [f"lower loss.lam (now {lam:g})"] if lam > 0 else []
    levers += ["set precision=fp32"] if precision == "bf16" else []
    began = time.perf_counter()
    with contextlib.suppress(FileExistsError):  # to be told when it is written to
        folder.mkdir(parents=True, exist_ok=True)

    # ---- network, losses, optimizers
    torch.manual_seed(seed)
    net = models.build(num_classes=NUM_CLASSES, **model)
    net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    criterion = dialects.build(
        num_classes=NUM_CLASSES, feature_dim=model["feature_dim"], **center_loss
    ).to(device)
    fast_dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    optimizers = optim.build_optimizers(net, optimizer, fast_dtype)
    base_lrs = [group["lr"] for each in optimizers for group in each.param_groups]
    size = len(mnist.train_labels)
    images_before = partial(images_in, size=size, batch_size=batch_size, last_batch=last_batch)
    lr_factor = optim.lr_factor(schedule, max_steps, lambda step: images_before(step) // size)

    def embed(network: Network, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images (B, 28, 28) → features (B, D), logits (B, C)."""
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            return network(scale(images, pixel_mean, pixel_std))

    # ---- what changes from step to step, and so lies in the checkpoint
    step = 0
    history: list[dict[str, float]] = []
    sums = torch.zeros(4, device=device)  # this epoch's: both losses, their sum, right answers
    counted = 0  # images in those sums
    evaluated = 0  # images, by all evaluations and snapshots so far
    train_seconds = evaluation_seconds = earlier_seconds = 0.0

    @torch.no_grad()
    def evaluate(images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images (N, 28, 28) → features (N, D), predictions (N,), both on the CPU."""
        nonlocal evaluation_seconds, evaluated
        lap = time.perf_counter()
        chunk_size = 500 if device.type == "cpu" else 10_000  # on a CPU, what fits its caches
        parts = [embed(net, chunk) for chunk in images.split(chunk_size)]
        features, logits = (torch.cat(part) for part in zip(*parts, strict=True))
        features, predictions = features.cpu(), logits.argmax(1).cpu()
        if not features.isfinite().all():
            raise Diverged("a feature is NaN or infinite", step, levers)
        evaluation_seconds += time.perf_counter() - lap
        evaluated += len(images)
        return features, predictions

    def centers(features: Tensor, labels: Tensor) -> Tensor:
        """The class centers: the loss's own, or the class means where it has none."""
        if lam > 0:
            return criterion.centers.to("cpu", copy=True)
        return metrics.class_means(features, labels, NUM_CLASSES)

    test_labels = mnist.test_labels.cpu()
    taken = Snapshots(snapshot_moments(max_steps, snapshots), test_labels, net.classifier)

    def save() -> None:
        if not all(weight.isfinite().all() for weight in net.state_dict().values()):
            raise Diverged("a weight is NaN or infinite", step, levers)
        state = {
            "run": this_run,
            "conditions": conditions,
            "step": step,
            "model": net.state_dict(),
            "center_loss": criterion.state_dict(),
            "optimizers": [each.state_dict() for each in optimizers],
            "history": history,
            "snapshots": taken.state_dict(),
            "sums": sums,
            "counted": counted,
            "evaluated": evaluated,
            "train_seconds": train_seconds,
            "evaluation_seconds": evaluation_seconds,
            "seconds": earlier_seconds + time.perf_counter() - began,
        }
        save_checkpoint(folder, state)

    if has_checkpoint(folder):
        state = load_checkpoint(folder, say)  # on the CPU; loading a state moves it
        _require_same_run(folder, state["run"], this_run)
        step, history = state["step"], state["history"]
        taken.load_state_dict(state["snapshots"])
        net.load_state_dict(state["model"])
        criterion.load_state_dict(state["center_loss"])
        for each, saved in zip(optimizers, state["optimizers"], strict=True):
            each.load_state_dict(saved)
        sums, counted = state["sums"].to(device), state["counted"]
        evaluated, evaluation_seconds = state["evaluated"], state["evaluation_seconds"]
        train_seconds, earlier_seconds = state["train_seconds"], state["seconds"]
        say(f"{folder}: going on from step {step:,} of {max_steps:,}")
        changed = changes(state["conditions"], conditions)
        if changed:
            say(
                f"{folder}: it began under other conditions ({'; '.join(changed)}), "
                "so it won't end with the same bytes"
            )
    elif (folder / HISTORY).exists():
        say(f"{folder}: its {CHECKPOINT} is missing, starting from step 0")

    # loading a state replaces an optimizer's groups, so they are looked up only now
    groups = [group for each in optimizers for group in each.param_groups]
    batch = batches(mnist, batch_size, order, last_batch, seed)
    weights = list(net.parameters())
    network: Network = net
    if compile:
        first_and_last = [batch(k)[0] for k in (0, math.ceil(size / batch_size) - 1)]
        network = _compiled(net, embed, first_and_last, say)
    embed_batch = partial(embed, network)

    def ends_epoch(step: int) -> bool:
        """Whether an epoch's last image was in the batch before this step, or the run's was."""
        return images_before(step) // size > images_before(step - 1) // size or step == max_steps

    losses = torch.zeros(CHECK_EVERY, 2, device=device)  # of the steps since the last look
    progress = progress_bar(max_steps, folder.name, done=step)
    saved_at = time.perf_counter()
    tested = None  # at the last step; stays None where a run goes on from there

    last_step = step if evaluate_only else max_steps

    def take_snapshot() -> None:
        if taken.due(step):
            features, predictions = evaluate(mnist.test_images[taken.indices.to(device)])
            taken.add(features, predictions, centers(features, taken.labels))

    with progress, contextlib.ExitStack() as looping:
        # ---- the loop
        signal_came = looping.enter_context(signals.deferred())
        net.train()
        take_snapshot()  # of the first weights
        while step < last_step:
            synchronize(device)
            lap = time.perf_counter()
            while True:  # steps, until something else is due
                factor = lr_factor(step)
                for group, base_lr in zip(groups, base_lrs, strict=True):
                    group["lr"] = base_lr * factor
                if "lr" in center_loss:
                    criterion.lr = center_loss["lr"] * factor
                images, labels = batch(step)
                parts = training_step(
                    embed_batch,
                    criterion if lam > 0 else None,
                    weights,
                    optimizers,
                    images,
                    labels,
                    lam * optim.ramp(step, max_steps, lam_warmup, lam_start),
                    clip_norm,
                )
                losses[step % CHECK_EVERY] = parts[:2]
                sums += parts * len(labels)
                counted += len(labels)
                step += 1
                due = ends_epoch(step) or taken.due(step) or signal_came() is not None
                if step % CHECK_EVERY == 0 or due:
                    _check_finite(losses, criterion.centers, step, levers)
                    now = time.perf_counter()
                    rate = images_before(step) / (train_seconds + now - lap)
                    *_, mean_loss, accuracy = (sums / counted).tolist()
                    progress.set_postfix_str(
                        f"loss {mean_loss:.4f}, accuracy {accuracy:.2%}, {rate:,.0f} images/s",
                        refresh=False,
                    )
                    progress.update(step - progress.n)
                    if due or now - saved_at > CHECKPOINT_SECONDS:
                        break
            train_seconds += time.perf_counter() - lap

            if ends_epoch(step):
                softmax_mean, center_mean, mean_loss, accuracy = (sums / counted).tolist()
                tested = evaluate(mnist.test_images)
                history.append(
                    {
                        "epoch": len(history) + 1,
                        "step": step,
                        "lr": groups[0]["lr"],
                        "loss": mean_loss,
                        "softmax_loss": softmax_mean,
                        "center_loss": center_mean,
                        "train_accuracy": accuracy,
                        **_scores("test", *tested, test_labels),
                    }
                )
                save_history(folder, history)
                sums, counted = torch.zeros_like(sums), 0
            take_snapshot()
            save()
            saved_at = time.perf_counter()
            if signal_came() is not None:
                break
        looping.close()
        number = signal_came()
        if number is not None:
            stopped = f"{folder}: stopped at step {step:,} of {max_steps:,}, which is saved"
            raise Interrupted(number, f"{stopped}: {signals.AGAIN}")

        # ---- what the figures and tables need
        progress.set_postfix_str(f"evaluating {size:,} images")
        result: dict[str, Any] = {}
        arrays: dict[str, Tensor] = {}
        for split, (features, predictions), labels in [
            ("train", evaluate(mnist.train_images), mnist.train_labels.cpu()),
            ("test", tested or evaluate(mnist.test_images), test_labels),
        ]:
            result |= _scores(split, features, predictions, labels)
            means = metrics.class_means(features.double(), labels, NUM_CLASSES)
            result[f"{split}_class_means"] = means.tolist()
            arrays[f"{split}_features"] = features
            arrays[f"{split}_labels"] = labels.byte()
            arrays[f"{split}_predictions"] = predictions.byte()
            if split == "train":
                arrays["centers"] = class_centers = centers(features, labels)
                result["centers"] = class_centers.tolist()
                result["center_drift"] = metrics.center_drift(class_centers, features, labels)
            else:
                result["test_recall"] = metrics.recall(predictions, labels, NUM_CLASSES)
    result["classifier_norm"] = net.classifier.weight.norm(dim=1).mean().item()
    arrays |= {name: each.detach().cpu() for name, each in net.classifier.named_parameters()}
    save_features(folder, **{name: array.numpy() for name, array in arrays.items()})
    if moments := taken.arrays():
        save_snapshots(folder, **moments)
    return {
        **{key: result[key] for key in sorted(result)},
        "steps": step,
        "images_per_second": images_before(step) / train_seconds,
        "train_seconds": train_seconds,
        "evaluation_images_per_second": evaluated / evaluation_seconds,
        "evaluation_seconds": evaluation_seconds,
        "wall_seconds": earlier_seconds + time.perf_counter() - began,
        **{key: conditions[key] for key in ("device", "hardware", "precision")},
        "data_md5": mnist.md5,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def training_step(
    embed: Callable[[Tensor], tuple[Tensor, Tensor]],
    criterion: nn.Module | None,
    weights: list[nn.Parameter],
    optimizers: list[torch.optim.Optimizer],
    images: Tensor,
    labels: Tensor,
    lam: float,
    clip_norm: float | None = None,
) -> Tensor:
    """One step of all weights and centers on one batch. Nothing in it waits for the device.

    Args:
        embed: images → features (B, D), logits (B, C).
        criterion: the center loss; None for softmax alone.
        weights: the network's.
        optimizers: over those weights.
        images: (B, 28, 28) uint8.
        labels: (B,) int64.
        lam: λ of Eq. 5 at this step.
        clip_norm: largest norm of the whole gradient; None doesn't clip.

    Returns:
        (4,), on the device: L_S, L_C, L and the fraction of right answers, means over the batch.
    """
    features, logits = embed(images)
    softmax_loss = F.cross_entropy(logits, labels)  # Eq. 1, as a mean over the batch
    center_loss = torch.zeros_like(softmax_loss)
    if criterion is not None:
        center_loss = criterion(features, labels)  # Eq. 2; the centers move
    loss = softmax_loss + lam * center_loss  # Eq. 5
    loss.backward()
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(weights, clip_norm)
    for each in optimizers:
        each.step()
    for weight in weights:
        weight.grad = None
    with torch.no_grad():
        right = (logits.argmax(1) == labels).float().mean()
        return torch.stack([softmax_loss, center_loss, loss, right])


def batches(
    mnist: MNIST, batch_size: int, order: str, last_batch: str, seed: int
) -> Callable[[int], tuple[Tensor, Tensor]]:
    """A function from a step to its uint8 images (B, 28, 28) and labels (B,), on the device.

    The training set repeats without end, in the file's order, shuffled once, or shuffled anew for
    each epoch. Any step can be asked for, so a resumed run sees the same batches; the order is
    drawn on the CPU, so every device sees the same ones too.
    """
    size = len(mnist.train_labels)
    device = mnist.train_labels.device

    @lru_cache(maxsize=2)
    def indices(epoch: int) -> Tensor:
        if order == "file":
            return torch.arange(size, device=device)
        drawn = 0 if order == "shuffle_once" else epoch
        generator = torch.Generator().manual_seed((seed << 20) + drawn)
        return torch.randperm(size, generator=generator).to(device)

    def batch(step: int) -> tuple[Tensor, Tensor]:
        position, end = (images_in(k, size, batch_size, last_batch) for k in (step, step + 1))
        parts = []
        while position < end:
            epoch, offset = divmod(position, size)
            parts.append(indices(epoch)[offset : offset + end - position])
            position += len(parts[-1])
        chosen = torch.cat(parts) if len(parts) > 1 else parts[0]
        return mnist.train_images[chosen], mnist.train_labels[chosen]

    return batch


def images_in(steps: int, size: int, batch_size: int, last_batch: str) -> int:
    """Number of images in the first ``steps`` batches of a training set of ``size`` images."""
    if last_batch == "wrap":
        return steps * batch_size
    epochs, more = divmod(steps, math.ceil(size / batch_size))
    return epochs * size + min(more * batch_size, size)


def _scores(split: str, features: Tensor, predictions: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy and compactness of a split, by names that begin with it."""
    scores = {"accuracy": metrics.accuracy(predictions, labels)}
    scores |= metrics.compactness(features, labels, NUM_CLASSES)
    return {f"{split}_{name}": value for name, value in scores.items()}


def _check_finite(losses: Tensor, centers: Tensor, step: int, levers: list[str]) -> None:
    """Raise if one of the losses of the last steps isn't finite, for the first, or a center."""
    values = losses.tolist()
    for at in range(max(0, step - CHECK_EVERY), step):
        for name, value in zip(["softmax", "center"], values[at % CHECK_EVERY], strict=True):
            if not math.isfinite(value):
                raise Diverged(f"the {name} loss is {value}", at, levers)
    if not centers.isfinite().all():
        raise Diverged("a center is NaN or infinite", step, levers)


def _require_same_run(folder: Path, saved: dict[str, Any], asked: dict[str, Any]) -> None:
    # an older checkpoint lacks the arguments that came later: it is of a run with their defaults
    parameters = inspect.signature(train).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    saved = {key: value for key, value in defaults.items() if key in asked} | saved
    different = changes(flatten(saved), flatten(asked))
    if different:
        raise UserError(
            f"{folder / CHECKPOINT} is of another run ({'; '.join(different[:5])}): "
            "train this one from the start with force=true"
        )


def _compiled(
    model: nn.Module,
    embed: Callable[[Network, Tensor], tuple[Tensor, Tensor]],
    examples: list[Tensor],
    say: Callable[[str], None],
) -> Network:
    """The compiled model, or the model itself where it can't be compiled (no C++ compiler, say)."""
    # a short last batch gets a graph of its own, instead of a slower one for every size
    network = torch.compile(model, dynamic=False)
    try:
        for images in examples:  # compilation happens here
            features, logits = embed(network, images)
            (features.sum() + logits.sum()).backward()
    except Exception as error:  # the compilers raise whatever they like
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        say(f"torch.compile doesn't work here, training goes on without it ({reason[:120]})")
        torch.compiler.reset()
        network = model
    model.zero_grad()
    return network
