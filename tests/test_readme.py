"""README.md and README.zh-CN.md say the same: commands, numbers, links; and links lead on."""

import re
from collections import Counter

import pytest
from conftest import ROOT

README, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PAGES = [
    README,
    CHINESE,
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "outputs/reference/README.md",
]


def commands(text: str) -> list[str]:
    """The lines of the code blocks without their comments; but for the list of files, prose."""
    blocks = [block for block in BLOCK.findall(text) if not block.startswith("train.py, ")]
    lines = "".join(blocks).splitlines()
    return [line for line in (re.sub(r"\s*#.*", "", line).rstrip() for line in lines) if line]


def files(text: str) -> list[str]:
    """What the list of files names."""
    (block,) = (block for block in BLOCK.findall(text) if block.startswith("train.py, "))
    return [line[:25].strip() for line in block.splitlines()]  # what is said of it begins there


def inline_code(text: str) -> Counter:
    return Counter(re.findall(r"`([^`\n]+)`", BLOCK.sub("", text)))


def numbers(text: str) -> Counter:
    """All numbers outside of code, with signs and digits grouped as they are printed."""
    prose = re.sub(r"`[^`\n]+`", "", LINK.sub("]", BLOCK.sub("", text)))
    return Counter(re.findall(r"\d+(?:[.,]\d+)*", prose))


def links(text: str) -> Counter:
    """All but that to the other language; the page's own headings are called otherwise there."""
    found = (link for link in LINK.findall(text) if not link.startswith("README"))
    return Counter("#" if link.startswith("#") else link for link in found)


def anchors(text: str) -> set[str]:
    """What GitHub calls a page's headings in links."""
    headings = re.findall(r"^#+ (.*)", BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("what", [commands, files, inline_code, numbers, links])
def test_both_languages_say_the_same(what):
    english, chinese = (what(page.read_text()) for page in (README, CHINESE))
    assert len(english) > 10
    if isinstance(english, Counter):
        assert english - chinese == Counter() and chinese - english == Counter()
    assert english == chinese


def test_they_link_to_each_other():
    assert "(README.zh-CN.md)" in README.read_text() and "(README.md)" in CHINESE.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    targets = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    for target in targets:
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text()), target


def test_the_list_of_files_is_complete():
    named = {name.strip() for line in files(README.read_text()) for name in line.split(",")}
    for module in (ROOT / "center_loss").glob("*.py"):
        assert module.name == "__init__.py" or f"center_loss/{module.name}" in named
    for page in (ROOT / "docs").glob("*.md"):
        assert f"docs/{page.name}" in named
    assert all((ROOT / name).exists() for name in named)


def test_the_first_commands_are_make_targets():
    makefile = (ROOT / "Makefile").read_text()
    first = commands(README.read_text())[:2]
    assert first == ["make figures", "make test"]
    for command in first:
        assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE)
