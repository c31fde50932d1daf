"""The promise that a method takes effect wholly or not at all, wherever it breaks off."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from batchkit.targets import StagedRow, Target
from batchkit.testing.faults.midway import midway
from batchkit.testing.faults.moments import Killed, die_in_process
from batchkit.testing.target_catalogs import CatalogRow, TargetCatalog
from batchkit.testing.target_contract.base import CATEGORY, FIELDS, TargetCase, note, staged

Reading = Callable[[Target], object]

READS: dict[str, Reading] = {
    "check": lambda target: list(target.check([CATEGORY])),
    "plan": lambda target: target.plan(FIELDS, 3),
    "ddl": lambda target: target.ddl(),
    "promotions": lambda target: list(target.promotions()),
    "keys": lambda target: list(target.keys(target.promotions()[0].id or 0, "written")),
    "promote with dry_run": lambda target: target.promote(note("two"), _rows("two"), dry_run=True).written,
    "promote what was promoted": lambda target: target.promote(note(), _rows("one")).id,
}


# What a call was just given when it broke off, such as a connection, is closed by nobody but the interpreter; and
# where the moment is the end of a generator that nobody wants any more, nobody hears of the exception.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
class CrashContract(TargetCase):
    """Each method breaks off in its middle, by an exception raised there; another target then looks and goes on."""

    crashes: int = 16
    """At how many moments of each method, spread over all that it has; at all of them in ``nox -s contract``."""

    def test_a_promotion_that_breaks_off_is_made_or_not(self, catalog: TargetCatalog) -> None:
        """Wherever a promotion breaks off, every row is as it was or every row is written, and it can be made again."""
        target, old = self._filled(catalog)
        with midway(_code_of(target)) as moments:
            new = _promoted(target, catalog)
        assert new != old
        target.rollback()
        undone = 0
        for at in moments.spread(self.crashes):
            _broken_off(target, at, lambda: target.promote(note(), _rows("one")))
            standing = _standing(catalog)
            assert catalog.read() == (new if standing else old), f"at moment {at} of {moments.count}"
            undone += not standing
            if standing:
                catalog.target(missing="insert").rollback()
        assert undone
        assert _promoted(catalog.target(missing="insert"), catalog) == new

    def test_a_rollback_that_breaks_off_is_made_or_not(self, catalog: TargetCatalog) -> None:
        """Wherever a rollback breaks off, every row stays written or every row is back, and it can be made again."""
        target, old = self._filled(catalog)
        new = _promoted(target, catalog)
        with midway(_code_of(target)) as moments:
            target.rollback()
        target.promote(note(), _rows("one"))
        kept = 0
        for at in moments.spread(self.crashes):
            _broken_off(target, at, target.rollback)
            standing = _standing(catalog)
            assert catalog.read() == (new if standing else old), f"at moment {at} of {moments.count}"
            kept += standing
            if not standing:
                catalog.target(missing="insert").promote(note(), _rows("one"))
        assert kept
        assert catalog.target(missing="insert").rollback().promotions
        assert catalog.read() == old

    def test_an_installation_that_breaks_off_can_be_made_again(self, catalog: TargetCatalog) -> None:
        """Wherever an installation breaks off, the catalog's rows stay and installing again makes what is missing."""
        catalog.insert("a", category="old")
        rows = catalog.read()
        target = catalog.target()
        with midway(_code_of(target)) as moments:
            target.install()
        tables = catalog.tables()
        for at in moments.spread(self.crashes):
            _broken_off(target, at, target.install)
            assert (catalog.read(), catalog.tables()) == (rows, tables)
        assert catalog.target().promote(note(), [staged("a")]).written == 1

    @pytest.mark.parametrize("read", READS)
    def test_a_read_that_breaks_off_changes_nothing(self, catalog: TargetCatalog, read: str) -> None:
        """Wherever a method that changes nothing breaks off, it gives the same as ever when it is asked again."""
        target, _ = self._filled(catalog)
        before, tables, call = _promoted(target, catalog), catalog.tables(), READS[read]
        with midway(_code_of(target)) as moments:
            known = call(target)
        for at in moments.spread(self.crashes // 3):
            _broken_off(target, at, lambda: call(target))
            assert call(catalog.target(missing="insert")) == known
        assert (catalog.read(), catalog.tables()) == (before, tables)

    def _filled(self, catalog: TargetCatalog) -> tuple[Target, dict[str, CatalogRow]]:
        for key in ("a", "b", "same"):
            catalog.insert(key, category="old", score=3)
        target = catalog.target(missing="insert")
        target.install()
        return target, dict(catalog.read())


def _rows(text: str) -> list[StagedRow]:
    return [staged("a", text), staged("b", text), staged("new", text)]


def _promoted(target: Target, catalog: TargetCatalog) -> dict[str, CatalogRow]:
    assert target.promote(note(), _rows("one")).written == 3
    return dict(catalog.read())


def _standing(catalog: TargetCatalog) -> bool:
    """Tell whether a promotion stands: none or one."""
    stand = [p for p in catalog.target(missing="insert").promotions() if p.rolled_back_at is None]
    assert len(stand) <= 1
    return bool(stand)


def _broken_off(target: Target, at: int, call: Callable[[], object]) -> None:
    """Break a call off, or let it end if it has fewer moments than it had before. Nothing is kept of the exception."""
    with suppress(Killed), midway(_code_of(target), at, die_in_process):
        call()


def _code_of(target: Target) -> str:
    module = type(target).__module__
    return module.rpartition(".")[0] or module
