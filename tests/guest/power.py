# SPDX-License-Identifier: GPL-2.0-or-later
"""Sleep and hibernation: what the host forgets, the driver tells it again."""

import os

from checks import (EDU, EDU_ID, check_attached, check_disk, edu_run, finish,
                    load_drivers)
from guest import PATIENCE, check

# Blocks as large as units, and nothing is let go: what is pinned can be
# compared with what the table says.
EXACT = "block=64K,unpin-policy=off"

# Where our function is on the bus: by their places alone, NIC and edu would
# wake before it, and the port above the disk after it.
PLACE = 4


def check_table(vm, *addresses):
    """All that is mapped is pinned, and the table claims no more than is."""
    check_attached(vm, *addresses)
    table = vm.table()
    check(table["mapped-units"] > 0, "something is mapped")
    check(table["unpinned-units"] == 0, "all of it is PINNED")
    check(table["pinned-units"] * table["unit-bytes"] <=
          vm.counter("pinned-bytes"), "what is PINNED is pinned")
    check(vm.counter("dma-faults") == 0, "no DMA missed its mapping")


def nothing_lost(vm, test):
    """A sleep that is broken off: the host keeps all it knows."""
    pinned, requests = vm.counter("pinned-bytes"), vm.counter("requests")
    vm.run(f"echo {test} > /sys/power/pm_test && echo mem > /sys/power/state")
    check(vm.counter("pinned-bytes") >= pinned, "nothing was unpinned")
    check(vm.counter("requests") - requests < 50, "nor pinned again")


def suspend_to_idle(vm):
    """Until somebody types on the console: to the host nothing happens."""
    sleeps = int(vm.output("cat /sys/power/suspend_stats/success"))
    vm.run("echo none > /sys/power/pm_test; "
           "echo enabled > /sys/class/tty/ttyS0/power/wakeup")
    vm.start("echo freeze > /sys/power/state")
    vm.end("echo freeze > /sys/power/state", wake=True)
    check(int(vm.output("cat /sys/power/suspend_stats/success")) == sleeps + 1,
          "the guest has slept")
    vm.run("echo disabled > /sys/class/tty/ttyS0/power/wakeup")


def suspend_to_ram(vm):
    """A reset for the host's devices, behind the driver's back."""
    before = vm.table()
    vm.run("echo none > /sys/power/pm_test; echo deep > /sys/power/mem_sleep")
    vm.start("echo mem > /sys/power/state")
    vm.wait_event("SUSPEND")
    vm.monitor("system_wakeup")
    vm.end("echo mem > /sys/power/state")
    after = vm.table()
    check(vm.counter("fallback-pins") == 0,
          "no device could do DMA before it was attached again")
    check(after["pinned-units"] < before["pinned-units"],
          "what is not mapped is not PINNED any more")


def sleep_in(scenario, *depths):
    """Sleep in these depths, with mappings that outlive it, and data after."""
    with scenario.boot(f"pcie-root-port,id=rp1,chassis=1,addr={PLACE + 1}",
                       "nvme,serial=1,drive=disk,bus=rp1",
                       f"e1000e,netdev=net,addr={PLACE - 1}",
                       f"{EDU},addr={PLACE - 2}",
                       coiommu=f"{EXACT},addr={PLACE}",
                       args="suspend.pm_test_delay=0",
                       kernel="vmlinuz") as vm:
        vm.load()
        nvme, nic, edu = load_drivers(vm)
        edu_run(vm, edu, "hold")
        vm.run("dd if=/dev/urandom of=/tmp/kept bs=64k count=64 2>/dev/null && "
               "dd if=/tmp/kept of=/dev/nvme0n1 bs=64k seek=128 conv=fsync "
               "2>/dev/null")
        for depth in depths:
            depth(vm)
            check_table(vm, nvme, nic, edu)
            vm.run("echo 3 > /proc/sys/vm/drop_caches; "
                   "dd if=/dev/nvme0n1 bs=64k skip=128 count=64 2>/dev/null "
                   "| cmp - /tmp/kept")
            check_disk(vm)
            vm.wait("ping -c 1 -W 1 10.0.2.2 >/dev/null")
            edu_run(vm, edu, "stream")
        edu_run(vm, edu, "release")
        check(vm.table("requests")["failures"] == 0, "no request failed")
        finish(vm, nvme, nic, edu)


def sleep(scenario):
    """Each depth that the kernel has; a machine here wakes from S3 once."""
    sleep_in(scenario,
             lambda vm: nothing_lost(vm, "devices"),
             lambda vm: nothing_lost(vm, "platform"),
             lambda vm: nothing_lost(vm, "core"),
             suspend_to_idle, suspend_to_ram)


def wake_order(scenario):
    """Devices wake one after the other: by their places, but for our links.

    Usually they wake at the same time as far as they may, so that one that does
    not wait for us, or for which we do not wait, may still be late enough.
    """
    def one_by_one(vm):
        vm.run("echo 0 > /sys/power/pm_async")
        suspend_to_ram(vm)

    sleep_in(scenario, one_by_one)


def boot_for_hibernation(scenario):
    return scenario.boot("nvme,serial=1,drive=disk", EDU, coiommu=EXACT,
                         args="hibernate=nocompress")


def hibernate(scenario):
    """Hibernation to a tracked disk: another kernel reads the image back."""
    os.truncate(scenario.disk, 512 << 20)
    with boot_for_hibernation(scenario) as vm:
        vm.load()
        vm.run("modprobe nvme && modprobe edu_test")
        edu, = vm.address(EDU_ID)
        edu_run(vm, edu, "hold")
        vm.run("dd if=/dev/urandom of=/tmp/kept bs=64k count=64 2>/dev/null && "
               "md5sum /tmp/kept > /tmp/sum")
        vm.wait("test -b /dev/nvme0n1")
        vm.run("mkswap /dev/nvme0n1 && swapon /dev/nvme0n1")
        vm.run("echo shutdown > /sys/power/disk")
        vm.start("echo disk > /sys/power/state")
        vm.process.wait(timeout=2 * PATIENCE)
    with boot_for_hibernation(scenario) as vm:
        # This kernel's own table is overwritten by what it reads.
        vm.load()
        vm.run("modprobe nvme && modprobe edu_test")
        edu, = vm.address(EDU_ID)
        edu_run(vm, edu, "hold")
        vm.wait("test -b /dev/nvme0n1")
        vm.start("cat /sys/block/nvme0n1/dev > /sys/power/resume")
        # Not this command ends, but the one that put the machine to sleep.
        vm.end("echo disk > /sys/power/state")
        vm.run("test -s /tmp/sum && md5sum -c /tmp/sum")
        nvme, = vm.address("1b36:0010")
        check_table(vm, nvme, edu)
        vm.run("swapoff /dev/nvme0n1")
        check_disk(vm)
        edu_run(vm, edu, "stream")
        edu_run(vm, edu, "release")
        check(vm.table("requests")["failures"] == 0, "no request failed")
        finish(vm, nvme, edu)


def sleep_hidden(scenario):
    """RAM that the kernel does not use is pinned again after a sleep."""
    with scenario.boot(EDU, coiommu=EXACT, args="mem=400M",
                       kernel="vmlinuz") as vm:
        vm.load()
        vm.run(f"modprobe edu_test phys={480 << 20}")
        edu, = vm.address(EDU_ID)
        edu_run(vm, edu, "stream")
        edu_run(vm, edu, "hold")
        suspend_to_ram(vm)
        check_table(vm, edu)
        edu_run(vm, edu, "release")
        check(vm.counter("dma-faults") == 0, "no DMA missed its mapping")
        check(vm.table("requests")["failures"] == 0, "no request failed")
        finish(vm, edu)


SCENARIOS = [sleep, wake_order, sleep_hidden, hibernate]
