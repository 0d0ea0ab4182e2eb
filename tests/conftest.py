import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import settings

from center_loss.fetch.mnist import ensure_mnist

ROOT = Path(__file__).parent.parent

settings.register_profile("any machine", deadline=None)  # one that is shared takes its time
settings.load_profile("any machine")

# A shell starts what runs in the background with Ctrl-C ignored, and nohup a closed terminal's
# signal. Tests send both to processes.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a GPU")


def assert_one_line(done: subprocess.CompletedProcess, code: int, *texts: str) -> None:
    """The program ended with this code and one line of error, which holds the texts."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if "Traceback" in done.stderr:
        pytest.fail(f"a traceback: {lines[-1]}")
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr or done.returncode
    assert done.returncode == code, lines[0]
    assert lines[0].removeprefix("error: ").strip()
    assert "(unexpected" not in lines[0]  # a bug's exception, put on one line: nothing was checked
    for text in texts:
        assert text in lines[0]


def assert_told(done: subprocess.CompletedProcess, code: int, *texts: str) -> None:
    """The same, but where the words are Hydra's there may be several lines of them."""
    if "Traceback" in done.stderr:
        pytest.fail(f"a traceback: {done.stderr}")
    assert done.returncode == code, done.stderr
    assert "error: " in done.stderr and "(unexpected" not in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) <= 12, done.stderr
    for text in texts:
        assert text in done.stderr


@pytest.fixture(scope="session")
def mnist_root() -> str:
    """The folder of the real MNIST, fetched if it isn't there."""
    ensure_mnist(ROOT / "data")
    return str(ROOT / "data")


@pytest.fixture(scope="session")
def command():
    """Run train.py or visualize.py as a user does; returns the finished process."""

    def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
        program, *rest = arguments
        return subprocess.run(
            [sys.executable, str(ROOT / program), *map(str, rest)],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=3600,
            stdin=subprocess.DEVNULL,
        )

    return run


def write_run(
    folder: Path,
    lam: float,
    alpha: float | None = 0.5,
    seed: int = 0,
    test_labels: np.ndarray | None = None,
    snapshots: int = 0,
    **config,
) -> Path:
    """Write a run folder with made-up features: ten clusters on a circle, 40 images a digit.

    ``test_labels`` takes the place of the test set's; with ``snapshots`` the test features come
    from the origin in that many steps.
    """
    folder.mkdir(parents=True)
    angle = np.arange(10) * 2 * np.pi / 10
    centers = 50 * np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    rng = np.random.default_rng(seed)
    arrays = {"centers": centers, "weight": centers / 50}
    for split in ("train", "test"):
        labels = np.repeat(np.arange(10, dtype=np.uint8), 40)
        if split == "test" and test_labels is not None:
            labels = test_labels.astype(np.uint8)
        noise = rng.normal(size=(len(labels), 2)).astype(np.float32)
        arrays[f"{split}_features"] = centers[labels] + noise
        arrays[f"{split}_labels"] = labels
        arrays[f"{split}_predictions"] = labels
    np.savez(folder / "features.npz", **arrays)
    if snapshots:
        share = np.linspace(0.1, 1, snapshots, dtype=np.float32)[:, None, None]
        watched = np.arange(0, len(labels), 2)
        np.savez(
            folder / "snapshots.npz",
            steps=10 * np.arange(snapshots),
            accuracy=np.linspace(0.1, 0.9876, snapshots, dtype=np.float32),
            features=share * arrays["test_features"][watched],
            centers=share * centers,
            weight=np.repeat(arrays["weight"][None], snapshots, 0),
            indices=watched,
            labels=labels[watched],
        )
    settings = {
        "recipe": "smoke",
        "model": {"name": "lenetpp", "feature_dim": 2},
        "loss": {"name": "paper", "lam": lam, "alpha": alpha}
        if alpha is not None
        else {"name": "caffe_face", "lam": lam},
        "optimizer": {
            **{"name": "muon", "lr": 0.01, "momentum": 0.95, "weight_decay": 0.0},
            **{"adamw_lr": 0.01, "adamw_beta2": 0.99, "adamw_weight_decay": 0.1},
        },
        "schedule": {"name": "linear", "warmup": 0.1},
        "seed": seed,
        **config,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    metrics = {
        "recipe": "smoke",
        "lam": lam,
        "alpha": alpha if lam > 0 else None,
        "seed": seed,
        **{f"{split}_accuracy": 0.9876 for split in ("train", "test")},
        **{f"{split}_intra_inter_ratio": 0.123 for split in ("train", "test")},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


@pytest.fixture
def make_run(tmp_path):
    """``write_run`` into a folder of runs, by the run's name."""

    def make(name: str, *arguments, **options) -> Path:
        return write_run(tmp_path / "runs" / name, *arguments, **options)

    return make


# ---- pages in a real browser

BROWSER = next(
    filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None
)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")
# A browser looks for updates and the like, which a test has no use for.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
DESKTOP = {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        except Error as error:  # one that is confined to folders of its own, say
            pytest.skip(f"{BROWSER} doesn't start here: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def open_file(browser):
    """Open a page; whatever it says on the console or asks of a network fails the test."""
    pages, problems = [], []

    def open_page(file, size=DESKTOP, **options):
        context = browser.new_context(viewport=size, **options)
        page = context.new_page()
        pages.append(page)
        # that the tests read the canvas is no fault of the page
        page.on("console", lambda message: problems.append(message.text)
                if "willReadFrequently" not in message.text else None)  # fmt: skip
        page.on("pageerror", lambda error: problems.append(str(error)))
        # a worker's program is a blob of the page's own
        page.on("request", lambda request: problems.append(request.url[:80])
                if not request.url.startswith(("file:", "data:", "blob:")) else None)  # fmt: skip
        page.goto(file.as_uri())
        return page

    yield open_page
    assert not problems
    for page in pages:
        page.context.close()


def wait(page, condition):
    """Playwright's own waiting is an eval, which the page's policy doesn't allow."""
    for _ in range(300):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(30)
    pytest.fail(f"it never came to be: {condition}")
