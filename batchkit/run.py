"""A run that can be moved: passes, waiting, promotion, audit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal

from typing_extensions import TypeVar

from batchkit.errors import NotBalanced
from batchkit.mover import Mover
from batchkit.progress import Progress
from batchkit.rows import Rerunner
from batchkit.spec import Spec
from batchkit.states import RunState
from batchkit.view import RunView

if TYPE_CHECKING:
    from batchkit.audit import Audit
    from batchkit.evalset import EvalSet
    from batchkit.model import Run as RunRecord
    from batchkit.targets import Promotion, Target
    from batchkit.workflow import Workflow

T = TypeVar("T", default=Any)


class Run(RunView[T], Generic[T]):
    """One durable pass of one spec over a set of rows, with everything that moves it."""

    def __init__(self, flow: Workflow[T], record: RunRecord, *, spec: Spec[T]) -> None:
        """Handle this run under the spec it was started with."""
        super().__init__(flow.store, record, spec=spec, where=flow.where)
        self._flow = flow
        self._spec: Spec[T] = spec

    @property
    def spec(self) -> Spec[T]:
        """Give the spec this run was started with."""
        return self._spec

    def advance(self, *, timeout: float | None = None, stop: Callable[[], bool] | None = None) -> Progress:
        """Make one bounded pass: collect what ended, send what may be sent.

        It waits for no batch. Where other workers read result files for this process, it waits for those that they
        have begun.

        Args:
            timeout: seconds after which no further send or results file is begun. Files that idle workers read for
                this process are waited for ten seconds more, those that an executor's read to their end.
            stop: asked between steps; true ends the pass.

        Returns:
            Where the run stands. ``moved`` is False where there was nothing to do, or where another process
            moves this run; ``wake_at`` says when to come back. A person or money being needed is in
            ``needs``, and an API that cannot be reached moves ``wake_at``; neither is an error.

        Raises:
            StoreError: the store failed. The state is what the last commit says; call again.
        """
        record = self.record
        progress = Mover(record, self._flow.parts(self._spec)).advance(timeout=timeout, stop=stop)
        if self._flow.teller is not None:
            self._flow.teller.tell(record)
        return progress

    def wait(
        self,
        timeout: float | None = None,
        *,
        progress: Literal["auto", "none"] | Callable[[Progress], None] = "auto",
        stop: Callable[[], bool] | None = None,
    ) -> Progress:
        """Make passes, with sleep between them, until the run is done, needs somebody, or time is up.

        Interrupting it (Ctrl-C) cancels nothing: batches run on at the provider, the next ``wait`` goes on
        from what the store holds, and the commands that do pause or cancel are printed.

        Args:
            timeout: seconds; None waits as long as it takes.
            progress: "auto" shows it where people look (rich in a terminal, one log line per change
                elsewhere), "none" shows nothing, a function is called with every pass's progress.
            stop: asked between passes; true ends the wait.

        Returns:
            The last pass's progress; its ``exit_code`` is what a script may exit with.
        """
        from batchkit.display import interrupted, shower
        from batchkit.waiting import Patience

        patience = Patience(self._flow.clock, timeout)
        try:
            with shower(progress, self._flow.on_progress) as show:
                while True:
                    now = self.advance(timeout=patience.left, stop=stop)
                    show(now)
                    nap = patience.nap(now)
                    if nap is None or (stop is not None and stop()):
                        return now
                    self._flow.clock.sleep(nap)
        except KeyboardInterrupt:
            interrupted(self._where, self.name)
            raise

    async def wait_async(
        self,
        timeout: float | None = None,
        *,
        progress: Literal["auto", "none"] | Callable[[Progress], None] = "none",
    ) -> Progress:
        """Wait like :meth:`wait` without blocking the event loop.

        Each pass runs in a worker thread and the sleeping is awaited. Cancelling the task ends the pass at
        its next edge, releases the lease and cancels nothing remotely.

        Args:
            timeout: seconds; None waits as long as it takes.
            progress: as for :meth:`wait`.
        """
        from batchkit.display import shower
        from batchkit.waiting import wait_async

        with shower(progress, self._flow.on_progress) as show:
            return await wait_async(self.advance, self._flow.clock, timeout=timeout, show=show)

    def promote(
        self, target: Target, *, where: Callable[[T], object] | None = None, dry_run: bool = False
    ) -> Promotion:
        """Write the staged answers to a catalog in one transaction that can be undone.

        What people decided meanwhile is settled first, so that an answer that was taken back is not promoted.

        Args:
            target: the catalog.
            where: promote only rows for whose output this is true; the others are *held back*.
            dry_run: say what would be written, write nothing.

        Raises:
            NotBalanced: rows are still open, the four equations do not hold, or somebody else moves the run
                while decisions wait to be settled.
            TargetError: the catalog cannot take the rows; nothing was written.
        """
        from batchkit.desks import QueueDesk
        from batchkit.promotion import Promoter
        from batchkit.reconciler import Reconciler

        QueueDesk(self._store, self.record, self._spec).settle()
        record = self.record
        if record.state is not RunState.CLOSED:
            raise NotBalanced(self._not_balanced())
        reconciliation = Reconciler(self._store).reconcile(self.name)
        if not reconciliation.balanced:
            raise NotBalanced(
                f"{self.name!r} does not balance: {reconciliation.equation}. promote() waits for the proof."
            )
        promoter = Promoter(self._store)
        return promoter.promote(
            record, self._spec, target, receipt=reconciliation.digest, where=where, dry_run=dry_run
        )

    def audit(self, *, against: EvalSet[T] | str | None = None) -> Audit:
        """Compare the shares of every allowed value with the eval set and with the source's own categories.

        Args:
            against: an EvalSet, or the name of a source field that carries a rough category.
        """
        from batchkit.audit import Auditor

        return Auditor().audit(self.rows(), self._spec, against=against)

    def _not_balanced(self) -> str:
        progress = self.progress
        open_rows = progress.tally.open
        wake = "" if progress.wake_at is None else "; another look is due"
        return (
            f"{progress.rows - open_rows:,} of {progress.rows:,} rows of {self.name!r} accounted for; {open_rows:,} open"
            f"{wake}. promote() waits for the proof: run.wait() goes on."
        )

    def _rerunner(self) -> Rerunner[T] | None:
        return self._flow
