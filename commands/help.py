# SPDX-License-Identifier: Apache-2.0
"""Makes the help of a verb from its tables."""
from ..sandbox.caller import program_name

SUMMARY = "a sandbox for malware and risky code"
#: verb -> what it is for
VERBS = {
    "run": "run a program in a sandbox",
    "shell": "an interactive shell in a sandbox (run --tty -- sh -l)",
    "doctor": "which tier would run here, and what to do about the rest",
    "selftest": "try to get out of a sandbox on this host, and say what holds",
    "policy": "the system call policies: show, explain, export, diff, learn",
    "rootfs": "root file systems for run --rootfs: build, check",
    "report": "a result (run --report FILE) as text or as one page of HTML",
}

#: Of run and shell: (status, why)
EXITS = (
    ("the program's own", "it ended by itself"),
    ("128+N", "killed by signal N"),
    ("124", "a deadline"),
    ("125", "mrunc could not contain it; nothing ran"),
    ("126", "found, but not executable"),
    ("127", "not found inside"),
    ("2", "a mistake in the options"),
)


def text(usage, groups, about=(), actions=(), note=None, exits=()):
    """The help of a verb.

    usage: what follows the program's name; groups: ((heading, options), ...); about: sentences;
    actions: ((words, text), ...); note: a sentence after the actions; exits: ((status, text), ...).
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
    """Lines of at most `width` columns: a head, and a text from column `indent` on."""
    out, line = [], "  %-*s" % (indent - 2, head)
    if len(head) > indent - 4:
        out, line = ["  " + head], " " * indent
    for word in text.split():
        if len(line) + len(word) + 1 > width:
            out.append(line.rstrip())
            line = " " * indent
        line += word + " "
    return out + [line.rstrip()]
