"""The verb that changes a store's tables: migrate."""

from __future__ import annotations

import argparse

from batchkit.cli.terminal import say, tell
from batchkit.progress import EXIT_DONE
from batchkit.storage.opening import migrate_store, shown


def migrate(options: argparse.Namespace) -> int:
    """Make the tables of a store on PostgreSQL, or bring them up to date."""
    before, after = migrate_store(options.store)
    if options.json:
        tell({"store": shown(options.store), "before": before, "after": after})
    elif before == after:
        say(f"{shown(options.store)}: the tables are up to date (version {after})")
    else:
        done = f"brought from version {before} to {after}" if before else f"made (version {after})"
        say(f"{shown(options.store)}: the tables were {done}")
    return EXIT_DONE
