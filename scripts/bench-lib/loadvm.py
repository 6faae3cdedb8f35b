# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest under TCG with an emulated NVMe disk and a NIC behind coIOMMU.

fio reads from the disk, which is QEMU's null-co: no medium limits the rate.
sockperf plays TCP ping-pong with its server on this machine: each packet goes
through the NIC, by DMA, to QEMU's user network, and on to the server.
"""

import os
import struct
import time

from guest import Guest, check

DISK_GIB = 4
MEMORY = "1G"
DISK = "nvme,serial=1,drive=disk"
DIR_PRESENT, DIR_MASK = 1, 0x000ffffffffff000
COUNT_MASK = (1 << 20) - 1
LEAF_ENTRIES = 1024
REG_UNIT_SHIFT, REG_BLOCK_SHIFT = 0x18, 0x1c
REG_DTT_ROOT, REG_DTT_SIZE = 0x30, 0x38
TRACING = "/sys/kernel/debug/tracing"
FIO = ("fio --name={name} --filename=/dev/nvme0n1 --rw=randread --bs=4k "
       "--ioengine=libaio --time_based --norandommap --minimal "
       "--output=/tmp/{name}.out --runtime={seconds}")
LOADS = {
    # 32 buffers in flight for each of two jobs.
    "fio-direct": FIO + " --direct=1 --iodepth=32 --numjobs=2 "
                  "--group_reporting --size=256m",
    # Through a page cache that is smaller than the disk: each read goes to
    # another page of the guest's memory.
    "fio-buffered": FIO + " --direct=0 --numjobs=2 --group_reporting "
                    f"--invalidate=0 --size={DISK_GIB}g",
    # 16 MiB of buffers that stay; idle for longer than it takes to unpin them.
    "fio-bursts": FIO + " --direct=1 --bs=128k --iodepth=128 --numjobs=1 "
                  "--size=1g --thinktime=5s --thinktime_blocks=2000",
    "tcp-rr": "sockperf ping-pong --tcp -i 10.0.2.2 -p {port} -m 64 "
              "-t {seconds} >/tmp/{name}.out 2>&1",
}


class LoadVm(Guest):
    """A guest with the driver loaded, and the disk and the NIC in use."""

    def __init__(self, bench, server, nic="e1000e", coiommu=""):
        super().__init__(
            bench.qemu, bench.options.image,
            ["-blockdev", "driver=null-co,node-name=disk,read-zeroes=on,"
             f"size={DISK_GIB << 30}", "-device", DISK,
             "-netdev", "user,id=net",
             "-device", f"{nic},netdev=net,romfile="],
            coiommu=coiommu, memory=MEMORY)
        try:
            self.server = server
            self._prepare(nic)
        except BaseException:
            self.close()
            raise

    def _prepare(self, nic):
        self.load()
        self.run(f"modprobe nvme && modprobe {nic}")
        self.wait("test -b /dev/nvme0n1")
        self.wait("test -e /sys/class/net/eth0")
        self.run("ip link set lo up; ip link set eth0 up")
        self.wait("grep -q 1 /sys/class/net/eth0/carrier")
        self.run("ip addr add 10.0.2.15/24 dev eth0")
        self.wait("ping -c 1 -W 1 10.0.2.2 >/dev/null")
        check(self.counter("attached-endpoints") == 2,
              "disk and NIC are attached")
        self.bar = int(self.output(
            "head -n 1 /sys/bus/pci/drivers/coiommu/0*/resource").split()[0],
            16)
        self.unit_bytes = 1 << self._register(REG_UNIT_SHIFT, 4)
        self.block_bytes = 1 << self._register(REG_BLOCK_SHIFT, 4)
        self._probe_maps()

    # ---- counting DMA maps ----

    def _probe_maps(self):
        """Count calls of the driver's map operations by kprobes.

        Only calls through dma_map_*: coherent memory is not counted, and a
        scatterlist counts once.
        """
        self.run(f"echo 0 >{TRACING}/tracing_on")
        # Newer kernels have no map_page: where there is one it calls map_phys.
        self.run("for f in page phys; do "
                 "echo p:bench/$f coiommu:coiommu_map_$f "
                 f">{TRACING}/kprobe_events && break; done")
        self.run("echo p:bench/sg coiommu:coiommu_map_sg "
                 f">>{TRACING}/kprobe_events")
        self.run(f"echo 1 >{TRACING}/events/bench/enable")

    def sample(self):
        """Counters of both sides, at one time."""
        hits = self.output(f"cat {TRACING}/kprobe_profile")
        return {
            "at": time.monotonic(),
            "maps": sum(int(line.split()[1]) for line in hits.splitlines()
                        if line.split()),
            **{name.replace("-", "_"): self.counter(name) for name in
               ("requests", "demand-pin-requests", "demand-pin-blocks",
                "unpinned-blocks", "repins", "pinned-bytes")},
        }

    # ---- load ----

    def start_load(self, name, seconds):
        command = LOADS[name].format(name=name, seconds=seconds,
                                     port=self.server.port)
        self.run(f"{{ {command}; echo $? >/tmp/{name}.status; }} "
                 f"</dev/null >/tmp/{name}.log 2>&1 &")

    def end_load(self, name, timeout=90):
        """Wait for its end: I/Os or transactions per second."""
        self.wait(f"test -s /tmp/{name}.status", timeout=timeout)
        status = self.output(f"cat /tmp/{name}.status").strip()
        if status != "0":
            self.run(f"cat /tmp/{name}.log /tmp/{name}.out", ok=None)
        check(status == "0", f"{name} ended with status {status}")
        text = self.output(f"cat /tmp/{name}.out")
        self.run(f"rm /tmp/{name}.*")
        if name.startswith("fio"):
            # Terse format: the eighth field is the rate of reads.
            return float(text.split(";")[7])
        total = next(line for line in text.splitlines()
                     if "[Valid Duration]" in line)
        words = dict(word.split("=") for word in
                     total.replace(";", "").replace(" sec", "").split()
                     if "=" in word)
        return float(words["ReceivedMessages"]) / float(words["RunTime"])

    # ---- the table, from outside ----

    def _register(self, offset, size=8):
        letter = {4: "w", 8: "g"}[size]
        text = self.monitor("human-monitor-command", **{
            "command-line": f"xp /1{letter}x {self.bar + offset:#x}"})
        return int(text.split(":")[1], 16)

    def _memory(self, address, size):
        path = os.path.join(self.folder.name, "memory")
        self.monitor("pmemsave", val=address, size=size, filename=path)
        with open(path, "rb") as saved:
            return saved.read()

    def busy_blocks(self):
        """How many pin blocks hold a page that is mapped for DMA now."""
        unit, block = self.unit_bytes, self.block_bytes
        busy = set()
        self.monitor("stop")
        try:
            size = self._register(REG_DTT_SIZE)
            leaves = -(-size // (unit * LEAF_ENTRIES))
            directory = struct.unpack(
                f"<{leaves}Q",
                self._memory(self._register(REG_DTT_ROOT), leaves * 8))
            for i, entry in enumerate(directory):
                if not entry & DIR_PRESENT:
                    continue
                leaf = self._memory(entry & DIR_MASK, LEAF_ENTRIES * 4)
                busy.update(
                    (i * LEAF_ENTRIES + slot) * unit // block
                    for slot, (value,) in enumerate(
                        struct.iter_unpack("<I", leaf)) if value & COUNT_MASK)
        finally:
            self.monitor("cont")
        return len(busy)
