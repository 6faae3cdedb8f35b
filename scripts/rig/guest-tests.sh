# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
#
# What the host can ask of the guest: functions for busybox ash, sourced by
# guest-init.  A result for the host is a line "@rig KEY VALUE"; all else is
# for the log.  Functions return 0 only if everything that they checked was
# right.

# Where things are on the test disk, in MiB: first an ext4 file system, then
# the area for raw writes.
FS_MIB=64
RAW_MIB=8

# How much of the disk is read to use memory all over the place.
WIDE_MIB=256

# Of a bulk transfer, in MiB; net-peer.sh has the same figures.
SEND_MIB=8
RECEIVE_MIB=16

# BDFs of the PCI functions whose class starts with $1 (such as 0x0108).
pci_of_class() {
    local d class
    for d in /sys/bus/pci/devices/*; do
        read -r class <"$d/class"
        case $class in "$1"*) echo "${d##*/}" ;; esac
    done
}

# Load the module for a PCI function by its modalias, as udev would, and bind a
# function that has been unbound.  One that has a driver may have one that is built in.
pci_modprobe() {
    local alias
    [ ! -e "/sys/bus/pci/devices/$1/driver" ] || return 0
    read -r alias <"/sys/bus/pci/devices/$1/modalias"
    modprobe "$alias" || return
    [ -e "/sys/bus/pci/devices/$1/driver" ] || echo "$1" >/sys/bus/pci/drivers_probe
}

# BDF of the coIOMMU function, or nothing.
coiommu_bdf() {
    local d id
    for d in /sys/bus/pci/devices/*; do
        read -r id <"$d/device"
        [ "$id" != 0x10f0 ] || [ "$(cat "$d/vendor")" != 0x1af4 ] || echo "${d##*/}"
    done
}

# "bound", "unbound", or "absent" if this machine has no coIOMMU function.
guest_load_coiommu() {
    local bdf
    bdf=$(coiommu_bdf)
    if [ -z "$bdf" ]; then
        echo "@rig coiommu absent"
        return
    fi
    pci_modprobe "$bdf"
    if [ -e "/sys/bus/pci/devices/$bdf/driver" ]; then
        echo "@rig coiommu bound"
    else
        echo "@rig coiommu unbound"
    fi
    dmesg | grep -i coiommu
}

# wait_for SECONDS TEST...: poll until the command succeeds.
wait_for() {
    local tries=$(($1 * 10))
    shift
    while ! "$@"; do
        [ "$tries" -gt 0 ] || { echo "timed out: $*"; return 1; }
        tries=$((tries - 1))
        sleep 0.1
    done
}

# Hundredths of a second since boot.
now_cs() {
    local up
    read -r up _ </proc/uptime
    echo "${up%.*}${up#*.}"
}

# ---- disk -------------------------------------------------------------------

guest_nvme_up() {
    local bdf
    for bdf in $(pci_of_class 0x0108); do
        pci_modprobe "$bdf" || return
    done
    wait_for 20 test -b /dev/nvme0n1
}

# A fresh random stream of RAW_MIB, past the disk's file system, at slot $1;
# written, read back without the page cache, compared.
nvme_raw_check() {
    local at=$(((FS_MIB + $1 * RAW_MIB) * 8)) n=$((RAW_MIB * 8)) wrote read sum
    mkfifo /tmp/copy
    sha256sum </tmp/copy >/tmp/wrote &
    sum=$!
    dd if=/dev/urandom bs=128k count=$n 2>/dev/null | tee /tmp/copy |
        dd of=/dev/nvme0n1 bs=128k seek=$at iflag=fullblock oflag=direct || return
    wait $sum
    rm /tmp/copy
    wrote=$(cut -c1-64 /tmp/wrote)
    read=$(dd if=/dev/nvme0n1 bs=128k skip=$at count=$n iflag=direct | sha256sum)
    read=${read%% *}
    echo "@rig nvme_raw $1 $wrote"
    [ "$wrote" = "$read" ] || { echo "wrote $wrote, read $read"; return 1; }
}

# nvme_raw_same SLOT SUM: that is still at the slot.
nvme_raw_same() {
    local read
    read=$(dd if=/dev/nvme0n1 bs=128k skip=$(((FS_MIB + $1 * RAW_MIB) * 8)) \
        count=$((RAW_MIB * 8)) iflag=direct | sha256sum)
    [ "${read%% *}" = "$2" ] || { echo "read ${read%% *}, not $2"; return 1; }
}

# A file system made, filled, checked, read back, checked again.
nvme_fs_check() {
    local i
    modprobe ext4 && mkfs.ext4 -q -F /dev/nvme0n1 ${FS_MIB}M &&
        mount -t ext4 /dev/nvme0n1 /mnt || return
    for i in 1 2 3 4 5 6 7 8; do
        mkdir /mnt/$i
        dd if=/dev/urandom of=/mnt/$i/data bs=64k count=$i 2>/dev/null || return
    done
    cp /bin/busybox /mnt/1/
    (cd /mnt && sha256sum ./*/* >/tmp/sums)
    rm -r /mnt/4
    sed -i '/ \.\/4\//d' /tmp/sums
    umount /mnt && e2fsck -fn /dev/nvme0n1 || return
    echo 3 >/proc/sys/vm/drop_caches
    mount -t ext4 /dev/nvme0n1 /mnt && (cd /mnt && sha256sum -cs /tmp/sums) &&
        umount /mnt && e2fsck -fn /dev/nvme0n1
}

# What a file system becomes that is made, filled with what the image has (and fio, see
# tests/lib/lab.sh), thinned out, and checked, twice, with the page cache dropped in
# between: its files' checksums, in /tmp/files, and what fsck counts, in /tmp/fsck.  Each
# time the same.
guest_fs_cycle() {
    local uuid=6e1d4c5c-98a5-4d70-9ae2-1f2a9c9e7a10
    modprobe ext4 && mkfs.ext4 -q -F -U $uuid -E hash_seed=$uuid,lazy_itable_init=0 \
        /dev/nvme0n1 ${FS_MIB}M && mount -t ext4 /dev/nvme0n1 /mnt || return
    mkdir /mnt/more && cp -r /rig /bin/busybox /bin/fio /mnt/ &&
        cp /bin/fio /lib/libc*.so* /mnt/more/ && rm /mnt/fio && umount /mnt || return
    e2fsck -fn /dev/nvme0n1 >/tmp/fsck && echo 3 >/proc/sys/vm/drop_caches &&
        mount -t ext4 /dev/nvme0n1 /mnt || return
    (cd /mnt && find . -type f | sort | xargs sha256sum) >/tmp/files
    umount /mnt && e2fsck -fn /dev/nvme0n1 >>/tmp/fsck
}

# The time of plain I/O, no checksums in it, in hundredths of a second.
nvme_time() {
    local begin rc=0
    begin=$(now_cs)
    dd if=/dev/nvme0n1 of=/dev/null bs=4k count=256 iflag=direct &&
        dd if=/dev/nvme0n1 of=/dev/null bs=128k count=256 iflag=direct || rc=1
    if [ "$1" = write ]; then
        dd if=/dev/zero of=/dev/nvme0n1 bs=4k count=256 \
            seek=$((FS_MIB * 256)) oflag=direct || rc=1
    fi
    echo "@rig io_cs $(($(now_cs) - begin))"
    return $rc
}

# guest_nvme SLOT: everything that a disk must do; destroys what is on it.
guest_nvme() {
    guest_nvme_up && nvme_time write && nvme_raw_check "$1" && nvme_fs_check
}

# The checksum of what dd reads with these options.  When reading fails it is one
# that no other options have.
disk_sum() {
    { dd if=/dev/nvme0n1 "$@" || echo "failed: $*"; } | sha256sum
}

# guest_nvme_readonly: for a disk whose content matters.  What is read must be
# the same whether it comes in small or in large pieces.
guest_nvme_readonly() {
    local small large
    guest_nvme_up && nvme_time read || return
    small=$(disk_sum bs=4k count=4096 iflag=direct)
    large=$(disk_sum bs=1M count=16 iflag=direct)
    [ "$small" = "$large" ]
}

# ---- network ----------------------------------------------------------------

# The first interface of the NIC.  (virtio's is on a bus of its own.)
nic() {
    local bdf dir
    for bdf in $(pci_of_class 0x02); do
        for dir in "/sys/bus/pci/devices/$bdf"/net/* "/sys/bus/pci/devices/$bdf"/virtio*/net/*; do
            [ ! -e "$dir" ] || { echo "${dir##*/}"; return; }
        done
    done
}

nic_has_carrier() {
    [ "$(cat "/sys/class/net/$1/carrier" 2>/dev/null)" = 1 ]
}

# Load the NIC's driver and start it: a link takes seconds to come up.
guest_nic_start() {
    local bdf
    for bdf in $(pci_of_class 0x02); do
        pci_modprobe "$bdf" || return
    done
    wait_for 20 eval '[ -n "$(nic)" ]' && ip link set "$(nic)" up
}

guest_nic_up() {
    guest_nic_start && wait_for 20 nic_has_carrier "$(nic)" &&
        udhcpc -i "$(nic)" -n -q -t 30 -T 1 -s /rig/guest-dhcp
}

# The default gateway.
gateway() {
    ip route | sed -n 's/^default via \([^ ]*\) .*/\1/p' | head -n 1
}

# To the peer (net-peer.sh): it answers with the checksum of what it got.
net_send() {
    local begin mine theirs
    mine=$(sha256sum </tmp/bulk)
    begin=$(now_cs)
    theirs=$(nc "$1" 5001 </tmp/bulk)
    echo "@rig net_send_cs $(($(now_cs) - begin))"
    echo "sent ${mine%% *}, peer got $theirs"
    [ "${mine%% *}" = "$theirs" ]
}

# From the peer: the checksum, then the data.
net_receive() {
    local begin mine theirs size
    begin=$(now_cs)
    nc "$1" 5002 >/tmp/bulk </dev/null
    echo "@rig net_receive_cs $(($(now_cs) - begin))"
    size=$(stat -c %s /tmp/bulk)
    read -r theirs </tmp/bulk
    mine=$(tail -c +66 /tmp/bulk | sha256sum)
    echo "peer sent $theirs, got ${mine%% *} ($size bytes)"
    [ "$size" -gt $((RECEIVE_MIB << 20)) ] && [ "${mine%% *}" = "$theirs" ]
}

# Bulk transfers with checksums, one each way.
net_bulk_check() {
    local rc=0
    dd if=/dev/urandom of=/tmp/bulk bs=1M count=$SEND_MIB 2>/dev/null
    net_send "$1" && net_receive "$1" || rc=1
    rm -f /tmp/bulk
    return $rc
}

# guest_net [PEER]: address by DHCP, ping of the gateway, and, if there is a
# peer for it, bulk transfers.
guest_net() {
    guest_nic_up && ping -c 5 -i 0.2 -s 1400 "$(gateway)" || return
    [ -z "$1" ] || net_bulk_check "$1"
}

# ---- virtio -----------------------------------------------------------------

# guest_virtio_up ADDRESS: virtio's disk, and its NIC, the only one, with this address.
guest_virtio_up() {
    modprobe virtio_blk && modprobe virtio_net && wait_for 20 test -b /dev/vda &&
        guest_nic_start && wait_for 20 nic_has_carrier "$(nic)" && ip addr add "$1" dev "$(nic)"
}

# guest_virtio PEER ROUNDS: in each, 128 KiB of fresh data to the peer, which sends them
# back, and the same to virtio's disk and back.
guest_virtio() {
    local n
    for n in $(seq "$2"); do
        dd if=/dev/urandom of=/tmp/out bs=128k count=1 iflag=fullblock 2>/dev/null &&
            nc "$1" 5003 </tmp/out >/tmp/in && cmp /tmp/out /tmp/in &&
            dd if=/tmp/out of=/dev/vda bs=128k seek="$n" oflag=direct 2>/dev/null &&
            dd if=/dev/vda bs=128k skip="$n" count=1 iflag=direct 2>/dev/null |
                cmp - /tmp/out || return
    done
}

# ---- load -------------------------------------------------------------------

# Fresh files through the page cache, in pages from all over memory: written,
# dropped from the cache, read back.
nvme_cached_check() {
    local n
    for n in 4 64 512; do
        dd if=/dev/urandom of=/mnt/load.$n bs=${n}k count=$((4096 / n)) 2>/dev/null || return
    done
    (cd /mnt && sha256sum load.* >/tmp/load.sums) && sync &&
        echo 3 >/proc/sys/vm/drop_caches &&
        (cd /mnt && sha256sum -cs /tmp/load.sums)
}

# Until the clock shows $1, but once at least: direct and cached I/O in turns, at
# changing places.
disk_load() {
    local n=0
    modprobe ext4 && mkfs.ext4 -q -F /dev/nvme0n1 ${FS_MIB}M &&
        mount -t ext4 /dev/nvme0n1 /mnt || return
    until [ $n -gt 0 ] && [ "$(now_cs)" -ge "$1" ]; do
        nvme_raw_check $((n % 8)) && nvme_cached_check || return
        n=$((n + 1))
    done
    umount /mnt && e2fsck -fn /dev/nvme0n1 || return
    echo "@rig disk_rounds $n"
}

# Until the clock shows $1, but once at least: bulk transfers with the peer $2.
net_load() {
    local n=0
    until [ $n -gt 0 ] && [ "$(now_cs)" -ge "$1" ]; do
        net_bulk_check "$2" || return
        n=$((n + 1))
    done
    echo "@rig net_rounds $n"
}

# guest_checked_load SECONDS PEER: disk and NIC together, each byte compared.
guest_checked_load() {
    local end rc=0 disk net
    end=$(($(now_cs) + $1 * 100))
    (disk_load "$end") &
    disk=$!
    (net_load "$end" "$2") &
    net=$!
    wait $disk || { echo "the disk's data is wrong"; rc=1; }
    wait $net || { echo "the NIC's data is wrong"; rc=1; }
    return $rc
}

# Read the disk without end, whatever comes of it, in the background.
disk_hammer() {
    (while :; do
        dd if=/dev/nvme0n1 of=/dev/null bs=128k count=50 iflag=direct || sleep 0.1
    done) >/dev/null 2>&1 &
}

# Rounds of writing and reading that compare each byte, in the background until
# disk_work_end.
disk_work() {
    rm -f /tmp/enough
    (n=0
    until [ -e /tmp/enough ]; do
        nvme_raw_check $((n % 4)) || exit
        n=$((n + 1))
    done
    echo "@rig work_rounds $n") >/tmp/work 2>&1 &
    DISK_WORK=$!
}

# Was everything right, and was there at least one round?
disk_work_end() {
    local rc=0
    touch /tmp/enough
    wait "$DISK_WORK" || rc=1
    tail -n 5 /tmp/work
    grep -q '^@rig work_rounds [1-9]' /tmp/work && return $rc
}

# Few requests to the disk at once, and small ones: 64 pages in all.
nvme_shallow() {
    echo 4 >/sys/block/nvme0n1/queue/nr_requests &&
        echo 64 >/sys/block/nvme0n1/queue/max_sectors_kb
}

# The disk's first part, through the page cache and past it: the same?
nvme_wide_check() {
    local cached direct
    cached=$(disk_sum bs=1M count=$WIDE_MIB)
    direct=$(disk_sum bs=1M count=$WIDE_MIB iflag=direct)
    [ "$cached" = "$direct" ]
}

# guest_fixed_load SLOT [PEER]: the same I/O each time, with a PEER on the NIC too, and
# how long it takes, in hundredths of a second.
guest_fixed_load() {
    local begin rc=0
    begin=$(now_cs)
    nvme_raw_check "$1" && nvme_fs_check && nvme_wide_check || rc=1
    [ -z "$2" ] || net_bulk_check "$2" || rc=1
    echo "@rig load_cs $(($(now_cs) - begin))"
    return $rc
}

# ---- driver -----------------------------------------------------------------

# Take the assigned devices from their drivers.
guest_unbind() {
    local d
    for d in /sys/bus/pci/drivers/nvme/0000:* /sys/bus/pci/drivers/igb*/0000:*; do
        [ ! -e "$d" ] || echo "${d##*/}" >"${d%/*}/unbind" || return
    done
}

# The same, and unload the module.
guest_unload() {
    guest_unbind && rmmod coiommu
}

# Take a function from its driver and give it back; with a driver's name $2, give it
# to that one.
guest_rebind() {
    local dev=/sys/bus/pci/devices/$1
    [ ! -e "$dev/driver" ] || echo "$1" >"$dev/driver/unbind" || return
    [ -z "$2" ] || modprobe "$2" || return
    echo "$2" >"$dev/driver_override"
    echo "$1" >/sys/bus/pci/drivers_probe && [ -e "$dev/driver" ]
}

# pci_command BDF VALUE: write the low byte of PCI_COMMAND, as a userspace driver
# does: 2 is memory decoding, 6 bus mastering too.
pci_command() {
    printf "\\00$2" | dd of="/sys/bus/pci/devices/$1/config" bs=1 seek=4 \
        conv=notrunc 2>/dev/null
}

# What is in it.
pci_command_is() {
    [ "$(dd if="/sys/bus/pci/devices/$1/config" bs=1 skip=4 count=1 2>/dev/null |
        od -An -tu1 | tr -d ' ')" = "$2" ]
}

# guest_reset BDF METHOD: reset a function in this way (such as flr) under its driver.
guest_reset() {
    local dev=/sys/bus/pci/devices/$1
    echo "$2" >"$dev/reset_method" && [ "$(cat "$dev/reset_method")" = "$2" ] &&
        echo 1 >"$dev/reset"
}

# Keep the devices busy, in the background.
guest_load() {
    (while dd if=/dev/nvme0n1 of=/dev/null bs=128k count=200 iflag=direct; do :; done) \
        >/dev/null 2>&1 &
    ping -i 0.01 -s 1400 "$(gateway)" >/dev/null 2>&1 &
}

# The driver's table and requests have seen nothing but what is right.
guest_counters_ok() {
    cat /sys/kernel/debug/coiommu/dtt /sys/kernel/debug/coiommu/requests >/tmp/counters
    cat /tmp/counters
    [ "$(grep -cxE '(underflows|refused-maps|failures) 0' /tmp/counters)" -eq 3 ]
}

# Nothing bad in the kernel's log.  The messages themselves go to the log.
guest_dmesg_ok() {
    ! dmesg | grep -E 'WARNING:|BUG:|Oops|Call Trace|I/O error|DMA.*(fail|error)|nvme.*timeout|Tx Unit Hang'
}

# ---- the edu device -----------------------------------------------------------

# edu_read ADDRESS: have QEMU's edu device read 4 KiB of memory at this address by
# DMA, whether or not they are mapped for it.  Returns 0 when it has finished.
edu_read() {
    local d bar
    d=/sys/bus/pci/devices/$(pci_of_class 0x00ff | head -n 1)
    echo 1 >"$d/enable" || return
    # Memory space and bus mastering on.
    printf '\006' | dd of="$d/config" bs=1 seek=4 conv=notrunc 2>/dev/null || return
    read -r bar _ <"$d/resource"
    devmem $((bar + 0x80)) 64 "$1"
    devmem $((bar + 0x88)) 64 0x40000
    devmem $((bar + 0x90)) 64 4096
    devmem $((bar + 0x98)) 64 1
    wait_for 10 eval '[ $(($(devmem '$((bar + 0x98))' 64) & 1)) -eq 0 ]'
}
