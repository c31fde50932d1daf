"""Verbs that need the code of a workflow, named as ``module:name``: advance, work, promote."""

from __future__ import annotations

import argparse
from typing import Any

from batchkit.cli.looking import worst
from batchkit.cli.terminal import say, tell
from batchkit.errors import UsageError
from batchkit.loading import load
from batchkit.progress import EXIT_DONE
from batchkit.targets import Target
from batchkit.workflow import Workflow


def _flow(name: str) -> Workflow[Any]:
    found = load(name)
    if not isinstance(found, Workflow):
        raise UsageError(f"{name!r} is no workflow, it is {type(found).__name__}")
    return found


def _target(name: str) -> Target:
    found = load(name)
    if not hasattr(found, "promote") or not hasattr(found, "rollback") or isinstance(found, type):
        raise UsageError(f"{name!r} is no target, it is {type(found).__name__}")
    target: Target = found
    return target


def advance(options: argparse.Namespace) -> int:
    """Make one pass over one run, or over every open one."""
    flow = _flow(options.app)
    runs = [flow.resume(options.run)] if options.run is not None else flow.open_runs()
    found = [run.advance(timeout=options.timeout) for run in runs]
    if options.json:
        told = [progress.to_dict() for progress in found]
        tell(told[0] if options.run is not None else told)
    else:
        say(*found) if found else say("no open run")
    return worst(found)


def work(options: argparse.Namespace) -> int:
    """Move every open run until told to stop."""
    flow = _flow(options.app)
    flow.work(stop=(lambda: not flow.open_runs()) if options.once else None)
    found = [run.progress for run in flow.open_runs()]
    if options.json:
        tell([progress.to_dict() for progress in found])
    else:
        say(*found) if found else say("no open run")
    return worst(found)


def promote(options: argparse.Namespace) -> int:
    """Write a run's staged answers to a catalog."""
    flow = _flow(options.app)
    target = _target(options.target)
    done = flow.resume(options.run).promote(target, dry_run=options.dry_run)
    tell({**done.to_dict(), "repeated": done.repeated}) if options.json else say(done)
    return EXIT_DONE
