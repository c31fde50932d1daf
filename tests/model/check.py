"""Check the model of the submission protocol with spin: every claim must hold, every mutant must be refuted.

Needs ``spin`` and ``gcc``. ``check.py`` runs everything; ``check.py WORD`` runs what has the word in its name;
``check.py --story NAME`` prints, step by step, how one check is refuted.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).with_name("submission.pml")
SECONDS = 900
MEGABYTES = 2000
DEPTH = 200_000
TOO_SHORT = "-DG=2"
"""With the model's usual L = 1 and V = 1, a grace that a create can outlast."""


@dataclass(frozen=True)
class Check:
    """One run of the checker: what is asked, of which instance, and the answer that is wanted."""

    kind: str
    name: str
    flags: str
    holds: bool
    fair: bool = False


@dataclass(frozen=True)
class Outcome:
    """What the checker answered; ``holds`` is None where it did not finish. Seconds are the processor's."""

    holds: bool | None
    states: int
    seconds: float
    story: str = ""


def claim(name: str, flags: str, *, fair: bool = False) -> Check:
    return Check("claim", name, flags, holds=True, fair=fair)


def mutant(name: str, flags: str, *, fair: bool = False) -> Check:
    return Check("mutant", name, flags, holds=False, fair=fair)


def reachable(name: str, number: int, flags: str = "") -> Check:
    return Check("reached", name, f"-DREACH={number} {flags}".strip(), holds=False)


ALWAYS = "-DCLAIM_OURS -DCLAIM_ONE_OPEN -DCLAIM_USED -DCLAIM_SEEN -DCLAIM_BOOKED"
SAFE = f"-DCLAIM_ONCE {ALWAYS}"
ONE_STORE = "-DRUNS=2 -DONE_STORE"

CLAIMS = [
    claim("safe: two movers, three attempts, a stranger", f"{SAFE} -DK=3"),
    claim("safe: a batch expires, a suspect is deleted", f"{SAFE} -DEXPIRIES=1 -DDELETIONS=1"),
    claim("safe: two stores in one workspace", f"{SAFE} -DRUNS=2 -DSTRANGERS=0"),
    claim("safe: two runs of one store, a stranger", f"{SAFE} {ONE_STORE}"),
    claim("safe: keys rotate to another workspace", f"{SAFE} -DROTATION"),
    claim("reported: grace too short, three attempts", f"{ALWAYS} {TOO_SHORT} -DK=3"),
    claim(
        "reported: grace too short, expiry, deletion",
        f"{ALWAYS} {TOO_SHORT} -DK=3 -DEXPIRIES=1 -DDELETIONS=1 -DSTRANGERS=0",
    ),
    claim("reported: grace too short, keys rotate", f"{ALWAYS} {TOO_SHORT} -DROTATION -DSTRANGERS=0"),
    claim(
        "one twin: grace too short, at most one batch too many per store",
        f"-DCLAIM_ONE_TWIN {TOO_SHORT} {ONE_STORE} -DSTRANGERS=0",
    ),
    claim("ends: two movers, a stranger", "-DCLAIM_ENDS", fair=True),
    claim("ends: two stores in one workspace", "-DCLAIM_ENDS -DRUNS=2 -DSTRANGERS=0", fair=True),
    claim("ends: two runs of one store", f"-DCLAIM_ENDS {ONE_STORE} -DSTRANGERS=0", fair=True),
    claim("ends: keys rotate to another workspace", "-DCLAIM_ENDS -DROTATION -DSTRANGERS=0", fair=True),
    claim("ends: a stranger's batch never ends", "-DCLAIM_ENDS -DSTUCK", fair=True),
    claim(
        "found: grace too short, deletion",
        f"-DCLAIM_FOUND {TOO_SHORT} -DDELETIONS=1 -DSTRANGERS=0",
        fair=True,
    ),
    claim(
        "found: grace too short, three attempts", f"-DCLAIM_FOUND {TOO_SHORT} -DK=3 -DSTRANGERS=0", fair=True
    ),
]


def frontier() -> Iterator[Check]:
    """The grace against the latest arrival and the list's lag, on both sides of the line."""
    for grace in (1, 2, 3):
        for late in range(grace + 1):
            for lag in (grace - late - 1, grace - late):
                if lag >= 0:
                    flags = f"-DCLAIM_ONCE -DL={late} -DV={lag} -DG={grace} -DSTRANGERS=0"
                    safe = late + lag < grace
                    name = f"L + V = {late} + {lag} {'<' if safe else '>='} G = {grace}"
                    yield Check("grace", name, flags, holds=safe)


MUTANTS = [
    mutant("the intent's own list counts as the first reading", "-DCLAIM_ONCE -DMUTANT_INTENT_LIST"),
    mutant("the grace counts from the claim", "-DCLAIM_ONCE -DMUTANT_GRACE_FROM_CLAIM"),
    mutant("POST before the claim is committed", "-DCLAIM_ONCE -DMUTANT_NO_CLAIM"),
    mutant("local lease check before the last chunk", "-DCLAIM_ONCE -DMUTANT_LOCAL_CHECK"),
    mutant("the fence does not compare the epoch", "-DCLAIM_ONCE -DMUTANT_NO_EPOCH"),
    mutant("doubt opened while the lease is running", "-DCLAIM_ONCE -DMUTANT_LEASE_IGNORED"),
    mutant("POST under another credential than the head", "-DCLAIM_ONCE -DROTATION -DMUTANT_NO_SNAPSHOT"),
    mutant("readings of another workspace count", "-DCLAIM_ONCE -DROTATION -DMUTANT_NO_PLACE"),
    mutant("a suspect that still runs counts as clean", "-DCLAIM_ONCE -DMUTANT_RUNNING_CLEAN"),
    mutant("a vanished suspect counts as clean", "-DCLAIM_ONCE -DDELETIONS=1 -DMUTANT_VANISHED_CLEAN"),
    mutant("adopting on the count, before the first line", "-DCLAIM_OURS -DMUTANT_ADOPT_ON_COUNT"),
    mutant("canceling a suspect on the count", "-DCLAIM_OURS -DMUTANT_CANCEL_ON_COUNT"),
    mutant("two stores draw the same nonces", "-DCLAIM_OURS -DRUNS=2 -DSTRANGERS=0 -DMUTANT_HASHED_NONCE"),
    mutant("a second intent while one is unresolved", f"-DCLAIM_ONE_OPEN {ONE_STORE} -DMUTANT_TWO_OPEN"),
    mutant("no watch after absence", f"-DCLAIM_BOOKED {TOO_SHORT} -DMUTANT_NO_WATCH"),
    mutant(
        "strangers dismissed by this nonce only",
        f"-DCLAIM_BOOKED {TOO_SHORT} -DK=3 -DSTRANGERS=0 -DMUTANT_THIS_NONCE_ONLY",
    ),
    mutant(
        "a reading serves one batch only",
        f"-DCLAIM_BOOKED {TOO_SHORT} -DDELETIONS=1 -DMUTANT_READ_FOR_ONE",
    ),
    mutant(
        "a watch closes on a reading of another workspace",
        f"-DCLAIM_BOOKED {TOO_SHORT} -DROTATION -DSTRANGERS=0 -DMUTANT_WATCH_ANYWHERE",
    ),
    mutant(
        "a watch whose suspect was deleted ends clean",
        f"-DCLAIM_BOOKED {TOO_SHORT} -DDELETIONS=1 -DSTRANGERS=0 -DMUTANT_GONE_ENDS_CLEAN",
    ),
    mutant("rows of a watch's suspect go out", f"-DCLAIM_SEEN {TOO_SHORT} -DMUTANT_NOT_DEFERRED"),
    mutant(
        "rows of an unread late batch go out",
        f"-DCLAIM_USED {TOO_SHORT} -DK=3 -DEXPIRIES=1 -DSTRANGERS=0 -DMUTANT_UNREAD_TWIN",
    ),
    mutant(
        "a late batch is read while its row is out",
        f"-DCLAIM_USED {TOO_SHORT} -DK=3 -DEXPIRIES=1 -DSTRANGERS=0 -DMUTANT_TWIN_READ_EARLY",
    ),
    mutant(
        "absence stays automatic after a late twin",
        f"-DCLAIM_ONE_TWIN {TOO_SHORT} {ONE_STORE} -DSTRANGERS=0 -DMUTANT_TWIN_IGNORED",
    ),
    mutant("a doubt may last for ever", "-DCLAIM_ENDS -DSTUCK -DMUTANT_DOUBT_FOR_EVER", fair=True),
    mutant(
        "only a time without any valid reading ends a doubt",
        "-DCLAIM_ENDS -DROTATION -DSTRANGERS=0 -DMUTANT_UNREAD_ONLY",
        fair=True,
    ),
    mutant("a suspect defers rows for ever", "-DCLAIM_ENDS -DSTUCK -DMUTANT_DEFERRED_FOR_EVER", fair=True),
]

REACHED = [
    reachable("a doubt is proved by its first line", 1),
    reachable("absence is concluded", 2),
    reachable("a late twin is found", 3, TOO_SHORT),
    reachable("a doubt is held for a person", 4, "-DROTATION"),
    reachable("a stranger is opened and dismissed", 5),
    reachable("a fenced-off mover leaves the id it was given", 6),
    reachable("a row takes a late twin's answer", 7, TOO_SHORT),
    reachable("a mover is frozen in mid-body", 8),
    reachable("a watch whose suspect was deleted ends inconclusive", 9, f"{TOO_SHORT} -DDELETIONS=1"),
    reachable("a twin is found beside a suspect that was deleted", 10, f"{TOO_SHORT} -DDELETIONS=1"),
]

CHECKS = [*CLAIMS, *frontier(), *MUTANTS, *REACHED]


def spent() -> float:
    """Give the processor's seconds that the programs run so far have taken."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(check: Check, folder: Path, *, story: bool = False) -> Outcome:
    """Generate, compile and run one checker; the shortest story takes a longer search."""

    def call(*command: str, timeout: float | None = None) -> str:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False
        )
        return done.stdout + done.stderr

    flags = check.flags.split()
    (folder / MODEL.name).write_bytes(MODEL.read_bytes())
    generated = call("spin", *flags, "-a", MODEL.name)
    if "Error" in generated:
        raise SystemExit(generated)
    # No formula says "next", so the partial order reduction, which spin does unasked, changes no answer.
    how = ["-DNFAIR=3"] if check.fair else ["-DSAFETY"]
    compiled = call(
        "gcc",
        "-O2",
        "-w",
        f"-DMEMLIM={MEGABYTES}",
        *how,
        *["-DREACH"] * story,
        "-o",
        "pan",
        "pan.c",
    )
    if not (folder / "pan").exists():
        raise SystemExit(compiled)
    began = spent()
    try:
        said = call("./pan", f"-m{DEPTH}", *["-a", "-f"] * check.fair, *["-i"] * story, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return Outcome(None, 0, spent() - began)
    seconds = spent() - began
    errors = re.search(r"errors: (\d+)", said)
    states = re.search(r"(\d+(?:\.\d+)?(?:e\+?\d+)?) states, stored", said)
    holds: bool | None = None
    if re.search("assertion violated|acceptance cycle", said):
        holds = False
    elif (
        errors
        and errors[1] == "0"
        and "Search not completed" not in said
        and "max search depth too small" not in said
    ):
        holds = True
    told = ""
    if story and not holds:
        trail = call("spin", *flags, "-t", MODEL.name)
        told = "\n".join(line.strip() for line in trail.splitlines() if re.match(r"\s*(t=|<<<)", line))
    return Outcome(holds, int(float(states[1])) if states else 0, seconds, told)


def main(arguments: list[str]) -> int:
    """Run the checks asked for, print a table, and give the number of wrong answers."""
    story = "--story" in arguments
    words = [word.lower() for word in arguments if word != "--story"]
    chosen = [c for c in CHECKS if all(word in f"{c.kind} {c.name}".lower() for word in words)]
    if not chosen:
        print("no check of that name")
        return 1
    wrong = total = 0
    print(f"{'kind':8} {'what':64} {'result':10} {'states':>10} {'seconds':>8}", flush=True)
    for check in chosen:
        with tempfile.TemporaryDirectory(prefix="model-") as folder:
            outcome = run(check, Path(folder), story=story)
        result = {True: "holds", False: "refuted", None: "unfinished"}[outcome.holds]
        if check.kind == "reached" and outcome.holds is False:
            result = "yes"
        right = outcome.holds is check.holds
        wrong += not right
        total += outcome.states
        mark = "" if right else "  <- WRONG"
        print(
            f"{check.kind:8} {check.name:64} {result:10} {outcome.states:10,} {outcome.seconds:8.1f}{mark}",
            flush=True,
        )
        if outcome.story:
            print(outcome.story)
    print(f"{len(chosen)} checks, {wrong} wrong, {total:,} states")
    return wrong


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
