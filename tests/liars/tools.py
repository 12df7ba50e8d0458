"""Fake strip tools: small scripts that lie as real tools have lied, to be put in front of PATH."""

from __future__ import annotations

import shlex
from pathlib import Path

# Whatever the tool, `in` and `out` are what its command line says: `-o OUT IN`, or `IN OUT` at the end.
PRELUDE = """\
#!/bin/sh
if [ "$1" = --version ]; then echo "liar 1.0"; exit 0; fi
in= out= before= marked=
for word; do
    [ "$before" = -o ] && marked=$word
    in=$out out=$word before=$word
done
[ -n "$marked" ] && { in=$out out=$marked; }
"""

LIES = {
    "honest copy": 'cat "$in" > "$out"',
    "writes nothing": "exit 0",
    "writes an empty file": ': > "$out"',
    "writes half a module": 'head -c $(( $(cat "$in" | wc -c) / 2 )) "$in" > "$out"',
    "writes another module": 'cat "$other" > "$out"',
    "writes another module and fails": 'cat "$other" > "$out"; exit 1',
    "writes to its input": 'cat "$other" > "$in"',
    "spoils its input too": 'cat "$other" > "$out"; head -c 100 "$out" > "$in"',
    "drops .modinfo": '"$objcopy" --strip-debug --remove-section=.modinfo "$in" "$out"',
    "writes a directory": 'mkdir "$out" && : > "$out/file"',
    "writes a link": 'ln -s "$in" "$out"',
    "writes a pipe": 'mkfifo "$out"',
    "asserts": 'cat "$in" > "$out"; echo "BFD: BFD (GNU Binutils) 2.40 assertion fail ../../bfd/elf.c:4131" >&2',
    "warns about its files": 'cat "$in" > "$out"; echo "$0: warning: $in: odd; see $out" >&2',
    "fails without a word": 'cat "$in" > "$out"; exit 3',
    "fails with many words": 'for n in 1 2 3; do echo "$0: $in: complaint $n" >&2; done; exit 1',
    "prints control characters": r"""printf '\033[31mred\033[0m\ttab \377\n' >&2; exit 1""",
    "prints one long line": "head -c 300 /dev/zero | tr '\\0' x >&2; exit 1",
    "hangs": 'cat "$in" > "$out.tmp123"; exec sleep 600',
    "hangs with a grandchild": "sleep 600 & sleep 600",
    "leaves a child behind": 'cat "$in" > "$out"; sleep 20 & exit 0',
    "is killed": 'cat "$in" > "$out"; kill -SEGV $$',
    "is killed with words": 'echo "$0: out of memory" >&2; kill -KILL $$',
    "is killed by an odd signal": "kill -40 $$",
    "writes a link to the right bytes": 'ln -s "$other" "$out"',
    "writes a huge file": 'cat "$other" > "$out"; truncate -s 20G "$out"',
    "right bytes, then hangs": 'cat "$other" > "$out"; exec sleep 600',
    "right bytes, then is killed": 'cat "$other" > "$out"; kill -SEGV $$',
    "right bytes and a warning": 'cat "$other" > "$out"; echo "$0: warning: something is odd" >&2',
    "right bytes and a child that keeps the pipes": 'cat "$other" > "$out"; sleep 20 & exit 0',
    "right bytes and a child that keeps nothing": 'cat "$other" > "$out"; sleep 20 > /dev/null 2>&1 & exit 0',
    "writes again later": """sleep 0.2; cat "$other" > "$out"; exec 3<> "$out"
( sleep 0.1; echo "something else" >&3 ) > /dev/null 2>&1 & exit 0""",
    "floods stderr": 'cat "$in" > "$out"; yes "a line of no use" | head -c 5000000 >&2',
    "floods stdout": 'cat "$in" > "$out"; head -c 5000000 /dev/zero',
}


def liar(place: Path, tool: str, lie: str, **values: object) -> Path:
    """Write the fake `tool` that tells `lie` into the directory `place`; `values` are variables of its script."""
    place.mkdir(parents=True, exist_ok=True)
    path = place / tool
    settings = "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in values.items())
    path.write_text(f"{PRELUDE}{settings}{LIES[lie]}\n", "utf-8")
    path.chmod(0o755)
    return path
