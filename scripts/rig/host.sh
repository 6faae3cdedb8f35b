#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What is asked of a host with VFIO, real or L1 of the rig: is a device ready
# for assignment, what kind is it, and did the IOMMU complain.  To be sourced
# by bash.

# host_bdf NAME: the full form (0000:01:00.0) of a PCI address.
host_bdf() {
    case $1 in
    ????:??:??.?) echo "$1" ;;
    *) echo "0000:$1" ;;
    esac
}

# May this process lock as much memory as it likes?
_host_may_lock() {
    local caps bytes=$1 limit
    caps=$(sed -n 's/^CapEff:\t//p' /proc/self/status)
    # CAP_IPC_LOCK is bit 14.
    [ $((0x$caps >> 14 & 1)) -eq 0 ] || return 0
    limit=$(ulimit -l)
    [ "$limit" = unlimited ] || [ $((limit * 1024)) -ge "$bytes" ]
}

# Functions of the device's group that some other driver than VFIO's has.
# Bridges may stay with theirs.
_host_group_rest() {
    local d class driver
    for d in "/sys/bus/pci/devices/$1/iommu_group/devices"/*; do
        read -r class <"$d/class"
        driver=$(readlink "$d/driver" || true)
        case $class:${driver##*/} in
        0x06*: | 0x06*:pcieport | *:vfio-pci | *:pci-stub) ;;
        *:?*) echo "${d##*/} (${driver##*/})" ;;
        esac
    done
}

# What is missing to assign the function at DEV of the group GROUP, by iommufd if the
# third word says so, else by VFIO's own containers; one sentence on stdout, or
# nothing.
_host_vfio_lacks() {
    local dev=$1 group=$2
    if [ "${3:-}" != iommufd ]; then
        [ -e "/dev/vfio/$group" ] ||
            echo "/dev/vfio/$group is missing: is the module vfio_iommu_type1 loaded?"
    elif [ ! -c /dev/iommu ]; then
        echo "/dev/iommu is missing: load the module iommufd, or, if this kernel has" \
            "none (Debian's have none), leave out --iommufd."
    elif ! compgen -G "$dev/vfio-dev/*/dev" >/dev/null; then
        echo "${dev##*/} isn't in /dev/vfio/devices: --iommufd needs a kernel with" \
            "CONFIG_VFIO_DEVICE_CDEV."
    fi
}

# host_check BDF BYTES [iommufd]: is the device ready to be assigned to a VM of this
# much memory, by iommufd or by VFIO's own containers?  If not, one sentence on stdout
# that says what to do, and status 1.
host_check() {
    local bdf dev driver group rest lacks
    bdf=$(host_bdf "$1")
    dev=/sys/bus/pci/devices/$bdf
    if [ ! -e "$dev" ]; then
        echo "there is no PCI device $1 on this host; lspci -D lists them."
    elif [ ! -e /dev/kvm ]; then
        echo "/dev/kvm is missing: switch virtualization on in the firmware" \
            "and load kvm_intel or kvm_amd."
    elif [ ! -e "$dev/iommu_group" ]; then
        echo "the IOMMU is off, $bdf is in no IOMMU group: switch it on in the" \
            "firmware and boot with intel_iommu=on (AMD's is on by default)."
    elif driver=$(readlink "$dev/driver" || true) && [ "${driver##*/}" != vfio-pci ]; then
        driver=${driver##*/}
        echo "$bdf is bound to ${driver:-no driver}, not to vfio-pci: do" \
            "modprobe vfio-pci; echo vfio-pci >$dev/driver_override;" \
            "${driver:+echo $bdf >$dev/driver/unbind; }echo $bdf >/sys/bus/pci/drivers_probe"
    elif group=$(readlink "$dev/iommu_group") &&
        lacks=$(_host_vfio_lacks "$dev" "${group##*/}" "${3:-}") && [ -n "$lacks" ]; then
        echo "$lacks"
    elif rest=$(_host_group_rest "$bdf") && [ -n "$rest" ]; then
        echo "other devices of IOMMU group ${group##*/} aren't bound to vfio-pci:" \
            "${rest//$'\n'/, }; bind them too, or move the card to another slot."
    elif ! _host_may_lock "$2"; then
        echo "this user may lock only $(ulimit -l) KiB of memory and static" \
            "pinning needs $(($2 / 1024)): raise memlock (ulimit -l) or run as root."
    else
        return 0
    fi
    return 1
}

# host_ready "BDF..." BYTES BACKEND: host_check each of them, and is this root?  A
# sentence on stderr for each thing that is missing; status 1 if there is any.
host_ready() {
    local bdf why rc=0
    for bdf in $1; do
        why=$(host_check "$bdf" "$2" "$3") || { echo "${0##*/}: $why" >&2; rc=1; }
    done
    [ $rc -eq 0 ] || return 1
    [ "$(id -u)" -eq 0 ] || {
        echo "${0##*/}: --host-device needs root: IOMMU faults are counted in the" \
            "kernel's log." >&2
        return 1
    }
}

# host_kind BDF: nvme, net or other.
host_kind() {
    local class
    read -r class <"/sys/bus/pci/devices/$(host_bdf "$1")/class"
    case $class in
    0x0108*) echo nvme ;;
    0x02*) echo net ;;
    *) echo other ;;
    esac
}

# host_bind BDF: give a device to vfio-pci.
host_bind() {
    local dev=/sys/bus/pci/devices/$1
    echo vfio-pci >"$dev/driver_override"
    [ ! -e "$dev/driver" ] || echo "$1" >"$dev/driver/unbind"
    echo "$1" >/sys/bus/pci/drivers_probe
    [ "$(basename "$(readlink "$dev/driver")")" = vfio-pci ]
}

# host_find VENDOR:DEVICE: the BDF of the first such function.
host_find() {
    local d
    for d in /sys/bus/pci/devices/*; do
        [ "$(cat "$d/vendor" "$d/device" | tr -d '\n')" != "0x${1%:*}0x${1#*:}" ] ||
            { echo "${d##*/}"; return; }
    done
    return 1
}

# host_mark TEXT: put a line in the kernel's log, to count faults from.
host_mark() {
    echo "coiommu-demo: $1" >/dev/kmsg
}

# host_faults TEXT: how many lines of an IOMMU's complaints the kernel's log has
# since host_mark TEXT; status 1 if the mark has been overwritten.
host_faults() {
    dmesg | awk -v mark="coiommu-demo: $1" '
        index($0, mark) { seen = 1; n = 0 }
        /DMAR:.*(fault|DMA (Read|Write))|AMD-Vi: (Event logged|.*IO_PAGE_FAULT)|arm-smmu.*event/ { n++ }
        END { print n + 0; exit !seen }'
}

# host_log TEXT: the kernel's messages since host_mark TEXT.
host_log() {
    dmesg | awk -v mark="coiommu-demo: $1" 'index($0, mark) { n = NR } { line[NR] = $0 }
        END { for (i = n; i <= NR; i++) print line[i] }'
}
