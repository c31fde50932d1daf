"""Break the submission protocol in one place at a time, and see that a named test goes red.

    python tests/support/mutants.py [NAME ...]

Each mutant is applied to a copy of the package; the tests named with it must fail there, and pass unbroken.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[2]


@attrs.frozen
class Mutant:
    """One thing done wrong.

    ``old`` stands exactly once in ``file`` and becomes ``new``, and so for what is ``also`` changed; ``tests`` are what
    must notice, as pytest names them.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    also: tuple[tuple[str, str, str], ...] = ()


RULES = "tests/fault/test_protocol_rules.py::"
DOUBT = "tests/unit/test_doubt_resolve.py::"
SUBMITTER = "tests/unit/test_submitter.py::"
TWINS = "tests/unit/test_twins.py::"
NONCES = "tests/fault/test_nonces_and_fences.py::"
SQLITE = "tests/contract/test_sqlite_store.py::TestFile::"
POSTGRES = "tests/contract/test_postgres_store.py::TestPostgres::"

MUTANTS: Sequence[Mutant] = (
    Mutant(
        "descending sizes",
        "planner.py",
        "    count = draw(low, cap)\n    for _",
        "    count = cap - len(taken)\n    for _",
        ("tests/unit/test_planner.py::test_a_size_is_between_80_and_100_percent_of_the_cap",),
    ),
    Mutant(
        "hashed nonces",
        "submitter.py",
        "self._entropy(5)",
        "len(self._store.batches(BatchWhere())).to_bytes(5, 'big')",
        (f"{NONCES}test_two_stores_alike_draw_different_nonces",),
    ),
    Mutant(
        "wall-clock grace",
        "doubt.py",
        "passed = trail.last - trail.first",
        "passed = now - trail.since",
        (f"{DOUBT}test_the_grace_runs_on_the_servers_clock",),
    ),
    Mutant(
        "grace counted from the claim",
        "doubt.py",
        "passed = trail.last - trail.first",
        "passed = trail.last - (batch.sent_at or batch.created_at)",
        (f"{RULES}test_the_grace_runs_from_the_first_clean_reading",),
    ),
    Mutant(
        "a pre-POST list counted",
        "resolver.py",
        "    trail = Trail(since=now)\n",
        "    trail = Trail(since=now, begun=now, dated=now, first=now, last=now, clean=1)\n",
        (f"{RULES}test_a_list_requested_before_the_doubt_was_committed_never_counts",),
    ),
    Mutant(
        "local lease check before the last chunk",
        "sendguard.py",
        "        self._renew()\n        holder = self.store.holder(self.lease.run)",
        "        holder = self.lease",
        (
            f"{SUBMITTER}test_losing_the_lease_in_mid_body_creates_nothing",
            f"{NONCES}test_a_lease_that_was_taken_over_stops_the_last_chunk_whatever_the_clock_says",
        ),
    ),
    Mutant(
        "credential not snapshotted",
        "submitter.py",
        "gateway = self._gateway.snapshot()",
        "gateway = self._gateway",
        (
            f"{RULES}test_head_claim_and_post_use_one_snapshot_of_the_credential",
            f"{SUBMITTER}test_head_and_post_carry_one_credential",
        ),
    ),
    Mutant(
        "depth taken for place",
        "doubt.py",
        "    if not _in_place(batch, reading, known):",
        "    if elsewhere(batch.place, reading.place):",
        (f"{RULES}test_place_is_proved_only_by_the_head_or_a_batch_of_that_place",),
    ),
    Mutant(
        "a foreign known batch taken for place",
        "suspects.py",
        "            and b.place == batch.place\n            and (b.state in HOLDERS",
        "            and (b.state in HOLDERS",
        ("tests/fault/test_known_place.py::test_a_known_batch_of_another_place_proves_nothing",),
    ),
    Mutant(
        "cancelling on a count",
        "suspects.py",
        "        if not found.ended:\n",
        "        if not found.ended:\n            gateway.cancel(remote)  # type: ignore[attr-defined]\n",
        (f"{SUBMITTER}test_a_stranger_of_the_same_size_is_opened_and_left_alone",),
    ),
    Mutant(
        "adopting before the first line",
        "doubt.py",
        "id=item.id, finding=Finding.RUNNING, since=at",
        "id=item.id, finding=Finding.OURS, since=at",
        (f"{SUBMITTER}test_a_stranger_of_the_same_size_is_opened_and_left_alone",),
    ),
    Mutant(
        "a vanished suspect counted clean",
        "trail.py",
        "self.finding in {Finding.RUNNING, Finding.UNREADABLE, Finding.MISSING}",
        "self.finding in {Finding.RUNNING, Finding.UNREADABLE}",
        (f"{RULES}test_a_vanished_suspect_is_held_and_never_clean",),
    ),
    Mutant(
        "a 404 to another workspace's key taken for vanished",
        "suspects.py",
        "away = elsewhere(batch.place, gateway.list(1).place)",
        "away = False",
        (f"{TWINS}test_a_suspect_that_a_key_of_another_workspace_does_not_find_has_not_vanished",),
    ),
    Mutant(
        "dismissing by this nonce only",
        "doubt.py",
        "return Finding.OTHER if nonce in known.nonces else Finding.STRANGER",
        "return Finding.STRANGER",
        (f"{RULES}test_a_first_line_is_compared_with_every_nonce_of_the_store",),
    ),
    Mutant(
        "a twin booked while the retry is open",
        "twins.py",
        "                if row.state is RowState.SUBMITTED:\n                    return None\n",
        "",
        (f"{RULES}test_a_late_twin_is_read_only_when_none_of_its_rows_is_out",),
    ),
    Mutant(
        "SDK retries on",
        "api.py",
        "self._made = given.with_options(max_retries=0)",
        "self._made = given.with_options(max_retries=2)",
        (
            "tests/fault/test_create_answers.py::test_an_answer_that_proves_nothing_leaves_one_post_and_a_doubt",
        ),
    ),
    Mutant(
        "no in-this-batch guard, in SQLite",
        "storage/sqlite_settle.py",
        "        AND (row_state.batch = ? OR row_state.batch IS NULL)",
        "        AND (row_state.batch = ? OR TRUE)",
        (f"{SQLITE}test_rows_elsewhere_are_ignored",),
    ),
    Mutant(
        "no in-this-batch guard, in PostgreSQL",
        "storage/postgres_settle.py",
        "        AND (s.batch = %s OR s.batch IS NULL)",
        "        AND (s.batch = %s OR TRUE)",
        (f"{POSTGRES}test_rows_elsewhere_are_ignored",),
    ),
    Mutant(
        "the page guard removed, in SQLite",
        "storage/sqlite_settle.py",
        "row_state.id = r.row AND row_state.state = {schema.EVENT_ORIGIN}",
        "row_state.id = r.row",
        (f"{SQLITE}test_a_replay_is_ignored",),
    ),
    Mutant(
        "the page guard removed, in PostgreSQL",
        "storage/postgres_settle.py",
        "AND s.id = ANY(%s) AND s.state = {schema.EVENT_ORIGIN}",
        "AND s.id = ANY(%s)",
        (f"{POSTGRES}test_a_replay_is_ignored",),
    ),
    Mutant(
        "marking missing on a short stream",
        "collector.py",
        "        wrong = differences(reading, counts, batch.count)\n",
        "        reading.close_rows(RowEvent.MISSING_ACCEPTED, Reason.BATCH_MISSING_RESULT)\n"
        "        wrong = differences(reading, counts, batch.count)\n",
        ("tests/unit/test_collector.py::test_a_file_cut_at_any_byte_loses_nothing",),
    ),
    Mutant(
        "no epoch check, in SQLite",
        "storage/sqlite_base.py",
        "WHERE id = ? AND epoch = ? AND owner = ?",
        "WHERE id = ? AND ? > 0 AND ? <> ''",
        (f"{SQLITE}test_a_lease_that_expires_in_mid_write",),
    ),
    Mutant(
        "no epoch check, in PostgreSQL",
        "storage/postgres_base.py",
        "WHERE id = %(run)s AND epoch = %(epoch)s AND owner = %(owner)s",
        "WHERE id = %(run)s AND %(epoch)s > 0 AND %(owner)s <> ''",
        (f"{POSTGRES}test_a_lease_that_expires_in_mid_write",),
    ),
    Mutant(
        "uniqueness of remote ids dropped, in SQLite",
        "storage/sqlite_batches.py",
        "        if batch.remote_id is not None:",
        "        if False:",
        (f"{SQLITE}test_a_remote_id_belongs_to_one_batch",),
        also=(("storage/schema.py", "remote_id TEXT UNIQUE", "remote_id TEXT"),),
    ),
    Mutant(
        "uniqueness of remote ids dropped, in PostgreSQL",
        "storage/postgres_batches.py",
        "        if batch.remote_id is not None:",
        "        if False:",
        (f"{POSTGRES}test_a_remote_id_belongs_to_one_batch",),
        also=(("storage/postgres_schema.py", "remote_id text UNIQUE", "remote_id text"),),
    ),
    Mutant(
        "the claim skipped",
        "submitter.py",
        "                expect=BatchState.INTENT,\n                to=BatchState.SENDING,\n",
        "                expect=self._store.batches(BatchWhere(ids=(batch.id,)))[0].state,\n"
        "                to=BatchState.SENDING,\n",
        (f"{SUBMITTER}test_a_claim_that_is_not_ours_is_not_sent",),
    ),
)


def tried(mutant: Mutant, folder: Path) -> str:
    """Apply a mutant to a copy and run its tests; give who killed it, or nothing."""
    wholes: dict[Path, str] = {}
    for file, old, new in [(mutant.file, mutant.old, mutant.new), *mutant.also]:
        path = folder / "batchkit" / file
        wholes[path] = whole = path.read_text(encoding="utf-8")
        if whole.count(old) != 1:
            raise SystemExit(f"{mutant.name}: its text stands {whole.count(old)} times in {file}, not once")
        path.write_text(whole.replace(old, new), encoding="utf-8")
    try:
        ended = run(folder, mutant.tests)
    finally:
        for path, whole in wholes.items():
            path.write_text(whole, encoding="utf-8")
    if ended.returncode not in {0, 1}:
        raise SystemExit(f"{mutant.name}: the tests did not run\n{ended.stdout}{ended.stderr}")
    red = [line for line in ended.stdout.splitlines() if line.startswith("FAILED ")]
    return red[0].split()[1].rpartition("/")[2] if red else ""


def run(folder: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run tests on the copy, until one fails."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=no", *tests]
    clean = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)


def main() -> int:
    """Try them all and print who killed whom."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only these")
    names = parser.parse_args().names
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    survivors = []
    with tempfile.TemporaryDirectory(prefix="batchkit-mutants-") as temporary:
        folder = Path(temporary)
        for part in ("batchkit", "tests"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        sound = run(folder, sorted({test for mutant in chosen for test in mutant.tests}))
        if sound.returncode:
            print(f"the tests fail without any mutant\n{sound.stdout[-2_000:]}")
            return 1
        for mutant in chosen:
            began = time.monotonic()
            killer = tried(mutant, folder)
            survivors += [] if killer else [mutant.name]
            print(f"{mutant.name:<52} {killer or 'SURVIVED'}  ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
