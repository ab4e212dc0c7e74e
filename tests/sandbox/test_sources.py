# SPDX-License-Identifier: Apache-2.0
"""Host files inside: whose they are, who may read and write them, and what can never be made of them."""
import os
import stat
import subprocess

import pytest

from conftest import USER


def secret(base, owner=0, mode=0o600):
    """A file that only its owner may read, below a directory that only its owner may enter."""
    folder = os.path.join(base, "locked")
    os.mkdir(folder, 0o700)
    path = os.path.join(folder, "sample")
    with open(path, "w") as stream:
        stream.write("content")
    os.chmod(path, mode)
    for name in (path, folder):
        os.chown(name, owner, owner)
    return path


@pytest.mark.parametrize("owner", [0, USER])
def test_root_shows_what_only_the_owner_may_read(inside_as_root, owner):
    path = secret(inside_as_root.scratch, owner)
    done = inside_as_root.run("cat", "/x", options=["--ro", path + ":/x"])
    assert (done.rc, done.out) == (0, "content"), done
    done = inside_as_root.run("sh", "-c", "stat -c %u /x && cat /x/sample", options=["--ro", os.path.dirname(path) + ":/x"])
    assert (done.rc, done.out) == (0, "0\ncontent"), done
    done = inside_as_root.run("sh", "-c", "echo changed > /x/sample", options=["--ro", os.path.dirname(path) + ":/x"])
    assert done.rc == 2 and "Read-only" in done.err, done


def test_a_file_of_roots_is_copied_in_whatever_its_mode(inside_as_root):
    path = secret(inside_as_root.scratch)
    done = inside_as_root.run("sh", "-c", "cat sample; test -x sample", options=["--copy", path])
    assert (done.rc, done.out) == (0, "content"), done


def test_one_source_is_copied_to_two_places(inside):
    path = os.path.join(inside.scratch, "text")
    with open(path, "w") as stream:
        stream.write("content")
    os.chmod(path, 0o644)
    done = inside.run("cat", "/box/one", "/tmp/two",
                      options=["--copy", path + ":/box/one", "--copy", path + ":/tmp/two"])
    assert (done.rc, done.out) == (0, "content" * 2), done


def test_roots_own_files_are_never_writable_inside(inside_as_root):
    done = inside_as_root.run("true", options=["--rw", inside_as_root.scratch])
    assert done.rc == 2 and "belongs to root" in done.err, done


def test_mixed_owners_are_refused_with_the_way_out(inside_as_root):
    path = secret(inside_as_root.scratch)
    other = os.path.join(os.path.dirname(path), "other")
    with open(other, "w") as stream:
        stream.write("x")
    os.chmod(other, 0o600)
    os.chown(other, USER, USER)
    done = inside_as_root.run("true", options=["--ro", os.path.dirname(path) + ":/x"])
    assert done.rc == 125 and "belongs to uid %d" % USER in done.err and "--copy" in done.err, done


@pytest.mark.parametrize("source", ["/proc", "/sys", "/sys/kernel", "/"])
def test_a_file_system_without_owners_is_refused_for_root(inside_as_root, source):
    done = inside_as_root.run("true", options=["--ro", source + ":/x"])
    assert done.rc == 2 and "which can't be mapped to an owner" in done.err and done.err.count("\n") == 2, done


PLANT = r"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
os.chdir("/x" if os.path.isdir("/x") and os.getcwd() == "/box" else ".")
def attempt(name, deed):
    try:
        deed()
    except OSError as error:
        print(name, error.errno)
open("f", "w").close()
attempt("chmod", lambda: os.chmod("f", 0o4755))
attempt("fchmod", lambda: os.fchmod(os.open("f", os.O_RDWR), 0o2755))
attempt("open", lambda: os.close(os.open("o", os.O_CREAT | os.O_WRONLY, 0o4755)))
attempt("mkdir", lambda: (os.mkdir("d"), os.chmod("d", 0o2777)))
attempt("mknod", lambda: os.mknod("n", 0o104755))
def raw(number, *arguments):
    if libc.syscall(number, *arguments) == -1:
        raise OSError(ctypes.get_errno(), "")
attempt("fchmodat2", lambda: raw(452, -100, b"f", 0o4755, 0))
if os.uname().machine == "x86_64":
    attempt("creat", lambda: raw(85, b"c", 0o4755))
    how = (ctypes.c_uint64 * 3)(os.O_CREAT | os.O_WRONLY, 0o4755, 0)
    attempt("openat2", lambda: raw(437, -100, b"p", how, 24))
print("done", sorted(n for n in os.listdir(".") if os.stat(n).st_mode & 0o6000))
"""


def test_no_set_id_file_can_be_made_on_the_host(inside):
    folder = os.path.join(inside.scratch, "shared")
    os.mkdir(folder)
    os.chown(folder, *((USER, USER) if os.geteuid() == 0 else (-1, -1)))
    outside = inside.outside(["/usr/bin/python3", "-c", PLANT], cwd=folder) if inside.who == "user" else \
        subprocess.run(["/usr/bin/python3", "-c", PLANT], cwd=folder, stdout=subprocess.PIPE, universal_newlines=True)
    assert outside.returncode == 0
    planted = [name for name in os.listdir(folder) if os.lstat(os.path.join(folder, name)).st_mode & 0o6000]
    assert "f" in planted and "d" in planted, "the control planted nothing"
    subprocess.run(["rm", "-rf", folder], check=True)
    os.mkdir(folder)
    os.chown(folder, *((USER, USER) if os.geteuid() == 0 else (-1, -1)))
    done = inside.python(PLANT, options=["--rw", folder + ":/x"])
    assert done.rc == 0 and "done []" in done.out, done
    for root, directories, files in os.walk(folder):
        for name in directories + files:
            found = os.lstat(os.path.join(root, name))
            assert not found.st_mode & (stat.S_ISUID | stat.S_ISGID), name
            assert found.st_uid == os.stat(folder).st_uid, "%s does not belong to the directory's owner" % name
    assert done.result["controls"][-1]["in_force"]
    assert [row for row in done.result["controls"] if row["name"] == "setid-filter"][0]["in_force"]


def test_a_source_is_followed_through_links_and_counted_from_the_callers_directory(inside):
    with open(os.path.join(inside.scratch, "real"), "w") as stream:
        stream.write("here")
    os.chmod(os.path.join(inside.scratch, "real"), 0o644)
    os.symlink("real", os.path.join(inside.scratch, "link"))
    if os.geteuid() == 0:
        os.chown(os.path.join(inside.scratch, "real"), *((USER, USER) if inside.who == "user" else (0, 0)))
    done = inside.run("cat", "/data/x", options=["--ro", "link:/data/x", "--follow-links"])
    assert (done.rc, done.out) == (0, "here"), done


def test_nothing_is_made_in_a_host_directory(inside):
    folder = os.path.join(inside.scratch, "mine")
    os.mkdir(folder)
    os.chmod(folder, 0o755)
    if os.geteuid() == 0:
        os.chown(folder, USER, USER)
    before = os.listdir(folder)
    done = inside.run("true", options=["--ro", folder + ":/m", "--tmpfs", "/m/sub"])
    assert done.rc == 2 and "nothing is made" in done.err, done
    assert os.listdir(folder) == before


def test_a_source_swapped_for_a_link_is_the_old_one_or_refused(inside):
    """The plan's source is replaced between check and use, as the owner of a directory on the way could do.  What is held is
    shown; only a user's child has to find it again in its own mount namespace."""
    for name in ("good", "evil"):
        os.mkdir(os.path.join(inside.scratch, name), 0o755)
        with open(os.path.join(inside.scratch, name, "f"), "w") as stream:
            stream.write(name)
        if os.geteuid() == 0 and inside.who == "user":
            os.chown(os.path.join(inside.scratch, name), USER, USER)
    for option, source in (("ro", "good"), ("copy", "good/f")):
        code = (
            "import os, sys; sys.path.insert(0, %r); import mrunc\n"
            "from mrunc.sandbox.launch import run as launch; from mrunc.sandbox.plan.spec import Spec\n"
            "def run(swap):\n"
            "    plan = launch.prepare(Spec(['cat', '/x'] if %r == 'copy' else ['cat', '/x/f'], **{%r: [(%r, '/x')]}))\n"
            "    if swap: os.rename('good', 'old'); os.symlink('evil', 'good')\n"
            "    print(launch.launch(plan).returncode, flush=True)\n"
            "run(False)\n"
            "try: run(True)\n"
            "except mrunc.SandboxError as error: print(error.status, 'replaced' in str(error) or 'loop' in str(error))\n"
            "os.unlink('good'); os.rename('old', 'good')\n" %
            (os.path.dirname(inside.tool), option, option, source))
        done = inside.outside(["/usr/bin/python3", "-c", code])
        assert done.stdout == ("good0\n125 True\n" if option == "ro" and inside.who == "user" else "good0\ngood0\n"), done
