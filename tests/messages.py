"""PKCS#7 messages for tests, with nothing in them that nobody reads."""

from __future__ import annotations


def item(tag: int, *parts: bytes) -> bytes:
    """One of DER."""
    value = b"".join(parts)
    size = bytes([len(value)]) if len(value) < 128 else b"\x82" + len(value).to_bytes(2, "big")
    return bytes([tag]) + size + value


SHA256 = item(0x30, item(6, bytes.fromhex("608648016503040201")), item(5))
SIGNED = item(6, bytes.fromhex("2a864886f70d010702"))


def message(signature: bytes, attributes: bytes = b"", algorithm: bytes = SHA256) -> bytes:
    """A message with one signer, and nothing in it that nobody reads."""
    signer = item(
        0x30,
        item(2, b"\1"),
        item(0x30),
        algorithm,
        item(0xA0, attributes) if attributes else b"",
        item(0x30, item(6, b"\x2a")),
        item(4, signature),
    )
    signed = item(0x30, item(2, b"\1"), item(0x31, SHA256), item(0x30, item(6, b"\x2a")), item(0x31, signer))
    return item(0x30, SIGNED, item(0xA0, signed))


def attribute(digest: bytes) -> bytes:
    """messageDigest."""
    return item(0x30, item(6, bytes.fromhex("2a864886f70d010904")), item(0x31, item(4, digest)))
