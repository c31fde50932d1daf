"""Ctrl-C at any line of a pass: the lease is free again, and nothing is lost or paid twice."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from shop import Shop

import batchkit
from batchkit.run import Run

PARTS = {
    str(Path(batchkit.__file__).parent / f"{name}.py")
    for name in (
        "collector mover polling reading recording requests resolver sendguard spending submitter troubles twins watcher"
    ).split()
}


def traced(what: Callable[[], object], at: int | None) -> tuple[int, str]:
    """Count the lines of the moving parts that run; interrupt before the one of number ``at``, and say where."""
    lines, where = 0, ""

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal lines, where
        if frame.f_code.co_filename not in PARTS:
            return None
        if event == "line":
            lines += 1
            if lines == at:
                where = frame.f_code.co_name
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        what()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return lines, where


def passes(run: Run[Any], shop: Shop, count: int = 4) -> None:
    """Send, wait, collect: what a small run takes."""
    for _ in range(count):
        progress = run.advance()
        if progress.wake_at is not None and not progress.done:
            shop.opened[0].clock.sleep(max(progress.wake_at - shop.opened[0].clock.now(), 1.0))


def total(folder: Path) -> int:
    folder.mkdir()
    shop = Shop(folder)
    run = shop.start(rows=3)
    lines, _ = traced(lambda: passes(run, shop), None)
    shop.close()
    return lines


@pytest.mark.parametrize("first", [1, 54])
def test_an_interrupt_at_any_line_costs_nothing(tmp_path: Path, first: int) -> None:
    """Wherever a person interrupts, the lease is let go, and the next wait answers every row and pays it once."""
    for at in range(first, total(tmp_path / "whole"), 106):
        folder = tmp_path / str(at)
        folder.mkdir()
        shop = Shop(folder)
        run = shop.start(rows=3)
        _, where = traced(partial(passes, run, shop), at)
        # Between taking the lease and the block that lets it go there is a line; then the lease runs out.
        assert where == "advance" or run._store.holder(run.record.id) is None, at
        assert run.wait(progress="none").done, at
        assert run.rows(outcome="succeeded").keys() == ["S0000", "S0001", "S0002"], at
        assert shop.paid == 3, at
        assert run.reconcile().balanced, at
        shop.close()
