# SPDX-License-Identifier: Apache-2.0
"""Help from the option tables; the way to the manual pages and completions."""
from .. import VERBS, program_name
from ..options import EXPERT, FILES, LIMITS, OPTIONS, OUTPUT, WORLD
from ..output import write

SUMMARY = "a sandbox for malware and risky code"
VERB_TEXT = {"run": "run a program in a sandbox", "shell": "an interactive shell in a sandbox (run --tty -- sh -l)",
             "doctor": "which tier would run here, and what to do about the rest",
             "selftest": "try to get out of a sandbox on this host, and say what holds",
             "policy": "the system call policies: show, explain, export, diff, learn",
             "rootfs": "root file systems for run --rootfs: build, check",
             "report": "a result (run --report FILE) as text or as one page of HTML"}
EXIT = (("the program's own", "it ended by itself"), ("128+N", "killed by signal N"), ("124", "a deadline"),
        ("125", "mrunc could not contain it; nothing ran"), ("126", "found, but not executable"), ("127", "not found inside"),
        ("2", "a mistake in the options"))


def main(argv):
    """`--help`, `help`, `--version`, `--man [PAGE]`, `--completion SHELL`."""
    from ...sandbox.errors import usage
    word = argv[0] if argv else "--help"
    if word == "--version":
        from . import version
        write(1, version.text())
    elif word == "--man":
        if argv[1:] not in ([], ["mrunc"], ["mrunc-policy"]):
            raise usage("--man", "it is one of: mrunc (default), mrunc-policy")
        from . import man, man_policy
        write(1, man_policy.page() if argv[1:] == ["mrunc-policy"] else man.page())
    elif word == "--completion":
        if argv[1:] not in (["bash"], ["zsh"]):
            raise usage("--completion", "it is one of: bash, zsh")
        from . import completion
        write(1, completion.bash() if argv[1] == "bash" else completion.zsh())
    elif argv[1:] == ["doctor"]:
        write(1, help_doctor())
    elif argv[1:] == ["selftest"]:
        write(1, help_selftest())
    elif argv[1:] == ["policy"]:
        write(1, help_policy())
    elif argv[1:] == ["rootfs"]:
        write(1, help_rootfs())
    elif argv[1:] == ["report"]:
        write(1, help_report())
    elif argv[1:] and argv[1] in VERBS:
        return help_run(argv[1])
    else:
        name = program_name()
        lines = ["mrunc: %s" % SUMMARY, "", "usage: %s VERB [options] [--] CMD [ARG...]" % name, ""]
        lines += ["  %-8s %s" % (verb, VERB_TEXT[verb]) for verb in VERBS]
        lines += ["", "try:   %s run -- id" % name, "       %s run --copy ./sample -- ./sample" % name,
                  "       %s run --help" % name, "",
                  "also:  --version, --man [mrunc-policy] (manual pages), --completion bash|zsh", ""]
        write(1, "\n".join(lines))
    return 0


def help_run(verb="run"):
    """The help of run, or of shell."""
    lines = ["usage: %s run [options] [--] CMD [ARG...]" % program_name()]
    if verb == "shell":
        lines = ["usage: %s shell [options]" % program_name(), "",
                 "An interactive shell in a sandbox: run --tty -- sh -l, with the options of run."]
    for group in (FILES, WORLD, LIMITS, OUTPUT, EXPERT):
        lines += ["", group + ":"]
        for option in OPTIONS:
            if option.group == group and option.text:
                lines += _entry(option.shown(), option.text)
    lines += ["", "Exit status:"]
    for status, text in EXIT:
        lines += _entry(status, text)
    write(1, "\n".join(lines) + "\n")
    return 0


def help_policy():
    """The help of policy, as text."""
    from ..policy import policy
    from ...sandbox.seccomp.shipped import NAMES
    return _help_actions("policy", policy, ["A NAME is one of: %s." % ", ".join(NAMES), ""])


def help_rootfs():
    """The help of rootfs, as text."""
    from ..rootfs import rootfs
    return _help_actions("rootfs", rootfs, [])


def _help_actions(verb, module, more):
    lines = ["usage: %s %s ACTION [options]" % (program_name(), verb), "", "Actions:"]
    for action, text in module.ACTIONS:
        lines += _entry(action, text)
    lines += [""] + more + [module.GROUP + ":"]
    for option in module.OPTIONS:
        lines += _entry(option.shown(), option.text)
    return "\n".join(lines) + "\n"


def help_doctor():
    """The help of doctor, as text."""
    from ..doctor import doctor
    lines = ["usage: %s doctor [options]" % program_name(), "",
             "Tries what mrunc needs here, each thing in a process that is thrown away.", "", doctor.GROUP + ":"]
    for option in doctor.OPTIONS:
        lines += _entry(", ".join(option.names), option.text)
    lines += ["", "Exit status:"]
    for status, text in doctor.EXIT:
        lines += _entry(status, text)
    return "\n".join(lines) + "\n"


def help_selftest():
    """The help of selftest, as text."""
    from ..selftest import selftest
    return _help_plain(selftest, "Tries to get out of a sandbox that is made here, and says what holds.")


def help_report():
    """The help of report, as text."""
    from ..report import report
    return _help_plain(report, "Shows the result that run --report FILE wrote; - is stdin.",
                       "Whatever stands in it is shown as text.")


def _help_plain(module, *sentences):
    lines = ["usage: %s %s" % (program_name(), module.USAGE), "", *sentences, ""]
    lines += [module.GROUP + ":"]
    for option in module.OPTIONS:
        lines += _entry(option.shown(), option.text)
    lines += ["", "Exit status:"]
    for status, text in module.EXIT:
        lines += _entry(status, text)
    return "\n".join(lines) + "\n"


def _entry(head, text, indent=30, width=80):
    out, line = [], "  %-*s" % (indent - 2, head)
    if len(head) > indent - 4:
        out, line = ["  " + head], " " * indent
    for word in text.split():
        if len(line) + len(word) + 1 > width:
            out.append(line.rstrip())
            line = " " * indent
        line += word + " "
    return out + [line.rstrip()]
