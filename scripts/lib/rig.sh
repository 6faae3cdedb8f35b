#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The nested rig: real VFIO on a machine that has no IOMMU to spare.
#
#   L0  this machine: our QEMU under TCG emulates an x86 host with an Intel
#       IOMMU, AMD's virtualization, an NVMe disk, NICs, the edu device, and a
#       device with two functions, each a small disk
#   L1  "the host": a stock Debian kernel (or one of kernel-source.sh) with its own
#       intel-iommu, VFIO and KVM drivers, and our QEMU again
#   L2  "the guest": a stock Debian kernel with our driver, under KVM in L1
#
# Both boot from one uncompressed initramfs.  L1's work comes in by a folder
# shared with it over 9p, and its results go out there; see rig_run.
#
# To be sourced after common.sh, apt.sh, kernels.sh and initramfs.sh; rig_images wants
# packages.sh and rig/host.sh as well.

RIG=$COIOMMU_BUILD/rig
# mkfs.ext4, e2fsck and modprobe, which a user's PATH may lack.
PATH=$PATH:/usr/sbin:/sbin
RIG_SCRIPTS=$COIOMMU_TOP/scripts/rig

# Modules: those that L1 loads, in this order; what it has besides, for jobs that load
# it; and the guest's besides what its assigned devices need.
RIG_L1_MODULES="9pnet_virtio 9p kvm-amd vfio_iommu_type1 vfio-pci"
RIG_L1_MORE_MODULES="vhost_net igb"
RIG_GUEST_MODULES="nvme igb igbvf e1000e ext4 crc32c_generic crc32c-intel pci-stub
    uio_pci_generic vfio-pci vfio_iommu_type1 virtio_net virtio_blk"

# Programs of this machine that the guest has, and files that lie in its /rig.
RIG_GUEST_PROGRAMS="mkfs.ext4 e2fsck"
RIG_GUEST_FILES="$RIG_SCRIPTS/guest-tests.sh $RIG_SCRIPTS/guest-dhcp"

# What our QEMU loads at run time for a q35 machine started with -kernel.
RIG_FIRMWARE="seabios/bios-256k.bin qemu/pvh.bin qemu/linuxboot_dma.bin
    qemu/kvmvapic.bin"

# The QEMU of L0 and L1: what scripts/qemu-build --rig printed.
RIG_QEMU=${RIG_QEMU:-$COIOMMU_BUILD/qemu/10.2-rig/obj/qemu-system-x86_64}

# The address at which L0's slirp offers net-peer.sh to the guest.
RIG_PEER=10.0.2.100

# What a job of L1 that assigns its disk and its NIC begins with: their BDFs.
RIG_JOB_BEGIN='. /job/host.sh
disk=$(host_find 1b36:0010) && nic=$(host_find 8086:10c9) || exit 1
host_bind $disk && host_bind $nic || exit 1'

# ---- images -----------------------------------------------------------------

# rig_images [BDF...]: the driver, and the guest's image with what these devices of
# this machine want; without devices L1's image, too.  RIG_KVER is their kernel.
rig_images() {
    local bdf module extra=()
    need_packages guest rig
    RIG_KVER=$(kernel_default)
    module=$("$COIOMMU_TOP/scripts/guest-build" --image "$RIG_KVER")
    for bdf in "$@"; do
        mapfile -t -O "${#extra[@]}" extra < <(_rig_modules_for "$RIG_KVER" \
            "/sys/bus/pci/devices/$(host_bdf "$bdf")/modalias")
    done
    rig_guest_image "$RIG_KVER" "$module" "${extra[@]}"
    [ $# -gt 0 ] || rig_l1_image "$RIG_KVER"
}

# _rig_modules_for KVER FILE: the modules that Linux loads for the device whose modalias
# is in FILE, if this kernel knows it.
_rig_modules_for() {
    modprobe -d "$(kernel_dir "$1")" -S "$1" --resolve-alias "$(cat "$2")" 2>/dev/null || true
}

# rig_guest_image KVER MODULE [EXTRA-MODULE...]: the guest's kernel and
# initramfs, with MODULE (coiommu.ko), as $RIG/guest/{vmlinux,initrd}.
rig_guest_image() {
    local kver=$1 key
    # shellcheck disable=SC2046,SC2086  # lists
    key="$* $RIG_GUEST_MODULES $RIG_GUEST_PROGRAMS
$(stat -L -c '%Y %s' $(command -v $RIG_GUEST_PROGRAMS)) $(checksum "$2" $RIG_GUEST_FILES \
        "$RIG_SCRIPTS/guest-init" "$COIOMMU_TOP/scripts/lib/initramfs.sh" \
        "$COIOMMU_TOP/scripts/lib/rig.sh")"
    ! stamp_ok "$RIG/guest/.stamp" "$key" || return 0
    mkdir -p "$RIG/guest"
    step rig-guest-image _rig_guest_image "$@"
    stamp_set "$RIG/guest/.stamp" "$key"
}

_rig_guest_image() {
    local kver=$1 tree=$RIG/guest/tree
    shift
    vmlinux_extract "$(kernel_image "$kver")" "$RIG/guest/vmlinux"
    busybox_tree "$tree"
    # shellcheck disable=SC2046,SC2086
    programs_into "$tree" $(command -v $RIG_GUEST_PROGRAMS)
    # shellcheck disable=SC2086
    kernel_modules_into "$tree" "$kver" $RIG_GUEST_MODULES "$@"
    mkdir "$tree/rig"
    # shellcheck disable=SC2086
    cp $RIG_GUEST_FILES "$tree/rig/"
    cp "$RIG_SCRIPTS"/guest-init "$tree/init"
    pack_cpio "$tree" "$RIG/guest/initrd"
    rm -r "$tree"
}

# rig_l1_image KVER: L1's initramfs, with our QEMU and the guest's image in it.
rig_l1_image() {
    local kver=$1 key
    key="$kver $(stat -c '%Y %s' "$(kernel_image "$kver")") $RIG_L1_MODULES $RIG_L1_MORE_MODULES $RIG_FIRMWARE $(cat "$RIG/guest/.stamp") \
$(stat -c '%Y %s' "$RIG_QEMU") $(checksum "$RIG_SCRIPTS"/l1-init \
        "$COIOMMU_TOP/scripts/lib/initramfs.sh" "$COIOMMU_TOP/scripts/lib/rig.sh")"
    ! stamp_ok "$RIG/l1/.stamp" "$key" || return 0
    mkdir -p "$RIG/l1"
    step rig-l1-image _rig_l1_image "$kver"
    stamp_set "$RIG/l1/.stamp" "$key"
}

_rig_l1_image() {
    local kver=$1 tree=$RIG/l1/tree file
    vmlinux_extract "$(kernel_image "$kver")" "$RIG/l1/vmlinux"
    busybox_tree "$tree"
    mkdir -p "$tree"/{guest,usr/share/qemu}
    programs_into "$tree" /bin/bash "$RIG_QEMU"
    mv "$tree/bin/qemu-system-x86_64" "$tree/usr/bin/"
    strip --strip-debug "$tree/usr/bin/qemu-system-x86_64"
    for file in $RIG_FIRMWARE; do
        cp -L "/usr/share/$file" "$tree/usr/share/qemu/"
    done
    # shellcheck disable=SC2086
    kernel_modules_into "$tree" "$kver" $RIG_L1_MODULES $RIG_L1_MORE_MODULES
    echo "$RIG_L1_MODULES" >"$tree/etc/modules"
    cp "$RIG"/guest/vmlinux "$RIG"/guest/initrd "$tree/guest/"
    cp "$RIG_SCRIPTS"/l1-init "$tree/init"
    pack_cpio "$tree" "$RIG/l1/initrd"
    rm -r "$tree"
}

# ---- running ----------------------------------------------------------------

# rig_lock: wait until no other process uses the rig of this build folder; the
# rig is this process's until it ends.
rig_lock() {
    mkdir -p "$COIOMMU_BUILD/locks"
    exec {RIG_LOCK}>"$COIOMMU_BUILD/locks/rig"
    flock -n "$RIG_LOCK" && return 0
    say "another run uses the rig: waiting for its end"
    flock "$RIG_LOCK"
}

# rig_job NAME: a new folder for a job of L1, with the scripts that jobs use; its
# path on stdout.  The caller adds the job itself, the bash script "run".
rig_job() {
    local job=$RIG/jobs/$1
    rm -rf "$job" "$job".{disk,twin0,twin1}
    mkdir -p "$job"
    cp "$RIG_SCRIPTS"/{vm,host,measure,rows}.sh "$job/"
    truncate -s 1G "$job.disk"
    truncate -s 128M "$job".{twin0,twin1}
    echo "$job"
}

# The machine that L0 emulates, in RIG_ARGS: $1 the job, $2 its memory in MiB.
#
# It has one CPU: with several, TCG's MMIO accesses race with changes of the
# memory map by another CPU (an assertion in iotlb_to_section, or worse).  Its
# memory is touched before it starts, or the first VM in it would pay for that.
_rig_arguments() {
    local job=$1 peer=$RIG_SCRIPTS/net-peer.sh
    local forward="guestfwd=tcp:$RIG_PEER" echo tsc
    tsc=$(/usr/bin/python3 -B "$COIOMMU_TOP/scripts/lib/tsc.py")
    echo="$forward:5003-cmd:$peer echo"
    RIG_ARGS=(
        -M "q35,kernel-irqchip=split" -accel "tcg,thread=multi,tb-size=1024"
        -cpu "max,la57=off,erms=off,fsrm=off" -smp 1 -m "$2M"
        -object "memory-backend-ram,id=ram,size=$2M,prealloc=on,prealloc-threads=2"
        -machine memory-backend=ram
        -nodefaults -no-user-config -no-reboot -display none
        -monitor "unix:$job.monitor,server=on,wait=off"
        -kernel "$RIG/l1/vmlinux" -initrd "$RIG/l1/initrd"
        -append "console=ttyS0 panic=-1 mitigations=off nokaslr tsc=reliable
 no_timer_check rcupdate.rcu_expedited=1 rcupdate.rcu_cpu_stall_timeout=300
 random.trust_cpu=on audit=0 apparmor=0 init_on_alloc=0 nmi_watchdog=0
 nowatchdog cryptomgr.notests quiet loglevel=4 $tsc
 intel_iommu=on"
        -device "intel-iommu,intremap=on"
        -virtfs "local,path=$job,mount_tag=job,security_model=none,multidevs=remap"
        -drive "file=$job.disk,if=none,id=disk,format=raw,cache=unsafe"
        -device "nvme,drive=disk,serial=coiommu-rig,addr=8"
        -netdev "user,id=lan0,$forward:5001-cmd:$peer sink,$forward:5002-cmd:$peer source,$echo"
        -device "igb,netdev=lan0,addr=9,romfile="
        -netdev "user,id=lan1" -device "e1000e,netdev=lan1,addr=a,romfile="
        -device "edu,addr=b,dma_mask=0xffffffffffffffff"
        -drive "file=$job.twin0,if=none,id=twin0,format=raw,cache=unsafe"
        -drive "file=$job.twin1,if=none,id=twin1,format=raw,cache=unsafe"
        -device "nvme,drive=twin0,serial=twin0,addr=c.0,multifunction=on"
        -device "nvme,drive=twin1,serial=twin1,addr=c.1"
        -netdev "user,id=lan2,$echo" -device "igb,netdev=lan2,addr=d,romfile="
    )
}

# rig_memory MIB: can this machine give L1 so much?  If not, says why.
rig_memory() {
    local free
    free=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
    # What L0's QEMU needs besides, and some air.
    [ "$free" -ge $(($1 + 1536)) ] && return 0
    echo "needs $(($1 + 1536)) MiB of free memory, this machine has $free"
    return 1
}

# rig_run NAME MIB SECONDS [--console]: boot L1 with MIB of memory on the job made
# by rig_job NAME.  Lines "@say TEXT" of the job are shown as progress.  With
# --console the terminal is joined to L1's second serial line.  QEMU's monitor is
# at $RIG/jobs/NAME.monitor, for a look into an L1 that is stuck.  The console's
# log is $COIOMMU_LOGS/NAME.l1.log, and QEMU's own words NAME.l0.log.  Returns
# the job's status.
rig_run() {
    local job=$RIG/jobs/$1 limit=$3 log=$COIOMMU_LOGS/$1.l1.log
    local errors=$COIOMMU_LOGS/$1.l0.log qemu rc=0 reader
    _rig_arguments "$job" "$2"
    RIG_ARGS+=(-serial "file:$log")
    : >"$log"
    if [ "${4:-}" = --console ]; then
        # The user may look around as long as they like.
        limit=0
        timeout --foreground "$limit" "$RIG_QEMU" "${RIG_ARGS[@]}" \
            -chardev stdio,id=user,signal=off -serial chardev:user 2>"$errors" <&0 &
    else
        timeout --foreground -k 30 "$limit" "$RIG_QEMU" "${RIG_ARGS[@]}" \
            >"$errors" 2>&1 </dev/null &
    fi
    qemu=$!
    # shellcheck disable=SC2064  # this one's
    trap "kill $qemu 2>/dev/null || true" EXIT
    tail -n +1 -f --pid="$qemu" "$log" 2>/dev/null | rig_progress &
    reader=$!
    wait "$qemu" || rc=$?
    wait "$reader" || true
    trap - EXIT
    # 137: it had to be killed.
    [ "$rc" -ne 124 ] && [ "$rc" -ne 137 ] ||
        { say "L1 was stopped after $limit s: see $log"; return 1; }
    [ "$rc" -eq 0 ] || { say "L0's QEMU ended with status $rc: see $errors"; return 1; }
    [ -s "$job/status" ] || { say "L1's job didn't end: see $log"; return 1; }
    return "$(cat "$job/status")"
}

# Show the lines "@say TEXT" of stdin as progress.
rig_progress() {
    local line
    while IFS= read -r line; do
        [[ $line != *"@say "* ]] || { line=${line#*@say }; say "${line%$'\r'}"; }
    done
}

# rig_here NAME COMMAND...: run measurements on this machine instead; the log is
# $COIOMMU_LOGS/NAME.host.log.
rig_here() {
    local log=$COIOMMU_LOGS/$1.host.log
    VM_QEMU_CMD=$RIG_QEMU VM_KERNEL=$RIG/guest/vmlinux VM_INITRD=$RIG/guest/initrd \
        "${@:2}" 2>&1 | tee "$log" | rig_progress ||
        die "the measurements ended early; see $log."
}

# rig_check NAME: what L0 knows of a job that L1 can't; one line on stdout for
# each thing that is off.
rig_check() {
    local job=$RIG/jobs/$1 slot sum there
    # The IOMMU that L0 emulates prints the first fault that it sees.
    if grep -q 'vtd_' "$COIOMMU_LOGS/$1.l0.log"; then
        echo "L0's emulated IOMMU complained: see $COIOMMU_LOGS/$1.l0.log"
    fi
    # Is what the guests wrote on the disk itself?  (See guest-tests.sh for
    # where.)
    [ -f "$job/disk-sums" ] || return 0
    while read -r slot sum; do
        there=$(dd if="$job.disk" bs=1M skip=$((64 + slot * 8)) count=8 2>/dev/null | sha256sum)
        [ "${there%% *}" = "$sum" ] ||
            echo "the disk doesn't hold what the guest of slot $slot wrote"
    done <"$job/disk-sums"
}
