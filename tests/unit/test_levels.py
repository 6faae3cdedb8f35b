# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs the tests: levels in shell (tap.sh), and what is made of their TAP."""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import unittest
import unittest.mock
import xml.etree.ElementTree as ElementTree

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
FOLDER = tempfile.TemporaryDirectory(prefix="coiommu-levels-")
os.environ.update(COIOMMU_TOP=TOP, COIOMMU_BUILD=FOLDER.name, TAP_ONLY="",
                  COIOMMU_LOGS=f"{FOLDER.name}/logs", COIOMMU_STARTED="0")
sys.path.insert(0, os.path.join(TOP, "tests", "lib"))
sys.dont_write_bytecode = True

import levels  # noqa: E402 (wants all that)

SHELL = f"""#!/bin/bash
set -euo pipefail
. {TOP}/tests/lib/tap.sh
tap_level it
tap_slots=2 tap_jobs=2
bad() {{ false; echo "went on"; }}
first() {{ until tap_ended late; do sleep 0.1; done; }}
killed() {{ kill -9 $BASHPID; }}
tap_test slow "is first, though it ends last" first
tap_free late "asks for its slot itself" tap_slot
tap_test bad "fails at its first command" bad
tap_test kernel-6.1 "is skipped" tap_skip "no kernel"
tap_extra more "comes when it is named" true
tap_test killed "dies" killed
tap_run
"""


class Levels(unittest.TestCase):
    def outcome(self, script, only=""):
        """What is printed of a level that is this script; and as XML."""
        path = os.path.join(FOLDER.name, "run")
        with open(path, "w") as file:
            file.write(script)
        os.chmod(path, 0o755)
        said, report, run = io.StringIO(), levels.Report(), levels.Run("it")
        with unittest.mock.patch.object(levels, "program", lambda _: [path]), \
                contextlib.redirect_stdout(said):
            run.run(only, [])
            run.report(report)
        report.write(f"{FOLDER.name}/xml")
        lines = [line.partition(" (")[0] for line in
                 said.getvalue().splitlines() if not line.startswith(" ")]
        return lines, ElementTree.parse(f"{FOLDER.name}/xml").getroot()[0]

    def test_shell(self):
        lines, xml = self.outcome(SHELL)
        self.assertEqual(lines, [
            "PASS it/slow", "PASS it/late", "FAIL it/bad",
            "SKIP it/kernel-6.1: no kernel", "FAIL it/killed"])
        self.assertEqual((xml.get("tests"), xml.get("failures"),
                          xml.get("skipped")), ("5", "2", "1"))
        self.assertEqual(self.outcome(SHELL, "kernel more")[0],
                         ["SKIP it/kernel-6.1: no kernel", "PASS it/more"])
        with open(f"{FOLDER.name}/logs/it/bad.log") as log:
            self.assertEqual(log.read(), "")

    def test_list(self):
        path = os.path.join(FOLDER.name, "list")
        with open(path, "w") as file:
            file.write(SHELL)
        listed = subprocess.run(
            ["bash", path], env={**os.environ, "TAP_LIST": "1"}, check=True,
            text=True, stdout=subprocess.PIPE)
        self.assertIn("more\t(by name) comes when it is named\n",
                      listed.stdout)

    def test_incomplete(self):
        """A level that ends early has failed, however it exited."""
        for script in ("echo 1..2; echo ok 1 - one", "exit 0",
                       "echo 1..1; echo ok 1 - one; exit 3"):
            lines, xml = self.outcome(f"#!/bin/sh\n{script}\n")
            self.assertRegex(lines[-1], "FAIL it/plan: ")
            self.assertEqual(xml.get("failures"), "1")


if __name__ == "__main__":
    unittest.main()
