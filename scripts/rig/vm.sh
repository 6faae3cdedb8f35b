#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Start, measure and talk to one VM on this host.  The host is a real machine
# or the rig's L1: both run this same file.  To be sourced by bash; the caller
# sets
#
#   VM_QEMU    the emulator and its leading arguments (an array)
#   VM_KERNEL  VM_INITRD   what the guest boots (guest-init is its init)
#   VM_LOGS    folder for the serial logs
#
# and may set
#
#   VM_SAMPLED  a command that is called after each look at the pinned memory
#
# A VM has two pairs of FIFOs: one for QMP, one for the guest's serial line, by
# which guest-init takes commands.  Whoever waits for either looks at VmLck
# (kernel VFIO's type1 counts pinned memory there) and VmPin (iommufd does) of
# the QEMU process meanwhile, so that the peak is seen.
#
# After vm_start:
#   VM_PID        the QEMU process
#   VM_READY_US   microseconds from exec to the answer of the first QMP command
#                 with the CPU stopped (-S): all devices are realized by then
#   VM_PINNED     bytes pinned now, VM_PEAK the most seen
#   VM_SAID       what the guest reported: "@rig KEY VALUE" lines
#   VM_SILENT     not empty: the guest has stopped answering; a sentence
#   VM_CRASHED    not empty: QEMU has ended by itself with an error
#
# VMs that fell silent, and didn't end with an error, have a line in VM_LOGS/silent,
# which nobody here removes: TCG does that to them now and then (docs/devel/rig.md).

# KVM guest, nothing in it that wasn't asked for.  The guest's command line
# leaves out what only costs time under emulation.  RCU complains of a stall after five
# minutes, its most, and not after 21 s: a host that stands still is no stall of the guest's.
VM_APPEND="console=ttyS0 panic=-1 quiet loglevel=4 mitigations=off nokaslr
    tsc=reliable no_timer_check rcupdate.rcu_expedited=1 random.trust_cpu=on
    rcupdate.rcu_cpu_stall_timeout=300
    audit=0 apparmor=0 init_on_alloc=0 nowatchdog cryptomgr.notests"

declare -A VM_SAID=()
VM_PID=''

# Microseconds.
vm_now() {
    local t=${EPOCHREALTIME/[.,]/}
    printf -v "$1" '%s' "$t"
}

# ---- pinned memory ----------------------------------------------------------

# Sets VM_PINNED, raises VM_PEAK.  Keeps the last values once the process has
# gone.
vm_sample() {
    local key value sum=0 seen=''
    while read -r key value _; do
        case $key in
        VmLck: | VmPin:) sum=$((sum + value)) seen+=x ;;
        VmHWM:) break ;;
        esac
    done 2>/dev/null <"/proc/$VM_PID/status" || return 0
    [ "$seen" = xx ] || return 0
    VM_PINNED=$((sum * 1024))
    [ "$VM_PINNED" -le "$VM_PEAK" ] || VM_PEAK=$VM_PINNED
    ${VM_SAMPLED:-:}
}

# ---- lines from FIFOs -------------------------------------------------------

# _vm_line FD BUFFER TIMEOUT_US: wait for one line, which goes into VM_LINE.
# BUFFER names a variable that keeps the piece of a line read so far.  Returns
# 1 when the time is up, 2 when QEMU has gone and no line is left.
#
# The wait is for one character, whatever it is.  When the time of `read -t` runs
# out just as a character arrives, bash fails but leaves it in the variable; a
# delimiter, which is not put there, would be lost.
_vm_line() {
    local fd=$1 end now first piece
    local -n partial=$2
    vm_now now
    end=$((now + $3))
    while :; do
        first='' piece=''
        IFS= read -r -N 1 -t 0.05 -u "$fd" first || true
        if [ "$first" = $'\n' ] || { [ -n "$first" ] &&
            IFS= read -r -t 10 -u "$fd" piece; }; then
            VM_LINE=$partial${first%$'\n'}$piece
            VM_LINE=${VM_LINE%$'\r'}
            partial=''
            return 0
        fi
        partial+=$first$piece
        vm_sample
        [ -n "$first" ] || kill -0 "$VM_PID" 2>/dev/null || return 2
        vm_now now
        [ "$now" -lt "$end" ] || return 1
    done
}

# ---- QMP --------------------------------------------------------------------

# vm_qmp COMMAND [ARGUMENTS-JSON]: run a QMP command.  What it returns goes into
# VM_RETURN (JSON), an error's description into VM_ERROR with status 1.  Events
# that come before the answer are added to VM_EVENTS, one a line.
vm_qmp() {
    local command=$1 arguments=${2:-}
    VM_RETURN='' VM_ERROR=''
    printf '{"execute":"%s"%s}\n' "$command" \
        "${arguments:+,\"arguments\":$arguments}" >&"$VM_QMP_IN"
    while _vm_line "$VM_QMP_OUT" VM_QMP_PARTIAL "${VM_QMP_TIMEOUT_US:-120000000}"; do
        case $VM_LINE in
        '{"return":'*)
            VM_RETURN=${VM_LINE#'{"return": '}
            VM_RETURN=${VM_RETURN%\}}
            return 0
            ;;
        '{"error":'*)
            VM_ERROR=$VM_LINE
            return 1
            ;;
        *'"event":'*) VM_EVENTS+=$VM_LINE$'\n' ;;
        esac
    done
    VM_ERROR="no answer to $command"
    return 1
}

# vm_event NAME SECONDS: wait for an event, sent now or since vm_start.
vm_event() {
    local end=$((SECONDS + $2))
    while [[ $VM_EVENTS != *"\"event\": \"$1\""* ]]; do
        [ "$SECONDS" -lt "$end" ] || return 1
        vm_qmp query-status || return 1
        sleep 0.2
    done
}

# vm_get ID PROPERTY: a device's property; the value is in VM_RETURN.
vm_get() {
    vm_qmp qom-get "{\"path\":\"/machine/peripheral/$1\",\"property\":\"$2\"}"
}

# vm_accounts_agree ID BYTES: what coIOMMU's device counts as pinned is what the kernel
# counts, which may have up to BYTES more: VFIO maps ROMs besides.  The two are in
# VM_RETURN and VM_PINNED.  One is read after the other, and the unpin thread may come
# in between, again and again in a guest that is busy on a slow host: so they are read
# until they agree, up to 100 times in 30 s.
vm_accounts_agree() {
    local try more
    for try in {1..100}; do
        [ "$try" = 1 ] || sleep 0.3
        vm_get "$1" pinned-bytes || return 1
        vm_sample
        more=$((VM_PINNED - VM_RETURN))
        [ "$more" -lt 0 ] || [ "$more" -gt "$2" ] || return 0
    done
    return 1
}

# ---- start and end ----------------------------------------------------------

# vm_start NAME MEM ARGUMENTS...: start QEMU with its CPU stopped.  Returns 1
# if it doesn't come up; what it said is in $VM_LOGS/NAME.qemu.
vm_start() {
    local name=$1 mem=$2 begin end
    shift 2
    VM_NAME=$name
    VM_DIR=$(mktemp -d) || return
    mkdir -p "$VM_LOGS"
    mkfifo "$VM_DIR"/{qmp,serial}.{in,out}
    # Both ways, so that neither end waits for the other to open.
    exec {VM_QMP_IN}<>"$VM_DIR/qmp.in" {VM_QMP_OUT}<>"$VM_DIR/qmp.out" \
        {VM_SERIAL_IN}<>"$VM_DIR/serial.in" {VM_SERIAL_OUT}<>"$VM_DIR/serial.out"
    VM_QMP_PARTIAL='' VM_SERIAL_PARTIAL='' VM_EVENTS='' VM_SILENT='' VM_SAID=() VM_CRASHED=''
    VM_PINNED=0 VM_PEAK=0
    : >"$VM_LOGS/$name.serial"

    vm_now begin
    "${VM_QEMU[@]}" -M q35 -accel kvm -cpu host -smp 1 -m "$mem" -S \
        -nodefaults -no-user-config -no-reboot -display none -boot strict=on \
        -chardev pipe,id=qmp,path="$VM_DIR/qmp" -mon chardev=qmp,mode=control \
        -chardev pipe,id=serial,path="$VM_DIR/serial" -serial chardev:serial \
        -kernel "$VM_KERNEL" -initrd "$VM_INITRD" \
        -append "${VM_APPEND//$'\n'/ }" "$@" \
        </dev/null >"$VM_LOGS/$name.qemu" 2>&1 &
    VM_PID=$!
    if ! { vm_qmp qmp_capabilities && vm_qmp query-status; }; then
        _vm_stacks
        if kill -0 "$VM_PID" 2>/dev/null; then
            _vm_silent "QEMU doesn't answer"
        else
            VM_CRASHED=yes
        fi
        vm_kill
        return 1
    fi
    vm_now end
    VM_READY_US=$((end - begin)) VM_STARTED_US=$begin
    vm_sample
}

# Where the threads of a QEMU are that doesn't answer, for whoever has to find
# out why.
_vm_stacks() {
    local task
    for task in "/proc/$VM_PID/task"/*; do
        [ -e "$task/comm" ] || continue
        cat "$task/comm" "$task/syscall" "$task/stack" 2>/dev/null
    done >"$VM_LOGS/$VM_NAME.stacks" || true
}

# _vm_silent WHY
_vm_silent() {
    VM_SILENT=$1
    echo "$VM_NAME: $1" >>"$VM_LOGS/silent"
}

# The end of it, whatever state it is in.
vm_kill() {
    [ -n "$VM_PID" ] || return 0
    kill -9 "$VM_PID" 2>/dev/null || true
    _vm_reap
}

_vm_reap() {
    VM_STATUS=0
    wait "$VM_PID" 2>/dev/null || VM_STATUS=$?
    VM_PID=''
    exec {VM_QMP_IN}>&- {VM_QMP_OUT}>&- {VM_SERIAL_IN}>&- {VM_SERIAL_OUT}>&-
    rm -rf "$VM_DIR"
}

# vm_end SECONDS WHY: wait for QEMU's end; 1 if it had to be killed or ended with an
# error.
vm_end() {
    local end=$((SECONDS + $1))
    while kill -0 "$VM_PID" 2>/dev/null; do
        if [ "$SECONDS" -ge "$end" ]; then
            echo "QEMU doesn't end after $2: killed"
            vm_kill
            return 1
        fi
        sleep 0.05
    done
    _vm_reap
    [ "$VM_STATUS" -eq 0 ]
}

# vm_quit [SECONDS]: end QEMU by QMP; 1 if it had to be killed or ended with an
# error.
vm_quit() {
    vm_qmp quit || true
    vm_end "${1:-120}" "'quit'"
}

# ---- the guest --------------------------------------------------------------

# A line for the VM's log, with the seconds since QEMU's start.
_vm_log() {
    local now
    vm_now now
    now=$(((now - VM_STARTED_US) / 10000))
    printf '[%4d.%02d] %s\n' $((now / 100)) $((now % 100)) "$1" \
        >>"$VM_LOGS/$VM_NAME.serial"
}

# vm_wait KEY SECONDS: read the guest's serial line until it reports KEY, whose
# value is then in VM_SAID.
vm_wait() {
    local now end
    vm_now now
    end=$((now + $2 * 1000000))
    while _vm_line "$VM_SERIAL_OUT" VM_SERIAL_PARTIAL $((end - now)); do
        _vm_log "$VM_LINE"
        if [[ $VM_LINE =~ @rig\ ([a-z_]+)\ (.*) ]]; then
            VM_SAID[${BASH_REMATCH[1]}]=${BASH_REMATCH[2]}
            [ "${BASH_REMATCH[1]}" != "$1" ] || return 0
        fi
        vm_now now
    done
    if kill -0 "$VM_PID" 2>/dev/null; then
        _vm_silent "the guest didn't report '$1' in $2 s"
    elif wait "$VM_PID"; then
        # That is the end of a guest that has panicked.
        _vm_silent "QEMU ended before the guest reported '$1'"
    else
        VM_SILENT="QEMU ended with status $? before the guest reported '$1'" VM_CRASHED=yes
    fi
    echo "$VM_NAME: $VM_SILENT; the end of the guest's log:"
    tail -n 5 "$VM_LOGS/$VM_NAME.serial"
    # Where its CPU is, for whoever has to find out why.
    vm_qmp human-monitor-command '{"command-line":"info registers"}' &&
        printf '%b\n' "$VM_RETURN" >"$VM_LOGS/$VM_NAME.registers"
    return 1
}

# vm_boot [SECONDS]: let the CPU run until guest-init takes commands.
vm_boot() {
    vm_qmp cont && vm_wait booted "${1:-90}"
}

# vm_up NAME MEM ARGUMENTS...: vm_start and vm_boot; VM_ERROR says what failed.
vm_up() {
    vm_start "$@" || return 1
    vm_boot 240 && return 0
    VM_ERROR="the guest doesn't boot"
    return 1
}

# vm_send TEXT: a line for the guest, no answer awaited.
vm_send() {
    printf '%s\n' "$1" >&"$VM_SERIAL_IN"
}

# vm_run SECONDS COMMAND: have the guest run a shell command; its status, or 1
# when the time is up.
vm_run() {
    _vm_log ">>> $2"
    vm_send "$2"
    vm_wait end "$1" || return 1
    return "${VM_SAID[end]}"
}

# vm_shell TERMINAL: hand the guest's serial line to the user until QEMU ends.
#
# With dd, not cat: busybox's cat uses sendfile(), and the kernel holds the lock of
# the FIFO while that waits for the terminal, so that QEMU can't read it.
vm_shell() {
    local saved in out
    saved=$(stty -g <"$1")
    vm_send "stty sane </dev/console; exec setsid cttyhack sh -c 'sh; poweroff -f'"
    stty raw -echo <"$1"
    dd bs=4k status=none <"$1" >&"$VM_SERIAL_IN" &
    in=$!
    dd bs=4k status=none <&"$VM_SERIAL_OUT" >"$1" &
    out=$!
    while kill -0 "$VM_PID" 2>/dev/null; do sleep 0.2; done
    kill "$in" "$out" 2>/dev/null || true
    wait "$in" "$out" 2>/dev/null || true
    stty "$saved" <"$1"
    _vm_reap
}
