"""The ways to strip a tree of modules: pkghook's, and those that packagers have without it.

The first row of each table is what the others are compared with.  All that can use several processors may.
"""

from __future__ import annotations

from tests.bench.rivals import STRIP, Rival

STEPS = ("objcopy", "strip", "eu-strip", "llvm-strip")  # those of the chain that start a program
BRP = "/usr/lib/rpm/brp-strip"
EACH = """find "$TREE" -name '*.ko' -print0 | xargs -0 -P$(nproc)"""
BATCH = f"{EACH} -n32 strip -g"

RECORD = "pkghook record $TREE --out $OUT/record"
AFTER = "pkghook strip $TREE --before $OUT/record --require-proof --receipt $OUT/receipt.json"
DEBUG = f"{STRIP} --debug-dir $OUT/debug --debuglink"
# As scripts/Makefile.modinst of the kernel does for each module, under make -j.
INSTALL = """cd "$TREE" && find . -name '*.ko' -print0 | xargs -0 -P$(nproc) -n1 \
sh -c 'cp "$1" "$OUT/$1" && strip --strip-debug "$OUT/$1"' sh"""
# As rpm's macros call it; it passes by what nobody may execute.
DEBUGINFO = """cd "$OUT" && RPM_BUILD_ROOT="$TREE" RPM_BUILD_DIR="$OUT" RPM_PACKAGE_NAME=kernel RPM_PACKAGE_VERSION=1 \
RPM_PACKAGE_RELEASE=1 RPM_ARCH=$(uname -m) find-debuginfo -j$(nproc) "$OUT" """.strip()
EXECUTABLE = """find "$TREE" -name '*.ko*' -exec chmod u+x {} +"""
MADE_BY_RPM = f'RPM_BUILD_ROOT="$TREE" RPM_BUILD_NCPUS=$(nproc) {BRP} strip'

STRIPPERS = (
    Rival("batch strip -g", BATCH, ("strip",)),
    Rival("pkghook strip", STRIP),
    Rival("batch eu-strip -g", f"{EACH} -n32 eu-strip -g", ("eu-strip",)),
    Rival("batch llvm-strip -g", f"{EACH} -n32 llvm-strip -g", ("llvm-strip",)),
)
TREE = (
    *STRIPPERS,
    Rival("strip -g per file", f"{EACH} -n1 strip -g", ("strip",)),
    Rival(
        "cp and strip per file",
        INSTALL,
        ("strip",),
        before=("""cd "$TREE" && find . -type d -exec mkdir -p "$OUT/{}" ';'""",),
        result="out",
    ),
    Rival("brp-strip", MADE_BY_RPM, (BRP, "strip", "file")),
    Rival("find-debuginfo", DEBUGINFO, ("find-debuginfo", "eu-strip", "file", "cpio"), before=(EXECUTABLE,)),
    *(Rival(f"pkghook strip --chain {step}", f"{STRIP} --chain {step}", (step,)) for step in STEPS),
    Rival("pkghook strip --debug-dir", DEBUG),
    Rival("pkghook record", RECORD, result=""),
    Rival("pkghook strip --before", AFTER, before=(RECORD,)),
    Rival("pkghook strip --before, after batch strip -g", AFTER, ("strip",), before=(RECORD, BATCH)),
)

EACH_XZ = EACH.replace("*.ko", "*.ko.xz")
# No strip tool looks inside: somebody has to open them before and to close them again, as `make modules_install` does.
PACK = "xz --check=crc32 --lzma2=dict=1MiB"


def unpacked(strip: str) -> str:
    """The command that does it to compressed modules, 32 at a time."""
    return f"""{EACH_XZ} -n32 bash -c 'xz -d "$@" && {strip} "${{@%.xz}}" && {PACK} "${{@%.xz}}"' bash"""


TREE_XZ = (
    Rival("batch strip -g, .ko.xz", unpacked("strip -g"), ("xz", "bash", "strip")),
    Rival("pkghook strip, .ko.xz", STRIP),
    *(
        Rival(f"batch {tool} -g, .ko.xz", unpacked(f"{tool} -g"), ("xz", "bash", tool))
        for tool in ("eu-strip", "llvm-strip")
    ),
    Rival(
        "strip -g per file, .ko.xz",
        f"""{EACH_XZ} -n1 bash -c 'xz -d "$1" && strip -g "${{1%.xz}}" && {PACK} "${{1%.xz}}"' bash""",
        ("xz", "bash", "strip"),
    ),
    Rival(
        "cp and strip per file, .ko.xz",
        """cd "$TREE" && find . -name '*.ko.xz' -print0 | xargs -0 -P$(nproc) -n1 bash -c \
'xz -dc "$1" >"$OUT/${1%.xz}" && strip --strip-debug "$OUT/${1%.xz}" && """
        f"""{PACK} "$OUT/${{1%.xz}}"' bash""",
        ("xz", "bash", "strip"),
        before=("""cd "$TREE" && find . -type d -exec mkdir -p "$OUT/{}" ';'""",),
        result="out",
    ),
    Rival("brp-strip, .ko.xz: leaves all", MADE_BY_RPM, (BRP, "strip", "file"), idle=True),
    Rival(
        "find-debuginfo, .ko.xz: leaves all",
        DEBUGINFO,
        ("find-debuginfo", "eu-strip", "file", "cpio"),
        before=(EXECUTABLE,),
        idle=True,
    ),
    *(Rival(f"pkghook strip --chain {step}, .ko.xz", f"{STRIP} --chain {step}", (step,)) for step in STEPS),
)


def named(field: tuple[Rival, ...], what: str) -> tuple[Rival, ...]:
    """The same rivals under names of their own, for rows of their own."""
    return tuple(rival._replace(what=f"{rival.what}, {what}") for rival in field)


def one_process(what: str, prefix: str = "") -> tuple[Rival, ...]:
    """strip and pkghook with one processor; `prefix` stands before the names of the tools of another machine."""
    tool = f"{prefix}strip"
    return (
        Rival(f"strip -g, {what}", f"{EACH.replace(' -P$(nproc)', '')} -n32 {tool} -g", (tool,)),
        Rival(f"pkghook strip -j1, {what}", f"{STRIP} -j1"),
    )
