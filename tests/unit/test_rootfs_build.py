# SPDX-License-Identifier: Apache-2.0
"""`mrunc rootfs build`: hostile archives are refused or made harmless, nothing outside is touched and nothing half-made stays."""
import fcntl
import gzip
import json
import lzma
import os
import resource
import signal
import stat
import subprocess
import tarfile

import pytest

import mrunc  # noqa: F401  (makes the package)
from archives import (Layout, archive, directory, file, hardlink, header, long_name, padded, pax, record, symlink)
from conftest import PYTHON, ROOT, USER, become
from outer_filter import hidden
from mrunc.commands.rootfs import build as rootfs_build, tar
from mrunc.sandbox.errors import SandboxError
from mrunc.syscalls import mount
from mrunc.syscalls.files import remove

SMALL = (1 << 20, 200)


@pytest.fixture(params=["openat2", "walking"])
def place(request, tmp_path, monkeypatch):
    """A directory with sentinels around the destination; at the end they are as they were, and no draft is left."""
    if request.param == "walking":
        monkeypatch.setattr(mount, "_openat2", hidden)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "sentinel").write_text("untouched")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "sentinel").write_text("untouched")
    os.chdir(str(tmp_path / "work"))
    before = listing(tmp_path)
    yield tmp_path / "work"
    os.chdir("/")
    after = {path: row for path, row in listing(tmp_path).items()
             if not path.startswith(("work/out", "work/in", "work/m"))}
    assert after == before


def listing(top):
    out = {}
    for folder, names, files in os.walk(str(top)):
        for name in names + files:
            path = os.path.join(folder, name)
            found = os.lstat(path)
            content = open(path).read() if stat.S_ISREG(found.st_mode) and name == "sentinel" else ""
            out[os.path.relpath(path, str(top))] = (found.st_mode, found.st_nlink if stat.S_ISREG(found.st_mode) else 0, content)
    return out


def build(*sources, name="out", limits=SMALL, **more):
    return rootfs_build.build(os.fsencode(name), [("from", source) for source in sources], limits, **more)


def put(data, name="in.tar"):
    with open(name, "wb") as stream:
        stream.write(data)
    return name


def refused(source, words, status=1, **more):
    with pytest.raises(SandboxError) as caught:
        build(source, **more)
    assert caught.value.status == status and words in caught.value.line(), caught.value.line()
    assert not os.path.lexists("out") and not [name for name in os.listdir(".") if "draft" in name]
    return caught.value


def dropped(manifest):
    return [(row["path"], row["what"]) for row in manifest["dropped"]]


def tree(top="out"):
    """{path: content, target or None}"""
    out = {}
    for folder, names, files in os.walk(top):
        for name in names + files:
            path = os.path.join(folder, name)
            key = os.path.relpath(path, top)
            out[key] = os.readlink(path) if os.path.islink(path) else open(path, "rb").read() if name in files else None
    return out


#: name: (archive, words of the refusal)
HOSTILE = {
    "absolute name": (archive(file(b"/etc/evil")), "absolute name"),
    "name with ..": (archive(file(b"../evil")), "with .."),
    "name with .. in the middle": (archive(directory(b"a"), file(b"a/../../evil")), "with .."),
    "absolute name in a pax header": (archive(pax([(b"path", b"/tmp/evil")]), file(b"fine")), "absolute name"),
    "name with .. in GNU's long name": (archive(long_name(b"x/" * 60 + b"../" * 70 + b"evil"), file(b"fine")), "with .."),
    "name with .. in the prefix": (archive(file(b"evil", prefix=b"..")), "with .."),
    "symlink that climbs": (archive(symlink(b"up", b"../outside")), "leads out of the tree"),
    "symlink that climbs from a directory": (archive(directory(b"a"), symlink(b"a/up", b"../../outside")), "leads out"),
    "symlink that climbs after going down": (archive(symlink(b"up", b"a/b/../../../outside")), "leads out of the tree"),
    "symlink without a target": (archive(symlink(b"a", b"")), "impossible target"),
    "hard link outside": (archive(hardlink(b"a", b"../outside/sentinel")), "with .."),
    "hard link to an absolute name": (archive(hardlink(b"a", b"/etc/passwd")), "absolute name"),
    "hard link to nothing": (archive(hardlink(b"a", b"b")), "no file of the archive"),
    "hard link to a directory": (archive(directory(b"d"), hardlink(b"a", b"d")), "no file of the archive"),
    "hard link over the directory of its target": (archive(file(b"d/f"), hardlink(b"d", b"d/f")), "the entry that it replaces"),
    "name through a file": (archive(file(b"f"), file(b"f/x")), "through a file"),
    "name through links as long as a book": (archive(
        directory(b"a"), *[pax([(b"linkpath", b"a/../" * 800 + (b"l%d" % (number + 1) if number < 30 else b"a"))]) + symlink(
            b"l%d" % number, b"x") for number in range(31)], file(b"l0/x")), "too long together"),
    "name through links in a circle": (archive(symlink(b"a", b"b"), symlink(b"b", b"a"), file(b"a/x")), "too many links"),
    "top that is a file": (archive(header(b".", b"2", target=b"x")), "top must be a directory"),
    "NUL in a pax name": (archive(pax([(b"path", b"a\0b")]), file(b"fine")), "damaged extended header"),
    "component too long": (archive(pax([(b"path", b"x" * 256)]), file(b"fine")), "too long"),
    "path too long": (archive(pax([(b"path", b"x/" * 2001)]), directory(b"fine")), "too long"),
    "path too long through a link": (archive(pax([(b"path", b"/".join([b"y" * 200] * 19))]), directory(b"x"), pax([(
        b"linkpath", b"/".join([b"y" * 200] * 19))]), symlink(b"l", b""), file(b"l/" + b"z" * 90 + b"/a"),
        pax([(b"path", b"l/" + b"/".join([b"z" * 200] * 2))]), file(b"x")), "too long"),
    "sparse file of GNU's": (archive(header(b"s", b"S", size=512) + b"x" * 512), "sparse"),
    "sparse file of pax": (archive(pax([(b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"9" * 12)]), file(b"s")), "sparse"),
    "size of a terabyte": (archive(header(b"f", raw_size=b"\x80" + (1 << 40).to_bytes(11, "big"))), "bytes"),
    "size of 2^90": (archive(header(b"f", raw_size=b"\x80" + (1 << 86).to_bytes(11, "big"))), "impossible size"),
    "negative size": (archive(header(b"f", raw_size=b"\xff" * 12)), "negative size"),
    "negative size in a pax header": (archive(pax([(b"size", b"-512")]), file(b"f")), "invalid number"),
    "huge size in a pax header": (archive(pax([(b"size", b"9" * 30)]), file(b"f")), "invalid number"),
    "size that is no number": (archive(header(b"f", raw_size=b"12345zzz\0\0\0\0")), "no number"),
    "pax header of a gigabyte": (archive(header(b"p", b"x", raw_size=b"\x80" + (1 << 30).to_bytes(11, "big"))), "extended header of"),
    "pax record of length 0": (archive(pax(b"0 path=x\n"), file(b"f")), "damaged extended header"),
    "pax record longer than its header": (archive(pax(b"99 path=x\n"), file(b"f")), "damaged extended header"),
    "pax record without a length": (archive(pax(b"path=x\n"), file(b"f")), "damaged extended header"),
    "global header that renames everything": (archive(pax([(b"path", b"x")], b"g"), file(b"f")), "global header"),
    "extended headers without an end": (archive(*[pax([(b"comment", b"x")])] * 50, file(b"f")), "too many extended headers"),
    "extended header without its entry": (archive(pax([(b"path", b"x")])), "without its entry"),
    "damaged checksum": (archive(file(b"f", checksum=1)), "not a tar archive"),
    "no tar at all": (b"#!/bin/sh\n" * 200, "checksum"),
    "cut off in a header": (archive(file(b"f"))[:700], "cut off"),
    "cut off in a file": (archive(file(b"f", b"x" * 2000))[:1200], "cut off"),
    "without its end": (archive(file(b"f"), end=False), "cut off"),
    "empty file": (b"", "cut off"),
    "unknown type": (archive(header(b"f", b"Q")), "unknown type"),
    "multi-volume archive": (archive(header(b"f", b"M")), "unknown type"),
    "directory with content": (archive(file(b"d/", b"data")), "directory with content"),
    "content beyond --max-size": (archive(*[file(b"%d" % n, b"x" * 300000) for n in range(4)]), "more than 1048576 bytes"),
    "entries beyond --max-files": (archive(*[directory(b"%d" % n) for n in range(201)]), "more than 200 entries"),
    "duplicates beyond --max-files": (archive(*[directory(b"d")] * 201), "more than 200 entries"),
    "depth beyond --max-files": (archive(pax([(b"path", b"x/" * 300)]), directory(b"fine")), "more than 200 entries"),
    "gzip cut off": (gzip.compress(archive(file(b"f", os.urandom(9000))))[:-4000], "cut off"),
    "gzip damaged": (gzip.compress(archive(file(b"f", b"x" * 900)))[:-8] + b"\xff" * 8, "damaged"),
    "something after gzip": (gzip.compress(archive(file(b"f"), end=False)) + b"#!/bin/sh\n" * 30, "other data follows"),
    "gzip bomb in a header": (gzip.compress(b"".join(pax([(b"comment", b"x" * 900000)]) for _ in range(16))), "unpacks to more"),
    "gzip bomb in a file": (gzip.compress(archive(file(b"f", b"\0" * (9 << 20)))), "more than 1048576 bytes"),
    "gzip bomb in what is passed over": (gzip.compress(archive(header(b"V", b"V", size=9 << 20) + b"\0" * (9 << 20))),
                                         "unpacks to more"),
    "xz cut off": (lzma.compress(archive(file(b"f", os.urandom(9000))))[:-2000], "cut off"),
    "xz bomb in a file": (lzma.compress(archive(file(b"f", b"\0" * (9 << 20)))), "more than 1048576 bytes"),
    "xz that asks for gigabytes of memory": (lzma.compress(archive(file(b"f")), filters=[
        {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30, "mode": lzma.MODE_FAST, "mf": lzma.MF_HC3, "nice_len": 10}]), "damaged"),
    "bzip2": (b"BZh91AY&SY" + b"\0" * 600, "bzip2"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_whole(place, name):
    data, words = HOSTILE[name]
    first = archive(file(b"before", b"made before it came"), end=False)
    good = data if data[:2] in (b"\x1f\x8b", b"\xfd7", b"BZ", b"#!", b"") else first + data
    refused(put(good), words)


#: name: (archive, the tree, what is dropped)
HARMLESS = {
    "set-id files and directories": (
        archive(file(b"su", mode=0o6755), directory(b"d", mode=0o2777), directory(b"t", mode=0o1777)),
        {"su": b"data", "d": None, "t": None}, [("su", "set-uid bit"), ("su", "set-gid bit"), ("d", "set-gid bit")]),
    "devices, FIFOs and sockets": (
        archive(header(b"null", b"3"), header(b"sda", b"4"), header(b"fifo", b"6"), file(b"f")), {"f": b"data"},
        [("null", "character device"), ("sda", "block device"), ("fifo", "FIFO")]),
    "a device over a file": (archive(file(b"f"), header(b"f", b"3")), {}, [("f", "character device")]),
    "extended attributes": (
        archive(pax([(b"SCHILY.xattr.security.capability", b"\1\0\0\2" + b"\0" * 16), (b"LIBARCHIVE.xattr.user.x", b"eA=="),
                     (b"RHT.security.selinux", b"x")]), file(b"ping")), {"ping": b"data"},
        [("ping", "extended attribute security.capability"), ("ping", "extended attribute security.selinux"),
         ("ping", "extended attribute user.x")]),
    "a name through a link to a directory": (
        archive(directory(b"usr/bin"), symlink(b"bin", b"usr/bin"), file(b"bin/sh")),
        {"usr": None, "usr/bin": None, "bin": "usr/bin", "usr/bin/sh": b"data"}, []),
    "a name through an absolute link: the tree's top is /": (
        archive(symlink(b"a", b"/outside"), file(b"a/sentinel", b"mine")),
        {"a": "/outside", "outside": None, "outside/sentinel": b"mine"}, []),
    "a name through a chain of links": (
        archive(directory(b"d/e"), symlink(b"one", b"./two"), symlink(b"two", b"d/e"), file(b"one/f")),
        {"d": None, "d/e": None, "one": "./two", "two": "d/e", "d/e/f": b"data"}, []),
    "a file over a link: the link goes, its target stays": (
        archive(file(b"target", b"old"), symlink(b"l", b"target"), file(b"l", b"new")), {"target": b"old", "l": b"new"}, []),
    "a link over a directory": (
        archive(file(b"d/deep/f"), symlink(b"d", b"other"), directory(b"other")), {"d": "other", "other": None}, []),
    "a directory over a link": (
        archive(symlink(b"d", b"/etc"), directory(b"d"), file(b"d/f")), {"d": None, "d/f": b"data"}, []),
    "a file over a tree": (archive(file(b"d/a/b/c"), file(b"d", b"flat")), {"d": b"flat"}, []),
    "the same file twice": (archive(file(b"f", b"old"), file(b"f", b"new")), {"f": b"new"}, []),
    "a hard link, one to a link, one to itself": (
        archive(file(b"a"), hardlink(b"b", b"a"), symlink(b"l", b"a"), hardlink(b"m", b"l"), hardlink(b"b", b"b")),
        {"a": b"data", "b": b"data", "l": "a", "m": "a"}, []),
    "a hard link through a link": (
        archive(file(b"d/f"), symlink(b"l", b"/d"), hardlink(b"x", b"l/f")),
        {"d": None, "d/f": b"data", "l": "/d", "x": b"data"}, []),
    "odd but possible names": (
        archive(file(b"./a//b"), file(b"\xff\xfe\n"), file("\u202ee".encode()), file(b" "), file(b"-rf"), file(b"..."),
                directory(b"./")),
        {"a": None, "a/b": b"data", "\udcff\udcfe\n": b"data", "\u202ee": b"data", " ": b"data", "-rf": b"data", "...": b"data"}, []),
    "long names": (
        archive(pax([(b"path", b"p" * 255)]), file(b"x"), long_name(b"l" * 200), file(b"x"), long_name(b"t" * 300, b"K"),
                symlink(b"s", b""), file(b"n", prefix=b"q")),
        {"p" * 255: b"data", "l" * 200: b"data", "s": "t" * 300, "q": None, "q/n": b"data"}, []),
    "modes that bar their owner": (archive(directory(b"d", mode=0), file(b"d/f", mode=0)), None, []),
    "an old archive": (archive(header(b"d/", b"\0", magic=b"\0" * 8), file(b"f", kind=b"\0", magic=b"\0" * 8)),
                       {"d": None, "f": b"data"}, []),
    "times before 1970 and after the sun": (
        archive(file(b"old", mtime=b"\xff" * 12), file(b"new", mtime=b"\x80" + b"\xff" * 11)), {"old": b"data", "new": b"data"}, []),
    "a link's size is no content": (archive(header(b"l", b"2", target=b"x", size=5000), file(b"f")), {"l": "x", "f": b"data"}, []),
    "several gzip members": (gzip.compress(archive(file(b"a"), end=False)) + gzip.compress(archive(file(b"b"))) + b"\0" * 512,
                             {"a": b"data", "b": b"data"}, []),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_a_hostile_archive_is_made_harmless(place, name):
    data, expected, left_out = HARMLESS[name]
    manifest = build(put(data))
    assert dropped(manifest) == left_out
    if expected is not None:
        assert tree() == expected
    for row in manifest["entries"]:
        found = os.lstat(os.path.join(b"out", os.fsencode(row["path"])))
        assert found.st_mode & 0o6000 == 0 and (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())
        assert "%04o" % stat.S_IMODE(found.st_mode) == row["mode"] and int(found.st_mtime) == row["mtime"]
        assert not [name for name in os.listxattr(os.path.join(b"out", os.fsencode(row["path"])), follow_symlinks=False)
                    if name != "security.selinux"]
        if row["kind"] == "directory":  # looked at; now what lies in it
            os.chmod(os.path.join(b"out", os.fsencode(row["path"])), 0o700)
    assert [row["path"] for row in manifest["entries"]] == sorted(
        [row["path"] for row in manifest["entries"]], key=os.fsencode)
    assert [name for name in os.listdir(".") if "draft" in name] == []


@pytest.mark.parametrize("place", ["openat2"], indirect=True)  # what is hidden here is there in another process
def test_a_million_entries_cost_what_the_limit_says(place):
    """500 MB of headers from a file of a few; refused at the limit, in bounded memory."""
    with gzip.open("in.tar", "wb", 1) as stream:
        block = b"".join(directory(b"d%06d" % n) for n in range(10000))
        for _ in range(100):
            stream.write(block)
    done = subprocess.run([PYTHON, os.path.join(ROOT, "mrunc.py"), "rootfs", "build", "out", "--from", "in.tar", "--max-files", "50000"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=300,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20)))
    assert done.returncode == 1 and "more than 50000 entries" in done.stderr, done
    assert sorted(os.listdir(".")) == ["in.tar", "sentinel"]


def test_names_and_links_in_memory_are_bounded(place, monkeypatch):
    from mrunc.commands.rootfs import extract
    monkeypatch.setattr(extract, "MOST_KEPT", 10000)
    refused(put(archive(*[symlink(b"%d" % n, b"x" * 99) for n in range(150)])), "need too much memory")
    refused(put(archive(pax([(b"SCHILY.xattr." + b"n" * 900, b"x")] + [(b"SCHILY.xattr.%d" % n + b"n" * 900, b"x") for n in range(12)]),
                        file(b"f"))), "need too much memory")


def test_a_tree_of_many_links_fits_in_memory(tmp_path, monkeypatch):
    """A small archive: of 450,000 links, which the limits allow, 403 MB were taken; now less than a quarter."""
    monkeypatch.chdir(str(tmp_path))
    # A small process starts it: the memory of who forked counts for the child.
    meter = ("import os, subprocess, sys\n_, status, usage = os.wait4(subprocess.Popen(sys.argv[1:]).pid, 0)\n"
             "print(status, usage.ru_maxrss)")
    count, taken = 150000, []
    for number in (1, count):
        with open("in.tar", "wb") as stream:
            stream.write(b"".join(symlink(b"d%d/l%d" % (n // 1000, n), b"x%d" % n) for n in range(number)) + bytes(1024))
        done = subprocess.run([PYTHON, "-I", "-S", "-c", meter, PYTHON, "-I", "-S", os.path.join(ROOT, "mrunc.py"), "rootfs", "build",
                               "out%d" % number, "--from", "in.tar", "-q", "--manifest", "manifest"], stdout=subprocess.PIPE)
        status, most = map(int, done.stdout.split())
        assert status == 0
        taken.append(most * 1024)
        with open("manifest") as stream:
            rows = json.load(stream)["entries"]
        assert sum(row["kind"] == "symlink" for row in rows) == number
        assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
        subprocess.run(["rm", "-rf", "out%d" % number], check=True)
    assert (taken[1] - taken[0]) / count < 180, taken
    assert taken[1] < 100 << 20


def test_links_of_one_source_are_one_and_of_another_are_not(place):
    """A whiteout hides what lower sources have, and no name that this one made again."""
    put(archive(file(b"f", b"x"), hardlink(b"g", b"f"), symlink(b"s", b"f"), hardlink(b"t", b"s")))
    put(archive(hardlink(b"h", b"f"), hardlink(b"u", b"s")), "in2.tar")
    made = {row["path"]: row for row in build("in.tar", "in2.tar")["entries"]}
    assert len({row["sha256"] for path, row in made.items() if path in "fgh"}) == 1
    assert {path: row["target"] for path, row in made.items() if path in "stu"} == dict.fromkeys("stu", "f")


def test_the_name_is_printed_escaped(place):
    put(archive(file(b"../\x1b[31mred\n\xff")))
    done = subprocess.run([PYTHON, os.path.join(ROOT, "mrunc.py"), "rootfs", "build", "out", "--from", "in.tar"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 1 and done.stdout == b""
    assert done.stderr == b"mrunc: rootfs: ../\\x1b[31mred\\n\\xff: a name with ..\n"


# Directories

def test_a_directory_is_copied_as_it_is(place):
    os.makedirs("in/d/e")
    with open("in/d/f", "w") as stream:
        stream.write("x")
    os.link("in/d/f", "in/z")
    os.symlink("../d", "in/d/up")
    os.symlink("/etc/shadow", "in/absolute")
    os.mkfifo("in/fifo")
    os.chmod("in/d/f", 0o4755)
    os.chmod("in/d/e", 0o1777)
    if os.geteuid() == 0:
        os.mknod("in/device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        os.chown("in/z", USER, USER)
        os.chmod("in/z", 0o4755)
    manifest = build("in")
    assert tree() == {"d": None, "d/e": None, "d/f": b"x", "d/up": "../d", "z": b"x", "absolute": "/etc/shadow"}
    assert set(dropped(manifest)) == {("fifo", "FIFO"), ("d/f", "set-uid bit"), ("z", "set-uid bit")} - (
        {("d/f", "set-uid bit")} if ("z", "set-uid bit") in dropped(manifest) else {("z", "set-uid bit")}) | (
        {("device", "character device")} if os.geteuid() == 0 else set())
    assert os.stat("out/z").st_ino == os.stat("out/d/f").st_ino and os.stat("out/z").st_uid == os.geteuid()


def test_a_directory_is_never_left_by_a_link(place):
    os.makedirs("in/d")
    os.symlink("../../outside", "in/d/l")
    refused("in", "leads out of the tree")
    os.unlink("in/d/l")
    os.rename("in/d", "in/e")
    os.symlink("e", "in/d")
    build("in")
    assert tree() == {"e": None, "d": "e"}


def test_a_file_that_is_replaced_or_grows_while_it_is_read(place, monkeypatch):
    from mrunc.commands.rootfs import sources as rootfs_sources
    os.mkdir("in")
    with open("in/f", "w") as stream:
        stream.write("x" * 1000)
    real = os.open

    def swap(path, *arguments, **more):
        if path == b"f":
            os.unlink("in/f")
            os.symlink("/etc/hostname", "in/f")
        return real(path, *arguments, **more)
    monkeypatch.setattr(rootfs_sources.os, "open", swap)
    refused("in", "changed while it was read")


def test_a_sparse_file_counts_its_length(place):
    os.mkdir("in")
    with open("in/f", "wb") as stream:
        stream.truncate(1 << 40)
    refused("in", "more than 1048576 bytes")


def test_the_draft_is_no_part_of_its_own_source(place):
    """The destination lies in the source."""
    os.mkdir("in")
    with open("in/f", "w") as stream:
        stream.write("x")
    rootfs_build.build(b"in/out", [("from", "in")], SMALL)
    assert [name for name in sorted(tree("in/out")) if "draft" not in name] == ["f"]
    assert all(content is None for name, content in tree("in/out").items() if "draft" in name)


def test_a_deep_directory(place):
    path = os.open(".", os.O_RDONLY)
    name = b"in"
    for _ in range(700):
        os.mkdir(name, dir_fd=path)
        inner = os.open(name, os.O_RDONLY, dir_fd=path)
        os.close(path)
        path, name = inner, b"d"
    os.close(path)
    assert len(build("in", limits=(1 << 20, 3000))["entries"]) == 699
    holder = os.open(".", os.O_RDONLY)
    for name in (b"out", b"in"):
        remove(holder, name)
    os.close(holder)


def test_what_cannot_be_read_is_reported(place):
    os.mkdir("in")
    for name in ("f", "d"):
        (open("in/" + name, "w").close() if name == "f" else os.mkdir("in/d"))
        os.chmod("in/" + name, 0)
    os.chmod(".", 0o777)
    process = subprocess.run([PYTHON, "-c", "import sys, json; sys.path.insert(0, %r); import mrunc\n"
                              "from mrunc.commands.rootfs import build as rootfs_build\n"
                              "print(json.dumps(rootfs_build.build(b'out', [('from', 'in')])['dropped']))" % ROOT],
                             stdout=subprocess.PIPE, universal_newlines=True, preexec_fn=become("user"))
    os.chmod(".", 0o755)
    assert process.returncode == 0
    assert dropped({"dropped": json.loads(process.stdout)}) == [("f", "unreadable"), ("d", "unreadable")]


def test_sources_lie_over_one_another_in_order(place):
    for name, content in (("in1", "first"), ("in2", "second")):
        os.makedirs(name + "/d")
        with open(name + "/d/both", "w") as stream:
            stream.write(content)
        with open(name + "/d/" + name, "w") as stream:
            stream.write(content)
    put(archive(file(b"d/both", b"third")))
    build("in1", "in2", "in.tar")
    assert tree() == {"d": None, "d/both": b"third", "d/in1": b"first", "d/in2": b"second"}


# The same again

def test_the_same_sources_give_the_same_tree(place):
    for form, name in ((tarfile.PAX_FORMAT, "in-pax.tar"), (tarfile.GNU_FORMAT, "in-gnu.tar")):
        with tarfile.open(name, "w", format=form) as stream:
            for path in ("b", "a", "d/" + "long" * 40, "d/c"):
                info = tarfile.TarInfo(path)
                info.size, info.mtime = 4, 1234567890
                import io
                stream.addfile(info, io.BytesIO(b"text"))
    with open("in-pax.tar", "rb") as stream:
        packed = stream.read()
    put(gzip.compress(packed), "in.gz")
    put(lzma.compress(packed), "in.xz")
    made = [build(source, name="out%d" % number, epoch=1200000000)
            for number, source in enumerate(["in-pax.tar", "in-gnu.tar", "in.gz", "in.xz"])]
    assert all(one["entries"] == made[0]["entries"] for one in made)
    assert {row["mtime"] for row in made[0]["entries"]} == {1200000000}
    assert {int(os.lstat(os.path.join(folder, name)).st_mtime) for folder, names, files in os.walk("out2")
            for name in names + files + ["."]} == {1200000000}
    assert build("in-pax.tar", name="out9")["entries"] == build("in-pax.tar", name="out8")["entries"]
    assert {row["mtime"] for row in build("in-pax.tar", name="out7")["entries"]} == {1234567890}  # the newest, for what has none


def test_the_manifest_is_lossless_and_in_order(place):
    import hashlib
    put(archive(file(b"z", b"zz"), file(b"\xff\n", b""), symlink(b"a", b"z"), directory(b"d", mode=0o700)))
    done = subprocess.run([PYTHON, os.path.join(ROOT, "mrunc.py"), "rootfs", "build", "out", "--from", "in.tar", "--manifest",
                           "m.json", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    assert (done.returncode, done.stderr) == (0, ""), done
    with open("m.json") as stream:
        manifest = json.load(stream)
    assert json.loads(done.stdout) == manifest and manifest["schema"] == 1 and manifest["sources"] == [{"from": "in.tar"}]
    assert [os.fsencode(row["path"]) for row in manifest["entries"]] == [b"a", b"d", b"z", b"\xff\n"]
    by_path = {row["path"]: row for row in manifest["entries"]}
    assert by_path["z"] == {"path": "z", "kind": "file", "mode": "0644", "mtime": 1000, "size": 2,
                            "sha256": hashlib.sha256(b"zz").hexdigest()}
    assert by_path["a"]["target"] == "z" and by_path["d"]["mode"] == "0700" and manifest["bytes"] == 2


# Atomic

def test_nothing_is_replaced(place):
    put(archive(file(b"f")))
    for make in (lambda: os.mkdir("out"), lambda: os.symlink("nowhere", "out"), lambda: open("out", "w").close()):
        make()
        with pytest.raises(SandboxError) as caught:
            build("in.tar")
        assert caught.value.status == 2 and "exists" in caught.value.line()
        os.rmdir("out") if os.path.isdir("out") else os.unlink("out")
    for name in ("nowhere/out", ".", "..", "/", "sentinel/out"):
        with pytest.raises(SandboxError) as caught:
            build("in.tar", name=name)
        assert caught.value.status == 2


def test_a_name_taken_while_it_is_built_is_not_replaced(place):
    put(archive(file(b"f")))
    with pytest.raises(SandboxError) as caught:
        build("in.tar", tick=lambda files, size: os.mkdir("out"))
    assert "meanwhile" in caught.value.line() and os.listdir("out") == []
    assert [name for name in os.listdir(".") if "draft" in name] == []


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)])
def test_an_interrupted_build_leaves_nothing_half_made(place, number, status):
    os.mkfifo("in.fifo")
    put(archive(file(b"first"), file(b"second")))
    script = "import sys, os; sys.path.insert(0, %r); import mrunc\nfrom mrunc.commands.dispatch import main; from mrunc.commands.rootfs import rootfs\n" \
             "def tick(self, files, size):\n    open('in.fifo', 'w').close()\n    sys.stdin.read()\n" \
             "rootfs.Progress.tick = tick\nsys.exit(main(['rootfs', 'build', 'out', '--from', 'in.tar']))\n" % ROOT
    process = subprocess.Popen([PYTHON, "-c", script], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    open("in.fifo").close()  # the first entry is there
    assert [name for name in os.listdir(".") if name.startswith(".out.mrunc-draft-")]
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == status and not os.path.exists("out")
    left = [name for name in os.listdir(".") if "draft" in name]
    assert len(left) == (1 if number == signal.SIGKILL else 0)
    build("in.tar")  # removes what is left
    assert [name for name in os.listdir(".") if "draft" in name] == [] and sorted(tree()) == ["first", "second"]


def test_the_draft_of_a_living_build_and_others_directories_stay(place):
    mine, other = ".out.mrunc-draft-" + "0" * 16, ".out.mrunc-draft-notes"
    os.mkdir(mine)
    os.mkdir(other)
    os.mkdir(".out.mrunc-draft-" + "1" * 16)
    holder = os.open(mine, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    put(archive(file(b"f")))
    build("in.tar")
    assert sorted(name for name in os.listdir(".") if "draft" in name) == sorted([mine, other])
    os.close(holder)
    os.rmdir(mine)
    os.rmdir(other)


def test_nothing_is_inherited_from_the_folder(place):
    os.mkdir("work-in")
    os.chmod("work-in", 0o2777)
    if os.geteuid() == 0:
        os.chown("work-in", -1, USER)
    put(archive(directory(b"d"), file(b"d/f")))
    rootfs_build.build(b"work-in/out", [("from", "in.tar")], SMALL)
    for path in ("work-in/out", "work-in/out/d", "work-in/out/d/f"):
        assert os.stat(path).st_gid == os.getegid() and not os.stat(path).st_mode & 0o2000
    holder = os.open(".", os.O_RDONLY)
    remove(holder, b"work-in")
    os.close(holder)


# OCI

def test_layers_with_whiteouts_and_opaque_directories(place):
    Layout("in", [
        archive(file(b"a/old"), file(b"a/deep/x"), file(b"b/old"), file(b"c/old"), file(b"gone"), file(b"d/f"), symlink(b"l", b"b"),
                file(b"same", b"1"), file(b"e/keep"), file(b"e/go")),
        archive(file(b"a/new"), file(b"a/.wh..wh..opq", b""), file(b"b/.wh.old", b""), file(b"b/new"), file(b".wh.gone", b""),
                file(b".wh.d", b""), directory(b"d"), file(b"d/other"), file(b".wh.never", b""), hardlink(b"h", b"same"),
                file(b"l/through"), directory(b"e"), file(b"e/.wh.go", b"")),
        archive(file(b".wh.same", b""), file(b"c", b"a file now"), file(b"e/again"), end=False)])
    build("in")
    assert tree() == {"a": None, "a/new": b"data", "b": None, "b/new": b"data", "b/through": b"data", "l": "b", "d": None,
                      "d/other": b"data", "h": b"1", "c": b"a file now", "e": None, "e/keep": b"data", "e/again": b"data"}


def test_a_layer_may_end_without_padding(place):
    Layout("in", [archive(file(b"f"), end=False)[:516]])
    build("in")
    assert tree() == {"f": b"data"}
    Layout("in2", [archive(file(b"f"), end=False)[:515]])
    os.rename("out", "out1")
    refused("in2", "cut off")


def test_an_opaque_top(place):
    Layout("in", [archive(file(b"a/x"), file(b"b")), archive(file(b".wh..wh..opq", b""), file(b"a/y"))])
    build("in")
    assert tree() == {"a": None, "a/y": b"data"}


def test_one_of_several_images(place):
    layout = Layout("in", [archive(file(b"f"))])
    here = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    first = dict(layout.manifest, annotations={"org.opencontainers.image.ref.name": "one"})
    foreign = dict(first, platform={"os": "linux", "architecture": "s390x"}, digest="sha256:" + "0" * 64)
    layout.write([first, foreign, dict(first, platform={"os": "linux", "architecture": here})])
    build("in", name="out1")
    layout.layers = layout.layers * 1
    other = layout.blob(json.dumps({"config": layout.config, "layers": layout.layers, "more": 1}).encode())
    other = dict(other, mediaType=first["mediaType"], annotations={"org.opencontainers.image.ref.name": "two"})
    layout.write([first, other])
    error = refused("in", "holds 2 images", status=2)
    assert "one, two" in error.remedy
    build("in", name="out2", image="two")
    refused("in", "no image called three", status=2, image="three")
    index = layout.blob(json.dumps({"manifests": [first]}).encode())
    layout.write([dict(index, mediaType="application/vnd.oci.image.index.v1+json")])
    build("in", name="out3")


def test_an_index_that_lists_another_many_times_is_refused(place):
    """Four levels of 512 are a third of a megabyte and 68,719,476,736 images."""
    layout = Layout("in", [archive(file(b"f"))])
    listed = [layout.manifest] * 512
    for _ in range(3):
        index = layout.blob(json.dumps({"manifests": listed}).encode())
        listed = [dict(index, mediaType="application/vnd.oci.image.index.v1+json")] * 512
    layout.write(listed)
    refused("in", "too many images")


def _spoil(layout, how):
    blob = layout.place(layout.layers[0]["digest"])
    if how == "layer changed":
        with open(blob, "r+b") as stream:
            stream.seek(4)
            stream.write(b"\1\1\1\1")  # gzip's time: it unpacks to the same
    elif how == "layer missing":
        os.unlink(blob)
    elif how == "layer is a link":
        os.rename(blob, "in.blob")
        os.symlink(os.path.abspath("in.blob"), blob)
    elif how == "layer is a FIFO":
        os.unlink(blob)
        os.mkfifo(blob)
    elif how == "layer longer than promised":
        with open(blob, "ab") as stream:
            stream.write(b"\0")
    elif how == "manifest changed":
        with open(layout.place(layout.manifest["digest"]), "r+b") as stream:
            stream.write(b"[")
    elif how == "digest leads out":
        layout.layers[0]["digest"] = "sha256:../../../outside/sentinel"
        layout.write()
    elif how == "digest of an unknown kind":
        layout.layers[0]["digest"] = "md5:" + "0" * 32
        layout.write()
    elif how == "size is no number":
        layout.layers[0]["size"] = True
        layout.write()
    elif how == "layer is no tar":
        layout.layers[0]["mediaType"] = "application/octet-stream"
        layout.write()
    elif how == "one layer too many":
        layout.layers.append(layout.layers[0])
        layout.write()
    elif how == "unpacks to something else":
        layout.config = layout.blob(b'{"rootfs": {"diff_ids": ["sha256:%s"]}}' % (b"0" * 64))
        layout.write()
    elif how == "index is no JSON":
        with open("in/index.json", "w") as stream:
            stream.write("{" * 100000)
    elif how == "index is a list":
        with open("in/index.json", "w") as stream:
            stream.write("[]")
    elif how == "index with a number of a million digits":
        with open("in/index.json", "w") as stream:
            stream.write('{"manifests": [' + "9" * 1000000 + "]}")
    elif how == "index nested without end":
        with open("in/index.json", "w") as stream:
            stream.write('{"manifests": ' + "[" * 200000)
    elif how == "index is huge":
        with open("in/index.json", "w") as stream:
            stream.write(" " * (9 << 20))
    elif how == "index is a link":
        os.rename("in/index.json", "in.json")
        os.symlink("../in.json", "in/index.json")
    elif how == "index of itself":
        layout.write([dict(layout.manifest, mediaType="application/vnd.oci.image.index.v1+json")])
    elif how == "no images":
        layout.write([])
    elif how == "another version":
        layout.write(version="2.0.0")
    else:
        raise AssertionError(how)


@pytest.mark.parametrize("how, words", [
    ("layer changed", "another digest"), ("layer missing", "can't be opened"), ("layer is a link", "can't be opened"),
    ("layer is a FIFO", "is not a regular file"), ("layer longer than promised", "size differs"), ("manifest changed", "another digest"),
    ("digest leads out", "a descriptor with the digest"), ("digest of an unknown kind", "a descriptor with the digest"),
    ("size is no number", "a descriptor with the size"), ("layer is no tar", "of the kind"), ("one layer too many", "not those of"),
    ("unpacks to something else", "another digest"), ("index is no JSON", "damaged JSON"), ("index is a list", "no object"),
    ("index with a number of a million digits", "damaged JSON"), ("index nested without end", "damaged JSON"),
    ("index is huge", "of JSON"), ("index is a link", "can't be opened"), ("index of itself", "without a list"),
    ("another version", "version"), ("no images", "holds no image")])
def test_a_damaged_layout_is_refused(place, how, words):
    layout = Layout("in", [archive(file(b"f"))])
    _spoil(layout, how)
    refused("in", words, status=2 if how == "no images" else 1)


@pytest.mark.parametrize("name", [b".wh.", b".wh...", b".wh..", b"d/.wh..wh.aufs", b"../.wh.x", b"/../.wh.x"])
def test_a_whiteout_that_hides_nothing_sensible(place, name):
    Layout("in", [archive(file(b"f")), archive(file(name, b""))])
    refused("in", "whiteout" if b".." not in name.split(b"/") else "name with ..")


def test_absolute_names_of_a_layer_start_at_the_images_top(place):
    Layout("in", [archive(directory(b"/"), file(b"//a/f"), hardlink(b"/h", b"/a/f"), file(b"/gone")), archive(file(b"/.wh.gone", b""))])
    build("in")
    assert tree() == {"a": None, "a/f": b"data", "h": b"data"}


@pytest.mark.parametrize("target", [b"..", b"/etc", b"a/../.."])
def test_a_whiteout_through_a_link_hides_nothing_outside(place, target):
    first = [symlink(b"l", target)] if target == b"/etc" else []
    Layout("in", [archive(file(b"f"), *first), archive(file(b"l/.wh.sentinel", b""), file(b"l/.wh..wh..opq", b""))])
    build("in")
    assert "f" in tree()


@pytest.mark.parametrize("name", ["name with ..", "symlink that climbs", "hard link outside", "gzip bomb in a file", "size of a terabyte",
                                  "cut off in a file", "unknown type", "entries beyond --max-files"])
def test_a_hostile_layer_is_refused_like_a_tar(place, name):
    data, words = HOSTILE[name]
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    Layout("in", [archive(file(b"f")), data])
    refused("in", words)


# Fuzz

def test_a_damaged_archive_never_ends_in_anything_but_a_refusal(place):
    import random
    source = random.Random(20240607)
    good = archive(pax([(b"path", b"long/name"), (b"mtime", b"12.5"), (b"SCHILY.xattr.user.a", b"b")]), file(b"x"),
                   long_name(b"l" * 120), file(b"x", b"y" * 700), directory(b"d"), symlink(b"d/s", b"../x"), hardlink(b"h", b"long/name"),
                   header(b"n", b"3"))
    outcomes = {True: 0, False: 0}
    for number in range(400):
        data = bytearray(good)
        for _ in range(source.choice((1, 2, 8))):
            data[source.randrange(len(data))] = source.randrange(256)
        if number % 2:  # as if the attacker had computed it: else nearly all end at the checksum
            for start in range(0, len(data) - 511, 512):
                if data[start + 257:start + 262] == b"ustar":
                    total = sum(data[start:start + 148]) + 256 + sum(data[start + 156:start + 512])
                    data[start + 148:start + 156] = b"%06o\0 " % total
        put(bytes(data), "in.tar")
        try:
            build("in.tar", name="out")
            outcomes[True] += 1
            holder = os.open(".", os.O_RDONLY)
            remove(holder, b"out")
            os.close(holder)
        except SandboxError as error:
            assert error.status == 1, error.line()
            outcomes[False] += 1
        assert sorted(os.listdir(".")) == ["in.tar", "sentinel"]
    assert min(outcomes.values()) > 20, outcomes


# The command line

@pytest.mark.parametrize("words, message", [
    ([], "rootfs: build needs a name"), (["out"], "rootfs: build needs a source"), (["out", "--from"], "needs a value"), (["out", "--from", "missing"], "No such file"),
    (["out", "--from", "in.tar", "--max-size", "0"], "must be more than 0"), (["out", "--from", "in.tar", "--max-files", "x"], "whole number"),
    (["out", "--from", "/dev/null"], "is a character device"), (["out", "--from-host", ","], "names no package"),
    (["out", "--from-host", "no-such-program-here"], "no package or program"), (["--json", "x", "y", "z"], "takes one directory"),
])
def test_mistakes_are_usage_errors(place, words, message):
    put(archive(file(b"f")))
    done = subprocess.run([PYTHON, os.path.join(ROOT, "mrunc.py"), "rootfs", "build", *words], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True)
    assert done.returncode == 2 and message in done.stderr, done
    assert not os.path.exists("out")


def test_several_sources_may_follow_one_from_and_the_epoch_comes_from_the_environment(place):
    put(archive(file(b"a")), "in1.tar")
    put(archive(file(b"b")), "in2.tar")
    done = subprocess.run([PYTHON, os.path.join(ROOT, "mrunc.py"), "rootfs", "build", "out", "--from", "in1.tar", "in2.tar", "-q"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
                          env=dict(os.environ, SOURCE_DATE_EPOCH="77"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "") and sorted(tree()) == ["a", "b"]
    assert os.stat("out/a").st_mtime == os.stat("out").st_mtime == 77
    done = subprocess.run([PYTHON, os.path.join(ROOT, "mrunc.py"), "rootfs", "build", "out9", "--from", "in1.tar"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ, SOURCE_DATE_EPOCH="now"))
    assert done.returncode == 2


def test_progress_is_shown_on_a_terminal_only(place):
    import pty
    put(archive(*[file(b"%d" % n) for n in range(50)]))
    for options, expected in (([], True), (["-q"], False)):
        name = "out%d" % len(options)
        master, slave = pty.openpty()
        process = subprocess.Popen([PYTHON, os.path.join(ROOT, "mrunc.py"), "rootfs", "build", name, "--from", "in.tar", *options],
                                   stdout=subprocess.PIPE, stderr=slave, env=dict(os.environ, TERM="xterm", NO_COLOR="1"))
        os.close(slave)
        process.communicate(timeout=60)
        data = b""
        while True:
            try:
                more = os.read(master, 65536)
            except OSError:
                break
            data += more
            if not more:
                break
        os.close(master)
        assert (b"\rmrunc: " in data) == expected and b"\x1b" not in data, data
        assert process.returncode == 0


def test_the_reader_needs_no_more_than_it_is_given():
    """What is not read of a file is passed over; the next entry comes all the same."""
    class Plain:
        def __init__(self, data):
            self.data = data

        def read(self, size):
            out, self.data = self.data[:size], self.data[size:]
            return out

        def skip(self, size):
            return len(self.read(size))
    found = [entry.name for entry in tar.entries(Plain(archive(file(b"a", b"x" * 5000), file(b"b"))), "x")]
    assert found == [b"a", b"b"]
    assert record(b"path", b"x") == b"9 path=x\n" and len(padded(b"x")) == 512


def test_two_spellings_of_one_name_are_refused(tmp_path):
    """A file system that does not tell upper from lower case has a file that the tree lacks."""
    from mrunc.commands.rootfs import extract
    from mrunc.commands.rootfs.entries import Entry
    fd = os.open(str(tmp_path), os.O_RDONLY)
    try:
        for kind, content in (("file", b"x"), ("directory", b""), ("symlink", b"")):
            (tmp_path / kind).write_text("another spelling")
            writer = extract.Writer(fd, 1 << 20, 100)
            target = b"t" if kind == "symlink" else None
            with pytest.raises(SandboxError) as caught:
                writer.take([Entry(kind, kind.encode(), 0o755, len(content), 0, target,
                                   lambda size, content=content: content)])
            writer.close()
            assert "another spelling" in caught.value.line()
            assert (tmp_path / kind).read_text() == "another spelling"
    finally:
        os.close(fd)
