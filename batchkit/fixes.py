"""The commands that people are told to type. STORE and RUN are filled in where they are known."""

from __future__ import annotations


def decision_fix(batch: int, *decisions: str) -> str:
    """Give the command that decides about a held batch, with what may be decided."""
    return f"python -m batchkit decide STORE RUN {batch} {'|'.join(decisions)} --by YOU"
