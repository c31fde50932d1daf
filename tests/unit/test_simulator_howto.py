"""The guide to the simulator runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs

from batchkit.testing import Settings

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "simulator.md"


def test_the_guide_runs_as_printed() -> None:
    """Every Python block of the guide runs, one after the other, and its assertions hold."""
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) > 3
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), names)


def test_the_guide_names_every_setting() -> None:
    """Each setting of the simulator that a test may want is in the guide."""
    text = GUIDE.read_text(encoding="utf-8")
    named_elsewhere = {"workspace", "organization"}
    assert [
        field.name
        for field in attrs.fields(Settings)
        if field.name not in named_elsewhere and field.name not in text
    ] == []
