# SPDX-License-Identifier: GPL-2.0-or-later
"""The DMA API, call by call, by the module edu_test."""

from checks import (EDU, EDU_ID, check_attached, check_counts, edu_run,
                    finish)
from guest import check


def api(scenario):
    """The whole DMA API with exact addresses, counts and refusals."""
    with scenario.boot(EDU) as vm:
        vm.load()
        vm.run("modprobe edu_test")
        edu, = vm.address(EDU_ID)
        check_attached(vm, edu)
        edu_run(vm, edu, "walk")
        edu_run(vm, edu, "stream")
        check_counts(vm, edu, mappings=4, units=2)
        check_refused(vm, edu)
        check_pinned_but_refused(vm)
        finish(vm, edu)


def check_refused(vm, edu):
    """A pin that the host refuses fails the mapping and leaves nothing."""
    before, errors = vm.table(), vm.counter("request-errors")
    edu_run(vm, edu, "refuse")
    after = vm.table()
    check(vm.counter("request-errors") == errors + 2, "the host refused two")
    check(vm.table("requests")["failures"] == 2, "the driver saw both")
    check(after["mappings"] == before["mappings"], "no count is left")
    check("not guest RAM" in vm.output("dmesg | tail -n 5"),
          "the log has the reason")


def check_pinned_but_refused(vm):
    check(vm.counter("demand-pin-requests") > 0, "pins were requested")
    check(vm.counter("pinned-bytes") > 0, "memory is pinned")


def small_units(scenario):
    """Units and blocks of 4 KiB: exact counts, and lists of many ranges."""
    with scenario.boot(EDU, coiommu="unit=4K,block=4K") as vm:
        vm.load()
        vm.run("modprobe edu_test")
        edu, = vm.address(EDU_ID)
        # 16 units twice, and two of them, or one more, once.
        check_counts(vm, edu, mappings=34, units=17)
        before = vm.table("requests")
        edu_run(vm, edu, "many")
        after = vm.table("requests")
        ranges = after["pin-ranges"] - before["pin-ranges"]
        check(ranges == after["pin-pages"] - before["pin-pages"],
              "each range is a page")
        # Some of the pages may have been pinned by what ran before.
        check(500 < ranges <= 600, "600 pages were asked for")
        check(after["requests"] - before["requests"] == 3,
              "three requests were enough")
        finish(vm, edu)


def bounce(scenario):
    """A 32-bit device in a guest with memory above 4 GiB: swiotlb."""
    with scenario.boot(EDU, memory="6G") as vm:
        vm.load()
        vm.run("modprobe edu_test")
        edu, = vm.address(EDU_ID)
        edu_run(vm, edu, "walk")
        edu_run(vm, edu, "stream")
        check("stream: bounced yes" in vm.output("dmesg"),
              "mappings were bounced")
        check("shadowed" in vm.output("cat /sys/kernel/debug/coiommu/devices"),
              "the driver knows")
        edu_run(vm, edu, "many")
        edu_run(vm, edu, "refuse")
        finish(vm, edu)


SCENARIOS = [api, small_units, bounce]
