# SPDX-License-Identifier: Apache-2.0
"""--overlay: trees that can be changed as on a real system, while nothing reaches the host.

A bind of the plan becomes an overlay: the same source below, a tmpfs of limited size above.  What the upper layer then
holds says what was changed (changes/overlay.py).  Both layers are mounted by the sandbox's own root, so only files whose
owner is mapped can be changed: root's sources are mapped to their owner (Linux 5.19), a user's must be the user's own.
"""
import os
import stat

from ...syscalls import mount
from ..caller import library, option, program_name
from ..errors import SandboxError, show, usage
from .default import INODES, NODEV, NOEXEC, NOSUID, tmpfs
from ..host.facts import STORES
from .source import open_path

SIZE = 1 << 30
#: The attribute of a directory that hides what lies below it.  overlayfs of the kernel's docs
OPAQUE = "user.overlay.opaque"
#: Of the host's userland these lie on our own root; with an overlay of everything they can be written too.
OWN_PLACES = (b"/etc", b"/var", b"/srv", b"/mnt", b"/opt", b"/run")


def apply(operations, spec, host, held):
    """The operations with overlays in place of binds.  held: list that gets each Source.

    Raises SandboxError: exit 2 for a place that holds no bind, 125 for
    a tree that this caller can't change."""
    by_place = dict((op.dst, op) for op in operations if op.kind == "bind")
    for place in spec.overlay:
        if place != b"/":
            _single(by_place.get(place), place, host, held)
    if b"/" in spec.overlay:
        operations = _everything(operations, host, held)
    return operations


def _single(op, place, host, held):
    shown = show(place)
    named = option("overlay", shown) if library() else "%s=%s" % (option("overlay"), shown)
    if op is None:
        raise usage(named, "nothing is shown at that place", "name the destination of " + option("ro"))
    if op.options["rw"]:
        raise usage(named, "is shown by %s already: it writes to the host" % option("rw"))
    if not op.options["directory"]:
        raise usage(named, "is a file; an overlay lies over a directory", "bring a file in with " + option("copy"))
    _turn(op, host, named, held)


def _everything(operations, host, held):
    out = []
    for op in operations:
        out.append(op)
        if op.kind == "directory" and op.dst in OWN_PLACES and not any(other.dst == op.dst and other.kind in (
                "bind", "tmpfs", "overlay") for other in operations):
            out.append(tmpfs(op.dst, 16 << 20))
        # Mapped to its owner, a store would show what only root may read, and it may hold secrets.
        userland = op.kind == "bind" and (not op.options["user"] and op.dst not in STORES or "top" in op.options)
        if userland and op.options["directory"] and not op.flags & NOEXEC:
            _turn(op, host, option("overlay"), held)
    return out


def _turn(op, host, named, held):
    """A bind operation becomes an overlay."""
    if "source" not in op.options:  # a part of the host's userland: known to be what it is, and never searched
        try:
            source = open_path(op.src)
        except OSError as error:
            raise usage("%s of %s" % (named, show(op.dst)), error.strerror)
        held.append(source)
        op.options.update(system=True, owner=(source.found.st_uid, source.found.st_gid), source=source)
    found = op.options["source"].found
    if host.uid != 0 and found.st_uid != host.uid:
        raise SandboxError(
            "overlay", show(op.dst), control="mounts",
            reason="belongs to uid %d, and files that are not the caller's own can't be changed, not even in an overlay" %
            found.st_uid,
            remedy="%s rootfs build TREE --from-host PROGRAMS makes a tree of your own: %s" % (
                program_name(), "rootfs=TREE, overlay=True" if library() else "--rootfs TREE --overlay"))
    op.kind, op.flags = "overlay", NOSUID | NODEV
    op.options["size"] = SIZE


class Uppers:
    """The child's side: mounts overlays.  made: [(place, fd of the upper directory)]."""

    def __init__(self):
        self.made = []

    def mount(self, root, op, lower):
        """The detached overlay mount (fd) of an operation.  root: fd of the new root; lower: detached mount fd of its source,
        taken over.

        Both layers are attached for the moment, because overlayfs takes layers of the caller's mount namespace only
        (fs/namespace.c, clone_private_mount), and leave no mount point behind.  Raises OSError.
        """
        lower = _attached(root, b".lower", lower)
        store = mount.new_filesystem(b"tmpfs", NOSUID | NODEV, [(b"size", b"%d" % op.options["size"]),
                                                                (b"nr_inodes", b"%d" % INODES), (b"mode", b"700")])
        store = _attached(root, b".upper", store)
        try:
            mode = stat.S_IMODE(os.fstat(lower).st_mode)
            for name in (b"upper", b"work"):
                os.mkdir(name, 0o755, dir_fd=store)
            os.chmod(b"upper", mode, dir_fd=store)
            upper, work = (os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=store)
                           for name in (b"upper", b"work"))
            # overlayfs only warns where the upper layer can't hold its marks, and then loses deletions; tmpfs can from 6.6 on.
            os.setxattr("/proc/self/fd/%d" % upper, OPAQUE, b"n")
            os.removexattr("/proc/self/fd/%d" % upper, OPAQUE)
            made = mount.new_filesystem(b"overlay", op.flags, [
                (b"lowerdir", b"/proc/self/fd/%d" % lower), (b"upperdir", b"/proc/self/fd/%d" % upper),
                (b"workdir", b"/proc/self/fd/%d" % work), (b"userxattr", None)])
            os.close(work)
            self.made.append((op.dst, upper))
            return made
        finally:
            for fd, name in ((store, b".upper"), (lower, b".lower")):
                os.fchdir(fd)
                mount.umount(b".")
                os.close(fd)
                os.rmdir(name, dir_fd=root)
            os.fchdir(root)


def _attached(root, name, tree):
    os.mkdir(name, 0o700, dir_fd=root)
    target = mount.open_in_root(root, name)
    mount.move_mount(tree, target, b"")
    os.close(target)
    os.close(tree)
    return mount.open_in_root(root, name, os.O_RDONLY | os.O_DIRECTORY)
