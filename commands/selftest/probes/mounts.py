# SPDX-License-Identifier: Apache-2.0
"""Tries mounts, new roots, and writing to system directories."""
import errno
import os
import stat
import struct

from ..attempt import asks, blocked, buffer, call, invisible, mounts, opens, reached
from ..probe import HOST, KERNEL, Probe

GROUP = "mounts"
AT_FDCWD = -100
MS_RDONLY, MS_REMOUNT, MS_BIND = 1, 32, 4096
EINVAL, ENOENT, EBUSY = errno.EINVAL, errno.ENOENT, errno.EBUSY
EBADF, ENODEV = errno.EBADF, errno.ENODEV


def here(facts):
    """Returns a directory that is no mount point, as bytes.

    It is the scratch directory or a system one.
    """
    return os.fsencode(facts["scratch"] or "/usr/bin")


def mounting(kind, options=b"mrunc=no"):
    """Returns an action that mounts a file system with an unknown option.

    The kernel refuses the option after its permission check.
    """
    return asks("mount", b"none", here, kind, 0, options, after=(EINVAL, ENODEV))


def pivots(facts):
    """Tries pivot_root, in a new mount namespace if possible: some kernels take any directory."""
    try:
        call("unshare", 0x20000)
    except OSError:
        pass  # pivot_root needs the same capability
    return asks("pivot_root", here, here, after=(EINVAL, EBUSY))(facts)


def leaves_root(facts):
    """Tries chroot and then `..`, which leads out wherever chroot is allowed."""
    call("chroot", here(facts))
    for _ in range(64):
        os.chdir("..")
    return reached("chroot is allowed, and .. leads out of it")


def sets_mount_flags(facts):
    """Tries mount_setattr on a path that does not exist."""
    attr = buffer(struct.pack("=4Q", 1, 0, 0, 0), 32)
    return asks("mount_setattr", AT_FDCWD, here(facts) + b"/none", 0, attr, 32,
                after=(ENOENT,))(facts)


def shared(facts):
    """Looks for a mount that propagates mounts."""
    peers = [point for _, point, _, fields, _, _, _ in mounts()
             if any(field.startswith("shared:") for field in fields)]
    if peers:
        return reached("%d shared mounts, %s first" % (len(peers), peers[0]))
    return blocked("every mount is private or slave")


def without_flag(word, what=lambda kind, point: True):
    """Returns an action that looks for mounts without a flag."""
    def action(facts):
        lacking = [point for _, point, flags, _, kind, _, _ in mounts() if word not in flags and
                   what(kind, point)]
        if lacking:
            return reached("%s without %s" % (", ".join(lacking[:3]), word))
        return blocked("every mount is %s" % word)
    return action


def _is_tree(kind, point):
    """Returns whether it is a directory tree, and no devpts, which holds only its own terminals."""
    try:
        if kind == "devpts":
            return False
        return stat.S_ISDIR(os.stat(point).st_mode)
    except OSError:
        return False


def plants_setid(facts):
    """Makes a set-uid file and looks whether the bit has an effect."""
    path = here(facts) + b"/setid"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o755))
    os.chmod(path, 0o4755)
    if not os.stat(path).st_mode & stat.S_ISUID:
        return blocked("the bit was not set")
    if os.statvfs(path).f_flag & os.ST_NOSUID:
        return blocked("the mount is nosuid")
    return reached("a set-uid file that has an effect")


def sets_xattr(name, value):
    """Returns an action that sets an extended attribute on an own file."""
    def action(facts):
        path = here(facts) + b"/attribute"
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o755))
        os.setxattr(path, name, value)
        return reached("%s was set" % name)
    return action


def makes_node(mode, device, name="mknodat"):
    """Returns an action that makes a device node in the scratch directory."""
    def action(facts):
        path = here(facts) + b"/node"
        arguments = (path, mode, device)
        call(*((name, AT_FDCWD) if name == "mknodat" else (name,)) + arguments)
        os.unlink(path)
        return reached("the node was made")
    return action


def immutable(facts):
    """Tries to make an own file immutable."""
    fd = os.open(here(facts) + b"/immutable", os.O_CREAT | os.O_RDWR, 0o600)
    flags = buffer(struct.pack("=q", 0), 8)
    call("ioctl", fd, 0x80086601, flags)
    old = struct.unpack_from("=i", flags.raw)[0]
    call("ioctl", fd, 0x40086602, buffer(struct.pack("=q", old | 0x10), 8))
    call("ioctl", fd, 0x40086602, buffer(struct.pack("=q", old), 8))
    return reached("the immutable flag was set")


def opens_by_handle(facts):
    """Tries to get a file handle of /usr."""
    handle = buffer(struct.pack("=Ii", 128, 0), 8 + 128)
    call("name_to_handle_at", AT_FDCWD, b"/usr", handle, buffer(4), 0)
    return reached("a handle of /usr")


def forged_handle(facts):
    """Tries open_by_handle_at with a forged handle."""
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    handle = buffer(struct.pack("=IiIIQ", 8, 1, 2, 0, 0), 24)
    return asks("open_by_handle_at", root, handle, os.O_RDONLY, after=(errno.ESTALE,),
                close=True)(facts)


def takes_files(path):
    """Returns whether files can be made in a directory: an unnamed file, then a directory."""
    try:
        os.close(os.open(path, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, EINVAL):
            return os.access(path, os.W_OK)  # a file system without unnamed files
        return False
    name = "%s/mrunc-selftest-%d" % (path.rstrip("/"), os.getpid())
    try:
        os.mkdir(name)  # if only devices may be written, Landlock still allows the unnamed file
        os.rmdir(name)
        return True
    except OSError:
        return False


def writable(*paths):
    """Returns an action that looks for a writable directory of the host's system."""
    def action(facts):
        found = [path for path in paths if os.path.isdir(path)]
        for path in found:
            if takes_files(path):
                return reached("%s is writable" % path)
        return blocked("read-only or not ours") if found else invisible("%s: not there" % paths[0])
    return action


PROBES = (
    Probe("M01", "mount a tmpfs", KERNEL, "T1611", "seccomp, then no capability, Landlock",
          mounting(b"tmpfs")),
    Probe("M02", "bind a directory", HOST, "T1611", "seccomp, then no capability, Landlock",
          asks("mount", b"/mrunc/none", here, None, MS_BIND, None, after=(ENOENT,))),
    Probe("M03", "mount a second procfs, without the masks", HOST, "T1611",
          "seccomp, then no capability, Landlock", mounting(b"proc")),
    Probe("M04", "mount sysfs", HOST, "T1611", "seccomp, then no capability, Landlock",
          mounting(b"sysfs")),
    Probe("M05", "mount a cgroup v2 tree", HOST, "T1611", "seccomp, then no capability, Landlock",
          mounting(b"cgroup2")),
    Probe("M06", "mount an overlay", KERNEL, "CVE-2023-0386", "seccomp, then no capability, "
          "Landlock", mounting(b"overlay")),
    Probe("M07", "mount devpts", KERNEL, "", "seccomp, then no capability, Landlock",
          mounting(b"devpts")),
    Probe("M08", "remount with other flags", HOST, "T1611", "seccomp, then no capability, Landlock",
          asks("mount", None, here, None, MS_REMOUNT | MS_BIND, None, after=(EINVAL,))),
    Probe("M09", "umount2", HOST, "T1611", "seccomp, then no capability, locked mounts",
          asks("umount2", here, 0, after=(EINVAL,))),
    Probe("M10", "pivot_root", HOST, "T1611", "seccomp, then no capability", pivots),
    Probe("M11", "chroot, and out of it by ..", HOST, "T1611", "seccomp, then no capability",
          leaves_root),
    Probe("M12", "fsopen", KERNEL, "CVE-2022-0185", "seccomp, then no capability",
          asks("fsopen", b"tmpfs", 1, close=True)),
    Probe("M13", "fspick", KERNEL, "", "seccomp, then no capability",
          asks("fspick", AT_FDCWD, here, 1, after=(EINVAL,), close=True)),
    Probe("M14", "fsconfig", KERNEL, "CVE-2022-0185", "seccomp",
          asks("fsconfig", -1, 0, b"x", None, 0, after=(EBADF, EINVAL))),
    Probe("M15", "fsmount", KERNEL, "", "seccomp, then no capability",
          asks("fsmount", -1, 0, 0, after=(EBADF,))),
    Probe("M16", "open_tree makes a detached copy", HOST, "T1611", "seccomp, then no capability",
          asks("open_tree", AT_FDCWD, b"/", 1 | os.O_CLOEXEC | 0x8000, close=True)),
    Probe("M17", "move_mount", HOST, "T1611", "seccomp, then no capability, Landlock",
          asks("move_mount", -1, b"x", AT_FDCWD, b"/mrunc/none", 0, after=(EBADF, ENOENT))),
    Probe("M18", "mount_setattr clears read-only", HOST, "T1611", "seccomp, then no capability",
          sets_mount_flags),
    Probe("M20", "a mount that is shared with the host", HOST, "T1611", "private propagation",
          shared),
    Probe("M21", "a mount where set-uid counts", HOST, "T1548.001", "nosuid on every mount, then "
          "no_new_privs", without_flag("nosuid")),
    Probe("M22", "a directory tree where device nodes count", HOST, "T1611", "nodev on every tree, "
          "then seccomp", without_flag("nodev", _is_tree)),
    Probe("M23", "/proc or /dev/shm where programs execute", KERNEL, "", "noexec",
          without_flag("noexec", lambda kind, point: point in ("/proc", "/dev/shm"))),
    Probe("M24", "a set-uid file of one's own", HOST, "T1548.001", "nosuid, then an unprivileged "
          "id outside", plants_setid),
    Probe("M25", "file capabilities on an own file", HOST, "T1548", "no capability",
          sets_xattr("security.capability", struct.pack("<5I", 0x02000000, 0x400, 0, 0, 0))),
    Probe("M26", "trusted.overlay attributes", KERNEL, "", "no capability",
          sets_xattr("trusted.overlay.opaque", b"y")),
    Probe("M27", "an overlay whiteout, character device 0:0", KERNEL, "", "seccomp",
          makes_node(stat.S_IFCHR | 0o600, 0)),
    Probe("M28", "a whiteout with the mode's upper bits set", KERNEL, "", "seccomp (bits that the "
          "kernel drops)", makes_node(stat.S_IFCHR | 0o600 | 1 << 32, 0)),
    Probe("M29", "a whiteout by mknod", KERNEL, "", "seccomp",
          makes_node(stat.S_IFCHR | 0o600, 0, "mknod"), arch="x86_64"),
    Probe("M30", "an immutable file", KERNEL, "", "no capability", immutable),
    Probe("M31", "name_to_handle_at", KERNEL, "T1611", "seccomp", opens_by_handle),
    Probe("M32", "open_by_handle_at with a forged handle", HOST, "T1611",
          "seccomp, then no capability", forged_handle),
    Probe("M40", "/ can be written in", HOST, "T1611", "read-only root, then Landlock",
          writable("/")),
    Probe("M41", "/usr can be written in", HOST, "T1611", "read-only mount, then Landlock, "
          "another owner", writable("/usr", "/usr/bin", "/usr/lib")),
    Probe("M42", "/etc can be written in", HOST, "T1611", "read-only root, then Landlock",
          writable("/etc", "/etc/ssl")),
    Probe("M43", "/sys can be written in", HOST, "T1611", "read-only root, nothing of the "
          "kernel's there", writable("/sys", "/sys/kernel", "/sys/fs/cgroup")),
    Probe("M44", "/dev can be written in", HOST, "T1611", "read-only root, then Landlock",
          writable("/dev")),
    Probe("M45", "/var, /opt, /srv, /boot or /home of the host can be written in", HOST, "T1611",
          "not there, read-only root", writable("/var/lib", "/opt", "/srv", "/boot", "/home")),
    Probe("M46", "a library of the host opens for writing", HOST, "T1574", "read-only mount, then "
          "Landlock, another owner",
          opens(os.O_WRONLY, os.__file__ if os.__file__.startswith("/usr")
                else "/usr/lib/os-release")),
    Probe("M47", "a program of the host opens for writing", HOST, "T1554", "read-only mount, then "
          "Landlock, another owner", opens(os.O_WRONLY, "/usr/bin/passwd", "/usr/bin/newgrp",
                                           "/usr/bin/su")),
    Probe("M48", "/etc/passwd opens for writing", HOST, "T1136.001", "read-only root, then "
          "Landlock", opens(os.O_WRONLY, "/etc/passwd")),
)
