# SPDX-License-Identifier: GPL-2.0-or-later
"""version.py: do device, module and pages tell the same version?

The version is COIOMMU_RELEASE.  The top entry of the changelog must be about
it, both sides must use it, and where a page shows what they say, it is the
version there.  A version that has a tag must not be in sources behind the tag.

Prints what differs; exits with 1 then.
"""

import re
import subprocess
import sys

HEADER = "hw-coiommu/include/coiommu_version.h"
CHANGELOG = "docs/CHANGELOG.md"
# What must use the version: a pattern for git grep, and where.
USERS = [("MODULE_VERSION(COIOMMU_RELEASE)", "guest-driver"),
         ("g_strdup(COIOMMU_RELEASE)", "hw-coiommu/monitor")]
# What pages quote of a running system.
QUOTED = re.compile(r"coiommu [\da-f:.]+: version ([\d.]+\d),")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def git(*args):
    """The lines that a command of git's prints; none if it fails."""
    return subprocess.run(["git", *args], capture_output=True, text=True,
                          check=False).stdout.splitlines()


def faults(version):
    """What does not agree with the version."""
    entry = re.search(r"^## (\d[\d.]*) \(", read(CHANGELOG), re.M)
    if not entry or entry.group(1) != version:
        yield f"{CHANGELOG}: the top entry is not about {version}"
    for pattern, folder in USERS:
        if not git("grep", "-lF", pattern, "--", folder):
            yield f"{folder}: no {pattern}"
    for page in git("ls-files", "README.md", "docs/*.md"):
        for quoted in QUOTED.findall(read(page)):
            if quoted != version:
                yield f"{page}: quotes version {quoted}"
    if git("rev-list", f"v{version}..HEAD"):
        yield f"{HEADER}: {version} is released (tag v{version}): raise it"


def main():
    version = re.search(r'COIOMMU_RELEASE "(\d+\.\d+)"', read(HEADER)).group(1)
    found = list(faults(version))
    for fault in found:
        print(fault)
    print(f"version {version}, {len(found)} faults")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
