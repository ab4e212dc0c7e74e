# SPDX-License-Identifier: Apache-2.0
"""Help, man page and completion, all from the option table."""
from . import VERBS, program_name
from .options import EXPERT, FILES, LIMITS, OPTIONS, OUTPUT, WORLD
from .output import write

SUMMARY = "a sandbox for malware and risky code"
VERB_TEXT = {"run": "run a program in a sandbox", "shell": "an interactive shell in a sandbox (run --tty -- sh -l)",
             "doctor": "which tier would run here, and what to do about the rest",
             "selftest": "try to get out of a sandbox on this host, and say what holds",
             "policy": "the system call policies: show, explain, export, diff",
             "rootfs": "root file systems for run --rootfs: build, check"}
EXIT = (("the program's own", "it ended by itself"), ("128+N", "killed by signal N"), ("124", "a deadline"),
        ("125", "mrunc could not contain it; nothing ran"), ("126", "found, but not executable"), ("127", "not found inside"),
        ("2", "a mistake in the options"))


def main(argv):
    """`--help`, `help`, `--version`, `--man`, `--completion SHELL`."""
    from ..sandbox.errors import usage
    word = argv[0] if argv else "--help"
    if word == "--version":
        from . import version
        write(1, version.text())
    elif word == "--man":
        write(1, man_page())
    elif word == "--completion":
        if argv[1:] != ["bash"]:
            raise usage("--completion", "it is one of: bash")
        write(1, bash_completion())
    elif argv[1:] == ["doctor"]:
        write(1, help_doctor())
    elif argv[1:] == ["selftest"]:
        write(1, help_selftest())
    elif argv[1:] == ["policy"]:
        write(1, help_policy())
    elif argv[1:] == ["rootfs"]:
        write(1, help_rootfs())
    elif argv[1:] and argv[1] in VERBS:
        return help_run()
    else:
        name = program_name()
        lines = ["mrunc: %s" % SUMMARY, "", "usage: %s VERB [options] [--] CMD [ARG...]" % name, ""]
        lines += ["  %-8s %s" % (verb, VERB_TEXT[verb]) for verb in VERBS]
        lines += ["", "try:   %s run -- id" % name, "       %s run --copy ./sample -- ./sample" % name,
                  "       %s run --help" % name, "",
                  "also:  --version, --man (the manual page), --completion bash", ""]
        write(1, "\n".join(lines))
    return 0


def help_run():
    """The help of run and shell."""
    lines = ["usage: %s run [options] [--] CMD [ARG...]" % program_name()]
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
    from . import policy
    from ..sandbox.policy import NAMES
    return _help_actions("policy", policy, ["A NAME is one of: %s." % ", ".join(NAMES), ""])


def help_rootfs():
    """The help of rootfs, as text."""
    from . import rootfs
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
    from . import doctor
    lines = ["usage: %s doctor [options]" % program_name(), "",
             "Tries what mrunc needs of this host, each thing in a process that is thrown away.", "", doctor.GROUP + ":"]
    for option in doctor.OPTIONS:
        lines += _entry(", ".join(option.names), option.text)
    lines += ["", "Exit status:"]
    for status, text in doctor.EXIT:
        lines += _entry(status, text)
    return "\n".join(lines) + "\n"


def help_selftest():
    """The help of selftest, as text."""
    from . import selftest
    lines = ["usage: %s %s" % (program_name(), selftest.USAGE), "",
             "Tries to get out of a sandbox that is made here, and says what holds.", "", selftest.GROUP + ":"]
    for option in selftest.OPTIONS:
        lines += _entry(option.shown(), option.text)
    lines += ["", "Exit status:"]
    for status, text in selftest.EXIT:
        lines += _entry(status, text)
    return "\n".join(lines) + "\n"


def _entry(head, text, indent=30, width=96):
    out, line = [], "  %-*s" % (indent - 2, head)
    if len(head) > indent - 4:
        out, line = ["  " + head], " " * indent
    for word in text.split():
        if len(line) + len(word) + 1 > width:
            out.append(line.rstrip())
            line = " " * indent
        line += word + " "
    return out + [line.rstrip()]


def man_page():
    """mrunc(1) as troff."""
    from . import doctor, policy, rootfs, selftest
    from ..sandbox.policy import NAMES

    def plain(text):
        return text.replace("\\", "\\\\").replace("-", "\\-")

    def actions(verb, module):
        for action, text in module.ACTIONS:
            out.extend([".TP", ".B " + plain("mrunc %s %s" % (verb, action)), plain(text)])
        for option in module.OPTIONS:
            out.extend([".TP", ".B " + plain(option.shown()),
                        plain(option.text)])
    out = ['.TH MRUNC 1', ".SH NAME", "mrunc \\- " + SUMMARY, ".SH SYNOPSIS", ".B mrunc run",
           "[options] [\\-\\-] CMD [ARG...]", ".br", ".B mrunc shell", "[options]", ".br", ".B mrunc doctor",
           "[options]", ".br", ".B mrunc selftest", plain(selftest.USAGE.partition(" ")[2]), ".br", ".B mrunc policy",
           "ACTION [options]", ".br", ".B mrunc rootfs", "ACTION [options]", ".SH DESCRIPTION",
           "Runs a program in namespaces of its own, on a read\\-only tree, without capabilities, behind a deny\\-by\\-default",
           "system call filter, and reads back from the kernel that all of it is in force before the program starts."]
    for group in (FILES, WORLD, LIMITS, OUTPUT, EXPERT):
        out.append(".SH " + group.upper())
        for option in OPTIONS:
            if option.group == group and option.text:
                out += [".TP", ".B " + plain(option.shown()),
                        plain(option.text)]
    out += [".SH DOCTOR", plain("doctor tries what mrunc needs of this host and says which tier would run, what is missing, "
                                "and what to do about it. Its exit status: %s." % "; ".join(
                                    "%s, %s" % row for row in doctor.EXIT))]
    actions("doctor", doctor)
    out += [".SH SELFTEST", plain("selftest tries to get out of a sandbox that is made here, and says what holds. Its exit "
                                  "status: %s." % ", ".join("%s, %s" % row for row in selftest.EXIT))]
    actions("selftest", selftest)
    out += [".SH POLICIES", plain("policy ACTION shows and compares the system call policies: %s." % ", ".join(NAMES))]
    actions("policy", policy)
    out += [".SH ROOT FILE SYSTEMS", plain("rootfs ACTION makes and checks root file systems for run --rootfs.")]
    actions("rootfs", rootfs)
    out.append(".SH EXIT STATUS")
    for status, text in EXIT:
        out += [".TP", ".B " + plain(status), plain(text)]
    return "\n".join(out) + "\n"


def bash_completion():
    """A completion script for bash."""
    from . import doctor, policy, rootfs, selftest
    verbs = ""
    for verb, module in (("doctor", doctor), ("selftest", selftest), ("policy", policy), ("rootfs", rootfs)):
        actions = " ".join(dict.fromkeys(action.split()[0] for action, _ in module.ACTIONS))
        if actions:
            verbs += ('    elif [[ ${COMP_WORDS[1]} == %s && $COMP_CWORD -eq 2 ]]; then\n'
                      '        COMPREPLY=($(compgen -W "%s" -- "$word"))\n' % (verb, actions))
        verbs += ('    elif [[ ${COMP_WORDS[1]} == %s && $word == -* ]]; then\n'
                  '        COMPREPLY=($(compgen -W "%s" -- "$word"))\n' % (verb, _names(module.OPTIONS)))
    return ('_mrunc() {\n    local word=${COMP_WORDS[COMP_CWORD]}\n    if [ "$COMP_CWORD" -eq 1 ]; then\n'
            '        COMPREPLY=($(compgen -W "%s --help --version" -- "$word"))\n%s'
            '    elif [[ $word == -* ]]; then\n'
            '        COMPREPLY=($(compgen -W "%s" -- "$word"))\n    else\n        COMPREPLY=($(compgen -f -- "$word"))\n'
            '    fi\n}\ncomplete -o filenames -F _mrunc mrunc\n' % (" ".join(VERBS), verbs, _names(OPTIONS)))


def _names(table):
    return " ".join(name for option in table if option.text for name in option.names)
