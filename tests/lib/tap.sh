# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# TAP for test levels written in shell.
#
#   . "$COIOMMU_TOP/tests/lib/tap.sh"
#   tap_level system          # logs go to $COIOMMU_LOGS/system/
#   tap_plan 2
#   tap_run reboot  test_reboot
#   tap_run refusal test_refusal "vfio first"
#   tap_done
#
# A test is a command or a shell function.  It passes by returning 0, skips by
# returning 77 with the reason as the last line that it printed, and fails by
# anything else.  It runs in a subshell with `set -e`, so that it can neither
# change the runner's state nor go on after a failed command.  TAP_ONLY, a
# space-separated list of names, picks tests; the others count as skipped.  Of a
# test that runs on several kernels, NAME-KVER, the name alone picks all.
#
# One test may run beside others, which are parts of it: between tap_start and
# tap_join come their tap_run.

tap_count=0
tap_failed=0
tap_logs=

# tap_level NAME: where the logs of this level go.
tap_level() {
    tap_logs=$COIOMMU_LOGS/$1
    mkdir -p "$tap_logs"
}

# tap_plan N: how many tests will run.
tap_plan() {
    tap_planned=$1
    printf '1..%d\n' "$1"
}

# tap_asked NAME: does the test run?
tap_asked() {
    local only
    [ -n "${TAP_ONLY-}" ] || return 0
    for only in $TAP_ONLY; do
        [[ $1 != "$only" && $1 != "$only"-[0-9]* ]] || return 0
    done
    return 1
}

# tap_run NAME CMD...: run one test and print its line.
tap_run() {
    local name=$1 start=$SECONDS rc
    shift
    tap_asked "$name" || { _tap_not_asked "$name"; return 0; }
    # Not `( ... ) || rc=$?`: that would switch `set -e` off inside.
    set +e
    (
        set -e
        "$@"
    ) >"$tap_logs/$name.log" 2>&1 </dev/null
    rc=$?
    set -e
    _tap_line "$name" "$rc" $((SECONDS - start))
}

# tap_start NAME CMD...: let one test run in the background; its line comes from
# tap_join.  If this script ends before that, so does the test.
tap_start() {
    tap_started=$1
    tap_start_seconds=$SECONDS
    tap_pid=
    tap_asked "$1" || return 0
    (
        set -e
        "${@:2}"
    ) >"$tap_logs/$1.log" 2>&1 </dev/null &
    tap_pid=$!
    trap 'kill "$tap_pid" 2>/dev/null || true' EXIT
}

# tap_goes_on: does the test of tap_start still run?
tap_goes_on() {
    [ -n "$tap_pid" ] && kill -0 "$tap_pid" 2>/dev/null
}

# tap_join: wait for the test of tap_start and print its line.
tap_join() {
    local rc=0
    [ -n "$tap_pid" ] || { _tap_not_asked "$tap_started"; return 0; }
    wait "$tap_pid" || rc=$?
    trap - EXIT
    _tap_line "$tap_started" "$rc" $((SECONDS - tap_start_seconds))
}

_tap_not_asked() {
    tap_count=$((tap_count + 1))
    printf 'ok %d - %s # SKIP not asked for\n' "$tap_count" "$1"
}

# The line of a test that has ended: its name, status and seconds.
_tap_line() {
    local log=$tap_logs/$1.log
    tap_count=$((tap_count + 1))
    case $2 in
    0)
        printf 'ok %d - %s (%d s)\n' "$tap_count" "$1" "$3"
        ;;
    77)
        printf 'ok %d - %s # SKIP %s\n' "$tap_count" "$1" "$(tail -n 1 "$log")"
        ;;
    *)
        tap_failed=$((tap_failed + 1))
        printf 'not ok %d - %s (%d s)\n' "$tap_count" "$1" "$3"
        printf '# exit status %d, log %s\n' "$2" "$log"
        tail -n 8 "$log" | sed 's/^/# | /'
        ;;
    esac
}

# tap_skip REASON: inside a test, end it as skipped.
tap_skip() {
    printf '%s\n' "$*"
    exit 77
}

# tap_done: the level's exit status.
tap_done() {
    if [ "$tap_count" -ne "$tap_planned" ]; then
        printf '# planned %d tests, ran %d\n' "$tap_planned" "$tap_count"
        exit 1
    fi
    [ "$tap_failed" -eq 0 ]
}
