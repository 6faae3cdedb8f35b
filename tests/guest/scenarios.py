#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guest driver has to show, one function per test.

    scenarios.py NAME QEMU IMAGE

QEMU is the binary, IMAGE a folder with vmlinux and initrd (tests/guest/run
makes them).  Exit status 0 or 1; everything that is asked and answered is
printed.  The emulated devices are behind coIOMMU (x-track-emulated) and can
reach only what is pinned, so wrong data or a fault shows a missing pin.
"""

import sys
import tempfile

import children
import clock
import devices
import dma_api
import fallback
import faults
import iommu
import kexec
import layout
import life
import lifecycle
import power
import security
import stress
import watch
from checks import Scenario
from guest import Failure

MODULES = [children, clock, devices, dma_api, fallback, faults, iommu, kexec, layout,
           life, lifecycle, power, security, stress, watch]


def main():
    if len(sys.argv) != 4:
        sys.exit("usage:" + __doc__.split("\n\n")[1].replace("    ", " "))
    name, qemu, image = sys.argv[1:]
    scenario = {s.__name__: s for module in MODULES
                for s in module.SCENARIOS}[name]
    with tempfile.TemporaryDirectory(prefix="coiommu-test-") as folder:
        try:
            scenario(Scenario(qemu, image, folder))
        except Failure as failure:
            sys.exit(f"FAILED: {failure}")


if __name__ == "__main__":
    main()
