# SPDX-License-Identifier: Apache-2.0
"""A root caller's sources: cloned with its rights, mapped to the source's owner, out of every peer group.

Not idmapped, a tree owned by root would be useless inside: 0700 and 0600 are EACCES for the sandbox's host id.  Mapped,
the sandbox's root stands for the source's *owner* on that mount, and for nobody else.  mount_setattr(2), user_namespaces(7)
"""
import errno
import os
import stat

from ..syscalls import mount, process
from .door import option
from .errors import CANNOT_CONTAIN, USAGE, SandboxError

#: So many entries are looked at for owners that can't be mapped; a tree may hold millions.
WALK_LIMIT = 20000


def open_source(op, flags=os.O_PATH):
    """A descriptor of an operation's source, which must still be the file that was checked: whoever owns a directory on the
    way can swap it for a link at any moment.  Raises OSError."""
    holder = None
    if "top" in op.options:  # an entry of a --rootfs: below that very directory
        holder = os.open(os.path.dirname(op.src), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        found = os.fstat(holder)
        if (found.st_dev, found.st_ino) != op.options["top"]:
            os.close(holder)
            raise OSError(errno.ESTALE, "it was replaced while mrunc started", os.path.dirname(op.src))
    try:
        fd = os.open(op.src if holder is None else os.path.basename(op.src), flags | os.O_CLOEXEC | os.O_NOFOLLOW,
                     dir_fd=holder)
    finally:
        if holder is not None:
            os.close(holder)
    found = os.fstat(fd)
    if (found.st_dev, found.st_ino) != op.options["inode"]:
        os.close(fd)
        raise OSError(errno.ESTALE, "it was replaced while mrunc started", op.src)
    return fd


def clone_source(op):
    """The detached mount (fd) of a bind operation of the user's.  Raises OSError."""
    fd = open_source(op)
    try:
        return mount.open_tree(b"", True, fd)
    finally:
        os.close(fd)


def refuse_sockets(op):
    """Connecting to a socket works through a read-only mount and needs no network: a directory that holds one is refused.
    Raises SandboxError.  (One that appears later stays reachable; there is no mount flag against it.)"""
    pending = [op.src] if op.options["directory"] else []
    while pending:
        place = pending.pop()
        try:
            entries = list(os.scandir(place))
        except OSError:
            if os.access(place, os.X_OK):  # known names in it can be reached all the same
                raise _talks(op, place, "can't be searched for sockets")
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
            elif not entry.is_file(follow_symlinks=False) and not entry.is_symlink():
                try:
                    mode = entry.stat(follow_symlinks=False).st_mode
                except OSError:
                    continue
                if stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode):
                    raise _talks(op, entry.path, "is a %s, and a program inside could talk to its owner" %
                                 ("socket" if stat.S_ISSOCK(mode) else "FIFO"))


def _talks(op, path, why):
    return SandboxError("sources", op.src.decode("utf-8", "surrogateescape"), control="mounts", status=USAGE,
                        reason="%s %s" % (path.decode("utf-8", "surrogateescape"), why),
                        remedy="name a directory without sockets, or bring files in with " + option("copy"))


def idmapped_tree(op, features, identity, known):
    """A detached mount (fd) for a bind operation of a root caller.

    features: Features; identity: (host uid, host gid) behind the sandbox's root; known: dict owner -> fd of its user
    namespace, filled here and closed by the caller.  Raises SandboxError: mixed owners, or a file system that
    can't be idmapped; --copy is the way out of both.  Raises OSError where the source can't be opened.
    """
    shown = op.src.decode("utf-8", "surrogateescape")
    if not op.options.get("system"):
        _refuse_mixed_owners(op, shown)
    tree = clone_source(op)
    try:
        owner = op.options["owner"]
        if owner not in known:
            known[owner] = owner_userns(owner, identity)
        mount.mount_setattr(tree, op.flags | mount.MOUNT_ATTR_IDMAP, userns=known[owner])
    except OSError as error:
        os.close(tree)
        raise SandboxError("sources", shown, error.errno, control="mounts",
                           reason="its file system can't be mapped to its owner (%s)" % os.strerror(error.errno),
                           remedy="%s (a tmpfs can be mapped from Linux 6.3 on; proc, sysfs and cgroup never)" %
                           ("put the tree on another file system" if "top" in op.options else
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
    shown = op.src.decode("utf-8", "surrogateescape")
    if not op.flags & mount.MOUNT_ATTR_RDONLY:
        raise SandboxError("sources", shown, errno.ENOSYS, control="mounts", reason="its owner can't be mapped here, and "
                           "without that nothing can be written to it", remedy="Linux 5.12 or newer is needed, or start "
                           "mrunc as its owner")
    closed = None if "top" in op.options else closed_path(op.src, op.options["directory"])
    if closed is None and not features.mount_api:
        closed = closed_way(op.src)
    if closed is not None:
        raise SandboxError("sources", shown, control="mounts", status=USAGE if features.mount_setattr else CANNOT_CONTAIN,
                           reason="%s is not readable for everybody, and its owner can't be mapped here (no user namespace, "
                           "or Linux before 5.12)" % closed.decode("utf-8", "surrogateescape"),
                           remedy="bring files in with " + option("copy"))


def closed_way(source):
    """A directory above a source (bytes) that not everybody can search, or None."""
    place = os.path.dirname(source)
    while os.stat(place).st_mode & stat.S_IXOTH:
        if place == b"/":
            return None
        place = os.path.dirname(place)
    return place


def closed_path(source, directory):
    """A path of a source (bytes) that not everybody can read, or None; no more than WALK_LIMIT entries are looked at."""
    need = {True: stat.S_IROTH | stat.S_IXOTH, False: stat.S_IROTH}
    if os.stat(source).st_mode & need[directory] != need[directory]:
        return source
    seen = 0
    for place, directories, files in os.walk(source) if directory else ():
        for names, is_directory in ((directories, True), (files, False)):
            for name in names:
                seen += 1
                if seen > WALK_LIMIT:
                    return None
                path = os.path.join(place, name)
                try:
                    mode = os.lstat(path).st_mode
                except OSError:
                    continue
                if not stat.S_ISLNK(mode) and mode & need[is_directory] != need[is_directory]:
                    return path
    return None


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


def _refuse_mixed_owners(op, shown):
    """A map has one line: what belongs to somebody else and isn't open to everybody would be unreadable inside."""
    # A tree that a system was installed into has files of several: they are unreadable inside, as for any user there.
    if not op.options["directory"] or "top" in op.options:
        return
    uid, seen = op.options["owner"][0], 0
    for place, directories, files in os.walk(op.src):
        for names, need in ((directories, stat.S_IROTH | stat.S_IXOTH), (files, stat.S_IROTH)):
            for name in names:
                seen += 1
                if seen > WALK_LIMIT:
                    return
                path = os.path.join(place, name)
                try:
                    found = os.lstat(path)
                except OSError:
                    continue
                if found.st_uid != uid and not stat.S_ISLNK(found.st_mode) and found.st_mode & need != need:
                    raise SandboxError(
                        "sources", shown, control="mounts",
                        reason="%s belongs to uid %d, the source to uid %d: one owner can be mapped" %
                        (path.decode("utf-8", "surrogateescape"), found.st_uid, uid),
                        remedy="name a directory of one owner, or bring files in with " + option("copy"))
