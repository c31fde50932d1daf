"""A week later: the aggregate finding, two examples, the slice, its correction, a rollback, the hand-over."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from batchkit.audit import Finding
from batchkit.demo import shop
from batchkit.demo.first_day import GATE, version
from batchkit.demo.people import Reader
from batchkit.demo.scene import Scene
from batchkit.demo.task import Attributes, second_spec, third_spec
from batchkit.pilot import Pilot
from batchkit.prompt import Example
from batchkit.rows import Row, Rows
from batchkit.run import Run
from batchkit.spec import Spec
from batchkit.targets import Promotion
from batchkit.testing.taxonomy import TAXONOMY

FIX = "fix-adapters"
WEEK = 7 * 86_400.0
EXAMPLES = 2

_ADAPTERS = next(category for category in TAXONOMY if category.name == "Adapters")
_WORDS = tuple(word.casefold() for nouns in _ADAPTERS.nouns.values() for word in nouns)
_SUPPLIERS = frozenset(name.casefold() for name in _ADAPTERS.source_names)


@attrs.frozen(kw_only=True)
class Undone:
    """What the rollback showed.

    Attributes:
        identical: The catalog's promoted columns were, byte for byte, as before the promotion.
        promotion: The promotion that stands now.
    """

    identical: bool
    promotion: Promotion


def audit(scene: Scene, made: Run[Attributes]) -> Rows[Attributes] | None:
    """Look at the answers in the aggregate; give the rows that a finding is about."""
    page = scene.page
    page.section("A week later: what no look at one row can see")
    if "week" not in scene.folder.notes:
        if not scene.options.api:
            scene.flow.clock.sleep(WEEK)
        scene.folder.note(week=True)
    found = made.audit(against="source_category")
    page.say(f"Audit of {found.shares.rows:,} answers against the suppliers' own categories:")
    page.say(*(finding.text for finding in found.findings[:5]))
    if not found.findings:
        page.say("no category is taken for its neighbour")
    if not any(_is_ours(finding) for finding in found.findings):
        page.say("The chargers are looked at by hand, then: which of them are adapters?")
    wrong = made.rows(output=lambda out: out.category == "Chargers", source=_is_adapter)
    count = len(wrong)
    page.say(f"{count:,} records that speak of adapters were answered as Chargers.")
    return wrong if count else None


def _is_ours(finding: Finding) -> bool:
    return (finding.value, finding.other) == ("Adapters", "Chargers")


def _is_adapter(source: object) -> bool:
    fields = source if isinstance(source, Mapping) else {}
    if (fields.get("source_category") or "").strip().casefold() in _SUPPLIERS:
        return True
    text = f"{fields.get('title') or ''} {fields.get('description') or ''}".casefold()
    return any(word in text for word in _WORDS)


def correct(scene: Scene, made: Pilot[Attributes], wrong: Rows[Attributes]) -> Run[Attributes]:
    """Put two examples into the prompt, have them graded, and run the slice again."""
    page = scene.page
    page.section("Two examples, graded on the eval set, then only the affected rows again")
    better = third_spec(*(_example(row) for row in wrong.head(EXAMPLES)))
    page.say(better.diff(second_spec()), scene.flow.with_spec(better).forecast(wrong))
    _accept(scene, made, better)
    fix = scene.patiently(lambda: wrong.rerun(FIX, spec=better))
    scene.wait(fix)
    page.say(fix.progress.equation)
    page.counts(fix.rows(outcome="succeeded").count_by("output.category"))
    return fix


def _example(row: Row[Attributes]) -> Example:
    assert row.output is not None
    right = row.output.model_copy(update={"category": "Adapters"})
    return Example(row.source, right.model_dump(), key=row.key)


def _accept(scene: Scene, made: Pilot[Attributes], better: Spec[Attributes]) -> None:
    number = version(scene, made, better)
    before = made.review(number).progress
    read = Reader("reviewer-2", knows_adapters=True).read(made.review(number))
    scene.page.say(
        f"{made.compare(2, number)}; {before.read} answers grade as accepted before, {read} were read."
    )
    held = [one for one in made.locks if one.version == number]
    locked = held[0] if held else made.lock(by="reviewer-2", gate=GATE, note="adapters are not chargers")
    scene.page.say(locked)


def undo_and_redo(scene: Scene, fix: Run[Attributes], *, since: str) -> Undone:
    """Promote, roll back, compare byte for byte, promote again.

    The catalog's own table of promotions says how far that got, so a killed demo goes on in the middle.

    Args:
        scene: The scene.
        fix: The run whose promotion is undone.
        since: Under what name the catalog's state before that promotion is noted.
    """
    page, target = scene.page, shop.target(scene.folder)
    page.section("The correction is promoted, rolled back, and promoted again")
    page.say(fix.promote(target, dry_run=True))
    if since not in scene.folder.notes:
        scene.folder.note(**{since: shop.fingerprint(scene.folder)})
    if not any(made.run == fix.name for made in target.promotions()):
        page.say(fix.promote(target))
    mine = [made for made in target.promotions() if made.run == fix.name]
    if not any(made.rolled_back_at for made in mine):
        page.say(mine[-1].rollback())
    if all(made.rolled_back_at for made in target.promotions() if made.run == fix.name):
        same = shop.fingerprint(scene.folder) == scene.folder.notes[since]
        scene.folder.note(identical=same)
    identical = bool(scene.folder.notes.get("identical"))
    page.say(
        "The catalog is byte for byte what it was before."
        if identical
        else "The catalog is NOT what it was before."
    )
    last = fix.promote(target)
    page.say(last)
    return Undone(identical=identical, promotion=last)


def hand_over(scene: Scene, made: Run[Attributes]) -> list[str]:
    """Write what the next team needs; give the names of the files."""
    page = scene.page
    page.section("The hand-over")
    folder = made.handoff(scene.folder.handoff, contact="the catalog team")
    files = sorted(file.name for file in folder.iterdir())
    page.say(f"{folder.name}/: {', '.join(files)}")
    return files
