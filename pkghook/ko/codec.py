"""The compression of a module: told by magic, undone within a limit, done by the kernel's recipe.

Facts on what the kernel itself reads are from kernel/module/decompress.c, the recipe is that of
scripts/Makefile.modinst.  Libraries are imported where they are used: a plain module needs none.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from pkghook.errors import MissingDependencyError, ModuleError
from pkghook.model import Compression

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAGICS = (
    (b"\x1f\x8b", Compression.GZIP),
    (b"\xfd7zXZ\x00", Compression.XZ),
    (b"\x28\xb5\x2f\xfd", Compression.ZSTD),
)
_NAMES = (
    (".ko", Compression.NONE),
    (".ko.gz", Compression.GZIP),
    (".ko.xz", Compression.XZ),
    (".ko.zst", Compression.ZSTD),
)
MAGIC_SIZE = 6  # bytes of a file's head that `sniff` needs
PEEK = 192 << 10  # bytes of a compressed file with which `first_bytes` has some: a zstd block has up to 128 KiB

_PIECE = 1 << 18  # compressed bytes given to a decoder at once
_CHUNK = 1 << 20  # decompressed bytes taken from it at once
_XZ_MEMORY = 256 << 20  # a decoder needs its dictionary and a little; `xz -9` asks for 65 MiB
_WINDOW = 1 << 27  # bytes; libzstd's own limit, hence kmod's
_GZIP = 31  # zlib's number for: window of 32 KiB, gzip header and trailer
_ZSTD_HEADER_MAX = 18
_ZSTD_BLOCK_HEADER = 3
_ZSTD_RLE = 1  # type of a block that is one byte and a count
_ZSTD_CHECKSUM = 4


def sniff(head: bytes) -> Compression:
    """The compression that a file's first `MAGIC_SIZE` bytes tell; NONE for ELF and all else."""
    for magic, how in _MAGICS:
        if head.startswith(magic):
            return how
    return Compression.NONE


def by_name(name: str) -> Compression | None:
    """The compression that a file name tells, None where it is no module's name."""
    for suffix, how in _NAMES:
        if name.endswith(suffix):
            return how
    return None


def decompress(data: bytes, how: Compression, limit: int) -> bytes:
    """The module inside `data`, which must be one gzip member, xz stream or zstd frame and nothing else.

    Memory stays below the decompressed bytes plus a small part, and those below `limit` bytes plus one
    chunk.  Raises ModuleError `corrupt-compression` (damaged, cut short, or a decoder's memory beyond
    reason), `trailing-garbage`, `too-large`; MissingDependencyError without the library for zstd.
    """
    if how is Compression.NONE:
        if len(data) > limit:
            raise ModuleError("too-large", size=len(data), limit=limit)
        return data
    return _joined(_chunks(data, how, limit))


def first_bytes(data: bytes, how: Compression) -> bytes:
    """What the beginning of a compressed file unfolds to, a chunk at the most; b"" where it is damaged.

    `data` may be cut off anywhere behind `PEEK` bytes.  Raises MissingDependencyError as `decompress`.
    """
    try:
        return next(filter(None, _DECODERS[how](data)), b"")
    except ModuleError:
        return b""


def unfold(data: bytes, how: Compression, limit: int) -> tuple[bytes, int]:
    """As `decompress`, but bytes may follow: what the kernel reads, and where in `data` that ends.

    The kernel's decoders stop behind one gzip member, xz stream or zstd frame and look at nothing after it.
    """
    end = [len(data)]
    return _joined(_until_trailing(_chunks(data, how, limit), end)), end[0]


def _until_trailing(chunks: Iterator[bytes], end: list[int]) -> Iterator[bytes]:
    """`chunks` without the complaint about what follows; where that begins is put into `end`."""
    try:
        yield from chunks
    except ModuleError as error:
        if error.id != "trailing-garbage":
            raise
        end[0] = int(error.evidence["offset"])


def _joined(chunks: Iterator[bytes]) -> bytes:
    first, second = next(chunks, b""), next(chunks, None)
    if second is None:  # most modules fit into one
        return first
    image = BytesIO()  # grows in place and gives its bytes away without a copy
    image.write(first)
    image.write(second)
    for chunk in chunks:
        image.write(chunk)
    return image.getvalue()


def compress(image: bytes, how: Compression) -> bytes:
    """`image` as the kernel's `make modules_install` would compress it; the same bytes each time.

    gzip: as `gzip -n`, level 6, neither name nor time.  xz: as `xz --check=crc32 --lzma2=dict=1MiB`,
    since the kernel's own decoder knows CRC32 and no CRC64.  zstd: as `zstd -T0`, level 3, one frame
    with size and checksum.  Raises MissingDependencyError without the library for zstd.
    """
    match how:
        case Compression.NONE:
            return image
        case Compression.GZIP:
            return _gzip(image)
        case Compression.XZ:
            return _xz(image)
        case Compression.ZSTD:
            return _zstd(image)


def check(written: bytes, image: bytes, how: Compression) -> None:
    """Obligation V13: `written` decompresses to `image`, and is of a form that the kernel reads.

    Holds one chunk of the decompressed bytes at a time.  Raises ModuleError `recompression-mismatch`.
    """
    if reason := _refused_by_kernel(written, how):
        raise _mismatch(how, reason)
    position = 0
    try:
        for chunk in _chunks(written, how, len(image)):
            if not image.startswith(chunk, position):
                reason = f"differs between bytes {position} and {position + len(chunk)}"
                break
            position += len(chunk)
    except ModuleError as error:
        raise _mismatch(how, str(error)) from error
    if not reason and position != len(image):
        reason = f"ends after {position} of {len(image)} bytes"
    if reason:
        raise _mismatch(how, reason)


def _mismatch(how: Compression, reason: str) -> ModuleError:
    return ModuleError("recompression-mismatch", compression=how.value, reason=reason)


def _refused_by_kernel(written: bytes, how: Compression) -> str:
    """Why the kernel's own decoder would not read this form; "" where it does, or the decoders here tell it.

    gzip: FNAME is the only flag that module_gzip_header_len() knows.  xz: no check or CRC32, in the low
    half of the eighth byte.  zstd: the limit on the window is that of `_unzstd`.
    """
    if how is Compression.GZIP and (flags := int.from_bytes(written[3:4])) & ~8:
        return f"gzip flags {flags:#04x}"
    if how is Compression.XZ and (integrity := int.from_bytes(written[7:8])) > 1:
        return f"xz integrity check {integrity}"
    return ""


# --- decoders: each yields the contents in chunks and ends with the compressed data, or raises -----------------------


def _chunks(data: bytes, how: Compression, limit: int) -> Iterator[bytes]:
    total = 0
    for chunk in _DECODERS[how](data):
        total += len(chunk)
        if total > limit:
            raise ModuleError("too-large", compression=how.value, file_size=len(data), limit=limit)
        yield chunk


def _gunzip(data: bytes) -> Iterator[bytes]:
    """One gzip member; zlib checks CRC and size behind it."""
    import zlib

    decoder = zlib.decompressobj(_GZIP)
    fed = 0
    ended = False
    try:
        while fed < len(data) and not ended:
            rest = data[fed : fed + _PIECE]
            fed += len(rest)
            # output may be waiting in the decoder after its last byte of input: until nothing comes
            while chunk := decoder.decompress(rest, _CHUNK):
                yield chunk
                rest = decoder.unconsumed_tail
            ended = decoder.eof
    except zlib.error as error:
        raise _corrupt(Compression.GZIP, str(error)) from error
    _must_end(Compression.GZIP, data, fed - len(decoder.unused_data), ended=ended)


def _unxz(data: bytes) -> Iterator[bytes]:
    """One xz stream with any integrity check that liblzma knows."""
    import lzma

    fed = 0
    try:
        decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        while fed < len(data) and not decoder.eof:
            piece = data[fed : fed + _PIECE]
            fed += len(piece)
            yield decoder.decompress(piece, _CHUNK)
            while not (decoder.needs_input or decoder.eof):
                yield decoder.decompress(b"", _CHUNK)
    except lzma.LZMAError as error:
        raise _corrupt(Compression.XZ, str(error)) from error
    _must_end(Compression.XZ, data, fed - len(decoder.unused_data), ended=decoder.eof)


def _unzstd(data: bytes) -> Iterator[bytes]:
    """One zstd frame, block by block: zstandard's decoder has no limit on what one call gives."""
    _need_zstandard()
    import zstandard

    fed = 0
    decoder = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
    try:
        for end in _zstd_blocks(data):
            yield decoder.decompress(data[fed:end])
            fed = end
    except zstandard.ZstdError as error:
        raise _corrupt(Compression.ZSTD, str(error)) from error
    _must_end(Compression.ZSTD, data, fed, ended=decoder.eof)


def _zstd_blocks(data: bytes) -> Iterator[int]:
    """Where each block of the first frame ends, the last one with the checksum (RFC 8878, section 3.1.1).

    Raises ModuleError `corrupt-compression`; zstandard.ZstdError when the frame header is none.
    """
    import zstandard

    head = data[:_ZSTD_HEADER_MAX]
    if sniff(head) is not Compression.ZSTD:  # libzstd would skip a skippable frame
        raise _corrupt(Compression.ZSTD, "no magic")
    frame = zstandard.get_frame_parameters(head)
    if frame.window_size > _WINDOW:
        raise _corrupt(Compression.ZSTD, f"window of {frame.window_size} bytes, above the limit of {_WINDOW}")
    end = zstandard.frame_header_size(head)
    last = 0
    while not last:
        # last block: bit 0; type: bits 1 and 2; size: the other 21
        header = int.from_bytes(data[end : end + _ZSTD_BLOCK_HEADER], "little")
        last = header & 1
        end += _ZSTD_BLOCK_HEADER + (1 if header >> 1 & 3 == _ZSTD_RLE else header >> 3)
        if last and frame.has_checksum:
            end += _ZSTD_CHECKSUM
        if end > len(data):
            raise _cut_short(Compression.ZSTD, data)
        yield end


def _must_end(how: Compression, data: bytes, end: int, *, ended: bool) -> None:
    if not ended:
        raise _cut_short(how, data)
    if end < len(data):
        raise ModuleError("trailing-garbage", compression=how.value, offset=end, size=len(data) - end)


def _cut_short(how: Compression, data: bytes) -> ModuleError:
    return _corrupt(how, f"cut short after {len(data)} bytes")


def _corrupt(how: Compression, reason: str) -> ModuleError:
    return ModuleError("corrupt-compression", compression=how.value, reason=reason)


_DECODERS: dict[Compression, Callable[[bytes], Iterator[bytes]]] = {
    Compression.NONE: lambda data: iter((data,)),
    Compression.GZIP: _gunzip,
    Compression.XZ: _unxz,
    Compression.ZSTD: _unzstd,
}


# --- the kernel's recipe ---------------------------------------------------------------------------------------------


def _gzip(image: bytes) -> bytes:
    import zlib

    # zlib writes the header of `gzip -n`: no flags, no time, operating system Unix
    encoder = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
    return _fed(image, encoder.compress, encoder.flush)


def _xz(image: bytes) -> bytes:
    import lzma

    # what `--lzma2=dict=1MiB` means to xz: its default preset with another dictionary
    chain = [{"id": lzma.FILTER_LZMA2, "preset": lzma.PRESET_DEFAULT, "dict_size": 1 << 20}]
    encoder = lzma.LZMACompressor(lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=chain)
    return _fed(image, encoder.compress, encoder.flush)


def _fed(image: bytes, take: Callable[[memoryview], bytes], end: Callable[[], bytes]) -> bytes:
    """What an encoder makes of `image`, given to it in pieces: no call shall take minutes (see pkghook/stuck.py)."""
    with memoryview(image) as view:
        pieces = [take(view[at : at + _CHUNK]) for at in range(0, len(view), _CHUNK)]
    return b"".join((*pieces, end()))


def _zstd(image: bytes) -> bytes:
    _need_zstandard()
    import zstandard

    return zstandard.ZstdCompressor(level=3, write_checksum=True, write_content_size=True).compress(image)


def _need_zstandard() -> None:
    try:
        import zstandard  # noqa: F401
    except ImportError as error:
        message = "a module is compressed with zstd, and the Python library zstandard is not installed"
        raise MissingDependencyError(message, hint="apt install python3-zstandard, or pip install zstandard") from error
