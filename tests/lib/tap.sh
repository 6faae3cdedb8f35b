# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# TAP for test levels written in shell, with what scripts/lib has for them; $here is
# the folder of the level.
#
#   . "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../lib/tap.sh"
#   tap_level system          # logs go to $COIOMMU_LOGS/system/
#   tap_test reboot  "a guest reboots"          test_reboot
#   tap_test refusal "a device that is refused" test_refusal "vfio first"
#   tap_run get_ready
#
# A test is a command or a shell function.  It passes by returning 0, skips by
# returning 77 with the reason as the last line that it printed, and fails by
# anything else.  It runs in a subshell with `set -e`, so that it can neither
# change the runner's state nor go on after a failed command; $tap_name is its name.
# TAP_ONLY, a space-separated list of names, picks tests; a name's beginning up to a
# dash picks all of that, such as those on several kernels, NAME-6.1 and so on.
#
# With TAP_LIST set tap_run prints the tests, and what each shows, and ends the
# script.  So nothing may be installed, built or asked of the network before
# tap_run: that is for the function that it gets, get_ready.
#
# Tests run side by side.  Each holds a *slot* while it runs, as does get_ready.
# There are as many as CPUs, for all levels that use this build folder together
# (tests/lib/slots.py has them for Python).

here=$(dirname "$(readlink -f "${BASH_SOURCE[1]}")")
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../../scripts/lib/common.sh"
for lib in packages apt kernels kernel-source initramfs qemu; do
    . "$COIOMMU_TOP/scripts/lib/$lib.sh"
done

# Where Python finds tests/lib/*.py, and tsc.py.
export PYTHONPATH=$COIOMMU_TOP/tests/lib:$COIOMMU_TOP/scripts/lib PYTHONDONTWRITEBYTECODE=1

tap_names=()
declare -A tap_shows tap_command tap_kind
tap_slots=$(nproc)
# A level may change how many of its tests run at once.
tap_jobs=$tap_slots

# tap_level NAME: where the logs of this level go.
tap_level() {
    tap_logs=$COIOMMU_LOGS/$1
    mkdir -p "$tap_logs"
}

# tap_test NAME SHOWS CMD...: a test of this level, and what it shows.
tap_test() {
    tap_names+=("$1")
    tap_shows[$1]=$2
    printf -v "tap_command[$1]" '%q ' "${@:3}"
    tap_kind[$1]=slot
}

# tap_free NAME SHOWS CMD...: a test that asks for its slot itself, as it waits for
# something else first; or that needs none, as it only waits.
tap_free() {
    tap_test "$@"
    tap_kind[$1]=free
}

# tap_beside NAME SHOWS CMD...: such a test of which the tests that follow are parts: its
# line comes last.
tap_beside() {
    tap_test "$@"
    tap_kind[$1]=beside
}

# tap_extra NAME SHOWS CMD...: a test that runs only when it is named.
tap_extra() {
    tap_test "$1" "(by name) $2" "${@:3}"
    tap_named "$1" || [ -n "${TAP_LIST-}" ] || unset "tap_names[-1]"
}

# tap_named NAME: has --only named it?
tap_named() {
    [[ " ${TAP_ONLY-} " == *" $1 "* ]]
}

# tap_asked NAME: does the test run?
tap_asked() {
    local only
    [ -n "${TAP_ONLY-}" ] || return 0
    for only in $TAP_ONLY; do
        [[ $1 != "$only" && $1 != "$only"-* ]] || return 0
    done
    return 1
}

# tap_slot: wait for a slot; it is this process's until that ends.  The lock "turn"
# has those that wait take turns.
tap_slot() {
    local n turn
    mkdir -p "$COIOMMU_BUILD/locks"
    exec {turn}>"$COIOMMU_BUILD/locks/turn"
    flock "$turn"
    while :; do
        for ((n = 0; n < tap_slots; n++)); do
            exec {tap_fd}>"$COIOMMU_BUILD/locks/slot.$n"
            if flock -n "$tap_fd"; then
                exec {turn}>&-
                return 0
            fi
            exec {tap_fd}>&-
        done
        sleep 0.1
    done
}

# tap_run [FUNCTION]: the tests that were asked for, after FUNCTION; their lines
# come in the order of tap_test.  Returns the level's status.
tap_run() {
    local name
    local -A tap_pid=()
    local tap_lines=() late=()
    tap_asked=() tap_printed=0 tap_failed=0
    for name in "${tap_names[@]}"; do
        [ -z "${TAP_LIST-}" ] || printf '%s\t%s\n' "$name" "${tap_shows[$name]}"
        tap_asked "$name" || continue
        tap_asked+=("$name")
        if [ "${tap_kind[$name]}" = beside ]; then late+=("$name"); else tap_lines+=("$name"); fi
    done
    [ -z "${TAP_LIST-}" ] || exit 0
    tap_lines+=("${late[@]}")
    printf '1..%d\n' ${#tap_asked[@]}
    [ ${#tap_asked[@]} -gt 0 ] || return 0
    trap _tap_kill EXIT
    if [ $# -gt 0 ]; then
        tap_slot
        "$@"
        exec {tap_fd}>&-
    fi
    for name in "${tap_asked[@]}"; do
        rm -f "$tap_logs/$name.status"
    done
    for name in "${tap_asked[@]}"; do
        _tap_wait "$tap_jobs"
        # In a process group of its own, which ends with this script.
        set -m
        _tap_test "$name" &
        set +m
        tap_pid[$name]=$!
    done
    _tap_wait 1
    trap - EXIT
    [ "$tap_failed" -eq 0 ]
}

# tap_ended NAME: has this test ended?
tap_ended() {
    [ -e "$tap_logs/$1.status" ]
}

_tap_kill() {
    local pid
    for pid in $(jobs -p); do
        kill -- "-$pid" 2>/dev/null || true
    done
}

# One test, whose status and seconds go to a file.
_tap_test() {
    local rc start
    tap_name=$1
    trap - EXIT
    [ "${tap_kind[$1]}" != slot ] || tap_slot
    start=$SECONDS
    # Not `( ... ) || rc=$?`: that would switch `set -e` off inside.
    set +e
    (
        set -e
        eval "${tap_command[$1]}"
    ) >"$tap_logs/$1.log" 2>&1 </dev/null
    rc=$?
    echo "$rc $((SECONDS - start))" >"$tap_logs/$1.status.new"
    mv "$tap_logs/$1.status.new" "$tap_logs/$1.status"
}

# _tap_wait N: until fewer than N tests run.
_tap_wait() {
    _tap_print
    while [ "$(jobs -rp | wc -l)" -ge "$1" ]; do
        wait -n || true
        _tap_print
    done
}

# The lines of the tests that have ended, as long as no earlier one runs.
_tap_print() {
    local name
    while name=${tap_lines[tap_printed]-} && [ -n "$name" ] &&
        [ -n "${tap_pid[$name]-}" ] && ! kill -0 "${tap_pid[$name]}" 2>/dev/null; do
        tap_printed=$((tap_printed + 1))
        _tap_line $tap_printed "$name"
    done
}

# The line of a test that has ended: its number and name.
_tap_line() {
    local log=$tap_logs/$2.log rc=died seconds=0
    ! tap_ended "$2" || read -r rc seconds <"$tap_logs/$2.status"
    case $rc in
    0) printf 'ok %d - %s (%d s)\n' "$1" "$2" "$seconds" ;;
    77) printf 'ok %d - %s # SKIP %s\n' "$1" "$2" "$(tail -n 1 "$log")" ;;
    *)
        tap_failed=$((tap_failed + 1))
        printf 'not ok %d - %s (%d s)\n' "$1" "$2" "$seconds"
        printf '# exit status %s, log %s\n' "$rc" "$log"
        tail -n 8 "$log" | sed 's/^/# | /'
        ;;
    esac
    [ "$(type -t tap_remarks)" != function ] || tap_remarks "$2"
}

# tap_skip REASON: inside a test, end it as skipped.
tap_skip() {
    printf '%s\n' "$*"
    exit 77
}
