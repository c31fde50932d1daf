"""The soak: whole runs under faults in virtual time, and that it would notice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from batchkit.testing.soak import Setup, play, soak
from batchkit.testing.soak.__main__ import main


@pytest.mark.parametrize("first", [0, 100, 200])
def test_nothing_is_lost_or_paid_twice(
    first: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over 300 histories at a fault rate of 5 % no row is lost, nothing is paid twice and every run ends."""
    told = tmp_path / "soak.json"
    options = ["--first", str(first), "--seeds", "100", "--fault-rate", "0.05", "--json", str(told)]
    assert main(options) == 0, capsys.readouterr().out
    sums = json.loads(told.read_bytes())
    assert (sums["engine"], sums["seeds"], sums["fault_rate"]) == ("batchkit", 100, 0.05)
    names = ("lost", "double_paid", "unreported_duplicates", "wrong_adoptions", "violations")
    assert {name: sums[name] for name in names} == dict.fromkeys(names, 0)
    assert sums["doubts"] > 5
    assert 0 < sums["max_virtual_hours"] < 240


def test_half_of_all_requests_fail() -> None:
    """At a fault rate of 50 %, among twenty strangers an hour, the same holds."""
    summary = soak(Setup(fault_rate=0.5, strangers=20.0), range(400, 405))
    assert summary.violations == ()
    assert (summary.lost, summary.double_paid, summary.wrong_adoptions) == (0, 0, 0)


def test_the_real_client_fares_alike() -> None:
    """With the SDK's own client in between, the same holds."""
    summary = soak(Setup(fault_rate=0.2, sdk=True), range(20, 24))
    assert summary.violations == ()


def test_a_seed_plays_one_history() -> None:
    """The same seed plays the same history to the last byte and second, in another process too."""
    setup = Setup(fault_rate=0.5)
    first = play(5, setup)
    assert play(5, setup) == first
    assert play(6, setup).digest != first.digest
    script = (
        "from batchkit.testing.soak import Setup, play; print(play(5, Setup(fault_rate=0.5)).digest, end='')"
    )
    hashed = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": os.pathsep.join(sys.path)}
    again = subprocess.run([sys.executable, "-c", script], env=hashed, capture_output=True, check=True)
    assert again.stdout.decode() == first.digest


def test_scripts_that_people_write_pay_twice() -> None:
    """The soak sees double payment where there is some: the SDK's own retries, and one look at the list."""
    naive = soak(Setup(engine="naive", fault_rate=0.5), range(20))
    listing = soak(Setup(engine="one_listing", fault_rate=0.5), range(20))
    assert naive.double_paid > listing.double_paid > 0
    assert listing.wrong_adoptions > 0


def test_what_comes_later_than_the_grace_is_reported() -> None:
    """Where creates arrive after the grace, rows are paid twice, and the receipt says so of every line."""
    setup = Setup(fault_rate=0.5, grace=0.0, lateness=4 * 3_600.0)
    summary = soak(setup, range(100, 112))
    assert summary.violations == ()
    assert summary.double_paid > 0
    assert summary.unreported_duplicates == 0
