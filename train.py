"""Train one model, or with -m or experiment=… several. `python train.py --help` lists the keys."""

import contextlib
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from center_loss import cli
from center_loss.errors import UsageError, UserError


@hydra.main(version_base="1.3", config_path="configs", config_name="train")
@cli.catching
def program(config: DictConfig) -> None:
    values = OmegaConf.to_container(config, resolve=True)
    if HydraConfig.get().mode == RunMode.RUN:
        train_one(values)
        return
    sweep = HydraConfig.get().sweep
    folder = Path(sweep.dir) / sweep.subdir  # as it was typed: runs keep no path of this machine
    if values["output_dir"] is not None:
        cli.remove_if_empty(folder)
        print(
            "error: output_dir is for a single run; a multirun's folder is hydra.sweep.dir=FOLDER",
            file=sys.stderr,
        )
        sys.exit(UsageError.exit_code)
    try:
        train_one({**values, "output_dir": str(folder)})
    except UserError as error:
        cli.remove_if_empty(folder)
        raise type(error)(f"{folder.name}: {error}") from error


def train_one(values: dict) -> None:
    """Train one model with the values of a composed configuration, unless it is finished."""
    from center_loss import settings as check
    from center_loss.device import (
        keep_freed_memory,
        resolve_compile,
        resolve_device,
        resolve_precision,
    )

    settings = check.train_settings(values)
    device = resolve_device(settings["device"])
    folder = Path(settings["output_dir"])

    from center_loss import figures, run
    from center_loss.data import load_mnist
    from center_loss.training import train

    if not settings["force"] and run.is_finished_as(folder, settings):
        print(f"{folder}: finished already, skipped (force=true trains it anew)")
        return
    data, loss, length = settings["data"], settings["loss"], settings["train"]
    if device.type == "cpu":
        keep_freed_memory()
    mnist = load_mnist(data["root"], data["train_size"], data["test_size"], device)
    run.begin(folder, settings)
    max_steps = check.max_steps(settings)
    images = max_steps * length["batch_size"]
    try:
        metrics = train(
            folder,
            mnist,
            model=settings["model"],
            lam=loss["lam"],
            lam_warmup=loss["lam_warmup"],
            center_loss=check.center_loss_arguments(settings),
            max_steps=max_steps,
            batch_size=length["batch_size"],
            clip_norm=length["clip_norm"],
            snapshots=length["snapshots"],
            optimizer=settings["optimizer"],
            schedule=settings["schedule"],
            pixel_mean=data["pixel_mean"],
            pixel_std=data["pixel_std"],
            order=data["order"],
            last_batch=length["last_batch"],
            seed=settings["seed"],
            precision=resolve_precision(settings["precision"], device),
            compile=resolve_compile(settings["compile"], device, images),
        )
        metrics |= {
            "recipe": settings["recipe"],
            "loss": loss["name"],
            "lam": loss["lam"],
            "alpha": loss["alpha"] if loss["lam"] > 0 else None,
            "seed": settings["seed"],
        }
        if settings["model"]["feature_dim"] == 2:
            figures.draw_run(folder, metrics)
        run.finish(folder, metrics)
    except UserError as error:
        with contextlib.suppress(UserError):  # on a full disk this can't be written either
            run.save_failure(folder, cli.one_line(error))
        raise
    print(
        f"{folder}: test accuracy {metrics['test_accuracy']:.2%}, "
        f"intra/inter {metrics['test_intra_inter_ratio']:.3f}, "
        f"{metrics['images_per_second']:,.0f} images/s, {metrics['wall_seconds']:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(
        cli.main(
            program,
            "interrupted: the same command goes on from the last checkpoint, if there is one "
            "(without force=true, which starts anew)",
        )
    )
