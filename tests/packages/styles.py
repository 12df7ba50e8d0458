"""One spec for each style in which modules are packed, and what has to come out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from pkghook.model import Proof
from tests.packages.rpmbuilds import EXTRA, HOOKS, Bench, spec

Modules = Mapping[str, Path]
EACH = f"find %{{buildroot}}/{EXTRA} -name '*.ko'"
XZ = "xz --check=crc32 --lzma2=dict=1MiB"


class Style(NamedTuple):
    """A way to pack modules. `write` takes modules, a command that signs, and whether to use the hook."""

    write: Callable[[Modules, str, bool], str]
    vendor: str = ""  # macros of a vendor: "{config}" stands for the directory of rpm's configuration
    signed: bool = False  # the packaged modules are
    suffix: str = ""  # that the packaged modules have behind .ko
    proof: Proof = Proof.VERIFIED  # what the receipt says


def plain(modules: Modules, sign: str, hook: bool) -> str:
    """Nothing but the hook line."""
    del sign
    return spec(modules, first="%{?pkghook_hook}" if hook else "")


def debuginfo(modules: Modules, sign: str, hook: bool) -> str:
    """With a debuginfo package; without the hook the modules have to be executable to get into it."""
    del sign
    macros = "%global _enable_debug_packages 1"
    first = "%{?pkghook_debuginfo}" if hook else ""
    return spec(modules, first=first, macros=macros, tags="%debug_package\n", mode="644" if hook else "755")


def kmodtool(modules: Modules, sign: str, hook: bool) -> str:
    """Order of kmodtool's text (hooks.md 2): debug, arch, os, sign, xz; expanded at once, behind the tags."""
    body = (
        "%global __spec_install_post %{?__debug_package:%{__debug_install_post}} \\\n"
        "    %{__arch_install_post} \\\n    %{__os_install_post} \\\n"
        f"    for module in $({EACH}); do {sign} $module; done \\\n"
        f"    {EACH} -exec {XZ} {{}} + \\\n%{{nil}}\n"
    )
    return spec(modules, first="%{?pkghook_hook}" if hook else "", tags=body)


def elrepo(modules: Modules, sign: str, hook: bool) -> str:
    """elrepo style (hooks.md 4): a __spec_install_post without os_install_post, strip and sign at the end of %install."""
    macros = "%define __spec_install_post %{_rpmconfigdir}/brp-compress\n%define debug_package %{nil}"
    steps = ["%{pkghook_run}" if hook else ":", f"for module in $({EACH}); do {sign} $module; done"]
    return spec(modules, first="", macros=macros, install="\n".join(steps))


def sign_in_install(modules: Modules, sign: str, hook: bool) -> str:
    """Stripped by pkghook and signed in %install, with the hook to notice who touches them behind that."""
    steps = ["%{pkghook_run}" if hook else ":", f"for module in $({EACH}); do {sign} $module; done"]
    return spec(modules, first="%{?pkghook_hook}" if hook else "", install="\n".join(steps))


def hard_links(modules: Modules, sign: str, hook: bool) -> str:
    """Each module has a second name."""
    del sign
    steps = [f"ln %{{buildroot}}/{EXTRA}/{name} %{{buildroot}}/{EXTRA}/second-{name}" for name in modules]
    return spec(modules, first="%{?pkghook_hook}" if hook else "", install="\n".join(steps))


def compressed(modules: Modules, sign: str, hook: bool) -> str:
    """Compressed in %install."""
    del sign
    return spec(modules, first="%{?pkghook_hook}" if hook else "", install=f"{EACH} -exec {XZ} {{}} +")


def kmp(modules: Modules, sign: str, hook: bool) -> str:
    """RHEL's %kernel_module_package: no line of ours; without the hook its slot is empty."""
    tags = f"%global __brp_kmod_sign for module in $({EACH}); do {sign} $module; done\n%kmp\n"
    empty = "" if hook else "%global __brp_kmod_pre_sign_process %{nil}"
    return spec(modules, first="", macros=empty, tags=tags)


KMP = """\
%kmp() %{expand:
%%global __spec_install_post \\\\
    %%%%{?__debug_package:%%%%{__debug_install_post}} \\\\
    %%{__arch_install_post} \\\\
    %%{__os_install_post} \\\\
    %%{?__brp_kmod_pre_sign_process} \\\\
    %%{?__brp_kmod_sign} \\\\
%%{nil}
}
"""


def suse(modules: Modules, sign: str, hook: bool) -> str:
    """SUSE: no line of ours."""
    del sign, hook
    return spec(modules, first="")


SUSE = """\
%__os_install_post {config}/brp-compress \\
    {config}/brp-suse \\
%{nil}
"""
BRP_SUSE = """\
#!/bin/sh
for script in "${0%/*}"/brp-suse.d/brp*; do
    echo "calling ${script##*/}"
    "$script" || exit 1
done
"""
PESIGN = """\
#!/bin/sh
find "$RPM_BUILD_ROOT" -name '*.ko' -exec stat -c 'to be signed: %n %s' {} +
"""

STYLES = {
    "plain": Style(plain),
    "debuginfo": Style(debuginfo, proof=Proof.RECORDED),
    "kmodtool": Style(kmodtool, signed=True, suffix=".xz"),
    "elrepo": Style(elrepo, signed=True),
    "sign in install": Style(sign_in_install, signed=True, proof=Proof.RECORDED),
    "hard links": Style(hard_links),
    "compressed": Style(compressed, suffix=".xz"),
    "kmp": Style(kmp, KMP, signed=True),
    "suse": Style(suse, SUSE),
}


def prepare(bench: Bench, style: Style, *, hook: bool = True) -> None:
    """Put the model of the vendor into the bench's configuration, for SUSE with our drop-in."""
    bench.vendor(style.vendor.replace("{config}", str(bench.config)))
    if style.vendor == SUSE:
        directory = bench.config / "brp-suse.d"
        directory.mkdir()
        scripts = {"../brp-suse": BRP_SUSE, "brp-99-pesign": PESIGN}
        if hook:
            scripts["brp-16-pkghook"] = (HOOKS / "brp-16-pkghook").read_text()
        for name, text in scripts.items():
            path = directory / name
            path.write_text(text)
            path.chmod(0o755)
