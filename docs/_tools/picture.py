"""Draw the picture of the demo's output that the README shows. Needs rich.

python docs/_tools/picture.py           runs the demo, shortens its output, writes demo.txt and demo.svg
python docs/_tools/picture.py --redraw  draws demo.txt again
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

IMAGES = Path(__file__).parents[1] / "images"
WIDTH = 120

DROPPED = re.compile(
    r"assumed: |exposed at one time|SHA-256 of|lines of reasons|keys of the source|names the one before it"
    r"|^   \w[\w-]+ +(?:no text|hardly|no description|one of the)|^   sku +picked as|^   dry run"
    r"|^   outcome +reason|^   human_queued +output|^   quarantined +\w+\.|^   tier +model|^ +[01]  claude"
    r"|^   (?:(?:AB|KX|QT)-\d|=\d|\d{13} )|^   sku +title|^   (?:batches|tiers|slice_rows) +\d"
)
STYLES = (
    (r"^── .*", "bold cyan"),
    (r"GateNotMet", "bold red"),
    (r"^   lock \w+", "bold yellow"),
    (r"VERIFIED|✓|True", "bold green"),
    (r"^   (?:waiting|done) ", "dim"),
    (r"category: .*'Chargers'", "yellow"),
    (r"promotion \d+|rolled back \d+", "bold magenta"),
    (r"double_paid +0", "bold green"),
)


def shortened(output: str) -> str:
    """Leave out what a first look does not need, marked where lines in a row are gone; no path stays."""
    output = re.sub(r"sqlite:\S+/", "sqlite:", output)
    lines: list[str] = []
    passes = 0
    for line in output.strip("\n").splitlines():
        passes = passes + 1 if line.startswith("   waiting") else 0
        if passes == 3:
            lines.append("   …")
        if passes >= 3 or DROPPED.search(line):
            continue
        lines.append(line if len(line) <= WIDTH else line[: WIDTH - 2].rstrip() + " …")
    return "\n".join(lines) + "\n"


def drawn(text: str) -> str:
    """Render the text as SVG that loads nothing from anywhere."""
    console = Console(record=True, width=WIDTH, file=open("/dev/null", "w"), force_terminal=True)  # noqa: SIM115
    styled = Text("$ python -m nox -s demo\n", "bold") + Text("\n" + text.rstrip())
    for pattern, style in STYLES:
        styled.highlight_regex(re.compile(pattern, re.MULTILINE), style)
    console.print(styled, soft_wrap=False, no_wrap=True, overflow="ellipsis")
    plain = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    plain = plain.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")
    return console.export_svg(title="batchkit", theme=MONOKAI, code_format=plain, unique_id="demo")


def main() -> None:
    """Write the text and the picture."""
    IMAGES.mkdir(exist_ok=True)
    text = IMAGES / "demo.txt"
    if "--redraw" not in sys.argv[1:]:
        demo = subprocess.run(
            [sys.executable, "-m", "batchkit", "demo"], stdout=subprocess.PIPE, text=True, check=True
        )
        text.write_text(shortened(demo.stdout), encoding="utf-8")
    (IMAGES / "demo.svg").write_text(drawn(text.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
