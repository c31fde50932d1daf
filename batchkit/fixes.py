"""What people are told to type. STORE and RUN are filled in where they are known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def decision_fix(batch: int, *decisions: str) -> str:
    """Give the command that decides about a held batch, with what may be decided."""
    return f"python -m batchkit decide STORE RUN {batch} {'|'.join(decisions)} --by YOU"


def meant(word: str, known: Iterable[str], form: str = "%r") -> str:
    """Give " Did you mean 'x'?" where a known word is close to one that is not known; nothing where none is."""
    close = get_close_matches(word, list(known), n=1)
    return f" Did you mean {form % close[0]}?" if close else ""
