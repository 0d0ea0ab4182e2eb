"""CONTRIBUTING.md, followed to the letter; and that imports go the way that it says."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from PIL import Image

PAGE = ROOT / "CONTRIBUTING.md"
# each may import from those before it, and from itself
ORDER = ["base", "science", "runs", "figures", "job", "sweeps", "program", "hydra_plugins"]


def layer(module: str) -> str | None:
    """Of a module, by its dotted name; None of what isn't ours."""
    parts = module.split(".")
    if parts[0] in ("hydra_plugins", "train", "visualize"):
        return "hydra_plugins"
    if parts[0] != "center_loss":
        return None
    if len(parts) > 1 and parts[1] == "fetch":
        return "base"
    return parts[1] if len(parts) > 1 and parts[1] in ORDER else "science"


def imports() -> dict[str, set[str]]:
    """What each of our modules imports of ours, also inside of functions, but for type checkers."""
    paths = [*(ROOT / "center_loss").rglob("*.py"), *(ROOT / "hydra_plugins").glob("*.py")]
    paths += [ROOT / "train.py", ROOT / "visualize.py"]
    names = {}
    for path in paths:
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found = {}
    for name, path in names.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):  # if TYPE_CHECKING: nothing is imported
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                node.body = []
        found[name] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found[name] |= {each.name for each in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                both = {f"{node.module}.{each.name}" for each in node.names}
                found[name] |= {each if each in names else node.module for each in both}
        found[name] = (found[name] & names.keys()) - {name}
    return found


def test_imports_go_one_way():
    found = imports()
    assert len(found) > 40
    for name, others in found.items():
        for other in others:
            assert ORDER.index(layer(other)) <= ORDER.index(layer(name)), f"{name} ← {other}"


def test_no_circle_of_imports():
    """But for figures/__init__.py, which imports a figure when it draws it, and is theirs."""
    found = {
        name: others - {"center_loss.figures"}
        if name.startswith("center_loss.figures.")
        else others
        for name, others in imports().items()
    }
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        assert name not in path, " ← ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in found[name]:
                visit(other, [*path, name])
            done.add(name)

    for name in found:
        visit(name, [])


def test_what_is_installed_lacks_nothing():
    """`pip install .` leaves the programs out, and what they alone need."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    packages = re.findall(
        r'"(center_loss[.\w]*)"', re.search(r"packages = \[(.*?)\]", text, re.S)[1]
    )
    found = imports()
    inside = {name for name in found if name in packages or name.rpartition(".")[0] in packages}
    assert {"center_loss.loss", "center_loss.trainer", "center_loss.figures.fig2"} <= inside
    for name in inside - {"center_loss.job"}:  # the programs' own
        assert found[name] <= inside, name


@pytest.fixture
def copy(tmp_path) -> Path:
    """The project, with the page's files in it and its lines in the tables."""
    for name in ("center_loss", "configs", "hydra_plugins"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "visualize.py"):
        shutil.copy(ROOT / name, tmp_path)
    page = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w+\n# (\S+)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert {name for name, _ in blocks} == {
        "center_loss/ring.py", "configs/loss/ring.yaml", "center_loss/figures/lengths.py"
    }  # fmt: skip
    for name, text in blocks:
        (tmp_path / name).write_text(text, encoding="utf-8")
    lines = re.findall(r"`(\".*?,)` in `(\w+)` of `(\S+)`", page.replace("\n   ", " "))
    assert [table for _, table, _ in lines] == ["DIALECTS", "FIGURES"]
    for line, table, name in lines:
        text = (tmp_path / name).read_text(encoding="utf-8")
        text = re.sub(rf"^{table}\b.*{{.*", rf"\g<0>\n    {line}", text, flags=re.MULTILINE)
        if table == "DIALECTS":
            text = text.replace("\n\n\n", "\n\nfrom center_loss.ring import RingLoss\n\n\n", 1)
        assert line in text
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_a_loss_and_a_figure_as_the_page_says(copy, mnist_root):
    def command(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=copy, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    command(
        "train.py", "-m", "recipe=smoke", "loss=ring", "loss.lam=0,0.1", "loss.radius=5",
        "train.max_steps=4", "data.train_size=300", "data.test_size=200", "train.snapshots=2",
        f"data.root={mnist_root}", "hydra.sweep.dir=runs",
    )  # fmt: skip
    assert "lengths    how long the features are" in command("visualize.py", "--help")
    said = command("visualize.py", "runs=runs")
    assert "left out" not in said.replace("left out: evolution.mp4", "")
    with Image.open(copy / "runs/lengths.png") as picture:
        assert picture.size > (500, 300)
    assert "mean length" in (copy / "runs/lengths.txt").read_text(encoding="utf-8")
    for name in ("fig3_test", "compare"):  # without a center in any word
        text = (copy / f"runs/{name}.txt").read_text(encoding="utf-8")
        assert "loss ring" in text and "center" not in text
    assert "loss.radius" not in (copy / "runs/summary.csv").read_text().splitlines()[0]
