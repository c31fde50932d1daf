"""Tests that the documentation names are there."""

from __future__ import annotations

import re

import pytest
from docpages import DOCS, PROJECT

PAGES = ("faults", "doubt")
NAMED = re.compile(r"`([a-z]+/test_\w+\.py)(?:::(test_\w+))?`")


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_is_named_exists(page: str) -> None:
    """A page that says which test shows something names a module, and a function in it, that are there."""
    named = NAMED.findall((DOCS / "explanation" / f"{page}.md").read_text(encoding="utf-8"))
    assert len(named) > 15
    for module, function in named:
        text = (PROJECT / "tests" / module).read_text(encoding="utf-8")
        assert not function or f"def {function}(" in text, f"{module} has no {function}"


def test_every_fault_names_a_test() -> None:
    """No row of the two tables of faults is without one."""
    text = (DOCS / "explanation" / "faults.md").read_text(encoding="utf-8")
    tables = text.split("## Sending and polling")[1].split("## Every operation")[0]
    rows = [line for line in tables.splitlines() if line.startswith("| ") and not line.startswith("| fault")]
    assert len(rows) == 24
    assert [row for row in rows if not NAMED.search(row)] == []
