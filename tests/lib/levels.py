# SPDX-License-Identifier: GPL-2.0-or-later
"""Run the levels that were asked for; scripts/test calls this.

Each level is a program, tests/LEVEL/run, that prints TAP: its tests' results, in
an order that is always the same.  With TAP_LIST in its environment it prints its
tests instead, and what each shows; TAP_ONLY has the names of those to run.

Levels run side by side, as far as the slots of tap.sh let their tests; their
lines come level by level.  A level that ends without having run every test that
it planned has failed, however it exited.
"""

import argparse
import os
import queue
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor, wait

TOP = os.environ["COIOMMU_TOP"]
LOGS = os.environ["COIOMMU_LOGS"]

# What each tests (in the order in which they are told: cheap ones first).
LEVELS = {
    "style": "licences, checkpatch, shellcheck",
    "unit": "the pure logic, and the specification against the ABI header",
    "model": "the protocol in every interleaving, and seeded bugs that must "
             "be found",
    "fuzz": "what reads guest memory, and the pin set, with clang's fuzzer",
    "patches": "the QEMU patches apply, come back unchanged, and build",
    "build": "the guest driver on every kernel of the matrix, sparse, "
             "checkpatch",
    "package": "DKMS, signing and initramfs images, in Debian systems made "
               "for it",
    "qtest": "the device, with a vfio-user peer that sees each map and unmap",
    "guest": "the driver in stock kernels, with emulated devices",
    "bench": "the commands of docs/benchmarks, with tiny sizes",
    "system": "a VM with real VFIO in the nested rig",
    "smp": "two CPUs, devices with DMA at random, unpinning as fast as it "
           "goes",
}
# Those that run only when they are named: what they build takes long.
BY_NAME = {
    "qtest-asan": "qtest on a QEMU with sanitizers",
    "guest-debug": "the driver in a kernel that checks itself",
    "iommufd": "system on a host with iommufd instead of VFIO's own containers",
    "check-qtest": "QEMU's own tests of its devices, with our patches and "
                   "without",
}
# Those whose program isn't tests/LEVEL/run, but this, with arguments.
VARIANTS = {
    "qtest-asan": ("qtest/run", "asan"),
    "guest-debug": ("guest/run", "debug"),
    "iommufd": ("system/run", "iommufd"),
    "check-qtest": ("patches/check-qtest",),
}

# How many levels run at once.  FIRST takes longest with one slot, so it begins before
# the others; ALONE lets two CPUs race, so it begins when they have ended.
AT_ONCE = 3
FIRST = "system"
ALONE = "smp"


def program(level):
    """The command that runs a level."""
    path, *arguments = VARIANTS.get(level, (f"{level}/run",))
    return [os.path.join(TOP, "tests", path), *arguments]


def tests_of(level):
    """(name, what it shows) of each test of a level."""
    lines = subprocess.run(
        program(level), env={**os.environ, "TAP_LIST": "1"}, check=True,
        text=True, stdout=subprocess.PIPE).stdout.splitlines()
    return [line.split("\t") for line in lines]


def is_named(test, only):
    """Is this name of --only the test, or its beginning up to a dash?"""
    return test == only or test.startswith(only + "-")


def fail(text):
    sys.exit(f"test: {text}")


class Report:
    """What has come out, for the reader and as JUnit's XML."""

    def __init__(self):
        self.counts = {"PASS": 0, "FAIL": 0, "SKIP": 0}
        self.root = ElementTree.Element("testsuites")
        self.suite = self.case = None

    def begin(self, level):
        self.suite = ElementTree.SubElement(self.root, "testsuite", name=level)
        self.case = None

    def result(self, verdict, name, remark, seconds="0"):
        level = self.suite.get("name")
        self.counts[verdict] += 1
        print(verdict, f"{level}/{name}{remark}", flush=True)
        self.case = ElementTree.SubElement(
            self.suite, "testcase", classname=level, name=name, time=seconds)
        if verdict != "PASS":
            kind = "skipped" if verdict == "SKIP" else "failure"
            ElementTree.SubElement(self.case, kind, message=remark.strip(": "))

    def line(self, line):
        """A line of TAP: is it a result?"""
        match = re.match(r"(not )?ok \d+ - (\S+)(?: \(([\d.]+) s\))?"
                         r"(?: # SKIP (.*))?", line)
        if match:
            bad, name, seconds, reason = match.groups()
            verdict = "FAIL" if bad else "PASS" if reason is None else "SKIP"
            self.result(verdict, name,
                        f": {reason}" if reason is not None
                        else f" ({seconds} s)" if seconds else "",
                        seconds or "0")
        elif line.startswith("#"):
            self.remark(line)
        return bool(match)

    def remark(self, line):
        """Something to read about the test before."""
        print("   ", line, flush=True)
        if self.case is not None and len(self.case):
            self.case[0].text = (self.case[0].text or "") + line[1:] + "\n"

    def write(self, path):
        for suite in self.root:
            for name, tag in (("tests", "testcase"), ("failures", "failure"),
                              ("skipped", "skipped")):
                suite.set(name, str(sum(1 for _ in suite.iter(tag))))
        ElementTree.ElementTree(self.root).write(
            path, encoding="utf-8", xml_declaration=True)


class Run:
    """A level's run; its lines wait in a queue."""

    def __init__(self, level):
        self.level = level
        self.log = os.path.join(LOGS, level, "run.log")
        self.lines = queue.Queue()
        self.process = self.status = None
        self.seconds = self.cpu = 0

    def run(self, only, others):
        """Run it to its end, in a thread, when these others have ended."""
        wait(others)
        start = time.monotonic()
        try:
            os.makedirs(os.path.dirname(self.log), exist_ok=True)
            with open(self.log, "w", encoding="utf-8") as log:
                self.process = subprocess.Popen(
                    program(self.level), env={**os.environ, "TAP_ONLY": only},
                    text=True, errors="replace", stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE, stderr=log, start_new_session=True)
            with self.process.stdout as lines:
                for line in lines:
                    self.lines.put(line.rstrip("\n"))
            _, status, used = os.wait4(self.process.pid, 0)
            self.status = os.waitstatus_to_exitcode(status)
            self.process.returncode = self.status
            self.cpu = used.ru_utime + used.ru_stime
        finally:
            self.seconds = time.monotonic() - start
            self.lines.put(None)

    def end(self):
        """End it, with all that it has started."""
        if self.process and self.status is None:
            os.killpg(self.process.pid, signal.SIGTERM)

    def report(self, report):
        """Tell of its tests until it has ended."""
        planned, seen, before = "no", 0, report.counts["FAIL"]
        report.begin(self.level)
        for line in iter(self.lines.get, None):
            if line.startswith("1.."):
                planned = line[3:].split()[0]
            elif report.line(line):
                seen += 1
        if planned != str(seen):
            report.result("FAIL", "plan", f": planned {planned} tests, saw "
                          f"{seen} (exit status {self.status}, log {self.log})")
            self._show_end(report)
        elif self.status and report.counts["FAIL"] == before:
            report.result("FAIL", "plan", f": exit status {self.status} with every "
                          f"test passed (log {self.log})")
        say(f"level {self.level} took {self.seconds:.0f} s, and {self.cpu:.0f} s "
            "of CPU time")

    def _show_end(self, report):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            for line in log.read().splitlines()[-5:]:
                report.remark(f"# | {line}")


def say(text):
    seconds = int(time.time()) - int(os.environ["COIOMMU_STARTED"])
    print(f"[{seconds:4d}s] {text}", file=sys.stderr, flush=True)


def table(levels):
    return "\n".join(f"  {name:<11} {text}" for name, text in levels.items())


def parse():
    parser = argparse.ArgumentParser(
        prog="scripts/test", allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Runs the named levels, or all of these:\n\n"
        f"{table(LEVELS)}\n\nBy name only, as they build a kernel or QEMU first "
        f"(5 to 20 minutes):\n\n{table(BY_NAME)}",
        epilog="Logs, one per test, go to $COIOMMU_BUILD/logs (build/logs).")
    parser.add_argument("levels", nargs="*", metavar="LEVEL")
    parser.add_argument("--only", action="append", default=[], metavar="NAME",
                        help="run only the tests of this name, or that "
                        "begin with it and a dash (once for each)")
    parser.add_argument("--list", action="store_true",
                        help="name each test, and what it shows")
    parser.add_argument("--junit", metavar="FILE",
                        help="write the results as JUnit's XML as well")
    return parser.parse_args()


def choose(options):
    """The levels to run: of all levels those with a test that --only names."""
    known = {**LEVELS, **BY_NAME}
    for level in options.levels:
        if level not in known:
            fail(f"there is no level {level}; the levels are: "
                 f"{' '.join(known)}.")
    levels = list(dict.fromkeys(options.levels or LEVELS))
    if not options.only:
        return levels
    tests = {level: [name for name, _ in tests_of(level)] for level in levels}
    for only in options.only:
        if not any(is_named(test, only) for names in tests.values()
                   for test in names):
            fail(f"there is no test {only} in {' '.join(levels)}; "
                 "scripts/test --list names them all.")
    return [level for level in levels if any(
        is_named(test, only) for test in tests[level] for only in options.only)]


def main():
    # An end by it is one by sys.exit(), so that levels end as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = parse()
    levels = choose(options)
    if options.list:
        for level in levels if options.levels else {**LEVELS, **BY_NAME}:
            for name, shows in tests_of(level):
                print(f"{level}/{name:<30} {shows}")
        return 0
    subprocess.run([os.path.join(TOP, "scripts/test"), "--prepare"], check=True)
    report = Report()
    runs = {level: Run(level) for level in levels}
    pool = ThreadPoolExecutor(AT_ONCE)
    futures = []
    for level in sorted(levels, key=lambda level: (level == ALONE) -
                        (level == FIRST)):
        futures.append(pool.submit(runs[level].run, " ".join(options.only),
                                   futures[:] if level == ALONE else []))
    try:
        for level in levels:
            say(f"level {level}")
            runs[level].report(report)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for run in runs.values():
            run.end()
        if options.junit:
            report.write(options.junit)
    passed, failed, skipped = report.counts.values()
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
