# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# A scenario of lab.sh: virtio devices beside a tracked disk.  The NIC's data goes
# through the host kernel's vhost and a tap to the host itself, the disk's through QEMU to
# a file.  None of it is DMA by a device of the host, so it asks coIOMMU for nothing and
# pins nothing.  Sourced by lab.sh, whose helpers it uses.
# shellcheck disable=SC2154  # variables of lab.sh

# The two ends of the tap.
TAP_HOST=10.9.0.1
TAP_GUEST=10.9.0.2

VIRTIO_FILE=/dev/shm/virtio
virtio=(-netdev "tap,id=lan0,ifname=tap0,script=no,downscript=no,vhost=on"
    -device "virtio-net-pci,netdev=lan0,romfile="
    -drive "file=$VIRTIO_FILE,if=none,id=file0,format=raw"
    -device "virtio-blk-pci,drive=file0")

# virtio_ready: what a VM with these devices wants of the host, until the scenario ends:
# the module, the file, and the peer of the guest's transfers.
virtio_ready() {
    modprobe vhost_net
    truncate -s 16M $VIRTIO_FILE
    nc -ll -p 5003 -e /job/net-peer.sh echo &
    TAP_PEER=$!
    trap 'vm_kill; kill $TAP_PEER || true; rm -f $VIRTIO_FILE' EXIT
}

# Both ends of the tap, which QEMU has made, and the guest's drivers.
virtio_up() {
    ip addr add $TAP_HOST/24 dev tap0
    ip link set tap0 up
    vm_run 120 "guest_virtio_up $TAP_GUEST/24"
}

# How long the kernel's vhost has run for this VM, in ns, in VALUE; 0 if it doesn't.
vhost_ns() {
    local comm ns
    VALUE=0
    # It is a thread of QEMU or one of the kernel, which differs between versions.
    for comm in $(grep -lx "vhost-$VM_PID" /proc/[0-9]*/task/[0-9]*/comm 2>/dev/null); do
        read -r ns _ <"${comm%comm}schedstat"
        VALUE=$((VALUE + ns))
    done
}

# Both devices move data, the NIC's through vhost.
virtio_work() {
    local before
    vhost_ns
    before=$VALUE
    vm_run 300 "guest_virtio $TAP_HOST 8"
    vhost_ns
    VALUE=$((VALUE - before))
    echo "vhost has run for $((VALUE / 1000)) us"
    [ "$VALUE" -gt 0 ] || fail "the data didn't go through vhost"
}

# What the guest has asked coIOMMU for, in ASKED.
asked() {
    counter requests
    ASKED=$VALUE
    counter demand-pin-requests
    ASKED+=" $VALUE"
}

# virtio alone is at work, and nobody asks for anything.
expect_virtio_unnoticed() {
    local before
    asked
    before=$ASKED
    virtio_work
    asked
    [ "$ASKED" = "$before" ] || fail "virtio's work has asked coIOMMU for something"
}

# expect_view DEVICE MACHINE: does the device see the machine's memory itself ("yes"), or
# does coIOMMU stand before it ("no")?
expect_view() {
    vm_qmp human-monitor-command '{"command-line":"info mtree -f"}' || fail "$VM_ERROR"
    # JSON's quotes have backslashes.
    printf '%b' "$VM_RETURN" | awk -v RS='FlatView #' -v name=" AS .\"$1.\"," -v machine="$2" '
        $0 ~ name {
            seen = 1
            if (/ AS .\"memory.\",/ != (machine == "yes") || /coiommu-iommu/ != (machine == "no"))
                wrong = 1
        }
        END { exit !seen || wrong }' || fail "$1 has another view of memory"
}

# virtio devices, one of them with vhost, beside assigned ones: coIOMMU lets them be.
vhost() {
    local MEM=384M
    virtio_ready
    tracked_guest vhost "${coiommu[@]}" -device "$vfio,host=$disk,id=disk0" "${virtio[@]}"
    virtio_up
    # Before the disk has a driver nothing at all is pinned.
    expect_virtio_unnoticed
    expect_unpinned
    # Beside the disk at work.
    vm_run 120 guest_nvme_up
    vm_run 120 disk_work
    virtio_work
    vm_run 300 disk_work_end
    expect_devices 1 0
    # Beside the disk that has nothing to do.
    expect_virtio_unnoticed
    expect_few_pinned
    expect_view virtio-net-pci yes
    expect_view virtio-blk-pci yes
    expect_view vfio-pci no
    finish_guest
}
