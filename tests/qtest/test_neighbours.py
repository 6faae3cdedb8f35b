# SPDX-License-Identifier: GPL-2.0-or-later
"""coIOMMU next to other IOMMUs, and next to devices that it does not track."""

import os
import re

from driver import ABI, BAR
from machine import QemuError, vfio_user
from test_fallback import settled
from test_pins import ready
from test_refusals import check

COMMAND, MASTER = 4, 4
IOMMUS = ("intel-iommu", "amd-iommu", "virtio-iommu-pci")

# Emulated devices from slot 8 on; iommu_platform: would go through an IOMMU.
EMULATED = ("e1000e", "virtio-net-pci,iommu_platform=on,disable-legacy=on",
            "virtio-rng-pci,iommu_platform=on,disable-legacy=on", "edu")


def test_other_iommu_refused(t):
    """Whichever comes first, there is one IOMMU, and QEMU says so."""
    ours = "remove the intel-iommu, amd-iommu or virtio-iommu device"
    theirs = "does not support multiple vIOMMUs"
    for other in IOMMUS:
        check(t, ours, "-M", "q35", "-device", other, "-device", "coiommu")
        check(t, theirs, "-M", "q35", "-device", "coiommu", "-device", other)
    check(t, "a coiommu device already", "-M", "q35",
          "-device", "coiommu", "-device", "coiommu")


def test_other_iommu_plugged(t):
    """None can be plugged in while the machine runs."""
    with t.machine() as machine:
        for other in (*IOMMUS, "coiommu"):
            try:
                machine.qmp("device_add", driver=other)
                message = "it was not refused"
            except QemuError as error:
                message = str(error)
            t.equal("does not support hotplugging" in message, True, message)
        guest = ready(t, machine)
        t.equal(guest.map(0x4000000, 4096), ABI.ST_OK, "map")


def emulated(machine):
    return [f"{device},addr={8 + i:#x}" for i, device in enumerate(EMULATED)]


def with_tracked(machine):
    return [vfio_user(machine, 0, "d0", addr="5"), *emulated(machine)]


def views(machine, slots):
    """
    What each address space shows, and which ones are the same: from its name to
    (the address spaces of that view, its ranges).  Those of devices whose bus
    mastering is off show nothing.
    """
    for slot in slots:
        machine.config_write(0, slot << 3, COMMAND, MASTER, size=2)
    if machine.servers:
        settled(machine)
    text = machine.qmp("human-monitor-command",
                       **{"command-line": "info mtree -f"})
    found = {}
    for view in text.split("FlatView #")[1:]:
        names = re.findall(r'^ AS "(.*?)"', view, re.M)
        ranges = re.findall(r"^  ([0-9a-f].*)$", view, re.M)
        # The same name is the configuration space's of each device.
        found.update((name, (names, ranges)) for name in names
                     if name not in found or ranges)
    return found


def cpu_seconds(machine):
    """The processor time that QEMU has used."""
    with open(f"/proc/{machine.process.pid}/stat") as stat:
        user, system = stat.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def change_cost(machine):
    """QEMU's time for one change of the memory map, in microseconds."""
    changes = 4000
    before = cpu_seconds(machine)
    machine.config_write(0, 8 << 3, 0x10, BAR + 0x100000)
    for i in range(changes):
        machine.config_write(0, 8 << 3, COMMAND, i % 2 * 2, size=1)
    return (cpu_seconds(machine) - before) / changes * 1e6


def test_emulated_untouched(t):
    """
    Devices that aren't tracked have the machine's memory as their address space,
    as without coIOMMU: the very same view, in which no IOMMU is.
    """
    slots = range(8, 8 + len(EMULATED))
    names = [device.split(",")[0] for device in EMULATED]
    with t.machine(coiommu=None, servers=0, devices=emulated) as machine:
        print(f"without: {change_cost(machine):.1f} us for a change of the "
              "memory map", file=t.log)
        without = views(machine, slots)
    with t.machine(devices=with_tracked) as machine:
        print(f"with: {change_cost(machine):.1f} us", file=t.log)
        beside = views(machine, (5, *slots))
    for name in names:
        for found in (without, beside):
            t.equal("memory" in found[name][0], True,
                    f"{name} has the machine's memory")
        t.equal(beside[name], without[name], f"what {name} sees")
    t.equal(any("iommu" in line for line in beside["memory"][1]), False,
            "an IOMMU in it")
    # That would be seen: the tracked device has it.
    t.equal(any("coiommu-iommu" in line for line in
                beside["vfio-user-pci"][1]), True, "the tracked device's view")
