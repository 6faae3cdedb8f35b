# SPDX-License-Identifier: GPL-2.0-or-later
"""Children that map for a PCI function with a struct device of their own."""

from checks import EDU, EDU_ID, check_attached, edu_run, finish
from guest import check

# So that a page that is not counted is not pinned by its neighbour.
SMALL = "unit=4K,block=4K"


def check_counted(vm, edu, test):
    """A child's DMA is counted, the data are right, and nothing is left."""
    before = vm.table()
    vm.run("echo 1 > /sys/kernel/tracing/events/coiommu/coiommu_map/enable")
    vm.run("echo > /sys/kernel/tracing/trace")
    edu_run(vm, edu, test)
    check(vm.counter("dma-faults") == 0, "no DMA missed its mapping")
    maps = vm.output(f"grep -c 'coiommu_map: {edu} ' /sys/kernel/tracing/trace")
    check(int(maps) == 4, "four mappings were counted, for the function")
    after = vm.table()
    check(after["mappings"] == before["mappings"], "all is taken back")
    check(after["underflows"] == 0, "and once only")
    check_attached(vm, edu)


def children(scenario):
    """What platform and auxiliary devices and VMD's map is counted."""
    with scenario.boot(EDU, coiommu=SMALL) as vm:
        vm.run("mount -t tracefs tracefs /sys/kernel/tracing", ok=None)
        vm.load()
        vm.run("modprobe edu_test")
        edu, = vm.address(EDU_ID)
        check_attached(vm, edu)
        check_counted(vm, edu, "child_platform")
        for kind in ("auxiliary", "vmd"):
            if vm.output(f"cat /sys/module/edu_test/parameters/{kind}") == "Y\n":
                check_counted(vm, edu, f"child_{kind}")
        finish(vm, edu)


def check_left(vm, edu, reason):
    """The device is not attached any more, its log line says why; it works."""
    check(reason in vm.output("dmesg | grep coiommu: | tail -n 1"),
          "one line says so")
    check(vm.counter("attached-endpoints") == 0, "nothing is attached")
    check(vm.counter("fallback-active") == 1, "all memory is pinned instead")
    edu_run(vm, edu, "stream")
    edu_run(vm, edu, "child_platform")
    check(vm.counter("dma-faults") == 0, "no DMA missed its mapping")


def rebind(vm, edu):
    vm.unbind(edu)
    vm.run(f"echo {edu} > /sys/bus/pci/drivers/edu_test/bind")


def children_uncounted(scenario):
    """A device with a child whose DMA can't be counted is left alone."""
    with scenario.boot(EDU) as vm:
        vm.run("modprobe edu_test")
        edu, = vm.address(EDU_ID)
        edu_run(vm, edu, "child_keep")
        vm.load()
        rebind(vm, edu)
        check_left(vm, edu, "not tracked: a child that may do DMA for it has a"
                   " driver already")
        edu_run(vm, edu, "child_drop")
        rebind(vm, edu)
        check_attached(vm, edu)
        edu_run(vm, edu, "hold")
        edu_run(vm, edu, "child_foreign")
        check_left(vm, edu, "no longer tracked, because its child edu_child.99 "
                   "(driver edu_child) may do DMA that cannot be counted: "
                   "it has other DMA operations")
        vm.run("echo 1 > /sys/module/edu_test/parameters/odd_child")
        rebind(vm, edu)
        check_left(vm, edu, "no longer tracked, because its child odd "
                   "(driver none) may do DMA that cannot be counted: "
                   "it is on a bus of its own")
        vm.run("echo 0 > /sys/module/edu_test/parameters/odd_child")
        rebind(vm, edu)
        check_attached(vm, edu)
        finish(vm, edu)


CHILDREN = "/sys/bus/platform/drivers/edu_child"


def rebind_child(vm):
    """The child's driver maps again, in its probe."""
    child = vm.output(f"cd {CHILDREN} && ls -d edu_child.*").strip()
    vm.run(f"echo {child} > {CHILDREN}/unbind")
    vm.run(f"echo {child} > {CHILDREN}/bind")


def check_outlives(vm, coi, edu, kind):
    """A child of that kind, from its function's driver to the next one."""
    edu_run(vm, edu, f"child_{kind}")
    check_attached(vm, edu)
    vm.unbind(edu)
    rebind_child(vm)
    check(vm.table()["mappings"] == 0, "nothing was counted")
    check(vm.table("requests")["failures"] == 0, "or asked for")
    vm.run(f"echo {coi} > /sys/bus/pci/drivers/coiommu/unbind")
    # Longer than it takes until counts are forgotten.
    vm.run("sleep 7")
    rebind_child(vm)
    vm.run(f"echo {coi} > /sys/bus/pci/drivers/coiommu/bind")
    vm.run(f"echo {edu} > /sys/bus/pci/drivers/edu_test/bind")
    edu_run(vm, edu, "child_drop")
    rebind(vm, edu)
    check_attached(vm, edu)


def child_outlives(scenario):
    """A child keeps its driver when its function and coIOMMU lose theirs."""
    # What is used when it has been freed is poison.
    with scenario.boot(EDU, args="slub_debug=FZP") as vm:
        vm.load()
        coi, = vm.address("1af4:10f0")
        vm.run("modprobe edu_test")
        edu, = vm.address(EDU_ID)
        check_outlives(vm, coi, edu, "keep")
        check_outlives(vm, coi, edu, "copied")
        finish(vm, edu)


SCENARIOS = [children, children_uncounted, child_outlives]
