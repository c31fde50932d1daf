"""Why a PostgreSQL server let somebody not in: of a refused connection drivers give only its text, no SQLSTATE."""

from __future__ import annotations

import re
from typing import Final

_SAID: Final = (
    (re.compile(r"permission denied for database"), "42501"),
    (re.compile(r'database ".*" does not exist'), "3D000"),
    (re.compile(r"authentication failed|no password supplied|no pg_hba\.conf entry"), "28000"),
    (re.compile(r'role ".*" (does not exist|is not permitted to log in)'), "28000"),
)


def refusal(told: str) -> str:
    """Give the SQLSTATE of a refused connection; nothing where the text does not tell, or is not English."""
    return next((code for said, code in _SAID if said.search(told)), "")
