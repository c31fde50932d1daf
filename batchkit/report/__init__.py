"""Files for people who have no batchkit: the verifier, the hand-over's pages."""

from __future__ import annotations

from importlib.resources import files


def verifier() -> bytes:
    """Give the stdlib-only program that checks a receipt against its source.

    It lies here as text, because it is no module of batchkit: it is read and run where batchkit is not.
    """
    return files(__name__).joinpath("verify.py.txt").read_bytes()


def template(name: str) -> str:
    """Give the text of a template of this folder."""
    return files(__name__).joinpath(name).read_text("utf-8")
