"""Result files shared among the workers of a store: who moves a run offers them, and others read some under its lease.

Without an executor nobody is told to read a file; a worker that finds nothing else to do asks. So the mover writes
down which files wait, and whoever claims one reads it: the mover from the first on, its helpers from the last. What
a helper says last it says in a document: that it is done, and what the run needs. Only then, or when the helper is
gone, is its file the mover's again.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs
from pydantic_core import from_json, to_json

from batchkit.clock import Clock
from batchkit.collector import Collected, not_before
from batchkit.errors import LeaseLost, ProviderError, SpecChanged, StoreError
from batchkit.ids import BatchId
from batchkit.lease import is_gone
from batchkit.model import Batch, BatchWhere, DocKind, Lease, Need, Run
from batchkit.specs import recall_spec
from batchkit.states import BatchState, RunState
from batchkit.storage import Store
from batchkit.units import GRACE, IDLE, LOOK, claimed, scope

if TYPE_CHECKING:
    from batchkit.mover import Parts
    from batchkit.workflow import Workflow

__all__ = ["lend_a_hand", "shared"]

_LOG: Final = logging.getLogger("batchkit")

SEVERAL: Final = 2
"""Files that must wait before any is offered: one alone is read at once by who moves the run."""
WORDS: Final = 3
"""Times that a last word is tried. Without it the mover does nothing else until it gives the file up."""


def shared(
    store: Store,
    lease: Lease,
    run: Run,
    batches: Sequence[Batch],
    *,
    read: Callable[[Batch], Collected],
    owner: str,
    clock: Clock,
    over: Callable[[], bool],
) -> Generator[Collected, None, bool]:
    """Read the result files that no other worker claims, and give what came of each, theirs too.

    When the pass is over, or this process cannot read, no file is begun any more. Those that others hold are waited
    for all the same, for their readers would be cut off with the pass: `GRACE` looks in a pass that is over, else
    until `IDLE` looks in a row found nothing written to the run.

    Returns:
        Whether files are left in others' hands, who may write until the lease ends.

    Raises:
        LeaseLost: another process moves the run now.
        ProviderError: a file could not be read here; raised when the others are done.
    """
    # A run that waits for somebody may be refused again, at every pass: nothing is offered before a file could be read.
    doubtful = bool(run.needs)
    offered = set[BatchId]() if doubtful else _offered(store, lease, batches)
    left, lent = deque(batches), list[BatchId]()
    looks = _looks(store, lease, run, clock, over)
    closed = False
    failed: ProviderError | None = None
    while left or lent:
        if left and (closed := closed or over()):
            lent += _closed(store, lease, left, offered)
            left.clear()
        elif left:
            batch = left.popleft()
            if batch.id in offered and not claimed(store, lease, batch.id, owner):
                lent.append(batch.id)
                continue
            try:
                collected = _read_here(store, batch, read)
            except ProviderError as error:
                closed, failed = True, error
                continue
            yield collected
            if doubtful and collected.complete:
                doubtful, offered = False, _offered(store, lease, left)
        elif back := _back(store, lease, lent):
            for batch, need in back:
                lent.remove(batch.id)
                offered.discard(batch.id)
                yield Collected(batch=batch, need=need)
                if batch.state is BatchState.ENDED:
                    left.append(batch)
        elif not next(looks, False):
            unheard = store.batches(BatchWhere(ids=tuple(lent)))
            again = store.now() if failed is None else None
            yield from [Collected(batch=batch, wait_until=again) for batch in unheard]
            break
    if failed is not None:
        raise failed
    return bool(lent)


def _read_here(store: Store, batch: Batch, read: Callable[[Batch], Collected]) -> Collected:
    """Read a file in this process, unless the last write of a reader that is gone comes only now, and was the last of all."""
    try:
        return read(batch)
    except LeaseLost:
        raise
    except StoreError:
        (now,) = store.batches(BatchWhere(ids=(batch.id,)))
        if now.state is BatchState.ENDED:
            raise
        return Collected(batch=now)


def _offered(store: Store, lease: Lease, batches: Iterable[Batch]) -> set[BatchId]:
    """Write down which files wait, where there are several; give them."""
    now = store.now()
    ready = [batch.id for batch in batches if not_before(batch, now) is None]
    if len(ready) < SEVERAL:
        return set()
    store.put(DocKind.CLAIM, f"{scope(lease)}/offer", to_json(ready))
    return set(ready)


def _looks(
    store: Store, lease: Lease, run: Run, clock: Clock, over: Callable[[], bool]
) -> Iterator[Literal[True]]:
    """Wait from look to look, as long as somebody may be at work."""
    stopped, idle, seq = 0, 0, -1
    while stopped <= GRACE and idle <= IDLE:
        clock.sleep(LOOK)
        held = store.holder(run.id)
        if held is not None and held.epoch != lease.epoch:
            raise LeaseLost(f"run {run.id} is moved by another process now")
        before, seq = seq, store.runs(name=run.name)[0].seq
        idle = idle + 1 if seq == before else 0
        stopped = stopped + 1 if over() else 0
        yield True


def _closed(store: Store, lease: Lease, left: Sequence[Batch], offered: set[BatchId]) -> list[BatchId]:
    """Take back the offer of what is left, and give what others claimed of it before."""
    if offered.isdisjoint(batch.id for batch in left):
        return []
    store.put(DocKind.CLAIM, f"{scope(lease)}/closed", b"")
    told = _told(store, lease)
    return [batch.id for batch in left if batch.id in offered and str(batch.id) in told]


def _back(store: Store, lease: Lease, lent: Sequence[BatchId]) -> list[tuple[Batch, Need | None]]:
    """Give the files whose readers have said their last word, or are certainly gone, with what they say is needed."""
    told, needs = _told(store, lease), dict[BatchId, Need | None]()
    for number in lent:
        word = told.get(f"{number}-over")
        if word is not None or is_gone(told[str(number)].decode()):
            needs[number] = Need(**from_json(word)) if word else None
    # Read after the words: what whoever spoke had written is in them.
    found = store.batches(BatchWhere(ids=tuple(needs))) if needs else ()
    return [(batch, needs[batch.id]) for batch in found]


def lend_a_hand(flow: Workflow[Any], runs: Sequence[Run], stop: Callable[[], bool]) -> bool:
    """Read one of the result files that the movers of these runs offer; tell whether there was one that could be read.

    Raises:
        StoreError: the store failed.
    """
    store = flow.store
    for run in runs:
        lease = store.holder(run.id)
        free = () if lease is None else _free(store, lease)
        if lease is None or not free:
            continue
        try:
            parts = flow.parts(recall_spec(store, run.spec, flow.spec))
        except SpecChanged:
            continue  # another worker's code can judge it
        ended = store.batches(BatchWhere(ids=free, states=frozenset({BatchState.ENDED})))
        for batch in reversed(ended):
            read = _lent(parts, lease, run.name, batch, stop)
            if read:
                return True
            if read is False:
                break
    return False


def _free(store: Store, lease: Lease) -> tuple[BatchId, ...]:
    """Give the files that are offered under a lease and claimed by nobody."""
    told = _told(store, lease)
    if "offer" not in told or "closed" in told:
        return ()
    return tuple(BatchId(number) for number in from_json(told["offer"]) if str(number) not in told)


def _lent(parts: Parts[Any], lease: Lease, name: str, batch: Batch, stop: Callable[[], bool]) -> bool | None:
    """Claim a file and read it for another; False where that cannot be, None where somebody else has it."""
    store, owner, word = parts.store, parts.owner(), b""
    try:
        if not claimed(store, lease, batch.id, owner):
            return None
        # Asked after the claim: the mover looks for claims after it has taken the offer back, so one of us sees the other.
        if "closed" in _told(store, lease):
            return False
        (run,) = store.runs(name=name)  # it may have been canceled since it was looked at
        canceling = run.state is RunState.CANCELING
        done = parts.collector.collect(lease, run, batch, stop=stop, canceling=canceling, lent=True)
        word = b"" if done.need is None else to_json(attrs.asdict(done.need))
    except LeaseLost:
        pass  # what was settled stays settled, and the rest is another epoch's
    except ProviderError as error:
        _LOG.warning(
            "the results of batch %s, offered by another worker, cannot be read here: %s", batch.id, error
        )
        return False
    finally:
        _say(parts, f"{scope(lease)}/{batch.id}", owner, word)
    return True


def _say(parts: Parts[Any], claim: str, owner: str, word: bytes) -> None:
    """Say the last word on a file that one has claimed; again if the store fails, for the mover waits for it."""
    import tenacity

    def say() -> None:
        if parts.store.get(DocKind.CLAIM, claim) == owner.encode():
            parts.store.put(DocKind.CLAIM, f"{claim}-over", word)

    again = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(WORDS),
        wait=tenacity.wait_fixed(LOOK),
        retry=tenacity.retry_if_exception_type(StoreError),
        sleep=parts.clock.sleep,
        reraise=True,
    )
    try:
        again(say)
    except StoreError as error:
        _LOG.warning("whoever moves the run will wait some minutes for %s: %s", claim, error)


def _told(store: Store, lease: Lease) -> dict[str, bytes]:
    """Give what is written down under a lease: the offer, the claims and the last words."""
    return {key.rpartition("/")[2]: body for key, body in store.docs(DocKind.CLAIM, scope=scope(lease))}
