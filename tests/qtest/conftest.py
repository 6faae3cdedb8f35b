# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of the qtest level work with, and their results as TAP.

A test is a function test_* of a module test_*.py; it gets a Test, which starts
machines and compares.  One log per test goes to $QTEST_LOGS.  TAP_ONLY, a
space-separated list of names, picks tests; those that are marked by_name run only
so.  QTEST_BINARY is the QEMU to test.

pytest-xdist runs the tests side by side.  Their lines go to file descriptor 3, in
the order in which pytest has found the tests.
"""

import os
import sys
import tempfile

import pytest

from machine import Machine, run_once
from slots import slot

LOGS = os.environ["QTEST_LOGS"]
ONLY = os.environ.get("TAP_ONLY", "").split()


class Test:
    """What a test function works with."""

    def __init__(self, binary, log, properties):
        self.binary = binary
        self.log = log
        self.properties = properties
        self.folders = []

    def machine(self, **arguments):
        """A Machine; see there for the arguments."""
        return Machine(self.binary, arguments.pop("log", self.log),
                       **arguments)

    def refusal(self, arguments):
        """Start QEMU with arguments it refuses: (status, its message)."""
        result = run_once(self.binary, self.log, arguments)
        return result.returncode, result.stderr

    def output(self, arguments, stdin=""):
        """What QEMU prints until it ends."""
        return run_once(self.binary, self.log, arguments, stdin).stdout

    def folder(self):
        """A temporary folder that goes away with the test."""
        self.folders.append(tempfile.TemporaryDirectory(prefix="coiommu-"))
        return self.folders[-1].name

    def note(self, *words):
        """What the reader of the results wants to know."""
        self.properties.append(("note", " ".join(map(str, words))))
        print(*words, file=self.log)

    def skip(self, reason):
        pytest.skip(reason)

    def equal(self, got, want, what):
        if got != want:
            pytest.fail(f"{what}: got {show(got)}, want {show(want)}",
                        pytrace=False)


def show(value):
    return hex(value) if type(value) is int else repr(value)


def name_of(nodeid):
    return nodeid.rpartition("::test_")[2]


@pytest.fixture
def t(request):
    path = os.path.join(LOGS, name_of(request.node.nodeid) + ".log")
    with slot(), open(path, "w", buffering=1) as log:
        yield Test(os.environ["QTEST_BINARY"], log,
                   request.node.user_properties)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """What went wrong is in the test's log as well."""
    report = (yield).get_result()
    if report.failed and "t" in item.funcargs:
        log = item.funcargs["t"].log
        print(report.longreprtext, file=log if not log.closed else sys.stderr)


def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if name_of(item.nodeid) in ONLY or not (
        ONLY or getattr(item.function, "by_name", False))]


class Tap:
    """TAP, for the process that has the others run tests."""

    def __init__(self):
        self.file = os.fdopen(3, "w", buffering=1)
        self.ids = None
        self.lines = {}
        self.printed = 0

    def pytest_xdist_node_collection_finished(self, ids):
        if self.ids is None:
            self.ids = list(ids)
            print(f"1..{len(ids)}", file=self.file)

    def pytest_runtest_logreport(self, report):
        # The call, or what has failed or skipped before it or afterwards.
        if report.when != "call" and report.passed:
            return
        name = name_of(report.nodeid)
        self.lines.setdefault(report.nodeid, [
            f"# {text}" for key, text in report.user_properties
            if key == "note"] + self.result(name, report))
        while (self.printed < len(self.ids) and
               self.ids[self.printed] in self.lines):
            self.printed += 1
            for line in self.lines[self.ids[self.printed - 1]]:
                print(line.replace("@", str(self.printed), 1), file=self.file)

    @staticmethod
    def result(name, report):
        if report.skipped:
            return [f"ok @ - {name} # SKIP {report.longrepr[2]}"]
        line = f"ok @ - {name} ({report.duration:.1f} s)"
        if report.passed:
            return [line]
        return [f"not {line}", *(f"# {text}" for text in
                report.longreprtext.splitlines()[-8:]),
                f"# log {LOGS}/{name}.log"]


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Tap())
