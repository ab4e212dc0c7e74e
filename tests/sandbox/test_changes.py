# SPDX-License-Identifier: Apache-2.0
"""What the program changed: the report equals an independent look from inside, before and after; and what is brought out cannot
harm the host, whatever the program made of it."""
import hashlib
import json
import os
import random
import signal
import stat
import subprocess
import tarfile
import types

import pytest

import mrunc  # noqa: F401 (makes the package)
from conftest import PYTHON
from mrunc.sandbox.changes import aftermath, compare, contents
from mrunc.sandbox.launch import provisions
from mrunc.sandbox.result import result
from mrunc.sandbox.plan.spec import Spec

#: Prints one line of JSON per path of what can be written: path, kind, mode, size, sha256 or target.  Nothing of mrunc's.
LOOK = r"""
import hashlib, json, os, stat, sys
sys.setrecursionlimit(10000)
KINDS = {stat.S_IFREG: 'file', stat.S_IFDIR: 'directory', stat.S_IFLNK: 'symlink', stat.S_IFIFO: 'FIFO', stat.S_IFSOCK: 'socket'}
def look(path):
    found = os.lstat(path)
    kind = KINDS[stat.S_IFMT(found.st_mode)]
    row = [path, kind, '%04o' % stat.S_IMODE(found.st_mode)]
    if kind == 'file':
        mode = stat.S_IMODE(found.st_mode)
        os.chmod(path, mode | 0o400)
        if found.st_size < 1 << 30:
            row += [found.st_size, hashlib.sha256(open(path, 'rb').read()).hexdigest()]
        else:
            row += [found.st_size, None]
        os.chmod(path, mode)
    elif kind == 'symlink':
        row += [os.readlink(path)]
    print(json.dumps(row))
    if kind == 'directory':
        mode = stat.S_IMODE(found.st_mode)
        os.chmod(path, mode | 0o700)
        for name in os.listdir(path):
            look(path + '/' + name)
        os.chmod(path, mode)
def look_at_all():
    for place in PLACES:
        look(place)
    print('---', flush=True)
"""
PLACES = ["/tmp", "/box", "/root", "/dev/shm"]


def parse(text):
    return dict((row[0], row[1:]) for row in map(json.loads, text.splitlines()))


def expected(before, after):
    """{path: change} by comparing two looks."""
    out = {}
    for path in set(before) | set(after):
        if path not in before:
            out[path] = "added"
        elif path not in after:
            out[path] = "deleted"
        elif before[path] != after[path] or after[path][0] == "file" and after[path][3] is None:
            out[path] = "modified"
    return out


def changes_of(inside, deed, options=(), places=PLACES, **settings):
    """Runs Python code inside between two looks; returns (the report's changes by path, the looks)."""
    code = "PLACES = %r\n%s\nlook_at_all()\n%s\nlook_at_all()\n" % (places, LOOK, deed)
    path = os.path.join(inside.scratch, "changes.json")
    done = inside.python(code, options=["--changes", path, *options], **settings)
    assert done.rc == 0, done
    before, after, rest = done.out.split("---\n")
    with open(path) as stream:
        told = json.load(stream)
    assert told["changes"] == done.result["changes"]
    return dict((row["path"], row) for row in told["changes"]), parse(before), parse(after), told["notes"]


def check(inside, deed, options=(), places=PLACES, **settings):
    rows, before, after, notes = changes_of(inside, deed, options, places, **settings)
    assert dict((path, row["change"]) for path, row in rows.items()) == expected(before, after)
    for path, row in rows.items():
        seen = before[path] if row["change"] == "deleted" else after[path]
        told = [row["kind"], row["mode"]]
        if row["kind"] == "file":
            told += [row["size"], row["sha256"]]
        elif row["kind"] == "symlink":
            told += [row["target"]]
        assert told == seen, path
        if row["change"] == "modified":
            assert (row["was"]["kind"], row["was"]["mode"]) == tuple(before[path][:2])
    assert notes == []
    return rows


def test_nothing_changed_is_an_empty_list(inside):
    assert check(inside, "pass") == {}


def test_without_the_option_nobody_looked(inside):
    assert inside.run("/bin/true").result["changes"] is None


DEEDS = {
    "files": "open('/box/a', 'w').write('x'); open('/tmp/b', 'w'); open('/root/c', 'w').write('y'); open('/dev/shm/d', 'w')",
    "a directory for a file and back": "os.mkdir('/box/d'); os.rmdir('/box/d'); open('/box/d', 'w').write('x');"
                                       "open('/box/e', 'w'); os.unlink('/box/e'); os.makedirs('/box/e/f')",
    "a copy replaced by a directory": "os.unlink('/box/true'); os.mkdir('/box/true'); open('/box/true/x', 'w')",
    "a copy deleted": "os.unlink('/box/true')",
    "a copy changed in its bytes": "f = open('/box/true', 'r+b'); f.seek(100); f.write(b'Z'); f.close()",
    "a copy changed by mmap": "import mmap\nf = open('/box/true', 'r+b'); m = mmap.mmap(f.fileno(), 0); m[100] = m[100] ^ 1; m.close()",
    "a copy replaced by the same": "d = open('/box/true', 'rb').read(); os.unlink('/box/true'); open('/box/true', 'wb').write(d);"
                                   "os.chmod('/box/true', 0o755)",
    "a copy's mode only": "os.chmod('/box/true', 0o4711)",
    "a copy renamed": "os.rename('/box/true', '/box/other')",
    "the place's own mode": "os.chmod('/tmp', 0o700)",
    "symlinks": "os.symlink('/etc/passwd', '/box/a'); os.symlink('nowhere', '/box/b'); os.symlink('/', '/tmp/root')",
    "hard links": "os.link('/box/true', '/box/again'); open('/box/x', 'w').write('z'); os.link('/box/x', '/box/y')",
    "newlines and bytes": r"open(b'/box/a\nb', 'w'); open(b'/box/\xff\xfe', 'w'); os.mkdir('/box/\x1b[31m'); open('/box/\u00e9', 'w')",
    "FIFOs and sockets": "import socket\nos.mkfifo('/box/p'); s = socket.socket(socket.AF_UNIX); s.bind('/tmp/s')",
    "a terabyte of nothing": "os.truncate(os.open('/box/big', os.O_CREAT | os.O_RDWR), 1 << 40)",
    "a sparse file": "f = open('/box/s', 'wb'); f.seek(50 << 20); f.write(b'end'); f.close()",
    "no permission for anybody": "os.makedirs('/box/a/b'); open('/box/a/b/c', 'w').write('hidden'); os.chmod('/box/a/b/c', 0);"
                                 "os.chmod('/box/a/b', 0); os.chmod('/box/a', 0)",
    "a place closed to everybody": "open('/box/x', 'w').write('hidden'); open('/tmp/y', 'w'); os.chmod('/box', 0); os.chmod('/tmp', 0)",
    "deep": "os.chdir('/box')\nfor i in range(300):\n    os.mkdir('d'); os.chdir('d')\nopen('bottom', 'w').write('x')\nos.chdir('/')",
    "ten thousand files": "os.mkdir('/box/m')\nfor i in range(10000):\n    open('/box/m/%d' % i, 'w').write(str(i))",
}


@pytest.mark.parametrize("name", sorted(DEEDS))
def test_the_report_is_what_an_independent_look_sees(inside, name):
    check(inside, DEEDS[name], options=["--copy", "/usr/bin/true"])


@pytest.mark.parametrize("seed", range(6))
def test_random_deeds_are_seen(inside, seed):
    """A program of 300 random steps; the same look decides."""
    chance = random.Random(seed)
    deed = "import random\nchance = random.Random(%d)\n" % chance.randrange(1 << 30) + r"""
import shutil
paths = ['/box/true']
for step in range(300):
    folder = chance.choice(['/box', '/tmp', '/root', '/dev/shm'] + [p for p in paths if os.path.isdir(p) and not os.path.islink(p)])
    new = folder + '/n%d' % step
    old = chance.choice(paths)
    try:
        word = chance.choice(['file', 'dir', 'link', 'hard', 'rename', 'chmod', 'unlink', 'rmtree', 'append', 'fifo'])
        if word == 'file': open(new, 'w').write('x' * chance.randrange(5000))
        elif word == 'dir': os.mkdir(new)
        elif word == 'link': os.symlink(old, new)
        elif word == 'hard': os.link(old, new)
        elif word == 'rename': os.rename(old, new)
        elif word == 'chmod' and os.path.isfile(old): os.chmod(old, chance.choice([0o600, 0o755, 0o7777, 0]), follow_symlinks=True)
        elif word == 'unlink': os.unlink(old)
        elif word == 'rmtree': shutil.rmtree(old)
        elif word == 'append': os.write(os.open(old, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK), b'more')
        elif word == 'fifo': os.mkfifo(new)
        paths.append(new)
    except OSError:
        pass
"""
    check(inside, deed, options=["--copy", "/usr/bin/true"])


def test_what_a_killed_program_left_is_seen(inside):
    path = os.path.join(inside.scratch, "c.json")
    done = inside.run("sh", "-c", "echo x > f; exec sleep 60", options=["--timeout", "0.5", "--changes", path])
    assert done.rc == 124 and [row["path"] for row in done.result["changes"]] == ["/box/f"]


def test_kinds_by_their_first_bytes(inside):
    deed = r"""
import gzip, shutil, tarfile, zipfile
shutil.copy('/usr/bin/true', '/box/elf')
open('/box/script', 'w').write('#!/bin/sh\n')
open('/box/text', 'w').write('caf\u00e9\n' * 2000)
open('/box/data', 'wb').write(bytes(range(256)))
open('/box/empty', 'w')
gzip.open('/box/gz', 'wb').write(b'x')
tarfile.open('/box/tar', 'w').add('/box/elf')
zipfile.ZipFile('/box/zip', 'w').writestr('a', 'b')
open('/box/half', 'wb').write(b'a' * 4095 + '\u00e9'.encode())
"""
    rows = changes_of(inside, deed)[0]
    kinds = {"elf": "ELF", "script": "script", "text": "text", "data": "data", "empty": "empty", "gz": "archive",
             "tar": "archive", "zip": "archive", "half": "text"}
    assert {name: rows["/box/" + name]["magic"] for name in kinds} == kinds


def test_an_attempt_at_set_id_is_marked(inside):
    rows = changes_of(inside, "open('/box/a', 'w'); os.chmod('/box/a', 0o4755); open('/box/b', 'w')")[0]
    assert rows["/box/a"]["set_id"] is True and rows["/box/a"]["mode"] == "4755" and "set_id" not in rows["/box/b"]


def test_verbose_sums_it_up(inside):
    done = inside.run("sh", "-c", "echo > $(printf 'a\\nb')", options=["-v", "--changes", os.path.join(inside.scratch, "c")])
    assert "mrunc: changed: 1 added\n" in done.err and "  added    file      /box/a\\nb\n" in done.err


def test_user_places_and_hardened_ones(inside):
    rows = check(inside, "open('/data/x', 'w')", options=["--tmpfs", "/data", "--tmpfs", "/box/sub"], places=PLACES + ["/data"])
    assert list(rows) == ["/data/x"]
    rows = check(inside, "open('/data/x', 'w')", options=["--harden", "--writable", "/data"], places=["/data"])
    assert list(rows) == ["/data/x"]


def test_a_place_in_a_place_is_told_once(inside):
    rows = check(inside, "open('/box/sub/x', 'w'); open('/box/y', 'w')", options=["--tmpfs", "/box/sub"])
    assert sorted(rows) == ["/box/sub/x", "/box/y"]


def test_what_takes_the_place_of_a_moved_mount_is_seen(inside):
    """Renaming the directory above a mount moves the mount; at its old path lies then whatever the program puts there."""
    path = os.path.join(inside.scratch, "c.json")
    done = inside.run("sh", "-c", "mv a c; mkdir -p a/b; echo evil > a/b/x; echo mount > c/b/y; mkdir d; echo ino > d/z",
                      options=["--tmpfs", "/box/a/b", "--tmpfs", "/box/d", "--changes", path])
    assert done.rc == 0, done
    told = {row["path"]: row["change"] for row in done.result["changes"]}
    assert told == dict.fromkeys(["/box/a/b", "/box/a/b/x", "/box/a/b/y", "/box/c", "/box/c/b", "/box/d/z"], "added"), told
    assert [note for note in done.result["notes"] if "moved" in note] == [
        "/box/a/b: a directory above this mount was moved; what is listed below may lie elsewhere"]


def test_names_are_told_whatever_the_callers_locale_is(inside):
    """The locale of the caller is no UTF-8, the program's names are."""
    report, target = [os.path.join(inside.scratch, name) for name in ("r.json", "out")]
    done = inside.outside([PYTHON, "-X", "utf8=0", *inside.command(
        "sh", "-c", "echo x > caf\u00e9; echo y > $(printf '\\377')", options=["--report", report, "--export", target])[1:]],
        env=dict(os.environ, LC_ALL="C"))
    assert done.returncode == 0, done
    with open(report) as stream:
        rows = json.load(stream)["changes"]
    assert sorted(row["path"] for row in rows) == ["/box/caf\u00e9", "/box/\udcff"]
    assert files_below(target) == {"box/caf\u00e9", "box/\udcff"}


# -- what is too much --------------------------------------------------------------------------------------------------


def test_nested_long_names_do_not_grow_with_the_square(inside):
    """8,000 directories in each other with long names: their paths would be some 8 GB."""
    deed = ("name = 'n' * 255\nos.chdir('/box')\nfor i in range(8000):\n    os.mkdir(name); os.chdir(name)\nos.chdir('/')\n")
    path = os.path.join(inside.scratch, "c.json")
    done = inside.python("import os\n" + deed, options=["--changes", path])
    assert done.rc == 0
    rows = done.result["changes"]
    assert 10 < len(rows) < 20 and all(len(row["path"]) < 4200 for row in rows)
    assert any("%d entries with too long a path" % (8000 - len(rows)) in note for note in done.result["notes"]), done.result["notes"]


def test_a_file_is_read_once_however_many_names_it_has(tmp_path, monkeypatch):
    """Hard links cost nothing inside: with 100,000 names of one GiB the reading would take days."""
    (tmp_path / "a").write_bytes(b"content")
    for number in range(50):
        os.link(str(tmp_path / "a"), str(tmp_path / str(number)))
    (tmp_path / "other").write_bytes(b"another")
    read, real = [], contents.digest
    monkeypatch.setattr(contents, "digest", lambda *words: read.append(1) or real(*words))
    place = compare.Place(b"/p", os.open(str(tmp_path), os.O_RDONLY), [])
    rows = {row["path"]: row for row in compare.Changes([place]).compare()}
    os.close(place.fd)
    assert len(rows) == 53 and len(read) == 2
    digests = {rows["/p/a"]["sha256"]} | {rows["/p/%d" % number]["sha256"] for number in range(50)}
    assert digests == {hashlib.sha256(b"content").hexdigest()} and rows["/p/7"]["magic"] == "text"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_an_interrupt_ends_the_reading_and_not_the_result(tmp_path, number):
    """Reading what a program left may take long: whoever has enough of it still gets what is known, and no draft stays."""
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "f").write_text("x")
    spec = Spec(["true"], changes=True, export=str(tmp_path / "out.tar"))
    plan = types.SimpleNamespace(spec=spec, operations=[])
    run, after = types.SimpleNamespace(plan=plan, held=provisions.Held()), aftermath.Aftermath()
    before = signal.getsignal(number)
    after.prepare(run)
    after.held = compare.Changes([compare.Place(b"/p", os.open(str(tmp_path / "place"), os.O_RDONLY), [])])
    after.over(run)
    os.kill(os.getpid(), number)
    told = result.Result()
    after.finish(run, told, types.SimpleNamespace(exec_errno=None))
    assert told.changes == [] and told.notes == ["interrupted: not everything that the program changed is listed"]
    assert signal.getsignal(number) == before and sorted(os.listdir(str(tmp_path))) == ["out.tar", "place"]


# -- what is brought out -----------------------------------------------------------------------------------------------

MESS = r"""
import os, socket, shutil
shutil.copy('/usr/bin/true', '/box/tool'); os.chmod('/box/tool', 0o6755)
os.symlink('/etc', '/box/etc'); os.symlink('/etc/passwd', '/tmp/passwd')
os.mkfifo('/box/pipe'); socket.socket(socket.AF_UNIX).bind('/box/sock')
os.truncate(os.open('/box/tera', os.O_CREAT | os.O_RDWR), 1 << 40)
open(b'/tmp/line\nbreak\x1b[2J\xff', 'w').write('odd')
os.makedirs('/box/deep/er'); open('/box/deep/er/f', 'w').write('inner'); os.chmod('/box/deep', 0)
f = open('/box/holes', 'wb'); f.write(b'start'); f.seek(10 << 20); f.write(b'end'); f.close()
os.unlink('/box/true')
"""
OUT = {"box/tool", "box/holes", "box/deep/er/f", os.fsdecode(b"tmp/line\nbreak\x1b[2J\xff")}


def files_below(folder):
    return {os.path.relpath(os.path.join(place, name), folder) for place, _, names in os.walk(folder) for name in names}


def test_regular_files_are_brought_out_and_nothing_else(inside):
    target = os.path.join(inside.scratch, "out")
    done = inside.python(MESS, options=["--export", target, "--copy", "/usr/bin/true", "--copy", "/usr/bin/id"])
    assert done.rc == 0, done
    assert files_below(target) == OUT
    with open("/usr/bin/true", "rb") as one, open(target + "/box/tool", "rb") as two:
        assert one.read() == two.read()
    with open(target + "/box/holes", "rb") as stream:
        data = stream.read()
    assert data == b"start" + bytes((10 << 20) - 5) + b"end" and os.stat(target + "/box/holes").st_blocks < 1000
    for place, folders, names in os.walk(target):
        for name in folders + names:
            mode = os.lstat(os.path.join(place, name)).st_mode
            assert stat.S_ISDIR(mode) and stat.S_IMODE(mode) == 0o700 or stat.S_ISREG(mode) and stat.S_IMODE(mode) == 0o600
    assert any("sparse" in note and "/box/tera" in note for note in done.result["notes"])
    assert "mrunc: note: 1 files were not exported (sparse" in done.err


def test_a_tar_holds_the_same(inside):
    target = os.path.join(inside.scratch, "out.tar")
    done = inside.python(MESS, options=["--export", target, "--copy", "/usr/bin/true", "--copy", "/usr/bin/id"])
    assert done.rc == 0, done
    with tarfile.open(target, errors="surrogateescape") as archive:
        assert set(archive.getnames()) == OUT
        assert all(member.isreg() and member.mode == 0o600 and member.uid == 0 for member in archive)
        assert archive.extractfile("box/deep/er/f").read() == b"inner"
    assert os.listdir(inside.scratch).count("out.tar") == 1 and not [n for n in os.listdir(inside.scratch) if n.endswith(".tmp")]


def test_a_modified_copy_is_brought_out_and_an_untouched_one_is_not(inside):
    target = os.path.join(inside.scratch, "out")
    inside.run("sh", "-c", "echo more >> true; chmod 700 id", options=["--export", target, "--copy", "/usr/bin/true",
                                                                       "--copy", "/usr/bin/id"])
    assert files_below(target) == {"box/true"}


@pytest.mark.parametrize("make, said", [
    (lambda path: os.mkdir(path) or open(path + "/x", "w").close(), "out.new"),
    (lambda path: open(path, "w").close(), "Not a directory"),
    (lambda path: os.symlink("/tmp", path), "is a symlink"),
])
def test_an_unfit_destination_is_refused_before_anything_runs(inside_as_user, make, said):
    target = os.path.join(inside_as_user.scratch, "out")
    make(target)
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "-h", "61234:61234", target], check=True)
    done = inside_as_user.run("/bin/echo", "ran", options=["--export", target])
    assert done.rc == 2 and said in done.err and done.out == "", done


def test_a_destination_that_the_program_could_write_is_refused(inside):
    shared = os.path.join(inside.scratch, "shared")
    os.mkdir(shared)
    os.chown(shared, 61234, 61234) if os.geteuid() == 0 else None
    for target in (shared + "/out", shared + "/out.tar"):
        done = inside.run("/bin/echo", "ran", options=["--rw", shared, "--export", target])
        assert done.rc == 2 and "can write" in done.err and done.out == "", done
    assert os.listdir(shared) == []


def test_a_compressed_archive_is_refused_and_no_directory_of_that_name_made(inside):
    for name in ("out.tar.gz", "OUT.TGZ", "out.zip"):
        done = inside.run("/bin/echo", "ran", options=["--export", os.path.join(inside.scratch, name)])
        assert (done.rc, done.out) == (2, "") and "of archives there is .tar alone" in done.err, done
        assert not os.path.exists(os.path.join(inside.scratch, name))


def test_nothing_is_left_where_nothing_ran(inside):
    before = sorted(os.listdir(inside.scratch))
    for target in ("out", "out.tar"):
        done = inside.run("/no/such/program", options=["--export", os.path.join(inside.scratch, target)])
        assert done.rc == 127, done
    assert sorted(os.listdir(inside.scratch)) == before


def test_the_library_gives_them_too(inside, tool_folder):
    target = os.path.join(inside.scratch, "lib")
    code = ("import sys\nsys.path.insert(0, %r)\nimport mrunc\n"
            "result = mrunc.run(['sh', '-c', 'echo x > f'], changes=True, export=%r)\n"
            "print([row['path'] for row in result.changes])\n" % (tool_folder, target))
    done = inside.outside(["/usr/bin/python3", "-c", code])
    assert done.stdout == "['/box/f']\n", done
    assert files_below(target) == {"box/f"}
