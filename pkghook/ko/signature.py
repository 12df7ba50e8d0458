"""The signature appended to a module: found and described, never verified.

Layout, from the end of the file backwards: the marker of 28 bytes, a descriptor of 12
bytes (`struct module_signature` of the kernel's include/linux/module_signature.h), the
signature itself and, in forms from before Linux 4.3, the key's id and the signer's name.
The signature covers every byte before the signer's name.
"""

from __future__ import annotations

import struct

from pkghook.errors import ModuleError
from pkghook.values import NamedTuple

MARKER = b"~Module signature appended~\n"

# algo, hash, id_type, signer_len, key_id_len, three bytes of padding, sig_len (big-endian on every machine)
_DESCRIPTOR = struct.Struct(">5B3xI")
TAIL = _DESCRIPTOR.size + len(MARKER)  # bytes at the end of a module that tell all

PKCS7 = 2  # the form that the kernel's scripts/sign-file writes, and the only one that Linux 4.3 and newer take
_ID_TYPES = ("PGP", "X509", "PKCS#7")
_OLD = ("algo", "hash", "signer_len", "key_id_len")  # fields that only the first two use


class Signature(NamedTuple):
    """Where a signature trailer lies and what its descriptor says; offsets and sizes in bytes."""

    offset: int  # where the trailer begins, and so the size of the image
    size: int  # the whole trailer: names, signature, descriptor and marker
    algo: int
    hash: int
    id_type: int
    signer_len: int
    key_id_len: int
    sig_len: int


def find(tail: bytes, size: int) -> Signature | None:
    """The signature trailer of an unwrapped module of `size` bytes, None if it has none.

    `tail` is the module's end: its last `TAIL` bytes or more, or all of it where it is smaller.
    Raises ModuleError `bad-signature` when the marker is there and the lengths before it cannot
    be true: no signature, or one that leaves no byte of a module (mod_check_sig() in
    kernel/module_signature.c refuses the latter, kmod does not see the former as signed).
    """
    if not tail.endswith(MARKER):
        return None
    if size < TAIL:
        raise ModuleError("bad-signature", reason="no descriptor before the marker", size=size)
    fields = _DESCRIPTOR.unpack_from(tail, len(tail) - TAIL)
    algo, digest, id_type, signer_len, key_id_len, sig_len = fields
    length = signer_len + key_id_len + sig_len
    if sig_len == 0 or length >= size - TAIL:
        raise ModuleError("bad-signature", promised=length, available=size - TAIL, sig_len=sig_len)
    trailer = length + TAIL
    return Signature(size - trailer, trailer, algo, digest, id_type, signer_len, key_id_len, sig_len)


def describe(sig: Signature) -> str:
    """What the descriptor says, for people: kind and size, and fields that the kernel wants to be 0.

    mod_check_sig() takes PKCS#7 only, and with it nothing but 0 in the fields of the older forms.
    """
    kind = _ID_TYPES[sig.id_type] if sig.id_type < len(_ID_TYPES) else f"unknown kind {sig.id_type}"
    old = [f"{name}={value}" for name in _OLD if (value := getattr(sig, name))]
    text = f"{kind} signature of {sig.sig_len} bytes"
    if old:
        text += f" ({', '.join(old)})"
    return text if sig.id_type == PKCS7 and not old else f"{text}, which the kernel refuses"
