"""A workflow over a simulated API: the smallest spec, faults between, and time that costs nothing."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from rig import Faulty, Label, answers

from batchkit.contract import Contract
from batchkit.model import BatchWhere, DocKind
from batchkit.policy import Policy
from batchkit.prompt import Prompt
from batchkit.run import Run
from batchkit.spec import Spec
from batchkit.testing import Answer, Latency, Model, SimulatedAPI, simulated_client
from batchkit.tier import Tier
from batchkit.workflow import Workflow

GREEN = json.dumps({"color": "green"})
REFUSED = Answer(stop_reason="refusal")
BROKEN = Answer(text='{"color": "blue"}')


def words(count: int, *, start: int = 0) -> list[dict[str, Any]]:
    """Give records with a key and a word."""
    return [{"sku": f"S{n:04}", "word": f"w{n:04}", "brand": f"b{n}"} for n in range(start, start + count)]


def tiny_spec(**changes: Any) -> Spec[Label]:
    """Give a spec of two tiers and one field."""
    settings: dict[str, Any] = {
        "key": "sku",
        "prefix": "t_",
        "metadata": ["brand"],
        "tiers": [Tier("claude-haiku-4-5", max_tokens=300), Tier("claude-sonnet-4-6", max_tokens=600)],
        "policy": Policy.default(),
        **changes,
    }
    prompt = settings.pop("prompt", Prompt("Word: {word}"))
    contract = settings.pop("contract", Contract(Label))
    return Spec(contract, prompt, **settings)


class Shop:
    """One store file, one simulated provider with faults in front, and workflows over both."""

    def __init__(
        self,
        folder: Path,
        *,
        model: Model | None = None,
        latency: Latency = Latency(min=60.0, max=120.0),  # noqa: B008
        **settings: Any,
    ) -> None:
        self.path = folder / "shop.db"
        self.sim = SimulatedAPI(model or answers({}), latency=latency, **settings)
        self.faults = Faulty(self.sim)
        self.spec = tiny_spec()
        self.opened: list[Workflow[Label]] = []

    def flow(self, spec: Spec[Label] | None = None, **options: Any) -> Workflow[Label]:
        """Open a workflow on the store, as another process would."""
        flow = Workflow(
            spec or self.spec,
            store=self.path,
            client=simulated_client(api=self.faults),
            rng=random.Random(7),
            **options,
        )
        self.opened.append(flow)
        return flow

    def start(
        self, name: str = "run", rows: object = 10, *, flow: Workflow[Label] | None = None, **options: Any
    ) -> Run[Label]:
        """Start an unlocked run over so many words."""
        records = words(rows) if isinstance(rows, int) else rows
        return (flow or self.flow()).start(name, records, **{"unlocked": True, **options})

    def lock(self, spec: Spec[Label] | None = None, *, good: int = 100, rows: int = 100) -> None:
        """Accept a spec, as a pilot would."""
        chosen = spec or self.spec
        body = {"by": "reviewer-1", "rows": rows, "good": good, "share": good / rows}
        self.flow().store.put(DocKind.LOCK, chosen.fingerprint, json.dumps(body).encode())

    def close(self) -> None:
        for flow in self.opened:
            flow.store.close()

    @property
    def now(self) -> float:
        return self.sim.now

    @property
    def paid(self) -> int:
        """Count the paid answers at the provider."""
        return int(self.sim.bill().lines)


def kinds(run: Run[Label]) -> list[str]:
    """Give the kinds of a run's events, in order."""
    return [event.kind for event in run.events()]


def batches(run: Run[Label]) -> list[Any]:
    """Give the batches of a run."""
    return list(run._store.batches(BatchWhere(run=run._id)))
