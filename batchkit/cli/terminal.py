"""What a verb prints: text for people, or one JSON document for programs."""

from __future__ import annotations

import json
import sys
from typing import Any

from batchkit.printing import printable


def say(*texts: object) -> None:
    """Print text. Nothing that stands in the data can do anything to the terminal."""
    for text in texts:
        sys.stdout.write("".join(f"{line}\n" for line in harmless(text)))


def complain(error: Exception) -> None:
    """Print an error's message, and no traceback."""
    sys.stderr.write("\n".join(harmless(f"{type(error).__name__}: {error}")) + "\n")


def harmless(text: object) -> list[str]:
    """Give the lines of a text, escaped."""
    return [printable(line) for line in str(text).split("\n")]


def tell(value: Any) -> None:
    """Print one JSON document, in ASCII."""
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")
