# SPDX-License-Identifier: GPL-2.0-or-later
"""links.py FILE...: does each link of the pages lead somewhere?

A link to a file must lead to a file of the repository, and one to a heading
must name a heading of that page, as GitHub makes anchors of them.  Paths in
text and in comments, docs/... as code or not, must exist as well; what speaks
of QEMU's own docs/ is in qemu-patches/ and left out.  So must functions and
files that docs/devel/ names as code.

Prints the links that lead nowhere; exits with 1 then.
"""

import collections
import os
import re
import sys

LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"(?<![\w/.-])docs/[\w./-]*\w")
HEADING = re.compile(r"^#+ (.*)$", re.M)
# A title of reStructuredText: the line above the underline.
TITLE = re.compile(r"^(\S.*)\n([=\-~])\2{2,}$", re.M)
FENCE = re.compile(r"^```.*?^```", re.M | re.S)


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def anchors(path):
    """The anchors of a page; a title that comes again has a number behind it."""
    text = FENCE.sub("", read(path))
    titles = (TITLE.findall(text) if path.endswith(".rst")
              else [(t, "") for t in HEADING.findall(text)])
    found = collections.Counter()
    for title, _ in titles:
        name = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        found[f"{name}-{found[name]}" if found[name] else name] += 1
    return set(found)


def broken_links(page):
    """What is linked from a page and is not there."""
    for target in LINK.findall(FENCE.sub("", read(page))):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        path = os.path.normpath(
            os.path.join(os.path.dirname(page), path)) if path else page
        if not os.path.exists(path):
            yield target
        elif anchor and anchor not in anchors(path):
            yield target


def unknown_code(page, files):
    """Functions of ours and files that the page names and that are not there."""
    source = "".join(read(name) for name in files
                     if name.endswith((".c", ".h")))
    for name in re.findall(r"`(\w+)\(\)`", read(page)):
        if not re.search(rf"\b{name}\(", source):
            yield f"{name}()"
    for name in re.findall(r"`([a-z\d_/-]+\.(?:c|h|py|sh))`", read(page)):
        if not any(f"/{path}".endswith(f"/{name}") for path in files):
            yield name


def main(files):
    bad = [(name, target) for name in files if name.endswith(".md")
           for target in broken_links(name)]
    bad += [(name, path) for name in files
            if not name.startswith("qemu-patches/")
            for path in PATH.findall(read(name)) if not os.path.exists(path)]
    bad += [(name, code) for name in files if name.startswith("docs/devel/")
            for code in unknown_code(name, files)]
    for name, target in bad:
        print(f"{name}: leads nowhere: {target}")
    print(f"{len(files)} files, {len(bad)} links that lead nowhere")
    return bool(bad or not files)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
