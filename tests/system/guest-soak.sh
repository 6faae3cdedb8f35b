# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
#
# The guest's part of the soak (lab-soak.sh): functions for busybox ash that are
# sourced after guest-tests.sh, whose helpers they use.
#
# A KIND is what a device is for: "disk", "net", or "edu".  Load on a disk or a NIC runs
# in the background until load_stop, in rounds of fresh data that are compared byte by
# byte; /tmp/load/KIND has the number of the rounds that were right, and /tmp/load/failed,
# if it is there, says what was not.

# Of the disk, in MiB: where the load writes, and what is kept from boot to boot.
LOAD_MIB=512
KEPT_MIB=600

# The PCI functions of this kind.
kind_bdfs() {
    case $1 in
    disk) pci_of_class 0x0108 ;;
    net) pci_of_class 0x02 ;;
    edu) pci_of_class 0x00ff ;;
    esac
}

# soak_up KIND...: bind the devices' drivers and have them ready for work.
soak_up() {
    local kind
    for kind; do
        case $kind in
        disk) guest_nvme_up || return ;;
        net) guest_nic_up || return ;;
        esac
    done
}

# soak_unbind KIND...: take the devices from their drivers, which stops them.
soak_unbind() {
    local kind bdf
    for kind; do
        for bdf in $(kind_bdfs "$kind"); do
            [ ! -e "/sys/bus/pci/devices/$bdf/driver" ] ||
                echo "$bdf" >"/sys/bus/pci/devices/$bdf/driver/unbind" || return
        done
    done
}

# soak_reset KIND: reset the function, whether or not it has a driver.
soak_reset() {
    local bdf
    for bdf in $(kind_bdfs "$1"); do
        echo 1 >"/sys/bus/pci/devices/$bdf/reset" || return
    done
}

# bus_master KIND on|off: the device's bus-master bit, memory space being on.
bus_master() {
    local bdf byte='\002'
    [ "$2" = off ] || byte='\006'
    for bdf in $(kind_bdfs "$1"); do
        printf "$byte" | dd of="/sys/bus/pci/devices/$bdf/config" bs=1 seek=4 \
            conv=notrunc 2>/dev/null || return
    done
}

# ---- rounds of load -----------------------------------------------------------

# random_file FILE BLOCKS: so many 64 KiB.  A read of urandom ends early when the machine
# goes to sleep.
random_file() {
    dd if=/dev/urandom of="$1" bs=64k count="$2" iflag=fullblock
}

# The sizes and places of the pieces change with the round's number $1: by and past the
# page cache, so that pages from all over memory are used as well.
disk_round() {
    local k=$((8 << $1 % 5)) at=$((LOAD_MIB + $1 % 16))
    random_file /tmp/load/wrote 6 || return
    if [ $(($1 % 2)) = 0 ]; then
        dd if=/tmp/load/wrote of=/dev/nvme0n1 bs=${k}k seek=$((at * 1024 / k)) oflag=direct &&
            dd if=/dev/nvme0n1 of=/tmp/load/read bs=64k skip=$((at * 16)) count=6 || return
    else
        dd if=/tmp/load/wrote of=/dev/nvme0n1 bs=64k seek=$((at * 16)) conv=fsync &&
            dd if=/dev/nvme0n1 of=/tmp/load/read bs=${k}k skip=$((at * 1024 / k)) \
                count=$((384 / k)) iflag=direct || return
    fi
    cmp /tmp/load/wrote /tmp/load/read && echo 1 >/proc/sys/vm/drop_caches
}

# There and back by TCP: net-peer.sh, echo.  The other end may still know a connection of
# an earlier boot, and then resets a new one that looks like it, and once it went silent:
# what is cut short is sent once more.
net_round() {
    local tries=0
    ping -c 2 -i 0.05 -W 30 -s 1400 "$(gateway)" || return
    random_file /tmp/load/sent 2 || return
    while [ $tries -lt 4 ]; do
        timeout 20 nc "$PEER" 5003 </tmp/load/sent >/tmp/load/received
        [ "$(stat -c %s /tmp/load/received)" -lt 131072 ] || break
        tries=$((tries + 1))
        sleep 1
    done
    cmp /tmp/load/sent /tmp/load/received
}

load_loop() {
    local n=0
    until [ -e "/tmp/load/stop-$1" ]; do
        "${1}_round" $n >"/tmp/load/$1.log" 2>&1 ||
            { (echo "$1, round $n:" && cat "/tmp/load/$1.log") >/tmp/load/failed; return; }
        n=$((n + 1))
        echo $n >"/tmp/load/new-$1" && mv "/tmp/load/new-$1" "/tmp/load/$1"
        sleep 0.2
    done
}

# load_start PEER KIND...: load on these until load_stop.
load_start() {
    local kind
    PEER=$1
    shift
    mkdir -p /tmp/load
    # From now on it isn't logged that the cache is dropped.
    echo 4 >/proc/sys/vm/drop_caches
    for kind; do
        rm -f "/tmp/load/stop-$kind"
        echo 0 >"/tmp/load/$kind"
        load_loop "$kind" &
        echo $! >"/tmp/load/pid-$kind"
    done
}

load_ok() {
    [ ! -e /tmp/load/failed ] || { cat /tmp/load/failed; return 1; }
}

# load_stop KIND...: stop at the end of the round.
load_stop() {
    local kind
    for kind; do
        touch "/tmp/load/stop-$kind"
    done
    for kind; do
        wait "$(cat "/tmp/load/pid-$kind")"
    done
    load_ok
}

# Have the loads on KIND... done so many rounds, or failed?
load_reached() {
    local kind
    [ ! -e /tmp/load/failed ] || return 0
    for kind; do
        [ "$(cat "/tmp/load/$kind")" -ge "$(cat "/tmp/load/goal-$kind")" ] || return 1
    done
}

# load_works KIND...: a round on each begins now or later, and is right.
load_works() {
    local kind
    for kind; do
        echo $(($(cat "/tmp/load/$kind") + 2)) >"/tmp/load/goal-$kind"
    done
    wait_for 100 load_reached "$@" && load_ok
}

# ---- what stays on the disk ------------------------------------------------------

kept_sum() {
    dd if=/dev/nvme0n1 bs=64k skip=$((KEPT_MIB * 16)) count=8 iflag=direct | sha256sum
}

# Fresh data that must still be there at the next boot, "@rig kept CHECKSUM".
kept_write() {
    random_file /tmp/load/kept 8 &&
        dd if=/tmp/load/kept of=/dev/nvme0n1 bs=64k seek=$((KEPT_MIB * 16)) oflag=direct &&
        echo "@rig kept $(sha256sum </tmp/load/kept | cut -c1-64)"
}

kept_holds() {
    local sum
    sum=$(kept_sum)
    [ "${sum%% *}" = "$1" ] || { echo "kept $1, there is $sum"; return 1; }
}

# soak_quiet MODULE: neither the kernel nor the driver, if it is "loaded", complains.
soak_quiet() {
    [ "$1" != loaded ] || guest_counters_ok || return
    guest_dmesg_ok
}

# ---- memory and sleep --------------------------------------------------------------

mem_total() {
    sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo
}

# mem_online ZONE: memory that is plugged in from now on is used by itself, for
# "movable" pages only or for the kernel's too.
mem_online() {
    MEM_BEFORE=$(mem_total)
    echo "online_$1" >/sys/devices/system/memory/auto_online_blocks
}

# Wait for what has been plugged in since mem_online.
mem_grown() {
    wait_for 30 eval '[ "$(mem_total)" -gt $((MEM_BEFORE + 100000)) ]'
}

# Sleep, up to the point LEVEL of /sys/power/pm_test, and wake up again.
sleep_test() {
    echo "$1" >/sys/power/pm_test && echo mem >/sys/power/state
}
