"""The verbs and their arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

from batchkit.cli import asking, keeping, looking, migrating, moving, telling
from batchkit.deciding import DECISIONS

DISTRIBUTION = "message-batchkit"
"""What to ask `pip` for; the package is called otherwise."""

Verb: TypeAlias = Callable[[argparse.Namespace], int]


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line; the chosen verb is in ``verb``."""
    parser = argparse.ArgumentParser(
        prog="python -m batchkit",
        description="Look at the runs of a store, ask for pause, cancel or money, undo a promotion, see a demo.",
        epilog="Exit codes: 0 done, 75 not yet, 3 a person is needed, 4 money, 1 broken.",
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s, {DISTRIBUTION} {version(DISTRIBUTION)}"
    )
    verbs = _Verbs(parser.add_subparsers(title="verbs", metavar="VERB", required=True))
    _looking(verbs)
    _asking(verbs)
    _moving(verbs)
    _keeping(verbs)
    verbs.json(verbs.add("migrate", migrating.migrate, "Make or update the tables of a store on PostgreSQL."))
    _telling(verbs)
    return parser


class _Verbs:
    """Adds verbs, all of which take --json."""

    def __init__(self, subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
        self._subparsers = subparsers

    def add(
        self, name: str, verb: Verb, help: str, *, store: bool = True, run: str = ""
    ) -> argparse.ArgumentParser:
        """Add one verb; ``run`` is "one" where it takes a run, "any" where it may."""
        made = self._subparsers.add_parser(name, help=help, description=help)
        made.set_defaults(verb=verb)
        if store:
            made.add_argument("store", metavar="STORE", help="the store's path or address")
        if run:
            made.add_argument(
                "run", metavar="RUN", nargs="?" if run == "any" else None, help="the run's name"
            )
        return made

    def json(self, made: argparse.ArgumentParser, help: str = "print one JSON document") -> None:
        """Let a verb print JSON."""
        made.add_argument("--json", action="store_true", help=help)


def _looking(verbs: _Verbs) -> None:
    verbs.json(verbs.add("runs", looking.runs, "List the runs of a store."))

    status = verbs.add("status", looking.status, "Say where a run stands, or every run.", run="any")
    status.add_argument(
        "--watch",
        nargs="?",
        type=float,
        const=10.0,
        metavar="SECONDS",
        help="look again until it is done or needs somebody",
    )
    verbs.json(status)

    rows = verbs.add("rows", looking.rows, "Show, count or write a run's rows.", run="one")
    rows.add_argument("--outcome", action="append", metavar="BUCKET", help="such as quarantined; repeatable")
    rows.add_argument("--reason", action="append", metavar="CODE", help="a code or a glob such as 'output.*'")
    rows.add_argument("--tier", action="append", type=int, metavar="N", help="counted from 0")
    rows.add_argument("--key", action="append", metavar="KEY", help="repeatable")
    rows.add_argument(
        "--count-by", action="append", metavar="COLUMN", help="such as reason or output.category"
    )
    rows.add_argument("--limit", type=int, default=20, metavar="N", help="rows to show; 0 shows all")
    rows.add_argument("--write", type=Path, metavar="FILE", help="write them all as .csv or .jsonl")
    verbs.json(rows)

    bill = verbs.add("bill", looking.bill, "Say what a run cost.", run="one")
    bill.add_argument("--write", type=Path, metavar="FILE", help="write its lines as .csv or .jsonl")
    verbs.json(bill)

    events = verbs.add("events", looking.events, "List what happened to a run.", run="one")
    events.add_argument("--after", default="", metavar="ID", help="only what came after this event")
    verbs.json(events)

    verify = verbs.add(
        "verify",
        looking.verify,
        "Check a receipt against its source: a FOLDER, or STORE and RUN. Exit code 75: all is right so far, but "
        "records of the run are still open.",
        run="any",
    )
    verify.add_argument("--source", type=Path, metavar="FILE", help="the source the run was started from")
    verbs.json(verify)


def _asking(verbs: _Verbs) -> None:
    for name, verb, text in (
        ("pause", asking.pause, "Ask that a run sends nothing new; what runs is still collected."),
        ("resume", asking.resume, "Ask that a paused run goes on."),
        ("cancel", asking.cancel, "Ask that a run ends; what was paid for is kept."),
    ):
        made = verbs.add(name, verb, text, run="one")
        made.add_argument("--why", default="", help="the reason, for whoever reads the events")
        made.add_argument("--by", default="", help="who asks")
        verbs.json(made)

    decide = verbs.add("decide", asking.decide, "Decide about a batch that is held.", run="one")
    decide.add_argument("batch", type=int, metavar="BATCH", help="its number, as status names it")
    decide.add_argument("decision", choices=DECISIONS, help="what to do")
    decide.add_argument("--by", required=True, help="who decides")
    decide.add_argument("--remote", default="", metavar="ID", help="adopt: the remote batch's id")
    decide.add_argument(
        "--force",
        action="store_true",
        help="declare-absent: also before the grace is over, or with open suspects",
    )
    verbs.json(decide)

    budget = verbs.add("budget", asking.budget, "Show or set what a store may spend.")
    budget.add_argument("--usd", metavar="N", help="the new cap in US dollars; without it the cap is shown")
    budget.add_argument("--by", default="", help="who sets it")
    budget.add_argument("--why", default="", help="the reason")
    verbs.json(budget)

    answers = verbs.add("answers", asking.answers, "Take the answers of people to a run's queue.", run="one")
    answers.add_argument("file", metavar="FILE", type=Path, help=".csv or .jsonl")
    answers.add_argument("--by", metavar="WHO", help="who filled it in, where the file does not say")
    answers.add_argument("--save", action="store_true", help="write FILE to be filled in, instead")
    answers.add_argument("--limit", type=int, metavar="N", help="with --save: so many rows at most")
    verbs.json(answers)

    rollback = verbs.add("rollback", asking.rollback, "Undo a promotion of a run.", run="one")
    rollback.add_argument(
        "--promotion", type=int, metavar="N", help="its number; the run's newest unless told"
    )
    rollback.add_argument(
        "--to", type=int, metavar="N", help="undo this one and every later one of its table"
    )
    rollback.add_argument(
        "--key", metavar="COLUMN", help="the catalog's key column; the spec's key unless told"
    )
    verbs.json(rollback)


def _keeping(verbs: _Verbs) -> None:
    doctor = verbs.add(
        "doctor",
        keeping.doctor,
        "Check a store without changing it: damage, the guard against copies, open runs and doubts, the newest lock.",
    )
    verbs.json(doctor)

    confirm = verbs.add(
        "confirm",
        keeping.confirm,
        "Confirm that a store which looks copied or restored is the only one that goes on, so that it may send.",
    )
    verbs.json(confirm)

    handoff = verbs.add("handoff", keeping.handoff, "Write the folder that the next team needs.", run="one")
    handoff.add_argument("folder", metavar="FOLDER", type=Path, help="made if it does not exist")
    handoff.add_argument("--contact", default="", metavar="TEXT", help="whom to ask")
    verbs.json(handoff)

    evalset = verbs.add(
        "evalset", keeping.evalset, "Show an eval set's file, or how one differs from another.", store=False
    )
    evalset.add_argument("what", choices=("show", "diff"), metavar="show|diff", help="what to do")
    evalset.add_argument("files", metavar="FILE", type=Path, nargs="+", help="the file; of diff two: OLD NEW")
    verbs.json(evalset)


def _moving(verbs: _Verbs) -> None:
    app = "the workflow, as module:name"
    advance = verbs.add(
        "advance", moving.advance, "Make one pass over a run, or over every open one.", store=False, run="any"
    )
    advance.add_argument("--app", required=True, metavar="MODULE:FLOW", help=app)
    advance.add_argument("--timeout", type=float, metavar="SECONDS", help="begin nothing new after that")
    verbs.json(advance)

    work = verbs.add("work", moving.work, "Move every open run until SIGTERM.", store=False)
    work.add_argument("--app", required=True, metavar="MODULE:FLOW", help=app)
    work.add_argument("--once", action="store_true", help="leave as soon as no run is open")
    verbs.json(work)

    promote = verbs.add(
        "promote", moving.promote, "Write a run's staged answers to a catalog.", store=False, run="one"
    )
    promote.add_argument("--app", required=True, metavar="MODULE:FLOW", help=app)
    promote.add_argument(
        "--target", required=True, metavar="MODULE:TARGET", help="the catalog, as module:name"
    )
    promote.add_argument("--dry-run", action="store_true", help="count, and change nothing")
    verbs.json(promote)


def _telling(verbs: _Verbs) -> None:
    demo = verbs.add("demo", telling.demo, "See the whole job done, without a key.", store=False)
    demo.add_argument("--rows", type=int, metavar="N", help="records to generate; 20,000 unless told")
    demo.add_argument("--seed", type=int, default=0, metavar="S", help="names the generated catalog")
    demo.add_argument(
        "--data", type=Path, metavar="CSV", help="use this file: sku,title,description,source_category,lang"
    )
    demo.add_argument("--workdir", type=Path, metavar="DIR", help="keep everything in DIR, and go on there")
    demo.add_argument("--api", action="store_true", help="use the real API and ANTHROPIC_API_KEY; 200 rows")
    demo.add_argument("--json", type=Path, metavar="FILE", help="write the summary to FILE")

    # Its arguments are the server's own, which parses them: see batchkit.cli.main.
    verbs.add(
        "simulate",
        telling.simulate,
        "Serve a simulated Message Batches API; see simulate --help.",
        store=False,
    )
