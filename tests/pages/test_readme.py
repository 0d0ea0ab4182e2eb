"""What is there in two languages says the same: commands, numbers, links; and links lead on."""

import re
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT

README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
CHINESE = sorted([ROOT / "README.zh-CN.md", *(ROOT / "docs").glob("*.zh-CN.md")])
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PAGES = [
    README,
    ROOT / "README.zh-CN.md",
    CONTRIBUTING,
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "outputs/reference/README.md",
]


def english(page: Path) -> Path:
    return page.with_name(page.name.replace(".zh-CN", ""))


def commands(text: str) -> list[str]:
    """The lines of the code blocks without their comments."""
    lines = "".join(BLOCK.findall(text)).splitlines()
    return [line for line in (re.sub(r"\s*#.*", "", line).rstrip() for line in lines) if line]


def files() -> list[str]:
    """What the list of files names."""
    blocks = BLOCK.findall(CONTRIBUTING.read_text())
    (block,) = (block for block in blocks if block.startswith("train.py, "))
    return [line[:25].strip() for line in block.splitlines()]  # what is said of it begins there


def inline_code(text: str) -> Counter:
    return Counter(re.findall(r"`([^`\n]+)`", BLOCK.sub("", text)))


def numbers(text: str) -> Counter:
    """All numbers outside of code, with signs and digits grouped as they are printed."""
    prose = re.sub(r"`[^`\n]+`", "", LINK.sub("]", BLOCK.sub("", text)))
    return Counter(re.findall(r"\d+(?:[.,]\d+)*", prose))


def links(text: str) -> Counter:
    """All, to the English pages; the pages' own headings are called otherwise in Chinese."""
    found = (link.replace(".zh-CN", "") for link in LINK.findall(text))
    own = ("#", "README.md", "../README.md#", "questions.md", "runs.md")
    return Counter("#" if link.startswith(own) else link for link in found)


def anchors(text: str) -> set[str]:
    """What GitHub calls a page's headings in links."""
    headings = re.findall(r"^#+ (.*)", BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.name)
@pytest.mark.parametrize("what", [commands, inline_code, numbers, links])
def test_both_languages_say_the_same(page, what):
    theirs, ours = (what(each.read_text()) for each in (english(page), page))
    if isinstance(theirs, Counter):
        assert theirs - ours == Counter() and ours - theirs == Counter()
    assert theirs == ours
    assert len(theirs) > 10 or page.parent != ROOT


def test_there_are_two_languages():
    assert [page.name for page in CHINESE] == [
        "README.zh-CN.md", "questions.zh-CN.md", "runs.zh-CN.md",
    ]  # fmt: skip
    for page in CHINESE:
        assert f"({page.name})" in english(page).read_text()
        assert f"({english(page).name})" in page.read_text()


def test_the_readme_is_short():
    for page in (README, ROOT / "README.zh-CN.md"):
        assert len(page.read_text().splitlines()) <= 180


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    targets = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    for target in targets:
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text()), target


def test_the_list_of_files_is_complete():
    named = {name.strip() for line in files() for name in line.split(",")}
    for module in (ROOT / "center_loss").glob("*.py"):
        assert module.name == "__init__.py" or f"center_loss/{module.name}" in named
    for page in (ROOT / "docs").glob("*.md"):
        assert f"docs/{english(page).name}" in named
    assert all((ROOT / name).exists() for name in named)


def test_the_first_commands_are_make_targets():
    makefile = (ROOT / "Makefile").read_text()
    first = commands(README.read_text())[:2]
    assert first == ["make figures", "make test"]
    for command in first:
        assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE)
