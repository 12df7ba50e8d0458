"""What a test needs from outside, and what happens where it is missing.

On a laptop the test is skipped and says why; where `PKGHOOK_REQUIRE_TOOLS` is set (CI sets it) it
fails, so that nothing is silently left out.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest


def lacking(reason: str) -> NoReturn:
    """Skip the test that runs, or fail it where everything has to be there."""
    if os.environ.get("PKGHOOK_REQUIRE_TOOLS"):
        pytest.fail(f"{reason} (PKGHOOK_REQUIRE_TOOLS is set)", pytrace=False)
    pytest.skip(reason)


def need_tool(name: str) -> str:
    """Path of the program `name`; depmod and modinfo lie where PATH of an ordinary user does not lead."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    return shutil.which(name, path=path) or lacking(f"{name} is not installed; tests/run as root installs it")


def need_kernel(corpus: Path, name: str, part: str = "shipped") -> Path:
    """Directory of a kernel's modules: `shipped`, or unstripped `dbg`."""
    path = corpus / name / part
    if not path.is_dir():
        lacking(f"no {part} modules of {name} in {corpus}; `tests/corpus {name}` fetches them")
    return path
