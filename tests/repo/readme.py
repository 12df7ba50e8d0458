"""The part of README.md that is made from the registry of findings.

`python3 -m tests.repo.readme` writes it anew after a change of findings.toml.
"""

from __future__ import annotations

from pkghook.findings import registry
from tests.repo.tree import ROOT

README = ROOT / "README.md"
BEGIN, END = "<!-- findings: made by tests/repo/readme.py -->\n", "<!-- end of findings -->\n"


def table() -> str:
    """A line for each finding id, in the order of the registry."""
    rows = [f"| `{kind.id}` | {kind.severity} | {kind.title} |\n" for kind in registry().values()]
    return "| id | severity | what it says |\n|---|---|---|\n" + "".join(rows)


def updated(text: str) -> str:
    """README.md with the table as it has to be."""
    head, _, rest = text.partition(BEGIN)
    return head + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    README.write_text(updated(README.read_text("utf-8")), "utf-8")
