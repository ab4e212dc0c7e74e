# SPDX-License-Identifier: Apache-2.0
"""--overlay: lets a program change trees, while nothing reaches the host.

A bind of the plan becomes an overlay: the same source below, a tmpfs of limited size above.  The
upper layer tells afterwards what was changed (changes/overlay.py).  The sandbox's own root mounts
both layers, so only files whose owner is mapped can be changed.  Sources of a root caller are
mapped to their owner (Linux 5.19); those of a user must belong to that user.
"""
import os
import stat

from ...syscalls import mount
from ..caller import library, option, program_name
from ..errors import SandboxError, show, usage
from .operations import INODES, NODEV, NOEXEC, NOSUID, Bind, Directory, Overlay, Tmpfs
from ..host.facts import STORES
from .source import open_path

#: Bytes of an upper layer.
SIZE = 1 << 30
#: Attribute of a directory that hides the one below.  Documentation/filesystems/overlayfs.rst
OPAQUE = "user.overlay.opaque"
#: Of the host's userland these lie on our own root.  --overlay of everything makes them writable.
OWN_PLACES = (b"/etc", b"/var", b"/srv", b"/mnt", b"/opt", b"/run")


def apply(operations, spec, host, held):
    """Returns the operations with overlays in the place of binds.

    operations: [Operation]; spec: Spec; host: facts.Host; held: list that gets each Source.
    Raises SandboxError: exit 2 for a place that holds no bind, 125 for a tree that this caller
    can't change.
    """
    by_place = dict((op.dst, op) for op in operations if isinstance(op, Bind))
    turned = {}
    for place in spec.overlay:
        if place != b"/":
            turned[by_place.get(place)] = _single(by_place.get(place), place, host, held)
    operations = [turned.get(op, op) for op in operations]
    if b"/" in spec.overlay:
        operations = _everything(operations, host, held)
    return operations


def _single(op, place, host, held):
    """Returns the Overlay for a place that the user named.  op: its Bind, or None."""
    shown = show(place)
    named = option("overlay", shown) if library() else "%s=%s" % (option("overlay"), shown)
    if op is None:
        raise usage(named, "nothing is shown at that place",
                    "name the destination of " + option("ro"))
    if op.rw:
        raise usage(named, "is shown by %s already: it writes to the host" % option("rw"))
    if not op.directory:
        raise usage(named, "is a file; an overlay lies over a directory",
                    "bring a file in with " + option("copy"))
    return _turned(op, host, named, held)


def _everything(operations, host, held):
    """Returns the operations with the whole userland as overlays, and OWN_PLACES as tmpfs."""
    out = []
    mounted = set(op.dst for op in operations if isinstance(op, (Bind, Tmpfs, Overlay)))
    for op in operations:
        # Mapped to its owner, a store would show what only root may read, and that may be secret.
        userland = isinstance(op, Bind) and (not op.user and op.dst not in STORES or op.top)
        if userland and op.directory and not op.flags & NOEXEC:
            op = _turned(op, host, option("overlay"), held)
        out.append(op)
        if isinstance(op, Directory) and op.dst in OWN_PLACES and op.dst not in mounted:
            out.append(Tmpfs(op.dst, 16 << 20))
    return out


def _turned(op, host, named, held):
    """Returns the Overlay for a Bind.  named: the option, for messages.  Raises SandboxError."""
    source = op.source
    if source is None:  # a part of the host's userland, which the plan opens no Source for
        try:
            source = open_path(op.src)
        except OSError as error:
            raise usage("%s of %s" % (named, show(op.dst)), error.strerror)
        held.append(source)
    if host.uid != 0 and source.found.st_uid != host.uid:
        raise SandboxError(
            "overlay", show(op.dst), control="mounts",
            reason="belongs to uid %d, and files that are not the caller's own can't be changed, "
                   "not even in an overlay" % source.found.st_uid,
            remedy="%s rootfs build TREE --from-host PROGRAMS makes a tree of your own: %s" %
                   (program_name(), "rootfs=TREE, overlay=True" if library()
                    else "--rootfs TREE --overlay"))
    return Overlay(op, source, SIZE)


class Uppers:
    """Mounts overlays, in the child.

    made: [(place, fd of the upper directory)]
    """

    def __init__(self):
        self.made = []

    def mount(self, root, place, lower, size, flags):
        """Makes the overlay for a place; returns the fd of its detached mount.

        root: fd of the new root
        place: path inside (bytes)
        lower: fd of the detached mount of its source, which this closes
        size: bytes of the upper layer
        flags: MOUNT_ATTR_* bits

        Both layers are attached for the moment, because overlayfs takes layers of the caller's
        mount namespace only (fs/namespace.c, clone_private_mount).  They leave no mount point
        behind.  Raises OSError.
        """
        lower = _attached(root, b".lower", lower)
        options = [(b"size", b"%d" % size), (b"nr_inodes", b"%d" % INODES), (b"mode", b"700")]
        store = mount.new_filesystem(b"tmpfs", NOSUID | NODEV, options)
        store = _attached(root, b".upper", store)
        try:
            mode = stat.S_IMODE(os.fstat(lower).st_mode)
            for name in (b"upper", b"work"):
                os.mkdir(name, 0o755, dir_fd=store)
            os.chmod(b"upper", mode, dir_fd=store)
            upper, work = (os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=store)
                           for name in (b"upper", b"work"))
            # overlayfs only warns where the upper layer can't hold its marks, and then loses
            # deletions.  A tmpfs can from Linux 6.6 on.
            os.setxattr("/proc/self/fd/%d" % upper, OPAQUE, b"n")
            os.removexattr("/proc/self/fd/%d" % upper, OPAQUE)
            made = mount.new_filesystem(b"overlay", flags, [
                (b"lowerdir", b"/proc/self/fd/%d" % lower),
                (b"upperdir", b"/proc/self/fd/%d" % upper),
                (b"workdir", b"/proc/self/fd/%d" % work), (b"userxattr", None)])
            os.close(work)
            self.made.append((place, upper))
            return made
        finally:
            for fd, name in ((store, b".upper"), (lower, b".lower")):
                os.fchdir(fd)
                mount.umount(b".")
                os.close(fd)
                os.rmdir(name, dir_fd=root)
            os.fchdir(root)


def _attached(root, name, tree):
    """Attaches a detached mount at a new directory of the root; returns the fd of its directory."""
    os.mkdir(name, 0o700, dir_fd=root)
    target = mount.open_in_root(root, name)
    mount.move_mount(tree, target, b"")
    os.close(target)
    os.close(tree)
    return mount.open_in_root(root, name, os.O_RDONLY | os.O_DIRECTORY)
