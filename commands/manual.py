# SPDX-License-Identifier: Apache-2.0
"""Help, man page and completion, all from the option table."""
from . import VERBS, program_name
from .options import EXPERT, FILES, LIMITS, OPTIONS, OUTPUT, WORLD
from .output import write

SUMMARY = "a sandbox for malware and risky code"
VERB_TEXT = {"run": "run a program in a sandbox", "shell": "an interactive shell in a sandbox (run --tty -- sh -l)",
             "policy": "the system call policies: show, explain, export, diff"}
EXIT = (("the program's own", "it ended by itself"), ("128+N", "killed by signal N"), ("124", "a deadline"),
        ("125", "mrunc could not contain it; nothing ran"), ("126", "found, but not executable"), ("127", "not found inside"),
        ("2", "a mistake in the options"))


def main(argv):
    """`--help`, `help`, `--version`, `--man`, `--completion SHELL`."""
    from ..sandbox.errors import usage
    word = argv[0] if argv else "--help"
    if word == "--version":
        from .. import __version__
        write(1, "mrunc %s\n" % __version__)
    elif word == "--man":
        write(1, man_page())
    elif word == "--completion":
        if argv[1:] != ["bash"]:
            raise usage("--completion", "it is one of: bash")
        write(1, bash_completion())
    elif argv[1:] == ["policy"]:
        write(1, help_policy())
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
                lines += _entry(", ".join(option.names) + (" " + option.metavar if option.metavar else ""), option.text)
    lines += ["", "Exit status:"]
    for status, text in EXIT:
        lines += _entry(status, text)
    write(1, "\n".join(lines) + "\n")
    return 0


def help_policy():
    """The help of policy, as text."""
    from . import policy
    from ..sandbox.policy import NAMES
    lines = ["usage: %s policy ACTION [options]" % program_name(), "", "Actions:"]
    for action, text in policy.ACTIONS:
        lines += _entry(action, text)
    lines += ["", "A NAME is one of: %s." % ", ".join(NAMES), "", policy.GROUP + ":"]
    for option in policy.OPTIONS:
        lines += _entry(", ".join(option.names) + (" " + option.metavar if option.metavar else ""), option.text)
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
    from . import policy
    from ..sandbox.policy import NAMES
    def plain(text):
        return text.replace("\\", "\\\\").replace("-", "\\-")
    out = ['.TH MRUNC 1', ".SH NAME", "mrunc \\- " + SUMMARY, ".SH SYNOPSIS", ".B mrunc run",
           "[options] [\\-\\-] CMD [ARG...]", ".br", ".B mrunc shell", "[options]", ".br", ".B mrunc policy",
           "ACTION [options]", ".SH DESCRIPTION",
           "Runs a program in namespaces of its own, on a read\\-only tree, without capabilities, behind a deny\\-by\\-default",
           "system call filter, and reads back from the kernel that all of it is in force before the program starts."]
    for group in (FILES, WORLD, LIMITS, OUTPUT, EXPERT):
        out.append(".SH " + group.upper())
        for option in OPTIONS:
            if option.group == group and option.text:
                out += [".TP", ".B " + plain(", ".join(option.names) + (" " + option.metavar if option.metavar else "")),
                        plain(option.text)]
    out += [".SH POLICIES", plain("policy ACTION shows and compares the system call policies: %s." % ", ".join(NAMES))]
    for action, text in policy.ACTIONS:
        out += [".TP", ".B " + plain("mrunc policy " + action), plain(text)]
    for option in policy.OPTIONS:
        out += [".TP", ".B " + plain(", ".join(option.names) + (" " + option.metavar if option.metavar else "")),
                plain(option.text)]
    out.append(".SH EXIT STATUS")
    for status, text in EXIT:
        out += [".TP", ".B " + plain(status), plain(text)]
    return "\n".join(out) + "\n"


def bash_completion():
    """A completion script for bash."""
    from . import policy
    names, more = [" ".join(name for option in table if option.text for name in option.names)
                   for table in (OPTIONS, policy.OPTIONS)]
    return ('_mrunc() {\n    local word=${COMP_WORDS[COMP_CWORD]}\n    if [ "$COMP_CWORD" -eq 1 ]; then\n'
            '        COMPREPLY=($(compgen -W "%s --help --version" -- "$word"))\n'
            '    elif [[ ${COMP_WORDS[1]} == policy && $COMP_CWORD -eq 2 ]]; then\n'
            '        COMPREPLY=($(compgen -W "%s" -- "$word"))\n'
            '    elif [[ ${COMP_WORDS[1]} == policy && $word == -* ]]; then\n'
            '        COMPREPLY=($(compgen -W "%s" -- "$word"))\n    elif [[ $word == -* ]]; then\n'
            '        COMPREPLY=($(compgen -W "%s" -- "$word"))\n    else\n        COMPREPLY=($(compgen -f -- "$word"))\n'
            '    fi\n}\ncomplete -o filenames -F _mrunc mrunc\n'
            % (" ".join(VERBS), " ".join(dict.fromkeys(action.split()[0] for action, _ in policy.ACTIONS)), more, names))
