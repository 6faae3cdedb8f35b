# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that idles and goes on: what pinning ahead was made for.

One process reads for some seconds, waits until all that it used has been
unpinned, and reads again, into the same buffers.  At each new burst they are
pinned again: by demand, one exit for each request that finds some of them
unpinned, or ahead, when the first of them has come back.
"""

import time

from demand_pins import per_1000
from loadvm import LoadVm
from sockperf import Sockperf

MIB = 1 << 20
AHEAD = {"no": ",ahead=0", "yes": ",ahead=32M"}
BLOCKS = ("2M", "64K")
COUNTERS = ("ahead-pins", "ahead-used", "ahead-unused")


def measure(bench, sockperf, properties, seconds):
    """Bursts for that long, after a first one."""
    with LoadVm(bench, sockperf, coiommu=properties) as vm:
        vm.start_load("fio-bursts", seconds + 12)
        # The first burst, whose blocks nobody can know.
        time.sleep(8)
        before = vm.sample()
        guesses = {name: vm.counter(name) for name in COUNTERS}
        end = before["at"] + seconds
        pinned = []
        while time.monotonic() < end:
            time.sleep(0.25)
            pinned.append(vm.counter("pinned-bytes"))
        after = vm.sample()
        guesses = {name.replace("-", "_"): vm.counter(name) - guesses[name]
                   for name in COUNTERS}
        vm.end_load("fio-bursts")
        vm.check_clean()
        maps = after["maps"] - before["maps"]
        exits = after["requests"] - before["requests"]
        return {
            "maps": maps, "exits": exits,
            "demand_pin_blocks":
                after["demand_pin_blocks"] - before["demand_pin_blocks"],
            "repins": after["repins"] - before["repins"], **guesses,
            "exits_per_1000": per_1000(exits, maps),
            "pinned_max_mib": round(max(pinned) / MIB, 1),
            "pinned_min_mib": round(min(pinned) / MIB, 1),
            "pinned_mean_mib": round(sum(pinned) / len(pinned) / MIB, 1),
        }


def run(bench):
    rounds, seconds = (1, 12) if bench.quick else (2, 40)
    bench.fact("accelerator", "tcg,thread=multi, 2 vCPUs, 1 GiB")
    with Sockperf(bench.log) as sockperf:
        for turn in range(1, rounds + 1):
            for block in BLOCKS:
                for ahead, properties in AHEAD.items():
                    bench.step(f"round {turn} of {rounds}: block {block}, "
                               f"ahead: {ahead}")
                    bench.row("bursts", block=block, ahead=ahead, round=turn,
                              **measure(bench, sockperf,
                                        f"block={block}{properties}",
                                        seconds))
