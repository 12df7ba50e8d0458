"""`judge.remedies`: commands that can be typed."""

from __future__ import annotations

import shlex

import pytest

from pkghook.judge.remedies import remedy

BUGS = "rpm -q --queryformat '%{BUGURL} %{VENDOR}\\n'"


@pytest.mark.parametrize(
    ("owner", "version", "manager", "report", "reinstall"),
    [
        ("dpkg:a:i386", "2:1-1", "dnf", "reportbug a:i386", "apt-get install --reinstall a:i386=2:1-1"),
        ("rpm:kernel-core", "6.1-2.x86_64", "dnf", f"{BUGS} kernel-core", "dnf reinstall kernel-core-6.1-2.x86_64"),
        ("rpm:kernel", "6.1-2.x86_64", "zypper", f"{BUGS} kernel", "zypper install --force kernel"),
        (
            "akmods:kmod-nvidia-6.1.0-1.fc40.x86_64",
            "1-1.x86_64",
            "dnf",
            f"{BUGS} akmod-nvidia",
            "akmods --force --akmod nvidia --kernels 6.1.0-1.fc40.x86_64",
        ),
        (
            "dkms:zfs/2.1",
            "",
            "dnf",
            "",
            "dkms build --force zfs/2.1 -k 6.1.0-1.fc40.x86_64 && dkms install --force zfs/2.1 -k 6.1.0-1.fc40.x86_64",
        ),
        ("", "", "dnf", "", ""),
    ],
)
def test_commands(owner: str, version: str, manager: str, report: str, reinstall: str) -> None:
    found = remedy(owner, version, ["6.1.0-1.fc40.x86_64"], manager=manager, root="")
    assert (found.report, found.reinstall) == (report, reinstall)


def test_on_a_mounted_system() -> None:
    found = remedy("dkms:zfs/2.1", "", ["6.1"], manager="dnf", root="/mnt/a b")
    steps = [shlex.split(step) for step in found.reinstall.split(" && ")]
    assert [step[:3] for step in steps] == [["chroot", "/mnt/a b", "dkms"]] * 2


def test_names_are_chosen_by_others() -> None:
    """They are quoted, so that what is pasted into a shell is one word."""
    found = remedy("dkms:x;rm -rf ~/1", "", ["6.1 $(x)"], manager="dnf", root="")
    assert shlex.split(found.reinstall.split(" && ")[0])[3:] == ["x;rm -rf ~/1", "-k", "6.1 $(x)"]
