# SPDX-License-Identifier: GPL-2.0-or-later
"""Do pinning ahead and escape pay?

The load of the benchmark "blocks", on devices that have both, one of them, or
neither, with blocks of the default size and with small ones, which miss more
often.
"""

from blocks import measure, write
from sockperf import Sockperf

HAS = {"both": "", "ahead": ",escape-threshold=0", "escape": ",ahead=0",
       "neither": ",ahead=0,escape-threshold=0"}
BLOCKS = ("2M", "64K")


def run(bench):
    plan = (2, 3) if bench.quick else (10, 15)
    configs = [(block, has) for block in BLOCKS for has in HAS]
    if bench.quick:
        configs = [("2M", "both"), ("64K", "both")]
    # The first comes last again: the difference is the noise.
    configs.append(configs[0])
    bench.fact("accelerator", "tcg,thread=multi, 2 vCPUs, 1 GiB")
    rows = []
    with Sockperf(bench.log) as sockperf:
        for number, (block, has) in enumerate(configs, 1):
            bench.step(f"{number} of {len(configs)}: block {block}, {has}")
            rows.append({
                "block": block, "has": has,
                **measure(bench, sockperf, f"block={block}{HAS[has]}", plan)})
    write(bench, "smart", rows)
