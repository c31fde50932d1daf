"""The pilot: hard rows in a small batch, read by a person until the spec passes; then spec and rows are locked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic

import attrs
from typing_extensions import TypeVar

from batchkit.comparison import Comparison, Standing, compare
from batchkit.contract import Contract
from batchkit.errors import GateNotMet, NotLocked, SpecChanged, UsageError
from batchkit.evalset import EvalSet
from batchkit.gate import Gate, failing_tags
from batchkit.grading import VERDICTS, Grade, grade_case, grade_cases
from batchkit.judgements import Judgement, pilot_scope
from batchkit.lock import Lock, read_lock, write_lock
from batchkit.model import DocKind
from batchkit.model import Run as RunRecord
from batchkit.people import Review
from batchkit.pilot_reading import Reader, Reading
from batchkit.pilot_sample import keep_sample, read_sample
from batchkit.pilot_version import Version
from batchkit.rows import Rows
from batchkit.sampler import Picked, Sampler, hard_rows, random_rows
from batchkit.scorers import Score, Scorer, chosen_scorers
from batchkit.spec import Spec
from batchkit.specs import recall_spec
from batchkit.states import RunState
from batchkit.storage import Store

if TYPE_CHECKING:
    from batchkit.workflow import Workflow

T = TypeVar("T", default=Any)


class Pilot(Generic[T]):
    """Some rows, read by people in version after version, until a spec is good enough to be locked."""

    def __init__(self, flow: Workflow[T], name: str, key: str, picked: tuple[Picked, ...]) -> None:
        """Hold the rows of a pilot; :meth:`of` finds or makes it."""
        self._flow = flow
        self._name = name
        self._key = key
        self._picked = {row.key: row for row in picked}
        self._reader = Reader(flow.store, name, self._picked, self._contract)
        self._specs: dict[str, Spec[T]] = {flow.spec.fingerprint: flow.spec}

    @classmethod
    def of(
        cls,
        flow: Workflow[T],
        rows: object | None,
        *,
        name: str = "pilot",
        size: int = 100,
        keys: tuple[str, ...] = (),
        sampler: Sampler | None = None,
    ) -> Pilot[T]:
        """Give the pilot of this name; sample its rows where there is none yet.

        All columns of a sampled record are kept, so that a later prompt can use another one.

        Raises:
            UsageError: there is no pilot of this name and no rows to sample from, one of ``keys`` is not among the
                rows, or an existing pilot lacks one.
        """
        if not name or "/" in name or name != name.strip():
            raise UsageError(f"{name!r} is no name for a pilot: some text without '/'")
        held = read_sample(flow.store, name)
        if held is None:
            if rows is None:
                raise UsageError(
                    f"there is no pilot {name!r} in this store yet; give it rows to sample from: flow.pilot(rows)"
                )
            picking = sampler or hard_rows
            keep_sample(flow.store, flow.spec, rows, name=name, size=size, keys=keys, sampler=picking)
            held = read_sample(flow.store, name)
        assert held is not None
        key, picked = held
        absent = [key for key in keys if key not in {row.key for row in picked}]
        if absent:
            raise UsageError(
                f"the pilot {name!r} was sampled before, without {', '.join(map(repr, absent[:5]))}; its rows do not "
                "change. Another name makes another pilot: flow.pilot(rows, name=..., keys=[...])"
            )
        return cls(flow, name, key, picked)

    # ---------------------------------------------------------------- what there is

    @property
    def name(self) -> str:
        """Give the pilot's name."""
        return self._name

    @property
    def store(self) -> Store:
        """Give the store it lives in."""
        return self._flow.store

    @property
    def sample(self) -> tuple[Picked, ...]:
        """Give the sampled rows, with what each is and why it was picked."""
        return tuple(self._picked.values())

    @property
    def versions(self) -> tuple[Version[T], ...]:
        """Give the versions, oldest first."""
        found: dict[int, RunRecord] = {}
        for record in self.store.runs():
            name, mark, number = record.name.rpartition("/v")
            if mark and name == self._name and number.isdigit():
                found[int(number)] = record
        return tuple(Version(number=n, pilot=self, record=record) for n, record in sorted(found.items()))

    def version(self, number: int = -1) -> Version[T]:
        """Give one version: by its number, or counted from the end, -1 the latest.

        Raises:
            UsageError: there is none.
        """
        versions = self.versions
        if number < 0 and -number <= len(versions):
            return versions[number]
        for version in versions:
            if version.number == number:
                return version
        known = ", ".join(f"v{version.number}" for version in versions) or "none: pilot.run() makes the first"
        raise UsageError(f"the pilot {self._name!r} has no version {number}; there is {known}")

    def spec_of(self, record: RunRecord) -> Spec[T]:
        """Give the spec that a version's run was started with.

        Raises:
            SpecChanged: this code's contract is another than the one it was run with.
        """
        known = self._specs.get(record.spec)
        return known if known is not None else recall_spec(self.store, record.spec, self._flow.spec)

    def rows(self, *, verdict: str | None = None, version: int = -1) -> Rows[T]:
        """Give the rows of a version.

        Args:
            verdict: only those of which this was said: ``accept``, ``edit``, ``reject``, or ``unread``.
            version: by its number, or counted from the end.

        Raises:
            UsageError: no such verdict or version.
        """
        chosen = self.version(version)
        every = Rows(
            self.store, chosen.record.id, contract=self._contract(chosen.record), rerunner=self._flow
        )
        if verdict is None:
            return every
        if verdict not in {*VERDICTS, "unread"}:
            raise UsageError(
                f"{verdict!r} is no verdict of a pilot; they are {', '.join(VERDICTS)} and unread"
            )
        reading = self.reading(chosen)
        return every.where(keys=[key for key, one in reading.items() if (one.verdict or "unread") == verdict])

    # ---------------------------------------------------------------- running

    def run(self, spec: Spec[T] | None = None) -> Version[T]:
        """Answer the sampled rows under a spec, as one small batch, and wait for it.

        A spec that was run before is not paid again: its version is given, resumed where it is unfinished.

        Args:
            spec: None takes the latest version's, or the workflow's where there is none.

        Returns:
            The version. Where a person or money is needed it is not ``done``; ``progress.needs`` says why.

        Raises:
            UsageError: the spec's key is another than the pilot's.
            SpecChanged: the latest version's spec has another contract than this code; pass the spec.
        """
        versions = self.versions
        if spec is None:
            spec = self.spec_of(versions[-1].record) if versions else self._flow.spec
        if spec.key != self._key:
            raise UsageError(
                f"the pilot {self._name!r} knows its rows by {self._key!r}, the spec by {spec.key!r}; "
                "another name makes another pilot"
            )
        self._specs[spec.fingerprint] = spec
        same = [version.number for version in versions if version.record.spec == spec.fingerprint]
        number = same[-1] if same else (versions[-1].number + 1 if versions else 1)
        records = [dict(row.record) for row in self._picked.values()]
        options: dict[str, object] = {
            "canary": 0,
            "on_duplicate": "refuse",
            "pilot": self._name,
            "version": number,
        }
        run = self._flow.start_unlocked(f"{self._name}/v{number}", records, spec=spec, options=options)
        if run.record.state is not RunState.CLOSED:
            run.wait()
        return self.version(number)

    # ---------------------------------------------------------------- reading

    def review(self, version: int = -1, *, only_changed: bool = True) -> Review[T]:
        """Give the rows of a version to be read.

        A row whose answer is the same as in an earlier version keeps what was said of it. Once a spec of this pilot
        is locked, so does a row whose new answer is graded equal to the expected one.

        Args:
            version: by its number, or counted from the end.
            only_changed: leave out rows that need nobody any more.
        """
        from batchkit.pilot_desk import PilotDesk

        return Review(PilotDesk(self, self.version(version), only_changed=only_changed))

    def reading(self, version: Version[T], *, keys: Sequence[str] | None = None) -> dict[str, Reading]:
        """Give how rows of a version stand: each answer, and what was said of exactly that answer.

        Args:
            version: one of :attr:`versions`.
            keys: only these rows.
        """
        return self._reader.read(version.record, graded=self._is_locked(), keys=keys)

    def judgements(self) -> Mapping[str, Sequence[Judgement]]:
        """Give everything that people said of the sampled rows and did not take back, by key."""
        return self._reader.ledger.standing()

    def grade(self, version: int = -1, *, scorers: Mapping[str, Score] = {}) -> Grade:
        """Count how many answers of a version are good.

        A row that was read counts as it was judged. One that was not is compared with what people said of other
        answers to it, field by field; where nobody said anything, it is listed as unread.

        Args:
            version: by its number, or counted from the end.
            scorers: comparisons by field, ``fn(expected, actual, row) -> bool or float``.

        Raises:
            UsageError: a scorer is of a field that does not exist.
        """
        chosen = self.version(version)
        cases = [one.case for one in self.reading(chosen).values()]
        return grade_cases(cases, self._chosen(chosen, scorers))

    def compare(self, a: int = -2, b: int = -1) -> Comparison:
        """Sort the rows of two versions into fixed, broken, changed and same.

        Args:
            a: the earlier version, by its number or counted from the end.
            b: the later one.
        """
        earlier, later = self.version(a), self.version(b)
        return compare((earlier.number, self._standings(earlier)), (later.number, self._standings(later)))

    def _standings(self, version: Version[T]) -> dict[str, Standing]:
        scorers = self._reader.carrying(version.record)
        standings: dict[str, Standing] = {}
        for key, one in self.reading(version).items():
            graded = grade_case(one.case, scorers)
            good = None if graded is None else graded.good
            standings[key] = Standing(shown=one.shown, output=one.case.actual, good=good)
        return standings

    # ---------------------------------------------------------------- eval set and lock

    @property
    def eval_set(self) -> EvalSet[T]:
        """Give the sampled rows with what people said of them so far, for the latest version's contract."""
        return self._eval_set(self.version(-1))

    @property
    def locks(self) -> tuple[Lock[T], ...]:
        """Give the locks of this pilot's versions that this code's contract can read, oldest version first."""
        found: list[Lock[T]] = []
        for version in self.versions:
            try:
                lock = read_lock(self.store, version.spec)
            except SpecChanged:
                continue
            if lock is not None:
                found.append(lock)
        return tuple(found)

    def lock(
        self,
        *,
        by: str,
        gate: Gate | None = None,
        note: str = "",
        version: int = -1,
        scorers: Mapping[str, Score] = {},
    ) -> Lock[T]:
        """Accept a version, the latest unless told: its spec may be run over the catalog from now on.

        A spec that is locked already keeps its lock, whoever asks again.

        Args:
            by: who accepts it.
            gate: the shares it must reach; 95 % of all rows unless told.
            note: in your words.
            version: by its number, or counted from the end.
            scorers: comparisons by field, for rows that are graded and not read.

        Raises:
            NotLocked: rows are unread, or the version is not finished.
            GateNotMet: a share is below the gate. Nothing is lost; the message names the figures.
            UsageError: no name, or the gate speaks of what is not counted.
        """
        if not by:
            raise UsageError("a lock needs a name: lock(by=...)")
        chosen = self.version(version)
        spec = chosen.spec
        existing = read_lock(self.store, spec)
        if existing is not None:
            return existing
        gate = gate if gate is not None else Gate()
        if not chosen.done:
            raise NotLocked(
                f"v{chosen.number} of {self._name!r} is not finished: pilot.run() goes on with it."
            )
        unread = [key for key, one in self.reading(chosen).items() if one.verdict is None]
        if unread:
            listed = ", ".join(unread[:5]) + (" …" if len(unread) > 5 else "")
            raise NotLocked(
                f"spec {spec.fingerprint[:6]} was not accepted by anyone. {len(unread)} of {len(self._picked)} pilot "
                f"rows are unread ({listed}): pilot.review().save('review.csv'), then .apply('review.csv', "
                "reviewer=...). To go on without: start(..., unlocked=True), which the receipt will say."
            )
        grade = self.grade(chosen.number, scorers=scorers)
        shortfalls = gate.shortfalls(grade)
        if shortfalls:
            tags = failing_tags(grade)
            raise GateNotMet(
                f"{'; '.join(shortfalls)}."
                + (f" Failing: {tags}." if tags else "")
                + ' See pilot.rows(verdict="reject")'
                ' and pilot.rows(verdict="edit").'
            )
        evals = self._eval_set(chosen, grade.scorers, scorers)
        lock = Lock(
            spec=spec,
            eval_set=evals,
            by=by,
            at=self.store.now(),
            note=note,
            pilot=self._name,
            version=chosen.number,
            rows=grade.total.rows,
            good=grade.total.good,
        )
        write_lock(self.store, lock, gate=gate, grade=grade, scorers=grade.scorers)
        return lock

    def _eval_set(
        self, version: Version[T], names: Mapping[str, str] = {}, given: Mapping[str, Score] = {}
    ) -> EvalSet[T]:
        spec = version.spec
        rows = [row for one in self.reading(version).values() if (row := one.eval_row()) is not None]
        scorers = {**self._reader.scorers(), **{name: names[name] for name in given if name in names}}
        made = EvalSet(name=self._name, contract=spec.contract, rows=tuple(rows), scorers=scorers)
        held = self.store.docs(DocKind.EVALSET, scope=pilot_scope(self._name))
        for number, (_, body) in enumerate(held, 1):
            if body == attrs.evolve(made, counter=number).body():
                return attrs.evolve(made, counter=number)
        return attrs.evolve(made, counter=len(held) + 1)

    # ---------------------------------------------------------------- inside

    def _contract(self, record: RunRecord) -> Contract[T] | None:
        try:
            return self.spec_of(record).contract
        except SpecChanged:
            return None

    def _chosen(self, version: Version[T], given: Mapping[str, Score]) -> dict[str, Scorer]:
        return chosen_scorers(version.spec.contract.schema, named=self._reader.scorers(), given=given)

    def _is_locked(self) -> bool:
        return any(self.store.get(DocKind.LOCK, version.record.spec) is not None for version in self.versions)

    def __repr__(self) -> str:
        """Name it, and count rows and versions."""
        return f"<Pilot {self._name!r}: {len(self._picked)} rows, {len(self.versions)} versions>"


__all__ = ["EvalSet", "Gate", "Lock", "Pilot", "Reading", "Sampler", "Version", "hard_rows", "random_rows"]
