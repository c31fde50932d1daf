"""What a refused connection says: the codes that its text stands for."""

from __future__ import annotations

import pytest

from batchkit.login import refusal


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ('FATAL:  password authentication failed for user "ada"', "28000"),
        ("fe_sendauth: no password supplied", "28000"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "ada", database "jobs"', "28000"),
        ('FATAL:  role "ada" does not exist', "28000"),
        ('FATAL:  role "ada" is not permitted to log in', "28000"),
        ('FATAL:  database "jobs" does not exist', "3D000"),
        ('FATAL:  permission denied for database "jobs"', "42501"),
        ("FATAL:  the database system is starting up", ""),
        ('FATAL:  too many connections for role "ada"', ""),
        ("connection refused", ""),
    ],
)
def test_what_a_refusal_means(told: str, code: str) -> None:
    """A login that was refused is told from a server that is not there or has no room."""
    assert refusal(f"connection failed: {told}") == code
