"""Fig. 2 of the paper: the features that softmax alone learns fan out as rays."""

from collections.abc import Callable

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from center_loss.figures import Options, captions, choose, style
from center_loss.runs.contents import load_features
from center_loss.runs.load import Run


def in_all(runs: list[Run]) -> bool:
    return True


def files(runs: list[Run], options: Options, say: Callable[[str], None]) -> dict[str, Figure | str]:
    chosen = choose.softmax_alone(runs, "fig2")
    softmax, _ = choose.by_loss(choose.with_2d_features(runs))
    choose.say_others(softmax, [chosen], "fig2", say)
    width = "column" if options.width == "auto" else options.width
    drawn = {f"fig2_{split}": draw(chosen, split, options.palette, width) for split in style.SPLITS}
    return {**drawn, "fig2.txt": caption(chosen)}


def caption(softmax: Run) -> str:
    return captions.text(
        f"The 2-D features that {captions.network(softmax)} learns on MNIST with the softmax loss "
        f"alone: (a) {captions.numbers(softmax, 'train')}; "
        f"(b) {captions.numbers(softmax, 'test')}.",
        "One colour a digit.",
        captions.RATIO,
        captions.training(softmax),
    )


def draw(softmax: Run, split: str, palette: str, width: str = "column") -> Figure:
    """Fig. 2 (a), split "train", or (b), split "test", from a run with λ = 0.

    ``width`` is a key of ``style.WIDTHS``.
    """
    arrays = load_features(softmax.folder)
    features, labels = arrays[f"{split}_features"], arrays[f"{split}_labels"]
    inches = style.WIDTHS[width]
    size = (inches, 0.85 * inches)
    figure = style.figure_of([softmax.metrics], figsize=size, layout="constrained")
    ax = figure.subplots()
    style.draw_features(ax, features, labels, palette)
    style.draw_digits(ax, features, labels)
    style.set_common_limits(ax, arrays, margin=0.1)  # room for the digits
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    ax.set_xlabel(style.AXES_LABELS[0], fontsize=style.TEXT)
    ax.set_ylabel(style.AXES_LABELS[1], fontsize=style.TEXT)
    title = f"Softmax loss, {style.SPLITS[split]}"
    if width == "page":
        title += f": {len(labels):,} images, accuracy {softmax.metrics[f'{split}_accuracy']:.2%}"
    stage = style.stage(softmax.metrics)
    ax.set_title(f"{title}\n{stage}" if stage else title, fontsize=style.TEXT)
    style.legend_at_right(figure, palette, borderpad=0.4 if width == "column" else 0.8)
    return figure
