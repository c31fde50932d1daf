"""Files for people who have no batchkit: the verifier, the hand-over pages."""

from __future__ import annotations

from importlib.resources import files


def verifier() -> bytes:
    """Give the stdlib-only program that checks a receipt against its source."""
    return files(__name__).joinpath("verify.py").read_bytes()
