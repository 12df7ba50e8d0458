"""`ko.pkcs7` on messages that are none: an error of ours, never another one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkghook.errors import ModuleError
from pkghook.ko import pkcs7
from pkghook.ko.file import BytesImage
from tests.messages import SHA256, attribute, item, message


def test_signers() -> None:
    (found,) = pkcs7.signers(message(b"s" * 200))
    assert found == pkcs7.Signer("sha256", b"", b"s" * 200, attributes=False)
    (found,) = pkcs7.signers(message(b"s", attribute(b"d" * 32)))
    assert found == pkcs7.Signer("sha256", b"d" * 32, b"s", attributes=True)


def test_digest_in_the_message() -> None:
    import hashlib

    right = message(b"s", attribute(hashlib.sha256(b"module").digest()))
    assert pkcs7.refuted(right, BytesImage(b"module"), ()) == ""
    assert pkcs7.refuted(right, BytesImage(b"modulf"), ()) == "the digest in it"


def test_a_hash_that_nobody_knows() -> None:
    odd = message(b"s", attribute(b"d"), item(0x30, item(6, b"\x2a\x03")))
    assert pkcs7.refuted(odd, BytesImage(b"module"), ()) == ""


@pytest.mark.parametrize("data", [b"", b"\x30", b"\x30\x82\xff\xff", b"junk", item(0x30), item(4, b"x"), SHA256])
def test_no_message(data: bytes) -> None:
    with pytest.raises(ModuleError) as caught:
        pkcs7.signers(data)
    assert caught.value.id == "bad-signature"


@given(st.data())
def test_damaged_messages(data: st.DataObject) -> None:
    whole = bytearray(message(b"s" * 64, attribute(b"d" * 32)))
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    assert complaint(bytes(whole[:cut])) in ("", "bad-signature")


def complaint(data: bytes) -> str:
    """The id of the error about a message, "" without one."""
    try:
        pkcs7.refuted(data, BytesImage(b"module"), (pkcs7.Key(1 << 511 | 1, 65537),))
    except ModuleError as error:
        return error.id
    return ""


@given(st.binary(max_size=200))
def test_keys_in_anything(data: bytes) -> None:
    start = bytes.fromhex("06092a864886f70d010101050003")
    for key in pkcs7.keys(data + start + data):
        assert key.modulus >= 0
