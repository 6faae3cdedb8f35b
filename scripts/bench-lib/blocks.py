# SPDX-License-Identifier: GPL-2.0-or-later
"""Units and blocks of different sizes, on huge pages and on 4 KiB pages.

The same load for each: direct and buffered random reads and TCP ping-pong, all
at once, in a VM of its own.  The devices are emulated, so no call to VFIO takes
time: how many there would be, one for each block that is pinned or unpinned, is
counted, and what the guest pays is its exits.
"""

import ctypes
import time

from demand_pins import per_1000
from loadvm import LoadVm
from sockperf import Sockperf

MIB = 1 << 20
DEFAULT = ("64K", "2M")
SIZES = [(unit, block) for unit in ("4K", "64K")
         for block in ("64K", "512K", "2M")]
LOADS = ("fio-direct", "fio-buffered", "tcp-rr")
PR_SET_THP_DISABLE = 41


def huge_pages(allowed):
    """Whether QEMUs that are started from now on may have huge pages."""
    ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, int(not allowed), 0, 0, 0)


def huge_mib(pid):
    """MiB of the process's memory, mostly the guest's, in huge pages."""
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        return sum(int(line.split()[1]) for line in lines
                   if line.startswith("AnonHugePages:")) // 1024


def measure(bench, sockperf, coiommu, plan):
    """All loads at once on a device with these properties: what came of it."""
    warm, seconds = plan
    with LoadVm(bench, sockperf, coiommu=coiommu) as vm:
        for name in LOADS:
            vm.start_load(name, warm + seconds + 10)
        time.sleep(warm)
        before = vm.sample()
        end = before["at"] + seconds
        pinned = [before["pinned_bytes"]]
        while time.monotonic() < end:
            time.sleep(min(0.5, max(0, end - time.monotonic())))
            pinned.append(vm.counter("pinned-bytes"))
        after = vm.sample()
        rates = [vm.end_load(name) for name in LOADS]
        vm.check_clean()
        maps = after["maps"] - before["maps"]
        exits = after["requests"] - before["requests"]
        calls = sum(after[name] - before[name] for name in
                    ("demand_pin_blocks", "unpinned_blocks"))
        return {
            "huge_mib": huge_mib(vm.process.pid),
            "pinned_peak_mib": round(
                vm.counter("pinned-bytes-peak") / MIB, 1),
            "pinned_mean_mib": round(sum(pinned) / len(pinned) / MIB, 1),
            "mapped_blocks_mib": round(
                vm.busy_blocks() * vm.block_bytes / MIB, 1),
            "maps": maps, "exits": exits, "calls": calls,
            "ahead_pins": vm.counter("ahead-pins"),
            "ahead_used": vm.counter("ahead-used"),
            "ahead_unused": vm.counter("ahead-unused"),
            "escape_blocks": vm.counter("escape-blocks"),
            "exits_per_1000": per_1000(exits, maps),
            "calls_per_1000": per_1000(calls, maps),
            "maps_per_s": round(maps / (after["at"] - before["at"])),
            "direct_iops": round(rates[0]), "buffered_iops": round(rates[1]),
            "tcp_rr": round(rates[2]),
        }


def run(bench):
    plan = (2, 3) if bench.quick else (10, 15)
    pages = ("huge", "4K")
    configs = [(*sizes, kind) for kind in pages for sizes in SIZES]
    if bench.quick:
        configs = [("4K", "64K", "4K")]
    # The default comes first and last: the difference is the noise.
    configs = [(*DEFAULT, "huge"), *configs, (*DEFAULT, "huge")]
    bench.fact("accelerator", "tcg,thread=multi, 2 vCPUs, 1 GiB")
    rows = []
    with Sockperf(bench.log) as sockperf:
        for number, config in enumerate(configs, 1):
            unit, block, pages = config
            bench.step(f"{number} of {len(configs)}: unit {unit}, "
                       f"block {block}, {pages} pages")
            huge_pages(pages == "huge")
            rows.append({
                "unit": unit, "block": block, "pages": pages,
                **measure(bench, sockperf, f"ahead=0,unit={unit},block={block}",
                          plan)})
    write(bench, "blocks", rows)


def write(bench, table, rows):
    """The rows, with rates relative to the first and the last row's mean."""
    for cells in rows:
        for name in ("maps_per_s", "direct_iops", "tcp_rr"):
            base = (rows[0][name] + rows[-1][name]) / 2
            cells[f"{name}_ratio"] = round(cells[name] / base, 2)
        bench.row(table, **cells)
