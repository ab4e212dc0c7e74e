# SPDX-License-Identifier: Apache-2.0
"""The one reader of small files and of mountinfo."""
import errno
import os

import pytest

import mrunc  # noqa: F401  registers the package
from mrunc.sandbox import proc

ROWS = (b"23 1 8:1 / / rw,nosuid shared:1 master:2 - ext4 /dev/a rw,errors=remount-ro\n"
        b"24 23 0:2 /a\\040b /c\\134d\\011e\\012f ro - tmpfs no\\043ne rw,size=4k,x=\\040\n")


@pytest.mark.parametrize("size", [0, 1, proc.PIECE - 1, proc.PIECE, proc.PIECE + 1, 5 * proc.PIECE])
def test_a_file_is_read_to_its_end(tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    assert proc.read(str(path)) == path.read_bytes() == proc.read(os.fsencode(str(path)))
    assert proc.read(str(path), first=10) == path.read_bytes()[:10]


def test_a_relative_path_starts_from_a_directory(tmp_path):
    (tmp_path / "file").write_bytes(b"here")
    fd = os.open(str(tmp_path), os.O_PATH)
    try:
        assert proc.read("file", fd) == b"here"
    finally:
        os.close(fd)


def test_a_file_that_does_not_end_is_an_error(monkeypatch):
    monkeypatch.setattr(proc, "MOST", 1 << 20)
    with pytest.raises(OSError) as caught:
        proc.read("/dev/zero")
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, "/dev/zero")


@pytest.mark.parametrize("path, number", [("/nonexistent", errno.ENOENT), ("/proc", errno.EISDIR)])
def test_errors_are_the_kernels_and_no_descriptor_stays(path, number):
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError) as caught:
        proc.read(path)
    assert caught.value.errno == number and os.listdir("/proc/self/fd") == before


def test_text_keeps_what_is_not_text(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"a\xff\n")
    assert os.fsencode(proc.text(str(path))) == b"a\xff\n"


def test_a_row_of_mountinfo_has_its_parts_without_escapes(tmp_path):
    path = tmp_path / "mountinfo"
    path.write_bytes(ROWS)
    first, second = proc.mounts(str(path))[:2]
    assert (first.number, first.parent, first.device, first.root, first.point) == \
        (23, 1, b"8:1", b"/", b"/")
    assert (first.options, first.fields) == ([b"rw", b"nosuid"], [b"shared:1", b"master:2"])
    assert (first.kind, first.source) == (b"ext4", b"/dev/a")
    assert first.super_options == [b"rw", b"errors=remount-ro"]
    assert (second.root, second.point, second.fields) == (b"/a b", b"/c\\d\te\nf", [])
    assert (second.source, second.super_options) == (b"no#ne", [b"rw", b"size=4k", b"x= "])


@pytest.mark.parametrize("line", [b"x", b"1 2 3 4 5 6 7", b"a b 0:1 / / rw - ext4 none rw",
                                  b"1 2 0:1 / / rw -"])
def test_what_is_no_row_is_an_error(line):
    with pytest.raises((ValueError, IndexError)):
        proc.parse(line)


def test_the_own_mounts_are_those_of_the_kernel():
    found = proc.mounts()
    with open(proc.MOUNTS, "rb") as stream:
        assert len(found) == len(stream.readlines()) > 0
    assert b"/proc" in [row.point for row in found]


@pytest.mark.parametrize("word, plain", [(b"", b""), (b"/a", b"/a"), (b"\\040", b" "),
                                         (b"a\\134040", b"a\\040"), (b"\\303\\251", b"\xc3\xa9")])
def test_octal_escapes_are_undone_once(word, plain):
    assert proc.unescape(word) == plain
