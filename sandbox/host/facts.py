# SPDX-License-Identifier: Apache-2.0
"""Reads the host's facts that the plan needs, and changes nothing.

A test hands the plan a made-up Host instead.
"""
import os

from ...syscalls import process
from ..proc import mounts, read

ROOT_NAMES = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
STORES = (b"/nix/store", b"/gnu/store", b"/opt")
#: Bits of st_mode.  inode(7).  The module `stat` loads a second one.
S_IFMT, S_IFDIR, S_IFREG, S_IFLNK, S_IROTH = 0o170000, 0o040000, 0o100000, 0o120000, 0o004
KINDS = {S_IFREG: "file", S_IFDIR: "directory", S_IFLNK: "link", 0o140000: "socket",
         0o010000: "FIFO", 0o020000: "character device", 0o060000: "block device"}
#: Entries of /etc without secrets or identity: (name, reason).  A name may end in `*`.  No other
#: entry of the host's /etc is shown.
HOST_ENTRIES = (
    ("alternatives", "links by which Debian and Red Hat choose awk, java, editor"),
    ("ld.so.cache", "where the dynamic loader finds libraries"),
    ("ld.so.conf", "the same, for ldconfig -p and rebuilt caches"),
    ("ld.so.conf.d", "the same"),
    ("java*", "a JVM does not start without its configuration"),
    ("ssl/certs", "certificate authorities: reading signatures, `import ssl`"),
    ("ssl/openssl.cnf", "openssl does not start without it"),
    ("pki", "the same two on Red Hat"),
    ("crypto-policies", "the same, read by openssl and gnutls on Red Hat"),
    ("localtime", "local time"),
    ("terminfo", "terminal descriptions"),
    ("fonts", "fontconfig, also used by headless java and ImageMagick"),
    ("magic", "file(1)"),
    ("mime.types", "types by file name, python's mimetypes"),
)
CPU_FILES = ("online", "possible", "present")


class Host:
    """Facts of one host.

    uid, gid: the caller's.
    layout: {name in /: b"" for a directory, the target for a link}.
    stores: existing paths of STORES that PATH leads to.
    etc: [(path, whether it is a directory)] of HOST_ENTRIES.
    cpu: {name of CPU_FILES: content}.
    proc: names in /proc.
    hard_limits: {limit: (soft, hard)} of this process, -1 for none.
    mounts: [proc.Mount].
    """

    __slots__ = ("uid", "gid", "layout", "stores", "etc", "cpu", "proc", "hard_limits", "mounts")

    def __getattr__(self, name):
        if name != "proc":  # only --proc full asks
            raise AttributeError(name)
        self.proc = frozenset(os.listdir("/proc"))
        return self.proc

    def kind(self, path):
        """Returns "file", "directory" or another word of KINDS for a path.  Follows links.

        Raises OSError if nothing is there.
        """
        return kind_of(os.stat(path).st_mode)

    @classmethod
    def read(cls, environ=None):
        """Returns the facts as they are now.

        environ: dict, os.environ unless given.
        """
        self = cls()
        self.uid, self.gid = os.geteuid(), os.getegid()
        self.layout = {}
        for name in ROOT_NAMES:
            try:
                mode = os.lstat("/" + name).st_mode
            except FileNotFoundError:
                continue
            if mode & S_IFMT == S_IFLNK:
                self.layout[name] = os.readlink(b"/" + name.encode())
            elif mode & S_IFMT == S_IFDIR:
                self.layout[name] = b""
        stores = [store for store in STORES if os.path.isdir(store)]
        paths = [os.path.realpath(os.fsencode(entry)) + b"/"
                 for entry in (os.environ if environ is None
                               else environ).get("PATH", "").split(":")
                 if stores and os.path.isdir(entry)]
        self.stores = [store for store in stores
                       if any(path.startswith(store + b"/") for path in paths)]
        self.etc = [(b"/etc/" + name, directory) for name, directory in _etc_entries()]
        self.cpu = {}
        for name in CPU_FILES:
            try:
                self.cpu[name] = read("/sys/devices/system/cpu/" + name)
            except OSError:
                self.cpu[name] = b"0\n"
        self.hard_limits = dict((name, process.get_limit(name))
                                for name in ("nofile", "nproc", "cpu"))
        self.mounts = mounts()
        return self


def kind_of(mode):
    """Returns the word for a file type.  mode: st_mode."""
    return KINDS.get(mode & S_IFMT, "unknown kind of file")


def etc_candidates():
    """Yields the names of HOST_ENTRIES that /etc may have, in the order of the table."""
    names = set(os.listdir(b"/etc"))
    for pattern, _ in HOST_ENTRIES:
        head, star, _ = pattern.partition("*")
        head = head.encode()
        found = sorted(name for name in names if name.startswith(head)) if star else [head]
        for name in found if star or head.partition(b"/")[0] in names else ():
            yield name


def _etc_entries():
    """Yields (name, whether it is a directory) for the entries that this host has."""
    for name in etc_candidates():
        try:
            mode = os.stat(b"/etc/" + name).st_mode
        except OSError:
            continue
        # The sandbox's uid owns no file: one that others may not read would be an empty mount.
        if mode & S_IROTH and mode & S_IFMT in (S_IFDIR, S_IFREG):
            yield name, mode & S_IFMT == S_IFDIR


def own_filters():
    """Returns the number of seccomp filters on this process, None before Linux 5.9."""
    _, found, rest = read("/proc/self/status").partition(b"\nSeccomp_filters:")
    return int(rest.split(None, 1)[0]) if found else None
