"""Sources of a module for DKMS, which asks for no stripping or leaves it to DKMS."""

from __future__ import annotations

from tests.setup.chroots import Chroot

CONF = """\
PACKAGE_NAME="{name}"
PACKAGE_VERSION="1.0"
BUILT_MODULE_NAME[0]="{name}"
DEST_MODULE_LOCATION[0]="/updates"
AUTOINSTALL="yes"
{strip}
"""
SOURCE = """\
#include <linux/module.h>
static int number = 42;
module_param(number, int, 0);
int {name}_answer(void);
int {name}_answer(void) {{ return number; }}
EXPORT_SYMBOL_GPL({name}_answer);
static int __init {name}_init(void) {{ pr_info("%d\\n", {name}_answer()); return 0; }}
static void __exit {name}_exit(void) {{ }}
module_init({name}_init);
module_exit({name}_exit);
MODULE_DESCRIPTION("a module for DKMS");
MODULE_LICENSE("GPL");
"""


def add(chroot: Chroot, name: str, *, strip: bool) -> None:
    """Make DKMS know a module; without `strip` its dkms.conf says STRIP[0]=no."""
    source = f"usr/src/{name}-1.0"
    chroot.put(f"{source}/{name}.c", SOURCE.format(name=name))
    chroot.put(f"{source}/Makefile", f"obj-m := {name}.o\nccflags-y := -g\n")
    chroot.put(f"{source}/dkms.conf", CONF.format(name=name, strip="" if strip else 'STRIP[0]="no"'))
    chroot.must("dkms", "add", "-m", name, "-v", "1.0")
