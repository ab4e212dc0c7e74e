# SPDX-License-Identifier: Apache-2.0
"""The root file system: packages resolved by apt, their files merged into one tar, made an ext4 image by mke2fs.

No maintainer script runs on the host, nothing is mounted, owners and set-uid bits come from the packages; so it needs no
root, and one recipe serves both architectures.  What scripts would have done (users, two alternatives) is written here; the
linker's cache and bytecode are made by the guest, at its first boot, which alone may write to the image.
"""
import hashlib
import io
import os
import re
import tarfile
import time

from packages import members
from report import run, say

HERE = os.path.dirname(os.path.abspath(__file__))
SUITE = "trixie"
#: What the tests need.  gcc, node, java and the like would multiply the size: programs are tested on the host.
PACKAGES = ("base-files base-passwd bash dash coreutils diffutils findutils grep sed tar gzip mawk hostname debianutils "
            "libc-bin util-linux mount procps passwd uidmap kmod iproute2 attr acl libcap2-bin psmisc strace apparmor "
            "busybox-static python3 python3-pytest").split()
#: What no test reads.
LEFT_OUT = re.compile(r"usr/share/(doc|man|locale|info|lintian|i18n|zoneinfo|bash-completion|bug)/|usr/lib/[^/]+/gconv/|dev/")
LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64", "usr/bin/awk": "mawk",
         "usr/bin/which": "which.debianutils"}
#: The packages' scripts would make those below /usr/local.
FOLDERS = ("usr", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/local", "usr/local/bin", "usr/local/sbin",
           "usr/local/lib", "usr/local/etc", "usr/local/share", "etc", "opt", "srv", "vm", "home", "results")
USERS = {"root": 0, "tester": 1000, "other": 1001}
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
                  "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
                  "tester:x:1000:1000::/home/tester:/bin/bash\nother:x:1001:1001::/home/other:/bin/bash\n",
    "etc/group": "root:x:0:\ndaemon:x:1:\ntty:x:5:\nshadow:x:42:\nnogroup:x:65534:\ntester:x:1000:\nother:x:1001:\n",
    "etc/shadow": "root:*:::::::\ntester:*:::::::\nother:*:::::::\n",
    "etc/subuid": "tester:100000:65536\n", "etc/subgid": "tester:100000:65536\n",
    "etc/hosts": "127.0.0.1 localhost vm\n", "etc/hostname": "vm\n", "etc/resolv.conf": "",
    "etc/machine-id": "0" * 31 + "1\n",
}
#: PID 1: disk b is a tar with the checkout and the rest of the init, so that neither is part of the image.
INIT = """#!/bin/sh
mkdir -p /vm/in && tar xf /dev/vdb -C /vm/in && exec sh /vm/in/init
echo "no input disk"
exec busybox poweroff -f
"""
#: The first boot.  The tests' own imports are what is worth compiling.
FIRST_BOOT = r"""ldconfig
mkdir /tmp/first && cd /tmp/first && cat > test_first.py <<'END'
import ast, asyncio, concurrent.futures, ctypes, json, multiprocessing, pty, secrets, shutil, socket, subprocess, unittest.mock
def test_success(tmp_path, monkeypatch, capfd):
    assert 1
def test_failure():
    assert [1, 2] == [1, 3]
END
python3 -m pytest -q --junitxml=/tmp/first/junit.xml test_first.py
[ $? = 1 ] && sync
"""
ROOM = 1500 << 20


def recipe():
    """What stands for how it is made, in the name of what is made."""
    with open(os.path.join(HERE, "image.py"), "rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()[:10]


def provide(cache, archive, arch, first_boot):
    """The path of the image for an architecture.

    archive(suite) -> packages.Archive; first_boot(path) boots the image writable, and raises Failure where that fails.
    """
    family, key = "%s-%s" % (arch, SUITE), recipe()
    found = cache.find("image", family, key)
    if found:
        return found
    cache.room(ROOM)
    begun = time.monotonic()
    suite = archive(SUITE)
    say("fetching the packages of the root file system")
    packages = suite.fetch_all(PACKAGES)
    fetched = time.monotonic()
    with cache.workplace() as place:
        built = os.path.join(place, "image")
        size = build(packages, place, built)
        say("%s: %d packages, %d MB, fetched in %d s, built in %d s; its first boot takes some 20 s"
            % (family, len(packages), size >> 20, fetched - begun, time.monotonic() - fetched))
        first_boot(built)
        path = cache.keep(built, "image", family, key)
    suite.drop_packages()
    cache.prune("image", family, key)
    return path


def build(packages, place, built):
    """Makes the image file `built` of [package path] and returns the sum of the files' sizes.  place: a folder to work in."""
    merged = os.path.join(place, "merged.tar")
    size, count = merge(packages, merged)
    # mke2fs lies in sbin.  Without a journal: each boot but the first is a snapshot that is thrown away.
    environ = dict(os.environ, PATH=os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin")
    run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal,^metadata_csum_seed,^orphan_file", "-m", "0", "-N",
         str(count * 2 + 20000), "-E", "root_owner=0:0", "-d", merged, built, "%dM" % ((size >> 20) * 1.3 + 768)], env=environ)
    os.unlink(merged)
    return size


def merge(packages, path):
    """Writes the packages' files as one tar; returns (bytes, files)."""
    seen, size, count = set(), 0, 0
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as out:
        def put(name, mode=0o755, content=None, link=None, owner=0):
            member = tarfile.TarInfo(name)
            member.mode, member.uid, member.gid = mode, owner, owner
            member.type = tarfile.SYMTYPE if link else tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            member.linkname, member.size = link or "", len(content or b"")
            seen.add(name)
            out.addfile(member, io.BytesIO(content or b""))

        for name in FOLDERS:
            put(name)
        for name, target in LINKS.items():
            put(name, 0o777, link=target)
        for package in packages:
            for tar, member in members(package):
                name = _merged_usr(member.name)
                if not name or name in seen or LEFT_OUT.match(name):
                    continue
                if member.islnk():
                    member.linkname = _merged_usr(member.linkname)
                    if member.linkname not in seen:
                        continue
                seen.add(name)
                member.name = name
                size, count = size + member.size, count + 1
                out.addfile(member, tar.extractfile(member) if member.isreg() else None)
        for name, text in FILES.items():
            if name not in seen:
                put(name, 0o644, text.encode())
        put("vm/init", content=INIT.encode())
        for user, owner in USERS.items():
            if owner:
                put("home/" + user, owner=owner)
        for name in ("proc", "sys", "dev", "run", "tmp", "root", "mnt"):
            if name not in seen:
                put(name)
    return size, count


def _merged_usr(name):
    """A member's name without "./" in front, with /bin, /sbin and /lib* where they are links to."""
    name = name[2:] if name.startswith("./") else name
    return re.sub(r"^(s?bin|lib|lib64)/", r"usr/\1/", name.strip("/")) if name not in (".", "") else ""
