# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# The soak, part of lab.sh: two VMs at the same time, each with two devices and load on
# them, and random actions of a VM's life, one after the other, without end in sight.
#
#   alpha   the NVMe disk, behind a root port, and the second igb
#   beta    the first igb, behind a root port, and edu, which no driver in the guest uses
#
# Not the e1000e: it read an earlier guest's ring as soon as the next one set its
# bus-master bit, which is a fault.  As QEMU emulates it, it has no function-level reset.
#
# An action is a function soak_NAME of lab-soak-actions.sh.  It begins and ends with a
# guest whose devices work under load.  After each one (soak_settled) the load's data and
# what was written to the disk before must be right, all accounts of what is pinned must
# say the same, and the logs of host, guest and QEMU must have nothing in them that is
# not known.  At the end nothing may be left.
#
# The accounts: the device's counters; VmLck, the kernel's account of the process; the
# mappings that the VFIO container holds (dma-entries.c); and, over all processes, how
# many pages the kernel has pinned and let go.
#
# What happens is decided by the seed alone, before it begins and whatever comes of it,
# and is written down for the case that it goes wrong: with that seed it happens again.
# shellcheck disable=SC2154  # variables of lab.sh

# The second igb.
SOAK_NIC=0000:00:0d.0

# A small guest, as all of it is pinned now and then; and room for a DIMM.
SOAK_MIB=256
SOAK_DIMM_MIB=128
# Its memory without the legacy hole.
SOAK_BYTES=$(((SOAK_MIB << 20) - 0x60000))

# What one VM is made of.  Set by soak_vm:
#   SOAK_VM       alpha or beta
#   SOAK_KINDS    kinds of devices with a driver, as in guest-soak.sh
#   SOAK_ID       the device that can be unplugged; SOAK_VICTIM its kind
#   SOAK_HOST     its address on the host
#   SOAK_SPARE    the kind of the device that is set to do DMA without a driver
# and what it is like now:
#   SOAK_MODULE   "loaded", "unloaded" or "banned" from the guest
#   SOAK_DIMMS    DIMMs in it; SOAK_DIMM_ID counts all that there were in this QEMU;
#                 SOAK_ZONE is what the last one is used for, "movable" or "kernel"
#   SOAK_KEPT     checksum of what must be on the disk
#   SOAK_STARTS   how often QEMU has been started

# ---- what is to happen ------------------------------------------------------------

# A number below $1 into DRAWN, the next one of SOAK_RANDOM.
soak_draw() {
    SOAK_RANDOM=$(((SOAK_RANDOM * 1103515245 + 12345) & 0x7fffffff))
    DRAWN=$(((SOAK_RANDOM >> 12) % $1))
}

# soak_plan SEED COUNT: so many lines "ACTION NUMBER...", each with six numbers below
# 720720 (which many small numbers divide) by which the action makes its own choices.
soak_plan() {
    local SOAK_RANDOM=$1 i line
    local -a actions
    read -ra actions <<<"${SOAK_ACTIONS//$'\n'/ }"
    # The first numbers of neighbouring seeds are alike.
    for ((i = 0; i < 9; i++)); do soak_draw 2; done
    for ((i = 0; i < $2; i++)); do
        soak_draw ${#actions[@]}
        line=${actions[DRAWN]}
        for _ in 1 2 3 4 5 6; do
            soak_draw 720720
            line+=" $DRAWN"
        done
        echo "$line"
    done
}

# ---- what must hold ------------------------------------------------------------------

# soak_qom_set PROPERTY JSON: of the coIOMMU device.
soak_qom_set() {
    echo "set $1=$2"
    vm_qmp qom-set "{\"path\":\"/machine/peripheral/coi0\",
        \"property\":\"$1\",\"value\":$2}" || fail "$VM_ERROR"
}

# expect NAME VALUE: a counter of the device.
expect() {
    counter "$1"
    [ "$VALUE" -eq "$2" ] || fail "$1 is $VALUE, not $2"
}

# How many mappings the VM's containers hold, in ENTRIES.
soak_entries() {
    ENTRIES=$(/tmp/dma-entries "$VM_PID")
}

# Mappings that may be there besides one for each block: BARs, through which devices reach
# each other, and the rest of a block that a hole cuts in two.
SOAK_OTHER=6

# One look at all accounts: 0 if they agree to the byte, 1 if they don't, or have changed meanwhile.
# SAID has them.
soak_look() {
    local before blocks
    counter pinned-bytes
    before=$VALUE
    counter pinned-blocks
    blocks=$VALUE
    vm_sample
    soak_entries
    counter pinned-bytes
    SAID="the device counts $before bytes in $blocks blocks, the kernel $VM_PINNED"
    SAID+=" bytes in $ENTRIES mappings"
    [ "$VALUE" -eq "$before" ] &&
        [ "$VM_PINNED" -eq "$VALUE" ] &&
        [ "$ENTRIES" -ge "$blocks" ] && [ $((ENTRIES - blocks)) -le $SOAK_OTHER ]
}

# All accounts agree.  With its CPU stopped the guest asks for nothing; what QEMU's
# threads are at comes to its end.
soak_books() {
    local tries=0
    vm_qmp stop || fail "$VM_ERROR"
    until soak_look >/dev/null; do
        [ $((tries++)) -lt 100 ] || fail "$SAID"
        sleep 0.1
    done
    echo "$SAID"
    vm_qmp cont || fail "$VM_ERROR"
}

# expect_untracked COUNT: so many devices do DMA without the driver, and while there is
# one all memory is pinned.
expect_untracked() {
    local all=0
    [ "$1" -eq 0 ] || all=$((SOAK_BYTES + SOAK_DIMMS * (SOAK_DIMM_MIB << 20)))
    expect fallback-active "$1"
    [ "$1" -ne 0 ] || fallback_over
    expect fallback-bytes $all
}

# Nothing is pinned, by all accounts.
expect_nothing_pinned() {
    fallback_over
    soak_books
    expect pinned-bytes 0
    expect pinned-blocks 0
}

# Devices of the guest that have a driver, in DRIVEN; it has all that it can have.
soak_driven() {
    DRIVEN=$(wc -w <<<"$SOAK_KINDS")
}

# All that QEMU has said is known.
expect_quiet_qemu() {
    ! grep -vE "$SOAK_KNOWN" "$VM_LOGS/$VM_NAME.qemu" || fail "QEMU complains"
}
SOAK_KNOWN='is used without the guest.s coiommu driver|terminating on signal 15'
# edu can't be reset.
SOAK_KNOWN+='|Cannot reset device 0000:00:0b.0, no available reset mechanism'

# The host's log has nothing in it since the last time.
soak_quiet_host() {
    SOAK_MARK=$((SOAK_MARK + 1))
    host_mark "soak-$SOAK_VM $SOAK_MARK."
    expect_quiet_host "soak-$SOAK_VM $((SOAK_MARK - 1))."
}

# Everything is as it should be while the guest works.
soak_settled() {
    soak_driven
    vm_run 300 "load_works $SOAK_KINDS" || fail "the load doesn't work"
    if [ $SOAK_MODULE = loaded ]; then
        expect attached-endpoints "$DRIVEN"
        expect_untracked 0
    else
        expect attached-endpoints 0
        expect_untracked "$DRIVEN"
    fi
    expect containers 1
    expect dma-faults 0
    expect pin-errors 0
    soak_books
    soak_keep
    vm_run 120 "soak_quiet $SOAK_MODULE" || fail "the guest's kernel complains"
    soak_quiet_host
    expect_quiet_qemu
}

# Write what the next boot must find.
soak_keep() {
    [[ " $SOAK_KINDS " == *" disk "* ]] || return 0
    vm_run 120 kept_write || fail "nothing can be written to the disk"
    SOAK_KEPT=${VM_SAID[kept]}
}

# ---- from start to work ----------------------------------------------------------------

# The guest has booted, or is about to: take its devices to work.
soak_arrive() {
    vm_wait booted 240 || fail "$VM_SILENT"
    if [ $SOAK_MODULE = banned ]; then
        [ "${VM_SAID[coiommu]}" = unbound ] || fail "the module has been loaded"
    else
        [ "${VM_SAID[coiommu]}" = bound ] || fail "the driver isn't bound"
        SOAK_MODULE=loaded
    fi
    vm_run 120 ". /guest-soak.sh"
    soak_work
    [ -z "$SOAK_KEPT" ] || vm_run 120 "kept_holds $SOAK_KEPT" ||
        fail "what was written before isn't on the disk"
}

# soak_work [KIND...]: bind these (all) kinds of devices and put load on them.
# shellcheck disable=SC2120  # as lab-soak-actions.sh does
soak_work() {
    local kinds=${*:-$SOAK_KINDS}
    vm_run 300 "soak_up $kinds" || fail "the devices don't come up"
    vm_run 120 "load_start $PEER $kinds"
}

# soak_rest [KIND...]: end the load, and take the devices from their drivers.
# shellcheck disable=SC2120  # as lab-soak-actions.sh does
soak_rest() {
    local kinds=${*:-$SOAK_KINDS}
    vm_run 300 "load_stop $kinds" || fail "the load has found wrong data"
    vm_run 120 "soak_unbind $kinds" || fail "the drivers don't let go"
}

# soak_start NUMBER...: start QEMU in some way, its CPU stopped.
soak_start() {
    local VM_APPEND=$VM_APPEND
    soak_configure "$@"
    SOAK_STARTS=$((SOAK_STARTS + 1))
    SOAK_DIMMS=0 SOAK_DIMM_ID=0
    vm_start "soak-$SOAK_VM-$SOAK_STARTS" "${SOAK_MIB}M,slots=2,maxmem=1G" \
        -action reboot=reset "${SOAK_ARGS[@]}" "${SOAK_DEVICES[@]}" ||
        fail "QEMU doesn't start: $VM_ERROR $(cat "$VM_LOGS/$VM_NAME.qemu")"
    expect pinned-bytes 0
    soak_entries
    [ "$VM_PINNED" -eq 0 ] && [ "$ENTRIES" -eq 0 ] ||
        fail "from the start $VM_PINNED bytes are locked, in $ENTRIES mappings"
    echo started
}

# soak_ended: QEMU has ended as it should.
soak_ended() {
    expect_quiet_qemu
    soak_quiet_host
}

# ---- one VM, and both ------------------------------------------------------------------

# The VM's life.  Ends when the other one has come to grief, too.
soak_vm() {
    local number action numbers=0
    SOAK_VM=$1
    SOAK_MARK=0 SOAK_STARTS=0 SOAK_KEPT=''
    host_mark "soak-$SOAK_VM 0."
    SOAK_DEVICES=(-device "pcie-root-port,id=rp0")
    case $SOAK_VM in
    alpha)
        SOAK_KINDS="disk net" SOAK_VICTIM=disk SOAK_ID=disk0 SOAK_HOST=$disk SOAK_SPARE=disk
        SOAK_DEVICES+=(-device "$vfio,host=$SOAK_NIC,id=nic0")
        ;;
    beta)
        SOAK_KINDS=net SOAK_VICTIM=net SOAK_ID=nic0 SOAK_HOST=$nic SOAK_SPARE=edu
        SOAK_DEVICES+=(-device "$vfio,host=$edu,id=edu0")
        ;;
    esac
    SOAK_DEVICES+=(-device "$vfio,host=$SOAK_HOST,id=$SOAK_ID,bus=rp0")
    soak_start 0 0 0 0 0 0
    vm_qmp cont
    soak_arrive
    soak_settled
    while read -r action number <&3; do
        [ ! -e /tmp/soak-stop ] || break
        numbers=$((numbers + 1))
        echo "$action" >>"/job/soak-$SOAK_VM.done"
        echo "==== $SECONDS s: action $numbers: $action $number"
        # shellcheck disable=SC2086  # numbers
        "soak_$action" $number
        soak_settled
    done 3<"/tmp/soak-$SOAK_VM.plan"
    soak_farewell
}

# Back to where it was before there was any load, and out.
soak_farewell() {
    soak_rest
    expect_nothing_pinned
    [ $SOAK_MODULE != loaded ] || vm_run 120 "rmmod coiommu" || fail "the module stays"
    expect_nothing_pinned
    vm_run 120 guest_dmesg_ok || fail "the guest's kernel complains"
    vm_quit || fail "QEMU ended with status $VM_STATUS"
    soak_ended
}

# Both VMs' memory may be of huge pages.
HUGE_PAGES=/sys/kernel/mm/hugepages/hugepages-2048kB
SOAK_HUGE=$((2 * SOAK_MIB / 2))

# Take a device from vfio-pci again.
host_unbind() {
    echo "$1" >/sys/bus/pci/drivers/vfio-pci/unbind
    echo >"/sys/bus/pci/devices/$1/driver_override"
}

# soak_both SEED COUNT: the soak of COUNT actions, half of them in each VM.
soak_both() {
    local vm pids=() pid bad=0 begin=$SECONDS
    cp /job/dma-entries /tmp/
    cat "$VM_INITRD" /job/soak.cpio >/tmp/soak-initrd
    VM_INITRD=/tmp/soak-initrd VM_APPEND+=" suspend.pm_test_delay=0"
    host_bind $SOAK_NIC
    echo 3 >/proc/sys/vm/drop_caches
    echo 1 >/proc/sys/vm/compact_memory
    echo $SOAK_HUGE >$HUGE_PAGES/nr_hugepages
    [ "$(cat $HUGE_PAGES/free_hugepages)" -eq $SOAK_HUGE ] || fail "the host has no huge pages"
    expect_host_idle
    rm -f /tmp/soak-stop
    # In turns, for the numbers of another seed would not be independent of this one's.
    soak_plan "$1" "$2" >/tmp/soak.plan
    awk 'NR % 2 == 1' /tmp/soak.plan >/tmp/soak-alpha.plan
    awk 'NR % 2 == 0' /tmp/soak.plan >/tmp/soak-beta.plan
    for vm in alpha beta; do
        : >/job/soak-$vm.done
        (
            trap 'rc=$?; vm_kill; [ $rc = 0 ] || touch /tmp/soak-stop' EXIT
            soak_vm $vm
        ) >/job/soak-$vm.log 2>&1 &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do
        wait "$pid" || bad=1
    done
    for vm in alpha beta; do
        echo "-------- $vm"
        cat /job/soak-$vm.log
    done
    if [ $bad = 1 ]; then
        echo "again: seed $1, $2 actions; so far"
        for vm in alpha beta; do
            echo "again: $vm: $(tr '\n' ' ' </job/soak-$vm.done)"
            grep -h '^FAILED' /job/soak-$vm.log | sed "s/^/again: $vm: /" || true
        done
        fail "the soak has found something"
    fi
    # Everything is back.
    [ "$(cat $HUGE_PAGES/free_hugepages)" -eq $SOAK_HUGE ] || fail "huge pages are lost"
    echo 0 >$HUGE_PAGES/nr_hugepages
    expect_host_idle
    host_unbind $SOAK_NIC
    echo "cost: $(cat /job/soak-*.done | wc -l) actions in $((SECONDS - begin)) s," \
        "$(grep -hx started /job/soak-*.log | wc -l) starts of QEMU"
}

# Eight actions, each of another kind, in every run of the tests.
soak_short() {
    soak_both $SOAK_SHORT_SEED $SOAK_SHORT_ACTIONS
}
SOAK_SHORT_SEED=531
SOAK_SHORT_ACTIONS=8

# Random actions in two VMs' lives.
soak() {
    soak_both "$LAB_SEED" "$LAB_ACTIONS"
}
