# SPDX-License-Identifier: Apache-2.0
"""Defines the tiers: how much of a sandbox a host can give.

`full` is the default. A weaker tier runs only if it is named. Several names mean the first that
this host can run, found by trying. What a tier does not hold is data, here and in controls.py.
Plan, receipt, doctor and documentation read it.
"""
import os

from ..syscalls.landlock import SCOPE_ABSTRACT_UNIX_SOCKET, SCOPE_SIGNAL
from . import controls
from .caller import option
from .controls import NO_TREE
from .errors import usage

SIGKILL, SIGIO = 9, 29
NAMES = ("full", "rootns", "process")


class Tier:
    """One tier.

    name: as options have it.
    summary: one phrase.
    userns, own_tree: whether it has a user namespace, a tree of its own.
    real_id: whether the identity inside is the host's own number, without a map.
    landlock: the lowest ABI that is used.
    scopes: SCOPE_* bits of its Landlock domain.
    probe: a path that the domain must refuse to open.
    death: the signal that init gets when the supervisor dies.
    lacks, lacks_without_scope, lacks_for_user: {control: why it isn't there}, of controls.CONTROLS.
    vital: names of controls that --unsafe-without may not leave out here, of controls.CONTROLS.
    refuses: [(option, whether a Spec asks for it, why it can't be, remedy)].
    not_held: sentences for people.
    """

    __slots__ = ("name", "summary", "userns", "own_tree", "real_id", "landlock", "scopes", "probe",
                 "death", "lacks", "lacks_without_scope", "lacks_for_user", "refuses", "vital",
                 "not_held")

    def __init__(self, name, summary, userns=True, own_tree=True, real_id=False, landlock=2,
                 scopes=SCOPE_ABSTRACT_UNIX_SOCKET, probe=b"/.landlock", death=SIGKILL, refuses=(),
                 not_held=()):
        self.name, self.summary, self.userns, self.own_tree = name, summary, userns, own_tree
        self.real_id, self.landlock, self.scopes = real_id, landlock, scopes
        self.probe, self.death = probe, death
        self.lacks = controls.lacking(name)
        self.lacks_without_scope = controls.lacking(name, "lacks_without_scope")
        self.lacks_for_user = controls.lacking(name, "lacks_for_user")
        self.vital = frozenset(row.name for row in controls.CONTROLS.values() if name in row.vital)
        self.refuses, self.not_held = refuses, not_held


OWN_POLICY = "the process tier has a system call policy of its own, and stands on it"
NO_CHANGES = "it has no writable file systems of its own to look at"
#: Refused in both tiers without a user namespace.
REAL_ID = (
    ("--user", lambda spec: spec.user is not None,
     "without a user namespace the id inside is the host's", None),
    ("--cap-add", lambda spec: spec.cap_add,
     "without a user namespace it would be a capability over the host", None))

#: {name: Tier}, the strongest first.
TIERS = dict((tier.name, tier) for tier in (
    Tier("full", "user, mount, pid and all other namespaces, a tree of its own"),
    Tier("rootns",
         "root on a host without user namespaces: all other namespaces, a tree of its own",
         userns=False, real_id=True, refuses=(
             ("--overlay", lambda spec: spec.overlay,
              "without a user namespace the tree can't be mapped to its owner", None),
             ("--rw", lambda spec: spec.rw,
              "without a user namespace a source can't be mapped to its owner",
              "bring files in with --copy")) + REAL_ID,
         not_held=(
             "The set-up runs as the host's root, with its rights over mounts. In the full tier it "
             "runs as an unprivileged id of the host.",
             "Only the system call filter bars nested user namespaces.",
             "If the program regained a capability, it would have it over the host: no user "
             "namespace surrounds the other namespaces.",
             "The id inside is the host's own number, as `id` shows. Nothing is root inside.")),
    Tier("process", "no namespaces: Landlock, a system call filter of its own, limits",
         userns=False, own_tree=False, real_id=True, landlock=1,
         scopes=SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL, probe=b"/proc/version", death=SIGIO,
         refuses=(
             ("--ro SRC:DST", lambda spec: [1 for source, place in spec.ro
                                            if os.path.abspath(source) != place], NO_TREE,
              "without DST it is shown at its own place"),
             ("--copy SRC:DST",
              lambda spec: [1 for _, place in spec.copy if not place.startswith(b"/box/")],
              "a copy lies in the private directory, for which /box stands",
              "--copy SRC:/box/NAME"),
             ("--rw", lambda spec: spec.rw,
              "only the private directory can be written: modes, owners and attributes of other "
              "files can't be kept from the program by Landlock", "bring files in with --copy"),
             ("--here", lambda spec: spec.here, NO_TREE, "--ro . --chdir \"$PWD\""),
             ("--tmpfs", lambda spec: spec.tmpfs, "mounts need a mount namespace", None),
             ("--rootfs", lambda spec: spec.rootfs is not None, NO_TREE, None),
             ("--harden", lambda spec: spec.harden, "its tree needs a mount namespace", None),
             ("--overlay", lambda spec: spec.overlay, NO_TREE, None),
             ("--changes", lambda spec: spec.changes, NO_CHANGES, None),
             ("--export", lambda spec: spec.export is not None, NO_CHANGES, None),
             ("--hostname", lambda spec: spec.hostname is not None, "the host name is the host's",
              None)) + REAL_ID + (
             ("--tty", lambda spec: spec.tty, "a terminal of its own needs a devpts of its own",
              None),
             ("--proc full", lambda spec: spec.proc == "full", "/proc is the host's, and closed",
              None),
             ("--seccomp", lambda spec: spec.seccomp not in ("default", "process"), OWN_POLICY,
              None),
             ("--seccomp-add", lambda spec: spec.seccomp_add, OWN_POLICY, None)),
         not_held=(
             "The program can query each host file by name: size, times and links (stat, readlink, "
             "access, chdir). It also learns whether a process number is in use. It can't list "
             "directories or read files, except those that it is shown.",
             "The program can't read the host's /proc, and has no other. Nor can it read "
             "/etc/passwd and the other host files that the full tier replaces by its own. So user "
             "names are not known inside.",
             "Host name, uptime, the free space of mounts and the system's load are the host's.",
             "The private directory lies on the host's disk. Its size has no limit (`--rlimit "
             "fsize` bounds one file). It is removed at the end. If mrunc was killed with SIGKILL, "
             "the next run in this tier removes it.",
             "The program can make no socket, not even a local one. It can only make connected "
             "pairs (socketpair).",
             "chmod, chown, inotify, ioctls of file systems, System V and POSIX IPC are refused. "
             "Setting times and extended attributes is refused, too. This also holds for the "
             "program's own files: a linker's output is not executable, git does not work, touch "
             "complains.",
             "Below Landlock ABI 6 (Linux 6.12) all signals are refused, including kill to itself, "
             "abort() and raise().",
             "Below Landlock ABI 6, the program and its children live on if mrunc is killed with "
             "SIGKILL. From ABI 6 on they do so only if pid 1 of the sandbox was killed from "
             "outside just before.",
             "Below Landlock ABI 6, a program that forks without a pause can escape when mrunc "
             "kills everything at the end. The result then names the processes that are left.",
             "With Landlock ABI 1 (before Linux 5.19) files can't be renamed or linked from one "
             "directory to another.",
             "An ordinary user's programs run as that user. Only Landlock and the filter stand "
             "between them and the user's files.",
             "An ordinary user's bounding set of capabilities stays full, since dropping it takes "
             "a capability. Under no_new_privs the set has no effect.",
             "The kernel counts some resources for each user. An ordinary user's sandbox shares "
             "these counters with the user's other programs: processes, pending signals, locked "
             "memory, pipe buffers, inotify and AIO limits.",
             "The program can lock files that it can read, as in the full tier. Here these include "
             "the host's files of /usr.")),
))
FULL = TIERS["full"]


def refusal(tier, spec):
    """Returns the SandboxError (exit 2) for the first option that a tier can't do, or None.

    tier: Tier.
    spec: Spec.
    """
    for words, asked, reason, remedy in tier.refuses:
        if asked(spec):
            name, *value = words[2:].split(" ")
            return _refused(tier, name.replace("-", "_"), *value, reason=reason, remedy=remedy)
    for name in sorted(spec.require & set(tier.lacks)):
        return _refused(tier, "require", name, reason=tier.lacks[name])
    for name in sorted(tier.vital & spec.unsafe_without):
        return _refused(tier, "unsafe_without", name,
                        reason="everything else stands on it, it can't be left out")
    return None


def _refused(tier, *asked, reason, remedy=None):
    for name in ("copy", "ro", "chdir"):  # the table has them as on a command line
        remedy = remedy and remedy.replace("--" + name, option(name))
    return usage("%s in the %s tier" % (option(*asked), tier.name), reason, remedy)
