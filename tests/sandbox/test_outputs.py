# SPDX-License-Identifier: Apache-2.0
"""What mrunc writes beside a hostile program: in bounded memory, out of the program's sight, and where root writes it in another
user's directory, by nobody's link and for that user."""
import json
import os
import shlex
import stat
import subprocess
import tarfile

import pytest

import mrunc  # noqa: F401 (makes the package)
from conftest import PYTHON, USER
from mrunc.sandbox.result import rows
from mrunc.sandbox.changes import compare, contents, drafts, export, shown, walk

MIB = 1 << 20
#: What the supervisor may take whatever the program does.
MOST = 100 * MIB

# -- memory ------------------------------------------------------------------------------------------------------------

MANY = {
    "symlinks with long targets": (25000, "os.symlink(('%d' % i).ljust(4000, 'x'), 'l%d' % i)"),
    "files": (55000, "open('f%d' % i, 'w').close()"),
    "hard links": (55000, "os.link('/box/only', 'l%d' % i) if place == '/box' else os.link('/tmp/only', 'l%d' % i)"),
    "long names": (30000, "os.link(place + '/only', ('%d' % i).ljust(120, chr(233)))"),
    "files with two names": (27000, "open('f%d' % i, 'w').write('%d' % i); os.link('f%d' % i, 'g%d' % i)"),
}


def measured(inside, code, options):
    """(rc, stdout, bytes of memory that the supervisor, or something in it, had at most) of Python code inside."""
    command = inside.command("/usr/bin/python3", "-I", "-S", "-c", code, options=options)
    meter = ("import os, subprocess, sys\nchild = subprocess.Popen(sys.argv[1:])\n_, status, usage = os.wait4(child.pid, 0)\n"
             "print('rc', status >> 8, usage.ru_maxrss * 1024)")
    done = inside.outside([PYTHON, "-I", "-S", "-c", meter, *command])
    lines = done.stdout.splitlines()
    assert lines, done
    rc, most = lines[-1].split()[1:]
    return int(rc), lines[:-1], int(most)


@pytest.mark.once
@pytest.mark.parametrize("name", sorted(MANY))
def test_memory_is_bounded_whatever_was_written(inside, name):
    count, deed = MANY[name]
    code = ("import os\nfor place in ('/box', '/tmp'):\n    os.chdir(place); open('only', 'w').write('x')\n"
            "    for i in range(%d):\n        %s\nprint('made')" % (count, deed))
    paths = [os.path.join(inside.scratch, name) for name in ("report.json", "changes.json")]
    rc, out, most = measured(inside, code, ["--report", paths[0], "--changes", paths[1]])
    assert (rc, out) == (0, ["made"])
    assert most < MOST, most
    for path in paths:
        with open(path) as stream:
            told = json.load(stream)
        listed, omitted = told["changes"], told["changes_omitted"]
        names = 2 * count * (2 if "two" in name else 1) + 2
        assert len(listed) + omitted["count"] == omitted["added"] + len(listed) == names
        assert len(listed) <= rows.MOST_ROWS and sum(len(json.dumps(row)) for row in listed) <= rows.MOST_BYTES
        assert any("%d more changes are not listed" % omitted["count"] in note for note in told["notes"]) == bool(omitted["count"])
    assert omitted["count"] > 0 or "two" in name


@pytest.mark.once
@pytest.mark.parametrize("target", ["out", "out.tar"])
def test_memory_is_bounded_when_files_are_brought_out(inside, target):
    code = ("import os\nfor place in ('/box', '/tmp'):\n    os.chdir(place); open('only', 'w').write('x')\n"
            "    for i in range(40000):\n        os.link('only', ('l%d' % i).ljust(200, 'x'))\nprint('made')")
    path = os.path.join(inside.scratch, target)
    rc, out, most = measured(inside, code, ["--export", path])
    assert (rc, out) == (0, ["made"])
    assert most < MOST, most
    if target == "out":
        names = os.listdir(path + "/box") + os.listdir(path + "/tmp")
    else:
        with tarfile.open(path) as archive:
            names = archive.getnames()
    assert len(names) == 80002


@pytest.mark.once
def test_memory_is_bounded_for_a_caller_of_the_library(inside, tool_folder):
    """The launcher answers with the rows as they are; only the host has dicts."""
    code = ("import sys\nsys.path.insert(0, %r)\nimport mrunc\nfrom mrunc.sandbox.library import client\n"
            "links, real = [], client.Link.__init__\n"
            "client.Link.__init__ = lambda self, *words: links.append(self) or real(self, *words)\n"
            "program = 'for i in range(55000): open(\"/box/%%d\" %% i, \"w\").close(); open(\"/tmp/%%d\" %% i, \"w\").close()'\n"
            "result = mrunc.run(['python3', '-c', program], changes=True)\n"
            "print(result.returncode, len(result.changes), result.changes_omitted['count'], type(result.changes[0]).__name__)\n"
            "for pid in ['self'] + [link.pid for link in links]: print(open('/proc/%%s/status' %% pid).read().split('VmHWM:')[1].split()[0])\n" % tool_folder)
    done = inside.outside(["/usr/bin/python3", "-c", code])
    told, host, *launchers = done.stdout.splitlines()
    rc, listed, omitted, kind = told.split()
    assert (rc, kind) == ("0", "dict") and int(listed) + int(omitted) == 110000 and int(listed) <= rows.MOST_ROWS, done
    assert int(host) * 1024 < 250 * MIB and launchers
    assert max(map(int, launchers)) * 1024 < MOST, launchers


def test_a_directory_is_read_in_parts(tmp_path, monkeypatch):
    """No list of all names, however many parts it takes, and however often a directory above is left and entered again."""
    monkeypatch.setattr(walk, "HELD", 2)
    wanted, place = {b""}, str(tmp_path)
    for depth in range(6):
        for number in range(400):
            name = "%d-%s" % (number, "n" * 200)
            open(os.path.join(place, name), "w").close()
            wanted.add(os.fsencode(os.path.relpath(os.path.join(place, name), str(tmp_path))))
        place = os.path.join(place, "d" * 100)
        os.mkdir(place)
        wanted.add(os.fsencode(os.path.relpath(place, str(tmp_path))))
    parts, real = [], walk.next_names
    monkeypatch.setattr(walk, "next_names", lambda fd, room: parts.append(real(fd, room)) or parts[-1])
    fd = os.open(str(tmp_path), os.O_RDONLY)
    before = len(os.listdir("/proc/self/fd"))
    seen = [entry.path for entry in walk.Walk(fd)]
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(fd)
    assert len(seen) == len(set(seen)) and set(seen) == wanted
    assert max(len(part) for part in parts) < 200 and len(parts) > 18


def test_of_files_with_several_names_no_more_are_remembered_than_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "MOST_SHARED", 3)
    for number in range(5):
        (tmp_path / str(number)).write_bytes(b"%d" % number)
        os.link(str(tmp_path / str(number)), str(tmp_path / ("again%d" % number)))
    place = compare.Place(b"/p", os.open(str(tmp_path), os.O_RDONLY), [])
    listed = [row for row in compare.Changes([place]).compare() if row["kind"] == "file"]
    os.close(place.fd)
    told = [row for row in listed if row["sha256"]]
    assert len(listed) == 10 and len(told) == 6
    assert {row["sha256_missing"] for row in listed if not row["sha256"]} == {"more than 3 files with several names"}


def test_what_was_left_out_is_counted_and_not_listed():
    exporter = export.Exporter(None)
    for number in range(1000):
        exporter.leave_out(b"/box/%d" % number, "sparse: %d bytes long, 0 in use" % number)
        exporter.leave_out(b"/box/x%d" % number, "not a regular file")
    assert exporter.left_out == {"sparse": [1000, b"/box/0", "sparse: 0 bytes long, 0 in use"],
                                 "not a regular file": [1000, b"/box/x0", "not a regular file"]}


def test_rows_are_a_sequence():
    made = rows.Rows()
    for number in (3, 1, 2):
        assert made.add({"path": "\udcff%d" % number})
    made.sort(lambda row: row["path"])
    assert len(made) == 3 and made[0] == {"path": "\udcff1"} and made[:2] == [{"path": "\udcff1"}, {"path": "\udcff2"}]
    assert made == list(made) and made != [] and list(rows.Rows(made.texts)) == list(made)


# -- out of the program's sight ----------------------------------------------------------------------------------------

LOOK = "import os\nprint(sorted(os.listdir('/box')), flush=True)\n"


def test_no_draft_is_in_what_the_program_is_shown(inside):
    """What it sees is what was there; the same names are there when it has ended."""
    shared = os.path.join(inside.scratch, "shared")
    os.mkdir(shared)
    open(os.path.join(shared, "mine"), "w").close()
    own(inside, shared)
    for target in ("out", "out.tar"):
        done = inside.outside(inside.command("/usr/bin/python3", "-c", LOOK, options=[
            "--here", "--report", "r.json", "--changes", "c.json", "--export", target]), cwd=shared)
        assert (done.returncode, done.stdout) == (0, "['mine']\n"), done
        assert sorted(os.listdir(shared)) == sorted(["mine", "r.json", "c.json", target])
        with open(os.path.join(shared, "r.json")) as stream:
            assert json.load(stream)["returncode"] == 0
        for name in ("r.json", "c.json"):
            os.unlink(os.path.join(shared, name))
        subprocess.run(["rm", "-r", os.path.join(shared, target)], check=True)


def own(inside, path):
    """Gives what the test made to the caller."""
    if os.geteuid() == 0 and inside.who == "user":
        subprocess.run(["chown", "-R", "-h", "%d:%d" % (USER, USER), path], check=True)


def test_nothing_is_left_when_mrunc_is_killed(inside):
    before = sorted(os.listdir(inside.scratch))
    options = ["--report", "r.json", "--changes", "c.json", "--export", "x.tar"]
    command = inside.command("/bin/sh", "-c", "echo ready; read line", options=options)
    from conftest import become
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=inside.scratch,
                               preexec_fn=become(inside.who))
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.wait()
    process.communicate()
    assert sorted(os.listdir(inside.scratch)) == before


@pytest.mark.parametrize("option", ["--here", "--ro", "--rw", "a link to it"])
def test_a_ledger_that_the_program_could_read_is_refused(inside, option):
    shared = os.path.join(inside.scratch, "shared")
    os.makedirs(shared + "/below")
    if option != "--rw" or inside.who == "user":
        own(inside, shared)
    else:
        subprocess.run(["chown", "-R", "%d:%d" % (USER, USER), shared], check=True)
    os.symlink(shared + "/below", inside.scratch + "/way")
    show = ["--here"] if option == "--here" else [option if option.startswith("--") else "--ro", shared]
    show += ["--follow-links"] * (option == "a link to it")
    ledger = inside.scratch + "/way/l.json" if option == "a link to it" else shared + "/below/l.json"

    def run(path):
        return inside.outside(inside.command("/bin/echo", "ran", options=[*show, "--ledger", path]), cwd=shared)
    done = run(ledger)
    assert (done.returncode, done.stdout) == (2, "") and "in a directory that is shown (%s)" % shared in done.stderr, done
    assert os.listdir(shared + "/below") == []
    remedy = shlex.split(done.stderr.split("remedy: ")[1])
    assert remedy[0] == "--ledger" and not remedy[1].startswith(shared)
    other = os.path.join(inside.scratch, "l.json")  # the parent is not shown
    done = run(other)
    assert (done.returncode, done.stdout) == (0, "ran\n") and os.path.exists(other), done


@pytest.mark.parametrize("option, ledger", [("--ro", "data/l"), ("--ro", "part/l"), ("--rw", "part/l"), ("--ro", "other/l")])
def test_a_mount_elsewhere_of_what_is_shown_is_shown(inside_as_root, option, ledger):
    """What lies at another path, and is the same directory of the same file system: below what is shown, or around it."""
    for name in ("shown/data", "shown/sub/deep", "data", "part", "other"):
        os.makedirs(os.path.join(inside_as_root.scratch, name))
    os.chown(inside_as_root.scratch + "/shown", USER, USER)
    wrap = ["unshare", "-m", "sh", "-ec", 'mount --bind data shown/data; mount --bind shown/sub/deep part; exec "$@"', "sh"]
    shared = ledger != "other/l"
    for output in ["--ledger"] + ["--report"] * (option == "--rw"):
        done = inside_as_root.outside(wrap + inside_as_root.command("/bin/echo", "ran", options=[option, "shown", output, ledger]))
        assert (done.returncode, done.stdout) == ((2, "") if shared else (0, "ran\n")), done
        assert ("(%s/shown)" % inside_as_root.scratch in done.stderr) is shared, done


def test_a_ledger_among_the_hosts_programs_is_refused(inside_as_root):
    done = inside_as_root.outside(inside_as_root.command("/bin/echo", "ran", options=["--ledger", "/usr/share/mrunc-l.json"]))
    assert (done.returncode, done.stdout) == (2, "") and "(/usr)" in done.stderr, done
    assert not os.path.exists("/usr/share/mrunc-l.json")


def test_the_directory_above_is_found_by_its_inode(tmp_path):
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b")
    found = os.stat(str(tmp_path / "a"))
    places = {(found.st_dev, found.st_ino): b"a"}
    for name, wanted in (("a", b"a"), ("a/b/c", b"a"), ("link/c", b"a"), (".", None)):
        fd = os.open(str(tmp_path / name), os.O_PATH)
        assert shown.holder(fd, places) == wanted
        assert shown.holder(fd, {}) is None
        os.close(fd)


def without_unnamed(monkeypatch):
    """A file system that knows no O_TMPFILE."""
    real = os.open

    def refuse(path, flags, *words, **named):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, os.strerror(95))
        return real(path, flags, *words, **named)
    monkeypatch.setattr(os, "open", refuse)


@pytest.mark.parametrize("unnamed", [True, False])
@pytest.mark.parametrize("old", [True, False])
def test_a_draft_has_no_name_until_it_is_whole(tmp_path, monkeypatch, unnamed, old):
    if not unnamed:
        without_unnamed(monkeypatch)
    path = tmp_path / "f"
    if old:
        path.write_text("old")
        os.link(str(path), str(tmp_path / "other"))
    before = sorted(os.listdir(str(tmp_path)))
    target = drafts.Target(os.fsencode(str(path)))
    draft = drafts.Draft(target, 0o640)
    assert sorted(os.listdir(str(tmp_path))) == before
    os.write(draft.begin(), b"new")
    if unnamed:
        assert sorted(os.listdir(str(tmp_path))) == before
    draft.publish()
    assert path.read_text() == "new" and sorted(os.listdir(str(tmp_path))) == sorted(set(before) | {"f"})
    assert not old or (tmp_path / "other").read_text() == "old"
    assert stat.S_IMODE(os.stat(str(path)).st_mode) & ~0o640 == 0
    again = drafts.Draft(target, 0o640)
    again.begin()
    again.discard()
    assert sorted(os.listdir(str(tmp_path))) == sorted(set(before) | {"f"})
    target.close()


def test_where_no_file_can_be_made_is_known_before_anything_runs(inside_as_user, monkeypatch):
    closed = os.path.join(inside_as_user.scratch, "closed")
    os.mkdir(closed, 0o555)
    own(inside_as_user, closed)
    for option in ("--report", "--changes", "--ledger", "--export"):
        for name in ("x", "x.tar"):
            done = inside_as_user.outside(inside_as_user.command("/bin/echo", "ran", options=[option, closed + "/" + name]))
            assert (done.returncode, done.stdout) == (2, "") and "Permission denied" in done.stderr, done


# -- root in another user's directory ----------------------------------------------------------------------------------

@pytest.fixture
def theirs(inside_as_root):
    """A directory of an ordinary user's."""
    place = os.path.join(inside_as_root.scratch, "theirs")
    os.mkdir(place)
    with open(place + "/mine", "w") as stream:
        stream.write("x")
    os.chmod(place + "/mine", 0o600)
    subprocess.run(["chown", "-R", "%d:%d" % (USER, USER), place], check=True)
    return place


def test_root_writes_for_the_owner_of_the_directory(inside_as_root, theirs):
    """Twice: what the first run left is what the second one is shown."""
    for number in range(2):
        for target in ("out%d" % number, "out%d.tar" % number):
            done = inside_as_root.outside(inside_as_root.command(
                "/bin/sh", "-c", "cat mine; mkdir -p /tmp/a/b; echo hi > /tmp/a/b/f", options=[
                    "--here", "--export", target, "--report", "r.json", "--changes", "c.json"]), cwd=theirs)
            assert (done.returncode, done.stdout, done.stderr) == (0, "x", ""), done
    seen = 0
    for place, folders, names in os.walk(theirs):
        for name in folders + names:
            found = os.lstat(os.path.join(place, name))
            assert (found.st_uid, found.st_gid) == (USER, USER), name
            seen += 1
    assert seen == 1 + 2 + 2 + 2 * 5
    with open(theirs + "/out1/tmp/a/b/f") as stream:
        assert stream.read() == "hi\n"


@pytest.mark.parametrize("option", ["--report", "--changes", "--ledger", "--export"])
def test_a_planted_link_leads_no_output_elsewhere(inside, option):
    """An earlier program leaves a link on the way; the file goes there only where the caller says so."""
    for name in ("out", "elsewhere"):
        os.mkdir(os.path.join(inside.scratch, name))
    own(inside, inside.scratch)
    if os.geteuid() == 0:  # nothing of root's is writable inside
        os.chown(inside.scratch + "/out", USER, USER)
    planted = inside.run("ln", "-s", os.path.join(inside.scratch, "elsewhere"), "/out/way", options=["--rw", "out:/out"])
    assert planted.rc == 0, planted

    def run(path, *options):
        return inside.outside(inside.command("/bin/echo", "ran", options=[*options, option, path]))
    done = run("out/way/there")
    assert (done.returncode, done.stdout) == (2, "") and "out/way is a symbolic link to" in done.stderr, done
    assert os.listdir(inside.scratch + "/elsewhere") == []
    remedy = shlex.split(done.stderr.split("leads to: ")[1])
    assert remedy[0] == option
    for done in (run("out/way/one", "--follow-links"), run(remedy[1])):
        assert (done.returncode, done.stdout) == (0, "ran\n"), done
    assert sorted(os.listdir(inside.scratch + "/elsewhere")) == ["one", "there"]


def test_a_fifo_that_nobody_reads_is_not_waited_for(inside):
    path = os.path.join(inside.scratch, "fifo")
    os.mkfifo(path)
    own(inside, path)
    done = inside.outside(inside.command("/bin/echo", "ran", options=["--report", path]))
    assert (done.returncode, done.stdout) == (2, "") and "No such device" in done.stderr, done
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        done = inside.outside(inside.command("/bin/echo", "ran", options=["--report", path]))
        assert (done.returncode, done.stdout) == (0, "ran\n") and os.read(reader, 1) == b"{", done
    finally:
        os.close(reader)


@pytest.mark.parametrize("target", ["out", "out.tar"])
def test_a_link_that_the_owner_plants_meanwhile_is_not_followed(inside_as_root, theirs, target):
    bait = os.path.join(inside_as_root.scratch, "bait")
    os.mkdir(bait)
    open(bait + "/file", "w").close()
    command = inside_as_root.command("/bin/sh", "-c", "echo ready; read line; echo hi > /tmp/f", options=[
        "--export", target, "--report", "r.json"])
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=theirs)
    assert process.stdout.readline() == b"ready\n"
    os.symlink(bait + ("/file" if target == "out.tar" else ""), os.path.join(theirs, target))
    os.symlink(bait + "/file", theirs + "/r.json")
    _, err = process.communicate(b"\n")
    assert process.returncode == 0, err
    found = os.lstat(bait + "/file")
    assert os.listdir(bait) == ["file"] and (found.st_size, found.st_uid) == (0, 0)
    assert os.stat(bait).st_uid == 0
    with open(theirs + "/r.json") as stream:  # it took the link's place
        assert any("File exists" in note for note in json.load(stream)["notes"]) == (target == "out")
    assert not os.path.islink(theirs + "/r.json") and os.path.islink(os.path.join(theirs, target)) == (target == "out")


def test_a_directory_that_another_made_meanwhile_is_not_taken(tmp_path, monkeypatch):
    exporter = export.Folder(drafts.Target(os.fsencode(str(tmp_path / "out"))))
    real = os.mkdir

    def swapped(name, *words, **named):
        real(name, *words, **named)
        os.rmdir(str(tmp_path / "out"))
        real(str(tmp_path / "out"))
        real(str(tmp_path / "out" / "theirs"))
    monkeypatch.setattr(os, "mkdir", swapped)
    with pytest.raises(OSError, match="not empty"):
        exporter.complete()
    exporter.discard()
    assert os.listdir(str(tmp_path / "out")) == ["theirs"]
