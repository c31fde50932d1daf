"""What a pass reports: states, exit codes, and the text that people read."""

from __future__ import annotations

import json
import logging
import sys
from decimal import Decimal
from types import ModuleType, SimpleNamespace
from typing import Any

import attrs
import pytest

from batchkit import display
from batchkit.ids import Digest
from batchkit.model import NANO, Need, Tally
from batchkit.printing import dollars, printable
from batchkit.progress import Lockmark, Progress
from batchkit.reasons import Reason
from batchkit.states import RowState, RunState

PERSON = Need(who="person", why="look", fix="do this", code="x")
MONEY = Need(who="money", why="pay", fix="do that", code="y")


def progress(**changes: Any) -> Progress:
    made = Progress(
        name="nightly#42",
        state="waiting",
        run_state=RunState.OPEN,
        moved=True,
        wake_at=1_790_000_000.0,
        rows=600,
        tally=Tally(
            counts={
                (RowState.SUCCEEDED, None, 0): 399,
                (RowState.SUBMITTED, None, 0): 150,
                (RowState.PENDING, Reason.OUTPUT_SCHEMA, 1): 49,
                (RowState.HUMAN, Reason.OUTPUT_SPARSE, 0): 1,
                (RowState.QUARANTINED, Reason.INPUT_MISSING_KEY, 0): 1,
            }
        ),
        spent=152_800_000_000,
        reserved=182_100_000_000,
        cap=400 * NANO,
        needs=(),
        lock=Lockmark(spec=Digest("91c07d" + "0" * 58), by="reviewer-1", rows=100, share=0.97),
        batches_ended=4,
        batches_running=2,
        batches_doubtful=1,
        oldest_sent_at=1_790_000_000.0 - 41 * 60,
        hard_end_at=1_790_000_000.0 + 23 * 3_600 + 19 * 60,
        now=1_790_000_000.0,
        where="enrich.db",
    )
    return attrs.evolve(made, **changes)


def test_the_text_says_all_on_four_lines() -> None:
    """The lines tell the run, the equation, batches and money, and the command for more."""
    batches = (
        "  batches 4 ended, 2 running (oldest 41 min, hard end in 23 h 19 min), 1 in doubt · "
        "$152.80 spent + $182.10 reserved of $400.00 · next look 14:13 UTC"
    )
    assert str(progress()).split("\n") == [
        "Run nightly#42 · waiting · 600 rows · lock 91c07d (reviewer-1, 100 rows, 97%)",
        "  succeeded 399 + quarantined 1 + human 1 + open 199 = 600 rows ✓",
        batches,
        "  → python -m batchkit status enrich.db 'nightly#42'",
    ]


def test_needs_take_the_place_of_the_command() -> None:
    """Whoever is needed is told why, and what to type."""
    lines = progress(needs=(PERSON,)).lines()
    assert lines[-2:] == ["  person needed: look", "  → do this"]


def test_an_equation_that_does_not_hold_has_no_tick() -> None:
    """The tick stands only where the buckets sum to the source count exactly."""
    assert progress(rows=601).equation.endswith("= 600 rows ✗ (source has 601)")
    assert not progress(rows=601).balanced


def test_hostile_text_does_nothing_to_a_terminal() -> None:
    """Control and direction characters in names and errors are escaped where they are shown."""
    need = attrs.evolve(PERSON, why="\x1b[2J\u202egone\nnext")
    shown = str(progress(needs=(need,)))
    assert "\\x1b[2J\\u202egone\\nnext" in shown
    assert printable("héllo 漢字 ✓") == "héllo 漢字 ✓"


def test_markup_is_escaped() -> None:
    """In a notebook a run's name is text."""
    assert "&lt;b&gt;" in progress(name="<b>")._repr_html_()


@pytest.mark.parametrize(
    ("state", "needs", "code"),
    [
        ("done", (PERSON,), 0),
        ("waiting", (), 75),
        ("held", (PERSON,), 3),
        ("paused", (MONEY,), 4),
        ("paused", (PERSON, MONEY), 4),
    ],
)
def test_exit_codes(state: Any, needs: tuple[Need, ...], code: int) -> None:
    """0 done, 75 not yet, 3 a person, 4 money, which comes first."""
    assert progress(state=state, needs=needs).exit_code == code


def test_everything_is_json() -> None:
    """The dictionary is JSON-able, amounts are exact text in dollars."""
    told = json.loads(json.dumps(progress(needs=(MONEY,)).to_dict()))
    assert (told["spent_usd"], told["reserved_usd"], told["cap_usd"]) == ("152.8", "182.1", "400")
    assert told["outcomes"]["open"] == 199
    assert told["needs"] == [{"who": "money", "why": "pay", "fix": "do that", "code": "y"}]
    assert told["balanced"] is True
    assert progress().spent_usd == Decimal("152.8")


def test_an_unlocked_spec_is_shown_as_such() -> None:
    """Where nobody accepted the spec, every progress says so."""
    assert "spec 91c07d · not locked" in str(progress(lock=Lockmark(spec=Digest("91c07d" + "0" * 58))))


# -------------------------------------------------------------------- display


def test_logs_get_one_line_a_change(caplog: pytest.LogCaptureFixture) -> None:
    """Elsewhere than in terminals and notebooks each change is one log line, and listeners hear every pass."""
    heard: list[Progress] = []
    with caplog.at_level(logging.INFO, "batchkit"), display.shower("auto", heard.append) as show:
        for now in (progress(), progress(moved=False), progress(state="done")):
            show(now)
    assert len(caplog.records) == 2
    assert "nightly#42 · waiting · succeeded 399" in caplog.text
    assert len(heard) == 3


def test_nothing_is_shown_where_nothing_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    """``none`` shows nothing; a function is called instead of any display."""
    shown: list[Progress] = []
    with caplog.at_level(logging.INFO, "batchkit"):
        with display.shower("none", None) as show:
            show(progress())
        with display.shower(shown.append, None) as show:
            show(progress())
    assert (caplog.text, len(shown)) == ("", 1)


def test_a_terminal_gets_a_live_block(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a terminal with rich one block is kept up to date; without rich log lines do."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with display.shower("auto", None) as show:
        show(progress())
    assert "succeeded 399" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "rich.live", None)
    with display.shower("auto", None) as show:
        show(progress())
    assert capsys.readouterr().err == ""


def test_a_notebook_updates_one_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook one display is updated, not one printed after another."""
    updated: list[Progress] = []
    handle = SimpleNamespace(update=updated.append)
    module = ModuleType("IPython.display")
    module.display = lambda display_id: handle  # type: ignore[attr-defined]
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    with display.shower("auto", None) as show:
        show(progress())
        show(progress(state="done"))
    assert [one.state for one in updated] == ["waiting", "done"]


def test_the_two_commands_are_quoted_for_a_shell(capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed after an interruption can be typed as it is."""
    display.interrupted("my store.db", "nightly#1")
    assert "python -m batchkit cancel 'my store.db' 'nightly#1'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "$0.00"),
        ("0.000000001", "$0.000000001"),
        ("0.00041251", "$0.0004125"),
        ("0.05", "$0.05"),
        ("0.123456", "$0.1235"),
        ("0.99999", "$1.00"),
        ("1", "$1.00"),
        ("1234.567", "$1,234.57"),
        ("400", "$400.00"),
    ],
)
def test_money_shows_figures_enough_to_tell(amount: str, text: str) -> None:
    """A small run does not cost $0.00: below a dollar four figures are shown, from a dollar up the cents."""
    assert dollars(Decimal(amount)) == text


def test_a_small_run_says_what_it_spent() -> None:
    """Spent, reserved and cap of a progress are told apart however small they are."""
    text = str(progress(spent=412_510, reserved=2_000, cap=50_000_000))
    assert "$0.0004125 spent + $0.000002 reserved of $0.05" in text
