"""The picture that each run folder gets: its training features beside its test features."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from center_loss.figures import style
from center_loss.runs.contents import load_features
from center_loss.runs.load import has_centers


def draw(folder: Path, metrics: dict[str, Any]) -> Figure:
    """Both splits of the run in ``folder``, with the centers where it had a center loss."""
    arrays = load_features(folder)
    figure = style.figure_of([metrics], figsize=(8.6, 4.5), layout="constrained")
    for ax, split in zip(figure.subplots(1, 2), style.SPLITS, strict=True):
        features, labels = arrays[f"{split}_features"], arrays[f"{split}_labels"]
        style.draw_features(ax, features, labels, "paper")
        style.set_common_limits(ax, arrays, margin=0.04 if has_centers(metrics) else 0.1)
        if has_centers(metrics):
            style.draw_centers(ax, arrays["centers"])
        else:
            style.draw_digits(ax, features, labels)
        ax.set_title(
            f"{style.SPLITS[split]}: accuracy {metrics[f'{split}_accuracy']:.2%}, "
            f"intra/inter {metrics[f'{split}_intra_inter_ratio']:.3f}",
            fontsize=style.TEXT,
        )
    loss = "softmax loss" if metrics["lam"] == 0 else f"λ = {metrics['lam']:g}"
    if metrics["lam"] > 0 and metrics["loss"] not in ("paper", metrics["recipe"]):
        loss = f"{style.center_loss_name(metrics)}, {loss}"
    alpha = "" if metrics["alpha"] is None else f", α = {metrics['alpha']:g}"
    title = f"{metrics['recipe']}: {loss}{alpha}, seed {metrics['seed']}"
    stage = style.stage(metrics)
    figure.suptitle(f"{title} ({stage})" if stage else title, fontsize=style.TEXT + 1)
    style.legend_at_right(figure, "paper", borderpad=1.5)
    return figure
