"""Files for people: whole or not at all, private, and no formula in a cell."""

from __future__ import annotations

import csv
import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit import UsageError
from batchkit.files import (
    cell_text,
    defuse,
    read_csv,
    replacing,
    undefuse,
    write_csv,
    write_jsonl,
    write_table,
)

STARTS = ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "'", " ", "\ufeff", "\u200b", "\u00a0", "a", "'="]


@given(st.one_of(st.text(max_size=8), st.lists(st.sampled_from(STARTS), max_size=5).map("".join)))
def test_a_defused_cell_is_no_formula_and_comes_back(cell: str) -> None:
    """No defused cell starts a formula, and undefusing gives back what was written, apostrophes included."""
    made = defuse(cell)
    assert undefuse(made) == cell
    visible = made.lstrip("\ufeff\u200b\u00a0 \t\r\n")
    assert not visible.startswith(("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"))
    assert not made.startswith(("\t", "\r", "\n"))


@given(st.lists(st.fixed_dictionaries({"a": st.text(max_size=6), "=b": st.text(max_size=6)}), max_size=4))
def test_csv_rows_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]) -> None:
    """Whatever text is written as CSV, formulas and newlines too, is read back as it was."""
    rows = [
        {k: v.encode("utf-8", "backslashreplace").decode().replace("\x00", "") for k, v in r.items()}
        for r in rows
    ]
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    assert write_csv(path, ["a", "=b"], rows) == len(rows)
    assert list(read_csv(path)) == rows


class TestReplacing:
    def test_is_private_and_whole(self, tmp_path: Path) -> None:
        """The new file has mode 0600 whatever the old one had, and nothing else is left behind."""
        path = tmp_path / "new" / "a.txt"
        with replacing(path) as stream:
            stream.write(b"one")
            assert not path.exists()
        path.chmod(0o644)
        with replacing(path) as stream:
            stream.write(b"two")
            assert path.read_bytes() == b"one"
        assert path.read_bytes() == b"two"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [p.name for p in path.parent.iterdir()] == ["a.txt"]

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_keeps_the_old_file_after_an_error(self, tmp_path: Path, error: type[BaseException]) -> None:
        """An error in the middle leaves the old file as it was, and no part of the new one."""
        path = tmp_path / "a.txt"
        path.write_bytes(b"old")

        def interrupted() -> None:
            with replacing(path) as stream:
                stream.write(b"half")
                raise error

        with pytest.raises(error):
            interrupted()
        assert path.read_bytes() == b"old"
        assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]

    def test_replaces_a_link_and_not_what_it_points_to(self, tmp_path: Path) -> None:
        """A symbolic link of that name is replaced; the file it points to is not touched."""
        victim = tmp_path / "victim"
        victim.write_bytes(b"precious")
        path = tmp_path / "a.txt"
        path.symlink_to(victim)
        with replacing(path) as stream:
            stream.write(b"new")
        assert victim.read_bytes() == b"precious"
        assert not path.is_symlink()
        assert path.read_bytes() == b"new"

    def test_takes_long_names(self, tmp_path: Path) -> None:
        """A name as long as the file system takes is written too."""
        path = tmp_path / ("n" * 251 + ".csv")
        with replacing(path) as stream:
            stream.write(b"x")
        assert path.read_bytes() == b"x"


class TestTables:
    def test_by_suffix(self, tmp_path: Path) -> None:
        """CSV is defused and JSON Lines holds the raw values; the suffix decides, in any case."""
        row = {"a": "=1+1", "b": ["x"], "c": None, "d": 1.5, "e": True}
        assert write_table(tmp_path / "t.CSV", list(row), [row]) == 1
        assert write_table(tmp_path / "t.jsonl", list(row), [row]) == 1
        with (tmp_path / "t.CSV").open(newline="", encoding="utf-8") as stream:
            assert list(csv.reader(stream))[1] == ["'=1+1", '["x"]', "", "1.5", "true"]
        assert json.loads((tmp_path / "t.jsonl").read_bytes()) == row

    def test_another_suffix_is_refused(self, tmp_path: Path) -> None:
        """A suffix that is not known is refused, and no file is made."""
        with pytest.raises(UsageError, match=r"\.csv or \.jsonl"):
            write_table(tmp_path / "t.xlsx", [], [])
        assert os.listdir(tmp_path) == []

    def test_an_error_half_way_leaves_nothing(self, tmp_path: Path) -> None:
        """Rows that fail in the middle leave no file that looks finished."""

        def rows() -> object:
            yield {"a": 1}
            raise ValueError("half way")

        for name in ("t.csv", "t.jsonl"):
            with pytest.raises(ValueError, match="half way"):
                write_table(tmp_path / name, ["a"], rows())  # type: ignore[arg-type]
        assert os.listdir(tmp_path) == []

    def test_lone_surrogates_are_spelled_out(self, tmp_path: Path) -> None:
        """Text that UTF-8 cannot carry becomes an escape, and both files can be read by anybody."""
        write_csv(tmp_path / "t.csv", ["a"], [{"a": "x\ud800"}])
        write_jsonl(tmp_path / "t.jsonl", [{"a": "x\ud800"}])
        assert (tmp_path / "t.csv").read_text("utf-8").splitlines()[1] == "x\\ud800"
        assert json.loads((tmp_path / "t.jsonl").read_text("utf-8"))["a"] == "x\ud800"

    def test_cells_of_every_kind(self) -> None:
        """Missing is empty, lists and objects are JSON, and a bool is JSON's word."""
        assert [cell_text(v) for v in (None, "x", True, 3, {"k": ["é"]}, ("a",))] == [
            "",
            "x",
            "true",
            "3",
            '{"k":["é"]}',
            '["a"]',
        ]
