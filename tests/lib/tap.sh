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
    local name=$1 log start rc reason
    shift
    log=$tap_logs/$name.log
    tap_count=$((tap_count + 1))
    if ! tap_asked "$name"; then
        printf 'ok %d - %s # SKIP not asked for\n' "$tap_count" "$name"
        return 0
    fi
    start=$SECONDS
    # Not `( ... ) || rc=$?`: that would switch `set -e` off inside.
    set +e
    (
        set -e
        "$@"
    ) >"$log" 2>&1 </dev/null
    rc=$?
    set -e
    case $rc in
    0)
        printf 'ok %d - %s (%d s)\n' "$tap_count" "$name" $((SECONDS - start))
        ;;
    77)
        reason=$(tail -n 1 "$log")
        printf 'ok %d - %s # SKIP %s\n' "$tap_count" "$name" "$reason"
        ;;
    *)
        tap_failed=$((tap_failed + 1))
        printf 'not ok %d - %s (%d s)\n' "$tap_count" "$name" $((SECONDS - start))
        printf '# exit status %d, log %s\n' "$rc" "$log"
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
