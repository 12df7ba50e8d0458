"""`pkghook` called in this process, on small trees of real modules: what it says, and a receipt that is checked."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from jsonschema import Draft202012Validator

from pkghook import cli
from pkghook.judge import receipt as receipts
from pkghook.model import Compression
from tests.jobs import Job

VERSION = "6.1.0"
MARKER = b"~Module signature appended~\n"
HOME = f"lib/modules/{VERSION}/kernel"


class Told(NamedTuple):
    """How a command ended and what it said."""

    status: int
    out: str
    err: str


def call(*args: str | Path, **environ: str) -> Told:
    """Run a command here; of the settings in the environment it sees `environ` alone."""
    before = dict(os.environ)
    for name in before:
        if name.startswith("PKGHOOK_"):
            del os.environ[name]
    os.environ.update(environ)
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            status = cli.main([str(arg) for arg in args])
    finally:
        os.environ.clear()
        os.environ.update(before)
    return Told(status, out.getvalue(), err.getvalue())


def strip(root: Path, *options: str | Path, receipt: Path | None = None, **environ: str) -> Job:
    """`pkghook strip ROOT`, which must come to its end; the receipt is valid, and reads back as what was written."""
    where = receipt or root.with_name(f"{root.name}.receipt.json")
    done = call("strip", root, "--keep-dir", "", "--receipt", where, *options, **environ)
    assert done.status in (0, 1), done.err
    return Job(root, *done, checked(where.read_bytes()))


def checked(data: bytes) -> receipts.Receipt:
    """The receipt with these bytes, by the schema and by the code."""
    validator().validate(json.loads(data))
    found = receipts.load(data, "receipt")
    assert receipts.dump(found) == data
    return found


@cache
def validator() -> Draft202012Validator:
    """Of receipts."""
    schema = files("pkghook").joinpath("data/receipt.schema.json").read_text("utf-8")
    return Draft202012Validator(json.loads(schema))


# --- trees -----------------------------------------------------------------------------------------------------------


def put(root: Path, name: str, data: bytes) -> Path:
    """A module among those of the tree's one kernel."""
    path = root / HOME / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def planted(root: Path, paths: Iterable[Path]) -> Path:
    """Copies of these modules as a buildroot, all in one directory."""
    for path in paths:
        put(root, path.name, b"")
        shutil.copyfile(path, root / HOME / path.name)
    return root


def digests(root: Path) -> dict[str, str]:
    """What lies below a root: SHA-256 of each file, kind and target of all else."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            what = f"-> {os.readlink(path)}"
        elif path.is_file():
            what = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            what = oct(path.lstat().st_mode)
        found[str(path.relative_to(root))] = what
    return found


def trailer(data: bytes) -> bytes:
    """The signature at the end of a module: blob, a descriptor of 12 bytes that ends with the blob's size, marker."""
    assert data.endswith(MARKER)
    end = len(data) - len(MARKER)
    return data[end - 12 - int.from_bytes(data[end - 4 : end], "big") :]


def packed(data: bytes, how: Compression) -> bytes:
    """A module as the kernel's makefile compresses it."""
    from pkghook.ko import codec

    return codec.compress(data, how)
