"""What the captions of several figures say of a run."""

from center_loss.figures import style
from center_loss.runs.contents import load_features
from center_loss.runs.load import Run

NETWORKS = {"lenetpp": "LeNet++", "lenet": "LeNet"}
RATIO = (
    "intra/inter: the mean distance of a feature to the mean of its class over the smallest "
    "distance of two such means."
)


def run_numbers(one: Run) -> str:
    """A run's own numbers on the test set and how it was trained."""
    lam = one.metrics["lam"]
    what = "softmax loss " + (f"+ {lam:g} × {center_loss(one)}" if lam > 0 else "alone")
    return f"{network(one)}, {what}; {numbers(one, 'test')}. {training(one)}"


def run_numbers_zh(one: Run) -> str:
    """The same in Chinese."""
    metrics, lam = one.metrics, one.metrics["lam"]
    what = f"softmax + {lam:g} × {center_loss(one)}" if lam > 0 else "仅 softmax"
    count, accuracy, ratio = _scores(one, "test")
    parts = [f"测试集 {count:,} 张图像", f"准确率 {accuracy:.2%}"]
    parts += [] if ratio is None else [f"intra/inter {ratio:.3f}"]
    trained = [f"配方 {metrics['recipe']}", f"随机种子 {metrics['seed']}"]
    trained += [f"{metrics['steps']:,} 步"] if metrics.get("steps") else []
    if "diverged_at" in metrics:
        trained[-1] += f"（在第 {metrics['diverged_at']:,} 步发散）"
    on = _conditions(one)
    how = "，".join(trained) + (f"（{on}）" if on else "")
    return f"{network(one)}，{what}；{'，'.join(parts)}。训练：{how}。"


def text(*sentences: str) -> str:
    return " ".join(sentences) + "\n"


def network(one: Run) -> str:
    name = one.config["model"].get("name", "a network")
    return NETWORKS.get(name, name)


def center_loss(one: Run) -> str:
    alpha = one.metrics["alpha"]
    return style.center_loss_name(one.metrics) + ("" if alpha is None else f" (α = {alpha:g})")


def numbers(one: Run, split: str) -> str:
    count, accuracy, ratio = _scores(one, split)
    text = f"{style.SPLITS[split]}, {count:,} images, accuracy {accuracy:.2%}"
    return text if ratio is None else f"{text}, intra/inter {ratio:.3f}"


def _scores(one: Run, split: str) -> tuple[int, float, float | None]:
    """Number of images, accuracy and intra/inter."""
    count = len(load_features(one.folder)[f"{split}_labels"])
    return count, one.metrics[f"{split}_accuracy"], one.metrics.get(f"{split}_intra_inter_ratio")


def trainings(runs: list[Run]) -> list[str]:
    """How they were trained: once, or of each where they differ."""
    sentences = [training(one) for one in runs]
    if len(set(sentences)) == 1:
        return sentences[:1]
    pairs = zip(runs, sentences, strict=True)
    return [f"λ = {one.metrics['lam']:g}: {sentence}" for one, sentence in pairs]


def training(one: Run) -> str:
    """How it was trained, as far as the metrics say it."""
    metrics = one.metrics
    parts = [f"recipe {metrics['recipe']}", f"seed {metrics['seed']}"]
    parts += [f"{metrics['steps']:,} steps"] if metrics.get("steps") else []
    if "diverged_at" in metrics:
        parts[-1] += f" (it diverged at {metrics['diverged_at']:,})"
    on = _conditions(one)
    return f"Trained with {', '.join(parts)}" + (f" ({on})." if on else ".")


def _conditions(one: Run) -> str:
    conditions = [one.metrics.get(key) for key in ("device", "hardware", "precision")]
    return ", ".join(each for each in conditions if each)
