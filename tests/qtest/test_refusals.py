# SPDX-License-Identifier: GPL-2.0-or-later
"""What QEMU refuses, and what it tells the user to do."""

import json

from machine import QemuError
from vfio_user_server import PATIENCE, VfioUserServer


def check(t, want, *arguments):
    """These arguments are refused, in one line that has this in it."""
    status, message = t.refusal(arguments)
    t.equal(status, 1, "exit status")
    t.equal(want in message, True, f"{want!r} in the message {message!r}")
    lines = [line for line in message.splitlines() if " warning: " not in line]
    t.equal(len(lines), 1, "lines of the message")


def test_sizes_refused(t):
    """Units and blocks of sizes that make no sense."""
    unit = "unit must be a power of two from 4K to 2M"
    block = "block must be a power of two"
    for options, want in [("unit=0", unit), ("unit=2K", unit),
                          ("unit=4M", unit), ("unit=12K", unit),
                          ("unit=8E", unit),
                          ("block=4K", block), ("block=96K", block),
                          ("block=2G", block), ("block=1", block),
                          ("unit=2M,block=1M", block)]:
        check(t, want, "-M", "q35", "-device", f"coiommu,{options}")


def test_bus_refused(t):
    """Only the PCI Express root bus will do."""
    want = "must be on the PCI Express root bus"
    check(t, want, "-M", "q35", "-device", "pcie-root-port,id=rp,chassis=1",
          "-device", "coiommu,bus=rp")
    check(t, want, "-M", "q35", "-device", "pcie-pci-bridge,id=br",
          "-device", "coiommu,bus=br,addr=1")
    # The machine that has no PCI Express at all.
    check(t, want, "-M", "pc", "-device", "coiommu")


def test_bypass_refused(t):
    """A machine whose devices bypass the IOMMU."""
    check(t, "remove default-bus-bypass-iommu", "-M",
          "q35,default-bus-bypass-iommu=on", "-device", "coiommu")


def test_only_migratable_refused(t):
    """-only-migratable."""
    check(t, "coiommu", "-M", "q35", "-only-migratable", "-device", "coiommu")


def test_vfio_first_refused(t):
    """A vfio device that was created before has pinned everything."""
    folder = t.folder()
    server = VfioUserServer(f"{folder}/socket", t.log)
    device = json.dumps({"driver": "vfio-user-pci",
                         "socket": {"type": "unix", "path": server.path}})
    # As JSON as well: QEMU creates the other kind of -device first.
    check(t, "put -device coiommu before the vfio devices, and in plain syntax "
          "if one of them is (QEMU creates devices in JSON syntax last)",
          "-M", "q35", "-device", device, "-device", '{"driver": "coiommu"}')
    server.close()


def test_encryption_refused(t):
    """A confidential guest's memory can't be tracked."""
    if "sev-guest" not in t.output(["-object", "help"]):
        t.skip("this QEMU has no sev-guest object (CONFIG_SEV)")
    check(t, "encrypted memory of a confidential guest", "-M",
          "q35,confidential-guest-support=sev", "-object",
          "sev-guest,id=sev,cbitpos=47,reduced-phys-bits=1",
          "-device", "coiommu")


def test_late_failure(t):
    """PCI refuses the device after our realize: all of it is taken back."""
    check(t, "failed to find romfile", "-M", "q35", "-device",
          "coiommu,romfile=/nonexistent")


def test_hotplug_refused(t):
    """coIOMMU itself can not be plugged in later."""
    with t.machine(servers=0) as machine:
        try:
            machine.qmp("device_add", driver="coiommu")
            message = "none"
        except QemuError as error:
            message = str(error)
        t.equal("does not support hotplugging" in message, True, message)


def test_vfio_without_coiommu(t):
    """The other way around: what coIOMMU spares is there without it."""
    folder = t.folder()
    server = VfioUserServer(f"{folder}/socket", t.log)
    device = json.dumps({"driver": "vfio-user-pci",
                         "socket": {"type": "unix", "path": server.path}})
    t.output(["-M", "q35", "-device", device, "-monitor", "stdio"],
             stdin="quit\n")
    server.gone.wait(PATIENCE)
    mapped = sum(size for what, _, size, _ in server.events if what == "map")
    t.equal(mapped >= 127 << 20, True,
            "QEMU's default of 128 MiB is mapped up front")
    server.close()
