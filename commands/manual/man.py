# SPDX-License-Identifier: Apache-2.0
"""The manual page mrunc(1) as troff, from the option tables."""
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
    ("MRUNC_ID_RANGE=FIRST:COUNT", "where root starts mrunc: the ids outside of the sandboxes, one each, instead of "
                                   "2000000000 to 2000065535"),
    ("TERM", "goes in where it names a plain terminal"),
    ("PATH", "a package store that it leads to (/nix/store, /gnu/store, /opt) is shown; inside it is mrunc's own"),
    ("TMPDIR", "where the process tier makes its private directory"),
    ("SOURCE_DATE_EPOCH", "rootfs build: no file is newer"))
EXAMPLES = (
    ("Who are we inside?", "mrunc run \\-\\- id"),
    ("A sample with a deadline, and what it left:",
     "mrunc run \\-\\-copy ./sample \\-\\-timeout 60s \\-\\-changes \\- \\-\\-export dropped \\-\\- ./sample"),
    ("Nothing writable but /tmp, nothing that is written there executes:",
     "mrunc run \\-\\-harden \\-\\-writable /tmp=16M \\-\\- sh"))
SIGNALS = ("HUP, INT (Ctrl-C), QUIT, TERM, USR1 and USR2 are passed on to the program, which may ignore them. The third of "
           "INT, QUIT and TERM ends the sandbox with everything in it; three Ctrl-C that are typed on a terminal, within "
           "two seconds. TSTP (Ctrl-Z) stops the program and mrunc, CONT continues both; --timeout counts on.")


def plain(text):
    """Text for troff: nothing in it is an escape, a request, or a hyphen that a terminal could not paste."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("^", "\\(ha").replace("~", "\\(ti")
    return "\\&" + text if text[:1] == "." else text


def head(name, section, summary):
    """The lines that a page starts with."""
    return ['.TH %s %d "" "mrunc %s"' % (plain(name.upper()), section, __version__), ".SH NAME",
            "%s \\- %s" % (plain(name), plain(summary))]


def rows(pairs):
    """A list of (head, text)."""
    out = []
    for name, text in pairs:
        out += [".TP", ".B " + plain(name), plain(text)]
    return out


def page():
    """mrunc(1)."""
    out = head("mrunc", 1, SUMMARY)
    out += [".SH SYNOPSIS"]
    synopsis = (("run", "[options] [--] CMD [ARG...]"), ("shell", "[options]"), ("doctor", "[options]"),
                ("selftest", selftest.USAGE.partition(" ")[2]), ("policy", "ACTION [options]"), ("rootfs", "ACTION [options]"),
                ("report", report.USAGE.partition(" ")[2]))
    for number, (verb, words) in enumerate(synopsis):
        out += [".br"] * (number > 0) + [".B mrunc " + verb, plain(words)]
    out += [".SH DESCRIPTION",
            "Runs a program in namespaces of its own, on a read\\-only tree, without capabilities, behind a "
            "deny\\-by\\-default",
            "system call filter, and reads back from the kernel that all of it is in force before the program starts."]
    out += rows((verb, VERBS[verb]) for verb, _ in synopsis)
    out += [".PP", plain("A size is bytes or has a unit, 256M, 1.5G; a time is seconds or has a unit, 200ms, 1.5s, 2m, 1h. "
                         "An option whose value is optional takes it as --name=VALUE only. Whatever follows CMD is CMD's.")]
    for group in GROUPS:
        out += [".SH " + group.upper()] + rows((o.shown(), o.text) for o in OPTIONS if o.group == group and o.text)
    out += [".SH EXIT STATUS"] + rows(EXITS)
    out += [plain("Since a program may end with these numbers itself, the truth is in the result (--report).")]
    out += [".SH SIGNALS", plain(SIGNALS)]
    for title, text, verb, module in (
            ("DOCTOR", "doctor tries what mrunc needs of this host and says which tier would run, what is missing, and "
                       "what to do about it.", "doctor", doctor),
            ("SELFTEST", "selftest tries to get out of a sandbox that is made here, and says what holds.",
             "selftest", selftest),
            ("POLICIES", "policy ACTION shows and compares the system call policies: %s. The files that --seccomp reads "
                         "are described in mrunc-policy(5)." % ", ".join(NAMES), "policy", policy),
            ("ROOT FILE SYSTEMS", "rootfs ACTION makes and checks root file systems for run --rootfs.", "rootfs", rootfs),
            ("REPORTS", "report shows a result that run --report wrote, wherever the file comes from: it is read with bounds, "
                        "and everything in it is shown as text.", "report", report)):
        out += [".SH " + title, plain(text)]
        out += rows(("mrunc %s %s" % (verb, action), text) for action, text in module.ACTIONS)
        out += rows((option.shown(), option.text) for option in module.OPTIONS)
        if hasattr(module, "EXIT"):
            out += [".PP", "Its exit status:"] + rows(module.EXIT)
    out += [".SH ENVIRONMENT"] + rows(ENVIRONMENT) + [".SH EXAMPLES"]
    for text, command in EXAMPLES:
        out += [".TP", plain(text), ".B " + command]
    out += [".SH SEE ALSO", plain("mrunc-policy(5), namespaces(7), seccomp(2), landlock(7), capabilities(7), cgroups(7)")]
    return "\n".join(out) + "\n"
