"""One spec for each style in which modules are packed, and what has to come out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from pkghook.model import Proof
from tests.packages.rpmbuild import EXTRA, HOOKS, Bench, spec

EACH = f"find %{{buildroot}}/{EXTRA} -name '*.ko'"
XZ = "xz --check=crc32 --lzma2=dict=1MiB"


class Wish(NamedTuple):
    """What a spec is to do."""

    modules: Mapping[str, Path]
    signer: str  # a command
    hook: bool = True

    @property
    def line(self) -> str:
        """The first line of the spec."""
        return "%{?pkghook_hook}" if self.hook else ""

    @property
    def run(self) -> str:
        """The command in %install."""
        return "%{pkghook_run}" if self.hook else ":"

    @property
    def sign(self) -> str:
        """The command that signs all modules."""
        return f"for module in $({EACH}); do {self.signer} $module; done"


class Style(NamedTuple):
    """A way to pack modules."""

    write: Callable[[Wish], str]
    vendor: str = ""  # macros of a vendor: "{config}" stands for the directory of rpm's configuration
    signed: bool = False  # the packaged modules are
    suffix: str = ""  # that the packaged modules have behind .ko
    proof: Proof = Proof.VERIFIED  # what the receipt says


def plain(wish: Wish) -> str:
    """Nothing but the hook line."""
    return spec(wish.modules, first=wish.line)


def debuginfo(wish: Wish) -> str:
    """With a debuginfo package; without the hook the modules have to be executable to get into it."""
    first, mode = ("%{?pkghook_debuginfo}", "644") if wish.hook else ("", "755")
    return spec(wish.modules, first=first, tags="%debug_package\n", mode=mode)


def kmodtool(wish: Wish) -> str:
    """The order of kmodtool's text: debug, arch, os, sign, xz; expanded at once, behind the tags."""
    body = (
        "%global __spec_install_post %{?__debug_package:%{__debug_install_post}} \\\n"
        "    %{__arch_install_post} \\\n    %{__os_install_post} \\\n"
        f"    {wish.sign} \\\n    {EACH} -exec {XZ} {{}} + \\\n%{{nil}}\n"
    )
    return spec(wish.modules, first=wish.line, tags=body)


def elrepo(wish: Wish) -> str:
    """elrepo's way: strip and sign at the end of %install, and a __spec_install_post without os_install_post."""
    macros = "%define __spec_install_post %{_rpmconfigdir}/brp-compress\n%define debug_package %{nil}"
    return spec(wish.modules, first="", macros=macros, install=f"{wish.run}\n{wish.sign}")


def sign_in_install(wish: Wish) -> str:
    """Stripped by pkghook and signed in %install, with the hook to notice who touches them behind that."""
    return spec(wish.modules, first=wish.line, install=f"{wish.run}\n{wish.sign}")


def hard_links(wish: Wish) -> str:
    """Each module has a second name."""
    steps = [f"ln %{{buildroot}}/{EXTRA}/{name} %{{buildroot}}/{EXTRA}/second-{name}" for name in wish.modules]
    return spec(wish.modules, first=wish.line, install="\n".join(steps))


def compressed(wish: Wish) -> str:
    """Compressed in %install."""
    return spec(wish.modules, first=wish.line, install=f"{EACH} -exec {XZ} {{}} +")


def kmp(wish: Wish) -> str:
    """RHEL's %kernel_module_package: no line of ours; without the hook its slot is empty."""
    slots = "__brp_kmod_set_exec_bit", "__brp_kmod_pre_sign_process"
    macros = "" if wish.hook else "\n".join(f"%global {slot} %{{nil}}" for slot in slots)
    return spec(wish.modules, first="", macros=macros, tags=f"%global __brp_kmod_sign {wish.sign}\n%kmp\n")


# Against a model of macros.kmp in kernel-srpm-macros: debug stays a macro, arch and os are expanded where it stands.
KMP = """\
%kmp() %{expand:
%%global __spec_install_post \\\\
    %%{?__brp_kmod_set_exec_bit} \\\\
    %%%%{?__debug_package:%%%%{__debug_install_post}} \\\\
    %%{__arch_install_post} \\\\
    %%{__os_install_post} \\\\
    %%{?__brp_kmod_pre_sign_process} \\\\
    %%{?__brp_kmod_sign} \\\\
%%{nil}
}
"""


def suse(wish: Wish) -> str:
    """SUSE: no line of ours."""
    return spec(wish.modules, first="")


# Against a model of rpm-config-SUSE: brp-suse runs what lies in brp-suse.d, by name; 99 sees what will be signed.
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
    if style.vendor == KMP:
        path = bench.config / "redhat" / "brp-kmod-set-exec-bit"
        path.parent.mkdir()
        path.write_text("#!/bin/sh\nfind \"$RPM_BUILD_ROOT\" -name '*.ko' -exec chmod u+x {} +\n")
        path.chmod(0o755)
