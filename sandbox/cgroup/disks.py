# SPDX-License-Identifier: Apache-2.0
"""Finds the disk under a path: io.max takes whole disks only.  cgroup-v2.rst, "IO"; proc(5)"""
import os
import stat

from ..caller import option
from ..errors import SandboxError, show, USAGE, usage
from ..proc import MOUNTS, mounts, read

#: Nested overlays that are followed.
DEEPEST = 8
#: File systems whose page cache is written in the name of the group that filled it.  cgroup-v2.rst,
#: "Writeback"
WRITEBACK = (b"ext2", b"ext3", b"ext4", b"xfs", b"btrfs", b"f2fs")


class Disks:
    """Looks up disks on one host.

    mountinfo, sys: paths.
    stat_path: a function like os.stat.
    """

    def __init__(self, mountinfo=MOUNTS, sys="/sys", stat_path=os.stat):
        self.sys, self.stat = sys, stat_path
        self.mounts = mounts(mountinfo)

    def below(self, path):
        """Returns `MAJOR:MINOR` of the whole disk below a path or block device, as `find`."""
        return self.find(path)[0]

    def find(self, path, depth=0):
        """Returns (`MAJOR:MINOR` of the whole disk, type of the file system on it).

        path: a file, or a block device; the type is b"" then.
        depth: of the overlays around it.

        Raises SandboxError: exit 2 if the path does not exist, 125 if no disk is below it (tmpfs,
        network).
        """
        try:
            found = self.stat(path)
        except OSError as error:
            raise usage(show(path), error.strerror)
        if stat.S_ISBLK(found.st_mode):
            return self.whole(found.st_rdev), b""
        if stat.S_ISCHR(found.st_mode):
            raise usage(show(path), "is a character device; I/O limits are for disks")
        kind, source, words = self._mount(os.path.realpath(path))
        if os.major(found.st_dev):
            return self.whole(found.st_dev), kind
        if kind == b"overlay" and depth < DEEPEST:
            layers = [word.partition(b"=")[2] for word in words
                      if word.startswith((b"upperdir=", b"lowerdir="))]
            layers.sort(key=lambda layer: b"upperdir=" + layer not in words)
            for layer in [layer.split(b":")[0] for layer in layers]:
                if layer.startswith(b"/") and os.path.exists(layer):
                    return self.find(layer, depth + 1)
        if source.startswith(b"/"):
            try:
                device = self.stat(source)
            except OSError:
                device = None
            if device is not None and stat.S_ISBLK(device.st_mode):
                return self.whole(device.st_rdev), kind
        raise SandboxError("limits", show(path), control="limits.io",
                           reason="lies on %s, which has no disk of its own: there is nothing to "
                                  "limit" % show(kind),
                           remedy="name a disk: %s%s" % (
                               option("io_write", "/dev/NAME:BPS"),
                               "; what the program writes to a tmpfs is memory, which %s bounds" %
                               option("memory")
                               if kind in (b"tmpfs", b"ramfs") else ""))

    def whole(self, device):
        """Returns `MAJOR:MINOR` of the disk that a device number is, or is a partition of."""
        name = "%d:%d" % (os.major(device), os.minor(device))
        place = "%s/dev/block/%s" % (self.sys, name)
        if os.path.exists(place + "/partition"):
            return read(os.path.realpath(place) + "/../dev").decode().strip()
        return name

    def _mount(self, path):
        """Returns (type, source, super options) of the mount that holds a path.

        It is the last of those with the longest mount point.
        """
        best = (b"", b"an unknown file system", b"", [])
        for row in self.mounts:
            above = (path.rstrip(b"/") + b"/").startswith(row.point.rstrip(b"/") + b"/")
            if above and len(row.point) >= len(best[0]):
                best = row.point, row.kind, row.source, row.super_options
        return best[1:]


def rates(reads, writes, sources, written=(), disks=None):
    """Returns the limits of --io-read and --io-write for each disk.

    reads, writes: [(device or None, bytes per second)]; a device is a path or `MAJOR:MINOR`, as
        bytes.
    sources: host paths that a limit without a device means.
    written: those of them that can be written.
    disks: Disks, made now unless given.

    Returns {`MAJOR:MINOR`: {"rbps", "wbps": bytes per second}}. If two limits meet on a disk, the
    lower holds. Raises SandboxError: exit 2 for a path without a disk, 125 if a limit would not
    hold.
    """
    disks = disks or Disks()
    out = {}
    for name, key, limits in (("io_read", "rbps", reads), ("io_write", "wbps", writes)):
        for device, rate in limits:
            if device is None and not sources:
                raise usage(option(name), "no source of the host is shown, so no disk is meant",
                            "name it: " + option(name, "/dev/NAME:BPS"))
            for place in sources if device is None else [device]:
                disk = disks.below(os.path.abspath(place)) if device is None else \
                    _named(place, disks, name)
                found = out.setdefault(disk, {})
                found[key] = min(rate, found.get(key, rate))
    for place in written if writes else ():
        _held(place, disks, out)
    return out


def _held(place, disks, limited):
    """Refuses a file system whose page cache the kernel writes in the root group's name."""
    try:
        name, kind = disks.find(os.path.abspath(place))
    except SandboxError as error:
        if error.control is None:
            raise
        return  # no disk below it
    if "wbps" in limited.get(name, ()) and kind not in WRITEBACK:
        raise SandboxError("limits", show(place), control="limits.io",
                           reason="writes to %s are not counted by control group, so %s would not "
                                  "hold" % (
                                  show(kind), option("io_write")),
                           remedy="write to one of: " + show(b" ".join(WRITEBACK)))


def _named(device, disks, name):
    """Returns the disk that the user named."""
    major, colon, minor = device.partition(b":")
    if colon and major.isdigit() and minor.isdigit():
        if not os.path.exists("%s/dev/block/%s" % (disks.sys, show(device))):
            # To write its number to io.max would make a loop device that does not exist.
            raise usage(option(name, show(device)), "no such block device")
        return disks.whole(os.makedev(int(major), int(minor)))
    try:
        return disks.below(device)
    except SandboxError as error:
        if error.status == USAGE:
            raise usage(option(name, error.what), error.reason)
        raise
