# SPDX-License-Identifier: Apache-2.0
"""Makes the help of a verb from its tables."""
from ..sandbox.caller import program_name

SUMMARY = "a sandbox for malware and risky code"
#: verb -> what it does
VERBS = {
    "run": "run a program in a sandbox",
    "shell": "start an interactive shell in a sandbox (run --tty -- sh -l)",
    "doctor": "find which tier runs here, what is missing, and the remedies",
    "selftest": "try to break out of a sandbox on this host",
    "policy": "show, explain, export, compare and learn system call policies",
    "rootfs": "build and check root file systems for run --rootfs",
    "report": "show a result (run --report FILE) as text or as one HTML page",
}

#: Exit statuses of run and shell: (status, meaning)
EXITS = (
    ("the program's own", "the program exited"),
    ("128+N", "the program was killed by signal N"),
    ("124", "a deadline passed"),
    ("125", "mrunc could not contain the program; nothing ran"),
    ("126", "the program can't be executed"),
    ("127", "the program was not found inside"),
    ("2", "wrong options"),
)


def text(usage, groups, about=(), actions=(), note=None, exits=()):
    """Returns the help of a verb.

    usage: what follows the program's name
    groups: ((heading, options), ...)
    about: sentences
    actions: ((words, text), ...)
    note: a sentence after the actions
    exits: ((status, text), ...)
    """
    lines = ["usage: %s %s" % (program_name(), usage)]
    if about:
        lines += ["", *about]
    if actions:
        lines += ["", "Actions:"]
        for words, meaning in actions:
            lines += entry(words, meaning)
    if note:
        lines += ["", note]
    for heading, options in groups:
        lines += ["", heading + ":"]
        for option in options:
            if option.text:
                lines += entry(option.shown(), option.text)
    if exits:
        lines += ["", "Exit status:"]
        for status, meaning in exits:
            lines += entry(status, meaning)
    return "\n".join(lines) + "\n"


def entry(head, text, indent=30, width=80):
    """Returns lines of at most `width` columns: a head, and a text from column `indent` on."""
    if len(head) > indent - 4:
        return ["  " + head] + wrapped(text, " " * indent, " " * indent, width)
    return wrapped(text, "  %-*s" % (indent - 2, head), " " * indent, width)


def wrapped(text, head="", indent="", width=100):
    """Returns lines of at most `width` columns.

    head: what the first line starts with
    indent: what the other lines start with
    """
    lines, empty = [head], True
    for word in text.split():
        if not empty and len(lines[-1]) + 1 + len(word) > width:
            lines, empty = lines + [indent], True
        lines[-1] += word if empty else " " + word
        empty = False
    return [line.rstrip() for line in lines]
