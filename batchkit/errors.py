"""One tree of errors, split by who must act.

::

    BatchkitError
    ├── UsageError           the caller: wrong arguments, wrong data, wrong order
    │   ├── KeyTypeError         the key column cannot serve as a key
    │   ├── MissingField         a field the spec uses is not in the rows
    │   ├── DuplicateKeys        one key, different content, and no choice made
    │   ├── SpecChanged          the run was started under another spec
    │   ├── RowsChanged          the source gave other rows than were frozen
    │   ├── NotLocked            nobody accepted this spec
    │   ├── TierError            a tier that cannot work
    │   ├── ContractError        a contract that cannot be sent or judged
    │   └── IllegalTransition    an event that the state's table does not list
    ├── NeedsPerson          a person: nothing is lost, a decision is missing
    │   ├── GateNotMet           the pilot's grade is below the gate
    │   ├── BudgetPaused         the cap leaves no room for the next batch
    │   ├── NotBalanced          rows are still open; promotion waits for the proof
    │   └── DoubtHeld            a batch may or may not exist remotely
    ├── ProviderError        the API or the way to it
    ├── ExecutorError        the engine that was given as executor=, or its workers
    └── StoreError           the database or the catalog
        ├── LeaseLost            another process moves this run now
        ├── OverBudget           the reservation does not fit under the cap
        ├── Unresolved           another batch of this store and place is not settled yet
        ├── StoreHeld            a copied, restored or foreign store; confirm before it sends
        └── TargetError          the catalog refused or cannot do what was asked

A row's failure is never an exception: it is a :class:`batchkit.Reason` on that row.
"""

from __future__ import annotations


class BatchkitError(Exception):
    """The base of everything batchkit raises on purpose."""


class UsageError(BatchkitError, ValueError):
    """The caller must change something: arguments, data or the order of calls."""


class KeyTypeError(UsageError):
    """The key column holds values that cannot serve as stable keys."""


class MissingField(UsageError):
    """The spec uses a field that the rows do not have."""


class DuplicateKeys(UsageError):
    """Records of different content share a key, and ``on_duplicate`` says to refuse."""


class SpecChanged(UsageError):
    """The run was started under another spec than the one given now."""


class RowsChanged(UsageError):
    """The source gave other rows than those already frozen under this name."""


class NotLocked(UsageError):
    """No person accepted this spec."""


class TierError(UsageError):
    """A tier whose settings cannot work."""


class ContractError(UsageError):
    """A contract that cannot be sent to the API or judged locally."""


class IllegalTransition(UsageError):
    """An event that the transition table does not list; nothing was changed."""


class NeedsPerson(BatchkitError):
    """A person must decide; nothing is lost meanwhile."""


class GateNotMet(NeedsPerson):
    """The pilot's grade is below the gate."""


class BudgetPaused(NeedsPerson):
    """The next batch does not fit under the cap."""


class NotBalanced(NeedsPerson):
    """Some rows are still open, so nothing is promoted yet."""


class DoubtHeld(NeedsPerson):
    """A batch may or may not exist remotely, and no rule can decide it."""


class ProviderError(BatchkitError):
    """The API answered with an error, or could not be reached."""

    def __init__(
        self, message: str, *, status: int | None = None, retry_after: float | None = None, kind: str = ""
    ) -> None:
        """Keep the HTTP status, the wait the server asked for in seconds, and the API's own name of the error."""
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.kind = kind


class ExecutorError(BatchkitError):
    """The executor does nothing that it is given; nothing is lost, and another one goes on where it stopped."""


class StoreError(BatchkitError):
    """The store failed, or refused a write that would break its rules."""


class LeaseLost(StoreError):
    """The lease's epoch is no longer current: another process moves this run."""


class OverBudget(StoreError):
    """A reservation does not fit under the store's cap. Amounts are nano-dollars."""

    def __init__(self, *, wanted: int, spent: int, reserved: int, cap: int) -> None:
        """Keep the four amounts, in nano-dollars."""
        super().__init__(
            f"reservation of {wanted} exceeds cap {cap} (spent {spent}, reserved {reserved}), in nano-dollars"
        )
        self.wanted = wanted
        self.spent = spent
        self.reserved = reserved
        self.cap = cap


class Unresolved(StoreError):
    """An intent, a send or a doubt of the same store and place is not settled yet."""


class StoreHeld(StoreError):
    """The store looks copied, restored, foreign or newer than this code; it must be confirmed first."""


class TargetError(StoreError):
    """The catalog refused the operation or lacks what it needs."""
