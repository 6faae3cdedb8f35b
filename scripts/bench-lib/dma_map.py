# SPDX-License-Identifier: GPL-2.0-or-later
"""What a DMA mapping costs the guest: instructions, and exits.

Under QEMU's -icount with one CPU the TSC counts the guest's instructions, so
the figures are exact and do not depend on the machine or on what else it does.
What instructions don't show (an atomic operation takes longer than an addition,
an exit takes thousands) is told by the count of exits: each access to a device
that QEMU emulates would be one under KVM, and QEMU's trace has them all.
"""

import os
import re

from guest import Guest, check

EDU = "edu,dma_mask=0xffffffffffffffff"
EDU_ID = "1234:11e8"
OPERATIONS = ("page", "64k", "1m", "sg-near", "sg-far", "sync")
TRACE = ("memory_region_ops_read", "memory_region_ops_write")
# dma_bench.c writes these to the device before and after the loop.
MARK = re.compile(r"^memory_region_ops_write .* value 0x(be9108e9|e9d0e9d0) "
                  r"size 4 name 'edu-mmio'$")

# mode: QEMU's IOMMU, kernel arguments, modules to load before the device's
VIOMMU = {
    "intel-lazy": ("intel-iommu", "intel_iommu=on iommu=nopt iommu.strict=0",
                   ()),
    "intel-strict": ("intel-iommu",
                     "intel_iommu=on iommu=nopt iommu.strict=1", ()),
    # What assigned devices need: the host must see maps as well.
    "intel-caching": ("intel-iommu,caching-mode=on",
                      "intel_iommu=on iommu=nopt", ()),
    "virtio-strict": ("virtio-iommu-pci", "iommu=nopt iommu.strict=1",
                      ("virtio_pci", "virtio_iommu")),
    "virtio-lazy": ("virtio-iommu-pci", "iommu=nopt iommu.strict=0",
                    ("virtio_pci", "virtio_iommu")),
}

# What coIOMMU may cost: name, how it is computed from its and dma-direct's
# instructions, at most.
TARGETS = (
    ("page, over direct", lambda c, d: c["page"] - d["page"], 120),
    ("64k, over page", lambda c, d: c["64k"] - c["page"], 0),
    ("1m, over direct", lambda c, d: c["1m"] - d["1m"], 400),
    ("sg-near, times direct", lambda c, d: c["sg-near"] / d["sg-near"], 1.6),
    ("sg-far, times direct", lambda c, d: c["sg-far"] / d["sg-far"], 1.6),
    # It need not be called at all until something has been bounced.
    ("sync, over direct", lambda c, d: c["sync"] - d["sync"], 0),
)


class CountingVm(Guest):
    """A guest whose TSC counts instructions, and whose exits are counted."""

    CPUS = ["-accel", "tcg,thread=single", "-smp", "1",
            "-icount", "shift=0,sleep=off"]

    def __init__(self, bench, kernel, iommu=None, coiommu=None, args=""):
        self.seen = 0
        devices = ["-device", EDU]
        if iommu:
            devices = ["-device", iommu, *devices]
        super().__init__(bench.qemu, os.path.join(bench.options.image, kernel),
                         devices, coiommu=coiommu, args=args)
        for name in TRACE:
            self.monitor("trace-event-set-state", name=name, enable=True)
        self.count = 64 if bench.quick else 2048

    def bind(self):
        """Load the module that measures; the device that it drives."""
        self.run(f"modprobe dma_bench count={self.count}")
        self.wait("test -e /sys/bus/pci/drivers/dma_bench/0*")
        edu, = self.address(EDU_ID)
        return edu

    def measure(self, edu, operation):
        """Instructions and exits of one operation, with its loop."""
        path = f"/sys/bus/pci/devices/{edu}/run"
        count, ticks = map(int, self.output(
            f"echo {operation} >{path} && cat {path}").split())
        check(count == self.count, f"{operation}: every one has succeeded")
        return ticks / count, self._exits() / count

    def _exits(self):
        """Accesses to devices between the marks that are new in the trace."""
        with open(self.trace) as trace:
            trace.seek(self.seen)
            lines = trace.read().splitlines()
            self.seen = trace.tell()
        marks = [i for i, line in enumerate(lines) if MARK.match(line)]
        check(len(marks) == 2, "the loop is marked")
        between = lines[marks[0] + 1:marks[1]]
        check(all(line.startswith("memory_region_ops_") for line in between),
              "the trace has nothing but accesses")
        return len(between)

    def measure_all(self, edu):
        """The same of each operation, the loop taken off."""
        loop, exits = self.measure(edu, "empty")
        check(exits == 0, "the loop alone makes no exit")
        found = {}
        for operation in OPERATIONS:
            ticks, exits = self.measure(edu, operation)
            found[operation] = (ticks - loop, exits)
        return found


def ours(bench, kernel):
    """The kernel's direct mapping, then coIOMMU, in one guest."""
    with CountingVm(bench, kernel, coiommu="unpin-policy=off") as vm:
        edu = vm.bind()
        direct = vm.measure_all(edu)
        vm.run("rmmod dma_bench")
        vm.load()
        vm.bind()
        check(vm.counter("attached-endpoints") == 1, "the device is tracked")
        tracked = vm.measure_all(edu)
        vm.run("rmmod dma_bench")
        vm.check_idle()
        vm.check_clean()
    return {"direct": direct, "coiommu": tracked}


def viommu(bench, kernel, mode):
    """One of QEMU's IOMMUs, or None if this kernel has no driver for it."""
    iommu, args, modules = VIOMMU[mode]
    with CountingVm(bench, kernel, iommu=iommu, args=args) as vm:
        for module in modules:
            if vm.run(f"modprobe {module}", ok=None)[0]:
                return None
        edu = vm.bind()
        group = vm.output(
            f"cat /sys/bus/pci/devices/{edu}/iommu_group/type").strip()
        lazy = mode.endswith("-lazy")
        if lazy and group == "DMA":
            return None     # this kernel has no lazy mode here
        check(group == ("DMA-FQ" if lazy else "DMA"), f"{mode}: {group}")
        return vm.measure_all(edu)


def run(bench):
    bench.fact("accelerator", "tcg, -icount shift=0, 1 vCPU")
    bench.fact("kernel arguments", "mitigations=off")
    for kernel in bench.options.kernels:
        cloud = "cloud" in kernel
        modes = [] if cloud else list(VIOMMU)
        if bench.quick:
            modes = ["intel-lazy", "virtio-strict"]
        bench.step(f"{kernel}: direct, coiommu")
        found = ours(bench, kernel)
        for mode in modes:
            bench.step(f"{kernel}: {mode}")
            result = viommu(bench, kernel, mode)
            if result:
                found[mode] = result
        rows(bench, kernel, found)


def rows(bench, kernel, found):
    """The tables' rows for one kernel."""
    for mode, results in found.items():
        for operation, (ticks, exits) in results.items():
            direct = found["direct"][operation][0]
            bench.row("dma-map", kernel=kernel, mode=mode,
                      operation=operation, instructions=round(ticks, 1),
                      over_direct=round(ticks - direct, 1),
                      times_direct=round(ticks / direct, 2),
                      exits_per_1000=round(1000 * exits, 1))
    direct, tracked = ({operation: ticks for operation, (ticks, _) in
                        found[mode].items()} for mode in ("direct", "coiommu"))
    for name, value, most in TARGETS:
        value = round(value(tracked, direct), 2)
        bench.row("dma-map-targets", kernel=kernel, target=name, at_most=most,
                  found=value, met="yes" if value <= most else "no")
