# SPDX-License-Identifier: GPL-2.0-or-later
"""What is left when a driver goes, and binding that races with unbinding."""

import os

from checks import (EDU, EDU_ID, check_attached, check_disk, check_groups,
                    edu_run, finish)
from guest import PATIENCE, check

DRIVERS = "/sys/bus/pci/drivers"
PARAMETERS = "/sys/module/edu_test/parameters"


def bind(vm, address, driver, ok=True):
    vm.run(f"echo {address} > {DRIVERS}/{driver}/bind", ok=ok)


def left_behind(scenario):
    """A driver leaves the device able to do DMA, or its operations."""
    with scenario.boot(EDU) as vm:
        vm.run("modprobe coiommu skip=edu_plain && modprobe edu_test")
        edu, = vm.address(EDU_ID)
        check_attached(vm, edu)
        # The bus-master bit, at remove; the next one relies on it.
        vm.run(f"echo 1 > {PARAMETERS}/keep_master")
        vm.unbind(edu)
        vm.check_idle()
        vm.run(f"echo 1 > {PARAMETERS}/no_master")
        bind(vm, edu, "edu_test")
        check_attached(vm, edu)
        edu_run(vm, edu, "stream")
        vm.unbind(edu)
        vm.run(f"echo 0 > {PARAMETERS}/no_master")
        # The same in probes that are to be tried again.
        vm.run(f"echo 3 > {PARAMETERS}/defer")
        for _ in range(3):
            bind(vm, edu, "edu_test", ok=False)
            vm.check_idle()
        bind(vm, edu, "edu_test")
        check_attached(vm, edu)
        edu_run(vm, edu, "stream")
        vm.run(f"echo 0 > {PARAMETERS}/keep_master")
        vm.unbind(edu)
        check(vm.counter("fallback-pins") == 0, "all was never pinned")
        # A driver that is not tracked must not find our operations.
        vm.run(f"echo edu_plain > /sys/bus/pci/devices/{edu}/driver_override")
        # Its probe is tried again and again, as it finds the bit set.
        vm.run(f"echo 3 > {PARAMETERS}/defer")
        for _ in range(3):
            bind(vm, edu, "edu_plain", ok=False)
        bind(vm, edu, "edu_plain")
        check(vm.output("dmesg").count(
            "not tracked: its driver is in the module's skip list") == 1,
            "one line says so")
        edu_run(vm, edu, "walk")
        check(vm.table()["mappings"] == 0, "nothing was counted")
        check(vm.table("requests")["failures"] == 0, "or asked for")
        vm.unbind(edu)
        vm.run(f"echo > /sys/bus/pci/devices/{edu}/driver_override")
        # And the next one must.
        bind(vm, edu, "edu_test")
        check_attached(vm, edu)
        edu_run(vm, edu, "walk")
        finish(vm, edu)


def late_unmap(scenario):
    """What is unmapped when the driver or the device has gone counts."""
    with scenario.boot("pcie-root-port,id=rp1,chassis=1", EDU,
                       args="dma_debug=off") as vm:
        vm.run("modprobe coiommu skip=edu_plain && modprobe edu_test")
        stays, = vm.address(EDU_ID)
        vm.monitor("device_add", driver="edu", id="edu", bus="rp1",
                   dma_mask=0xffffffff)
        vm.wait(f"[ $(ls -d {DRIVERS}/edu_test/*:*/run | wc -l) = 2 ]")
        goes, = set(vm.address(EDU_ID)) - {stays}
        check_attached(vm, stays, goes)
        edu_run(vm, goes, "late")
        vm.unbind(goes)
        check(vm.table()["mappings"] == 1, "it is still mapped")
        vm.run(f"echo > {PARAMETERS}/unmap")
        check(vm.table()["mappings"] == 0, "and now it is not")
        bind(vm, goes, "edu_test")
        edu_run(vm, goes, "late")
        vm.unplug("edu", goes)
        # Longer than it takes to look for devices that nothing uses.
        vm.run("sleep 3")
        check(vm.table()["mappings"] == 1, "it is still mapped")
        vm.run(f"echo > {PARAMETERS}/unmap")
        table = vm.table()
        check(table["mappings"] == table["underflows"] == 0,
              "and now it is not")
        check_forgotten(vm, stays)
        check_race(vm, stays)
        # With coIOMMU gone it is the kernel's.
        edu_run(vm, stays, "late")
        vm.unbind(stays)
        vm.run("rmmod coiommu")
        vm.run(f"echo > {PARAMETERS}/unmap")
        vm.load()
        bind(vm, stays, "edu_test")
        edu_run(vm, stays, "stream")
        finish(vm, stays)


def race(vm, edu, command):
    """An unmap that has begun when a command takes the operations away."""
    edu_run(vm, edu, "late")
    vm.unbind(edu)
    vm.run(f"echo > {PARAMETERS}/race")
    vm.wait(f"grep -q Y {PARAMETERS}/racing")
    vm.run(command)
    vm.wait(f"grep -q N {PARAMETERS}/racing")


def check_race(vm, edu):
    """Operations go when coIOMMU does, or for a driver not tracked."""
    coi, = vm.address("1af4:10f0")
    race(vm, edu, f"echo {coi} > {DRIVERS}/coiommu/unbind")
    vm.run(f"echo {coi} > {DRIVERS}/coiommu/bind")
    bind(vm, edu, "edu_test")
    check_attached(vm, edu)
    override = f"/sys/bus/pci/devices/{edu}/driver_override"
    race(vm, edu, f"echo edu_plain > {override}; "
                  f"echo {edu} > {DRIVERS}/edu_plain/bind")
    table = vm.table()
    check(table["mappings"] == table["underflows"] == 0, "it was taken back")
    vm.unbind(edu)
    vm.run(f"echo > {override}")
    bind(vm, edu, "edu_test")


def check_forgotten(vm, edu):
    """What is still mapped when no device is attached, for some seconds."""
    edu_run(vm, edu, "late")
    vm.unbind(edu)
    check(vm.table()["mappings"] == 1, "it is still mapped")
    bind(vm, edu, "edu_test")
    vm.unbind(edu)
    vm.wait("grep -qx 'mappings 0' /sys/kernel/debug/coiommu/dtt")
    check(vm.output("dmesg").count("were never undone and are forgotten") == 1,
          "the log has a line")
    # Now a late unmap must not take what is mapped anew.
    bind(vm, edu, "edu_test")
    check(f"{edu} attached edu_test booked" in
          vm.output("cat /sys/kernel/debug/coiommu/devices"), "it is booked")
    edu_run(vm, edu, "hold")
    vm.run(f"echo > {PARAMETERS}/unmap")
    table = vm.table()
    check(table["mappings"] == 4 and table["underflows"] == 0,
          "the late unmap has taken nothing")


# Bind and unbind $1, a device, from its driver, $2.
FLIP = ("flip() { while [ ! -e /tmp/stop ]; do "
        "echo $1 > /sys/bus/pci/drivers/$2/unbind; "
        "echo $1 > /sys/bus/pci/drivers/$2/bind; done; }")
LOOPS = ["flip {edu} edu_test", "flip {twin} edu_test", "flip {nvme} nvme",
         "flip {coi} coiommu",
         "while [ ! -e /tmp/stop ]; do rmmod coiommu; modprobe coiommu; done "
         "2>/dev/null"]


def races_for(scenario, seconds):
    """Devices, coIOMMU and its module come and go at the same time."""
    seconds = int(os.environ.get("COIOMMU_RACES_SECONDS", seconds))
    with scenario.boot(EDU, EDU, "nvme,serial=1,drive=disk") as vm:
        vm.load()
        vm.run("modprobe edu_test && modprobe nvme")
        names = {"coi": vm.address("1af4:10f0")[0],
                 "nvme": vm.address("1b36:0010")[0]}
        names["edu"], names["twin"] = vm.address(EDU_ID)
        vm.run(FLIP)
        for loop in LOOPS:
            vm.run(f"({loop.format(**names)}) >/dev/null 2>&1 &")
        vm.run(f"sleep {seconds}", timeout=seconds + PATIENCE)
        # A loop that hangs does not end.
        vm.run("touch /tmp/stop; wait", timeout=2 * PATIENCE)
        vm.run("modprobe coiommu")
        vm.run(f"[ -e {DRIVERS}/coiommu/{names['coi']} ] || "
               f"echo {names['coi']} > {DRIVERS}/coiommu/bind")
        devices = [(names["edu"], "edu_test"), (names["twin"], "edu_test"),
                   (names["nvme"], "nvme")]
        for address, driver in devices:
            vm.run(f"echo {address} > {DRIVERS}/{driver}/unbind 2>/dev/null; "
                   f"sleep 1; [ -e {DRIVERS}/{driver}/{address} ] || "
                   f"echo {address} > {DRIVERS}/{driver}/bind")
        addresses = [address for address, _ in devices]
        check_attached(vm, *addresses)
        check_groups(vm, *addresses)
        edu_run(vm, names["edu"], "walk")
        check_disk(vm)
        finish(vm, *addresses)


def races(scenario):
    """For a short time."""
    races_for(scenario, 15)


def races_long(scenario):
    """For five minutes."""
    races_for(scenario, 300)


SCENARIOS = [left_behind, late_unmap, races, races_long]
