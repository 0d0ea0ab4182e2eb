"""HTML files that need nothing else: their markup, style, words and programs, put together.

What lies here beside each page's own files are the parts that pages share. A program's parts share
one scope, in the order in which a page names them.
"""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent


def put_together(page: str, styles: Sequence[str], scripts: Sequence[str], data: Any) -> str:
    """A page's HTML.

    Args:
        page: the name of its markup, ``page.html``, which goes into the body of ``shell.html``, and
            of its words, ``page.json``.
        styles: names of style sheets, here without their suffix.
        scripts: the same of JavaScript files; the first may use what the last says, when called.
        data: what the program finds as ``DATA``; as JSON has it.

    Returns:
        the text of the file; whatever strings ``data`` has, they can't end its script.
    """
    text = markup(page)
    words = json.loads((HERE / f"{page}.json").read_text("utf-8"))
    for mark, content in [
        ("/*STYLE*/", "".join((HERE / f"{name}.css").read_text("utf-8") for name in styles)),
        ("/*SCRIPT*/", "\n".join((HERE / f"{name}.js").read_text("utf-8") for name in scripts)),
        ("/*WORDS*/", _as_script(words)),
        ("/*DATA*/", _as_script(data)),  # the last: a mark in a run's name stays as it is
    ]:
        text = text.replace(mark, content)
    return text


def markup(page: str) -> str:
    """A page's HTML with marks for what ``put_together`` fills in."""
    shell = (HERE / "shell.html").read_text("utf-8")
    return shell.replace("/*BODY*/", (HERE / f"{page}.html").read_text("utf-8"))


def as_base64(array: np.ndarray) -> str:
    """An array's bytes, for ``data``."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _as_script(value: Any) -> str:
    # "</script>" in a string would end the script
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
