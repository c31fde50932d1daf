"""Day one: contract, pilot, lock, run, the people's share, the equation, promotion.

Every chapter can be begun again after a kill: what is done already is only told again.
"""

from __future__ import annotations

import subprocess
import sys

from batchkit.bill import Bill
from batchkit.demo import shop
from batchkit.demo.people import Reader, answer_queue
from batchkit.demo.scene import Scene
from batchkit.demo.summary import set_aside
from batchkit.demo.task import Attributes, first_spec, second_spec
from batchkit.errors import GateNotMet, NeedsPerson
from batchkit.gate import Gate
from batchkit.pilot import Pilot
from batchkit.promotion import Promoter
from batchkit.run import Run
from batchkit.spec import Spec
from batchkit.targets import Promotion

RUN, PILOT = "catalog", "pilot"
GATE = Gate(min_pass=0.9)


def contract(scene: Scene) -> None:
    """Show what is asked, one request of it, and what it would cost."""
    page, flow = scene.page, scene.flow
    page.section("The contract first, and what it would cost")
    products = shop.make_catalog(scene.folder, scene.rows)
    page.say(f"{scene.rows.name}: the shop's records; its catalog has {products:,} products.")
    enums = flow.spec.contract.enums["category"]
    page.say(
        f"An answer is {', '.join(flow.spec.contract.fields)}; the category is one of {len(enums) - 1}, or null.",
        "The first request:",
    )
    seen = flow.preview(scene.rows)
    page.say(
        str(seen).split("\n", 1)[0],
        *(f"  {line}" for line in seen.request["params"]["messages"][-1]["content"].split("\n")),
    )
    page.say(flow.forecast(scene.rows, on_duplicate="first"))


def pilot(scene: Scene) -> Pilot[Attributes]:
    """Run 100 hard rows under a first prompt; the gate refuses it."""
    page, flow = scene.page, scene.flow
    page.section("Pilot, version 1: 100 hard rows, each read by a person")
    problems = Promoter(flow.store).check(flow.spec, shop.target(scene.folder))
    page.say("\n".join(map(str, problems)) or "Checked: the catalog's columns can take every answer.")
    made = flow.pilot(scene.rows, name=PILOT, size=100)
    page.table(("sku", "picked as"), [(row.key, row.why) for row in made.sample[:4]])
    number = version(scene, made, first_spec())
    read = Reader("reviewer-1").read(made.review(number))
    page.say(f"reviewer-1 read {read} answers: {made.review(number).progress}")
    below = GATE.shortfalls(made.grade(number))
    if below and len(made.versions) == number:
        try:
            made.lock(by="reviewer-1", gate=GATE)
        except GateNotMet as error:
            page.say(f"GateNotMet: {error}")
    elif below:
        page.say(f"GateNotMet: {'; '.join(below)}.")
    else:
        page.say("It would pass the gate; what was rejected shows that a sentence is missing all the same.")
    return made


def lock(scene: Scene, made: Pilot[Attributes]) -> None:
    """Run the second prompt over the same rows, read what changed, lock it."""
    page = scene.page
    page.section("Pilot, version 2: null where the text says too little; then the lock")
    page.say(second_spec().diff(first_spec()))
    number = version(scene, made, second_spec())
    read = Reader("reviewer-1").read(made.review(number))
    page.say(f"{made.compare(1, number)}; reviewer-1 read {read} answers, only those that changed.")
    held = [one for one in made.locks if one.version == number]
    locked = held[0] if held else made.lock(by="reviewer-1", gate=GATE)
    locked.eval_set.save(scene.folder.evals)
    page.say(f"{locked}; saved as {scene.folder.evals.name}")


def version(scene: Scene, made: Pilot[Attributes], spec: Spec[Attributes]) -> int:
    """Run a version of the pilot and give its number.

    Raises:
        NeedsPerson: it cannot end by itself.
    """
    found = scene.patiently(lambda: made.run(spec))
    if not found.done:
        raise NeedsPerson("\n".join(found.progress.lines()))
    return found.number


def run(scene: Scene) -> Run[Attributes]:
    """Send everything, the small model first; show the tail."""
    page = scene.page
    flow = scene.flow.with_spec(second_spec())
    page.section("The run: the small model first, the larger one for what it cannot do")
    made = scene.patiently(lambda: flow.start(RUN, scene.rows, on_duplicate="first"))
    scene.wait(made)
    page.say(made.progress.equation)
    page.table(("records", "that", "are"), set_aside(made))
    reasons = sorted(made.progress.tally.reasons(), key=lambda item: -item[3])
    page.table(
        ("outcome", "reason", "tier", "rows"),
        [(outcome.value, reason.value, tier, rows) for outcome, reason, tier, rows in reasons],
    )
    bill(scene, made.bill())
    return made


def bill(scene: Scene, due: Bill) -> None:
    """Print a bill by tier and use."""
    sums: dict[tuple[int, str, str], tuple[int, int]] = {}
    for line in due.lines:
        answers, cost = sums.get((line.tier, line.model, line.use), (0, 0))
        sums[line.tier, line.model, line.use] = (answers + line.answers, cost + line.cost)
    scene.page.table(
        ("tier", "model", "answers that were", "answers", "usd"),
        [
            (tier, model, use.replace("_", " "), answers, f"{cost / 1e9:.2f}")
            for (tier, model, use), (answers, cost) in sorted(sums.items())
        ],
    )


def people(scene: Scene, made: Run[Attributes]) -> None:
    """Have a person answer a part of the queue from a CSV file."""
    page = scene.page
    page.section("What no model can know: the human queue")
    waiting = len(made.queue())
    applied = answer_queue(made.queue(), scene.folder.root / "answers.csv", by="reviewer-2")
    page.say(f"{waiting:,} rows wait for a person. reviewer-2 fills in answers.csv: {applied}")
    page.say(f"{len(made.queue()):,} wait on; the sum stays whole.")


def equation(scene: Scene, made: Run[Attributes]) -> bool:
    """Count everything anew, write the receipt, and have it checked by a program that knows no batchkit."""
    page = scene.page
    page.section("The equation, and a receipt that anybody can check")
    page.say(made.reconcile().equation)
    return verified(scene, made, tell=True)


def verified(scene: Scene, made: Run[Attributes], *, tell: bool) -> bool:
    """Write the receipt and run its verifier against the source, in a process of its own."""
    folder = made.reconcile().write(scene.folder.receipt)
    told = subprocess.run(
        [sys.executable, str(folder / "verify.py"), "--source", str(scene.rows)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if tell or told.returncode:
        scene.page.say(f"python {folder.name}/verify.py --source {scene.rows.name}")
        scene.page.say((told.stdout + told.stderr).rstrip())
    # Both: a verifier that says nothing has verified nothing.
    return told.returncode == 0 and told.stdout.rstrip().split("\n")[-1].startswith("VERIFIED")


def promote(scene: Scene, made: Run[Attributes]) -> Promotion:
    """Write the staged answers to the catalog, in one transaction."""
    page, target = scene.page, shop.target(scene.folder)
    page.section("Promotion: staged answers go to the catalog in one transaction")
    if "before" not in scene.folder.notes:
        scene.folder.note(before=shop.fingerprint(scene.folder))
    page.say(made.promote(target, dry_run=True))
    done = made.promote(target)
    page.say(done)
    skus = [row.key for row in made.rows(outcome="succeeded").head(5)]
    page.table(("sku", "title", "category", "summary"), shop.products(scene.folder, skus))
    return done
