# SPDX-License-Identifier: GPL-2.0-or-later
"""How often a DMA map leaves the guest, and what stays pinned after a load.

An exit is a doorbell write, whether or not it found something to pin.  The
target is one exit for 1000 maps after warm-up; and three intervals after the
load no more pinned than the blocks that hold mapped pages.
"""

import time

from guest import check
from loadvm import LoadVm
from results import spread
from sockperf import Sockperf

INTERVAL_MS = 1000      # the default of unpin-interval


def windows(vm, count, seconds):
    """Differences of the counters over that many windows."""
    before = vm.sample()
    found = []
    for _ in range(count):
        time.sleep(max(0, before["at"] + seconds - time.monotonic()))
        after = vm.sample()
        found.append({name: after[name] - before[name] for name in before})
        found[-1]["pinned_bytes"] = after["pinned_bytes"]
        before = after
    return found


def per_1000(count, maps):
    return round(1000 * count / maps, 3)


def load(bench, vm, label, names, plan):
    """One load: a row for all, and one for each window."""
    warm, measured, seconds = plan
    bench.step(f"{label}: {warm} + {measured} windows of {seconds} s")
    for name in names:
        # Longer than the windows by what starting under TCG may take.
        vm.start_load(name, (warm + measured) * seconds + 10)
    found = windows(vm, warm + measured, seconds)
    rates = {name: vm.end_load(name) for name in names}
    for i, window in enumerate(found):
        bench.row("demand-pins-time", load=label, second=(i + 1) * seconds,
                  maps=window["maps"], exits=window["requests"],
                  blocks_pinned=window["demand_pin_blocks"],
                  blocks_unpinned=window["unpinned_blocks"],
                  pinned_mib=round(window["pinned_bytes"] / 2**20, 1))
    found = found[warm:]
    total = {name: sum(window[name] for window in found) for name in found[0]}
    check(all(window["maps"] > 0 for window in found),
          f"{label}: there is I/O in every window")
    bench.row("demand-pins", load=label, seconds=measured * seconds,
              per_second=" + ".join(f"{rate:.0f}" for rate in rates.values()),
              maps=total["maps"], exits=total["requests"],
              pins=total["demand_pin_requests"], repins=total["repins"],
              exits_per_1000=per_1000(total["requests"], total["maps"]),
              **spread("exits_per_1000_window",
                       [per_1000(window["requests"], window["maps"])
                        for window in found], 3))


def afterwards(bench, vm, label, seconds):
    """What is pinned, and what is mapped, after the load has ended."""
    bench.step(f"{label}: idle")
    begin = time.monotonic()
    while time.monotonic() - begin < seconds:
        now = time.monotonic() - begin
        pinned = vm.counter("pinned-bytes")
        bench.row("demand-pins-idle", after=label, second=round(now, 2),
                  intervals=round(now * 1000 / INTERVAL_MS, 2),
                  pinned_mib=round(pinned / 2**20, 2),
                  mapped_blocks_mib=round(
                      vm.busy_blocks() * vm.block_bytes / 2**20, 2))
        time.sleep(0.4)


def run(bench):
    plan = (2, 2, 2) if bench.quick else (4, 6, 5)
    idle = 3 if bench.quick else 12
    bench.fact("accelerator", "tcg,thread=multi, 2 vCPUs, 1 GiB")
    with Sockperf(bench.log) as server:
        bench.step("booting, e1000e")
        with LoadVm(bench, server) as vm:
            bench.fact("guest", vm.output("uname -sr").strip())
            for label, names in (
                    ("fio-direct", ["fio-direct"]),
                    ("tcp-rr", ["tcp-rr"]),
                    ("fio-buffered", ["fio-buffered"]),
                    ("all", ["fio-direct", "fio-buffered", "tcp-rr"])):
                load(bench, vm, f"{label}/e1000e" if label == "tcp-rr"
                     else label, names, plan)
                if not bench.quick or label == "all":
                    afterwards(bench, vm, label, idle)
            vm.check_clean()
        bench.step("booting, igb")
        with LoadVm(bench, server, nic="igb") as vm:
            load(bench, vm, "tcp-rr/igb", ["tcp-rr"], plan)
            vm.check_clean()
