"""`sources.builtin`: the names in modules.builtin."""

from __future__ import annotations

from pkghook.sources.builtin import MAX_BYTES, names


def test_names_are_those_that_modprobe_knows() -> None:
    assert names(b"kernel/fs/ext4/ext4.ko\nkernel/crypto/sha1-x.ko\n\nplain.ko\n") == {"ext4", "sha1_x", "plain"}
    assert names(b"") == frozenset()


def test_other_bytes_are_names_that_nobody_has() -> None:
    assert names(b"\xff/\xfe.ko\n\x7fELF") == {"\udcfe", "\x7fELF"}
    assert len(names(b"a\n" * MAX_BYTES)) == 1
