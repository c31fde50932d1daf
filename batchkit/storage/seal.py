"""Finding repeated keys when a run is sealed: in flat memory, without an index on text. Pure.

Each key is hashed to 64 bits and only the hashes are held, split over buckets. Keys whose hash meets
another are read again and compared for what they are, so a chance meeting of hashes means nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Final

from batchkit.errors import DuplicateKeys
from batchkit.model import OnDuplicate
from batchkit.repeats import meeting, set_aside
from batchkit.storage.pages import content

_NAMED: Final = 10

Pages = Callable[[], Iterable[tuple[int, Sequence[str]]]]
"""Gives the pages of a run in order, each as the position of its first record and its keys; asked twice."""


def repeats(pages: Pages, line: Callable[[int], bytes], on_duplicate: OnDuplicate) -> list[int]:
    """Give the positions of the records that become ``input.duplicate_key``, in ascending order.

    Records without a key repeat nothing. Of records that are equal but for their position the first
    stays; of records that differ, what ``on_duplicate`` says.

    Raises:
        DuplicateKeys: records of different content share a key and ``on_duplicate`` is "refuse".
    """
    marked: list[int] = []
    clashes: list[tuple[str, list[int]]] = []
    for key, positions in _groups(pages).items():
        first = sha256(content(line(positions[0]))).digest()
        same = all(sha256(content(line(position))).digest() == first for position in positions[1:])
        chosen = set_aside(positions, same=same, on_duplicate=on_duplicate)
        if chosen is None:
            clashes.append((key, positions))
        else:
            marked += chosen
    if clashes:
        raise DuplicateKeys(_refusal(clashes))
    return sorted(marked)


def _groups(pages: Pages) -> Mapping[str, list[int]]:
    suspects = meeting(hash(key) for _, keys in pages() for key in keys if key)
    if not suspects:
        return {}
    found: defaultdict[str, list[int]] = defaultdict(list)
    for first, keys in pages():
        for offset, key in enumerate(keys):
            if key and hash(key) in suspects:
                found[key].append(first + offset)
    return {key: positions for key, positions in found.items() if len(positions) > 1}


def _refusal(clashes: Sequence[tuple[str, Sequence[int]]]) -> str:
    named = "; ".join(
        f"{key!r} (records {', '.join(map(str, positions[:4]))}{', …' if len(positions) > 4 else ''})"
        for key, positions in clashes[:_NAMED]
    )
    rest = f"; and {len(clashes) - _NAMED} more" if len(clashes) > _NAMED else ""
    return (
        f"{len(clashes)} {'key stands' if len(clashes) == 1 else 'keys stand'} in the source with different content: {named}{rest} "
        "(records counted from 0). Nothing was sent. Correct the source, or choose: "
        'on_duplicate="first" keeps the first record of each key, on_duplicate="quarantine" none.'
    )
