"""Fig. 2 of the paper: the features that softmax alone learns fan out as rays."""

from matplotlib.figure import Figure

from center_loss.figures import style
from center_loss.run import Run, load_features


def draw(softmax: Run, split: str, palette: str) -> Figure:
    """Fig. 2 (a), split "train", or (b), split "test", from a run with λ = 0."""
    arrays = load_features(softmax.folder)
    labels = arrays[f"{split}_labels"]
    figure = Figure(figsize=(5.4, 4.8), layout="constrained")
    ax = figure.subplots()
    style.draw_features(ax, arrays[f"{split}_features"], labels, palette)
    ax.set_xlabel(style.AXES_LABELS[0], fontsize=style.TEXT)
    ax.set_ylabel(style.AXES_LABELS[1], fontsize=style.TEXT)
    accuracy = softmax.metrics[f"{split}_accuracy"]
    title = f"Softmax loss, {style.SPLITS[split]}: {len(labels):,} images, accuracy {accuracy:.2%}"
    stage = style.stage(softmax.metrics)
    ax.set_title(f"{title}\n{stage}" if stage else title, fontsize=style.TEXT)
    style.legend_at_right(figure, palette, borderpad=0.8)
    return figure
