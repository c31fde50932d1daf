"""What the documentation says of the code is what the code says."""

from __future__ import annotations

import ast
import html
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
from docpages import DOCS, PROJECT

import batchkit
from batchkit import Policy, Reason, testing
from batchkit.policy import ROUTED
from batchkit.requests import Request
from batchkit.states import RowEvent, RowState, after, outcome

README = (PROJECT / "README.md").read_text(encoding="utf-8")
PAGES = [PROJECT / "README.md", *sorted(PROJECT.glob("[CS]*.md")), *sorted(DOCS.rglob("*.md"))]


def renderer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render", DOCS / "_tools" / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["states.md", "reasons.md", "command-line.md"])
def test_a_rendered_page_is_what_the_tables_render(name: str) -> None:
    """The committed page equals what the code's tables give: python docs/_tools/render.py writes it anew."""
    assert (DOCS / "reference" / name).read_text(encoding="utf-8") == renderer().PAGES[name]()


def test_every_rendered_page_is_checked() -> None:
    """The test above knows every page that the script renders."""
    assert set(renderer().PAGES) == {"states.md", "reasons.md", "command-line.md"}


def test_every_public_name_is_in_the_reference_once() -> None:
    """Each name of `batchkit.__all__` has one entry in the reference, and the reference has no name beside them."""
    listed: list[str] = []
    for page in (DOCS / "reference").glob("*.md"):
        listed += re.findall(r"^::: batchkit\.(\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted([*batchkit.__all__, "holding", "model", "storage", "targets"])


def test_every_name_of_the_test_kit_is_in_the_reference() -> None:
    """Each name of `batchkit.testing` has one entry on the page about testing."""
    page = (DOCS / "reference" / "testing.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^::: batchkit\.testing\.(\w+)$", page, re.MULTILINE)) == sorted(
        testing.__all__
    )


def test_every_error_stands_in_the_tree() -> None:
    """The tree on the page of errors is the one in the module that defines them."""
    tree = re.search(
        r"```text\n(.*?)```", (DOCS / "reference" / "errors.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert tree is not None
    said = importlib.import_module("batchkit.errors").__doc__ or ""
    assert tree[1].strip().splitlines() == [
        line.removeprefix("    ")
        for line in said.splitlines()
        if re.match(r"    (?:BatchkitError|[├│└ ])", line)
    ]


def _policy_rows() -> list[tuple[list[str], str]]:
    table = README.partition("<!-- policy -->\n")[2].partition("\n\n")[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return [(re.findall(r"`([a-z_.]+)`", codes), ladder) for _, codes, ladder in cells]


def test_the_readme_tells_what_happens_to_each_failed_row() -> None:
    """The README's table holds every reason that a policy decides about, once, with its default ladder."""
    ladders = dict(line.split(None, 1) for line in Policy.default().explain().splitlines())
    told = {code: ladder for codes, ladder in _policy_rows() for code in codes}
    assert told == ladders
    assert sum(len(codes) for codes, _ in _policy_rows()) == len(ROUTED)


def test_the_readme_tells_what_is_never_sent() -> None:
    """Every reason of the input family is named below the table, with the bucket it ends in."""
    [sentence] = re.findall(r"^Never sent.*$", README, re.MULTILINE)
    quarantined, _, queued = sentence.partition(" are quarantined, ")
    named = set(re.findall(r"`(input\.\w+)`", quarantined)), set(re.findall(r"`(input\.\w+)`", queued))
    assert named[0] | named[1] == {reason.value for reason in Reason if reason.family == "input"}
    refused = [reason for reason in Reason if reason.value in named[0]]
    assert {outcome(after(None, RowEvent.INPUT_REFUSED), reason).value for reason in refused} == {
        "quarantined"
    }
    assert named[1] == {Reason.INPUT_SPARSE.value}
    assert after(None, RowEvent.INPUT_SPARSE) is RowState.HUMAN


def test_every_reason_a_page_names_exists() -> None:
    """No page names a reason code that is not in the list."""
    families = "|".join(sorted({reason.family for reason in Reason}))
    known = {reason.value for reason in Reason}
    events = _events()
    needs = {"api.model", "api.refused", "api.workspace"}
    files = {"catalog.py", "catalog.db"}
    for page in PAGES:
        named = set(re.findall(rf"`((?:{families})\.[a-z_]+)`", page.read_text(encoding="utf-8")))
        assert named - known - events - needs - files == set(), page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_relative_link_leads_somewhere(page: Path) -> None:
    """Every relative link and picture of a page is a file of the project."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [
        target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target and target[0] != "#"
    ]
    assert [link for link in links if not (page.parent / link.partition("#")[0]).exists()] == []


def test_every_page_is_in_the_navigation() -> None:
    """The site's navigation names every page, and nothing else."""
    named = re.findall(
        r": ([\w/-]+\.md)$", (PROJECT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(named) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def test_the_promise_is_never_said_bare() -> None:
    """No page says "exactly once" of sending or paying."""
    for page in PAGES:
        text = " ".join(page.read_text(encoding="utf-8").lower().split())
        for found in re.finditer("exactly once", text):
            around = text[max(0, found.start() - 60) : found.end() + 40]
            assert "applied exactly once" in around or '"exactly once"' in around, f"{page.name}: {around}"


def _events() -> set[str]:
    found = {f"run.{what}" for what in get_args(Request)}
    package = Path(batchkit.__file__).parent
    for module in package.rglob("*.py"):
        if "testing" in module.relative_to(package).parts:
            continue
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "NewEvent":
                kinds = [word.value for word in node.keywords if word.arg == "kind"]
                strings = (
                    part for kind in kinds for part in ast.walk(kind) if isinstance(part, ast.Constant)
                )
                found |= {str(string.value) for string in strings}
    return {kind for kind in found if re.fullmatch(r"[a-z]+\.[a-z_]+", kind)}


def test_every_event_is_told_of() -> None:
    """The table of events holds every kind that the code appends, and no other."""
    page = (DOCS / "reference" / "workflow.md").read_text(encoding="utf-8").partition("## Events")[2]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    told = {kind for row in rows for kind in re.findall(r"`([a-z_.]+)`", row)}
    assert told == _events()


def test_the_picture_is_of_the_demo_and_loads_nothing() -> None:
    """The picture holds what its text holds, each section is one of the demo's, and nothing comes from elsewhere."""
    text = (DOCS / "images" / "demo.txt").read_text(encoding="utf-8")
    picture = (DOCS / "images" / "demo.svg").read_text(encoding="utf-8")
    shown = html.unescape("".join(re.findall(r">([^<>]*)</text>", picture))).replace("\xa0", " ")
    assert [line for line in text.split("\n") if line.strip() and line.split()[-1] not in shown] == []
    assert re.findall(r"https?://[^\s\"')]+", picture.replace("https://www.textualize.io", "")) == [
        "http://www.w3.org/2000/svg"
    ]
    demo = "".join(
        path.read_text(encoding="utf-8") for path in Path(batchkit.__file__).parent.glob("demo/*.py")
    )
    titles = re.findall(r"^── \d+\. (.*?) ─", text, re.MULTILINE)
    assert len(titles) > 5
    assert [title for title in titles if title not in demo] == []
    assert "double_paid            0" in text
