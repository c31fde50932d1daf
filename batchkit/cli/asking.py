"""Verbs that ask or decide something: pause, resume, cancel, decide, budget, answers, rollback."""

from __future__ import annotations

import argparse
from decimal import Decimal, InvalidOperation
from typing import Any

import attrs

from batchkit.cli.terminal import say, tell
from batchkit.desks import stored_spec
from batchkit.errors import UsageError
from batchkit.model import NANO
from batchkit.printing import dollars
from batchkit.progress import EXIT_BROKEN, EXIT_DONE, EXIT_PERSON
from batchkit.standing import read_cap
from batchkit.states import RunState
from batchkit.storage import Store
from batchkit.targets import RolledBack
from batchkit.targets.postgres import PostgresTarget
from batchkit.targets.sqlite import SQLiteTarget
from batchkit.view import RunView, attach, open_existing, set_cap

_SQLITE = "sqlite:"


def pause(options: argparse.Namespace) -> int:
    """Ask that nothing new is sent."""
    return _request(options, "pause", RunState.PAUSED)


def resume(options: argparse.Namespace) -> int:
    """Ask that a paused run goes on."""
    return _request(options, "unpause", RunState.OPEN)


def cancel(options: argparse.Namespace) -> int:
    """Ask that a run ends."""
    return _request(options, "cancel", RunState.CANCELING)


def _request(options: argparse.Namespace, what: str, wanted: RunState) -> int:
    store = open_existing(options.store)
    view = attach(store, options.run)
    before = view.record.state
    {"pause": view.pause, "unpause": view.unpause, "cancel": view.cancel}[what](options.why, by=options.by)
    after = view.record.state
    told, possible = _carried_out(store, view, before, after, wanted)
    if options.json:
        tell({"run": view.name, "asked": what, "state": after.value, "possible": possible, "text": told})
    else:
        say(f"{view.name}: {told}", *view.progress.lines()[1:])
    return EXIT_DONE if possible else EXIT_BROKEN


def _carried_out(
    store: Store, view: RunView[Any], before: RunState, after: RunState, wanted: RunState
) -> tuple[str, bool]:
    """Say what became of the request, and who does the rest; false where it cannot be."""
    if before is wanted:
        return f"it is {after.value} already; nothing changed", True
    holder = store.holder(view.record.id)
    if after is not wanted and holder is not None:
        return f"asked; whoever moves it now ({holder.owner}) carries it out in the next pass", True
    match after:
        case _ if after is not wanted:
            return f"not possible: it is {after.value}; nothing changed", False
        case RunState.PAUSED:
            return "paused. What runs at the provider is collected by whoever moves it next", True
        case RunState.CANCELING:
            text = "canceling. Whoever moves it next cancels its batches, keeps what was paid, and closes it"
            return text, True
        case _:
            text = "goes on. Whoever moves it next sends: run.wait(), or python -m batchkit work --app MODULE:FLOW"
            return text, True


def decide(options: argparse.Namespace) -> int:
    """Decide about a held batch."""
    view = attach(options.store, options.run)
    progress = view.decide(
        options.batch, options.decision, by=options.by, remote=options.remote, force=options.force
    )
    if options.json:
        tell(progress.to_dict())
    else:
        say(f"batch {options.batch}: {options.decision}, by {options.by}", *progress.lines())
    return EXIT_DONE


def budget(options: argparse.Namespace) -> int:
    """Show the cap in force, or set another."""
    store = open_existing(options.store)
    if options.usd is not None:
        if not options.by:
            raise UsageError("a cap needs a name: --by WHO. Nothing was changed.")
        set_cap(store, _amount(options.usd), by=options.by, why=options.why)
    cap = read_cap(store)
    if options.json:
        tell(None if cap is None else {**attrs.asdict(cap), "usd": str(Decimal(cap.usd_nano) / NANO)})
    elif cap is None:
        say("no cap is set; runs spend what they need")
    else:
        who = f" by {cap.by}" if cap.by else " by code"
        say(
            f"the cap is {dollars(Decimal(cap.usd_nano) / NANO)}, set{who}"
            + (f": {cap.why}" if cap.why else "")
        )
    return EXIT_DONE


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise UsageError(f"--usd {text!r} is no amount of US dollars. Nothing was changed.")
    return amount


def answers(options: argparse.Namespace) -> int:
    """Take a file of answers to the human queue; a person is needed where some could not be taken."""
    view = attach(options.store, options.run)
    if options.save:
        written = view.queue().save(options.file, limit=options.limit, reviewer=options.by)
        tell({"written": written, "file": str(options.file)}) if options.json else say(
            f"{written:,} rows written to {options.file}"
        )
        return EXIT_DONE
    applied = view.queue().apply(options.file, reviewer=options.by)
    if options.json:
        tell(attrs.asdict(applied))
    else:
        say(applied)
        if applied.pending:
            say("pending answers are settled by whoever moves the run next with its spec")
    return EXIT_PERSON if applied.invalid or applied.conflicts else EXIT_DONE


def rollback(options: argparse.Namespace) -> int:
    """Undo a promotion; a person is needed where somebody has changed the catalog since."""
    if options.promotion is not None and options.to is not None:
        raise UsageError("--promotion undoes one, --to that one and every later one; give one of them")
    store = open_existing(options.store)
    view = attach(store, options.run)
    notes = view.promotions
    if not notes:
        raise UsageError(
            f"this store knows of no promotion of {view.name!r}, so there is nothing to undo. If one was interrupted,"
            " promote again: that writes nothing twice, and the store knows of it then"
        )
    wanted = options.promotion if options.promotion is not None else options.to
    noted = [note for note in notes if wanted is None or note["id"] == str(wanted)]
    if not noted:
        known = ", ".join(str(note["id"]) for note in notes)
        raise UsageError(f"promotion {wanted} is none of {view.name!r}; its promotions are {known}")
    target = _target(str(noted[-1]["target"]), options.key or stored_spec(store, view.record).key)
    if options.to is not None:
        undone = target.rollback(to=options.to)
    else:
        standing = [one.id for one in target.promotions() if one.run == view.name and not one.rolled_back_at]
        chosen = options.promotion if options.promotion is not None else (standing[-1] if standing else None)
        undone = RolledBack(promotions=()) if chosen is None else target.rollback(chosen)
    if options.json:
        tell(attrs.asdict(undone))
    elif undone.promotions:
        say(undone)
    else:
        what = f"every promotion of {view.name!r}" if wanted is None else f"promotion {wanted}"
        say(f"nothing left to roll back: {what} was undone already; nothing was changed")
    return EXIT_PERSON if undone.conflicts else EXIT_DONE


def _target(name: str, key: str) -> SQLiteTarget | PostgresTarget:
    """Make the target of a promotion from its name, which holds no user and no password: libpq finds those."""
    where, _, table = name.rpartition("#")
    if where.startswith(_SQLITE):
        return SQLiteTarget(where.removeprefix(_SQLITE), table, key)
    if where.startswith("postgresql://"):
        return PostgresTarget(where, table, key)
    raise UsageError(
        f"the command line undoes promotions to SQLite and PostgreSQL; this one went to {name}. Undo it where its target is"
        " made: target.rollback()"
    )
