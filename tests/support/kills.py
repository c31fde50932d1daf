"""Kill the demo at a random moment, start it again on the same folder, and look at the sum. Many times.

    python tests/support/kills.py [N] [--rows 2000] [--jobs 2] [--seed S]

Every third time the stand-in for the API is killed too. Nothing may be lost, paid twice, or left half undone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs

PATIENCE = 600.0
"""Seconds one run of the demo gets."""


@attrs.frozen(kw_only=True)
class Killed:
    """What became of one killed run."""

    number: int
    after: float
    where: str
    server: bool
    told: dict[str, Any]
    complaint: str

    @property
    def wrong(self) -> list[str]:
        """Say what is not as it must be."""
        told = self.told
        if not told:
            return [f"it did not end: {self.complaint}"]
        checks = {
            "the outcomes do not sum to the rows": sum(told["outcomes"].values()) == told["rows"],
            "a row is still open": told["outcomes"]["open"] == 0,
            "not balanced": told["balanced"] is True,
            "receipt not verified": told["receipt_verified"] is True,
            "rollback not identical": told["rolled_back_identical"] is True,
            f"paid twice: {told['double_paid']}": told["double_paid"] == 0,
        }
        return [what for what, right in checks.items() if not right]


def demo(folder: Path, rows: int) -> subprocess.Popen[bytes]:
    """Start the demo on a folder."""
    with (folder.parent / f"{folder.name}.log").open("ab") as log:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "batchkit", "demo", "--rows", str(rows)),
                *("--workdir", str(folder), "--json", str(folder.parent / f"{folder.name}.json")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def last_section(folder: Path) -> str:
    """Give the section that was printed last."""
    text = (folder.parent / f"{folder.name}.log").read_text(encoding="utf-8", errors="replace")
    heads = [line.strip("─ ").split("─")[0].strip() for line in text.splitlines() if line.startswith("── ")]
    return heads[-1] if heads else "before the first section"


def kill_server(folder: Path) -> bool:
    """Kill the stand-in that a killed demo left, if there is one; it says itself which process it is."""
    from batchkit.demo.folder import Folder
    from batchkit.demo.stand_in import StandIn

    port = Folder(folder).notes.get("port") if folder.exists() else None
    with contextlib.suppress(OSError):
        if port is not None:
            os.kill(int(StandIn(port).state()["pid"]), signal.SIGKILL)
            return True
    return False


def kill_once(number: int, folder: Path, *, rows: int, within: float, chance: random.Random) -> Killed:
    """Start, kill at a random moment, start again to the end."""
    after = chance.uniform(0.0, within)
    process = demo(folder, rows)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after)
    process.kill()
    process.wait()
    where = last_section(folder)
    server = number % 3 == 0 and kill_server(folder)
    again = demo(folder, rows)
    try:
        again.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        again.kill()
        again.wait()
    told = folder.parent / f"{folder.name}.json"
    log = (folder.parent / f"{folder.name}.log").read_text(encoding="utf-8", errors="replace")
    return Killed(
        number=number,
        after=after,
        where=where,
        server=server,
        told=json.loads(told.read_bytes()) if told.exists() and again.returncode == 0 else {},
        complaint="\n".join(log.splitlines()[-12:]),
    )


def main() -> int:
    """Run them all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=int, nargs="?", default=50)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", type=Path, help="keep the folders here")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        root = options.keep or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="batchkit-kills-"))
        )
        root.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(options.jobs) as pool:
            # The clean runs are as many at a time as the killed ones, so that the moments are spread over their length.
            clean = list(pool.map(lambda n: timed(root / f"clean-{n}", options.rows), range(options.jobs)))
            within = max(clean)
            print(
                f"seed {seed}; not killed: {within:.1f} s; {options.runs} runs, killed within that time",
                flush=True,
            )
            jobs = [
                pool.submit(
                    kill_once,
                    number,
                    root / f"run-{number}",
                    rows=options.rows,
                    within=within,
                    chance=random.Random(chance.random()),
                )
                for number in range(1, options.runs + 1)
            ]
            bad = sum(show(job.result()) for job in jobs)
    print(f"{options.runs - bad} of {options.runs} whole in {time.monotonic() - began:.0f} s")
    return 1 if bad else 0


def timed(folder: Path, rows: int) -> float:
    """Run the demo once without a kill; give its seconds."""
    began = time.monotonic()
    if demo(folder, rows).wait(PATIENCE):
        log = (folder.parent / f"{folder.name}.log").read_text(encoding="utf-8", errors="replace")
        raise SystemExit(f"the demo fails even without a kill:\n{log}")
    return time.monotonic() - began


def show(killed: Killed) -> bool:
    """Print one line; tell whether something is wrong."""
    told = killed.told
    sums = " + ".join(f"{name} {n}" for name, n in told.get("outcomes", {}).items() if n)
    server = " and the server" if killed.server else ""
    line = f"{killed.number:>4}  {killed.after:5.1f} s{server:<15}  {killed.where:<62.62}  {sums} = {told.get('rows')}"
    print(f"{line}  {'; '.join(killed.wrong) or 'nothing paid twice'}", flush=True)
    return bool(killed.wrong)


if __name__ == "__main__":
    sys.exit(main())
