"""The signature in a module's trailer, as far as it can be held against the bytes: a PKCS#7 message without contents.

A signature that is no signature of these bytes is worse than none: the kernel refuses the module even where it
loads unsigned ones.  With signed attributes the message has the digest of the bytes in it; without (the kernel's
scripts/sign-file leaves them out) it takes the signer's certificate, as DKMS and akmods keep theirs on the system.
An RSA signature by another key decodes to nothing that has the form of one, so a key is tried, not looked up.

Sources: RFC 2315 and RFC 5652 (messages), RFC 8017 (RSA), RFC 5280 (certificates); crypto/asymmetric_keys of Linux.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pkghook.errors import ModuleError
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pkghook.ko.file import Image

_SEQUENCE, _SET, _INTEGER, _OCTETS, _ATTRIBUTES = 0x30, 0x31, 0x02, 0x04, 0xA0
_HASHES = {
    bytes.fromhex("2b0e03021a"): "sha1",
    bytes.fromhex("608648016503040204"): "sha224",
    bytes.fromhex("608648016503040201"): "sha256",
    bytes.fromhex("608648016503040202"): "sha384",
    bytes.fromhex("608648016503040203"): "sha512",
    bytes.fromhex("608648016503040208"): "sha3_256",
    bytes.fromhex("608648016503040209"): "sha3_384",
    bytes.fromhex("60864801650304020a"): "sha3_512",
}
_MESSAGE_DIGEST = bytes.fromhex("2a864886f70d010904")
# In a certificate: rsaEncryption without parameters, then a bit string with a sequence of modulus and exponent.
_RSA = re.compile(rb"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x03", re.DOTALL)
_PADDING = b"\0\1" + 8 * b"\xff"  # at least so much of it, RFC 8017, section 9.2
_STREAM = 1 << 22
_KEY = 1 << 14  # bytes of a public key at most: that of 16,384 bits takes an eighth of it


class Key(NamedTuple):
    """A public key for RSA."""

    modulus: int
    exponent: int


class Signer(NamedTuple):
    """One signature of a message."""

    hash: str  # as hashlib calls it, "" for one not known here
    digest: bytes  # of the bytes, from the signed attributes; b"" without them
    signature: bytes
    attributes: bool  # whether there are signed attributes, which the signature covers then


class _Item(NamedTuple):
    tag: int
    value: bytes


def keys(data: bytes) -> tuple[Key, ...]:
    """The RSA keys in a certificate or several."""
    return tuple(_keys(data))


def _keys(data: bytes) -> Iterator[Key]:
    for found in _RSA.finditer(data):
        try:
            (bits,) = _items(data[found.end() - 1 : found.end() + _KEY], first=True)
            (pair,) = _items(bits.value[1:])
            modulus, exponent = _items(pair.value)
        except ValueError:
            continue  # bytes that only look like it
        yield Key(int.from_bytes(modulus.value, "big"), int.from_bytes(exponent.value, "big"))


def signers(message: bytes) -> list[Signer]:
    """The signatures of a message. Raises ModuleError bad-signature where it is none."""
    try:
        outer = _items(_only(message))
        signed = _items(_only(outer[1].value))
        return [_signer(item.value) for item in _items(signed[-1].value)]
    except (ValueError, IndexError) as error:
        raise _no_message(message) from error


def _framed(message: bytes) -> None:
    try:
        _only(message)
    except ValueError as error:
        raise _no_message(message) from error


def _no_message(message: bytes) -> ModuleError:
    return ModuleError("bad-signature", reason="no PKCS#7 message", size=len(message))


def _signer(value: bytes) -> Signer:
    items = _items(value)
    name = _HASHES.get(_items(items[2].value)[0].value, "")
    attributes = items[3].value if items[3].tag == _ATTRIBUTES else b""
    signature = items[5 if attributes else 4]
    if signature.tag != _OCTETS:
        raise ValueError("no signature")
    return Signer(name, _message_digest(attributes), signature.value, bool(attributes))


def _message_digest(attributes: bytes) -> bytes:
    for item in _items(attributes):
        kind, values = _items(item.value)
        if kind.value == _MESSAGE_DIGEST:
            return _items(values.value)[0].value
    return b""


def _only(data: bytes) -> bytes:
    (item,) = _items(data)
    if item.tag not in (_SEQUENCE, _SET):
        raise ValueError("neither sequence nor set")
    return item.value


def _items(data: bytes, *, first: bool = False) -> list[_Item]:
    """The items of which `data` consists, or the `first` only; DER. ValueError for anything else."""
    found: list[_Item] = []
    at = 0
    while at < len(data) and not (first and found):
        if at + 2 > len(data):
            raise ValueError("cut short")
        tag, size, at = data[at], data[at + 1], at + 2
        if size & 0x80:
            count = size & 0x7F
            size = int.from_bytes(data[at : at + count], "big")
            at += count
        if not at + size <= len(data):
            raise ValueError("cut short")
        found.append(_Item(tag, data[at : at + size]))
        at += size
    return found


# --- held against the bytes ------------------------------------------------------------------------------------------


def refuted(message: bytes, image: Image, known: Sequence[Key]) -> str:
    """How it is known that no signature of `message` is one of `image`; "" where it is one, or nobody can say.

    Raises ModuleError bad-signature where it is no message; where nobody could say, only its frame is looked at.
    """
    if not known and _MESSAGE_DIGEST not in message:
        _framed(message)
        return ""
    for signer in signers(message):
        claimed, how = (signer.digest, "the digest in it") if signer.digest else (_signed(signer, known), "a key here")
        if claimed and signer.hash and claimed != _digest(image, signer.hash):
            return how
    return ""


def _signed(signer: Signer, known: Sequence[Key]) -> bytes:
    """The digest that was signed, by the key that it was signed with; b"" if that is not among the `known`."""
    if signer.attributes:
        return b""
    for key in known:
        size = -(-key.modulus.bit_length() // 8)
        number = int.from_bytes(signer.signature, "big")
        if size != len(signer.signature) or number >= key.modulus:
            continue
        block = pow(number, key.exponent, key.modulus).to_bytes(size, "big")
        if block.startswith(_PADDING):
            try:
                return _items(_only(block.lstrip(b"\0\1\xff")))[1].value
            except (ValueError, IndexError):
                continue
    return b""


def _digest(image: Image, name: str) -> bytes:
    import hashlib

    digest = hashlib.new(name, usedforsecurity=False)
    for at in range(0, image.size, _STREAM):
        digest.update(image.read(at, min(_STREAM, image.size - at)))
    return digest.digest()
