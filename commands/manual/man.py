# SPDX-License-Identifier: Apache-2.0
"""Makes the manual page mrunc(1) as troff from the option tables."""
from ...sandbox.version import __version__
from ...sandbox.seccomp.shipped import NAMES
from ..doctor import doctor
from ..help import EXITS, SUMMARY, VERBS
from ..options import GROUPS, OPTIONS
from ..policy import policy
from ..report import report
from ..rootfs import rootfs
from ..selftest import selftest

#: {verb: its module}, without run and shell.
OTHERS = {"doctor": doctor, "selftest": selftest, "policy": policy, "rootfs": rootfs,
          "report": report}
ENVIRONMENT = (
    ("MRUNC_ID_RANGE=FIRST:COUNT", "if root starts mrunc: the host ids for sandboxes, one each, "
     "instead of 2000000000 to 2000065535"),
    ("TERM", "is passed on if it names a plain terminal"),
    ("PATH", "a package store in it (/nix/store, /gnu/store, /opt) is shown; inside, PATH is "
     "mrunc's own"),
    ("TMPDIR", "holds the private directory of the process tier"),
    ("SOURCE_DATE_EPOCH", "rootfs build: the newest time of a file"))
EXAMPLES = (
    ("Show the identity inside:", "mrunc run -- id"),
    ("Run a sample with a deadline, and keep the files that it wrote:",
     "mrunc run --copy ./sample --timeout 60s --changes - --export dropped -- ./sample"),
    ("Make only /tmp writable, and forbid executing what is written there:",
     "mrunc run --harden --writable /tmp=16M -- sh"))
SIGNALS = ("HUP, INT (Ctrl-C), QUIT, TERM, USR1 and USR2 are passed on to the program, which may "
           "ignore them. The third INT, QUIT or TERM ends the sandbox with everything in it; on a "
           "terminal, three Ctrl-C within two seconds do. TSTP (Ctrl-Z) stops the program and "
           "mrunc, CONT continues both; --timeout counts on.")


def plain(text):
    """Returns text for troff without escapes, requests, or hyphens that can't be pasted."""
    for char, escape in (("\\", "e"), ("-", "-"), ("'", "(aq"), ("^", "(ha"), ("~", "(ti")):
        text = text.replace(char, "\\" + escape)
    return "\\&" + text if text[:1] == "." else text


def head(name, section, summary):
    """Returns the first lines of a page."""
    return ['.TH %s %d "" "mrunc %s"' % (plain(name.upper()), section, __version__), ".SH NAME",
            "%s \\- %s" % (plain(name), plain(summary))]


def rows(pairs):
    """Returns the lines of a list of (head, text)."""
    out = []
    for name, text in pairs:
        out += [".TP", ".B " + plain(name), plain(text)]
    return out


def page():
    """Returns the page mrunc(1)."""
    out = head("mrunc", 1, SUMMARY) + [".SH SYNOPSIS"]
    synopsis = (("run", "[options] [--] CMD [ARG...]"), ("shell", "[options]"),
                ("doctor", "[options]"), ("selftest", selftest.USAGE.partition(" ")[2]),
                ("policy", "ACTION [options]"), ("rootfs", "ACTION [options]"),
                ("report", report.USAGE.partition(" ")[2]))
    for number, (verb, words) in enumerate(synopsis):
        out += [".br"] * (number > 0) + [".B mrunc " + verb, plain(words)]
    out += [".SH DESCRIPTION", plain(
        "Runs a program in its own namespaces, on a read-only tree, without capabilities, behind a "
        "deny-by-default system call filter. Before the program starts, mrunc reads back from the "
        "kernel that every control is in force.")]
    out += rows((verb, VERBS[verb]) for verb, _ in synopsis)
    out += [".PP", plain("A size is bytes or has a unit: 256M, 1.5G. A time is seconds or has a "
                         "unit: 200ms, 1.5s, 2m, 1h. An optional value is given as --name=VALUE "
                         "only. All words after CMD belong to CMD.")]
    for group in GROUPS:
        out += [".SH " + group.upper()] + rows(
            (option.shown(), option.text) for option in OPTIONS
            if option.group == group and option.text)
    out += [".SH EXIT STATUS"] + rows(EXITS)
    out += [plain("A program may exit with these numbers itself; the result (--report) tells them "
                  "apart."), ".SH SIGNALS", plain(SIGNALS)]
    for title, text, verb, module in (
            ("DOCTOR", "doctor tries what mrunc needs of this host. It prints which tier runs, "
             "what is missing, and the remedies.", "doctor", doctor),
            ("SELFTEST", "selftest tries to break out of a sandbox on this host and prints which "
             "probes were stopped.", "selftest", selftest),
            ("POLICIES", "policy ACTION shows and compares system call policies: %s. "
             "mrunc-policy(5) describes the files that --seccomp reads." % ", ".join(NAMES),
             "policy", policy),
            ("ROOT FILE SYSTEMS", "rootfs ACTION builds and checks root file systems for "
             "run --rootfs.", "rootfs", rootfs),
            ("REPORTS", "report shows a result that run --report wrote. The file may come from "
             "anywhere: it is read with bounds, and all of it is shown as plain text.",
             "report", report)):
        out += [".SH " + title, plain(text)]
        out += rows(("mrunc %s %s" % (verb, action), text) for action, text in module.ACTIONS)
        out += rows((option.shown(), option.text) for option in module.OPTIONS)
        if hasattr(module, "EXIT"):
            out += [".PP", "Its exit status:"] + rows(module.EXIT)
    out += [".SH ENVIRONMENT"] + rows(ENVIRONMENT) + [".SH EXAMPLES"]
    for text, command in EXAMPLES:
        out += [".TP", plain(text), ".B " + plain(command)]
    out += [".SH SEE ALSO", plain("mrunc-policy(5), namespaces(7), seccomp(2), landlock(7), "
                                  "capabilities(7), cgroups(7)")]
    return "\n".join(out) + "\n"
