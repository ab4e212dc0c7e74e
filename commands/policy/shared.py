# SPDX-License-Identifier: Apache-2.0
"""The option table of `mrunc policy`, and what its actions share."""
import os

from ...sandbox.errors import nearest
from ...sandbox.seccomp import files, policy, shipped
from ...sandbox.seccomp.shipped import NAMES
from .. import actions, help
from ..options import Option

GROUP = "Options of policy"
OPTIONS = (
    Option("--arch", "arch", "ARCH", "x86_64 or aarch64; this machine's unless said (diff: both)", GROUP),
    Option("--bpf", "bpf", None, "show: the program, one instruction a line", GROUP),
    Option("--policy", "policy", "NAME", "explain: which policy's decision comes first (default: default)", GROUP),
    Option("--format", "format", "bpf|oci|text", "export: bpf, a struct sock_filter array as bwrap --seccomp FD takes it, or "
           "oci, JSON for runc, crun and docker --security-opt seccomp=; learn: oci (of a FILE in .json) or text", GROUP),
    Option("-o --output", "output", "FILE", "export: write there instead of to standard output; learn: instead of to "
           "stderr", GROUP),
    Option("--merge", "merge", None, "learn: add to what the FILE of -o holds from earlier runs", GROUP),
    Option("--verify", "verify", "FILE", "learn: run the program behind this policy, list each call that it refused, exit "
           "status 1 if there is one", GROUP),
    Option("--against", "against", "PEERS", "diff: compare with other sandboxes, call by call: all, or some of docker, "
           "podman, snapd, systemd, flatpak, firejail, bubblewrap, nsjail, minijail, chromium, gvisor", GROUP),
    Option("--markdown", "markdown", None, "diff --against: as Markdown", GROUP),
    Option("--json", "json", None, "JSON", GROUP),
    Option("-h --help", "help", None, "this text", GROUP),
)
ACTIONS = (("show [NAME|FILE]", "what a policy decides and why (default: default)"),
           ("explain SYSCALL", "what is decided for a call, why, and what others do; a name or a number"),
           ("export NAME|FILE", "for another tool"),
           ("diff A B", "each difference with a call that shows it; exit status 1 if there is one or may be one"),
           ("diff NAME --against PEERS", "NAME beside what other sandboxes decide"),
           ("learn [run's options] -- CMD", "runs a program that you trust, with every system call allowed, and writes the "
            "smallest policy that lets it; exit status as of run"))


def help_text():
    """The help of policy."""
    return help.text("policy ACTION [options]", ((GROUP, OPTIONS),), actions=ACTIONS,
                     note="A NAME is one of: %s." % ", ".join(NAMES))


def wrong(what, reason=None, remedy=None):
    """The SandboxError of a mistake in the command line."""
    return actions.wrong("policy", what, reason, remedy)


def machine(values):
    """The architecture that is meant."""
    arch = values.get("arch") or os.uname().machine
    if arch not in policy.ARCHES:
        raise wrong("--arch %s" % arch if "arch" in values else "no policy for this machine's architecture, %s" % arch,
                     "it is one of: %s" % ", ".join(policy.ARCHES))
    return arch


def load(what, arch):
    """(name, program bytes) of a shipped policy or a file.  Raises SandboxError."""
    if what in policy.NAMES:
        return what, shipped.program(what, arch)
    if not os.path.lexists(what):
        raise wrong("no policy and no file is called %s%s" % (what, nearest(what, policy.NAMES)),
                     "the policies are: %s" % ", ".join(policy.NAMES))
    return files.read(what, arch)[:2]


def wrapped(text, indent="    ", width=110):
    """Lines of at most `width`."""
    lines, line = [], indent
    for word in text.split(" "):
        if len(line) + len(word) > width and line.strip():
            lines.append(line.rstrip())
            line = indent
        line += word + " "
    return lines + [line.rstrip()]
