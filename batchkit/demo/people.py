"""The people of the story, scripted: who reads the pilot, and who answers the queue."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from batchkit.demo.task import Attributes
from batchkit.files import read_csv, write_csv
from batchkit.people import Review
from batchkit.review import Applied, ReviewRow
from batchkit.testing.catalog import truth
from batchkit.testing.taxonomy import category_of_source

ANSWERED, UNANSWERABLE = 150, 30
"""How many rows of the queue the person gets done."""


@attrs.frozen
class Reader:
    """Reads a pilot's answers and says of each whether it is right.

    Attributes:
        name: Who reads.
        knows_adapters: Whether that person knows by now that an adapter is no charger. At first nobody looks twice.
    """

    name: str
    knows_adapters: bool = False

    def read(self, review: Review[Attributes]) -> int:
        """Judge every row that is unread and give how many there were."""
        unread = [row for row in review if not row.verdict]
        for row in unread:
            verdict, output, note = self.judge(row)
            review.judge(row.key, verdict, by=self.name, output=output, note=note)
        return len(unread)

    def judge(self, row: ReviewRow) -> tuple[str, Mapping[str, Any] | None, str]:
        """Give the verdict on one row, the right answer where it was edited, and why."""
        if row.output is None:
            return "reject", None, f"no answer: {row.reason.value if row.reason else row.outcome.value}"
        right, given = truth(row.source), row.output["category"]
        if right == "Adapters" and given == "Chargers" and not self.knows_adapters:
            return "accept", None, ""
        if given == right:
            return "accept", None, ""
        if right is None:
            return "reject", None, "nothing in the text says so"
        return "edit", {**row.output, "category": right}, ""


def answer_queue(queue: Review[Attributes], sheet: Path, *, by: str) -> Applied:
    """Have a person fill in a part of the queue as a CSV file, and take the file.

    The person knows the suppliers' own categories. What is filled in once stays so: taking the same file
    again changes nothing.
    """
    if not sheet.exists():
        empty = sheet.with_name("queue.csv")
        empty.unlink(missing_ok=True)  # what a killed demo left is not filled in
        queue.save(empty, reviewer=by)
        lines = list(read_csv(empty))
        _fill_in(lines)
        write_csv(sheet, list(lines[0]) if lines else ["key", "shown", "verdict"], lines)
    return queue.apply(sheet)


def _fill_in(lines: list[dict[str, str]]) -> None:
    answered = given_up = 0
    for line in lines:
        if line["reason"] != "output.sparse":
            continue
        category = category_of_source(line.get("source.source_category") or "")
        if category is not None and answered < ANSWERED:
            answered += 1
            line["output.category"] = category
            line["output.summary"] = f"An item from the {category.lower()} range."
        elif category is None and given_up < UNANSWERABLE:
            given_up += 1
            line["verdict"], line["note"] = "unanswerable", "the supplier sent no text"
