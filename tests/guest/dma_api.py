# SPDX-License-Identifier: GPL-2.0-or-later
"""The DMA API, call by call, by the module edu_test."""

from checks import (EDU, EDU_ID, check_attached, check_counts, check_net,
                    edu_run, finish)
from guest import check

# COIOMMU_DTT_COUNT_SATURATED
SATURATED = 0x80000


def api(scenario):
    """The whole DMA API with exact addresses, counts and refusals."""
    with scenario.boot(EDU) as vm:
        vm.load()
        vm.run("modprobe edu_test")
        edu, = vm.address(EDU_ID)
        check_attached(vm, edu)
        for test in ("walk", "masks", "stream", "sizes"):
            edu_run(vm, edu, test)
        check_resource(vm, edu, mapped=True)
        check(vm.table()["mappings"] == 0, "nothing is mapped any more")
        check_counts(vm, edu, mappings=4, units=2)
        check_refused(vm, edu)
        check_pinned_but_refused(vm)
        finish(vm, edu)


def check_resource(vm, edu, mapped):
    """A device's registers are no memory: no count, no pin, no request."""
    before, requests = vm.table()["mappings"], vm.counter("requests")
    edu_run(vm, edu, "resource")
    check(f"resource: {'' if mapped else 'not '}mapped" in
          vm.output("dmesg | grep resource: | tail -n 1"),
          "as without coIOMMU")
    check(vm.table()["mappings"] == before, "nothing was counted")
    check(vm.counter("requests") == requests, "nothing was requested")


def check_way(vm, address, way):
    """Whether the driver takes the direct or the shadowed way."""
    lines = vm.output("cat /sys/kernel/debug/coiommu/devices").splitlines()
    line, = [line for line in lines if line.startswith(address)]
    check(way in line.split(), f"{address} is {way}")


def check_refused(vm, edu):
    """A pin that the host refuses fails the mapping and leaves nothing."""
    before, errors = vm.table(), vm.counter("request-errors")
    edu_run(vm, edu, "refuse")
    after = vm.table()
    check(vm.counter("request-errors") == errors + 2, "the host refused two")
    check(vm.table("requests")["failures"] == 2, "the driver saw both")
    check(after["mappings"] == before["mappings"], "no count is left")
    check("not guest RAM" in vm.output("dmesg | grep coiommu"),
          "the log has the reason")


def check_pinned_but_refused(vm):
    check(vm.counter("demand-pin-requests") > 0, "pins were requested")
    check(vm.counter("pinned-bytes") > 0, "memory is pinned")


def small_units(scenario):
    """Units and blocks of 4 KiB: exact counts, and lists of many ranges."""
    # However slow the machine is, a request is served as a whole.
    with scenario.boot(EDU, coiommu="unit=4K,block=4K,x-doorbell-us=0") as vm:
        vm.load()
        vm.run("modprobe edu_test")
        edu, = vm.address(EDU_ID)
        # A page that is not counted is not pinned by its neighbour here, nor,
        # as long as this comes first, by what had it before.
        edu_run(vm, edu, "walk")
        # 16 units twice, and two of them, or one more, once.
        check_counts(vm, edu, mappings=34, units=17)
        edu_run(vm, edu, "sizes")
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


def long_lists(scenario):
    """A request pins few blocks, or the host answers in parts."""
    def asked(options):
        with scenario.boot(EDU, memory="768M", coiommu="block=2M,ahead=0,"
                           f"escape-threshold=0,{options}") as vm:
            vm.load()
            vm.run("modprobe edu_test")
            edu, = vm.address(EDU_ID)
            seen = {}
            for test in ("far", "near"):
                let_go(vm)
                before = vm.table("requests")
                edu_run(vm, edu, test)
                after = vm.table("requests")
                seen[test] = (after["requests"] - before["requests"],
                              after["pin-again"] - before["pin-again"])
            check(after["failures"] == 0, "no request failed")
            check(vm.counter("partial-requests") == after["pin-again"],
                  "the host has counted the same parts")
            finish(vm, edu)
            return seen

    # 100 blocks, 33 at a time, which is what 64 MiB may touch; and two blocks
    # that are found PINNED after the first request.  No limit of time.
    seen = asked("x-doorbell-us=0")
    check(seen == {"far": (4, 0), "near": (1, 0)}, f"as a whole: {seen}")
    # One block at a time, or hardly more.
    seen = asked("x-doorbell-us=1")
    check(4 < seen["far"][0] <= 100 and seen["far"][1] > 0 and
          1 <= seen["near"][0] <= 2, f"in parts: {seen}")


def let_go(vm):
    """Until nothing is pinned; from then on nothing is let go of."""
    for policy in ("timeout", "off"):
        vm.monitor("qom-set", path="/machine/peripheral/coi",
                   property="unpin-policy", value=policy)
        while policy != "off" and vm.counter("pinned-bytes"):
            vm.run("sleep 0.2")


def bounce(scenario):
    """32-bit devices in a guest with memory above 4 GiB: swiotlb."""
    with scenario.boot(EDU, EDU, "e1000,netdev=net", memory="6G") as vm:
        vm.load()
        vm.run("modprobe edu_test && modprobe e1000")
        edu, twin = vm.address(EDU_ID)
        nic, = vm.address("8086:100e")
        check_attached(vm, edu, twin, nic)
        edu_run(vm, edu, "walk")
        # Until here no sync is needed, and then one is: for a page, and for a
        # list.
        for device, test in ((edu, "bounce"), (twin, "bounce_list")):
            check_way(vm, device, "direct")
            edu_run(vm, device, test)
            check_way(vm, device, "shadowed")
        for test in ("masks", "stream", "many", "refuse", "walk"):
            edu_run(vm, edu, test)
        check("stream: bounced yes" in vm.output("dmesg"),
              "mappings were bounced")
        check_net(vm)
        check_way(vm, nic, "shadowed")
        finish(vm, edu, twin, nic)


def stale_mask(scenario):
    """A mask that was set before the device was tracked: syncs still work."""
    with scenario.boot(EDU, memory="6G") as vm:
        vm.run("modprobe edu_test")
        edu, = vm.address(EDU_ID)
        vm.unbind(edu)
        vm.load()
        vm.run("echo 1 >/sys/module/edu_test/parameters/keep_mask")
        vm.run(f"echo {edu} >/sys/bus/pci/drivers/edu_test/bind")
        check_attached(vm, edu)
        edu_run(vm, edu, "bounce")
        finish(vm, edu)


def force_api(scenario):
    """swiotlb=force: the whole DMA API through bounce buffers."""
    with scenario.boot(EDU, args="swiotlb=force") as vm:
        vm.load()
        vm.run("modprobe edu_test")
        edu, = vm.address(EDU_ID)
        check_way(vm, edu, "shadowed")
        for test in ("walk", "masks", "stream", "many"):
            edu_run(vm, edu, test)
        # What swiotlb can bounce at once limits a mapping, as always.
        most = vm.output("dmesg | grep 'masks: at most'").split()[-2]
        check(0 < int(most) <= 256 << 10, "swiotlb's limit is told")
        # Newer kernels refuse resources then, with and without coIOMMU.
        release = vm.output("uname -r")
        check_resource(vm, edu, mapped=release.startswith("6."))
        finish(vm, edu)


def misuse(scenario):
    """Unmaps of what is not mapped, and more mappings than can be counted."""
    # The kernel's own checker, if it has one, reports all of this.
    with scenario.boot(EDU, EDU, coiommu="unpin-policy=off",
                       args="dma_debug=off") as vm:
        vm.load()
        edu, twin = vm.address(EDU_ID)
        override = f"/sys/bus/pci/devices/{twin}/driver_override"
        vm.run(f"echo none > {override} && modprobe edu_test && "
               f"echo > {override}")
        edu_run(vm, edu, "twice")
        table = vm.table()
        check(table["underflows"] == 9, "all unmaps were seen, unit by unit")
        check(table["mappings"] == 0, "no count has changed")
        check(table["pinned-units"] == 32, "no flag has changed")
        check(vm.output("dmesg").count("is not mapped: a driver's bug") == 3,
              "the log has a line for each")
        for _ in range(2):
            edu_run(vm, edu, "limit")
            table = vm.table()
            check(table["refused-maps"] == 0, "no mapping was refused")
            # The second time it may be another unit.
            units = table["saturated-units"]
            check(units in (1, 2), "a count is saturated")
            check(table["mappings"] == units * SATURATED, "it stays there")
            check(table["unpinned-units"] == 0, "and its unit pinned")
            check(table["underflows"] == 9, "no count was lost")
        check(vm.output("dmesg").count("has a count at its limit") == 1,
              "the log has one line of it")
        edu_run(vm, edu, "stream")
        vm.unbind(edu)
        table = vm.table()
        check(table["mappings"] == table["saturated-units"] == 0,
              "all counts are back to 0")
        check_booked(vm, edu, twin)
        vm.unbind(twin)
        vm.run("rmmod coiommu")
        vm.check_clean()


def check_booked(vm, edu, twin):
    """What a booked device leaves behind is told from what others have."""
    for device in (edu, twin):
        vm.run(f"echo {device} > /sys/bus/pci/drivers/edu_test/bind")
        check_attached(vm, *sorted({edu, device}))
        check_way(vm, device, "booked" if device == edu else "direct")
    for test in ("walk", "stream", "many", "masks", "sizes"):
        edu_run(vm, edu, test)
    check(vm.table()["mappings"] == 0, "all is taken back")
    edu_run(vm, edu, "shrink")
    check(vm.table()["mappings"] == 0, "more than the driver says")
    edu_run(vm, twin, "hold")
    edu_run(vm, edu, "leak")
    check(vm.table()["mappings"] == 5, "one is too much")
    vm.unbind(edu)
    check(vm.table()["mappings"] == 4, "its own count is taken back")
    check(f"{edu}: coiommu: 1 mappings that its driver has left behind" in
          vm.output("dmesg"), "the log has a line")
    check(vm.table()["underflows"] == 9, "no count was lost")
    edu_run(vm, twin, "release")


SCENARIOS = [api, small_units, long_lists, bounce, stale_mask, force_api,
             misuse]
