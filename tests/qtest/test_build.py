# SPDX-License-Identifier: GPL-2.0-or-later
"""How the device compiles."""

import json
import os
import shlex
import subprocess
import sys

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")

# Of what these say the compiler would write a file beside the object's.
DEPENDENCIES = {"-MD": 1, "-MQ": 2, "-MF": 2}


def check_only(command):
    """The same call of the compiler, which only looks for mistakes."""
    words = shlex.split(command)
    kept = []
    while words:
        count = DEPENDENCIES.get(words[0], 0)
        if not count:
            kept.append(words[0])
        words = words[count or 1:]
    return [*kept, "-fsyntax-only", "-Werror"]


def test_warnings(t):
    """
    QEMU is built with --disable-werror here, as its own files need that with
    some compilers.  Where it is not, a warning of ours would break the build.
    """
    path = os.path.join(os.path.dirname(t.binary), "compile_commands.json")
    if not os.path.exists(path):
        t.skip("this QEMU was not built here")
    with open(path) as file:
        calls = [call for call in json.load(file)
                 if "hw_coiommu_" in call["output"]]
    t.equal(len(calls) > 20, True, "files of the device")
    for call in calls:
        result = subprocess.run(check_only(call["command"]), text=True,
                                cwd=call["directory"], capture_output=True,
                                check=False)
        print(call["file"], result.stderr, file=t.log)
        t.equal((result.returncode, result.stderr), (0, ""), call["file"])


def test_floors(t):
    """No object calls one that stands above it, nor in a circle."""
    folder = os.path.dirname(os.path.abspath(t.binary))
    if not os.path.exists(os.path.join(folder, "compile_commands.json")):
        t.skip("this QEMU was not built here")
    result = subprocess.run(
        [sys.executable, os.path.join(TOP, "tests/style/floors.py"), "device",
         os.path.join(TOP, "hw-coiommu"), folder],
        text=True, capture_output=True, check=False)
    print(result.stdout, result.stderr, file=t.log)
    t.equal(result.returncode, 0, "calls upwards")
