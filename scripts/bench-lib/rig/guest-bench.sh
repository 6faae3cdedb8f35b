# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
#
# What benchmarks ask of the guest, on top of guest-tests.sh: functions for busybox
# ash.

# The driver of virtio-iommu, if there is one; the others come with the kernel, or
# have been loaded.
bench_iommu() {
    local d id
    for d in /sys/bus/pci/devices/*; do
        read -r id <"$d/device"
        [ "$id" != 0x1057 ] || [ "$(cat "$d/vendor")" != 0x1af4 ] ||
            { modprobe virtio_pci && modprobe virtio_iommu || return; }
    done
    return 0
}

# How the DMA of the first device of a class is mapped.
bench_domain() {
    local file
    file=/sys/bus/pci/devices/$(pci_of_class "$1" | head -n 1)/iommu_group/type
    [ ! -e "$file" ] || echo "@rig domain $(cat "$file")"
}

# The disk, assigned or emulated; its node in DISK.
bench_disk() {
    DISK=/dev/nvme0n1
    if [ -n "$(pci_of_class 0x0108)" ]; then
        guest_nvme_up && bench_domain 0x0108
    else
        DISK=/dev/vda
        modprobe virtio_pci && modprobe virtio_blk && wait_for 20 test -b $DISK
    fi
}

# The NIC, assigned or emulated, with its address by DHCP.  (The driver of virtio-net is
# not found by the PCI function.)
bench_net() {
    modprobe virtio_net && guest_nic_up && bench_domain 0x02
}

# ---- disk -----------------------------------------------------------------------

# The I/O of a load of a benchmark, as fio's options.
bench_io() {
    case $1 in
    rand-qd1) echo --rw=randread --bs=4k --iodepth=1 --io_size=$((4 * $2))m ;;
    rand-qd32) echo --rw=randread --bs=4k --iodepth=32 --io_size=$((8 * $2))m ;;
    seq) echo --rw=read --bs=128k --iodepth=4 --io_size=$((48 * $2))m ;;
    mixed) echo --rw=randrw --bs=4k --iodepth=8 --io_size=$((4 * $2))m \
        --verify=crc32c --verify_fatal=1 ;;
    esac
}

bench_fio() {
    fio --filename=$DISK --ioengine=libaio --direct=1 --size=240m --minimal "$@"
}

# bench_block LOAD AMOUNT: so much of a load; how many I/Os it took, and how many a
# second, as fio says.
bench_block() {
    # shellcheck disable=SC2046  # words
    bench_fio --name="$1" $(bench_io "$1" "$2") --output=/tmp/fio >/tmp/fio.said 2>&1 ||
        { cat /tmp/fio.said /tmp/fio; return 1; }
    # Fields of the terse format: KiB and I/Os a second of reads, then of writes.
    awk -F ';' -v kib="$(bench_io "$1" 1 | sed 's/.*--bs=\([0-9]*\)k.*/\1/')" '
        { printf "@rig fio ios=%d rate=%.1f\n", ($6 + $47) / kib, $8 + $49; n++ }
        END { exit !n }' /tmp/fio
}

# The background loads that bench_quiet expects to find.
BENCH_LOADS=''

# Load without end, in the background: small reads at random, into few buffers.
bench_hot() {
    bench_fio --name=hot --rw=randread --bs=4k --iodepth=4 --time_based --runtime=9999 \
        >/tmp/hot 2>&1 &
    BENCH_LOADS="$BENCH_LOADS $!"
}

# The same, into 8 MiB of buffers, which idle for so many seconds in between.
bench_bursts() {
    bench_fio --name=bursts --rw=randread --bs=128k --iodepth=64 --time_based \
        --runtime=9999 --thinktime="$1s" --thinktime_blocks=128 >/tmp/bursts 2>&1 &
    BENCH_LOADS="$BENCH_LOADS $!"
}

# The same, through the page cache: each time into other pages of memory.
bench_cached() {
    fio --name=cached --filename=$DISK --direct=0 --invalidate=0 --rw=randread --bs=64k \
        --size=900m --norandommap --time_based --runtime=9999 \
        >/tmp/cached 2>&1 &
    BENCH_LOADS="$BENCH_LOADS $!"
}

# Has the page cache taken what there was?
bench_full() {
    awk '/^MemFree:/ { exit $2 > 64 * 1024 }' /proc/meminfo
}

# The end of all of these; fails if one had ended before, so that what was measured
# wasn't under its load.
bench_quiet() {
    local pid rc=0
    for pid in $BENCH_LOADS; do
        grep -q '^State:.[^Z]' "/proc/$pid/status" 2>/dev/null || rc=1
    done
    BENCH_LOADS=''
    killall fio sockperf 2>/dev/null
    wait
    [ $rc -eq 0 ] || tail -n 5 /tmp/hot /tmp/bursts /tmp/cached /tmp/stream 2>/dev/null
    return $rc
}

# How many reads and writes the disk has done, all in all.
bench_ios() {
    local reads writes _
    read -r reads _ _ _ writes _ <"/sys/class/block/${DISK#/dev/}/stat"
    echo "@rig ios $((reads + writes))"
}

# ---- network --------------------------------------------------------------------

# bench_stream ADDRESS PORT: large messages without end, in the background.
bench_stream() {
    sockperf throughput --tcp -i "$1" -p "$2" -m 16384 -t 9999 >/tmp/stream 2>&1 &
    BENCH_LOADS="$BENCH_LOADS $!"
}

# TCP packets that this machine has sent, large ones as those that the NIC makes of them.
bench_packets() {
    awk '/^Tcp: [0-9]/ { print $12 }' /proc/net/snmp
}

# bench_sockperf MODE BYTES SECONDS ADDRESS PORT: TCP messages; how many there were, how
# many a second, and how many packets were sent.  In ping-pong a message and its answer
# count as one.
bench_sockperf() {
    local packets
    packets=$(bench_packets)
    sockperf "$1" --tcp -i "$4" -p "$5" -m "$2" -t "$3" >/tmp/sockperf 2>&1 ||
        { cat /tmp/sockperf; return 1; }
    if [ "$1" = ping-pong ]; then
        sed -n 's/.*\[Total Run\] RunTime=\([0-9.]*\) .*ReceivedMessages=\([0-9]*\).*/\2 \1/p' \
            /tmp/sockperf
    else
        sed -n 's/.*Total of \([0-9]*\) messages sent in \([0-9.]*\) sec.*/\1 \2/p' \
            /tmp/sockperf
    fi | awk -v packets=$(($(bench_packets) - packets)) '
        $2 > 0 { printf "@rig net count=%d rate=%.1f packets=%d\n", $1, $1 / $2, packets; n++ }
        END { exit !n }' || { cat /tmp/sockperf; return 1; }
}
