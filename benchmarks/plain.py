"""The script that everyone starts from: the SDK's ``create`` and ``results``, json, pydantic, SQLite."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from pathlib import Path

import anthropic
import meter
import workload
from anthropic.types.messages.batch_create_params import Request  # noqa: F401 (loaded before the clock starts)
from plain_request import parameters, request
from pydantic import ValidationError

COMMIT = 1_000
"""Rows a commit: what a crash may cost. One commit a row would take about 80 CPU s per 100,000."""


def main(url: str, rows: int, folder: Path, schema: bool) -> None:
    """Run it once."""
    client = anthropic.Anthropic(api_key="none", base_url=url)
    shared = parameters(schema=schema)
    meter_ = meter.Meter()
    db = sqlite3.connect(folder / "plain.db")
    db.execute("CREATE TABLE answer (sku TEXT PRIMARY KEY, answer TEXT, error TEXT)")
    for first in range(0, rows, 100_000):
        count = min(100_000, rows - first)
        requests = [request(row, shared) for row in workload.rows(count, first)]
        batch = client.messages.batches.create(requests=requests)  # type: ignore[arg-type]
        while client.messages.batches.retrieve(batch.id).processing_status != "ended":
            time.sleep(1)
        for number, entry in enumerate(client.messages.batches.results(batch.id), 1):
            answer = error = None
            if entry.result.type == "succeeded":
                text = "".join(block.text for block in entry.result.message.content if block.type == "text")
                try:
                    answer = workload.Answer.model_validate(json.loads(text)).model_dump_json()
                except (ValueError, ValidationError) as failure:
                    error = str(failure)
            else:
                error = entry.result.type
            db.execute("INSERT INTO answer VALUES (?, ?, ?)", (entry.custom_id, answer, error))
            if number % COMMIT == 0:
                db.commit()
        db.commit()
    report = meter_.report()
    valid = db.execute("SELECT sku, answer FROM answer WHERE answer IS NOT NULL")
    meter.tell({**report, "valid": workload.digest(valid)})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] == "schema")
