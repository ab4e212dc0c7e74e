# SPDX-License-Identifier: Apache-2.0
"""A Debian kernel and an initramfs that finds the root disk: taken out of the packages, nothing is installed."""
import gzip
import hashlib
import io
import lzma
import os
import re
import subprocess
import time

from packages import DEBIAN, members
from report import Failure, say

HERE = os.path.dirname(os.path.abspath(__file__))
#: --kernel NAME -> the suite whose main archive has it.  Security suites' pools are now and then ahead of their index.
SUITES = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie", "backports": "trixie-backports"}
#: Loaded in this order, with what they depend on.  Passed over where a kernel has it built in, or lacks it.
MODULES = ("virtio_pci virtio_mmio virtio_blk virtio_console virtio_rng crc32c_generic ext4 overlay fuse loop tun veth").split()
BUSYBOX_SUITE = "trixie"
ROOM = 300 << 20


def recipe():
    """What stands for how it is made, in the name of what is made."""
    digest = hashlib.sha256()
    for name in ("kernel.py", "initrd.sh"):
        with open(os.path.join(HERE, name), "rb") as stream:
            digest.update(stream.read())
    return digest.hexdigest()[:10]


def provide(cache, archive, arch, name):
    """The folder with vmlinuz, initrd.gz and release of a kernel.

    archive(suite) -> packages.Archive.  Raises Failure.
    """
    family, key = "%s-%s" % (arch, name), recipe()
    found = cache.find("kernel", family, key)
    if found:
        return found
    cache.room(ROOM)
    begun = time.monotonic()
    suite = archive(SUITES[name])
    meta = "linux-image-cloud-" + DEBIAN[arch]
    wanted = [package for package in suite.depends(meta) if package.startswith("linux-image-")]
    if not wanted:
        raise Failure("%s has no %s" % (SUITES[name], meta))
    # Since 7.x the image package is empty: linux-binary-* has the kernel, linux-modules-* the modules.
    wanted += [package for package in suite.depends(wanted[0]) if re.match(r"linux-(binary|modules)-", package)]
    with cache.workplace() as place:
        built = os.path.join(place, "kernel")
        os.mkdir(built)
        say("fetching", *wanted)
        release, modules = _unpack(suite.fetch(wanted, place), built)
        order, blobs = _closure(modules)
        shell = archive(BUSYBOX_SUITE).fetch(["busybox-static"], place)[0]
        busybox = [tar.extractfile(member).read() for tar, member in members(shell) if member.name.endswith("bin/busybox")]
        with open(os.path.join(HERE, "initrd.sh"), "rb") as stream:
            script = stream.read()
        files = {"init": (0o755, script), "bin/busybox": (0o755, busybox[0]), "modules": (0o644, "\n".join(order).encode())}
        files.update(("lib/%s.ko" % module, (0o644, blob)) for module, blob in blobs.items())
        with gzip.open(os.path.join(built, "initrd.gz"), "wb", 3) as stream:
            stream.write(cpio(files, ["bin", "lib", "proc", "sys", "dev", "newroot"]))
        with open(os.path.join(built, "release"), "w") as stream:
            stream.write(release)
        path = cache.keep(built, "kernel", family, key)
    say("kernel %s for %s is ready after %d s" % (release, arch, time.monotonic() - begun))
    cache.prune("kernel", family, key)
    return path


def _unpack(packages, built):
    """(release, {module: (file name, content)}); writes vmlinuz."""
    release, modules = None, {}
    for package in packages:
        for tar, member in members(package):
            name = member.name.lstrip("./")
            if member.isfile() and re.search(r"(^boot/vmlinuz-|/vmlinuz$)", name):
                with open(os.path.join(built, "vmlinuz"), "wb") as stream:
                    stream.write(tar.extractfile(member).read())
                release = name[len("boot/vmlinuz-"):] if name.startswith("boot/") else name.split("/")[-2]
            elif re.search(r"\.ko(\.xz|\.gz|\.zst)?$", name):
                module = re.sub(r"\.ko.*", "", os.path.basename(name)).replace("-", "_")
                modules[module] = name, tar.extractfile(member).read()
    if release is None:
        raise Failure("no kernel in %s" % ", ".join(map(os.path.basename, packages)))
    return release, modules


def _closure(modules):
    """([module] in loading order, {module: uncompressed content})."""
    order, blobs = [], {}

    def add(module):
        if module in blobs or module not in modules:
            return
        name, blob = modules[module]
        if name.endswith(".xz"):
            blob = lzma.decompress(blob)
        elif name.endswith(".gz"):
            blob = gzip.decompress(blob)
        elif name.endswith(".zst"):
            blob = subprocess.run(["zstd", "-dc"], input=blob, stdout=subprocess.PIPE, check=True).stdout
        blobs[module] = blob
        depends = re.search(rb"\0depends=([^\0]*)\0", blob)
        for other in depends.group(1).decode().split(",") if depends else []:
            add(other.replace("-", "_"))
        order.append(module)

    for module in MODULES:
        add(module)
    return order, blobs


def cpio(files, folders):
    """An initramfs (bytes) of {name: (mode, content)} and [folder].  Format "newc", cpio(5)"""
    out = io.BytesIO()
    entries = [(name, 0o040755, b"") for name in folders] + \
        [(name, 0o100000 | mode, content) for name, (mode, content) in files.items()] + [("TRAILER!!!", 0, b"")]
    for number, (name, mode, content) in enumerate(entries, 1):
        word = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(word), 0)
        out.write(b"070701" + b"".join(b"%08X" % field for field in fields) + word)
        out.write(b"\0" * (-out.tell() % 4))
        out.write(content)
        out.write(b"\0" * (-out.tell() % 4))
    return out.getvalue()
