"""The mutants of the protocol still fit the code; `nox -s mutants` lets each of them loose."""

from __future__ import annotations

import runpy
from operator import attrgetter
from types import SimpleNamespace

import pytest
from mutants import MUTANTS, ROOT, Mutant

import batchkit


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_still_fits_the_code(mutant: Mutant) -> None:
    """What it changes stands there exactly once, and the tests that must notice are there."""
    package = next(iter(batchkit.__path__))
    for file, old, new in [(mutant.file, mutant.old, mutant.new), *mutant.also]:
        with open(f"{package}/{file}", encoding="utf-8") as text:
            assert text.read().count(old) == 1
        assert new != old
    for test in mutant.tests:
        path, *names = test.split("::")
        assert callable(attrgetter(".".join(names))(SimpleNamespace(**runpy.run_path(str(ROOT / path)))))
