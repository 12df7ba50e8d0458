"""`packages`: which form a file has, and what is no package at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pkghook.errors import InputError
from pkghook.sources.packages import form_of, open_package
from tests.packages_by_hand import deb_of, rpm_of


@pytest.mark.parametrize(("package", "form"), [(rpm_of([]), "rpm"), (deb_of({}), "deb")])
def test_form_is_told_by_magic(tmp_path: Path, package: bytes, form: str) -> None:
    path = tmp_path / "any-name.zip"
    path.write_bytes(package)
    assert form_of(package[:8]) == form
    with open_package(str(path)) as opened:
        assert list(opened.members()) == []
        assert (opened.facts.form, opened.facts.path, opened.facts.file_size) == (form, str(path), len(package))


def test_what_is_no_package(tmp_path: Path) -> None:
    file, fifo = tmp_path / "a.rpm", tmp_path / "b.deb"
    file.write_bytes(b"PK\3\4")
    os.mkfifo(fifo)
    for path in (file, fifo, tmp_path):
        with pytest.raises(InputError, match="neither an RPM nor a Debian package"), open_package(str(path)):
            pass
    with pytest.raises(InputError, match="No such file"), open_package(str(tmp_path / "none")):
        pass


def test_nothing_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "package"
    before = set(os.listdir("/proc/self/fd"))
    for package in (rpm_of([]), deb_of({"a": b"x"}), rpm_of([])[:-9], b"!<arch>\n"):
        path.write_bytes(package)
        try:
            with open_package(str(path)) as opened:
                next(opened.members(), None)
        except InputError:
            continue
    assert set(os.listdir("/proc/self/fd")) == before
