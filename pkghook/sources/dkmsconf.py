"""DKMS's configuration below a root: read as DKMS 3 reads it, its slot taken and given back.

`etc/dkms/framework.conf` and then `etc/dkms/framework.conf.d/*.conf` are shell files of assignments, the last
one holds; `etc/dkms/MODULE.conf` goes over a module's own dkms.conf.  They are never run here, since they may
be another system's: what is not a plain assignment is not understood, and said to be so.
Source: read_framework_conf(), read_conf(), prepare_signing() in dkms 3.0.10 and 3.2.2.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from pkghook import atomic
from pkghook.errors import InputError
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

HOME = "etc/dkms"
MAIN, MORE = f"{HOME}/framework.conf", f"{HOME}/framework.conf.d"
OURS = f"{MORE}/pkghook.conf"
SLOT = f"{HOME}/pkghook-sign-file"
BEGIN, END = "# begin: written by pkghook dkms --enable", "# end: removed by pkghook dkms --disable"
_BLOCK = re.compile(rf"^{re.escape(BEGIN)}\n.*?^{re.escape(END)}\n", re.DOTALL | re.MULTILINE)
_STRIP_OF = re.compile(r"^[ \t]*STRIP\[(\d{1,3})\]", re.MULTILINE)
_KERNEL = re.compile(r"\$\{kernelver%\.\*\}|\$\{kernelver\}|\$kernelver\b")


class Setting(NamedTuple):
    """A variable of the framework's configuration."""

    value: str
    file: str  # relative to the root


class Signing(NamedTuple):
    """What DKMS signs with; absolute paths as the system below the root sees them."""

    tool: str  # "" where there is none
    key: str
    certificate: str


def below(root: str, path: str) -> str:
    """The path of something that the system below `root` calls `path`. InputError if a link leads out of the root."""
    top = os.path.realpath(root)
    there = os.path.realpath(os.path.join(top, path.lstrip("/")))
    if not f"{there}/".startswith(f"{top}/".replace("//", "/")):
        raise InputError(f"{path} leads out of {root}", hint="links below --root have to be relative")
    return there


def check(root: str) -> None:
    """InputError where there is no DKMS below `root`."""
    if not os.path.isdir(below(root, HOME)):
        raise InputError(f"no DKMS below {root}: there is no /{HOME}", hint="is the package dkms installed?")


def framework(root: str, kernel: str = "", *, without_ours: bool = False) -> dict[str, Setting]:
    """The variables that are set; $kernelver is `kernel`. InputError for a value that only a shell understands."""
    found: dict[str, Setting] = {}
    for file in _files(root):
        if not (without_ours and file == OURS):
            for name, raw in _assignments(_text(below(root, file))):
                found[name] = Setting(_expanded(file, name, raw, kernel), file)
    return found


def _files(root: str) -> list[str]:
    try:
        names = sorted(name for name in os.listdir(below(root, MORE)) if name.endswith(".conf"))
    except OSError:
        names = []
    return [MAIN, *(f"{MORE}/{name}" for name in names)]


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    import shlex

    for line in text.splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # a quotation over several lines: none of those that matter here
            continue
        for word in words:
            name, equals, value = word.partition("=")
            if equals and name.isidentifier():
                yield name, value


def _expanded(file: str, name: str, value: str, kernel: str) -> str:
    short = kernel.rpartition(".")[0]
    plain = _KERNEL.sub(lambda match: short if "%" in match[0] else kernel, value)
    if name in {"sign_file", "mok_signing_key", "mok_certificate", "dkms_tree", "install_tree"} and (
        "$" in plain or "`" in plain
    ):
        raise InputError(f"/{file}: {name}={value}: only a shell understands this", hint="write the path itself")
    return plain


# --- signing ---------------------------------------------------------------------------------------------------------


def signing(root: str, kernel: str) -> Signing:
    """What DKMS signs modules of this kernel with, when the slot is not ours."""
    given = framework(root, kernel, without_ours=True)
    ubuntu = "ubuntu" in _distribution(root)
    key, certificate = (
        ("/var/lib/shim-signed/mok/MOK.priv", "/var/lib/shim-signed/mok/MOK.der")
        if ubuntu
        else ("/var/lib/dkms/mok.key", "/var/lib/dkms/mok.pub")
    )
    tool = given["sign_file"].value if "sign_file" in given else _tool(root, kernel, given, ubuntu=ubuntu)
    return Signing(
        tool if _is_program(below(root, tool)) else "",
        given["mok_signing_key"].value if "mok_signing_key" in given else key,
        given["mok_certificate"].value if "mok_certificate" in given else certificate,
    )


def _tool(root: str, kernel: str, given: dict[str, Setting], *, ubuntu: bool) -> str:
    """The first of the places where DKMS looks, and the last one where it is in none."""
    modules = given["install_tree"].value if "install_tree" in given else "/lib/modules"
    places = [
        *(
            ["/usr/bin/kmodsign"]
            if ubuntu
            else [f"/usr/lib/linux-kbuild-{kernel.rpartition('.')[0]}/scripts/sign-file"]
        ),
        f"/usr/src/linux-headers-{kernel}/scripts/sign-file",
        f"/usr/src/linux-{kernel}/scripts/sign-file",
        f"{modules}/{kernel}/build/scripts/sign-file",
    ]
    return next((place for place in places if _is_program(_maybe_below(root, place))), places[-1])


def _maybe_below(root: str, path: str) -> str:
    try:
        return below(root, path)
    except InputError:  # lib/modules/KERNEL/build is an absolute link
        return ""


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _distribution(root: str) -> str:
    """ID and ID_LIKE of the system, as DKMS asks for them."""
    words = dict(_assignments(_text(below(root, "etc/os-release"))))
    return f"{words.get('ID', '')} {words.get('ID_LIKE', '')}" if "ID" in words else ""


def has_key(root: str, found: Signing) -> bool:
    """Whether key and certificate are there; of a key in a PKCS#11 token nobody can tell."""
    files = [name for name in (found.key, found.certificate) if not name.startswith("pkcs11:")]
    return all(os.path.isfile(below(root, name)) for name in files)


def will_sign(root: str, found: Signing) -> bool:
    """Whether DKMS will call the slot: it has a key, or can make one (it uses openssl for that)."""
    return has_key(root, found) or any(_is_program(below(root, f"{place}/openssl")) for place in ("usr/bin", "bin"))


# --- the slot --------------------------------------------------------------------------------------------------------


def holder(root: str) -> Setting | None:
    """Who has the slot: the setting that holds, None where nobody set it."""
    return framework(root).get("sign_file")


def take(root: str, command: str) -> None:
    """Take the slot: DKMS runs `command` (shell words), followed by HASH KEY CERTIFICATE MODULE. InputError."""
    os.makedirs(below(root, MORE), exist_ok=True)
    atomic.write(below(root, SLOT), _WRAPPER.format(command=command).encode(), fsync=True)
    os.chmod(below(root, SLOT), 0o755)  # noqa: S103  a program
    atomic.write(below(root, OURS), _CONF.format(slot=f"/{SLOT}").encode(), fsync=True)


def give_back(root: str) -> bool:
    """Leave the slot to DKMS, the other way round; whether it was ours."""
    there = False
    for path in (OURS, SLOT):
        try:
            os.unlink(below(root, path))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InputError(f"/{path}: {error.strerror}") from error
        there = True
    return there


_CONF = """\
# Written by `pkghook dkms --enable`, removed by `pkghook dkms --disable`.
# Strips each module that DKMS has built, proves it, and signs it by the program that DKMS would have taken.
sign_file="{slot}"
"""
_WRAPPER = """\
#!/bin/sh
# Written by `pkghook dkms --enable`, removed by `pkghook dkms --disable`.
# DKMS calls it with HASH KEY CERTIFICATE MODULE.
if {command} --version >/dev/null 2>&1; then
    cd / # there may be a pkghook.toml where DKMS builds, of whoever wrote the module
    set -- -- "$@"
    [ ! -e /etc/pkghook.toml ] || set -- --config /etc/pkghook.toml "$@"
    exec {command} dkms --sign "$@"
fi
echo "pkghook is gone: $4 is signed, but not stripped" >&2
version=$(modinfo -F vermagic "$4") && version=${{version%% *}}
for tool in "/usr/lib/linux-kbuild-${{version%.*}}/scripts/sign-file" /usr/bin/kmodsign \\
    "/usr/src/linux-headers-$version/scripts/sign-file" "/usr/src/linux-$version/scripts/sign-file" \\
    "/lib/modules/$version/build/scripts/sign-file"; do
    if [ -f "$tool" ] && [ -x "$tool" ]; then
        exec "$tool" "$@"
    fi
done
echo "no sign-file for kernel $version" >&2
exit 1
"""


# --- modules ---------------------------------------------------------------------------------------------------------


def tree(root: str) -> str:
    """Where DKMS keeps its modules, relative to the root."""
    given = framework(root)
    return given["dkms_tree"].value.strip("/") if "dkms_tree" in given else "var/lib/dkms"


def names(root: str) -> dict[str, tuple[str, ...]]:
    """The modules that DKMS knows, each with its versions."""
    home = tree(root)
    found = {}
    for name in _list(root, home):
        place = below(root, f"{home}/{name}")
        versions = tuple(v for v in _list(root, f"{home}/{name}") if os.path.lexists(f"{place}/{v}/source"))
        if versions:
            found[name] = versions
    return found


def _list(root: str, path: str) -> list[str]:
    try:
        return sorted(os.listdir(below(root, path)))
    except OSError:
        return []


def ours(root: str, name: str) -> bool:
    """Whether DKMS leaves the stripping of a module's files to us."""
    return bool(_BLOCK.search(_text(below(root, f"{HOME}/{name}.conf"))))


def claim(root: str, name: str, versions: tuple[str, ...]) -> None:
    """Tell DKMS not to strip a module's files; what an administrator wrote into its .conf stays."""
    numbers = {0}
    for version in versions:
        source = _text(_source(root, name, version))
        numbers.update(int(match[1]) for match in _STRIP_OF.finditer(source))
    path = below(root, f"{HOME}/{name}.conf")
    old = _BLOCK.sub("", _text(path))
    numbers.update(int(match[1]) for match in _STRIP_OF.finditer(old))
    lines = "".join(f'STRIP[{number}]="no"\n' for number in sorted(numbers))
    gap = "" if not old or old.endswith("\n") else "\n"
    atomic.write(path, f"{old}{gap}{BEGIN}\n{lines}{END}\n".encode("utf-8", "surrogateescape"), fsync=True)


def _source(root: str, name: str, version: str) -> str:
    """A module's dkms.conf; `source` is an absolute link to usr/src."""
    link = f"{below(root, f'{tree(root)}/{name}/{version}')}/source"
    try:
        return below(root, f"{os.readlink(link)}/dkms.conf")
    except OSError:
        return f"{link}/dkms.conf"


def release(root: str) -> list[str]:
    """Give the stripping of all modules' files back to DKMS; their names."""
    released = []
    for file in _list(root, HOME):
        path = below(root, f"{HOME}/{file}")
        if not file.endswith(".conf") or not os.path.isfile(path):
            continue
        text = _text(path)
        rest = _BLOCK.sub("", text)
        if rest == text:
            continue
        released.append(file.removesuffix(".conf"))
        if rest.strip():
            atomic.write(path, rest.encode("utf-8", "surrogateescape"), fsync=True)
        else:
            os.unlink(path)
    return released


# --- what was built --------------------------------------------------------------------------------------------------


class Built(NamedTuple):
    """One module file that DKMS has built and installed."""

    name: str
    version: str
    kernel: str
    path: str  # of DKMS's own copy, relative to the root


def installed(root: str) -> list[Built]:
    """What the links MODULE/kernel-KERNEL-ARCH to VERSION/KERNEL/ARCH below DKMS's tree lead to."""
    home = tree(root)
    return [
        Built(name, version, kernel, f"{home}/{name}/{version}/{kernel}/{arch}/module/{file}")
        for name in names(root)
        for version, kernel, arch in _active(root, f"{home}/{name}")
        for file in _list(root, f"{home}/{name}/{version}/{kernel}/{arch}/module")
        if ".ko" in file
    ]


def _active(root: str, place: str) -> Iterator[tuple[str, str, str]]:
    for link in _list(root, place):
        if link.startswith("kernel-"):
            try:
                parts = os.readlink(f"{below(root, place)}/{link}").split("/")
            except OSError:
                continue
            if len(parts) == 3:
                yield parts[0], parts[1], parts[2]
