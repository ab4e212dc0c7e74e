# SPDX-License-Identifier: Apache-2.0
"""`mrunc rootfs check`: finds what should not be in a tree, and is not led out of it by one."""
import json
import os
import random
import shutil
import socket
import stat
import struct
import subprocess

import pytest

import mrunc  # noqa: F401  (makes the package)
from conftest import PYTHON, ROOT, become
from outer_filter import hidden
from mrunc.commands.rootfs import check, elf
from mrunc.sandbox.errors import SandboxError
from mrunc.syscalls import mount

LOADER = b"/lib64/ld-made-up.so.2"


@pytest.fixture(params=["openat2", "walking"])
def tree(request, tmp_path, monkeypatch):
    if request.param == "walking":
        monkeypatch.setattr(mount, "_openat2", hidden)
    (tmp_path / "tree" / "bin").mkdir(parents=True)
    (tmp_path / "outside").write_text("#!/bin/sh\n")
    (tmp_path / "outside").chmod(0o755)
    return tmp_path / "tree"


def found(tree):
    return [(kind, os.fsdecode(path)) for kind, path, _ in check.check(os.fsencode(str(tree)))[0]]


def program(path, content, mode=0o755):
    path.write_bytes(content)
    path.chmod(mode)


def made_up_elf(interpreter=LOADER, needed=(b"libc.so.6",), bits=64, order="<", runpath=b"$ORIGIN/../lib"):
    """A small ELF file: header, three program headers, and what they point at.  Addresses are offsets plus 0x10000."""
    wide = bits == 64
    header, row, dynamic = (64, 56, 16) if wide else (52, 32, 8)
    strings, places = b"\0", []
    for name in list(needed) + [runpath]:
        places.append(len(strings))
        strings += name + b"\0"
    at_interpreter = header + 3 * row
    at_strings = at_interpreter + len(interpreter) + 1
    at_dynamic = at_strings + len(strings)
    entries = [(1, place) for place in places[:-1]] + [(29, places[-1]), (5, 0x10000 + at_strings), (10, len(strings)), (0, 0)]
    table = b"".join(struct.pack(order + ("QQ" if wide else "II"), *entry) for entry in entries)
    size = at_dynamic + len(table)

    def segment(kind, place, length):
        if wide:
            return struct.pack(order + "IIQQQQQQ", kind, 4, place, 0x10000 + place, 0, length, length, 1)
        return struct.pack(order + "IIIIIIII", kind, place, 0x10000 + place, 0, length, length, 4, 1)
    machine = (62 if order == "<" else 21) if wide else 3
    head = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + b"\0" * 9
    head += struct.pack(order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"), 3, machine, 1, 0, header, 0, 0, header, row, 3, 0, 0, 0)
    return head + segment(3, at_interpreter, len(interpreter) + 1) + segment(2, at_dynamic, len(table)) + segment(1, 0, size) + \
        interpreter + b"\0" + strings + table


def test_a_clean_tree_has_no_findings(tree):
    program(tree / "bin" / "sh", made_up_elf(LOADER))
    (tree / "lib64").symlink_to("usr/lib64")
    (tree / "usr" / "lib64").mkdir(parents=True)
    (tree / "usr" / "lib64" / "real").write_text("")
    (tree / "usr" / "lib64" / "ld-made-up.so.2").symlink_to("/lib64/../lib64/real")
    program(tree / "bin" / "script", b"#!/bin/sh -e\n")
    program(tree / "bin" / "env", b"")
    program(tree / "bin" / "other", b"#! /bin/env sh\n")
    (tree / "tmp").mkdir()
    (tree / "tmp").chmod(0o1777)
    (tree / "bin" / "up").symlink_to("../usr/../bin/../tmp")
    (tree / "bin" / "absolute").symlink_to("/nowhere")
    assert found(tree) == []


def test_each_kind_of_finding(tree):
    program(tree / "suid", b"x", 0o4755)
    program(tree / "sgid", b"x", 0o2755)
    program(tree / "open", b"x", 0o666)
    (tree / "opendir").mkdir()
    (tree / "opendir").chmod(0o777)
    program(tree / "foreign", made_up_elf(b"/lib/ld-musl-x86_64.so.1"))
    program(tree / "relative", made_up_elf(b"lib/ld.so"))
    program(tree / "script", b"#!/usr/bin/perl -w\n")
    program(tree / "nothing", b"#!  \n")
    program(tree / "bin" / "env", b"")
    program(tree / "byenv", b"#!/bin/env python4\n")
    (tree / "out").symlink_to("bin/../../outside")
    os.mkfifo(str(tree / "fifo"))
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(str(tree))
        listener.bind("socket")
        os.chdir("/")
    expected = [("interpreter", "byenv"), ("channel", "fifo"), ("loader", "foreign"), ("interpreter", "nothing"), ("world-writable", "open"),
                ("world-writable", "opendir"), ("leads-out", "out"), ("loader", "relative"), ("interpreter", "script"),
                ("set-gid", "sgid"), ("channel", "socket"), ("set-uid", "suid")]
    if os.geteuid() == 0:
        os.mknod(str(tree / "null"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
        program(tree / "ping", b"x")
        os.setxattr(str(tree / "ping"), "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0))
        expected += [("device", "null"), ("capability", "ping")]
    assert found(tree) == sorted(expected, key=lambda row: row[1])
    assert {kind for kind, _ in expected} | {"unreadable"} >= set(check.KINDS) - {"device", "capability"}


def test_links_are_followed_inside_only(tree, tmp_path):
    """A file outside never counts as what the tree lacks."""
    (tree / "up").symlink_to("../../..")
    (tree / "loop").symlink_to("loop")
    (tree / "abs").symlink_to(str(tmp_path))
    program(tree / "a", b"#!/up/%s/outside\n" % os.fsencode(str(tmp_path)))
    program(tree / "b", b"#!/loop\n")
    program(tree / "c", b"#!/abs/outside\n")
    program(tree / "d", b"#!%s/outside\n" % os.fsencode(str(tmp_path)))
    program(tree / "e", b"#!/../../../../../../../bin/sh\n")
    program(tree / "f", b"#!/bin\n")
    assert found(tree) == [("interpreter", name) for name in "abcdef"] + [("leads-out", "up")]


def test_a_directory_that_is_swapped_for_a_link_is_not_entered(tree, tmp_path, monkeypatch):
    (tree / "d").mkdir()
    (tmp_path / "secret").mkdir()
    program(tmp_path / "secret" / "s", b"x", 0o4755)
    real = check._Tree._directory

    def swap(self, fd, place):
        if place == b"" and (tree / "d").is_dir() and not (tree / "d").is_symlink():
            (tree / "d").rmdir()
            (tree / "d").symlink_to(str(tmp_path / "secret"))
        return real(self, fd, place)
    monkeypatch.setattr(check._Tree, "_directory", swap)
    assert found(tree) == []


def test_what_cannot_be_looked_at_is_a_finding(tree):
    (tree / "closed").mkdir()
    (tree / "closed").chmod(0)
    program(tree / "f", b"x", 0o111)
    tree.parent.chmod(0o755)
    folder = tree.parent
    while str(folder) != "/" and folder.stat().st_uid == os.geteuid():
        folder.chmod(folder.stat().st_mode | 0o755)
        folder = folder.parent
    done = subprocess.run([PYTHON, "-c", "import sys; sys.path.insert(0, %r); import mrunc\nfrom mrunc.commands.rootfs import check as rootfs_check\n"
                           "print(rootfs_check.check(%r)[0])" % (ROOT, os.fsencode(str(tree)))], stdout=subprocess.PIPE,
                          universal_newlines=True, preexec_fn=become("user"))
    assert [row[:2] for row in eval(done.stdout)] == [("unreadable", b"closed"), ("unreadable", b"f")]


def test_the_command(tmp_path):
    tree = tmp_path / "t"
    tree.mkdir()

    def command(*words):
        return subprocess.run([PYTHON, os.path.join(ROOT, "mrunc.py"), "rootfs", "check", *words], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
    done = command(str(tree))
    assert (done.returncode, done.stdout) == (0, b"") and b"0 entries, 0 findings" in done.stderr
    program(tree / "a\x1b[31m\n", b"x", 0o4755)
    done = command(str(tree), "-q")
    assert (done.returncode, done.stdout, done.stderr) == (1, b"set-uid         a\\x1b[31m\\n  (4755)\n", b"")
    done = command("--json", str(tree))
    assert done.returncode == 1 and json.loads(done.stdout.decode()) == {
        "schema": 1, "entries": 1, "findings": [{"kind": "set-uid", "path": "a\x1b[31m\n", "detail": "4755"}]}
    for wrong in (str(tmp_path / "missing"), "/etc/passwd"):
        assert command(wrong).returncode == 2
    with pytest.raises(SandboxError):
        check.check(b"/etc/passwd")


# The ELF reader

def read(tmp_path, data):
    path = tmp_path / "elf"
    path.write_bytes(data)
    fd = os.open(str(path), os.O_RDONLY)
    try:
        return elf.Elf(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("bits, order", [(64, "<"), (64, ">"), (32, "<"), (32, ">")])
def test_what_an_elf_file_needs(tmp_path, bits, order):
    made = read(tmp_path, made_up_elf(bits=bits, order=order, needed=(b"a.so", b"b.so"), runpath=b"/x:$ORIGIN"))
    assert (made.bits, made.big, made.interpreter, made.needed, made.runpath, made.rpath) == \
        (bits, order == ">", LOADER, [b"a.so", b"b.so"], [b"/x", b"$ORIGIN"], [])


def test_the_hosts_own_programs_agree_with_readelf(tmp_path):
    assert shutil.which("readelf"), "apt-get install binutils (as root, .ci/test does it)"
    checked = 0
    for name in ("sh", "ls", "git", "python3", "tar", "xz"):
        path = os.path.realpath(shutil.which(name, path="/usr/bin:/bin"))
        out = subprocess.run(["readelf", "-ld", "-W", path], stdout=subprocess.PIPE, universal_newlines=True).stdout
        fd = os.open(path, os.O_RDONLY)
        made = elf.Elf(fd)
        os.close(fd)
        needed = [line.split("[")[1].split("]")[0] for line in out.split("\n") if "(NEEDED)" in line]
        assert [os.fsdecode(item) for item in made.needed] == needed and "interpreter: %s]" % os.fsdecode(made.interpreter) in out
        checked += len(needed)
    assert checked > 5


def test_hostile_headers_are_bounded(tmp_path):
    good = made_up_elf()
    for data in (b"", b"\x7fELF", good[:63], good[:80], good[:5] + b"\7" + good[6:], good[:4] + b"\0" + good[5:],
                 good[:54] + struct.pack("<HH", 56, 65535) + good[58:], good[:54] + struct.pack("<HH", 1, 3) + good[58:],
                 good[:32] + struct.pack("<Q", (1 << 64) - 8) + good[40:], good[:32] + struct.pack("<Q", 1 << 40) + good[40:]):
        with pytest.raises(elf.NotElf):
            read(tmp_path, data)
    many = made_up_elf(needed=[b"x"] * 1100)
    with pytest.raises(elf.NotElf):
        read(tmp_path, many)
    assert len(read(tmp_path, made_up_elf(interpreter=b"/" + b"x" * 9000)).interpreter) == elf.LONGEST_PATH


@pytest.mark.parametrize("bits", [32, 64])
def test_damaged_elf_files_never_end_in_anything_but_a_refusal(tmp_path, bits):
    source, good, outcomes = random.Random(7), made_up_elf(bits=bits), [0, 0]
    for _ in range(3000):
        data = bytearray(good[:source.choice((len(good), source.randrange(len(good))))])
        for _ in range(source.choice((1, 2, 4))):
            if data:
                data[source.randrange(min(len(data), 240))] = source.choice((0, 1, 0x7f, 0x80, 0xff, source.randrange(256)))
        try:
            read(tmp_path, bytes(data))
            outcomes[0] += 1
        except elf.NotElf:
            outcomes[1] += 1
    assert min(outcomes) > 100, outcomes


@pytest.mark.parametrize("head, words", [
    (b"#!/bin/sh\n", [b"/bin/sh"]), (b"#! /bin/sh -e x \nmore", [b"/bin/sh", b"-e x"]), (b"#!\t/a\tb", [b"/a", b"b"]), (b"#!", []),
    (b"#!\n", []), (b"", []), (b"x#!/bin/sh", []), (b"#!/a\0b", [b"/a"]), (b"#!" + b"x" * 400, [b"x" * 254])])
def test_shebang_lines_are_read_as_the_kernel_does(head, words):
    assert elf.shebang(head) == words
