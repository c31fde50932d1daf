"""Where the demo keeps its files, and the few facts it must know again after it was killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from batchkit.errors import UsageError
from batchkit.files import replacing


@attrs.frozen(kw_only=True)
class Options:
    """What the demo was asked for.

    Attributes:
        rows: Records of the generated catalog; None takes 20,000, or 200 on the real API.
        seed: Names the generated catalog and the simulator's habits.
        data: A CSV to use in place of a generated catalog.
        api: Use the real API.
        json: Where the summary goes.
    """

    rows: int | None = None
    seed: int = 0
    data: Path | None = None
    api: bool = False
    json: Path | None = None


@attrs.frozen
class Folder:
    """The demo's folder."""

    root: Path

    @property
    def store(self) -> Path:
        """The store of runs."""
        return self.root / "enrich.db"

    @property
    def catalog(self) -> Path:
        """The shop's catalog."""
        return self.root / "catalog.db"

    @property
    def generated(self) -> Path:
        """The generated source."""
        return self.root / "products.csv"

    @property
    def evals(self) -> Path:
        """The eval set."""
        return self.root / "evalset.jsonl"

    @property
    def receipt(self) -> Path:
        """The receipt and its verifier."""
        return self.root / "receipt"

    @property
    def handoff(self) -> Path:
        """What is handed over."""
        return self.root / "handoff"

    @property
    def notes(self) -> dict[str, Any]:
        """The facts noted so far."""
        file = self.root / "demo.json"
        noted: dict[str, Any] = json.loads(file.read_bytes()) if file.exists() else {}
        return noted

    def note(self, **facts: Any) -> None:
        """Keep some facts; the file is replaced whole."""
        body = json.dumps({**self.notes, **facts}, indent=1).encode()
        with replacing(self.root / "demo.json") as stream:
            stream.write(body)

    def claim(self, options: Options) -> Options:
        """Note what this folder is for; give the options with what is noted filled in.

        Raises:
            UsageError: the folder holds a demo of something else.
        """
        rows = options.rows or (200 if options.api else 20_000)
        asked = {
            "rows": rows,
            "seed": options.seed,
            "data": None if options.data is None else str(options.data.absolute()),
            "api": options.api,
        }
        known = self.notes.get("options")
        if known is None:
            self.root.mkdir(parents=True, exist_ok=True)
            self.note(options=asked)
        elif known != asked:
            told = ", ".join(f"{name} {known[name]}" for name in asked if known[name] != asked[name])
            raise UsageError(
                f"the folder {str(self.root)!r} holds a demo of other settings: {told}. Nothing was changed. Take "
                "another --workdir, or the settings it was begun with."
            )
        return attrs.evolve(options, rows=rows)
