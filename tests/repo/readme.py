"""The parts of README.md that are made: from the registry of findings, and from the rows of the benchmark.

`python3 -m tests.repo.readme` writes them anew after a change of findings.toml or of tests/RESULTS.md.
"""

from __future__ import annotations

from pkghook.findings import registry
from tests.bench import results
from tests.repo.tree import ROOT

README = ROOT / "README.md"


def findings() -> str:
    """A line for each finding id, in the order of the registry."""
    rows = [f"| `{kind.id}` | {kind.severity} | {kind.title} |\n" for kind in registry().values()]
    return "| id | severity | what it says |\n|---|---|---|\n" + "".join(rows)


# Each stands between two comments of README.md, which `between` makes.
MADE = {
    "speed: made by tests/bench": results.markdown,
    "findings: made by tests/repo/readme.py": findings,
}


def between(name: str) -> tuple[str, str]:
    """The lines before and behind a part."""
    return f"<!-- {name} -->\n", f"<!-- end of {name.partition(':')[0]} -->\n"


def updated(text: str) -> str:
    """README.md with its parts as they have to be."""
    for name, make in MADE.items():
        begin, end = between(name)
        head, _, rest = text.partition(begin)
        text = head + begin + make() + end + rest.partition(end)[2]
    return text


def refresh() -> None:
    """Write the parts anew."""
    README.write_text(updated(README.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    refresh()
