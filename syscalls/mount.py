# SPDX-License-Identifier: Apache-2.0
"""Mounts: mount(2), pivot_root(2) and the file-descriptor based mount API of Linux 5.2 (mount_setattr: 5.12)."""
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
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT = 0x02, 0x04, 0x08, 0x10

_mount = bind("mount", c_bytes, c_bytes, c_bytes, c_ulong, c_bytes)
_umount2 = bind("umount2", c_bytes, c_int)
_pivot_root = bind("pivot_root", c_bytes, c_bytes)
_open_tree = bind("open_tree", c_int, c_bytes, c_uint)
_move_mount = bind("move_mount", c_int, c_bytes, c_int, c_bytes, c_uint)
_mount_setattr = bind("mount_setattr", c_int, c_bytes, c_uint, c_pointer, c_size)
_fsopen = bind("fsopen", c_bytes, c_uint)
_fsconfig = bind("fsconfig", c_int, c_uint, c_bytes, c_bytes, c_int)
_fsmount = bind("fsmount", c_int, c_uint, c_uint)
_openat2 = bind("openat2", c_int, c_bytes, c_pointer, c_size)


def make_private(path):
    """Takes `path` (bytes) and every mount below it out of their peer groups.  EINVAL: not a mount point.  mount(2)"""
    _mount(b"none", path, None, MS_REC | MS_PRIVATE, None)


def remount(path, flags):
    """Sets the flags of the one mount at `path` (bytes): read-only 1, nosuid 2, nodev 4, noexec 8.  mount(2)

    EPERM: a flag is taken away that a more privileged namespace has set; EINVAL: `path` is not the root of a mount.
    """
    _mount(b"none", path, None, MS_REMOUNT | MS_BIND | flags, None)


def mount_new(kind, flags, options, path, source=None):
    """Mounts a new file system at `path` (bytes), relative to the current directory, in one call where the newer API has
    nine.  mount(2)

    kind: bytes; flags: as of remount; options: bytes, with commas; source: the name in mountinfo, the kind unless said.
    EINVAL: an option that this kernel does not know; EPERM: not allowed in this user namespace (proc: a mount that hides
    parts of it is in the way).
    """
    _mount(kind if source is None else source, path, kind, flags, options)


def mount_bind(source, recursive, path):
    """Shows the file or tree at `source` at `path` (bytes, relative to the current directory) too, with its own flags still.
    mount(2)

    ENOTDIR: a directory on a file or the reverse; EINVAL: as open_tree.
    """
    _mount(source, path, None, MS_BIND | (MS_REC if recursive else 0), None)


def umount(path, flags=MNT_DETACH):
    """umount2(2).  EINVAL: not a mount point, or locked by a more privileged namespace."""
    _umount2(path, flags)


def pivot_root(new_root, put_old):
    """pivot_root(2), paths as bytes.  EBUSY: new_root is the current root; EINVAL: it is no mount point, or shared."""
    _pivot_root(new_root, put_old)


def open_tree(path, recursive=True, dirfd=AT_FDCWD):
    """A detached copy of the mount at `path` (bytes; b"" means dirfd itself), as a descriptor.  open_tree(2), 5.2

    EPERM: no CAP_SYS_ADMIN over the mount namespace; EINVAL: the mount belongs to another mount namespace, or is not
    recursive and has locked children.
    """
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | (AT_RECURSIVE if recursive else 0) | (0 if path else AT_EMPTY_PATH)
    return _open_tree(dirfd, path, flags)


def move_mount(tree, target=AT_FDCWD, name=b"/"):
    """Attaches the detached mount `tree` (fd) at the directory or file `name` (bytes) below the directory `target` (fd), at
    `target` itself where the name is empty, or over "/".  A name that is a link is not followed.  move_mount(2), 5.2

    ENOTDIR, EINVAL: a directory on a file or the reverse; EPERM: a Landlock domain is in force.
    """
    _move_mount(tree, b"", target, name, MOVE_MOUNT_F_EMPTY_PATH | (0 if name else MOVE_MOUNT_T_EMPTY_PATH))


def mount_setattr(tree, attributes, recursive=True, userns=0, name=b""):
    """Adds MOUNT_ATTR_* bits to the mount `tree` (fd), or to the one at `name` below it, and makes it private.
    mount_setattr(2), 5.12

    The propagation is set in the same call because a clone of a shared mount stays in its source's peer group.
    userns: fd of a user namespace for MOUNT_ATTR_IDMAP.  EINVAL: the file system (or one below it) cannot be idmapped;
    EPERM: already idmapped, or not the owner of the file system.
    """
    attr = struct.pack("=4Q", attributes, 0, MS_PRIVATE, userns)
    flags = (AT_RECURSIVE if recursive else 0) | (AT_SYMLINK_NOFOLLOW if name else AT_EMPTY_PATH)
    _mount_setattr(tree, name, flags, attr, 32)


def new_filesystem(kind, attributes, options=()):
    """A detached mount (fd) of a new file system.  fsopen(2), fsconfig(2), fsmount(2), 5.2

    kind: bytes; attributes: MOUNT_ATTR_* bits; options: pairs of bytes, the value None for a flag.  EINVAL: an option
    this kernel does not know; EPERM: not allowed in this user namespace (proc: a mount that hides parts of it is in the way).
    """
    context = _fsopen(kind, 1)
    try:
        for key, value in options:
            _fsconfig(context, FSCONFIG_SET_FLAG if value is None else FSCONFIG_SET_STRING, key, value, 0)
        _fsconfig(context, FSCONFIG_CMD_CREATE, None, None, 0)
        return _fsmount(context, 1, attributes)
    finally:
        os.close(context)


def open_in_root(root, path, flags=os.O_PATH, mode=0, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS):
    """Opens `path` (bytes) as if the directory `root` (fd) were "/", so that no link leads out.  openat2(2), 5.6

    ENOENT, ENOTDIR, ELOOP (a magic link, or any link under RESOLVE_NO_SYMLINKS); EXDEV: "/" or ".." under RESOLVE_BENEATH.
    Without openat2 every link is refused, and so is "..".
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
    """Opens one component at a time: for Linux before 5.6, and under filters that hide openat2.

    As open_in_root, but over no link at all, and without "..".  Raises OSError: ELOOP or ENOTDIR
    where a component is a symlink, EXDEV for "..".
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
        fd = os.open(steps[-1] if steps else b".", flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=current)
    finally:
        os.close(current)
    if flags & os.O_PATH and not flags & os.O_NOFOLLOW and os.fstat(fd).st_mode & S_IFMT == S_IFLNK:
        os.close(fd)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return fd
