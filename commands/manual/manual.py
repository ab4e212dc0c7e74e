# SPDX-License-Identifier: Apache-2.0
"""Prints `mrunc --help`, `--version`, `--man`, `--completion` and `help VERB`."""
from ...sandbox.caller import program_name
from ...sandbox.errors import usage
from ..help import SUMMARY, VERBS
from ..output import write
from . import version


def main(argv):
    """Prints what is asked for. Returns the exit status.

    argv: list of str: `--help`, `help [VERB]`, `--version`, `--man [PAGE]` or `--completion SHELL`

    Raises SandboxError (exit status 2) for an unknown page or shell.
    """
    word = argv[0] if argv else "--help"
    if word == "--version":
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
    elif argv[1:] and argv[1] in VERBS:
        write(1, help_of(argv[1]))
    else:
        write(1, overview())
    return 0


def help_of(verb):
    """Returns the help of a verb."""
    if verb in ("run", "shell"):
        from ..run import run
        return run.help_text(verb)
    from . import man
    return man.OTHERS[verb].help_text()


def overview():
    """Returns the help without a verb."""
    name = program_name()
    lines = ["mrunc: %s" % SUMMARY, "", "usage: %s VERB [options] [--] CMD [ARG...]" % name, ""]
    lines += ["  %-8s %s" % pair for pair in VERBS.items()]
    lines += ["", "try:   %s run -- id" % name, "       %s run --copy ./sample -- ./sample" % name,
              "       %s run --help" % name, "",
              "also:  --version, --man [mrunc-policy] (manual pages), --completion bash|zsh", ""]
    return "\n".join(lines)
