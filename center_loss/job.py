"""One run from its configuration to its finished folder, in this process or as a job of a sweep."""

import contextlib
import ctypes
import os
import platform
import signal
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from center_loss.base import checks, signals, start
from center_loss.base.checks import device_name, one_of, or_null, path, text
from center_loss.base.errors import UserError, is_out_of_memory, one_line, reason
from center_loss.base.signals import Interrupted
from center_loss.runs import contents, files
from center_loss.runs.checkpoint import has_checkpoint
from center_loss.runs.folder import Folder, begin, finish, held, is_finished_as, save_failure


@dataclass(frozen=True)
class Place:
    """Where and whether a run is trained, whatever it is."""

    device: Annotated[str, device_name] = "auto"
    compile: Annotated[str, one_of("auto", "true", "false")] = "auto"
    deterministic: bool = False
    output_dir: Annotated[str | None, or_null(path)] = None
    force: bool = False
    experiment: Annotated[str | None, or_null(text)] = None


@dataclass(frozen=True)
class DataPlace:
    """Where MNIST lies: ``root/MNIST/raw``."""

    root: Annotated[str, path] = "data"


def checked(config: dict[str, Any]) -> dict[str, Any]:
    """A composed configuration with each value as its type has it, ``output_dir`` filled in.

    Raises:
        UsageError: names the first key that is wrong, its value and what is allowed.
    """
    from center_loss.recipe import Recipe

    given = Recipe.as_given(config)
    given.check()
    values = given.config()
    rest = {key: value for key, value in config.items() if key not in values}
    place = checks.checked(Place, rest, "", beside=values)
    root = {key: value for key, value in config.get("data", {}).items() if key == "root"}
    values["data"] |= checks.checked(DataPlace, root, "data.")
    if place["output_dir"] is None:
        place["output_dir"] = str(Path("outputs/runs") / given.recipe / _name(given))
    return values | place


def _name(given: Any) -> str:
    """What the folder of a recipe is called, unless it is said."""
    from center_loss.dialects import DIALECTS

    loss = given.loss
    parts = [f"lam{loss.lam:g}"]
    parts += [f"alpha{loss.arguments['alpha']:g}"] if "alpha" in loss.arguments else []
    parts += [f"seed{given.seed}"]
    own = given.recipe if given.recipe in DIALECTS else "paper"
    return "-".join(parts + ([] if loss.name == own else [loss.name]))


class Outcome(NamedTuple):
    """How a job ended: its exit code, and in one line what came out, or why nothing did."""

    code: int
    text: str = ""


def train_one(values: dict[str, Any], reports: bool = False) -> str:
    """Train one model with the values of a composed configuration, unless it is finished.

    ``reports``: to leave word of its progress in the folder. Returns what came out, in a line that
    is printed as well.

    Raises:
        UsageError: a value is wrong, or the folder holds a run of another configuration.
        UserError: training diverged, or data, device or disk stood in the way.
    """
    from center_loss.base.device import left_as_it_was  # imports torch

    config = checked(values)
    with left_as_it_was():
        said = _train(config, reports)
    print(f"{config['output_dir']}: {said}")
    return said


def _train(config: dict[str, Any], reports: bool) -> str:
    from center_loss.base import device as machine
    from center_loss.data import DATASETS
    from center_loss.recipe import Recipe
    from center_loss.runs.progress import Reporter
    from center_loss.trainer import Diverged

    if config["deterministic"]:
        machine.be_deterministic()
    device = machine.resolve_device(config["device"])
    folder, recipe = Path(config["output_dir"]), Recipe.of(config)
    if not config["force"] and is_finished_as(folder, recipe):
        return "finished already, skipped (force=true trains it anew)"
    if device.type == "cpu" and not start.in_anothers_process:
        machine.keep_freed_memory()
    data = recipe.data
    mnist = DATASETS[data.name](config["data"]["root"], data.train_size, data.test_size, device)
    images = recipe.max_steps * recipe.train.batch_size
    compile = machine.resolve_compile(config["compile"], device, images)
    with held(folder):
        if not config["force"] and is_finished_as(folder, recipe):
            return "another process has just finished it"
        begin(folder, config)
        record = Folder(folder, report=Reporter(folder)) if reports else Folder(folder)
        try:
            metrics = _trained(recipe, mnist, record, compile=compile)
            _draw(folder, metrics, recipe)
            finish(folder, metrics)
        except Exception as error:
            with contextlib.suppress(UserError):  # on a full disk this can't be written either
                save_failure(folder, reason(error))
            if isinstance(error, Diverged) and has_checkpoint(folder):
                with contextlib.suppress(Exception):  # what is to be told is the divergence
                    _show_last_checkpoint(folder, mnist, recipe, error.step)
            raise
    return (
        f"test accuracy {metrics['test_accuracy']:.2%}, "
        f"intra/inter {metrics['test_intra_inter_ratio']:.3f}, "
        f"{metrics['images_per_second']:,.0f} images/s, {metrics['wall_seconds']:.0f} s"
    )


def _trained(recipe: Any, mnist: Any, record: Folder, **options: Any) -> dict[str, Any]:
    """Train into the folder; returns the metrics, with those of the recipe that tables show."""
    from center_loss.base.device import resolve_precision
    from center_loss.training import train

    precision = resolve_precision(recipe.precision, mnist.train_images.device)
    loss = recipe.loss
    return train(recipe, mnist, record, precision=precision, say=record.say, **options) | {
        "recipe": recipe.recipe,
        "loss": loss.name,
        "lam": loss.lam,
        "alpha": loss.arguments.get("alpha") if loss.lam > 0 else None,
        "seed": recipe.seed,
    }


def _show_last_checkpoint(folder: Path, mnist: Any, recipe: Any, step: int) -> None:
    """Write what figures need of the last checkpoint of a run that diverged at ``step``."""
    metrics = _trained(recipe, mnist, Folder(folder, say=lambda _: None), evaluate_only=True)
    metrics["diverged_at"] = step
    _draw(folder, metrics, recipe)
    files.write_text(folder / files.DIVERGED, contents.as_json(metrics))
    print(f"{folder}: its figure shows step {metrics['steps']:,}, the last that was saved")


def _draw(folder: Path, metrics: dict[str, Any], recipe: Any) -> None:
    """Draw the run's own picture. One that can't be drawn isn't worth a training."""
    if recipe.model.arguments["feature_dim"] != 2:
        return
    try:
        from center_loss import figures

        figures.draw_run(folder, metrics)
    except Exception as error:
        with contextlib.suppress(OSError):
            (folder / files.FIGURE).unlink(missing_ok=True)  # it would be an earlier start's
            print(f"{folder}: {files.FIGURE} can't be drawn ({reason(error)})", file=sys.stderr)


def train_alone(config: dict[str, Any], threads: int | None) -> Outcome:
    """Train one run in a process that does nothing else; what it prints goes into its log.

    Whatever goes wrong is the outcome's reason.

    Args:
        config: what ``checked`` returned.
        threads: for PyTorch on the CPU, which must not be imported yet; None leaves them alone.
    """
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    folder = Path(config["output_dir"])
    log = folder / files.LOG
    began_before = log.exists()
    start.printable()
    try:
        with _printing_to(log), signals.raised():
            try:
                return Outcome(0, train_one(config, reports=True))
            except Interrupted as stopped:
                print(str(stopped) or "interrupted")
                sys.exit(stopped.exit_code)
            except Exception as error:
                outcome = Outcome(getattr(error, "exit_code", 1), reason(error))
                if isinstance(error, UserError | OSError) or is_out_of_memory(error):
                    print(f"error: {outcome.text}", file=sys.stderr)
                else:  # a bug
                    traceback.print_exc()
                    outcome = Outcome(1, f"{outcome.text} (the traceback is in {log})")
        if not (began_before or (folder / files.CONFIG).exists()):  # it never began
            with contextlib.suppress(OSError):
                log.unlink()
                folder.rmdir()
    except OSError as error:  # the log can't be written
        outcome = Outcome(1, one_line(error))
    return outcome


def die_with(parent: int) -> None:
    """End this process when the one that started it ends, however it does. On Linux alone."""
    if platform.system() == "Linux":
        PR_SET_PDEATHSIG = 1  # of prctl.h
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before
            sys.exit(1)


@contextlib.contextmanager
def _printing_to(path: Path) -> Iterator[None]:
    """Append all that this process prints, and what C libraries print, to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush(), sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    with open(path, "ab") as file:
        os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        for number, copy in enumerate(before, start=1):
            os.dup2(copy, number)
            os.close(copy)
