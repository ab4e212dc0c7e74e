# SPDX-License-Identifier: Apache-2.0
"""Checks the user's sources; clones those of a root caller, mapped to their owner.

Without a map, a tree owned by root would be useless inside: 0700 and 0600 are EACCES for the
sandbox's host id.  With it, the sandbox's root stands for the source's *owner* on that mount, and
for nobody else.  mount_setattr(2), user_namespaces(7)
"""
import errno
import os
import stat

from ...syscalls import mount, process
from ..caller import option
from ..errors import CANNOT_CONTAIN, SandboxError, show, USAGE
from .source import entries

#: So many entries are looked at for owners and modes; a tree may hold millions.
WALK_LIMIT = 20000


def take_source(op, detached):
    """Takes the source of a bind operation in the child, from the child's mount namespace.

    detached: whether mounts can be detached (Linux 5.2).  Returns the fd of a detached clone, or
    else a descriptor of O_PATH.  Raises OSError; ESTALE where another file took its place.
    """
    fd = op.source.here()
    if not detached:
        return fd
    try:
        return mount.open_tree(b"", True, fd)
    finally:
        os.close(fd)


def refuse_sockets(source):
    """Raises SandboxError for a directory that holds a socket or a FIFO.

    Connecting to a socket works through a read-only mount and needs no network.  One that appears
    later stays reachable: there is no mount flag against it.
    """
    def closed(path, fd):
        # known names in it can be reached all the same
        if os.access(b"/proc/self/fd/%d" % fd, os.X_OK):
            raise _talks(source, path, "can't be searched for sockets")
    try:
        for place in entries(source, closed) if source.directory else ():
            kind = channel(place)
            if kind is not None:
                raise _talks(source, place.path, "is a %s, and a program inside could talk to its "
                                                 "owner" % kind)
    except OSError as error:
        raise _talks(source, error.filename or b"",
                     "can't be searched for sockets: %s" % error.strerror)


def channel(place):
    """Returns "socket" or "FIFO" for a Place that is one, else None."""
    entry = place.entry
    if entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False) or \
            entry.is_symlink():
        return None  # most entries, without an lstat
    try:
        return {stat.S_IFSOCK: "socket", stat.S_IFIFO: "FIFO"}.get(stat.S_IFMT(place.mode))
    except OSError:
        return None  # gone


def _talks(source, path, why):
    """Returns the SandboxError for a source with a socket.  path: below it (bytes)."""
    return SandboxError("sources", shown(source), control="mounts", status=USAGE,
                        reason="%s %s" % (shown(source, path), why),
                        remedy="name a directory without sockets, or bring files in with " +
                               option("copy"))


def shown(source, below=b""):
    """Returns the path of a Source, or of a path `below` (bytes) it, for a message."""
    return show(os.path.join(source.path, below).rstrip(b"/")) or "/"


def idmapped_tree(op, identity, known):
    """Clones the source of a root caller's bind, mapped to its owner; returns the mount's fd.

    op: operations.Bind
    identity: (host uid, host gid) behind the sandbox's root
    known: {owner: fd of its user namespace}, filled here and closed by the caller

    Raises SandboxError for mixed owners and for a file system that can't be mapped, OSError where
    the source can't be opened.  mount_setattr(2)
    """
    if op.user:
        _refuse_mixed_owners(op)
    tree = mount.open_tree(b"", True, op.source.fd)
    try:
        owner = op.owner
        if owner not in known:
            known[owner] = owner_userns(owner, identity)
        mount.mount_setattr(tree, op.flags | mount.MOUNT_ATTR_IDMAP, userns=known[owner])
    except OSError as error:
        os.close(tree)
        remedy = "put the tree on another file system" if op.top else \
            "bring files in with " + option("copy")
        raise SandboxError("sources", shown(op.source), error.errno, control="mounts",
                           reason="its file system can't be mapped to its owner (%s)" %
                                  os.strerror(error.errno),
                           remedy="%s (a tmpfs can be mapped from Linux 6.3 on; proc, sysfs and "
                                  "cgroup never)" % remedy)
    return tree


def unmapped_tree(op, features):
    """Clones the source of a root caller's bind without a map; returns the mount's fd.

    For tiers without a user namespace, and before Linux 5.12, where the child restricts the mount.
    Raises SandboxError as refuse_unmapped, OSError where the source can't be opened.
    """
    refuse_unmapped(op, features)
    tree = mount.open_tree(b"", True, op.source.fd)
    try:
        if features.mount_setattr:
            mount.mount_setattr(tree, op.flags)
    except OSError:
        os.close(tree)
        raise
    return tree


def refuse_unmapped(op, features):
    """Raises SandboxError for a source that is writable or that not everybody can read.

    op: operations.Bind; features: kernel.Features.  Without a map the program could not read it,
    and what it writes would not be the owner's.  Where mounts can't be detached, the directories
    above must let everybody through, too.
    """
    source = op.source
    if not op.flags & mount.MOUNT_ATTR_RDONLY:
        raise SandboxError("sources", shown(source), errno.ENOSYS, control="mounts",
                           reason="its owner can't be mapped here, and without that nothing can be "
                                  "written to it",
                           remedy="Linux 5.12 or newer is needed, or start mrunc as its owner")
    closed = None if op.top else closed_path(source)
    if closed is None and not features.mount_api:
        closed = closed_way(source.path)
    if closed is not None:
        raise SandboxError("sources", shown(source), control="mounts",
                           status=USAGE if features.mount_setattr else CANNOT_CONTAIN,
                           reason="%s is not readable for everybody, and its owner can't be mapped "
                                  "here (no user namespace, or Linux before 5.12)" % show(closed),
                           remedy="bring files in with " + option("copy"))


def closed_way(path):
    """Returns the nearest directory above a path (bytes) that not everybody can search, or None."""
    place = os.path.dirname(path)
    while os.stat(place).st_mode & stat.S_IXOTH:
        if place == b"/":
            return None
        place = os.path.dirname(place)
    return place


def closed_path(source):
    """Returns a path (bytes) of a Source that not everybody can read, or None.

    Looks at WALK_LIMIT entries at most.  Raises OSError.
    """
    if closed_mode(source.found.st_mode):
        return source.path
    for place in entries(source, most=WALK_LIMIT) if source.directory else ():
        try:
            if closed_mode(place.mode):
                return os.path.join(source.path, place.path)
        except OSError:
            continue
    return None


def closed_mode(mode):
    """Returns whether a file or directory of that st_mode is not for everybody to read."""
    need = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(mode) else 0)
    return not stat.S_ISLNK(mode) and mode & need != need


def owner_userns(owner, identity):
    """Makes a user namespace that maps an owner to the sandbox's host id; returns its fd.

    owner: (uid, gid) of a source; identity: (uid, gid) of the sandbox on the host.  A short-lived
    child makes it.  Raises OSError.
    """
    hold, release = os.pipe()
    try:
        pid, pidfd = process.clone3(process.CLONE_NEWUSER)
        if pid == 0:
            os.close(release)
            try:
                os.read(hold, 1)
            finally:
                os._exit(0)
        try:
            for name, inside, outside in (("uid_map", owner[0], identity[0]),
                                          ("gid_map", owner[1], identity[1])):
                fd = os.open("/proc/%d/%s" % (pid, name), os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.write(fd, b"%d %d 1" % (inside, outside))
                finally:
                    os.close(fd)
            return os.open("/proc/%d/ns/user" % pid, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(release)
            release = -1
            os.waitpid(pid, 0)
            if pidfd >= 0:
                os.close(pidfd)
    finally:
        os.close(hold)
        if release >= 0:
            os.close(release)


def _refuse_mixed_owners(op):
    """Raises SandboxError for a file of another owner that is closed to everybody else.

    A map has one line, so that file would be unreadable inside.
    """
    source = op.source
    # A tree with a whole system has files of several owners.  Any user is kept out of some of them.
    if not source.directory or op.top:
        return
    uid = op.owner[0]
    for place in entries(source, most=WALK_LIMIT):
        try:
            found = place.entry.stat(follow_symlinks=False)
        except OSError:
            continue
        if found.st_uid != uid and closed_mode(found.st_mode):
            raise SandboxError(
                "sources", shown(source), control="mounts",
                reason="all files shown must have the same owner; %s belongs to uid %d, the "
                       "directory to uid %d" % (shown(source, place.path), found.st_uid, uid),
                remedy="name a directory of one owner, or bring files in with " + option("copy"))
