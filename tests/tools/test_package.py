"""What is built and installed of the project, and what is said about it."""

import re
import shutil
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import center_loss

ROOT = Path(__file__).parents[2]
USE = """
import importlib.util, torch
from center_loss import CenterLoss
criterion = CenterLoss(num_classes=4, feature_dim=2)
loss = criterion(torch.ones(3, 2, requires_grad=True), torch.tensor([0, 0, 1]))
loss.backward()
assert loss.item() == 1 and torch.allclose(criterion.centers[0], torch.tensor(1 / 3))
for name in ("hydra", "matplotlib", "torchvision", "tqdm", "yaml"):
    assert importlib.util.find_spec(name) is None, name
"""


def needed_by(name: str) -> set[str]:
    """A distribution, and those that it needs."""
    found, left = set(), [name]
    while left:
        name = left.pop().lower()
        if name in found:
            continue
        found.add(name)
        for line in metadata.requires(name) or []:
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                left.append(wanted.name)
    return found


@pytest.fixture(scope="module")
def beside_torch_alone(tmp_path_factory) -> Path:
    """The Python of an empty environment with our wheel, and PyTorch and what that needs."""
    folder, source = tmp_path_factory.mktemp("package"), tmp_path_factory.mktemp("source")
    leave = shutil.ignore_patterns("__pycache__")  # a build writes beside what it builds
    shutil.copytree(ROOT / "center_loss", source / "center_loss", ignore=leave)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    done = subprocess.run(
        [*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(source)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    assert wheel.name == f"center_loss-{center_loss.__version__}-py3-none-any.whl"
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv/bin/python"
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", str(wheel)], check=True)
    (inside,) = (folder / "venv/lib").glob("python*/site-packages")
    for name in needed_by("torch"):
        for file in metadata.files(name) or []:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (inside / top).exists():
                outside = metadata.distribution(name).locate_file("")
                (inside / top).symlink_to(Path(str(outside)) / top)
    return python


def test_the_wheel_works_beside_torch_alone(beside_torch_alone, tmp_path):
    done = subprocess.run(
        [beside_torch_alone, "-I", "-c", USE], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_one_version_everywhere():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (version,) = re.findall(r'^version = "(.*)"', project, re.MULTILINE)
    assert version == center_loss.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest, date = re.search(r"^## (\S+) \((.*)\)", changes, re.MULTILINE).groups()
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["version"], str(cited["date-released"])) == (newest, date)
    assert newest == version
    assert cited["license"] == "MIT"
    assert cited["preferred-citation"]["title"].startswith("A Discriminative Feature Learning")


def test_requirements_are_the_packages():
    """requirements.txt pins what pyproject.toml asks for."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"dependencies = \[(.*?)\]", project, re.DOTALL)[1]
    asked = [Requirement(each) for each in re.findall(r'"(.*?)"', listed)]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert {each.name for each in asked} == {each.name for each in pinned}
    for each in asked:
        assert each.specifier.contains(metadata.version(each.name), prereleases=True)
