"""`pkghook dkms --strip`: modules that DKMS has installed already, stripped, signed again, compressed as they were.

A signature covers every byte, so a signed module is stripped as a copy, signed with the machine's DKMS key, and
put back only if the new signature is by the same signer: a stale one is worse than none, and another signer's may
be one that this machine does not know.  DKMS compares its own copy with the installed one, so both get the same bytes.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from pkghook import proc, report
from pkghook.errors import EXIT_CLEAN, EXIT_FINDINGS, InputError, ModuleError
from pkghook.findings import Finding, make
from pkghook.judge import policy as policies
from pkghook.ko import codec
from pkghook.ko.elf import parse
from pkghook.ko.file import load
from pkghook.ko.plan import plan
from pkghook.model import Compression, Entry, Proof, Sizes, State
from pkghook.sources import Found, dkmsconf, rpmdb
from pkghook.sources.tree import Tree
from pkghook.stories import dkmssign
from pkghook.values import NamedTuple
from pkghook.work import Order, strip_module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from pkghook.ko.file import ModuleFile
    from pkghook.settings import Settings
    from pkghook.sources import Source

# Where DKMS installs to. Below kernel/ a module of the kernel's own package may have the same name.
PLACES = ("updates", "extra")


class Job(NamedTuple):
    """One installed module with DKMS's own copy of it."""

    built: dkmsconf.Built
    found: Found
    copy: str  # path of the other one with the same bytes, "" if there is none


def run(args: tuple[str, ...], settings: Settings, out: TextIO, err: TextIO) -> int:
    """Strip them all. Exit status 0, or 1 where one failed."""
    del args, err
    with Tree(settings.root) as tree:
        if not settings.dry_run:
            tree.lock()
        order = dkmssign.order_for(tree, settings, dry_run=settings.dry_run)
        entries = [_one(order, job, settings) for job in _jobs(tree, settings)]
    changed = sorted({entry.kernel for entry in entries if entry.state is State.STRIPPED})
    findings = [] if settings.dry_run else [found for kernel in changed for found in _depmod(kernel, settings)]
    return _tell(order, entries, findings, settings, out)


def look(settings: Settings) -> Iterator[Entry]:
    """What `run` would do to each, as a dry run's entries."""
    with Tree(settings.root) as tree:
        order = dkmssign.order_for(tree, settings, dry_run=True)
        for job in _jobs(tree, settings):
            entry = strip_module(order._replace(policy=order.policy._replace(signed=policies.Signed.STRIP)), job.found)
            yield entry._replace(signature="present" if entry.signature else "")


# --- which -----------------------------------------------------------------------------------------------------------


def _jobs(tree: Tree, settings: Settings) -> Iterator[Job]:
    """DKMS's modules where they are installed; where that is a link to DKMS's own copy, that."""
    there: dict[tuple[str, str], list[Found]] = {}
    for found in tree.walk().modules:
        there.setdefault((found.kernel, _stem(found.path)), []).append(found)
    owned = _packaged(settings.root)
    wanted = [built for built in dkmsconf.installed(settings.root) if settings.kernel in ("", built.kernel)]
    for built in wanted:
        digest, size = _digest(settings.root, built.path)
        places = there.get((built.kernel, _stem(built.path)), [])
        same = [found for found in places if found.size == size and _digest(settings.root, found.path)[0] == digest]
        ours = same or [found for found in places if _below_kernel(found) in PLACES]
        ours = [found for found in ours if f"/{found.path}" not in owned]
        for found in ours:
            yield Job(built, found, built.path if same else "")
        if not same:
            yield Job(built, Found(built.path, built.kernel, size), "")


def _packaged(root: str) -> set[str]:
    """The modules that a package has installed, by their names there: those are not DKMS's.

    Raises InputError where RPM's database cannot be read.
    """
    rpm = rpmdb.read("" if os.path.realpath(root) == "/" else root, merged=False)
    if rpm and rpm.findings:
        why = dict(rpm.findings[0].evidence)["error"]
        hint = "nothing is stripped while it is unknown which modules are a package's"
        raise InputError(f"{rpm.place}: cannot read RPM's database: {why}", hint=hint)
    place = dkmsconf.below(root, "var/lib/dpkg/info")
    found: set[str] = set()
    for file in os.listdir(place) if os.path.isdir(place) else ():
        if file.endswith(".list"):
            with open(f"{place}/{file}", encoding="utf-8", errors="surrogateescape") as lines:
                found.update(line.rstrip("\n") for line in lines if "/modules/" in line and ".ko" in line)
    found.update(f"/{path}" for path in (rpm.files if rpm else ()))
    return found | {f"/usr{path}" for path in found} | {path.removeprefix("/usr") for path in found}


def _stem(path: str) -> str:
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def _below_kernel(found: Found) -> str:
    """The first directory below the kernel's."""
    return found.path.partition(f"/{found.kernel}/")[2].partition("/")[0]


def _digest(root: str, path: str) -> tuple[str, int]:
    digest = hashlib.sha256()
    size = 0
    try:
        with open(dkmsconf.below(root, path), "rb") as file:
            while data := file.read(1 << 20):
                digest.update(data)
                size += len(data)
    except OSError:
        return "", 0
    return digest.hexdigest(), size


# --- one of them -----------------------------------------------------------------------------------------------------


def _one(order: Order, job: Job, settings: Settings) -> Entry:
    keep = policies.kept_by(order.policy, job.found.path)
    if keep:
        order = order._replace(keeps={job.found.path: keep})
    try:
        entry = _through(order, job, settings)
        if job.copy and entry.state is State.STRIPPED and not order.dry_run:
            _same_again(order.tree, job)
    except ModuleError as error:
        blank = Entry(job.found.path, job.found.kernel, State.FAILED, sizes=Sizes(job.found.size, job.found.size))
        return blank._replace(findings=(error.finding(job.found.path),))
    return entry


def _through(order: Order, job: Job, settings: Settings) -> Entry:
    """A module that is signed and unstripped goes a way of its own, all others that of `strip`."""
    source = order.tree.open(job.found)
    try:
        file = load(source.fd, source.name, limit=order.limit)
        signed = file.signature is not None and plan(parse(file.image)).unstripped and not order.keeps
        if signed:
            return _resigned(order, job, source, file, settings)
    finally:
        os.close(source.fd)
    return strip_module(order, job.found)


def _resigned(order: Order, job: Job, source: Source, file: ModuleFile, settings: Settings) -> Entry:
    """A signed module: left as it is where it cannot be signed again."""
    path = job.found.path
    size = file.image.size
    kept = Entry(
        path,
        job.found.kernel,
        State.KEPT,
        reason="signed, and it cannot be signed again",
        signature="present",
        compression=file.compression.value,
        sizes=Sizes(file.file_size, file.file_size, size, size, size),
    )
    try:
        signing = dkmsconf.signing(settings.root, job.built.kernel)
    except InputError as error:
        return kept._replace(findings=(make("dkms-no-key", path, why=error.message),))
    why = _hindrance(signing, settings)
    if why:
        return kept._replace(findings=(make("dkms-no-key", path, key=signing.key, why=why),))
    return (
        _foretold(order, job) if order.dry_run else _by_a_copy(order.tree, job, source, file, kept, settings, signing)
    )


def _by_a_copy(
    tree: Tree,
    job: Job,
    source: Source,
    file: ModuleFile,
    kept: Entry,
    settings: Settings,
    signing: dkmsconf.Signing,
) -> Entry:
    import tempfile

    path, kernel = job.found.path, job.built.kernel
    with tempfile.TemporaryDirectory(prefix="pkghook-") as place:
        plain = f"{place}/{os.path.basename(path).partition('.ko')[0]}.ko"
        with open(plain, "wb") as copy:
            copy.write(file.image.read(0, file.image.size))
        entry = _about(dkmssign.strip_one(plain, settings), kept)
        if entry.state is not State.STRIPPED:
            return entry._replace(sizes=kept.sizes)
        words = (_hash(settings.root, kernel), signing.key, signing.certificate, plain)
        findings = dkmssign.sign(signing.tool, words, dkmssign.look(plain, settings), settings)
        if findings:
            return _about(entry._replace(state=State.FAILED, findings=tuple(findings), sizes=kept.sizes), kept)
        if not same_signer(file.trailer, dkmssign.look(plain, settings).trailer):
            return kept._replace(findings=(make("dkms-other-key", path, key=signing.key),))
        return _put(tree, job, source, file, entry, plain)


def _about(entry: Entry, kept: Entry) -> Entry:
    """An entry about the copy as one about the module."""
    told = tuple(found._replace(subject=kept.path) for found in entry.findings)
    return entry._replace(
        path=kept.path, kernel=kept.kernel, compression=kept.compression, signature="present", findings=told
    )


def _foretold(order: Order, job: Job) -> Entry:
    """What would become of a signed module, but for the bytes of its new signature."""
    entry = strip_module(order._replace(policy=order.policy._replace(signed=policies.Signed.STRIP)), job.found)
    told = tuple(found for found in entry.findings if found.id != "signature-removed")
    return entry._replace(signature="present", findings=told)


def _hindrance(signing: dkmsconf.Signing, settings: Settings) -> str:
    """Why a signed module cannot be signed again here, "" if it can."""
    if os.path.realpath(settings.root) != "/":
        return "nothing of another system is run, and so not its sign program"
    if not signing.tool:
        return "no sign program found"
    return "" if dkmsconf.has_key(settings.root, signing) else "the key or its certificate is not there"


def _hash(root: str, kernel: str) -> str:
    """The digest that the kernel's configuration names, as DKMS asks for it."""
    for path in (f"boot/config-{kernel}", f"lib/modules/{kernel}/build/.config"):
        try:
            with open(dkmsconf.below(root, path), encoding="utf-8", errors="replace") as file:
                words = [line.partition("=")[2].strip().strip('"') for line in file if line.startswith(_SIG_HASH)]
        except (OSError, InputError):
            continue
        if words and words[0]:
            return words[0]
    return "sha512"


_SIG_HASH = "CONFIG_MODULE_SIG_HASH="


def same_signer(old: bytes, new: bytes) -> bool:
    """Whether two signature trailers differ in the signature's value alone: same key, same digest, same form.

    sign-file writes PKCS#7 without signed attributes, at whose end the value stands as an octet string; before
    it are the key's issuer and serial number and the digest.  Source: scripts/sign-file.c; RFC 5652, 5.3.
    """
    if len(old) != len(new):
        return False
    end = len(new) - _TAIL
    for size in (128, 256, 384, 512, 1024):
        head = b"\x04\x81" + bytes([size]) if size < 256 else b"\x04\x82" + size.to_bytes(2, "big")
        start = end - size
        if start > len(head) and old[start - len(head) : start] == new[start - len(head) : start] == head:
            return old[:start] == new[:start] and old[end:] == new[end:]
    return False


_TAIL = 12 + len(b"~Module signature appended~\n")  # the descriptor and the marker


def _put(tree: Tree, job: Job, source: Source, file: ModuleFile, entry: Entry, plain: str) -> Entry:
    """Compress as the module was, prove that, and put it in the module's place."""
    with open(plain, "rb") as signed:
        data = signed.read()
    packed = data
    if file.compression is not Compression.NONE:
        packed = codec.compress(data, file.compression)
        codec.check(packed, data, file.compression)
    findings = _replace(tree, job.found, source, packed)
    before = entry.sizes
    return entry._replace(
        proof=Proof.VERIFIED,
        signature="present",
        sizes=before._replace(file_before=file.file_size, file_after=len(packed), image_before=file.image.size),
        sha256_before="",
        sha256_after=hashlib.sha256(packed).hexdigest(),
        findings=(*entry.findings, *findings, make("dkms-signed-again", job.found.path)),
    )


def _replace(tree: Tree, found: Found, source: Source, data: bytes) -> tuple[Finding, ...]:
    scratch = tree.scratch(source)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(scratch.fd, view) :]
        return tree.replace(found, source, scratch, True)
    except OSError as error:
        raise ModuleError("cannot-write", error=error.strerror or str(error)) from error
    finally:
        tree.discard(scratch)


def _same_again(tree: Tree, job: Job) -> None:
    """Give DKMS's own copy the bytes of the installed module."""
    other = Found(job.copy, job.found.kernel, 0)
    new, old = tree.open(job.found), None
    try:
        old = tree.open(other)
        _replace(tree, other, old, new_bytes(new))
    finally:
        os.close(new.fd)
        if old:
            os.close(old.fd)


def new_bytes(source: Source) -> bytes:
    """All of a file."""
    data = b""
    while len(data) < source.stat.st_size:
        more = os.pread(source.fd, source.stat.st_size - len(data), len(data))
        if not more:
            raise ModuleError("truncated", size=source.stat.st_size, available=len(data))
        data += more
    return data


# --- afterwards ------------------------------------------------------------------------------------------------------


def _depmod(kernel: str, settings: Settings) -> Iterator[Finding]:
    tool = proc.which("depmod", f"{proc.search_path()}:/usr/sbin:/sbin")
    if not tool:
        yield make("depmod-failed", kernel, error="depmod is not there")
        return
    where = [] if os.path.realpath(settings.root) == "/" else ["-b", os.path.realpath(settings.root)]
    ended = proc.run([tool, *where, kernel], timeout=settings.tool_timeout)
    if ended.status != 0:
        said = " ".join(ended.stderr.decode("utf-8", "replace").split())[:300]
        yield make("depmod-failed", kernel, ended=ended.error or f"exit status {ended.status}", said=said)


def _tell(order: Order, entries: list[Entry], findings: list[Finding], settings: Settings, out: TextIO) -> int:
    from pkghook.judge import receipt as receipts
    from pkghook.judge.rules import conclude, excuse
    from pkghook.judge.verdict import judge

    entries = [excuse(order.policy, entry) for entry in entries]
    known, overrides = conclude(order.policy, entries, findings)
    receipt = receipts.make(
        "dry-run" if order.dry_run else "strip",
        entries,
        settings=(("chain", ",".join(step.name for step in order.steps)), *policies.pairs(order.policy)),
        tools=tuple((a.step, a.version) for entry in entries for a in entry.attempts if a.version),
        findings=known,
        overrides=overrides,
    )
    verdict = judge(receipt, order.policy)
    try:
        if settings.receipt:
            receipts.write(receipt, settings.receipt)
    finally:
        out.write(report.REPORTS[settings.format](receipt, verdict, report.style_for(settings, out, os.environ)))
    return EXIT_CLEAN if verdict.passed else EXIT_FINDINGS
