# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# The actions of a VM's life that lab-soak.sh chooses from, part of lab.sh.  Each takes six
# random numbers and makes its choices by their remainders.
# shellcheck disable=SC2154  # variables of lab.sh and lab-soak.sh

SOAK_ACTIONS="reset reboot end pause signal_stop tune rebind reload change_driver
    unplug memory device_reset bus_master refuse sleep function_reset"

# soak_of NUMBER WORD...: the word that this number chooses, in CHOSEN.
soak_of() {
    local number=$1
    shift
    number=$((number % $# + 1))
    CHOSEN=${!number}
}

# ---- how QEMU is started ----------------------------------------------------------

# soak_configure NUMBER...: QEMU's arguments besides the devices and before them, in
# SOAK_ARGS; the guest's in VM_APPEND.  All zeroes are the defaults.
soak_configure() {
    local coiommu="coiommu,id=coi0" boot=on backend=''
    soak_of "$1" "" "" block=64K block=1M unit=4K,block=256K
    coiommu+=${CHOSEN:+,$CHOSEN}
    soak_of "$2" "" unpin-interval=5 unpin-policy=off \
        unpin-policy=timeout,unpin-window=20,unpin-interval=20
    coiommu+=${CHOSEN:+,$CHOSEN}
    soak_of "$3" "" "" ahead=0 escape-threshold=5
    coiommu+=${CHOSEN:+,$CHOSEN}
    soak_of "$4" "" ram memfd,share=on memfd,hugetlb=on,hugetlbsize=2M
    backend=$CHOSEN
    SOAK_MODULE=loaded
    soak_of "$5" loaded loaded loaded refuse banned strict
    case $CHOSEN in
    refuse) coiommu+=,fallback=refuse ;;
    banned) SOAK_MODULE=banned VM_APPEND+=" module_blacklist=coiommu" ;;
    # SeaBIOS starts the disk.
    strict) boot=off ;;
    esac
    SOAK_ARGS=(-boot "strict=$boot" -device "$coiommu")
    [ -z "$backend" ] ||
        SOAK_ARGS+=(-object "memory-backend-$backend,id=ram,size=${SOAK_MIB}M"
            -machine memory-backend=ram)
    echo "start: ${SOAK_ARGS[*]} module $SOAK_MODULE"
}

# ---- the machine --------------------------------------------------------------------

# Reset in the middle of work.
soak_reset() {
    VM_SAID=()
    vm_qmp system_reset || fail "$VM_ERROR"
    soak_arrive
}

# The guest boots anew: orderly, without warning, or as it has crashed.
soak_reboot() {
    soak_of "$1" "reboot -f" "echo b >/proc/sysrq-trigger" "echo c >/proc/sysrq-trigger"
    echo "by: $CHOSEN"
    VM_SAID=() VM_EVENTS=''
    vm_send "$CHOSEN"
    vm_event RESET 120 || fail "no reset"
    soak_arrive
}

# soak_gone NUMBER: QEMU ends, in some way and in whatever state it is in.
soak_gone() {
    soak_of "$1" quit poweroff kill
    echo "by: $CHOSEN"
    case $CHOSEN in
    quit) vm_quit || fail "QEMU ended with status $VM_STATUS" ;;
    poweroff)
        vm_send "poweroff -f"
        vm_end 60 "'poweroff'" || fail "QEMU ended with status $VM_STATUS"
        ;;
    kill) vm_kill ;;
    esac
    soak_ended
}

# QEMU ends and is started in another way.  Sometimes it ends once more while its guest
# boots.
soak_end() {
    soak_gone "$6"
    if [ $(($6 / 3 % 3)) = 0 ]; then
        soak_start "$2" "$3" "$4" "$5" "$1"
        vm_qmp cont
        sleep "$(($6 / 9 % 8 / 2)).$(($6 / 9 % 2 * 5))"
        soak_gone $(($6 / 72 % 2 * 2))
    fi
    soak_start "$@"
    vm_qmp cont
    soak_arrive
}

# The monitor stops the machine for a moment.
soak_pause() {
    vm_qmp stop || fail "$VM_ERROR"
    sleep 1
    vm_qmp cont || fail "$VM_ERROR"
}

# The host stops QEMU for a moment.
soak_signal_stop() {
    kill -STOP "$VM_PID"
    sleep 1
    kill -CONT "$VM_PID"
}

# Settings that may change at any time.
soak_tune() {
    soak_of "$1" '"lazy"' '"timeout"' '"off"'
    soak_qom_set unpin-policy "$CHOSEN"
    soak_of "$2" 5 50 1000
    soak_qom_set unpin-interval "$CHOSEN"
    soak_of "$3" 0 10 500
    soak_qom_set unpin-window "$CHOSEN"
    soak_of "$4" 0 $((32 << 20))
    soak_qom_set ahead "$CHOSEN"
    soak_of "$5" 0 5 500
    soak_qom_set escape-threshold "$CHOSEN"
    [ $SOAK_MODULE = loaded ] && [ $(($6 % 2)) = 0 ] || return 0
    soak_qom_set max-pinned $((SOAK_MIB / 4 * 3 << 20))
    vm_run 300 "load_works $SOAK_KINDS" || fail "the load doesn't work"
    soak_qom_set max-pinned 0
}

# ---- drivers ------------------------------------------------------------------------

# A device, or all of them, are taken from their drivers and given back.
soak_rebind() {
    local kinds=$SOAK_KINDS
    [ $(($1 % 2)) = 0 ] || kinds=$SOAK_VICTIM
    # shellcheck disable=SC2086  # a list
    soak_rest $kinds
    [ "$kinds" != "$SOAK_KINDS" ] || expect_nothing_pinned
    # shellcheck disable=SC2086
    soak_work $kinds
}

# The guest's module goes; what there was is given back.
soak_unload() {
    soak_rest
    expect_nothing_pinned
    [ $SOAK_MODULE != loaded ] || vm_run 120 "rmmod coiommu" || fail "the module stays"
    expect_nothing_pinned
}

soak_load() {
    [ $SOAK_MODULE != banned ] || return 0
    vm_run 120 guest_load_coiommu
    [ "${VM_SAID[coiommu]}" = bound ] || fail "the driver isn't bound"
    SOAK_MODULE=loaded
}

# The module is unloaded and loaded.
soak_reload() {
    soak_unload
    soak_load
    soak_work
}

# The devices change over to being used without the module, or with it again: loaded
# beside devices that work, it takes each one when that is bound the next time.
soak_change_driver() {
    if [ $SOAK_MODULE = loaded ]; then
        soak_qom_set fallback '"pin-all"'
        soak_unload
        SOAK_MODULE=unloaded
    else
        soak_load
        soak_driven
        expect_untracked "$DRIVEN"
        vm_run 300 "load_works $SOAK_KINDS" || fail "the load doesn't work"
        soak_rest
    fi
    soak_work
}

# ---- devices ------------------------------------------------------------------------

# A device is unplugged and plugged in again; the other one works on.
soak_unplug() {
    vm_run 300 "load_stop $SOAK_VICTIM" || fail "the load has found wrong data"
    VM_EVENTS=''
    vm_qmp device_del "{\"id\":\"$SOAK_ID\"}" || fail "$VM_ERROR"
    # Once when the device has gone, and before that when its tree has.
    vm_event DEVICE_DELETED 120 || fail "the guest doesn't let go of $SOAK_ID"
    soak_books
    sleep "$(($1 % 3))"
    vm_qmp device_add "{$vfio_json,\"host\":\"$SOAK_HOST\",\"id\":\"$SOAK_ID\",
        \"bus\":\"rp0\"}" || fail "$VM_ERROR"
    vm_run 120 "wait_for 50 eval '[ -n \"\$(kind_bdfs $SOAK_VICTIM)\" ]'" ||
        fail "the guest doesn't find $SOAK_ID"
    soak_work $SOAK_VICTIM
}

# A function-level reset of a device without driver, sometimes one that may do DMA.
soak_device_reset() {
    soak_rest $SOAK_VICTIM
    if [ $(($1 % 2)) = 0 ]; then
        soak_qom_set fallback '"pin-all"'
        vm_run 120 "bus_master $SOAK_VICTIM on"
        vm_run 120 "soak_reset $SOAK_VICTIM" || fail "the device isn't reset"
        vm_run 120 "bus_master $SOAK_VICTIM off"
    else
        vm_run 120 "soak_reset $SOAK_VICTIM" || fail "the device isn't reset"
    fi
    soak_books
    soak_work $SOAK_VICTIM
}

# How many devices do DMA without the driver while the spare device has none, in OTHERS.
soak_spare() {
    soak_driven
    OTHERS=0
    if [[ " $SOAK_KINDS " == *" $SOAK_SPARE "* ]]; then
        soak_rest $SOAK_SPARE
        DRIVEN=$((DRIVEN - 1))
    fi
    [ $SOAK_MODULE = loaded ] || OTHERS=$DRIVEN
    expect_untracked $OTHERS
}

# The spare device goes back to its driver, if it has one.
soak_spare_back() {
    expect_untracked $OTHERS
    [[ " $SOAK_KINDS " != *" $SOAK_SPARE "* ]] || soak_work $SOAK_SPARE
}

# A device without driver has its bus-master bit switched on and off.
soak_bus_master() {
    local n page
    soak_spare
    soak_qom_set fallback '"pin-all"'
    for ((n = $1 % 3; n >= 0; n--)); do
        vm_run 120 "bus_master $SOAK_SPARE on"
        expect_untracked $((OTHERS + 1))
        # Any page above the first MiB.
        page=$((256 + $2 % ((SOAK_MIB << 8) - 256)))
        [ $SOAK_SPARE != edu ] || vm_run 120 "edu_read $((page << 12))" ||
            fail "edu doesn't work"
        vm_run 120 "bus_master $SOAK_SPARE off"
        expect_untracked $OTHERS
    done
    soak_spare_back
}

# The same while that is refused.
soak_refuse() {
    local before
    soak_spare
    counter fallback-refused
    before=$VALUE
    soak_qom_set fallback '"refuse"'
    vm_run 120 "bus_master $SOAK_SPARE on"
    expect_untracked $OTHERS
    expect fallback-refused $((before + 1))
    vm_run 120 "bus_master $SOAK_SPARE off"
    soak_qom_set fallback '"pin-all"'
    soak_spare_back
}

# coIOMMU's own function is reset behind its driver's back while devices have their bits
# on: all must be pinned before their mappings are forgotten.  NICs are down, or they
# would ask for more memory on their own.
soak_function_reset() {
    [ $SOAK_MODULE = loaded ] || { soak_rebind "$@"; return; }
    soak_qom_set fallback '"pin-all"'
    soak_driven
    vm_run 300 "load_stop $SOAK_KINDS" || fail "the load has found wrong data"
    vm_run 120 'ip link set "$(nic)" down'
    vm_run 120 'echo 1 >"/sys/bus/pci/devices/$(coiommu_bdf)/reset"' ||
        fail "the function isn't reset"
    expect attached-endpoints 0
    expect_untracked "$DRIVEN"
    vm_run 120 "soak_unbind $SOAK_KINDS" || fail "the drivers don't let go"
    expect_nothing_pinned
    vm_run 120 "rmmod coiommu" || fail "the module stays"
    soak_load
    soak_work
}

# ---- memory and sleep --------------------------------------------------------------------

# A DIMM is plugged in and used; then the guest is asked to give it back, which it may
# refuse.  One that it has kept is asked for first the next time.
soak_memory() {
    [ $SOAK_DIMMS = 0 ] || soak_dimm_out
    if [ $SOAK_DIMMS = 0 ]; then
        soak_dimm_in "$1"
        soak_settled
        [ $(($2 % 4)) = 0 ] || soak_dimm_out
    fi
}

soak_dimm_in() {
    soak_of "$1" movable movable kernel
    SOAK_ZONE=$CHOSEN
    vm_run 120 "mem_online $SOAK_ZONE"
    SOAK_DIMM_ID=$((SOAK_DIMM_ID + 1))
    vm_qmp object-add "{\"qom-type\":\"memory-backend-ram\",\"id\":\"mem$SOAK_DIMM_ID\",
        \"size\":$((SOAK_DIMM_MIB << 20))}" || fail "$VM_ERROR"
    vm_qmp device_add "{\"driver\":\"pc-dimm\",\"id\":\"dimm$SOAK_DIMM_ID\",
        \"memdev\":\"mem$SOAK_DIMM_ID\"}" || fail "$VM_ERROR"
    SOAK_DIMMS=1
    vm_run 120 mem_grown || fail "the guest doesn't find its memory"
}

# The guest answers in time, one way or the other.  The kernel would try for ever to move
# what it has put into its own zone, so that is not asked for.
soak_dimm_out() {
    local end=$((SECONDS + 120))
    [ "$SOAK_ZONE" = movable ] || return 0
    VM_EVENTS=''
    vm_qmp device_del "{\"id\":\"dimm$SOAK_DIMM_ID\"}" || fail "$VM_ERROR"
    while [[ $VM_EVENTS != *'"DEVICE_DELETED"'*"dimm$SOAK_DIMM_ID"* ]]; do
        [[ $VM_EVENTS != *UNPLUG*ERROR* ]] || { echo "the guest keeps it"; return; }
        [ "$SECONDS" -lt "$end" ] || fail "the guest doesn't answer about its DIMM"
        vm_qmp query-status || fail "$VM_ERROR"
        sleep 0.2
    done
    vm_qmp object-del "{\"id\":\"mem$SOAK_DIMM_ID\"}" || fail "$VM_ERROR"
    SOAK_DIMMS=0
}

# As far into sleep as a machine goes that QEMU's -kernel has started: its devices sleep.
soak_sleep() {
    soak_of "$1" devices platform core
    vm_run 300 "sleep_test $CHOSEN" || fail "the guest doesn't sleep"
}
