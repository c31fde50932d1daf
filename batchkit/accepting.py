"""The line that nearly all lines are, straight from its bytes to what is settled; every other goes the long way.

A reading may hold a million lines, and what is done once for each is what a run costs. So the usual line (one
result that succeeded, one whole text, a member's first, valid) passes through one loop without an object of its
own. Nothing is decided here that the long way would decide otherwise: it judges by the same contract, and any
doubt hands the line over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from pydantic_core import from_json

from batchkit.afterwards import Afterwards
from batchkit.manifest import Manifest, Standing
from batchkit.model import Settled, Usage
from batchkit.pricing import Pricing
from batchkit.settledpage import Accepted, AcceptedLine, SettledPage
from batchkit.validator import MOST_TOKENS, WHOLE, ResultLine, Validator
from batchkit.verdict import Verdict

__all__ = ["Accepting"]

T = TypeVar("T")

_NO_STANDING: Final[Standing] = (-1, -1, -1, None)


class Accepting(Generic[T]):
    """Gathers the accepted answers of one reading, by how their rows stand.

    Attributes:
        unpriced: Answers without a known price.
        in_hand: The number of the member whose answer is being judged.
    """

    def __init__(
        self,
        validator: Validator[T],
        manifest: Manifest,
        seen: bytearray,
        *,
        afterwards: Afterwards,
        pricing: Pricing,
    ) -> None:
        """Prepare for one reading.

        Args:
            validator: Judges the lines.
            manifest: The batch's members.
            seen: Has a 1 for every member whose line was read.
            afterwards: Decides what becomes of the rows.
            pricing: Prices the answers.
        """
        self._validator = validator
        self._manifest = manifest
        self._seen = seen
        self._afterwards = afterwards
        self._pricing = pricing
        self._groups: dict[tuple[int, int, int, str], list[AcceptedLine]] = {}
        self.unpriced: int = 0
        self.in_hand: int | None = None

    def take(
        self,
        lines: Sequence[bytes],
        *,
        unusual: Callable[[bytes, ResultLine], None],
        judged: Callable[[int, Verdict[T]], None],
    ) -> int:
        """Take the usual lines, in order with all others; give how many members' lines were taken here.

        Args:
            lines: As they were split.
            unusual: Takes a line that is anything else, as it was split and as it was read.
            judged: Takes the verdict on a usual line whose answer is not accepted.
        """
        index, rows, standings = self._manifest.index, self._manifest.rows, self._manifest.standings
        waiting, seen = self._manifest.open, self._seen
        accepts = self._validator.contract.accepts
        stood, answered, gather, price = _NO_STANDING, "", None, None
        taken = unpriced = 0
        for raw in lines:
            try:
                value = from_json(raw, cache_strings="keys")
            except ValueError:
                unusual(raw, self._validator.read(raw))
                continue
            try:
                result = value["result"]
                number = index[value["custom_id"]]
                message = result["message"]
                (block,) = message["content"]
                text, model, usage = block["text"], message["model"], message["usage"]
                fresh, spoken = usage["input_tokens"], usage["output_tokens"]
                written, read = usage["cache_creation_input_tokens"], usage["cache_read_input_tokens"]
                short = usage["cache_creation"]["ephemeral_5m_input_tokens"]
                usual = (
                    result["type"] == "succeeded"
                    and block["type"] == "text"
                    and message["stop_reason"] in WHOLE
                    and not seen[number]
                    and waiting[number]
                    and type(text) is type(model) is str
                    and type(fresh) is type(spoken) is type(short) is type(written) is type(read) is int
                    and fresh >= 0
                    and spoken >= 0
                    and read >= 0
                    and 0 <= short <= written
                    and fresh + spoken + written + read <= MOST_TOKENS
                )
            except (KeyError, TypeError, ValueError):
                unusual(raw, self._validator.told(raw, value))
                continue
            if not usual:
                unusual(raw, self._validator.told(raw, value))
                continue
            seen[number] = 1
            taken += 1
            self.in_hand = number
            answer = accepts(text)
            self.in_hand = None
            if not isinstance(answer, bytes):
                if answer.reason is not None:
                    tokens = Usage(fresh, spoken, short, written - short, read)
                    judged(number, answer._replace(usage=tokens, model=model))
                    continue
                answer = answer.text
            standing = standings[number]
            if standing is not stood or model != answered or gather is None:
                stood, answered = standing, model
                gather = self._gathered(standing, model)
                price = self._pricing.coster(standing[0], model)
            if price is not None:
                amount = price((fresh, spoken, short, written - short, read))
            else:
                amount = 0
                unpriced += 1
            waiting[number] = 0
            gather((rows[number], amount, fresh, spoken, short, written - short, read, answer))
        self.unpriced += unpriced
        return taken

    @property
    def held(self) -> int:
        """Count the answers that are gathered and not settled yet."""
        return sum(map(len, self._groups.values()))

    def page(self, others: Sequence[Settled]) -> SettledPage:
        """Give what is gathered as one page with what came the long way, and begin anew."""
        groups, self._groups = self._groups, {}
        return SettledPage(
            accepted=[
                Accepted(tier=tier, tries=tries, resends=resends, model=model, lines=lines)
                for (tier, tries, resends, model), lines in groups.items()
            ],
            others=others,
        )

    def _gathered(self, standing: Standing, model: str) -> Callable[[AcceptedLine], None]:
        """Give where answers of this model to rows that stand so are put."""
        _, _, tier, tries, resends = self._afterwards.of(None, standing)
        return self._groups.setdefault((tier, tries, resends, model), []).append
