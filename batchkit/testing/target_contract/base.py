"""What the contract's tests stand on: a fixture to override and values to promote."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pytest

from batchkit.ids import Digest
from batchkit.targets import Note, OutputField, Promotion, StagedRow
from batchkit.testing.target_catalogs import TargetCatalog

FIELDS = ("category", "score", "features")
TEXT = frozenset({"string"})
CATEGORY = OutputField(name="category", kinds=TEXT, max_length=40)
SCORE = OutputField(name="score", kinds=frozenset({"integer"}))
FEATURES = OutputField(name="features", kinds=frozenset({"array"}))


def digest(text: str) -> Digest:
    """Give some digest."""
    return Digest(hashlib.sha256(text.encode()).hexdigest())


def note(
    content: str = "one",
    *,
    run: str = "nightly",
    fields: tuple[str, ...] = FIELDS,
    partial: bool = False,
    store: str = "A",
) -> Note:
    """Give what a promotion is about."""
    return Note(
        run=run,
        receipt=digest(f"receipt {content}"),
        content=digest(content),
        fields=fields,
        partial=partial,
        store=store,
    )


def staged(
    key: str,
    category: str | None = "Audio",
    score: int = 1,
    *,
    guard: Mapping[str, str | None] | None = None,
    answer: int = 0,
) -> StagedRow:
    """Give a staged row."""
    return StagedRow(key, {"category": category, "score": score, "features": ["a", "b"]}, guard or {}, answer)


def counts(promotion: Promotion) -> dict[str, int]:
    """Give how many staged rows became what."""
    names = ("written", "inserted", "unchanged", "conflict", "absent", "held_back")
    return {name: getattr(promotion, name) for name in names}


class TargetCase:
    """Overridden by each backend."""

    @pytest.fixture
    def catalog(self) -> TargetCatalog:
        """Give an empty catalog. Overridden by the backend under test."""
        raise NotImplementedError("give a catalog fixture")
