# SPDX-License-Identifier: GPL-2.0-or-later
"""Stock drivers of disks and NICs, under load as well."""

from checks import (EDU, EDU_ID, check_attached, check_disk, check_groups,
                    check_net, check_pinned, edu_run, finish, load_drivers)
from guest import PATIENCE, check


def drivers(scenario):
    """Stock drivers that are modules: a disk and a NIC, data right."""
    with scenario.boot("nvme,serial=1,drive=disk", "e1000e,netdev=net") as vm:
        vm.load()
        vm.run("modprobe nvme && modprobe e1000e")
        nvme, = vm.address("1b36:0010")
        nic, = vm.address("8086:10d3")
        check_disk(vm)
        check_net(vm)
        check_attached(vm, nvme, nic)
        check_pinned(vm)
        finish(vm, nvme, nic)


def hotplug(scenario):
    """Stock drivers, built in or not; the devices come and go at run time."""
    with scenario.boot("pcie-root-port,id=rp1,chassis=1",
                       "pcie-root-port,id=rp2,chassis=2") as vm:
        vm.load()
        vm.monitor("device_add", driver="nvme", id="disk1", bus="rp1",
                   serial="1", drive="disk")
        vm.monitor("device_add", driver="virtio-net-pci", id="net1", bus="rp2",
                   netdev="net", iommu_platform=True)
        vm.run("modprobe nvme; modprobe virtio_pci; modprobe virtio_net",
               ok=None)
        check_disk(vm)
        check_net(vm)
        nvme, = vm.address("1b36:0010")
        nic, = vm.address("1af4:1041")
        check_attached(vm, nvme, nic)
        check_pinned(vm)
        vm.unplug("disk1", nvme)
        check(nvme not in vm.output("cat /sys/kernel/debug/coiommu/devices"),
              "the removed device is forgotten")
        finish(vm, nic)
        # Nobody is asked about a device that comes when we are gone.
        vm.monitor("device_add", driver="edu", id="edu1", bus="rp1")
        vm.wait(f"test -e /sys/bus/pci/devices/{nvme}")
        check_groups(vm)
        vm.check_clean()


def force(scenario):
    """swiotlb=force: everything is bounced."""
    with scenario.boot("nvme,serial=1,drive=disk", "e1000e,netdev=net", EDU,
                       args="swiotlb=force") as vm:
        vm.load()
        nvme, nic, edu = load_drivers(vm)
        edu_run(vm, edu, "stream")
        check("stream: bounced yes" in vm.output("dmesg"),
              "mappings were bounced")
        finish(vm, nvme, nic, edu)


def load_both(vm, seconds):
    """Disk on each CPU and NIC at the same time; the data must be right."""
    vm.run("dd if=/dev/urandom of=/tmp/data bs=64k count=96 2>/dev/null")
    vm.run(f"end=$(($(date +%s) + {seconds})); "
           "for cpu in 0 1; do (while [ $(date +%s) -lt $end ]; do "
           "dd if=/tmp/data of=/dev/nvme0n1 bs=64k seek=$((cpu * 128)) "
           "conv=fsync 2>/dev/null; echo 1 > /proc/sys/vm/drop_caches; "
           "dd if=/dev/nvme0n1 bs=64k skip=$((cpu * 128)) count=96 2>/dev/null "
           "| cmp - /tmp/data || touch /tmp/bad; done) & done; "
           "while [ $(date +%s) -lt $end ]; do "
           "ping -c 10 -i 0.01 -s 1400 10.0.2.2 >/dev/null || touch /tmp/bad; "
           "done; wait", timeout=seconds + PATIENCE)
    vm.run("test ! -e /tmp/bad && rm /tmp/data")


def unpin(scenario):
    """Stock drivers while the host unpins whatever it can, all the time."""
    with scenario.boot("nvme,serial=1,drive=disk", "e1000e,netdev=net",
                       coiommu="block=64K,unpin-interval=1") as vm:
        vm.load()
        vm.run("modprobe nvme && modprobe e1000e")
        nvme, = vm.address("1b36:0010")
        nic, = vm.address("8086:10d3")
        check_disk(vm)
        check_net(vm)
        load_both(vm, 20)
        check_attached(vm, nvme, nic)
        check(vm.table("requests")["failures"] == 0, "no request failed")
        names = ("unpin-passes", "lazy-unpinned-blocks", "unpin-races",
                 "repins", "demand-pin-blocks", "request-wait-max-ns",
                 "pinned-bytes-peak")
        print({name: vm.counter(name) for name in names}, flush=True)
        check(vm.counter("lazy-unpinned-blocks") > 100, "much was unpinned")
        finish(vm, nvme, nic)


def quota(scenario):
    """A disk with little memory pinned: every new block drives one out."""
    most = 4 << 20
    with scenario.boot("nvme,serial=1,drive=disk", EDU,
                       coiommu="block=64K,unpin-policy=off,"
                       f"max-pinned={most}") as vm:
        vm.load()
        vm.run("modprobe nvme && modprobe edu_test")
        nvme, = vm.address("1b36:0010")
        edu, = vm.address(EDU_ID)
        for _ in range(3):
            check_disk(vm)
            edu_run(vm, edu, "scatter")
        check_attached(vm, nvme, edu)
        check(vm.counter("reclaimed-blocks") > 0, "blocks were reclaimed")
        check(vm.counter("pinned-bytes-peak") <= most, "the quota held")
        finish(vm, nvme, edu)


def idle_mappings(vm):
    """How many mappings there are when no I/O is left, such as readahead."""
    while True:
        before = vm.table()["mappings"]
        vm.run("sleep 0.5")
        if vm.table()["mappings"] == before:
            return before


def maps_evenly(vm, writer, reader):
    """
    Write from some CPUs and read from others (masks): are there as many mappings
    as before?  There is one more when NVMe's pool of PRP lists grows, which it
    does a few times; a mapping that is left behind comes back each time.
    """
    before = idle_mappings(vm)
    vm.run(f"taskset {writer} dd if=/dev/urandom of=/tmp/data bs=64k count=32 "
           "2>/dev/null")
    vm.run(f"taskset {writer} dd if=/tmp/data of=/dev/nvme0n1 bs=64k "
           "conv=fsync 2>/dev/null")
    vm.run("echo 3 >/proc/sys/vm/drop_caches")
    vm.run(f"taskset {reader} dd if=/dev/nvme0n1 bs=64k count=32 2>/dev/null | "
           "cmp - /tmp/data")
    return idle_mappings(vm) == before


def late_cpu(scenario):
    """A CPU that comes online late, goes and comes again, maps like the other."""
    with scenario.boot("nvme,serial=1,drive=disk", args="maxcpus=1") as vm:
        online = "/sys/devices/system/cpu/cpu1/online"
        vm.load()
        vm.run("modprobe nvme")
        nvme, = vm.address("1b36:0010")
        check_disk(vm)
        for _ in range(2):
            check(vm.output(f"cat {online}").strip() == "0", "one CPU is online")
            vm.run(f"echo 1 >{online}")
            for mask in (1, 2):
                check(any(maps_evenly(vm, mask, 3 - mask) for _ in range(8)),
                      "what one CPU maps, another unmaps")
            vm.run(f"echo 0 >{online}")
            check_disk(vm)
        check_attached(vm, nvme)
        check_pinned(vm)
        vm.check_clean()
        finish(vm, nvme)


SCENARIOS = [drivers, hotplug, force, unpin, quota, late_cpu]
