# SPDX-License-Identifier: GPL-2.0-or-later
"""Allocations that fail, one after the other, on the debug kernel.

The kernel fails the n-th allocation that a task makes when it is told so in
/proc/self/fail-nth.  What is tried is done by a shell in the guest itself, with
n from 1 up until it has run to its end without a failure: so each allocation on
the way has failed once, the driver's, the DMA API's and the kernel's around
them.  After each try nothing may be left, and at the end all must work, and no
memory have leaked.
"""

import re

from checks import EDU, EDU_ID, check_attached, check_groups, edu_run, finish
from guest import SPLAT, check

DRIVERS = "/sys/bus/pci/drivers"
FOLDER = "/sys/kernel/debug/coiommu"
BLOCK = "/sys/devices/system/memory/memory32/state"

# More than any of the tries takes; one that never ends ends here.
MOST = 2000

# What must hold after a try, without another process: there are thousands.
NOTHING_MAPPED = (
    "while read -r name value; do [ $name = mappings ] && break; done "
    f"<{FOLDER}/dtt; [ $value -eq 0 ]")
DETACHED = f"read -r name how rest <{FOLDER}/devices; [ \"$how\" != attached ]"
NO_DRIVER = (
    f"left={FOLDER}; for group in /sys/kernel/iommu_groups/* "
    "/sys/class/iommu/*; do [ ! -e $group ] || left=/; done; [ ! -e $left ]")

# Each line is a line of the guest's script.  $2 is tried after $1, $3 undoes
# what is left of it, and $4 must hold then.  The last read is 0 if something
# has failed, which may be the read itself.
SWEEP = f"""\
n=0
while [ $n -lt {MOST} ]; do
n=$((n + 1))
eval "$1"
echo $n >/proc/self/fail-nth
eval "$2"
left=0
read left </proc/self/fail-nth
echo 0 >/proc/self/fail-nth
eval "$3"
[ "$left" -eq 0 ] || {{ echo "swept $n"; exit 0; }}
eval "$4" || {{ echo "failure $n leaves something behind"; exit 1; }}
done
exit 1
"""


# What the kernel says of allocations that fail, and the driver core of a device
# link that goes when there is no memory for the names of its files, and of those
# files when the next link comes: not our doing.
EXPECTED = re.compile(
    r"(vmalloc error|page allocation failure): .*?</TASK>"
    r"|-+\[ cut here \]-+\n[^\n]*Unable to properly free device link symlinks!"
    r".*?---\[ end trace [^\n]*"
    r"|sysfs: cannot create duplicate filename '[^']*/consumer:.*?</TASK>",
    re.DOTALL)


def check_log(vm):
    """The kernel has nothing else to complain about; the log is empty then."""
    splat = SPLAT.search(EXPECTED.sub("", vm.output("dmesg -c")))
    check(not splat, f"the kernel's log has '{splat and splat.group()}'")


def enable_faults(vm):
    vm.run("test -e /proc/self/fail-nth")
    for kind in ("failslab", "fail_page_alloc"):
        folder = f"/sys/kernel/debug/{kind}"
        vm.run(f"echo N > {folder}/ignore-gfp-wait")
        # What fails on purpose is nothing to report.
        vm.run(f"echo 0 > {folder}/verbose")
    vm.run("echo 0 > /sys/kernel/debug/fail_page_alloc/min-order")
    for line in SWEEP.splitlines():
        vm.run(f"echo '{line}' >> /tmp/sweep")


def sweep(vm, action, before="true", undo="true", holds="true"):
    """Try it with each allocation failing."""
    text = vm.output(f"sh /tmp/sweep '{before}' '{action}' '{undo}' '{holds}' "
                     "2>/dev/null", timeout=900)
    check(int(text.split()[-1]) > 3, "allocations have failed")
    check_log(vm)


def bound(driver, address):
    """Shell words to bind a device, and to unbind it if it is bound."""
    folder = f"{DRIVERS}/{driver}"
    return (f"[ -e {folder}/{address} ] || echo {address} > {folder}/bind",
            f"[ ! -e {folder}/{address} ] || echo {address} > {folder}/unbind")


def sweep_driver(vm, driver, address, holds):
    """A driver's probe and remove; it is bound before and after."""
    bind, unbind = bound(driver, address)
    vm.run(unbind)
    sweep(vm, bind, undo=unbind, holds=holds)
    sweep(vm, unbind, before=bind, undo=unbind, holds=holds)
    check(vm.counter("attached-endpoints") == 0, "nothing is attached")
    check(vm.counter("pinned-bytes") == 0, "nothing is pinned")
    vm.run(bind)


def sweep_api(vm, edu, tests):
    """What drivers do with the DMA API."""
    no_dma = "/sys/module/edu_test/parameters/no_dma"
    vm.run(f"echo 1 > {no_dma}")
    for test in tests:
        undo = (f"echo release > /sys/bus/pci/devices/{edu}/run"
                if test == "hold" else "true")
        sweep(vm, f"echo {test} > /sys/bus/pci/devices/{edu}/run", undo=undo,
              holds=NOTHING_MAPPED)
    vm.run(f"echo 0 > {no_dma}")
    for test in tests:
        edu_run(vm, edu, test)
    if "hold" in tests:
        edu_run(vm, edu, "release")


def sweep_memory(vm):
    """Memory that goes online: the table grows for it."""
    before = vm.table()
    vm.run("echo offline > /sys/devices/system/memory/auto_online_blocks")
    vm.monitor("object-add", **{"qom-type": "memory-backend-ram",
                                "id": "dimm", "size": 128 << 20})
    vm.monitor("device_add", driver="pc-dimm", id="dimm0", memdev="dimm")
    vm.wait(f"test -e {BLOCK}")
    sweep(vm, f"echo online > {BLOCK}", before=f"echo offline > {BLOCK}")
    check(vm.output(f"cat {BLOCK}").strip() == "online", "the memory is online")
    check(vm.table()["leaves"] - before["leaves"] == 2,
          "the table has two more leaves")


def check_no_leak(vm):
    """No memory is left that nobody points to.  Young objects don't count."""
    file = "/sys/kernel/debug/kmemleak"
    vm.run(f"sleep 6; echo scan > {file}; echo scan > {file}")
    check(not vm.output(f"cat {file}").strip(), "no memory has leaked")


def faults(scenario):
    """Each allocation fails once; nothing is left, and the next try works."""
    # The checker of the DMA API switches itself off when an allocation fails.
    with scenario.boot(EDU, memory="512M,slots=1,maxmem=4G",
                       args="dma_debug=off") as vm:
        vm.load()
        coi, = vm.address("1af4:10f0")
        edu, = vm.address(EDU_ID)
        enable_faults(vm)
        vm.run("echo clear > /sys/kernel/debug/kmemleak")
        sweep_driver(vm, "coiommu", coi, NO_DRIVER)
        check_groups(vm, edu)
        vm.run("modprobe edu_test")
        sweep_driver(vm, "edu_test", edu, f"{DETACHED} && {NOTHING_MAPPED}")
        check_attached(vm, edu)
        sweep_api(vm, edu, ("walk", "stream", "masks", "many", "refuse",
                            "hold"))
        # Last: it is out of edu's reach.
        sweep_memory(vm)
        finish(vm, edu)
        vm.run("rmmod edu_test")
        check_no_leak(vm)


def faults_bounced(scenario):
    """The same, by way of the shadow and bounce buffers."""
    with scenario.boot(EDU, args="dma_debug=off swiotlb=force") as vm:
        vm.load()
        edu, = vm.address(EDU_ID)
        enable_faults(vm)
        vm.run("modprobe edu_test")
        vm.run("echo clear > /sys/kernel/debug/kmemleak")
        sweep_driver(vm, "edu_test", edu, f"{DETACHED} && {NOTHING_MAPPED}")
        check_attached(vm, edu)
        sweep_api(vm, edu, ("walk", "stream", "masks"))
        finish(vm, edu)
        vm.run("rmmod edu_test")
        check_no_leak(vm)


SCENARIOS = [faults, faults_bounced]
