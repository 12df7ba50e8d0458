"""Each style of spec, built for real: with the hook, with broken strip tools, with modules that cannot be stripped."""

from __future__ import annotations

from pathlib import Path

import pytest

from pkghook.ko import codec
from pkghook.model import Compression
from tests import jobs
from tests.modules import named
from tests.packages.rpmbuild import Bench, Built, bench, signer
from tests.packages.styles import STYLES, Style, Wish, prepare

MODULES = ("crc-itu-t", "nls_utf8")
MARK = b"~Module signature appended~\n"


@pytest.fixture(scope="module")
def modules(corpus: Path) -> dict[str, Path]:
    """Two small modules with debug information and .BTF."""
    return {f"{name}.ko": named(corpus, "amd64", name) for name in MODULES}


@pytest.fixture(scope="module")
def sign(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A command that signs."""
    return signer(tmp_path_factory.mktemp("key"))


@pytest.fixture(params=STYLES)
def style(request: pytest.FixtureRequest) -> Style:
    """Each style."""
    return STYLES[request.param]


@pytest.fixture
def place(style: Style, tmp_path: Path) -> Bench:
    """A bench with what the style needs."""
    made = bench(tmp_path)
    prepare(made, style)
    return made


def images(packaged: dict[str, Path], where: Path) -> Path:
    """A directory with the packaged modules, decompressed and without their signatures."""
    where.mkdir()
    for name, path in packaged.items():
        data = path.read_bytes()
        if name.endswith(".xz"):
            data = codec.decompress(data, Compression.XZ, 1 << 30)
        if data.endswith(MARK):
            signature = int.from_bytes(data[-len(MARK) - 4 : -len(MARK)], "big")
            data = data[: -len(MARK) - 12 - signature]
        (where / name.removesuffix(".xz")).write_bytes(data)
    return where


def originals(modules: dict[str, Path], names: set[str], where: Path) -> Path:
    """The same modules as they were built."""
    where.mkdir()
    for name in names:
        (where / name).write_bytes(modules[name.removeprefix("second-")].read_bytes())
    return where


def test_stripped_and_the_same(style: Style, place: Bench, modules: dict[str, Path], sign: str, tmp_path: Path) -> None:
    built = place.build(style.write(Wish(modules, sign)))
    assert built.status == 0, built.log
    packaged = built.modules()
    assert {name.removeprefix("second-") for name in packaged} == {f"{name}{style.suffix}" for name in modules}
    sizes = built.sizes()
    for name, path in packaged.items():
        assert sizes[name] == path.stat().st_size
        assert sizes[name] < modules[name.removeprefix("second-").removesuffix(".xz")].stat().st_size / 10
    after = images(packaged, tmp_path / "after")
    names = {path.name for path in after.iterdir()}
    done = jobs.run("verify", originals(modules, names, tmp_path / "before"), after)
    if style is STYLES["debuginfo"]:  # .comment and .note.GNU-stack went, and the build-id is new: the record allows it
        assert "unread-lost" in built.log
    else:
        assert done.returncode == 0, done.stdout
    assert all(has_signature(path) is style.signed for path in packaged.values())
    if style is STYLES["hard links"]:
        assert len({path.stat().st_ino for path in packaged.values()}) == len(modules)
    assert {entry.proof for entry in built.receipt().entries} == {style.proof}


def has_signature(path: Path) -> bool:
    """Whether a packaged module is signed."""
    data = path.read_bytes()
    return (codec.decompress(data, Compression.XZ, 1 << 30) if path.suffix == ".xz" else data).endswith(MARK)


IN_CHAIN = [name for name in STYLES if name != "debuginfo"]  # there modules come to pkghook stripped


@pytest.mark.parametrize("style", IN_CHAIN, indirect=True)
def test_a_broken_tool_makes_the_chain_fall(style: Style, place: Bench, modules: dict[str, Path], sign: str) -> None:
    built = place.build(style.write(Wish(modules, sign)), PATH=place.lie(), PKGHOOK_CHAIN="objcopy,strip,native")
    assert built.status == 0, built.log
    for entry in built.receipt().entries if style is not STYLES["sign in install"] else ():
        assert [attempt.outcome.value for attempt in entry.attempts] == ["failed", "failed", "passed"]
    assert built.log.count("[fell-through]") >= len(modules)
    for name, size in built.sizes().items():
        assert size < modules[name.removeprefix("second-").removesuffix(".xz")].stat().st_size / 10


@pytest.mark.parametrize("style", IN_CHAIN, indirect=True)
def test_every_step_broken_stops_the_build(style: Style, place: Bench, modules: dict[str, Path], sign: str) -> None:
    path = place.lie("writes half a module")
    built = place.build(style.write(Wish(modules, sign)), PATH=path, PKGHOOK_CHAIN="objcopy,eu-strip,strip")
    stopped(built, "chain-exhausted", *modules)


def test_a_module_that_cannot_be_stripped(
    style: Style, place: Bench, modules: dict[str, Path], sign: str, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.ko"
    cut.write_bytes(modules["crc-itu-t.ko"].read_bytes()[:-100])
    built = place.build(style.write(Wish({**modules, "cut.ko": cut}, sign)))
    stopped(built, "section-outside-file", "cut.ko")


def stopped(built: Built, finding: str, *names: str) -> None:
    """That the build ended in %install, without a package, and says of which modules what is wrong."""
    assert built.status == 1, built.log
    assert not built.rpms
    assert "Bad exit status from" in built.log
    said = [line for line in built.log.splitlines() if line.startswith("error: ") and f"[{finding}]" in line]
    assert [name for name in names if not any(f"/{name}" in line for line in said)] == [], built.log
