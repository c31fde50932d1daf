"""What a pass does where the provider refuses or fails: pause for whoever can mend it, or come back later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from batchkit.errors import ProviderError
from batchkit.model import Lease, Need, NewEvent, Run, RunFacts
from batchkit.states import RunState
from batchkit.storage import Store

_OUTAGE: Final = "unreachable_since"
_REFUSED: Final = "api.refused"
_CREDIT: Final = "api.credit"
_MINUTE: Final = 60.0


class Troubles:
    """Turns a provider's errors into the run's state; nothing here raises because somebody is needed."""

    def __init__(self, store: Store, lease: Lease) -> None:
        """Act under a lease."""
        self._store = store
        self._lease = lease

    def note(self, run: Run, error: ProviderError) -> tuple[Run, float | None]:
        """Write down an error of the API; give the run as it is then, and when to try again."""
        if error.status == 402:
            return self._asked(run, _money(error)), None
        if error.status in {401, 403}:
            return self._asked(run, _person(error)), None
        wake = self._store.now() + (error.retry_after or _MINUTE)
        if _OUTAGE in run.options:
            return run, wake
        event = NewEvent(kind="provider.unreachable", severity="warn", data={"status": error.status})
        facts = RunFacts(options={**run.options, _OUTAGE: self._store.now()}, events=(event,))
        return self._same(run, facts), wake

    def over(self, run: Run) -> Run:
        """Write down that a pass went through: an outage is over, and so is a refusal while canceling."""
        options = {name: value for name, value in run.options.items() if name != _OUTAGE}
        if len(options) != len(run.options):
            event = NewEvent(kind="provider.reachable")
            run = self._same(run, RunFacts(options=options, events=(event,)))
        refused = any(need.code in {_REFUSED, _CREDIT} for need in run.needs)
        if run.state is RunState.CANCELING and refused:
            run = self._same(run, RunFacts(needs=()))
        return run

    def pause(self, run: Run, need: Need, options: Mapping[str, object]) -> Run:
        """Pause an open run for somebody; one that sends nothing anyway stays as it is."""
        if run.state is not RunState.OPEN:
            return run
        event = NewEvent(kind="run.paused", severity="page", data={"who": need.who, "code": need.code})
        facts = RunFacts(needs=(need,), options={**run.options, **options}, events=(event,))
        return self._store.move_run(self._lease, expect=RunState.OPEN, to=RunState.PAUSED, facts=facts)

    def _asked(self, run: Run, need: Need) -> Run:
        if run.state is RunState.OPEN:
            return self.pause(run, need, {})
        if any(known.code == need.code for known in run.needs):
            return run
        event = NewEvent(kind="run.needs_person", severity="page", data={"who": need.who, "code": need.code})
        return self._same(run, RunFacts(needs=(*run.needs, need), events=(event,)))

    def _same(self, run: Run, facts: RunFacts) -> Run:
        return self._store.move_run(self._lease, expect=run.state, to=run.state, facts=facts)


def _person(error: ProviderError) -> Need:
    return Need(
        who="person",
        why=f"the API refused: {error}. No row was touched",
        fix="mend the credential, then: python -m batchkit resume STORE RUN",
        code=_REFUSED,
    )


def _money(error: ProviderError) -> Need:
    return attrs.evolve(
        _person(error),
        who="money",
        fix="raise the limit or add credit at the provider, then: python -m batchkit resume STORE RUN",
        code=_CREDIT,
    )
