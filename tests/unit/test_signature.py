"""`ko.signature`: trailers of every form, and those that lie."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkghook.errors import ModuleError
from pkghook.ko.signature import MARKER, TAIL, Signature, describe, find

IMAGE = b"\x7fELF" + bytes(96)


def trailer(sig: bytes, *, kind: tuple[int, int, int] = (0, 0, 2), signer: bytes = b"", key: bytes = b"") -> bytes:
    """A signature trailer as `sign-file` of the kernel writes it; `kind` is algo, hash, id_type."""
    return signer + key + sig + struct.pack(">5B3xI", *kind, len(signer), len(key), len(sig)) + MARKER


def test_no_marker_is_no_signature() -> None:
    assert find(IMAGE[-TAIL:], len(IMAGE)) is None
    assert find(b"", 0) is None


def test_marker_not_at_the_very_end_is_no_signature() -> None:
    data = IMAGE + trailer(bytes(9)) + b"\n"
    assert find(data[-TAIL:], len(data)) is None


def test_pkcs7() -> None:
    data = IMAGE + trailer(bytes(681))
    found = find(data[-TAIL:], len(data))
    assert found == Signature(len(IMAGE), 681 + 12 + 28, 0, 0, 2, 0, 0, 681)
    assert describe(found) == "PKCS#7 signature of 681 bytes"


@pytest.mark.parametrize(("id_type", "text"), [(0, "PGP"), (1, "X509"), (7, "unknown kind 7")])
def test_older_forms_count_signer_and_key(id_type: int, text: str) -> None:
    data = IMAGE + trailer(bytes(256), kind=(1, 4, id_type), signer=b"a signer", key=bytes(20))
    found = find(data, len(data))
    assert found is not None
    assert (found.offset, found.size) == (len(IMAGE), len(data) - len(IMAGE))
    expected = f"{text} signature of 256 bytes (algo=1, hash=4, signer_len=8, key_id_len=20), which the kernel refuses"
    assert describe(found) == expected


def test_pkcs7_with_an_old_field_is_told() -> None:
    data = IMAGE + trailer(bytes(256), kind=(1, 0, 2))
    found = find(data, len(data))
    assert found is not None
    assert describe(found) == "PKCS#7 signature of 256 bytes (algo=1), which the kernel refuses"


@pytest.mark.parametrize("sig_len", [0, 101, 100, 2**31, 2**32 - 1])
def test_a_length_that_lies(sig_len: int) -> None:
    data = IMAGE + struct.pack(">5B3xI", 0, 0, 2, 0, 0, sig_len) + MARKER
    with pytest.raises(ModuleError) as caught:
        find(data[-TAIL:], len(data))
    assert caught.value.id == "bad-signature"
    assert caught.value.evidence == {"promised": sig_len, "available": 100, "sig_len": sig_len}


def test_lengths_that_lie_only_together() -> None:
    data = IMAGE + struct.pack(">5B3xI", 0, 0, 0, 50, 40, 10) + MARKER
    with pytest.raises(ModuleError, match="bad-signature, promised=100, available=100, sig_len=10"):
        find(data, len(data))


@pytest.mark.parametrize("before", [0, 1, 11])
def test_no_room_for_a_descriptor(before: int) -> None:
    data = bytes(before) + MARKER
    with pytest.raises(ModuleError, match="bad-signature, reason=no descriptor before the marker"):
        find(data, len(data))


@given(st.binary(min_size=12, max_size=60), st.integers(len(MARKER), 2**40))
def test_any_tail_gives_a_trailer_inside_the_file_or_a_module_error(noise: bytes, size: int) -> None:
    tail = (noise + MARKER)[-size:]
    try:
        found = find(tail, size)
    except ModuleError:
        return
    assert found is not None
    assert 0 < found.offset == size - found.size
