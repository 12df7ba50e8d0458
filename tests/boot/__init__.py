"""Loads every module of a tree in a real kernel: `python -m tests.boot`.

QEMU with software emulation boots a Debian kernel with a small initramfs, which loads each module once and goes on
after a failure.  No KVM, no network, no disk, no root.  What the loader refuses is told from what a driver refuses for
want of hardware: the kernel runs with `initcall_debug`, which prints `calling X [module]` when the module's init
function starts, so an error before that line is the loader's (kernel/module/main.c, init/main.c).
"""
