"""The whole story, from a folder that may hold its beginning already."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from batchkit.demo import first_day, shop, week_later
from batchkit.demo.folder import Folder, Options
from batchkit.demo.scene import Scene
from batchkit.demo.show import Page
from batchkit.demo.stand_in import StandIn, stand_in
from batchkit.demo.summary import summary
from batchkit.demo.task import first_spec
from batchkit.errors import NeedsPerson, UsageError
from batchkit.files import replacing
from batchkit.money import Budget
from batchkit.printing import dollars
from batchkit.testing import served_client
from batchkit.workflow import Workflow

BUDGET = Budget(usd=150)
BUDGET_API = Budget(usd=5)
ROWS_A_BATCH = 4_000


def demo(options: Options, workdir: Path | None) -> dict[str, Any]:
    """Tell the story and give its summary.

    Args:
        options: What was asked for.
        workdir: Where its files are kept; started again there, it goes on where it was killed. None takes a
            temporary folder that is gone afterwards.

    Raises:
        UsageError: the source cannot be read, or the folder holds a demo of other settings.
        NeedsPerson: a person is needed, or a key for the real API.
    """
    if options.data is not None and not options.data.is_file():
        raise UsageError(f"there is no file {os.fspath(options.data)!r}")
    with contextlib.ExitStack() as stack:
        if workdir is None:
            workdir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batchkit-demo-")))
        folder, page = Folder(workdir), Page()
        options = folder.claim(options)
        rows = shop.source_file(folder, options)
        if options.api:
            return _on_the_real_api(folder, options, rows, page)
        page.say("A local stand-in serves the Message Batches API; the official SDK talks HTTP to it.")
        api = stack.enter_context(stand_in(folder, options.seed))
        client = stack.enter_context(served_client(api.url))
        flow = Workflow(
            first_spec(),
            store=folder.store,
            client=client,
            budget=BUDGET,
            max_batch_rows=ROWS_A_BATCH,
        )
        return _tell(Scene(folder=folder, options=options, flow=flow, rows=rows, page=page), api)


def _on_the_real_api(folder: Folder, options: Options, rows: Path, page: Page) -> dict[str, Any]:
    flow = Workflow(first_spec(), store=folder.store, budget=BUDGET_API, max_batch_rows=ROWS_A_BATCH)
    scene = Scene(folder=folder, options=options, flow=flow, rows=rows, page=page)
    if not os.environ.get("ANTHROPIC_API_KEY"):
        first_day.contract(scene)
        forecast = flow.forecast(rows)
        raise NeedsPerson(
            f"there is no key, so nothing was sent. {forecast.sendable:,} requests would go to "
            f"{first_spec().tiers[0].model} first, at most {dollars(forecast.worst_usd)}. Set ANTHROPIC_API_KEY and "
            "start the demo again with --api."
        )
    return _tell(scene, None)


def _tell(scene: Scene, api: StandIn | None) -> dict[str, Any]:
    first_day.contract(scene)
    pilot = first_day.pilot(scene)
    first_day.lock(scene, pilot)
    run = first_day.run(scene)
    first_day.people(scene, run)
    first_day.equation(scene, run)
    promotion = first_day.promote(scene, run)
    wrong = week_later.audit(scene, run)
    fix = None if wrong is None else week_later.correct(scene, pilot, wrong)
    undone = (
        week_later.undo_and_redo(scene, run, since="before")
        if fix is None
        else week_later.undo_and_redo(scene, fix, since="before_fix")
    )
    files = week_later.hand_over(scene, run)
    verified = first_day.verified(scene, run, tell=False)
    facts = {
        "receipt_verified": verified,
        "promoted": promotion.written,
        "slice_rows": 0 if fix is None else fix.record.rows,
        "corrected": 0 if fix is None else undone.promotion.written,
        "rolled_back_identical": undone.identical,
        "handed_over": files,
        "seed": scene.options.seed,
        "seconds": round(scene.page.seconds, 1),
    }
    return _close(scene, summary(scene.flow.store, run, api=api, facts=facts))


def _close(scene: Scene, told: dict[str, Any]) -> dict[str, Any]:
    page = scene.page
    page.section("The sum")
    page.say(told["equation"])
    shown = (
        "rows",
        "batches",
        "tiers",
        "promoted",
        "slice_rows",
        "corrected",
        "balanced",
        "receipt_verified",
    )
    page.table(("", ""), [(name, told[name]) for name in (*shown, "rolled_back_identical", "double_paid")])
    if scene.options.json is not None:
        with replacing(scene.options.json) as stream:
            stream.write(json.dumps(told, indent=1).encode() + b"\n")
    return told
