"""Where a durable run's CPU goes: ``python benchmarks/phases.py --rows 100000``.

Methods are wrapped so that each phase is charged with what runs in it and in nothing below it that has a
name of its own. Nothing is wrapped that is called once a row, so the wrapping costs next to nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import anthropic
import durable
import meter
import workload

from batchkit import collector, mover, reading, sizing, submitter
from batchkit.api import Gateway
from batchkit.body import GuardedBody
from batchkit.source import freezing as source_freezing
from batchkit.storage.sqlite import SQLiteStore
from batchkit.workflow import Workflow

METHODS: tuple[tuple[Any, str, str], ...] = (
    (SQLiteStore, "freeze", "freeze: store"),
    (submitter.ChunkedSubmitter, "send", "submit: plan"),
    (SQLiteStore, "intend", "submit: intent in the store"),
    (Gateway, "create", "submit: SDK and socket"),
    (reading.Manifest, "load", "collect: manifest"),
    (reading.FileReading, "read", "collect: digest and lines"),
    (reading.FileReading, "_take", "collect: read and judge"),
    (SQLiteStore, "settle", "collect: settle in the store"),
    (collector.ResultCollector, "poll", "poll"),
    (mover, "issue_receipt", "reconcile: receipt"),
    (SQLiteStore, "page", "store: pages of rows"),
    (SQLiteStore, "rows", "store: rows by id"),
    (SQLiteStore, "tally", "store: tallies"),
    (SQLiteStore, "results", "store: results"),
    (SQLiteStore, "ledger", "store: ledger"),
)
GENERATORS: tuple[tuple[Any, str, str], ...] = (
    (source_freezing.Freezer, "pages", "freeze: records to canonical lines"),
    (sizing.Requests, "encoded", "submit: encode"),
    (GuardedBody, "__iter__", "submit: guarded body"),
)


class Shares:
    """CPU seconds by phase, each without what it calls that has a name too."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._stack: list[str] = ["everything else"]
        self._last = time.process_time()

    def enter(self, name: str) -> None:
        """Begin a phase."""
        self._charge()
        self._stack.append(name)

    def leave(self) -> None:
        """End the phase begun last."""
        self._charge()
        self._stack.pop()

    def _charge(self) -> None:
        now = time.process_time()
        name = self._stack[-1]
        self.spent[name] = self.spent.get(name, 0.0) + now - self._last
        self._last = now

    def wrap(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Charge the calls of a function to a phase."""

        @wraps(function)
        def charged(*args: Any, **kwargs: Any) -> Any:
            self.enter(name)
            try:
                return function(*args, **kwargs)
            finally:
                self.leave()

        return charged

    def wrap_generator(self, function: Callable[..., Iterator[Any]], name: str) -> Callable[..., Any]:
        """Charge every step of an iterator to a phase."""

        @wraps(function)
        def charged(*args: Any, **kwargs: Any) -> Iterator[Any]:
            inner = function(*args, **kwargs)
            while True:
                self.enter(name)
                try:
                    value = next(inner)
                except StopIteration:
                    return
                finally:
                    self.leave()
                yield value

        return charged


def main() -> None:
    """Run once, wrapped."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--batch-rows", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    shares = Shares()
    for owner, method, name in METHODS:
        found = owner.__dict__.get(method) or getattr(owner, method, None)
        if isinstance(found, classmethod):
            setattr(owner, method, classmethod(shares.wrap(found.__func__, name)))
        elif found is not None:
            setattr(owner, method, shares.wrap(found, name))
    for owner, method, name in GENERATORS:
        setattr(owner, method, shares.wrap_generator(getattr(owner, method), name))
    with meter.serving() as url, tempfile.TemporaryDirectory() as folder:
        client = anthropic.Anthropic(api_key="none", base_url=url)
        shares.enter("everything else")
        shares.spent.clear()
        flow = Workflow(
            durable.SPEC, store=Path(folder) / "p.db", client=client, max_batch_rows=options.batch_rows
        )
        run = flow.start("bench", workload.rows(options.rows), unlocked=True)
        run.wait(progress="none")
        shares.leave()
    total = sum(shares.spent.values())
    for name, spent in sorted(shares.spent.items(), key=lambda item: -item[1]):
        print(f"{name:36} {spent:7.3f} s  {spent * 100_000 / options.rows:7.3f} s/100k  {spent / total:6.1%}")
    print(f"{'total':36} {total:7.3f} s  {total * 100_000 / options.rows:7.3f} s/100k")
    if options.json:
        options.json.write_text(json.dumps({"rows": options.rows, "seconds": shares.spent}, indent=1) + "\n")


if __name__ == "__main__":
    main()
