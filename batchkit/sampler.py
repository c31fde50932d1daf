"""Which rows a pilot reads: the hard ones, picked in one pass, the same ones every time."""

from __future__ import annotations

import heapq
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol

import attrs

from batchkit import normal
from batchkit.errors import UsageError
from batchkit.source import Damaged
from batchkit.traits import TAGS, Trait, traits

ORDINARY_SHARE: Final = 8
"""One row in so many is an ordinary one, so that a prompt cannot pass by refusing everything."""

LONGEST: Final = 12
"""Longest records that are kept in view."""

_SLOTS: Final = 1 << 18
_LONG_TIMES, _LONG_LEAST = 4, 500
ORDINARY: Final = Trait("ordinary", "an ordinary record")
_HARMLESS: Final = frozenset({"script", "language", "repeated"})


@attrs.frozen(kw_only=True)
class Picked:
    """One sampled record, all its columns as text, with what it is and why it was picked."""

    key: str
    record: Mapping[str, str | None] = attrs.field(hash=False)
    tags: tuple[str, ...]
    why: str


class Sampler(Protocol):
    """Picks a pilot's rows. The same records must give the same rows."""

    def __call__(
        self,
        records: Iterable[Mapping[str, object]],
        *,
        key: str,
        fields: Sequence[str],
        size: int,
        keys: Iterable[str] = (),
    ) -> Sequence[Picked]:
        """Pick ``size`` rows, and those named by ``keys`` whatever they are."""
        ...


class _Candidate(NamedTuple):
    key: str
    record: Mapping[str, str | None]
    traits: tuple[Trait, ...]
    length: int


def hard_rows(
    records: Iterable[Mapping[str, object]],
    *,
    key: str,
    fields: Sequence[str],
    size: int,
    keys: Iterable[str] = (),
    seed: int = 0,
) -> list[Picked]:
    """Pick records that models and parsers stumble over, and a few ordinary ones.

    One pass; memory depends on ``size`` and not on the number of records. Every kind of difficulty (see
    :data:`batchkit.traits.TAGS`) gives about as many rows as any other, however rare it is. Which of its
    records are taken is decided by a hash of key and text, so neither chance nor their order matters.
    Records that could not be sent at all (no key, no text form) are passed over.

    Args:
        records: Mappings of field names to values.
        key: The field that identifies a record.
        fields: The fields that are sent; difficulty is looked for in them.
        size: How many rows to pick; fewer only where there are fewer records.
        keys: Rows that are picked whatever they are. They count towards ``size``.
        seed: Another number picks other rows of the same kinds.

    Raises:
        UsageError: one of ``keys`` is not among the records.
        KeyTypeError: the key column holds floats or booleans.
    """
    pool = _Pool(key=key, fields=fields, size=size, keys=keys, seed=seed)
    for position, record in enumerate(records):
        pool.look(position, record)
    return pool.pick()


def random_rows(
    records: Iterable[Mapping[str, object]],
    *,
    key: str,
    fields: Sequence[str],
    size: int,
    keys: Iterable[str] = (),
    seed: int = 0,
) -> list[Picked]:
    """Pick records without regard to what they are; arguments and promises as in :func:`hard_rows`."""
    pool = _Pool(key=key, fields=fields, size=size, keys=keys, seed=seed, strata=False)
    for position, record in enumerate(records):
        pool.look(position, record)
    return pool.pick()


class _Take(Protocol):
    def __call__(self, candidate: _Candidate, why: str, /) -> bool: ...


class _Enough(Protocol):
    def __call__(self) -> bool: ...


class _Reservoir:
    """The records with the smallest hashes: a sample that does not depend on the order they come in."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[int, int, _Candidate]] = []

    def wants(self, rank: int) -> bool:
        return len(self._heap) < self._size or rank < -self._heap[0][0]

    def add(self, rank: int, position: int, candidate: _Candidate) -> None:
        # The position breaks ties, so that candidates are never compared.
        push = heapq.heappush if len(self._heap) < self._size else heapq.heappushpop
        push(self._heap, (-rank, -position, candidate))

    def sorted(self) -> list[_Candidate]:
        return [candidate for _, _, candidate in sorted(self._heap, key=lambda item: (-item[0], -item[1]))]


class _Pool:
    def __init__(
        self,
        *,
        key: str,
        fields: Sequence[str],
        size: int,
        keys: Iterable[str],
        seed: int,
        strata: bool = True,
    ) -> None:
        if size < 1:
            raise UsageError(f"size={size}: a pilot has one row at least")
        self._key = key
        self._fields = tuple(fields)
        self._size = size
        self._wanted = tuple(dict.fromkeys(keys))
        self._named: dict[str, _Candidate] = {}
        self._salt = str(seed).encode()
        self._strata = strata
        self._kinds: dict[Trait, _Reservoir] = {}
        self._seen: Counter[Trait] = Counter()
        self._longest = _Reservoir(LONGEST)
        # One slot per hash remainder: repeats are found in a fixed amount of memory, and never seen where there
        # are none; a record whose slot was taken by another meanwhile is missed.
        self._texts = array("Q", bytes(8 * _SLOTS))
        self._characters = self._filled = 0

    def look(self, position: int, record: Mapping[str, object]) -> None:
        """Take one record into view."""
        if isinstance(record, Damaged):
            return
        try:
            key = normal.key_text(record.get(self._key), column=self._key, position=position)
            sent = {name: normal.text(record.get(name)) for name in self._fields}
        except normal.Unencodable:
            return
        if not key:
            return
        text = "\0".join(value or "" for value in sent.values())
        length = len(text)
        rank = _hash(self._salt, key, text)
        found = tuple(traits(sent, key))
        if not text.replace("\0", "").isspace() and self._is_repeat(_hash(b"", "", text)):
            found = (*found, Trait("repeated", "the same text stands there more than once"))
        self._characters += length
        self._filled += bool(length)
        self._seen.update(found)
        kinds = self._kinds_of(found)
        homes = [self._kinds.setdefault(kind, _Reservoir(self._size)) for kind in kinds]
        takers = [home for home in homes if home.wants(rank)]
        is_long = self._longest.wants(-length)
        is_named = key in self._wanted and key not in self._named
        if not (takers or is_long or is_named):
            return
        candidate = _Candidate(key, self._kept(key, record), found, length)
        for home in takers:
            home.add(rank, position, candidate)
        if is_long:
            self._longest.add(-length, position, candidate)
        if is_named:
            self._named[key] = candidate

    def _kinds_of(self, found: tuple[Trait, ...]) -> tuple[Trait, ...]:
        """Give the strata of a record: one for all where hardness does not count."""
        if not self._strata:
            return (ORDINARY,)
        return (*found, ORDINARY) if all(trait.tag in _HARMLESS for trait in found) else found

    def _is_repeat(self, mark: int) -> bool:
        slot = mark % _SLOTS
        if self._texts[slot] == mark:
            return True
        self._texts[slot] = mark
        return False

    def _kept(self, key: str, record: Mapping[str, object]) -> dict[str, str | None]:
        kept: dict[str, str | None] = {}
        for name, value in record.items():
            try:
                kept[str(name)] = normal.text(value)
            except normal.Unencodable:
                kept[str(name)] = None
        kept[self._key] = key
        return kept

    def pick(self) -> list[Picked]:
        """Choose among the records in view."""
        lost = [key for key in self._wanted if key not in self._named]
        if lost:
            listed = ", ".join(map(repr, lost[:5])) + (" …" if len(lost) > 5 else "")
            raise UsageError(f"{len(lost)} of the named keys are not among the rows: {listed}")
        picked: dict[str, Picked] = {}
        usual = self._usual()
        long = self._long()

        def take(candidate: _Candidate, why: str) -> bool:
            if candidate.key in picked:
                return False
            tags = {trait.tag for trait in candidate.traits if trait not in usual}
            if candidate.key in long:
                tags.add("long")
            if not tags - {"repeated"}:
                tags.add("ordinary")
            if candidate.key in self._named:
                tags.add("named")
            ordered = tuple(tag for tag in TAGS if tag in tags)
            picked[candidate.key] = Picked(key=candidate.key, record=candidate.record, tags=ordered, why=why)
            return True

        for candidate in self._named.values():
            take(candidate, "named by hand")
        plain = self._plain(usual)
        room = self._size - (max(1, self._size // ORDINARY_SHARE) if plain else 0)
        hard = [kind for kind in self._kinds if kind not in usual and kind != ORDINARY]
        queues = [self._by_tag(tag, hard, long) for tag in TAGS] if self._strata else []
        _round_robin(queues, take, lambda: len(picked) >= room)
        _round_robin([iter(plain)], take, lambda: len(picked) >= self._size)
        _round_robin(queues, take, lambda: len(picked) >= self._size)
        return list(picked.values())

    def _plain(self, usual: set[Trait]) -> list[tuple[_Candidate, str]]:
        why = ORDINARY.why if self._strata else "at random"
        found = self._kinds[ORDINARY].sorted() if ORDINARY in self._kinds else []
        return [
            (candidate, why)
            for candidate in found
            if not self._strata
            or all(trait in usual or trait.tag == "repeated" for trait in candidate.traits)
        ]

    def _usual(self) -> set[Trait]:
        """Give the script and the language of most records: nothing hard about them."""
        usual: set[Trait] = set()
        for tag in ("script", "language"):
            counts = {trait: n for trait, n in self._seen.items() if trait.tag == tag}
            if counts:
                usual.add(max(sorted(counts), key=counts.__getitem__))
        return usual

    def _long(self) -> dict[str, _Candidate]:
        mean = self._characters / max(1, self._filled)
        return {
            candidate.key: candidate
            for candidate in self._longest.sorted()
            if candidate.length > max(_LONG_LEAST, _LONG_TIMES * mean)
        }

    def _by_tag(
        self, tag: str, kinds: Iterable[Trait], long: Mapping[str, _Candidate]
    ) -> Iterator[tuple[_Candidate, str]]:
        """Give the candidates of one tag, its several kinds in turn."""
        if tag == "long":
            yield from ((candidate, "one of the longest") for candidate in long.values())
            return
        named = sorted(kind for kind in kinds if kind.tag == tag)
        piles = [[(candidate, _worded(kind)) for candidate in self._kinds[kind].sorted()] for kind in named]
        for depth in range(max(map(len, piles), default=0)):
            yield from (pile[depth] for pile in piles if depth < len(pile))


def _round_robin(queues: list[Iterator[tuple[_Candidate, str]]], take: _Take, enough: _Enough) -> None:
    waiting = list(queues)
    while waiting and not enough():
        for queue in list(waiting):
            if enough():
                return
            if not any(take(candidate, why) for candidate, why in queue):
                waiting.remove(queue)


def _worded(kind: Trait) -> str:
    match kind.tag:
        case "script":
            return f"written in {kind.why} letters"
        case "language":
            return f"written in {kind.why}"
        case _:
            return kind.why


def _hash(salt: bytes, key: str, text: str) -> int:
    mark = blake2b(f"{key}\0{text}".encode("utf-8", "surrogatepass"), digest_size=8, salt=salt[:16])
    return int.from_bytes(mark.digest(), "big")
