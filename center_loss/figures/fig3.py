"""Fig. 3 of the paper: with the center loss the rays become clusters, the tighter the larger λ."""

import math
from collections.abc import Callable

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from center_loss.figures import Options, captions, choose, style
from center_loss.runs.contents import load_features
from center_loss.runs.load import Run


def in_all(runs: list[Run]) -> bool:
    return True


def files(runs: list[Run], options: Options, say: Callable[[str], None]) -> dict[str, Figure | str]:
    joint = choose.with_center_loss(runs, "fig3")
    chosen = choose.differing_in_lam(joint)
    choose.say_others(joint, chosen, "fig3", say)
    width = "page" if options.width == "auto" else options.width
    drawn = {f"fig3_{split}": draw(chosen, split, options.palette, width) for split in style.SPLITS}
    return {**drawn, **{f"fig3_{split}.txt": caption(chosen, split) for split in style.SPLITS}}


def caption(joint: list[Run], split: str) -> str:
    panels = [
        ("" if len(joint) == 1 else f"{style.panel_name(k)} ")
        + f"λ = {one.metrics['lam']:g}: {captions.numbers(one, split)}"
        for k, one in enumerate(joint)
    ]
    centers = "; white dots: the class centers c0 to c9" if joint[0].has_centers else ""
    return captions.text(
        f"The 2-D features that {captions.network(joint[0])} learns on MNIST with the softmax loss "
        f"and λ times the {captions.center_loss(joint[0])}: {'; '.join(panels)}.",
        f"One colour a digit{centers}.",
        captions.RATIO,
        *captions.trainings(joint),
    )


def draw(joint: list[Run], split: str, palette: str, width: str = "page") -> Figure:
    """Fig. 3 for the split "train" or "test": a panel for each run, in the order given.

    ``width`` is a key of ``style.WIDTHS``.
    """
    columns = math.ceil(math.sqrt(len(joint)))
    columns = min(columns, 2) if width == "column" else columns
    rows = math.ceil(len(joint) / columns)
    inches = style.WIDTHS[width]
    panel = (inches - 0.2) / columns
    small = panel < 2.4  # no room for more than λ above a panel
    text = style.TINY if small else style.TEXT
    layout = ConstrainedLayoutEngine(h_pad=0.04 if small else 0.08, w_pad=0.04 if small else 0.06)
    size = (inches, panel * rows + 0.65)
    figure = style.figure_of([one.metrics for one in joint], figsize=size, layout=layout)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat[len(joint) :]:
        ax.set_axis_off()
    for k, (ax, one) in enumerate(zip(axes.flat, joint, strict=False)):
        arrays = load_features(one.folder)
        features, labels = arrays[f"{split}_features"], arrays[f"{split}_labels"]
        style.draw_features(ax, features, labels, palette)
        if one.has_centers:
            style.draw_centers(ax, arrays["centers"], small=small)
        else:
            style.draw_digits(ax, features, labels)
        room = small or not one.has_centers  # for the names
        style.set_common_limits(ax, arrays, margin=0.1 if room else 0.04)
        if small:
            ax.tick_params(labelsize=text, length=2, pad=2)
        title = "" if len(joint) == 1 else f"{style.panel_name(k)} "
        title += f"λ = {one.metrics['lam']:g}"
        title += "" if small else f", accuracy {one.metrics[f'{split}_accuracy']:.2%}"
        stage = style.stage(one.metrics)
        ax.set_title(f"{title}\n{stage}" if stage else title, fontsize=text)
        if k + columns >= len(joint):
            ax.set_xlabel(style.AXES_LABELS[0], fontsize=text)
        if k % columns == 0:
            ax.set_ylabel(style.AXES_LABELS[1], fontsize=text)
    alpha = joint[0].metrics["alpha"]
    what = f"Softmax + {style.center_loss_name(joint[0].metrics)}"
    what += "" if alpha is None else f", α = {alpha:g}"
    figure.suptitle(f"{what}, {style.SPLITS[split]}", fontsize=text + 1.5 if small else text + 1)
    figure.legend(
        handles=style.legend_handles(palette),
        loc="outside lower center",
        ncols=10 if inches > 5 else 5,
        fontsize=text,
        frameon=False,
        handletextpad=0.0,
        columnspacing=1.0,
    )
    return figure
