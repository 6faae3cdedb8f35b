# SPDX-License-Identifier: GPL-2.0-or-later
"""The start of VMs that are larger than any machine here: up to 1 TiB.

Their memory is sparse and never touched, there is no guest code (qtest), and a
vfio-user peer stands where VFIO would be: it is told of memory, but pins nothing.  So
this is what QEMU and the coIOMMU device themselves take, whatever is pinned.
"""

import json
import time

from qemu import Qemu
from results import spread
from vfio_user_server import VfioUserServer

GIB = 1 << 30
SIZES_GIB = (1, 16, 256, 1024)
# The default model is AMD's, whose memory stops short of 1 TiB.
CPU = ("-cpu", "Skylake-Server,phys-bits=46")


def start(bench, gib, coiommu):
    """Seconds from QEMU's start to its answer, and what the peer was told of."""
    with Qemu("coiommu-bench-") as qemu:
        path = qemu.path("vfio-user")
        server = VfioUserServer(path, bench.log)
        devices = ["-device", "coiommu"] if coiommu else []
        begin = time.monotonic()
        try:
            qemu.launch(
                [bench.qemu, "-M", "q35,memory-backend=ram", "-accel", "qtest",
                 "-nodefaults", "-display", "none", "-m", f"{gib}G", *CPU,
                 "-S", "-object",
                 f"memory-backend-memfd,id=ram,size={gib}G,share=on",
                 *devices, "-device", json.dumps({
                     "driver": "vfio-user-pci", "addr": "5",
                     "socket": {"type": "unix", "path": path}})],
                stderr=bench.log)
            qemu.qmp("query-status")
            return time.monotonic() - begin, server.mapped_bytes()
        except OSError as error:
            raise RuntimeError(f"QEMU doesn't start with {gib} GiB: "
                               f"see {bench.log_path}") from error
        finally:
            server.close()


def run(bench):
    trials = 2 if bench.quick else 5
    for gib in SIZES_GIB[:2] if bench.quick else SIZES_GIB:
        bench.step(f"sparse VM of {gib} GiB over vfio-user")
        times = {True: [], False: []}
        told = {}
        for _ in range(trials):
            for coiommu, found in times.items():
                seconds, told[coiommu] = start(bench, gib, coiommu)
                found.append(seconds)
        for coiommu, found in times.items():
            bench.row("boot-sparse", env="coiommu" if coiommu else "static",
                      gib=gib, starts=trials, **spread("ready_s", found, 3),
                      mapped_gib=round(told[coiommu] / GIB, 3))
