# SPDX-License-Identifier: Apache-2.0
"""Makes and changes mounts: mount(2), pivot_root(2) and the mount API of Linux 5.2.

All paths are bytes. mount_setattr came with Linux 5.12.
"""
import errno
import os
import struct

from .libc import AT_EMPTY_PATH, AT_FDCWD, bind, c_bytes, c_int, c_pointer, c_size, c_uint, c_ulong

MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x20, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
AT_RECURSIVE, AT_SYMLINK_NOFOLLOW = 0x8000, 0x100
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x04, 0x40
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 0x1, 0x2, 0x4, 0x8
MOUNT_ATTR_IDMAP = 0x100000
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE = 0, 1, 6
O_PATH_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
S_IFMT, S_IFLNK = 0o170000, 0o120000
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS = 0x02, 0x04
RESOLVE_BENEATH, RESOLVE_IN_ROOT = 0x08, 0x10

_mount = bind("mount", c_bytes, c_bytes, c_bytes, c_ulong, c_bytes)
_umount2 = bind("umount2", c_bytes, c_int)
#: (new root, where the old one goes).  EBUSY: the new root is the current one; EINVAL: it is no
#: mount point, or shared.  pivot_root(2)
pivot_root = bind("pivot_root", c_bytes, c_bytes)
_open_tree = bind("open_tree", c_int, c_bytes, c_uint)
_move_mount = bind("move_mount", c_int, c_bytes, c_int, c_bytes, c_uint)
_mount_setattr = bind("mount_setattr", c_int, c_bytes, c_uint, c_pointer, c_size)
_fsopen = bind("fsopen", c_bytes, c_uint)
_fsconfig = bind("fsconfig", c_int, c_uint, c_bytes, c_bytes, c_int)
_fsmount = bind("fsmount", c_int, c_uint, c_uint)
_openat2 = bind("openat2", c_int, c_bytes, c_pointer, c_size)


def make_private(path):
    """Takes a mount and every mount below it out of their peer groups.  mount(2)

    Raises OSError: EINVAL if the path is no mount point.
    """
    _mount(b"none", path, None, MS_REC | MS_PRIVATE, None)


def remount(path, flags):
    """Sets the flags of one mount.  mount(2)

    path: its mount point.
    flags: read-only 1, nosuid 2, nodev 4, noexec 8.

    Raises OSError: EPERM if a flag would go that a more privileged namespace has set; EINVAL if the
    path is no mount point.
    """
    _mount(b"none", path, None, MS_REMOUNT | MS_BIND | flags, None)


def mount_new(kind, flags, options, path, source=None):
    """Mounts a new file system by one call, where the newer API takes nine.  mount(2)

    kind: type of the file system, bytes.
    flags: as of `remount`.
    options: bytes, joined by commas.
    path: relative to the current directory.
    source: name in mountinfo; the type unless given.

    Raises OSError: EINVAL for an option that this kernel does not know; EPERM if this user
    namespace may not. For proc it is EPERM if an existing mount hides part of it.
    """
    _mount(kind if source is None else source, path, kind, flags, options)


def mount_bind(source, recursive, path):
    """Shows a file or tree at a second path, with its own flags.  mount(2)

    source: the file or tree.
    recursive: whether mounts below it come too.
    path: relative to the current directory.

    Raises OSError: ENOTDIR for a directory on a file or the reverse; EINVAL as `open_tree`.
    """
    _mount(source, path, None, MS_BIND | (MS_REC if recursive else 0), None)


def umount(path, flags=MNT_DETACH):
    """Detaches a mount.  umount2(2)

    Raises OSError: EINVAL if the path is no mount point, or if a more privileged namespace locked
    it.
    """
    _umount2(path, flags)


def open_tree(path, recursive=True, dirfd=AT_FDCWD):
    """Returns the descriptor of a detached copy of a mount.  open_tree(2), Linux 5.2

    path: the mount; b"" for dirfd itself.
    recursive: whether mounts below it come too.
    dirfd: descriptor that a relative path starts from.

    Raises OSError: EPERM without CAP_SYS_ADMIN over the mount namespace; EINVAL if the mount is in
    another mount namespace, or if it is not recursive and has locked children.
    """
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | (AT_RECURSIVE if recursive
                                              else 0) | (0 if path else AT_EMPTY_PATH)
    return _open_tree(dirfd, path, flags)


def move_mount(tree, target=AT_FDCWD, name=b"/"):
    """Attaches a detached mount.  move_mount(2), Linux 5.2

    tree: descriptor of the mount.
    target: descriptor of a directory.
    name: directory or file below the target; b"" for the target itself, b"/" for the root. A link
        is not followed.

    Raises OSError: ENOTDIR or EINVAL for a directory on a file or the reverse; EPERM in a Landlock
    domain.
    """
    _move_mount(tree, b"", target, name,
                MOVE_MOUNT_F_EMPTY_PATH | (0 if name else MOVE_MOUNT_T_EMPTY_PATH))


def mount_setattr(tree, attributes, recursive=True, userns=0, name=b""):
    """Adds attributes to a mount and makes it private.  mount_setattr(2), Linux 5.12

    tree: descriptor of the mount.
    attributes: MOUNT_ATTR_* bits.
    recursive: whether mounts below it change too.
    userns: descriptor of a user namespace, for MOUNT_ATTR_IDMAP.
    name: of a mount below the tree; b"" for the tree itself.

    The same call sets the propagation, because a clone of a shared mount stays in its source's peer
    group. Raises OSError: EINVAL if the file system, or one below it, can't be idmapped; EPERM if
    it is idmapped already, or if the caller does not own the file system.
    """
    attr = struct.pack("=4Q", attributes, 0, MS_PRIVATE, userns)
    flags = (AT_RECURSIVE if recursive else 0) | (AT_SYMLINK_NOFOLLOW if name else AT_EMPTY_PATH)
    _mount_setattr(tree, name, flags, attr, 32)


def new_filesystem(kind, attributes, options=()):
    """Returns the descriptor of a new file system's detached mount.  fsopen(2), Linux 5.2

    kind: type of the file system, bytes.
    attributes: MOUNT_ATTR_* bits.
    options: pairs of bytes; the value None for a flag.

    Raises OSError as `mount_new`. fsconfig(2), fsmount(2)
    """
    context = _fsopen(kind, 1)
    try:
        for key, value in options:
            _fsconfig(context, FSCONFIG_SET_FLAG if value is None else FSCONFIG_SET_STRING, key,
                      value, 0)
        _fsconfig(context, FSCONFIG_CMD_CREATE, None, None, 0)
        return _fsmount(context, 1, attributes)
    finally:
        os.close(context)


def open_in_root(root, path, flags=os.O_PATH, mode=0,
                 resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS):
    """Opens a path as if a directory were the root, so that no link leads out.  openat2(2), 5.6

    root: descriptor of the directory.
    path: bytes.
    flags, mode: as of open(2).
    resolve: RESOLVE_* bits.

    Returns the descriptor. Raises OSError: ENOENT, ENOTDIR; ELOOP for a magic link, or for any link
    under RESOLVE_NO_SYMLINKS; EXDEV for "/" or ".." under RESOLVE_BENEATH. Without openat2 every
    link and ".." is refused.
    """
    how = struct.pack("=3Q", flags | os.O_CLOEXEC, mode, resolve)
    try:
        return _openat2(root, path, how, 24)
    except OSError as error:
        if error.errno != 38:
            raise
    if resolve & RESOLVE_BENEATH and path[:1] == b"/":
        raise OSError(18, os.strerror(18), "openat2")
    return _open_by_steps(root, path, flags, mode)


def _open_by_steps(root, path, flags, mode):
    """Opens one component at a time: before Linux 5.6, or if a filter hides openat2.

    As `open_in_root`, but no link is followed. Raises OSError: ELOOP or ENOTDIR if a component is a
    symbolic link, EXDEV for "..".
    """
    steps = [step for step in path.split(b"/") if step not in (b"", b".")]
    if b".." in steps:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    current = os.dup(root)
    try:
        for step in steps[:-1]:
            following = os.open(step, O_PATH_DIRECTORY, dir_fd=current)
            os.close(current)
            current = following
        fd = os.open(steps[-1] if steps else b".", flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode,
                     dir_fd=current)
    finally:
        os.close(current)
    if flags & os.O_PATH and not flags & os.O_NOFOLLOW and os.fstat(fd).st_mode & S_IFMT == S_IFLNK:
        os.close(fd)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return fd
