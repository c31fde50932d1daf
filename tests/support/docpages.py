"""Documentation pages as programs: their code blocks, run in order, and what they say is printed."""

from __future__ import annotations

import contextlib
import io
import linecache
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"

NOT_RUN = (
    *("a fragment", "needs a clone", "needs a cluster", "needs a key"),
    *("needs Airflow", "needs pandas", "needs fastapi", "needs PostgreSQL"),
    *("runs until it is stopped", "waits for cron"),
)
"""Why a block may stay unrun: the words of the comment above it, ``<!-- not run: needs a key -->``."""

_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>[^\n]*?) -->\n)?```(?P<kind>[a-z]+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


_OURS = re.compile(r"\$ python (?:-m batchkit |\S+\.py\b)")
"""Commands that a page's reader types in the folder of the page."""


class Block(NamedTuple):
    """A fenced block. ``title`` names the file it is to be saved as; ``why`` says why it is not run."""

    kind: str
    text: str
    line: int
    title: str = ""
    why: str = ""


def blocks(page: Path) -> Iterator[Block]:
    """Give the fenced blocks of a page in order."""
    text = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("text")) + 1
        yield Block(found["kind"], found["text"], line, found["title"] or "", found["why"] or "")


def run_page(page: Path, folder: Path) -> int:
    """Run a page's Python blocks in ``folder``, which must be the current directory; give how many ran.

    A block with a title is saved as that file instead. Commands of batchkit and scripts in a console block are
    run too, and end with 0. A text block after either is what that one prints, figures, digests and paths aside;
    ``...`` stands for any lines.
    """
    names: dict[str, Any] = {"__name__": page.stem}
    ran, printed, ended = 0, "", False
    for block in blocks(page):
        if block.why:
            assert block.why in NOT_RUN, (
                f"{page.name}:{block.line}: {block.why!r} is no reason to leave a block unrun"
            )
            ended = False
        elif block.kind == "python" and block.title:
            (folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.kind == "python":
            printed, ended = _run(page, block, names), True
            ran += 1
        elif block.kind == "console":
            printed, ended = "".join(_typed(page, block, folder)), True
        elif block.kind == "text" and ended:
            pattern, shown = _pattern(block.text), masked(printed)
            assert re.fullmatch(pattern, "\n" + shown), (
                f"{page.name}:{block.line} says\n{masked(block.text)}\nand this is printed\n{shown}"
            )
            ended = False
    return ran


def _run(page: Path, block: Block, names: dict[str, Any]) -> str:
    # Lambdas in a spec stand for themselves by their source, so it must be found; lines are those of the page.
    source = "\n" * (block.line - 1) + block.text
    linecache.cache[f"{page.name}:{block.line}"] = (
        len(source), None, source.splitlines(keepends=True), f"{page.name}:{block.line}",
    )  # fmt: skip
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(source, f"{page.name}:{block.line}", "exec", dont_inherit=True), names)
    return out.getvalue()


def _typed(page: Path, block: Block, folder: Path) -> Iterator[str]:
    for line in block.text.splitlines():
        if _OURS.match(line):
            command = [sys.executable, *shlex.split(line)[2:]]
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, check=False, timeout=120
            )
            assert done.returncode == 0, f"{page.name}:{block.line}: {line}\n{done.stdout}{done.stderr}"
            yield done.stdout


def masked(text: str) -> str:
    """Give a text without what differs from run to run: figures, digests, paths, the blanks of columns."""
    text = re.sub(r"sqlite:\S+#", "sqlite:PATH#", text)
    text = re.sub(r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{6,64}\b", "#", text)
    text = re.sub(r"\d(?:[\d,]*\d)?(?:\.\d+)?", "#", text)
    return "\n".join(re.sub(r"[ \t]+", " ", line).strip() for line in text.strip().splitlines())


def _pattern(text: str) -> str:
    pattern = "\n" + "\n".join(re.escape(line) for line in masked(text).split("\n"))
    return pattern.replace("\n" + re.escape("..."), r"(?:\n[^\n]*)*").replace(re.escape("..."), "[^\n]*")
