# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's clock, by which its time-outs are."""

import time

from guest import Failure, check


def check_clock(vm):
    """The guest's clock runs as ours does, within 1 %."""
    def look():
        before = time.monotonic()
        uptime = float(vm.output("cat /proc/uptime").split()[0])
        return before, uptime, time.monotonic()

    first = look()
    time.sleep(2)
    last = look()
    guest = last[1] - first[1]
    print(f"{guest:.2f} s of the guest's in {last[0] - first[0]:.2f} s")
    # However long the guest took to answer.
    check(0.99 * (last[0] - first[2]) - 0.02 < guest <
          1.01 * (last[2] - first[0]) + 0.02, "the guest's clock is right")


def clock(scenario):
    """The guest's kernel is told the TSC's rate; a wrong one would be seen."""
    with scenario.boot() as vm:
        vm.run("grep -q tsc_early_khz= /proc/cmdline")
        check_clock(vm)
    with scenario.boot(args="tsc_early_khz=100000") as vm:
        try:
            check_clock(vm)
        except Failure:
            return
    raise Failure("a clock that is too fast was not seen")


SCENARIOS = [clock]
