# SPDX-License-Identifier: GPL-2.0-or-later
"""messages.py PAGE FILE...: is each message that a user can see on the page?

The messages are the formats of what the C files report: errors and warnings of
the device, lines of the guest driver in the kernel's log, and the reasons and
statuses that the driver puts into them.  The page quotes a message as bold
code, with "..." for each conversion, so that who searches for the words finds
them.  What it quotes below a heading that begins with "From" must be a message
of today; other headings are for what other programs say.

Prints what is missing or stale; exits with 1 then.
"""

import re
import sys

# Which calls report, and which only take what was reported.
REPORT = re.compile(
    r"\b(?:(?:error_setg|error_append|error_prepend)\w*"
    r"|(?:error|warn|info)_report\w*"
    r"|(?:pci|dev|pr)_(?:emerg|alert|crit|err|warn|notice|info)\w*"
    r"|WARN(?:_ONCE)?)\s*\(")
# What the driver says inside other messages.
REASON = re.compile(
    r'(?:\breturn|\breason\s*=|\[COIOMMU_ST_\w+\]\s*=)\s*("(?:[^"\\\n]|\\.)*")')
STRING = r'"(?:[^"\\]|\\.)*"'
COMMENT = re.compile(rf"({STRING})|/\*.*?\*/|//[^\n]*", re.S)
# A format: literals, and macros that stand for a conversion, side by side.
FORMAT = re.compile(rf"\s*{STRING}(?:\s*(?:{STRING}|PRI\w+|HWADDR_PRI\w))*\s*$")
CONVERSION = re.compile(
    r"%%|%[-+ #0]*[\d*]*(?:\.[\d*]+)?(?:hh?|ll?|[zjtq])?[a-zA-Z]")
QUOTE = re.compile(r"\*\*`([^`]+)`\*\*")


def arguments(text, start):
    """The arguments of the call whose parenthesis opens before start."""
    depth, begin, found = 0, start, []
    for token in re.finditer(rf"{STRING}|'(?:[^'\\]|\\.)+'|[(),]",
                             text[start:], re.S):
        char = token.group()
        at = start + token.start()
        if char == "(":
            depth += 1
        elif char == ")" and depth:
            depth -= 1
        elif char in ",)" and not depth:
            found.append(text[begin:at])
            begin = at + 1
            if char == ")":
                break
    return found


def quoted(source):
    """The message that a format in C makes, as the page quotes it."""
    source = re.sub(r"\b(?:PRI|HWADDR_PRI)\w+", '"d"', source)
    text = "".join(s[1:-1] for s in re.findall(STRING, source))
    text = text.replace(r"\n", "").replace(r"\"", '"')
    text = CONVERSION.sub(
        lambda match: "%" if match.group() == "%%" else "...", text)
    # One "..." for conversions with only dots between them, as in a version.
    return re.sub(r"\.{3,}", "...", text)


def messages(path):
    """The messages in a C file."""
    with open(path, encoding="utf-8") as file:
        text = COMMENT.sub(lambda m: m.group(1) or " ", file.read())
    for call in REPORT.finditer(text):
        formats = [a for a in arguments(text, call.end()) if FORMAT.match(a)]
        if formats:
            yield quoted(formats[0])
    if "guest-driver" in path:
        for reason in REASON.finditer(text):
            yield quoted(reason.group(1))


def quotes(path):
    """What the page quotes: all, and what is below a "From" heading."""
    with open(path, encoding="utf-8") as file:
        sections = re.split(r"^##+ ", file.read(), flags=re.M)
    everything, ours = set(), set()
    for section in sections:
        found = {" ".join(q.split()) for q in QUOTE.findall(section)}
        everything |= found
        if section.startswith("From "):
            ours |= found
    return everything, ours


def main(page, files):
    sources = {}
    for path in files:
        for message in messages(path):
            sources.setdefault(message, path)
    everything, ours = quotes(page)
    missing = sorted(set(sources) - everything)
    for message in missing:
        print(f"{sources[message]}: not on {page}: **`{message}`**")
    stale = sorted(ours - set(sources))
    for quote in stale:
        print(f"{page}: nothing says this any more: **`{quote}`**")
    print(f"{len(sources)} messages, {len(missing)} missing, "
          f"{len(stale)} stale")
    return bool(missing or stale or not sources)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
