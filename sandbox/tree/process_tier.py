# SPDX-License-Identifier: Apache-2.0
"""Plans the process tier's files: Landlock rules and a private directory.

The rules open those of the host's files that the full tier would show.  Only the private directory
can be written.  There is no mount namespace, so every path is the host's.  /box is a name of the
command line for the private directory.
"""
import os
import stat

from ..caller import option
from ..errors import SandboxError, show, usage
from .operations import READ, WRITE, Copy
from .sources import closed_path, closed_way, refuse_sockets
from .user_mounts import open_copied, open_source
from ...syscalls import landlock
from .source import open_path

READ_WRITE = landlock.READ_FILE | landlock.WRITE_FILE | landlock.IOCTL_DEV
#: Everything below the private directory but to make devices.
PRIVATE = READ | WRITE | landlock.EXECUTE
DEVICES = (b"/dev/null", b"/dev/zero", b"/dev/full", b"/dev/random", b"/dev/urandom")
BOX = b"/box"
#: The name, in a plan, of the private directory that the launch makes.
UNNAMED = b"mrunc-process-XXXXXXXXXXXXXXXX"
#: statvfs(3)
ST_NOEXEC = 8


def fill(plan, spec, host):
    """Fills the files' part of a Plan: rules instead of mounts.

    spec: Spec; host: facts.Host.  Raises SandboxError: exit 125 on a kernel without Landlock or a
    host without a place for the private directory, 2 for an option that can't be followed.
    """
    abi = landlock.abi()
    if abi < plan.tier.landlock:
        raise SandboxError("landlock", "the process tier needs it", control="landlock",
                           reason="this kernel has no Landlock, and without namespaces nothing "
                                  "else would keep the program from the host's files",
                           remedy="Linux 5.13 or newer, with landlock in the kernel's lsm= list")
    if abi < 6:
        plan.lacks = dict(plan.lacks, **plan.tier.lacks_without_scope)
    if host.uid != 0:
        plan.lacks = dict(plan.lacks, **plan.tier.lacks_for_user)
    plan.mounts, plan.operations = {}, []
    base = os.path.join(_base(plan), UNNAMED)
    plan.home = base
    plan.env.setdefault(b"TMPDIR", base)
    if plan.env[b"HOME"] == spec.home:
        plan.env[b"HOME"] = base
    rules = [(base, PRIVATE), (b"/usr", READ | landlock.EXECUTE)]
    rules += [(b"/" + name.encode(), READ | landlock.EXECUTE)
              for name, target in sorted(host.layout.items()) if not target]
    rules += [(store, READ | landlock.EXECUTE) for store in host.stores]
    rules += [(path, READ if directory else landlock.READ_FILE) for path, directory in host.etc]
    rules += [(b"/sys/devices/system/cpu/" + name.encode(), landlock.READ_FILE)
              for name in sorted(host.cpu)]
    rules += [(path, READ_WRITE) for path in DEVICES]
    plan.shown = dict((source.path, source) for source in _shown(plan, spec))
    rules += [(path, (READ if source.directory else landlock.READ_FILE) | landlock.EXECUTE)
              for path, source in plan.shown.items()]
    plan.landlock_rules = rules
    for given, destination in spec.copy:
        source = open_copied(given, destination, spec, plan.held)
        place = base + destination[len(BOX):]
        if any((op.dst + b"/").startswith(place + b"/") or place.startswith(op.dst + b"/")
               for op in plan.operations):
            raise usage(option("copy", show(destination)),
                        "there is something at that path already")
        plan.operations.append(Copy(place, source))
    plan.cwd = base
    if spec.chdir is not None and spec.chdir != BOX:
        if not os.path.isdir(spec.chdir):
            raise usage(option("chdir", show(spec.chdir)), "is not there",
                        "paths are the host's in the process tier")
        plan.cwd = os.path.realpath(spec.chdir)
    if not plan.root and "nproc" in plan.limits and "nproc" not in spec.rlimit:
        # without a user namespace the kernel counts all tasks of the caller
        present, most = _tasks_of(host.uid), host.hard_limits["nproc"][1]
        plan.limits["nproc"] = tuple(value + present if most == -1 else min(value + present, most)
                                     for value in plan.limits["nproc"])


def _shown(plan, spec):
    """Returns [Source] of --ro.  Raises SandboxError, exit 2.

    Root's program runs as nobody, so it can only be shown what everybody may read.
    """
    out = []
    for given, _ in spec.ro:
        source = open_source(given, "ro", spec, plan.held)
        if not source.allows(os.R_OK):
            raise usage(option("ro", show(given)), "Permission denied")
        refuse_sockets(source)
        closed = closed_path(source) or closed_way(source.path) if plan.root else None
        if closed is not None:
            raise usage(option("ro", show(given)),
                        "%s is not readable for everybody, and the program is nobody" %
                        show(closed), "bring files in with " + option("copy"), stage="sources")
        out.append(source)
    return out


def closed_to_others(path):
    """Returns a path in or above a directory that not everybody may read, or None.

    path: bytes, of the directory.  Raises OSError.
    """
    source = open_path(path, follow_links=True)
    try:
        return closed_path(source) or closed_way(source.path)
    finally:
        source.close()


def _base(plan):
    """Returns the real path (bytes) of the directory in which the private one will be made.

    That is the first of $TMPDIR, /tmp and /var/tmp that can be used.  Raises SandboxError.
    """
    refused = []
    for place in [os.fsencode(os.environ.get("TMPDIR", "")), b"/tmp", b"/var/tmp"]:
        if not place.startswith(b"/") or not os.path.isdir(place):
            continue
        place = os.path.realpath(place)
        mode = os.stat(place).st_mode
        why = None
        if not os.access(place, os.W_OK | os.X_OK):
            why = "not writable"
        elif mode & 0o022 and not mode & stat.S_ISVTX:
            why = "others could exchange what is made there"
        elif os.statvfs(place).f_flag & ST_NOEXEC:
            why = "mounted noexec"
        elif plan.root and (closed_way(place) or not mode & stat.S_IXOTH):
            why = "not everybody may enter it, and the program is nobody"
        if why is None:
            return place
        refused.append("%s: %s" % (show(place), why))
    raise SandboxError("private directory", "there is no place for it",
                       reason="; ".join(refused) or "no /tmp", remedy="name a directory in TMPDIR")


def _tasks_of(uid):
    """Returns the number of tasks that a user has on the host."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat("/proc/" + name).st_uid == uid:
                    count += os.stat("/proc/%s/task" % name).st_nlink - 2
            except OSError:
                pass
    return count


def settle(plan, path):
    """Puts the real path (bytes) of the private directory into a Plan, in the place of UNNAMED."""
    unnamed = plan.home

    def named(place):
        inside = place == unnamed or place.startswith(unnamed + b"/")
        return path + place[len(unnamed):] if inside else place
    plan.landlock_rules = [(named(place), rights) for place, rights in plan.landlock_rules]
    plan.env = dict((name, named(value)) for name, value in plan.env.items())
    for op in plan.operations:
        op.dst = named(op.dst)
    plan.home, plan.cwd = path, named(plan.cwd)
