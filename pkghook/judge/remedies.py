"""Who to turn to about a module: the commands to report it to its owner's maintainers, and to install it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Remedy(NamedTuple):
    """What one owner's users can type; "" where there is no such command."""

    owner: str  # as `Looked.owner`; "" for nobody
    version: str = ""
    report: str = ""
    reinstall: str = ""
    subjects: tuple[str, ...] = ()  # paths that are no modules, or gone, and belong to the owner


def remedy(owner: str, version: str, kernels: Sequence[str], *, manager: str, root: str) -> Remedy:
    """The commands for an owner whose modules lie among those of `kernels`.

    `manager` is the tool that installs RPMs there (dnf, zypper, yum), `root` the place where the system is
    mounted ("" if it is the running one).
    """
    kind, _, name = owner.partition(":")
    report, reinstall = _commands(kind, name, version, kernels, manager)
    return Remedy(owner, version, report, _inside(root, reinstall))


def _commands(kind: str, name: str, version: str, kernels: Sequence[str], manager: str) -> tuple[str, str]:
    """Reporting, and installing again."""
    word = _quoted(name)
    match kind:
        case "dpkg":
            chosen = f"{word}={_quoted(version)}" if version else word
            return f"reportbug {word}", f"apt-get install --reinstall {chosen}"
        case "rpm":
            chosen = _quoted(f"{name}-{version}") if version else word
            again = {"zypper": f"zypper install --force {word}"}.get(manager, f"{manager} reinstall {chosen}")
            return f"rpm -q --queryformat '%{{BUGURL}} %{{VENDOR}}\\n' {word}", again
        case "akmods":
            source = name.removeprefix("kmod-")
            for kernel in kernels:
                source = source.partition(f"-{kernel.rpartition('.')[0]}")[0]
            each = " && ".join(f"akmods --force --akmod {_quoted(source)} --kernels {_quoted(k)}" for k in kernels)
            return f"rpm -q --queryformat '%{{BUGURL}} %{{VENDOR}}\\n' akmod-{_quoted(source)}", each
        case "dkms":
            steps = (f"dkms {verb} --force {word} -k {_quoted(k)}" for k in kernels for verb in ("build", "install"))
            return "", " && ".join(steps)
        case _:
            return "", ""


def _inside(root: str, command: str) -> str:
    """The command for a system that does not run but is mounted."""
    if not root or not command:
        return command
    return " && ".join(f"chroot {_quoted(root)} {step}" for step in command.split(" && "))


def _quoted(word: str) -> str:
    import shlex

    return shlex.quote(word)
