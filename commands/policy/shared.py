# SPDX-License-Identifier: Apache-2.0
"""Holds the option table of `mrunc policy` and what its actions share."""
import os

from ...sandbox.errors import nearest
from ...sandbox.seccomp import files, policy, shipped
from ...sandbox.seccomp.shipped import NAMES
from .. import actions, help
from ..options import Option

GROUP = "Options of policy"
OPTIONS = (
    Option("--arch", "arch", "ARCH", "x86_64 or aarch64; default: this machine's (diff: both)",
           GROUP),
    Option("--bpf", "bpf", None, "show: print the program, one instruction a line", GROUP),
    Option("--policy", "policy", "NAME", "explain: show this policy's decision first (default: "
           "default)", GROUP),
    Option("--format", "format", "bpf|oci|text", "export: bpf, a struct sock_filter array for "
           "bwrap --seccomp FD, or oci, JSON for runc, crun and docker --security-opt seccomp=; "
           "learn: oci (default for a FILE in .json) or text", GROUP),
    Option("-o --output", "output", "FILE", "export: write to FILE instead of stdout; learn: write "
           "to FILE instead of stderr", GROUP),
    Option("--merge", "merge", None, "learn: add to the rules in the FILE of -o", GROUP),
    Option("--verify", "verify", "FILE", "learn: run the program behind this policy and list each "
           "refused call; exit status 1 if there is any", GROUP),
    Option("--against", "against", "PEERS", "diff: compare with other sandboxes, call by call: "
           "all, or some of docker, podman, snapd, systemd, flatpak, firejail, bubblewrap, nsjail, "
           "minijail, chromium, gvisor", GROUP),
    Option("--markdown", "markdown", None, "diff --against: print Markdown", GROUP),
    Option("--json", "json", None, "print JSON", GROUP),
    Option("-h --help", "help", None, "show this text", GROUP),
)
ACTIONS = (
    ("show [NAME|FILE]", "print the decisions of a policy and the reasons (default: default)"),
    ("explain SYSCALL", "print the decisions on one call, given by name or number, the reasons, "
     "and what other sandboxes do"),
    ("export NAME|FILE", "write a policy for another tool"),
    ("diff A B", "print each difference with a call that shows it; exit status 1 if there is or "
     "may be any"),
    ("diff NAME --against PEERS", "compare NAME with other sandboxes"),
    ("learn [run's options] -- CMD", "run a program that you trust with every system call allowed, "
     "and write the smallest policy that it can run with; exit status as of run"))


def help_text():
    """Returns the help of policy."""
    return help.text("policy ACTION [options]", ((GROUP, OPTIONS),), actions=ACTIONS,
                     note="A NAME is one of: %s." % ", ".join(NAMES))


def wrong(what, reason=None, remedy=None):
    """Returns the SandboxError (exit status 2) for a mistake in the command line."""
    return actions.wrong("policy", what, reason, remedy)


def machine(values):
    """Returns the architecture of --arch, or this machine's. Raises SandboxError."""
    arch = values.get("arch") or os.uname().machine
    if arch not in policy.ARCHES:
        raise wrong("--arch %s" % arch if "arch" in values else
                    "no policy for this machine's architecture, %s" % arch,
                    "it is one of: %s" % ", ".join(policy.ARCHES))
    return arch


def load(what, arch):
    """Returns (name, program bytes) of a shipped policy or a file. Raises SandboxError."""
    if what in policy.NAMES:
        return what, shipped.program(what, arch)
    if not os.path.lexists(what):
        raise wrong("no policy and no file is called %s%s" % (what, nearest(what, policy.NAMES)),
                    "the policies are: %s" % ", ".join(policy.NAMES))
    return files.read(what, arch)[:2]


def indented(text):
    """Returns the lines of a text, indented by four columns."""
    return help.wrapped(text, "    ", "    ")
