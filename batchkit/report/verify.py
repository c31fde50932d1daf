#!/usr/bin/env python3
"""Check a batchkit receipt against the source it counts. Needs Python 3.8 or newer and nothing else.

    python verify.py [--source rows.csv] [--results]      (beside receipt.json and rows.jsonl.gz)

Checked: the chain of receipts, the digest of rows.jsonl.gz, one line per source record, every sum of the
receipt, and with --source each page digest of the frozen rows. With --results and ANTHROPIC_API_KEY the
provider's result files are downloaded again and hashed.
"""

import argparse
import csv
import gzip
import hashlib
import io
import json
import math
import os
import sys
import urllib.request
from pathlib import Path

sha = lambda data: hashlib.sha256(data).hexdigest()  # noqa: E731
failures = []


def check(ok, text):
    print(("ok      " if ok else "FAILED  ") + text)
    if not ok:
        failures.append(text)


def plain(value):
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def text(value):
    value = plain(value)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def records(path):
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    with opener(path, "rb") as raw:
        if ".csv" not in [suffix.lower() for suffix in path.suffixes[-2:]]:
            for number, line in enumerate(raw):
                line = line.strip(b" \t\r\n")
                line = line[3:] if number == 0 and line.startswith(b"\xef\xbb\xbf") else line
                if line:
                    try:
                        yield json.loads(line.decode("utf-8", "surrogateescape"))
                    except (ValueError, RecursionError):
                        yield None
            return
        csv.field_size_limit(2**31 - 1)
        wrapped = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="")
        reader = csv.reader((line.replace("\0", "\udc00") for line in wrapped), strict=True)
        header, cells = next(cells for cells in reader if cells), []
        while cells is not None:
            try:
                cells = next(reader, None)
            except csv.Error:
                yield None
            else:
                if cells:
                    yield dict(zip(header, cells))


def verify_source(receipt, lines, path):
    source, digests, page = receipt["source"], [], hashlib.sha256()
    kept = count = 0
    for count, record in enumerate(records(path), start=1):
        line = lines[count - 1] if count <= len(lines) else [None] * 8
        if line[7] is not None:  # damaged in the source: the receipt carries what was frozen of it
            frozen, kept = line[7], kept + 1
        else:
            fields = {name: text((record or {}).get(name)) for name in sorted(source["fields"])}
            key = text((record or {}).get(source["key"])) or None
            frozen = json.dumps(
                [count - 1, None if key is None or key.isspace() else key, fields],
                ensure_ascii=False,
                separators=(",", ":"),
            )
        page.update(frozen.encode("utf-8", "surrogatepass") + b"\n")
        if count % source["page_rows"] == 0:
            digests, page = [*digests, page.hexdigest()], hashlib.sha256()
    if count % source["page_rows"]:
        digests.append(page.hexdigest())
    check(
        count == source["rows"], f"{path.name} has {count:,} records, the receipt counts {source['rows']:,}"
    )
    wrong = [n for n, (a, b) in enumerate(zip(digests, source["pages"])) if a != b]
    check(
        not wrong and len(digests) == len(source["pages"]),
        f"{len(digests):,} page digests of the source ({kept} damaged records as frozen){f', first difference on page {wrong[0]}' if wrong else ''}",
    )


def verify_results(receipt):
    for batch in (b for b in receipt["batches"] if b["results_sha256"]):
        url = f"https://api.anthropic.com/v1/messages/batches/{batch['remote_id']}/results"
        asked = urllib.request.Request(
            url, headers={"x-api-key": os.environ["ANTHROPIC_API_KEY"], "anthropic-version": "2023-06-01"}
        )
        with urllib.request.urlopen(asked) as answer:
            check(
                sha(answer.read()) == batch["results_sha256"],
                f"results of batch {batch['id']} as downloaded again",
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path)
    parser.add_argument("--results", action="store_true")
    options, here = parser.parse_args(), Path(__file__).resolve().parent
    chain = [
        *sorted(here.glob("receipt-*.json"), key=lambda p: int(p.stem.split("-")[1])),
        here / "receipt.json",
    ]
    bodies = [path.read_bytes() for path in chain]
    for older, newer in zip(bodies, bodies[1:]):
        check(
            json.loads(newer)["previous"] == sha(older),
            f"receipt {json.loads(newer)['number']} names the one before it",
        )
    check(json.loads(bodies[0])["previous"] is None, "the first receipt is the first")
    receipt, packed = json.loads(bodies[-1]), gzip.decompress((here / "rows.jsonl.gz").read_bytes())
    check(sha(packed) == receipt["rows_sha256"], "rows.jsonl.gz is the one the receipt counts")
    lines = [json.loads(line) for line in packed.split(b"\n") if line]
    check(
        [line[0] for line in lines] == list(range(receipt["source"]["rows"])),
        f"one line for each of {len(lines):,} source records",
    )
    sums, equations = {}, receipt["equations"]
    for line in lines:
        sums[line[2]] = sums.get(line[2], 0) + 1
    check(
        sums == {k: n for k, n in equations["rows"]["buckets"].items() if n},
        f"rows: {' + '.join(f'{k} {n:,}' for k, n in sorted(sums.items()))} = {len(lines):,}",
    )
    kept = [
        line[1]
        for line in lines
        if line[1] and line[3] not in ("input.duplicate_key", "input.unencodable", "input.too_large")
    ]
    check(len(kept) == len(set(kept)), "no key stands twice among the rows that were not set aside")
    sent = equations["submissions"]
    check(
        sent["sent"] == sent["lines"] + sent["in_flight"] + sent["missing"],
        f"submissions: {sent['sent']:,} = {sent['lines']:,} read + {sent['in_flight']:,} in flight + {sent['missing']:,} missing",
    )
    money = equations["money"]
    check(
        money["usage"]
        == sum(money[k] for k in ("applied", "not_accepted", "duplicate", "unused"))
        == sum(b["spent_nano_usd"] for b in receipt["batches"]),
        f"money: {money['usage'] / 1e9:.6f} USD",
    )
    for p in equations["promotions"]:
        check(
            p["staged"] == sum(p[k] for k in ("written", "unchanged", "conflict", "absent", "held_back")),
            f"promotion {p['id']}: {p['staged']:,} staged",
        )
    if options.source:
        verify_source(receipt, lines, options.source)
    if options.results:
        verify_results(receipt)
    print("VERIFIED" if not failures else f"NOT VERIFIED: {len(failures)} of the checks failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
