# SPDX-License-Identifier: GPL-2.0-or-later
"""What an administrator can watch: counters, as documented, and traces."""

import os
import re

from checks import EDU, EDU_ID, check_attached, edu_run, finish
from guest import check

ABI = os.path.join(os.path.dirname(os.path.realpath(__file__)),
                   "../../docs/user/debugfs-coiommu")
TRACING = "/sys/kernel/tracing"
EVENT = re.compile(r"\] .* coiommu_(?P<event>\w+): (?P<text>.*)$")


def documented():
    """For each file the names of its lines, from the ABI document."""
    files = {}
    with open(ABI, encoding="utf-8") as document:
        for line in document:
            what = re.match(r"What:\s+/sys/kernel/debug/coiommu/(\w*)$", line)
            name = re.match(r"\t\t([a-z]+(?:-[a-z]+)*)\t+\S", line)
            if what:
                names = files.setdefault(what.group(1), [])
            elif name:
                names.append(name.group(1))
    return files


def check_documented(vm):
    """The document has just those files, with just those lines."""
    files = documented()
    there = vm.output("ls /sys/kernel/debug/coiommu").split()
    check(sorted(there) == sorted(set(files) - {""}),
          "each file is documented")
    for name in ("dtt", "requests"):
        check(list(vm.table(name)) == files[name],
              f"each line of {name} is documented, in order")


def events(vm):
    """The trace since the last call: a list of texts for each event."""
    found = {}
    for line in vm.output(f"cat {TRACING}/trace && echo > {TRACING}/trace"
                          ).splitlines():
        match = EVENT.search(line)
        if match:
            found.setdefault(match.group("event"), []).append(
                match.group("text"))
    return found


def check_requests(vm, edu, before):
    """Each request has been traced, with its latency and status."""
    after = vm.table("requests")
    seen = events(vm)
    check(seen["attach"] == [f"{edu} status=0"], "the attach was traced")
    check(len(seen["request"]) == after["requests"] - before["requests"],
          "each request was traced")
    pins = [text for text in seen["request"] if text.startswith("pin ")]
    times = [int(re.search(r" ns=(\d+)$", text).group(1))
             for text in seen["request"]]
    check(sum(times) == after["request-ns"] - before["request-ns"],
          "latencies add up to what is counted")
    check(0 < min(times) and max(times) <= after["request-max-ns"],
          "each took some time")
    check(sum(int(re.search(r"pages=(\d+)", text).group(1)) for text in pins)
          == after["pin-pages"] - before["pin-pages"] > 0,
          "so do the pages of pins")
    check(all(" status=0 " in text for text in pins), "all were granted")


def check_mappings(vm, edu):
    """Each map has its unmap: single ones, lists, and allocated memory."""
    for test, most, sizes in (("stream", 8, {256}), ("many", 600, {512}),
                              ("walk", 50, None)):
        edu_run(vm, edu, test)
        seen = events(vm)
        maps = sorted(seen["map"])
        check(maps == sorted(seen["unmap"]), f"{test}: all was unmapped")
        check(len(maps) == most if sizes else 3 < len(maps) < most,
              f"{test}: {len(maps)} mappings")
        check(all(text.startswith(f"{edu} addr=0x") for text in maps),
              "the device and the address are there")
        check(not sizes or {int(text.rpartition("=")[2]) for text in maps}
              == sizes, "and the size")


def watch(scenario):
    """The counters' document is right; traces tell the same as counters."""
    with scenario.boot(EDU) as vm:
        vm.load()
        edu, = vm.address(EDU_ID)
        check_documented(vm)
        vm.run(f"mount -t tracefs tracefs {TRACING} && "
               f"echo 1 > {TRACING}/events/coiommu/enable")
        before = vm.table("requests")
        vm.run("modprobe edu_test")
        check_attached(vm, edu)
        edu_run(vm, edu, "hold")
        edu_run(vm, edu, "release")
        check_requests(vm, edu, before)
        check_mappings(vm, edu)
        edu_run(vm, edu, "refuse")
        check([text for text in events(vm)["request"]
               if re.match(r"pin .* status=4 ns=\d+$", text)],
              "a refusal is traced with its status")
        vm.unbind(edu)
        check(events(vm)["detach"] == [f"{edu} status=0"],
              "the detach was traced")
        vm.run(f"echo 0 > {TRACING}/events/coiommu/enable")
        vm.run(f"echo {edu} > /sys/bus/pci/drivers/edu_test/bind")
        check(not events(vm), "nothing more is traced")
        finish(vm, edu)


SCENARIOS = [watch]
