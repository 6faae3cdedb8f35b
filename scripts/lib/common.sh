# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# What every script of the project shares: where things are, how progress is
# told, and how a script knows that a step has been done already.
#
# To be sourced, from any working directory, after `set -euo pipefail`:
#
#     . "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/lib/common.sh"
#
# It exports
#   COIOMMU_TOP    the checkout,
#   COIOMMU_BUILD  the folder for everything made or downloaded (default:
#                  build/ in the checkout; two checkouts may share one),
#   COIOMMU_LOGS   the logs of the steps, below it.
#
# Progress goes to stderr, so that stdout stays free for a script's result.

if [ -n "${COIOMMU_COMMON_SH:-}" ]; then
    return 0
fi
COIOMMU_COMMON_SH=1

COIOMMU_TOP=$(readlink -f "$(dirname "${BASH_SOURCE[0]}")/../..")
COIOMMU_BUILD=$(readlink -m "${COIOMMU_BUILD:-$COIOMMU_TOP/build}")
COIOMMU_LOGS=$COIOMMU_BUILD/logs
export COIOMMU_TOP COIOMMU_BUILD COIOMMU_LOGS

# Seconds are counted from the start of the outermost script.
export COIOMMU_STARTED="${COIOMMU_STARTED:-$(date +%s)}"

mkdir -p "$COIOMMU_LOGS"

# say TEXT: one line of progress, with the seconds since the start.
say() {
    printf '[%4ds] %s\n' "$(($(date +%s) - COIOMMU_STARTED))" "$*" >&2
}

# die TEXT: one sentence that says what is wrong and what to do; exit 1.
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# step NAME CMD...: run CMD (a program or a shell function) with its output in
# $COIOMMU_LOGS/NAME.log.  A line at the start and one at the end, with the
# duration, go to the user.  When CMD fails, the log's end and its path are
# shown, and its status is returned: `set -e` then ends the script, unless the
# caller looks at the status itself.
#
# CMD runs in a subshell under `set -e`.  As everywhere in bash, that is off
# where step's own status is looked at (`if step ...`, `step ... ||`): a shell
# function as CMD must check each command itself if it is called in that way.
step() {
    local name=$1 log=$COIOMMU_LOGS/$1.log begin pid rc=0
    shift
    begin=$(date +%s)
    mkdir -p "$(dirname "$log")"
    say "$name ..."
    ( set -e; "$@" ) >"$log" 2>&1 </dev/null &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        _step_pulse "$pid" "$name" "$begin" "$log"
    done
    wait "$pid" || rc=$?
    if [ "$rc" -ne 0 ]; then
        say "$name: FAILED (status $rc), the end of $log:"
        tail -n 20 "$log" | sed 's/^/    | /' >&2
        return "$rc"
    fi
    say "$name: done in $(($(date +%s) - begin)) s"
}

# Wait up to a minute for PID; then tell the user that the step is alive, with
# the last line of its log.
_step_pulse() {
    local pid=$1 name=$2 begin=$3 log=$4 ticks=0
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.2
        ticks=$((ticks + 1))
        if [ "$ticks" -ge 300 ]; then
            say "$name: running for $(($(date +%s) - begin)) s:" \
                "$(tail -n 1 "$log" | tr -d '\r' | cut -c1-80)"
            return
        fi
    done
}

# Stamps: FILE records the KEY (any one-line text: versions, checksums) that a
# step was done for.  stamp_ok is true if the step needn't be done again.
stamp_ok() {
    [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]
}

stamp_set() {
    mkdir -p "$(dirname "$1")"
    printf '%s\n' "$2" >"$1.new"
    mv "$1.new" "$1"
}

# checksum FILE...: one checksum over names and contents, for stamp keys.
checksum() {
    sha256sum "$@" | sed "s|  $COIOMMU_TOP/|  |" | sha256sum | cut -c1-32
}

# locked NAME CMD...: run CMD while no other process of the project runs one
# under the same NAME (two scripts may share one build folder).
locked() {
    local name=$1
    shift
    mkdir -p "$COIOMMU_BUILD/locks"
    (
        flock -n 9 || {
            say "another run has the lock '$name': waiting for its end"
            flock 9
        }
        "$@"
    ) 9>"$COIOMMU_BUILD/locks/$name"
}
