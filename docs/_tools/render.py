"""Render the reference pages that are made of data: transition tables, reason codes, the command line.

    python docs/_tools/render.py

writes them; a test compares what is committed with what this gives.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from batchkit.cli.parser import make_parser
from batchkit.policy import ROUTED, Policy
from batchkit.reasons import Reason
from batchkit.states import (
    BATCH_TRANSITIONS,
    ROW_TRANSITIONS,
    RUN_TRANSITIONS,
    UNRESOLVED,
    BatchState,
    Outcome,
    RowState,
    RunState,
    outcome,
)

REFERENCE = Path(__file__).parents[1] / "reference"

ROWS: Mapping[RowState, str] = {
    RowState.PENDING: "waits to be sent, for the first time or again",
    RowState.SUBMITTED: "is in exactly one batch",
    RowState.SUCCEEDED: "has a valid answer, of a model or of a person; not yet in the catalog: *staged*",
    RowState.HUMAN: "waits for a person",
    RowState.QUARANTINED: "is closed without an answer; its reason says why",
    RowState.CANCELED: "is closed because the run was canceled",
    RowState.UNCHANGED: "equals what an earlier run of the series staged; not sent",
}
BATCHES: Mapping[BatchState, str] = {
    BatchState.INTENT: "recorded with its rows, its nonce and its reserved cost; nothing has left the process",
    BatchState.SENDING: "claimed by one sender, who may now make one POST",
    BatchState.DOUBTFUL: "may or may not exist at the provider; it blocks its rows and is never sent again",
    BatchState.LIVE: "acknowledged; runs at the provider",
    BatchState.ENDED: "ended at the provider; its results are being read",
    BatchState.COLLECTED: "every line is settled and the counts agree",
    BatchState.REJECTED: "does not exist: refused, or never completely sent. Its rows are free",
    BatchState.ABSENT: "taken not to exist after the grace, or by a person's word. Its rows are free",
    BatchState.LATE: "turned up after all",
    BatchState.HELD: "only a person can decide",
    BatchState.UNRECOVERABLE: "its results will never be read",
}
RUNS: Mapping[RunState, str] = {
    RunState.FREEZING: "the source is being read into the store; nothing is sent",
    RunState.OPEN: "sends and collects",
    RunState.PAUSED: "collects and resolves doubts, sends nothing",
    RunState.CANCELING: "collects what is paid for, cancels the rest",
    RunState.CLOSED: "no row is pending or submitted; has a receipt",
}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Give a Markdown table."""
    names = list(head)
    yield f"| {' | '.join(names)} |"
    yield "|" + "---|" * len(names)
    yield from (f"| {' | '.join(row)} |" for row in rows)


def states() -> str:
    """Render the three machines."""
    lines = [
        "# States",
        "",
        "<!-- Made by docs/_tools/render.py from batchkit.states; do not edit. -->",
        "",
        "Three machines, each a table in `batchkit.states`. An event that a table does not list raises",
        "`IllegalTransition` and changes nothing.",
        "",
        "## Row",
        "",
        "One source record. Every event starts in exactly one state, so each write is guarded by it.",
        "",
        *table(
            ("state", "a row in it", "outcome"), ((f"`{s.value}`", ROWS[s], _outcome(s)) for s in RowState)
        ),
        "",
        "The outcome is the bucket of the equation; it follows from state and reason and is never stored.",
        "",
        *table(
            ("event", "from", "to"),
            (
                (e.value, f"`{origin.value}`" if origin else "–", f"`{to.value}`")
                for e, (origin, to) in ROW_TRANSITIONS.items()
            ),
        ),
        "",
        "## Batch",
        "",
        "Our record of one Message Batch. It exists before the remote one does.",
        "",
        *table(("state", "a batch in it"), ((f"`{s.value}`", BATCHES[s]) for s in BatchState)),
        "",
        f"At most one batch per store and place is unresolved: {_codes(UNRESOLVED)}, or `held` coming from `doubtful`.",
        "",
        *table(("from", "to", "when"), _edges(BATCH_TRANSITIONS)),
        "",
        "## Run",
        "",
        *table(("state", "a run in it"), ((f"`{s.value}`", RUNS[s]) for s in RunState)),
        "",
        *table(("from", "to", "when"), _edges(RUN_TRANSITIONS)),
    ]
    return "\n".join(lines) + "\n"


def _codes(some: Iterable[BatchState]) -> str:
    return ", ".join(f"`{state.value}`" for state in sorted(some, key=list(BatchState).index))


def _outcome(state: RowState) -> str:
    if state is not RowState.QUARANTINED:
        return f"`{outcome(state, None).value}`"
    return "`errored` (reason `api.*`), `expired` (reason `batch.expired`), else `quarantined`"


def _edges(
    edges: Mapping[BatchState, Mapping[BatchState, str]] | Mapping[RunState, Mapping[RunState, str]],
) -> Iterator[list[str]]:
    for origin, targets in edges.items():
        if not targets:
            yield [f"`{origin.value}`", "–", "the end"]
        for to, when in targets.items():
            yield [f"`{origin.value}`", f"`{to.value}`", when]


FAMILIES: Mapping[str, str] = {
    "input": "Found while freezing or sizing; the record was not sent.",
    "api": "The API's own error for one request, or for a whole create.",
    "batch": "What became of the batch that the request was in.",
    "run": "What became of the run.",
    "output": "The answer came, was billed, and is not accepted.",
    "human": "A person decided.",
    "catalog": "Found while promoting. The row stays `succeeded`; the promotion lists its key.",
}


def reasons() -> str:
    """Render the reason codes with the default ladders."""
    lines = [
        "# Reason codes",
        "",
        "<!-- Made by docs/_tools/render.py from batchkit.reasons and batchkit.policy; do not edit. -->",
        "",
        "Why a row is not a success (yet). The list is closed: `batchkit.Reason`. The ladders are those of",
        "`Policy.default()`; see [how to write a policy](../how-to/policy.md).",
    ]
    ladders = dict(line.split(None, 1) for line in Policy.default().explain().splitlines())
    for family, prose in FAMILIES.items():
        lines += ["", f"## {family}.*", "", prose, ""]
        members = [reason for reason in Reason if reason.family == family]
        routed = any(reason in ROUTED for reason in members)
        head = ("code", "means", "what happens by default") if routed else ("code", "means")
        lines += table(
            head,
            ([f"`{r.value}`", r.prose, ladders.get(r.value, "closes the row")][: len(head)] for r in members),
        )
    lines += [
        "",
        f"A closed row's outcome is one of {', '.join(f'`{o.value}`' for o in Outcome if o is not Outcome.OPEN)}.",
    ]
    return "\n".join(lines) + "\n"


def command_line() -> str:
    """Render the verbs from the parser that reads them."""
    lines = [
        "# Command line",
        "",
        "<!-- Made by docs/_tools/render.py from batchkit.cli.parser; do not edit. -->",
        "",
        "`python -m batchkit VERB ...`. What only looks or asks needs the store alone: no spec, no key, no SDK. What needs",
        "your code takes it as `--app module:name`, the name of a `Workflow`.",
        "",
        *table(("exit code", "means"), EXIT_CODES),
        "",
        "`--json` prints one JSON document. Nothing that stands in the data can do anything to the terminal.",
    ]
    for name, verb, told in _verbs():
        lines += ["", f"## {name}", "", told]
        usage = [f"python -m batchkit {name}"]
        rows = []
        for action in verb._actions:
            if isinstance(action, argparse._HelpAction):
                continue
            shown = _shown(action)
            optional = not action.required or action.nargs == "?"
            usage.append(f"[{shown}]" if optional else shown)
            rows.append((f"`{shown}`", _sentence(action.help or "")))
        lines += ["", "```console", "$ " + " ".join(usage), "```"]
        if rows:
            lines += ["", *table(("argument", ""), rows)]
        if name in MORE:
            lines += ["", MORE[name]]
    return "\n".join(lines) + "\n"


EXIT_CODES = (
    ("0", "done"),
    ("75", "not yet: look again, or start it again later"),
    ("3", "a person is needed"),
    ("4", "money is needed"),
    ("1", "broken"),
    ("2", "the command was not understood"),
    ("130", "interrupted; nothing was canceled"),
)
MORE: Mapping[str, str] = {
    "rollback": "Where everything was undone already it says that nothing is left to roll back, changes nothing and exits "
    "with 0: a script may repeat it. With `--json`, `promotions` lists what was undone *now* and is empty then. It exits "
    "with 3 where somebody changed rows since, which are left as they are and listed, and with 1 where the run was never "
    "promoted, the number is none of its own, or a later promotion stands on the same keys.",
    "simulate": "The same server as `python -m batchkit.testing.server`, with its arguments; see "
    "[test a pipeline without a key](../how-to/simulator.md#as-a-server).",
}


def _verbs() -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    [verbs] = [a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    helps = {choice.dest: choice.help or "" for choice in verbs._choices_actions}
    for name, verb in verbs.choices.items():
        yield name, verb, helps[name]


def _shown(action: argparse.Action) -> str:
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if not action.option_strings:
        return metavar
    if action.nargs == 0:
        return action.option_strings[-1]
    return f"{action.option_strings[-1]} " + (f"[{metavar}]" if action.nargs == "?" else metavar)


def _sentence(help: str) -> str:
    return help.replace("|", "\\|")


PAGES: Mapping[str, Callable[[], str]] = {
    "states.md": states,
    "reasons.md": reasons,
    "command-line.md": command_line,
}


def main() -> None:
    """Write the pages."""
    for name, render in PAGES.items():
        (REFERENCE / name).write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
