# SPDX-License-Identifier: Apache-2.0
"""A root caller's sources: cloned with its rights, mapped to the source's owner, out of every peer group.

Not idmapped, a tree owned by root would be useless inside: 0700 and 0600 are EACCES for the sandbox's host id.  Mapped,
the sandbox's root stands for the source's *owner* on that mount, and for nobody else.  mount_setattr(2), user_namespaces(7)
"""
import errno
import os
import stat

from ...syscalls import mount, process
from ..caller import option
from ..errors import CANNOT_CONTAIN, SandboxError, show, USAGE
from .source import entries

#: So many entries are looked at for owners that can't be mapped; a tree may hold millions.
WALK_LIMIT = 20000


def clone_source(op):
    """The detached mount (fd) of a bind operation with a Source, in the caller's own mount namespace.  Raises OSError."""
    return mount.open_tree(b"", True, op.source.fd)


def take_source(op, detached):
    """The same in the child, which is in a mount namespace of its own: of what is there the very file or directory that has
    been held since it was first opened.  detached: whether mounts can be.  Raises OSError."""
    fd = op.source.here()
    if not detached:
        return fd
    try:
        return mount.open_tree(b"", True, fd)
    finally:
        os.close(fd)


def refuse_sockets(source):
    """Connecting to a socket works through a read-only mount and needs no network: a directory that holds one is refused.
    Raises SandboxError.  (One that appears later stays reachable; there is no mount flag against it.)"""
    def closed(path, fd):
        if os.access(b"/proc/self/fd/%d" % fd, os.X_OK):  # known names in it can be reached all the same
            raise _talks(source, path, "can't be searched for sockets")
    try:
        for place in entries(source, closed) if source.directory else ():
            kind = channel(place)
            if kind is not None:
                raise _talks(source, place.path, "is a %s, and a program inside could talk to its owner" % kind)
    except OSError as error:
        raise _talks(source, error.filename or b"", "can't be searched for sockets: %s" % error.strerror)


def channel(place):
    """"socket" or "FIFO" for a Place that is one, else None."""
    entry = place.entry
    if entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False) or entry.is_symlink():
        return None
    try:
        return {stat.S_IFSOCK: "socket", stat.S_IFIFO: "FIFO"}.get(stat.S_IFMT(place.mode))
    except OSError:
        return None  # gone


def _talks(source, path, why):
    return SandboxError("sources", shown(source), control="mounts", status=USAGE,
                        reason="%s %s" % (shown(source, path), why),
                        remedy="name a directory without sockets, or bring files in with " + option("copy"))


def shown(source, below=b""):
    """The path of a Source, or of what lies below it, for a message."""
    return show(os.path.join(source.path, below).rstrip(b"/")) or "/"


def idmapped_tree(op, features, identity, known):
    """A detached mount (fd) for a bind operation of a root caller.

    features: Features; identity: (host uid, host gid) behind the sandbox's root; known: dict owner -> fd of its user
    namespace, filled here and closed by the caller.  Raises SandboxError: mixed owners, or a file system that
    can't be idmapped; --copy is the way out of both.  Raises OSError where the source can't be opened.
    """
    if op.user:
        _refuse_mixed_owners(op)
    tree = clone_source(op)
    try:
        owner = op.owner
        if owner not in known:
            known[owner] = owner_userns(owner, identity)
        mount.mount_setattr(tree, op.flags | mount.MOUNT_ATTR_IDMAP, userns=known[owner])
    except OSError as error:
        os.close(tree)
        raise SandboxError("sources", shown(op.source), error.errno, control="mounts",
                           reason="its file system can't be mapped to its owner (%s)" % os.strerror(error.errno),
                           remedy="%s (a tmpfs can be mapped from Linux 6.3 on; proc, sysfs and cgroup never)" %
                           ("put the tree on another file system" if op.top else
                            "bring files in with " + option("copy")))
    return tree


def unmapped_tree(op, features, identity, known):
    """The same where there is no user namespace to map with, or no mount_setattr (Linux before 5.12; the child restricts the
    mount then).  Raises SandboxError as refuse_unmapped, OSError where it can't be opened."""
    refuse_unmapped(op, features)
    tree = clone_source(op)
    try:
        if features.mount_setattr:
            mount.mount_setattr(tree, op.flags)
    except OSError:
        os.close(tree)
        raise
    return tree


def refuse_unmapped(op, features):
    """What isn't for everybody to read would be useless inside without a map, and what is written would be a stranger's.
    Where mounts can't be detached, it must be reached by path, too.  Raises SandboxError."""
    source = op.source
    if not op.flags & mount.MOUNT_ATTR_RDONLY:
        raise SandboxError("sources", shown(source), errno.ENOSYS, control="mounts", reason="its owner can't be mapped here, "
                           "and without that nothing can be written to it", remedy="Linux 5.12 or newer is needed, or start "
                           "mrunc as its owner")
    closed = None if op.top else closed_path(source)
    if closed is None and not features.mount_api:
        closed = closed_way(source.path)
    if closed is not None:
        raise SandboxError("sources", shown(source), control="mounts",
                           status=USAGE if features.mount_setattr else CANNOT_CONTAIN,
                           reason="%s is not readable for everybody, and its owner can't be mapped here (no user namespace, "
                           "or Linux before 5.12)" % show(closed),
                           remedy="bring files in with " + option("copy"))


def closed_way(source):
    """A directory above a source (bytes) that not everybody can search, or None."""
    place = os.path.dirname(source)
    while os.stat(place).st_mode & stat.S_IXOTH:
        if place == b"/":
            return None
        place = os.path.dirname(place)
    return place


def closed_path(source):
    """A path of a Source (bytes) that not everybody can read, or None; no more than WALK_LIMIT entries are looked at."""
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
    """Whether a file or directory of that st_mode is closed to some."""
    need = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(mode) else 0)
    return not stat.S_ISLNK(mode) and mode & need != need


def owner_userns(owner, identity):
    """A user namespace (fd) in which the source's owner stands for the sandbox's host id, made by a short-lived child."""
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
            for name, inside, outside in (("uid_map", owner[0], identity[0]), ("gid_map", owner[1], identity[1])):
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
    """A map has one line: what belongs to somebody else and isn't open to everybody would be unreadable inside."""
    # A tree that a system was installed into has files of several: they are unreadable inside, as for any user there.
    source = op.source
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
                reason="%s belongs to uid %d, the source to uid %d: one owner can be mapped" %
                (shown(source, place.path), found.st_uid, uid),
                remedy="name a directory of one owner, or bring files in with " + option("copy"))
