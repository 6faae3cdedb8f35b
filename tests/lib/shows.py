#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""shows.py FILE...: the functions of Python files, and what each shows.

One line each: the name, a tab, and the first sentence of its docstring.  The files
are read, not run, so nothing that they import need be there.
"""

import ast
import re
import sys


def functions(path):
    """(name, first sentence, names of its decorators) of each function."""
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read(), path)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            words = " ".join((ast.get_docstring(node) or "").split())
            yield (node.name, re.split(r"(?<=[.;]) ", words)[0].rstrip(".;"),
                   [getattr(d, "id", "") for d in node.decorator_list])


if __name__ == "__main__":
    for file_name in sys.argv[1:]:
        for name, shows, decorators in functions(file_name):
            mark = "(by name) " if "by_name" in decorators else ""
            print(f"{name}\t{mark}{shows}")
