#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# From the lines that scripts/rig/rows.sh made to a table, JSON, and a verdict.
# To be sourced by bash.  A row is one line of "key=value" words; "-" is "not
# applicable".

# How much longer than the smallest VM the largest may take to be ready.
REPORT_FLAT=1.15
# How much longer than an assignment to a VM so small that pinning it costs
# next to nothing (static at 128 MiB).
REPORT_OWN_COST=1.25
# Share of a VM's memory that coIOMMU may have pinned at most, and the smallest
# VM that this is asked of: what a device needs doesn't shrink with the VM.
REPORT_SHARE=0.05
REPORT_SHARE_MIN=$((4 << 30))

# row_get ROW KEY
row_get() {
    [[ " $1 " =~ \ $2=([^ ]*)\  ]] && echo "${BASH_REMATCH[1]}"
}

# report_row FILE MODE BYTES: that row, or nothing.
report_row() {
    grep -m1 "^mode=$2 mem=$3 " "$1" || true
}

# is EXPRESSION: true if awk finds it so.
is() {
    awk "BEGIN { exit !($1) }"
}

# _report_ratio ROW ROW: the first's ready time over the second's.
_report_ratio() {
    _report_divide "$(row_get "$1" ready_us)" "$(row_get "$2" ready_us)"
}

# The same of their shortest starts.
_report_shortest_ratio() {
    _report_divide "$(_report_shortest "$1")" "$(_report_shortest "$2")"
}

_report_divide() {
    awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'
}

# A row's shortest start, of those there are.
_report_shortest() {
    { row_get "$1" starts || row_get "$1" ready_us; } | tr , '\n' | sort -n | sed -n 1p
}

# _report_over ROW ROW LIMIT: the ratio, if the first takes so many times longer than the
# second by their medians and by their shortest starts: other work of the machine only
# adds to a time.
_report_over() {
    is "$(_report_ratio "$1" "$2") <= $3" || is "$(_report_shortest_ratio "$1" "$2") <= $3" ||
        _report_ratio "$1" "$2"
}

# The middle one of "1,2,3"; of an even number, the lower of the two.
_report_median() {
    tr , '\n' <<<"$1" | sed '/^$/d' | sort -n | awk '{ v[NR] = $1 }
        END { if (NR) print v[int((NR + 1) / 2)]; else print "-" }'
}

# report_join READY ROWS...: the lines of rows.sh's two parts made one, on stdout,
# in the order of READY.
report_join() {
    local ready=$1 start row
    shift
    while IFS= read -r start; do
        # No pipe into a grep that stops early: what feeds it would die of SIGPIPE.
        row=$(grep -h -m1 "^${start% starts=*} " "$@") || continue
        echo "${row%%$'\n'*} ready_us=$(_report_median "$(row_get "$start" starts)")" \
            "starts=$(row_get "$start" starts)"
    done <"$ready"
}

# ---- table ------------------------------------------------------------------

report_table() {
    awk '
        function get(key,   i) {
            for (i = 1; i <= NF; i++)
                if (index($i, key "=") == 1) return substr($i, length(key) + 2)
        }
        function mib(bytes) { return sprintf("%.1f", bytes / 1048576) }
        function seconds(cs) { return cs == "-" ? cs : sprintf("%.2f", cs / 100) }
        function verdict(ok) { return ok == "-" ? ok : ok ? "ok" : "BAD" }
        BEGIN {
            format = "%-8s %8s %8s %12s %8s %12s %9s %8s %5s %5s %7s\n"
            printf format, "mode", "memory", "ready", "peak pinned", "of VM", "final pinned",
                "demand", "I/O", "disk", "net", "IOMMU"
            printf format, "", "MiB", "s", "MiB", "%", "MiB", "pins", "s", "", "", "faults"
        }
        {
            printf format, get("mode"), get("mem") / 1048576,
                sprintf("%.2f", get("ready_us") / 1e6), mib(get("peak")),
                sprintf("%.1f", 100 * get("peak") / get("mem")), mib(get("final")),
                get("demand"), seconds(get("io_cs")), verdict(get("nvme")),
                verdict(get("net")), get("faults")
        }' "$1"
}

# ---- JSON -------------------------------------------------------------------

report_json() {
    awk '
        function get(key,   i) {
            for (i = 1; i <= NF; i++)
                if (index($i, key "=") == 1) return substr($i, length(key) + 2)
        }
        function number(key) { return get(key) == "-" ? "null" : get(key) }
        function truth(key) { return get(key) == "-" ? "null" : get(key) ? "true" : "false" }
        BEGIN { printf "[" }
        {
            printf "%s\n  {\"mode\": \"%s\", \"vm_mem_bytes\": %s, \"ready_s\": %.6f,", \
                (NR > 1 ? "," : ""), get("mode"), get("mem"), get("ready_us") / 1e6
            printf " \"peak_pinned_bytes\": %s, \"final_pinned_bytes\": %s, \"demand_pins\": %s,", \
                number("peak"), number("final"), number("demand")
            printf " \"nvme_ok\": %s, \"net_ok\": %s, \"iommu_faults\": %s}", \
                truth("nvme"), truth("net"), number("faults")
        }
        END { print "\n]" }' "$1"
}

# ---- verdict ----------------------------------------------------------------

# What one row must show by itself.
_report_check_row() {
    local row=$1 mode mem peak name
    mode=$(row_get "$row" mode)
    mem=$(row_get "$row" mem)
    peak=$(row_get "$row" peak)
    name="$mode $((mem >> 20)) MiB"
    [ "$(row_get "$row" nvme)" != 0 ] || echo "$name: the disk test failed"
    [ "$(row_get "$row" net)" != 0 ] || echo "$name: the network test failed"
    [ "$(row_get "$row" faults)" = 0 ] ||
        echo "$name: the host's log shows $(row_get "$row" faults) IOMMU faults"
    case $mode in
    none)
        [ "$peak" = 0 ] || echo "$name: $peak bytes are pinned without a device"
        ;;
    static)
        [ "$peak" -ge "$mem" ] || echo "$name: only $peak bytes were pinned"
        ;;
    coiommu)
        [ "$mem" -lt "$REPORT_SHARE_MIN" ] || is "$peak < $REPORT_SHARE * $mem" ||
            echo "$name: $peak bytes were pinned at the peak, over $REPORT_SHARE of the VM"
        [ "$peak" -gt 0 ] && [ "$(row_get "$row" demand)" -gt 0 ] ||
            echo "$name: nothing was pinned on demand: is the device tracked at all?"
        ;;
    esac
}

# Ready times against each other.  $2: the sizes in bytes, ascending.
_report_check_ready() {
    local file=$1 small large own ratio
    small=$(report_row "$file" coiommu "${2%% *}")
    large=$(report_row "$file" coiommu "${2##* }")
    own=$(report_row "$file" static $((128 << 20)))
    [ -n "$small" ] && [ -n "$large" ] && [ -n "$own" ] || return 0
    ratio=$(_report_over "$large" "$small" $REPORT_FLAT)
    [ -z "$ratio" ] ||
        echo "coIOMMU's ready time isn't flat: $ratio times from the smallest to the largest VM"
    ratio=$(_report_over "$large" "$own" $REPORT_OWN_COST)
    [ -z "$ratio" ] ||
        echo "coIOMMU's ready time is $ratio times the assignment's own cost"
}

# report_check FILE SIZES [yes|no]: a line on stdout for each thing that is off;
# SIZES are the bytes that were asked for, ascending.  With "no" ready times are
# not judged.
report_check() {
    local file=$1 sizes=$2 judge_times=${3:-yes} size mode row
    [ -n "$(report_row "$file" none $((128 << 20)))" ] || echo "the row none is missing"
    [ -n "$(report_row "$file" static $((128 << 20)))" ] || echo "the row static 128 MiB is missing"
    for size in $sizes; do
        for mode in static coiommu; do
            [ -n "$(report_row "$file" "$mode" "$size")" ] ||
                echo "the row $mode $((size >> 20)) MiB is missing"
        done
    done
    while IFS= read -r row; do
        _report_check_row "$row"
    done <"$file"
    [ "$judge_times" = no ] || _report_check_ready "$file" "$sizes"
}

# report_notes FILE SIZES: what the table says about coIOMMU, in a few lines.
report_notes() {
    local file=$1 small large own static
    small=$(report_row "$file" coiommu "${2%% *}")
    large=$(report_row "$file" coiommu "${2##* }")
    static=$(report_row "$file" static "${2##* }")
    own=$(report_row "$file" static $((128 << 20)))
    [ -n "$small" ] && [ -n "$large" ] && [ -n "$own" ] && [ -n "$static" ] || return 0
    echo "Ready: coIOMMU's largest VM takes $(_report_ratio "$large" "$small") times as long as its" \
        "smallest, $(_report_ratio "$large" "$own") times"
    echo "an assignment with next to nothing to pin (static, 128 MiB), and static pinning" \
        "$(_report_ratio "$static" "$large") times as long as it."
}
