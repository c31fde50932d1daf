"""The documentation's code runs as it is printed, against the simulator."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from docpages import DOCS, PROJECT, blocks, run_page

from batchkit import ChunkedSubmitter

TUTORIAL = DOCS / "tutorial" / "day-one.md"
OWN_FOLDER = [PROJECT / "README.md", *sorted((DOCS / "explanation").glob("*.md")), DOCS / "index.md"]
AFTER_DAY_ONE = [page for page in sorted((DOCS / "how-to").glob("*.md")) if page.name != "simulator.md"]


@contextmanager
def _inside(folder: Path, page: Path) -> Iterator[None]:
    """Work in a folder and import from it; a page draws the same nonces every time, so that answers do not vary."""
    before = Path.cwd()
    defaults = ChunkedSubmitter.__init__.__kwdefaults__
    assert defaults is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(defaults, "entropy", random.Random(page.stem).randbytes)
        patch.syspath_prepend(str(PROJECT / "examples"))
        patch.syspath_prepend(str(folder))
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)
            for name in ("catalog", "sqlalchemy_store"):
                sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def day_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a reader has after the tutorial."""
    folder = tmp_path_factory.mktemp("day-one")
    with _inside(folder, TUTORIAL):
        run_page(TUTORIAL, folder)
    return folder


def test_the_tutorial_runs_as_printed(day_one: Path) -> None:
    """Every block of the tutorial runs, prints what the page says, and leaves a promoted catalog."""
    assert {"catalog.py", "products.csv", "enrich.db", "catalog.db", "receipt"} <= {
        p.name for p in day_one.iterdir()
    }


@pytest.mark.parametrize("page", AFTER_DAY_ONE, ids=lambda page: page.stem)
def test_a_how_to_runs_after_the_tutorial(page: Path, day_one: Path) -> None:
    """Each how-to runs, in the folder that the tutorial left, and prints what it says."""
    with _inside(day_one, page):
        run_page(page, day_one)


@pytest.mark.parametrize("page", OWN_FOLDER, ids=lambda page: page.stem)
def test_a_page_that_stands_alone_runs(page: Path, tmp_path: Path) -> None:
    """The README, the home page and the explanations run in an empty folder."""
    with _inside(tmp_path, page):
        run_page(page, tmp_path)


def test_a_block_that_is_not_run_says_why() -> None:
    """No page of the documentation has a Python block that is left out without a reason."""
    pages = [PROJECT / "README.md", *DOCS.rglob("*.md")]
    fences = sum(page.read_text(encoding="utf-8").count("```python") for page in pages)
    assert sum(block.kind == "python" for page in pages for block in blocks(page)) == fences > 20
