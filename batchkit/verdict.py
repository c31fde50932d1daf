"""What is said of one answer."""

from __future__ import annotations

from typing import Generic, TypeVar

from typing_extensions import NamedTuple

from batchkit.model import Usage
from batchkit.reasons import Reason

T = TypeVar("T")


CODE_FAILED = "code failed: "
"""Begins the detail of an answer that could not be judged because the contract's own code is wrong."""


def code_failure(who: str, error: Exception) -> str:
    """Say that the contract's own code failed.

    What an error says may quote the record, so it is kept only where it speaks of code.
    """
    said = f": {error}" if isinstance(error, (AttributeError, NameError, TypeError)) else ""
    return f"{CODE_FAILED}{who} raised {type(error).__name__}{said}"


class Verdict(NamedTuple, Generic[T]):
    """One answer, judged. A named tuple, since there is one for every line of a batch.

    Attributes:
        reason: Why it is not accepted; None means valid.
        detail: For ``output.schema`` a JSON list of ``{"loc", "type", "msg"}``, for ``output.rule`` the rule and
            what it said, else a short text. Never the record's own text.
        output: The answer as the contract's type, where it has its shape (also for broken rules and sparse answers).
        text: The JSON text of an answer that has the shape, else the raw answer; empty where there is none.
        usage: Tokens billed, None where nothing was billed or nothing usable was reported.
        model: The model that answered, as the provider names it.
    """

    reason: Reason | None
    detail: str = ""
    output: T | None = None
    text: bytes = b""
    usage: Usage | None = None
    model: str = ""

    @property
    def valid(self) -> bool:
        """Whether the answer is accepted."""
        return self.reason is None
