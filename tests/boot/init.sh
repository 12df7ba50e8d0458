#!/bin/sh
# The guest's first process: does what /order says, one line a step, and tells /dev/kmsg, which is synchronous and lands
# between the kernel's own messages: nothing is lost in a panic, and each message belongs to one module.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
echo > /proc/sys/kernel/modprobe # no module may load another one behind our back
say() { echo "<0>@@$*" > /dev/kmsg; }
dump() {
    echo "@modules"
    cat /proc/modules
    echo "@btf"
    ls /sys/kernel/btf
    echo "@sections"
    for d in /sys/module/*/sections; do
        set -- "$d"/* "$d"/.[!.]*
        d=${d%/sections}
        echo "${d##*/} $#"
    done
    echo "@kallsyms"
    grep '\[' /proc/kallsyms
    echo "@end"
}
stty -F /dev/ttyS1 raw -echo
say BOOTED "$(uname -r)"
while read -r what name path flags; do
    case $what in
    load)
        say START "$name"
        finit "$path" "$flags"
        say DONE "$name" $?
        ;;
    kmod | busybox) # they decompress what the kernel cannot, each its own forms
        say START "$name"
        "/by/$what/insmod" "$path" > /dev/kmsg 2>&1
        say DONE "$name" $?
        ;;
    dump)
        say START -dump-
        dump 2>&1 | gzip -1 > /dev/ttyS1
        say DONE -dump- 0
        ;;
    esac
done < /order
say END
poweroff -f
