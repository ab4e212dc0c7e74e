# SPDX-License-Identifier: Apache-2.0
"""From a path to the disk under it, as io.max wants it: whole disks only.  cgroup-v2.rst of the kernel, "IO"; proc(5)"""
import os
import stat

from ..caller import option
from ..errors import SandboxError, show, USAGE, usage
from ..proc import MOUNTS, mounts, read

#: How often a layer may lie on a layer before the search ends.
DEEPEST = 8
#: File systems whose writes from the page cache belong to the group that made them.  cgroup-v2.rst,
#: "Writeback"
WRITEBACK = (b"ext2", b"ext3", b"ext4", b"xfs", b"btrfs", b"f2fs")


class Disks:
    """The lookup on one host.  mountinfo, sys: paths; stat: a function like os.stat.  A test gives made-up ones."""

    def __init__(self, mountinfo=MOUNTS, sys="/sys", stat_path=os.stat):
        self.sys, self.stat = sys, stat_path
        self.mounts = mounts(mountinfo)

    def below(self, path):
        """`MAJOR:MINOR` of the whole disk that holds a path, or that a block device is or is part of.  Raises SandboxError."""
        return self.find(path)[0]

    def find(self, path, depth=0):
        """(`MAJOR:MINOR` of the disk, the type of the file system on it, b"" for a device itself).

        Raises SandboxError: exit 2 where there is no such path, 125 where no disk is below it (tmpfs, network).
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
            layers = [layer.split(b":")[0]
                      for layer in sorted(layers, key=lambda layer: b"upperdir=" +
                                          layer not in words)]
            for layer in layers:
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
        """`MAJOR:MINOR` of the disk that a device number is or is a partition of."""
        name = "%d:%d" % (os.major(device), os.minor(device))
        place = "%s/dev/block/%s" % (self.sys, name)
        if os.path.exists(place + "/partition"):
            return read(os.path.realpath(place) + "/../dev").decode().strip()
        return name

    def _mount(self, path):
        """(type, source, super options) of the mount that holds a path: the last of those with the longest mount point."""
        best = (b"", b"an unknown file system", b"", [])
        for row in self.mounts:
            above = (path.rstrip(b"/") + b"/").startswith(row.point.rstrip(b"/") + b"/")
            if above and len(row.point) >= len(best[0]):
                best = row.point, row.kind, row.source, row.super_options
        return best[1:]


def rates(reads, writes, sources, written=(), disks=None):
    """{`MAJOR:MINOR`: {"rbps", "wbps": bytes per second}} for --io-read and --io-write.

    reads, writes: [(device or None, bytes per second)], a device being a path or `MAJOR:MINOR` (bytes); sources: paths of
    the host that a limit without a device means; written: those of them that can be written.  Where two limits meet on a disk,
    the lower holds.  Raises SandboxError: exit 2 for a device that is none, 125 where a limit would not hold.
    """
    disks = disks or Disks()
    out = {}
    for name, key, limits in (("io_read", "rbps", reads), ("io_write", "wbps", writes)):
        for device, rate in limits:
            if device is None and not sources:
                raise usage(option(name), "no source of the host is shown, so no disk is meant",
                            "name it: " + option(name, "/dev/NAME:BPS"))
            for place in sources if device is None else [device]:
                disk = _named(place, disks,
                              name) if device is not None else disks.below(os.path.abspath(place))
                found = out.setdefault(disk, {})
                found[key] = min(rate, found.get(key, rate))
    for place in written if writes else ():
        _held(place, disks, out)
    return out


def _held(place, disks, limited):
    """On other file systems the kernel writes the page cache out in the name of the root group."""
    try:
        name, kind = disks.find(os.path.abspath(place))
    except SandboxError as error:
        if error.control is None:
            raise
        return  # no disk below it
    if "wbps" in limited.get(name, ()) and kind not in WRITEBACK:
        raise SandboxError("limits", show(place), control="limits.io",
                           reason="what is written on %s is not counted by control group, so %s "
                                  "would not hold" % (
                                  show(kind), option("io_write")),
                           remedy="write to one of: " + show(b" ".join(WRITEBACK)))


def _named(device, disks, name):
    """The disk that the user named."""
    major, colon, minor = device.partition(b":")
    if colon and major.isdigit() and minor.isdigit():
        if not os.path.exists("%s/dev/block/%s" % (disks.sys, show(device))):
            # Naming a loop device that does not exist would make it.
            raise usage(option(name, show(device)), "no such block device")
        return disks.whole(os.makedev(int(major), int(minor)))
    try:
        return disks.below(device)
    except SandboxError as error:
        if error.status == USAGE:
            raise usage(option(name, error.what), error.reason)
        raise
