# SPDX-License-Identifier: Apache-2.0
"""Makes the default tree: host programs, an /etc without secrets, our own places.

Mount points are only ever made on our own tmpfs.
"""
import os

from ...syscalls import landlock
from .operations import (NODEV, NOEXEC, NOSUID, READ, RO, Bind, Device, Devpts, Directory, File,
                         Proc, Root, Symlink, Tmpfs, proc_masks)

DEVICES = tuple(b"/dev/" + name
                for name in (b"null", b"zero", b"full", b"random", b"urandom", b"tty"))
#: Landlock's rights below the directories of our own root.
RIGHTS = ((b"/etc", READ), (b"/sys", READ), (b"/var", READ),
          (b"/dev", READ | landlock.WRITE_FILE | landlock.IOCTL_DEV))


def own_files(uid, gid, home, hostname):
    """Returns [(name below /etc, bytes)] of the files that mrunc writes itself.

    uid, gid: the identity inside; home, hostname: bytes.  No line tells anything of the host.
    """
    users = [(0, 0, b"root", b"/root" if uid == 0 else b"/")]
    if uid:
        users.append((uid, gid, b"user", home))
    passwd = [b"%s:x:%d:%d:%s:%s:/bin/sh" % (name, user, group, name, place)
              for user, group, name, place in users]
    groups = [b"root:x:0:"] + ([b"user:x:%d:" % gid] if gid else [])
    return [
        ("passwd", b"\n".join(passwd + [
            b"nobody:x:65534:65534:nobody:/:/usr/sbin/nologin", b""])),
        ("group", b"\n".join(groups + [b"tty:x:5:", b"nogroup:x:65534:", b""])),
        ("hosts", b"127.0.0.1 localhost %s\n::1 localhost\n" % hostname),
        ("hostname", hostname + b"\n"),
        ("nsswitch.conf", b"passwd: files\ngroup: files\nshadow: files\nhosts: files\n"
                          b"services: files\n"),
        ("resolv.conf", b""),
        ("os-release", b'ID=mrunc\nNAME="mrunc"\nPRETTY_NAME="mrunc sandbox"\n'),
    ]


def host_userland(host, own_files):
    """Returns [Operation] of the host's programs, and of an /etc without its secrets.

    host: facts.Host; own_files: of the function of that name.
    """
    ops = []
    add = ops.append
    for name in ("usr", "etc", "var", "var/lib", "srv", "mnt", "opt", "home", "root", "lib"):
        if name != "lib" or name not in host.layout:
            add(Directory(b"/" + name.encode()))
    add(Symlink(b"/var/tmp", b"/tmp"))
    add(Symlink(b"/var/run", b"/run"))
    add(Bind(b"/usr", RO | NOSUID | NODEV))
    for name, target in sorted(host.layout.items()):
        path = b"/" + name.encode()
        if target:
            add(Symlink(path, target))
        else:
            add(Directory(path))
            add(Bind(path, RO | NOSUID | NODEV))
    for store in host.stores:
        for part in (os.path.dirname(store), store):
            if part not in (b"/", b"/opt"):  # those are there
                add(Directory(part))
        add(Bind(store, RO | NOSUID | NODEV))
    add(Directory(b"/etc/ssl"))
    for name, content in own_files:
        add(File(b"/etc/" + name.encode(), content))
    add(Symlink(b"/etc/mtab", b"/proc/self/mounts"))
    for path, directory in host.etc:
        add(Directory(path) if directory else File(path))
        add(Bind(path, RO | NOSUID | NODEV | NOEXEC, directory))
    return ops


def base(host, own_files, proc, home, left_out=False, userland=None):
    """Returns the default tree, root first: [Operation].

    host: facts.Host
    own_files: of the function of that name
    proc: "pid", "full" or "none"
    home: the home directory inside (bytes)
    left_out: whether the control `proc` is left out
    userland: [Operation] of userland.py in the place of the host's programs, or None
    """
    ops = [Root()]
    add = ops.append
    for name in ("proc", "sys", "dev", "dev/shm", "tmp", "box", "run"):
        add(Directory(b"/" + name.encode()))
    # Outside every Landlock rule: that it cannot be opened is the proof that a domain is in force.
    add(File(b"/.landlock", mode=0o444))
    ops += host_userland(host, own_files) if userland is None else userland
    for part in (os.path.dirname(home), home):
        if part != b"/":
            add(Directory(part))
    for part in ("devices", "devices/system", "devices/system/cpu"):
        add(Directory(b"/sys/" + part.encode()))
    for name, content in sorted(host.cpu.items()):
        add(File(b"/sys/devices/system/cpu/" + name.encode(), content, 0o444))
    for path in DEVICES:
        add(File(path, mode=0o666))
        add(Device(path))
    add(Symlink(b"/dev/fd", b"/proc/self/fd"))
    for number, name in enumerate((b"stdin", b"stdout", b"stderr")):
        add(Symlink(b"/dev/" + name, b"/proc/self/fd/%d" % number))
    add(Directory(b"/dev/pts"))
    add(Symlink(b"/dev/ptmx", b"pts/ptmx"))
    add(Devpts(b"/dev/pts"))
    add(Tmpfs(b"/tmp", 1 << 30, 0o1777))
    add(Tmpfs(b"/box", 1 << 30))
    add(Tmpfs(home, 256 << 20, 0o700))
    add(Tmpfs(b"/dev/shm", 256 << 20, 0o1777, NOSUID | NODEV | NOEXEC))
    if proc != "none":
        add(Proc(proc == "pid" and not left_out, not left_out))
    if proc == "full":
        ops += proc_masks(host.proc)
    return ops
