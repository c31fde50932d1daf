"""The same run by the scripts that people write: the SDK's own retries, or one look at the list."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import attrs

from batchkit.testing.clock import SimulatedClock
from batchkit.testing.faults import Chances, FaultyAPI, Killed, UnreliableAPI
from batchkit.testing.http import Dropped, Request, Response, json_bytes, read_all
from batchkit.testing.simulator import SimulatedAPI
from batchkit.testing.soak.scene import PREFIX, Outcome, Setup, judged, rows_of
from batchkit.testing.soak.surroundings import Surroundings

__all__ = ["PlainHistory"]

HOUR = 3_600.0
LONGEST = 240 * HOUR
BATCHES = "/v1/messages/batches"
RETRIES = 2
"""How often the SDK repeats a request unless told otherwise."""
MODELS = ("claude-haiku-4-5", "claude-sonnet-4-6")
_HEADERS = {"x-api-key": "simulated", "anthropic-version": "2023-06-01", "content-type": "application/json"}


class Crash(Exception):
    """The script ends with a traceback; somebody starts it again."""


@attrs.define
class Saved:
    """What the script keeps on disk."""

    running: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    seen: set[str] = attrs.field(factory=set)
    tier: dict[str, int] = attrs.field(factory=dict)
    done: set[str] = attrs.field(factory=set)
    results: set[tuple[str, str]] = attrs.field(factory=set)
    sending: tuple[str, ...] = ()
    asked: Counter[str] = attrs.field(factory=Counter)


class PlainHistory:
    """One history of a script that keeps the ids of its batches and the keys it has answers for.

    Both scripts send again whatever has no answer and is in no batch that they know of. The ``naive`` one leaves a
    failed create to the SDK, which repeats it twice. ``one_listing`` switches that off, looks at the list once after
    a create that failed, or that it died in, and takes the newest batch of the same size that it does not know.

    Args:
        seed: Decides everything.
        setup: What it is played under.
    """

    def __init__(self, seed: int, setup: Setup) -> None:
        self.seed = seed
        self.setup = setup
        self.rng: random.Random = random.Random(f"{seed}:history")
        around = Surroundings(seed, setup, self.rng)
        self.sim: SimulatedAPI = around.sim
        self.api: UnreliableAPI = around.api
        self.clock: SimulatedClock = around.steady
        self.began: float = around.began
        self.rows: dict[str, str] = {row["sku"]: row["word"] for row in rows_of(self.rng, setup.rows)}
        self.most: int = setup.most or max(len(self.rows) // 3, 1)
        self.saved: Saved = Saved()
        self.adopted: set[str] = set()
        self.doubts: int = 0
        self.violations: list[str] = []
        self._be_born()

    def _be_born(self) -> None:
        rate = 0.0 if self.api.calm else self.setup.fault_rate
        self.chances: Chances = Chances(self.rng, killing=0.05 * rate)
        self.client: FaultyAPI = FaultyAPI(self.api, self.chances)

    def play(self) -> Outcome:
        """Play it."""
        while len(self.saved.done) < len(self.rows):
            elapsed = self.sim.now - self.began
            if elapsed > LONGEST:
                self.violations.append(f"it did not end in {elapsed / HOUR:.0f} h")
                break
            if elapsed > self.setup.storm:
                self.api.calm = True
                self.chances.calm()
            try:
                self._round()
                self.clock.sleep(300.0)
            except Killed:
                self._be_born()
                self.clock.sleep(self.rng.uniform(60.0, 900.0))
            except Crash:
                self.clock.sleep(self.rng.uniform(60.0, 900.0))
        self.api.calm = True
        self.clock.sleep(30 * HOUR)
        return self._judge()

    # ---------------------------------------------------------------- the script

    def _round(self) -> None:
        if self.saved.sending:
            self._after_death()
        for batch, keys in list(self.saved.running.items()):
            self._collect(batch, keys)
        out = {key for keys in self.saved.running.values() for key in keys}
        todo = [key for key in self.rows if key not in self.saved.done and key not in out]
        for start in range(0, len(todo), self.most):
            self._send(tuple(todo[start : start + self.most]))

    def _send(self, keys: tuple[str, ...]) -> None:
        self.saved.sending = keys
        self.saved.asked.update(keys)
        body = json_bytes({"requests": [self._request(key) for key in keys]})
        request = Request(method="POST", path=BATCHES, headers=_HEADERS, body=body)
        tries = RETRIES if self.setup.engine == "naive" else 0
        response = self._call(request, tries)
        if response is not None and response.status == 200:
            try:
                batch = json.loads(read_all(response.body))["id"]
            except (ValueError, KeyError, TypeError):
                batch = None
            if isinstance(batch, str):
                self._keep(batch, keys)
                return
        if self.setup.engine == "naive" or (response is not None and response.status in {400, 429}):
            self.saved.sending = ()
            raise Crash
        self._after_death()

    def _after_death(self) -> None:
        """Find out what became of a create, or take it for failed."""
        self.doubts += 1
        keys = self.saved.sending
        if self.setup.engine == "one_listing":
            response = self._call(
                Request(method="GET", path=BATCHES, query={"limit": "100"}, headers=_HEADERS)
            )
            if response is None or response.status != 200:
                raise Crash
            for item in json.loads(read_all(response.body))["data"]:
                size = sum(item["request_counts"].values())
                if size == len(keys) and item["id"] not in self.saved.seen:
                    self.adopted.add(item["id"])
                    self._keep(item["id"], keys)
                    return
        self.saved.sending = ()

    def _keep(self, batch: str, keys: tuple[str, ...]) -> None:
        self.saved.running[batch] = keys
        self.saved.seen.add(batch)
        self.saved.sending = ()

    def _collect(self, batch: str, keys: tuple[str, ...]) -> None:
        status = self._json(self._call(Request(method="GET", path=f"{BATCHES}/{batch}", headers=_HEADERS)))
        if status["processing_status"] != "ended":
            return
        response = self._call(Request(method="GET", path=f"{BATCHES}/{batch}/results", headers=_HEADERS))
        if response is None or response.status != 200:
            raise Crash
        try:
            lines = read_all(response.body).splitlines()
        except Dropped as error:
            raise Crash from error
        for text in lines:
            line = json.loads(text)
            key = line["custom_id"].removeprefix(PREFIX).rpartition("-")[0]
            if key in self.rows:
                self._take(batch, key, line["result"])
        del self.saved.running[batch]

    def _take(self, batch: str, key: str, result: Mapping[str, Any]) -> None:
        """Settle one line: an answer that does not keep the contract goes to the larger model once."""
        if result["type"] != "succeeded":
            if result["type"] == "errored" and "invalid" in str(result):
                self.saved.done.add(key)
            return
        self.saved.results.add((batch, key))
        text = "".join(block.get("text", "") for block in result["message"]["content"])
        if judged(text) or self.saved.tier.get(key, 0) == 1 or result["message"]["stop_reason"] == "refusal":
            self.saved.done.add(key)
        else:
            self.saved.tier[key] = 1

    def _request(self, key: str) -> dict[str, Any]:
        return {
            "custom_id": f"{PREFIX}{key}-{self.saved.asked[key]}",
            "params": {
                "model": MODELS[self.saved.tier.get(key, 0)],
                "max_tokens": 300,
                "messages": [{"role": "user", "content": f"Word: {self.rows[key]}"}],
            },
        }

    # ---------------------------------------------------------------- the SDK

    def _call(self, request: Request, tries: int = RETRIES) -> Response | None:
        """Make a request and repeat it as the SDK does; None where no answer came."""
        for attempt in range(tries + 1):
            response: Response | None = None
            with contextlib.suppress(Dropped):
                response = self.client.handle(request)
            again = response is None or response.status in {408, 409, 429} or response.status >= 500
            if not again or attempt == tries:
                return response
            wait = response.headers.get("retry-after") if response is not None else None
            self.clock.sleep(min(float(wait), 60.0) if wait else min(0.5 * 2**attempt, 8.0))
        raise AssertionError("unreachable")

    def _json(self, response: Response | None) -> dict[str, Any]:
        if response is None or response.status != 200:
            raise Crash
        value: dict[str, Any] = json.loads(read_all(response.body))
        return value

    # ---------------------------------------------------------------- the sum

    def _judge(self) -> Outcome:
        billed = sum(str(entry["custom_id"]).startswith(PREFIX) for entry in self.sim.bill().entries())
        made = {create.batch_id for create in self.api.creates}
        told = repr([(c.at, c.custom_ids, c.fault, c.batch_id) for c in self.api.creates])
        return Outcome(
            seed=self.seed,
            rows=len(self.rows),
            lost=len(self.rows) - len(self.saved.done),
            double_paid=billed - len(self.saved.results),
            wrong_adoptions=len(self.adopted - made),
            hours=(self.sim.now - self.began) / HOUR,
            doubts=self.doubts,
            violations=tuple(self.violations),
            digest=hashlib.sha256(told.encode()).hexdigest()[:16],
        )
