"""What a paper would print below a figure, with the numbers of its runs."""

from center_loss.figures import style
from center_loss.runs.contents import load_features
from center_loss.runs.load import Run

NETWORKS = {"lenetpp": "LeNet++", "lenet": "LeNet"}
RATIO = (
    "intra/inter: the mean distance of a feature to the mean of its class over the smallest "
    "distance of two such means."
)


def fig2(softmax: Run) -> str:
    return _text(
        f"The 2-D features that {_network(softmax)} learns on MNIST with the softmax loss alone: "
        f"(a) {_numbers(softmax, 'train')}; (b) {_numbers(softmax, 'test')}.",
        "One colour a digit.",
        RATIO,
        _training(softmax),
    )


def fig3(joint: list[Run], split: str) -> str:
    panels = [
        ("" if len(joint) == 1 else f"{style.panel_name(k)} ")
        + f"λ = {one.metrics['lam']:g}: {_numbers(one, split)}"
        for k, one in enumerate(joint)
    ]
    return _text(
        f"The 2-D features that {_network(joint[0])} learns on MNIST with the softmax loss and "
        f"λ times the {_center_loss(joint[0])}: {'; '.join(panels)}.",
        "One colour a digit; white dots: the class centers c0 to c9.",
        RATIO,
        *_trainings(joint),
    )


def compare(softmax: Run, joint: Run) -> str:
    return _text(
        f"The 2-D features of MNIST's test set that {_network(softmax)} learns, left with the "
        f"softmax loss alone ({_numbers(softmax, 'test')}), right with λ = "
        f"{joint.metrics['lam']:g} times the {_center_loss(joint)} added "
        f"({_numbers(joint, 'test')}).",
        "Circles: the mean distance of a class's features to their mean. Lines: the mean of "
        "those distances over all features (intra), and the smallest distance of two class means "
        "(inter); the bars below show both with inter as 1.",
        *_trainings([softmax, joint]),
    )


def run_numbers(one: Run) -> str:
    """A run's own numbers on the test set and how it was trained."""
    lam = one.metrics["lam"]
    what = "softmax loss " + (f"+ {lam:g} × {_center_loss(one)}" if lam > 0 else "alone")
    return f"{_network(one)}, {what}; {_numbers(one, 'test')}. {_training(one)}"


def _text(*sentences: str) -> str:
    return " ".join(sentences) + "\n"


def _network(one: Run) -> str:
    name = one.config["model"].get("name", "a network")
    return NETWORKS.get(name, name)


def _center_loss(one: Run) -> str:
    alpha = one.metrics["alpha"]
    return style.center_loss_name(one.metrics) + ("" if alpha is None else f" (α = {alpha:g})")


def _numbers(one: Run, split: str) -> str:
    count = len(load_features(one.folder)[f"{split}_labels"])
    accuracy, ratio = (one.metrics.get(f"{split}_{k}") for k in ("accuracy", "intra_inter_ratio"))
    text = f"{style.SPLITS[split]}, {count:,} images, accuracy {accuracy:.2%}"
    return text if ratio is None else f"{text}, intra/inter {ratio:.3f}"


def _trainings(runs: list[Run]) -> list[str]:
    """How they were trained: once, or of each where they differ."""
    sentences = [_training(one) for one in runs]
    if len(set(sentences)) == 1:
        return sentences[:1]
    pairs = zip(runs, sentences, strict=True)
    return [f"λ = {one.metrics['lam']:g}: {sentence}" for one, sentence in pairs]


def _training(one: Run) -> str:
    """How it was trained, as far as the metrics say it."""
    metrics = one.metrics
    parts = [f"recipe {metrics['recipe']}", f"seed {metrics['seed']}"]
    parts += [f"{metrics['steps']:,} steps"] if metrics.get("steps") else []
    if "diverged_at" in metrics:
        parts[-1] += f" (it diverged at {metrics['diverged_at']:,})"
    conditions = [metrics.get(key) for key in ("device", "hardware", "precision")]
    on = ", ".join(each for each in conditions if each)
    return f"Trained with {', '.join(parts)}" + (f" ({on})." if on else ".")
