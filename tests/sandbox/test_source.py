# SPDX-License-Identifier: Apache-2.0
"""Sources are opened once: links that a program planted are not followed, and names that it exchanges lead nowhere else."""
import errno
import os
import re
import shlex
import stat
import subprocess

import pytest

import mrunc  # noqa: F401 (makes the package)

from conftest import USER, need
from mrunc.sandbox.tree import source
from outer_filter import HIDDEN, behind

#: Exchanges two names of a directory with renameat2, as a program with --rw can.  exchange(folder, "a", "l")
EXCHANGE = r"""
import ctypes, os
_libc = ctypes.CDLL(None, use_errno=True)
def exchange(folder, one, other):
    call = {"x86_64": 316, "aarch64": 276}[os.uname().machine]
    if _libc.syscall(call, folder, one.encode(), folder, other.encode(), 2):
        raise OSError(ctypes.get_errno(), "renameat2")
"""
#: Makes a plan and runs it while out/a is a link from one look at that name until another: all pairs of looks, or a thread
#: that exchanges them all the time.
RUNS = EXCHANGE + r"""
import json, sys
sys.path.insert(0, TOOL)
import mrunc
from mrunc.sandbox.launch import run as launch
from mrunc.sandbox.plan.spec import Spec
folder = os.open("out", os.O_PATH)
def names_a(arguments):
    for path in arguments:
        if isinstance(path, (str, bytes)) and b"a" in os.fsencode(path).split(b"/"):
            return True
class Looks:
    def __init__(self, first, last):
        self.seen, self.when, self.before = 0, (first, last), {}
    def __enter__(self):
        for name in ("open", "stat", "lstat", "readlink", "access", "scandir", "listdir"):
            self.before[name] = getattr(os, name)
            setattr(os, name, self.hook(self.before[name]))
        return self
    def hook(self, function):
        def call(*arguments, **more):
            if names_a(arguments) and os.getpid() == PID:
                if self.seen in self.when:
                    exchange(folder, "a", "l")
                self.seen += 1
            return function(*arguments, **more)
        return call
    def __exit__(self, *error):
        for name, function in self.before.items():
            setattr(os, name, function)
PID = os.getpid()
PROGRAM = "cat /out/a/b/marker; ls /out/a; echo changed > /out/a/written"
def run():
    spec = Spec(["sh", "-c", PROGRAM], rw=[("out", "/out")], ro=[("x", "/out/a/b")])
    try:
        return launch.launch(launch.prepare(spec)).returncode
    except mrunc.SandboxError as error:
        return error.status
"""


@pytest.fixture
def race(inside):
    """A writable directory with a directory and a link that a program could exchange; what the link leads to is a secret."""
    writes(inside)
    for name in ("out/a/b", "x", "victim/b"):
        os.makedirs(os.path.join(inside.scratch, name))
    for name, text in (("x/marker", "shown\n"), ("victim/secret", "secret\n"), ("victim/b/marker", "")):
        with open(os.path.join(inside.scratch, name), "w") as stream:
            stream.write(text)
    os.symlink(os.path.join(inside.scratch, "victim"), os.path.join(inside.scratch, "out", "l"))
    give(inside.scratch)
    return inside


def writes(inside):
    """For tests with --rw: root's needs a map to the source's owner."""
    if inside.who == "root":
        need("mount_setattr")


def give(place):
    """To the ordinary user, where root runs the tests."""
    if os.geteuid() == 0:
        subprocess.run(["chown", "-hR", "%d:%d" % (USER, USER), place], check=True)


def victim(inside):
    return sorted(os.listdir(os.path.join(inside.scratch, "victim")))


def test_a_link_at_any_look_leads_nowhere(race):
    """From each look at a name until each other one, in the order in which they come, it is a link to somewhere else."""
    code = "TOOL = %r\n" % os.path.dirname(race.tool) + RUNS + r"""
with Looks(-1, -1) as looks:
    print("plain", run(), looks.seen, flush=True)
most = looks.seen
for first in range(most):
    for last in range(first + 1, most + 1):
        with Looks(first, last) as looks:
            status = run()
        if os.path.islink("out/a"):
            exchange(folder, "a", "l")
        print("raced", first, last, status, flush=True)
"""
    done = race.outside(["/usr/bin/python3", "-c", code], timeout=600)
    assert done.returncode == 0, done
    plain = re.search(r"^plain 0 (\d+)$", done.stdout, re.M)
    assert plain and int(plain.group(1)) >= 2 and done.stdout.startswith("shown\n"), done
    assert os.path.exists(os.path.join(race.scratch, "out/a/written")), "the program did not run"
    assert "secret" not in done.stdout and victim(race) == ["b", "secret"], done.stdout
    assert re.search(r"^raced \d+ \d+ (2|125)$", done.stdout, re.M), "no exchange was in time: %s" % done.stdout


@pytest.mark.once
def test_a_name_that_is_exchanged_all_the_time_leads_nowhere(race):
    """By a process beside it.  Where links were followed, one of the first 150 starts had the victim's directory."""
    code = "TOOL = %r\n" % os.path.dirname(race.tool) + RUNS + r"""
import signal, time
done = {}
print("plain", run(), flush=True)
swapper = os.fork()
if not swapper:
    signal.alarm(300)
    while True:
        for microseconds in (50, 10):  # a link for the shorter time: both looks before and after it must find a directory
            until = time.perf_counter() + microseconds / 1e6
            while time.perf_counter() < until:
                pass
            exchange(folder, "a", "l")
try:
    for number in range(300):
        status = run()
        done[status] = done.get(status, 0) + 1
finally:
    os.kill(swapper, signal.SIGKILL)
    os.waitpid(swapper, 0)
print("ended", json.dumps(done), flush=True)
"""
    done = race.outside(["/usr/bin/python3", "-c", code], timeout=600)
    assert done.returncode == 0 and "plain 0\n" in done.stdout and "ended" in done.stdout, done
    assert "secret" not in done.stdout and victim(race) == ["b", "secret"], done.stdout


#: The sources of a planted tree: (options without the source, the source over a link, where it really is, what is read then).
PLANTED = {
    "ro": ("--ro", "out/link:/x", "victim:/x", "/x/secret"),
    "ro, on the way": ("--ro", "out/link/secret:/x", "victim/secret:/x", "/x"),
    "ro, no place": ("--ro", "out/link", "victim:{}/out/link", "{}/out/link/secret"),
    "rw": ("--rw", "out/link:/x", "victim:/x", "/x/secret"),
    "copy": ("--copy", "out/payload", "victim/secret:/box/payload", "payload"),
    "copy, on the way": ("--copy", "out/link/secret:/box/y", "victim/secret:/box/y", "y"),
    "rootfs": ("--rootfs", "out/tree", "tree", "/etc/secret"),
    "overlay": ("--overlay=/x --ro", "out/link:/x", "victim:/x", "/x/secret"),
}


@pytest.mark.parametrize("how", PLANTED)
def test_a_planted_link_is_refused_and_said(inside, how):
    writes(inside)
    if how == "overlay":
        need("overlay")
    option, source, real, path = PLANTED[how]
    os.umask(0o022)
    for name in ("out", "victim", "tree/bin", "tree/etc"):
        os.makedirs(os.path.join(inside.scratch, name))
    for name in ("victim/secret", "tree/etc/secret"):
        with open(os.path.join(inside.scratch, name), "w") as stream:
            stream.write("secret\n")
    program = ["cat", path.format(inside.scratch)]
    if how == "rootfs":
        subprocess.run(["gcc", "-static", "-o", os.path.join(inside.scratch, "tree/bin/show"), "-x", "c", "-"], check=True,
                       input=b'#include <stdio.h>\nint main(int c, char **v)\n{ FILE *f = fopen(v[1], "r"); char t[99];\n'
                             b'  return !f || !fgets(t, 99, f) || puts(t) < 0; }\n')
        program[0] = "show"
    give(inside.scratch)
    # As a program with --rw would have: links in a directory that is the caller's own.
    planted = inside.python("import os\nfor target, name in (('../victim', 'link'), ('../victim/secret', 'payload'), "
                            "('../tree', 'tree')): os.symlink(target, '/o/' + name)", options=["--rw", "out:/o"])
    assert planted.rc == 0 and os.path.islink(os.path.join(inside.scratch, "out/link")), planted
    words = option.split() + [source]
    done = inside.run(*program, options=words)
    assert done.rc == 2 and "secret\n" not in done.out, done
    assert "is a symbolic link to ../" in done.err and "in a directory that others than root can write" in done.err, done
    remedy = re.search(r"leads to: (.*); or follow every link: (.*)\n", done.err)
    pasted = "%s %s/%s" % (option.split()[-1], inside.scratch, real.format(inside.scratch))
    assert remedy and (remedy.group(1), remedy.group(2)) == (pasted, "--follow-links"), done
    for options in (option.split()[:-1] + shlex.split(remedy.group(1)), words + ["--follow-links"]):
        done = inside.run(*program, options=options)
        assert done.rc == 0 and done.out.startswith("secret\n"), done


@pytest.mark.needs("landlock")
@pytest.mark.parametrize("tier", ["process"])
def test_a_planted_link_is_refused_where_there_is_no_tree(inside, tier):
    os.mkdir(os.path.join(inside.scratch, "out"))
    with open(os.path.join(inside.scratch, "f"), "w") as stream:
        stream.write("text\n")
    os.symlink("../f", os.path.join(inside.scratch, "out/l"))
    give(inside.scratch)
    for options, program in ((["--ro", "out/l"], inside.scratch + "/f"), (["--copy", "out/l"], "l")):
        done = inside.run("cat", program, options=["--tier", tier, *options])
        assert done.rc == 2 and "is a symbolic link to ../f" in done.err, done
        done = inside.run("cat", program, options=["--tier", tier, "--follow-links", *options])
        assert (done.rc, done.out) == (0, "text\n"), done


@pytest.mark.parametrize("owner, mode, followed", [
    (0, 0o755, True), (0, 0o700, True), (0, 0o775, False), (0, 0o757, False), (0, 0o1777, False), (USER, 0o755, False)])
def test_a_link_is_followed_where_root_alone_can_write(inside_as_root, owner, mode, followed):
    folder = os.path.join(inside_as_root.scratch, "links")
    os.mkdir(folder)
    with open(os.path.join(inside_as_root.scratch, "f"), "w") as stream:
        stream.write("text\n")
    for name, target in (("relative", "../f"), ("absolute", inside_as_root.scratch + "/f"), ("chain", "relative")):
        os.symlink(target, os.path.join(folder, name))
    os.chown(folder, owner, owner)
    os.chmod(folder, mode)
    for name in ("relative", "absolute", "chain"):
        done = inside_as_root.run("cat", "/x", options=["--ro", "links/%s:/x" % name])
        assert (done.rc, done.out) == ((0, "text\n") if followed else (2, "")), (name, done)


def test_the_way_to_the_current_directory_is_not_looked_at(inside):
    """A path that begins with the current directory, as the kernel or the shell has it, starts there."""
    real, link = os.path.join(inside.scratch, "real"), os.path.join(inside.scratch, "link")
    os.mkdir(real)
    with open(os.path.join(real, "f"), "w") as stream:
        stream.write("text\n")
    os.symlink("real", link)
    give(inside.scratch)
    for path in ("f", "./f", "../real/f", real + "/f", link + "/f"):
        command = inside.command("cat", "/x", options=["--ro", path + ":/x"])
        done = inside.outside(command, cwd=link, env=dict(os.environ, PWD=link))
        assert (done.returncode, done.stdout) == (0, "text\n"), (path, done)
    done = inside.outside(inside.command("cat", "/x", options=["--ro", link + "/f:/x"]), cwd="/", env=dict(os.environ, PWD=link))
    assert done.returncode == 2 and "symbolic link" in done.stderr, "PWD was believed: %r" % done


def test_links_without_end_are_no_path(inside):
    os.symlink("loop", os.path.join(inside.scratch, "loop"))
    done = inside.run("true", options=["--ro", "loop:/x", "--follow-links"])
    assert done.rc == 2 and "Too many levels of symbolic links" in done.err, done


@pytest.mark.parametrize("hide", ["openat2", "mount_setattr", "all of them"])
def test_the_same_holds_on_older_kernels(inside, hide):
    if hide == "openat2":
        writes(inside)
    for name in ("out/a/b", "x"):
        os.makedirs(os.path.join(inside.scratch, name))
    with open(os.path.join(inside.scratch, "x/f"), "w") as stream:
        stream.write("text\n")
    subprocess.run(["chmod", "-R", "a+rX", inside.scratch], check=True)
    os.symlink("a", os.path.join(inside.scratch, "out/l"))
    give(inside.scratch)
    wrap = behind(inside, *HIDDEN[hide])
    writable = "--rw" if inside.who == "user" or hide == "openat2" else "--ro"  # without a map root's has no --rw
    done = inside.outside(wrap + inside.command("cat", "/out/a/b/f", options=[writable, "out:/out", "--ro", "x:/out/a/b"]))
    assert (done.returncode, done.stdout) == (0, "text\n"), done
    for options in (["--ro", "out/l:/x"], [writable, "out:/out", "--ro", "x:/out/l/b"]):
        done = inside.outside(wrap + inside.command("true", options=options))
        assert done.returncode == 2 and "is a sym" in done.stderr, done


@pytest.mark.needs("mount_setattr")
def test_a_pin_does_not_lead_onto_another_mount(inside_as_root):
    """A directory between that is another mount is refused by its name, and shown by itself it works."""
    for name in ("out/m/b", "x"):
        os.makedirs(os.path.join(inside_as_root.scratch, name))
    give(inside_as_root.scratch)
    wrap = ["unshare", "-m", "sh", "-ec", 'mount --bind out/m out/m; exec "$@"', "sh"]
    done = inside_as_root.outside(wrap + inside_as_root.command("true", options=["--rw", "out:/out", "--ro", "x:/out/m/b"]))
    assert done.returncode == 2 and "is another mount than" in done.stderr, done
    remedy = shlex.split(re.search(r"show it by itself: (.*)\n", done.stderr).group(1))
    done = inside_as_root.outside(wrap + inside_as_root.command("true", options=["--rw", "out:/out", *remedy, "--ro", "x:/out/m/b"]))
    assert done.returncode == 0, done


def test_a_pin_gives_nobody_elses_rights(inside_as_root):
    """A directory between that belongs to another user than the writable one stays that user's alone."""
    place = os.path.join(inside_as_root.scratch, "out")
    for name in ("out/own/b", "out/other/b", "x"):
        os.makedirs(os.path.join(inside_as_root.scratch, name))
    theirs = os.path.join(place, "other")
    secret = os.path.join(theirs, "text")
    with open(secret, "w") as stream:
        stream.write("theirs")
    give(place)
    for path in (theirs, secret):
        os.chown(path, USER + 1, USER + 1)
    for name, written in (("own", True), ("other", False)):
        done = inside_as_root.run("sh", "-c", "echo ran; test -d /out/%s/b && echo mine >/out/%s/text" % (name, name),
                                  options=["--rw", "out:/out", "--ro", "x:/out/%s/b" % name])
        assert done.out == "ran\n" and (done.rc == 0) is written, done
        with open(os.path.join(place, name, "text")) as stream:
            assert stream.read() == ("mine\n" if written else "theirs")


def test_a_plan_that_is_only_shown_holds_nothing(inside):
    """No descriptor is left of a plan that was printed, refused or run."""
    writes(inside)
    os.mkdir(os.path.join(inside.scratch, "d"))
    os.mkdir(os.path.join(inside.scratch, "d", "sub"))
    give(inside.scratch)
    code = """
import os, sys
sys.path.insert(0, %r)
import mrunc
from mrunc.sandbox.launch import run as launch; from mrunc.commands.run import plan_text
from mrunc.sandbox.plan.spec import Spec
def left(deed):
    before = len(os.listdir("/proc/self/fd"))
    try:
        deed()
    except mrunc.SandboxError as error:
        print(error.status, flush=True)
    return len(os.listdir("/proc/self/fd")) - before
options = dict(rw=[("d", "/d")], ro=[("d", "/d/sub")], copy=[("/usr/bin/true", "/box/t")])
def shown():
    plan = launch.prepare(Spec(["true"], **options))
    assert "/box/t" in "".join(plan_text.describe(plan))
    plan.release()
left(lambda: launch.launch(launch.prepare(Spec(["true"]))))
print("left", left(shown), left(lambda: launch.launch(launch.prepare(Spec(["true"], **options)))),
      left(lambda: launch.launch(launch.prepare(Spec(["true"], tmpfs=["/d/new"], **options)))))
""" % os.path.dirname(inside.tool)
    done = inside.outside(["/usr/bin/python3", "-c", code])
    assert done.stdout == "2\nleft 0 0 0\n", done


# Sockets and FIFOs below what is shown of the host's own system

SERVER = r"""
import os, socket, subprocess, sys
place, kind, command = sys.argv[1], sys.argv[2], sys.argv[3:]
os.makedirs(os.path.dirname(place), exist_ok=True)
if kind == "FIFO":
    os.mkfifo(place)
else:
    server = socket.socket(socket.AF_UNIX)
    os.chdir(os.path.dirname(place))
    server.bind(os.path.basename(place) if kind == "relative" else place)
    server.listen(5)
os.chmod(place, 0o777)
USER = int(os.environ.get("AS", "0"))
def become():
    if USER:
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
sys.exit(subprocess.call(command, preexec_fn=become, env={"PATH": "/opt/bin:/usr/bin:/bin"}))
"""


@pytest.mark.parametrize("who", ["root", "user"])
@pytest.mark.parametrize("place, kind", [
    ("/opt/app/run/socket", "socket"), ("/opt/app/run/socket", "relative"), ("/opt/app/run/fifo", "FIFO"),
    ("/usr/local/share/socket", "socket")])
def test_a_service_below_the_hosts_system_is_refused(inside_as_root, who, place, kind):
    """In a mount namespace of its own, so that nothing of this host changes."""
    script = "mount -t tmpfs -o mode=755 none /opt; mount -t tmpfs -o mode=755 none /usr/local/share; mkdir /opt/bin; exec \"$@\""
    connect = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(%r); print('connected')" % place
    if kind == "FIFO":
        connect = "import os; os.open(%r, os.O_RDONLY | os.O_NONBLOCK); print('connected')" % place
    program = ["/usr/bin/python3", "-I", "-S", "-c", connect]

    def run(command):
        return inside_as_root.outside(
            ["unshare", "-m", "sh", "-ec", script, "sh", "/usr/bin/python3", "-I", "-c", SERVER, place, kind, *command],
            env=dict(os.environ, AS=str(USER if who == "user" else 0)))
    assert run(program).stdout == "connected\n", "there is nobody to talk to"
    done = run(inside_as_root.command(*program))
    assert done.returncode == 125 and "connected" not in done.stdout, done
    assert "%s is a %s of the host's" % (place, "FIFO" if kind == "FIFO" else "socket") in done.stderr, done
    if place.startswith("/opt"):
        line = re.search(r"is not shown: (export PATH=\S+)\n", done.stderr).group(1)
        command = inside_as_root.command("sh", "-c", "ls -d %s || echo gone" % place)
        done = run(["sh", "-c", line + '; exec "$@"', "sh", *command])
        assert (done.returncode, done.stdout) == (0, "gone\n"), done


def test_a_deep_tree_is_refused_rather_than_half_searched(inside):
    folder = os.path.join(inside.scratch, "deep")
    os.makedirs(os.path.join(folder, *["d"] * 120))
    give(inside.scratch)
    done = inside.run("true", options=["--ro", "deep:/x"])
    assert done.rc == 2 and "directories deep" in done.err, done
    done = inside.run("true", options=["--ro", "deep/%s:/x" % "/".join(["d"] * 60)])
    assert done.rc == 0, done


@pytest.mark.parametrize("kind", ["directory", "tar"])
def test_a_planted_link_is_no_source_of_a_tree(inside, kind):
    os.umask(0o022)
    for name in ("out", "victim"):
        os.mkdir(os.path.join(inside.scratch, name))
    with open(os.path.join(inside.scratch, "victim/secret"), "w") as stream:
        stream.write("secret\n")
    subprocess.run(["tar", "cf", "victim.tar", "-C", "victim", "."], cwd=inside.scratch, check=True)
    real = "victim" if kind == "directory" else "victim.tar"
    os.symlink("../" + real, os.path.join(inside.scratch, "out/link"))
    give(inside.scratch)

    def build(*words):
        return inside.outside(inside.command(options=["build", *words], verb="rootfs"))
    done = build("one", "--from", "out/link")
    assert done.returncode == 2 and "out/link is a symbolic link to ../%s" % real in done.stderr, done
    assert not os.path.exists(os.path.join(inside.scratch, "one"))
    remedy = shlex.split(re.search(r"leads to: (.*); or follow every link: (.*)\n", done.stderr).group(1))
    for name, words in (("two", remedy), ("three", ["--from", "out/link", "--follow-links"])):
        done = build(name, *words)
        assert done.returncode == 0 and os.path.exists(os.path.join(inside.scratch, name, "secret")), done


# Without a sandbox

def test_a_source_that_was_exchanged_is_not_found_again(tmp_path):
    """As the child of an ordinary user looks for it, in a mount namespace of its own."""
    (tmp_path / "d").mkdir()
    found = source.open_path(os.fsencode(str(tmp_path / "d")))
    try:
        os.close(found.here())
        os.rename(str(tmp_path / "d"), str(tmp_path / "was"))
        for exchange in (lambda: (tmp_path / "d").mkdir(), lambda: (tmp_path / "d").rmdir(),
                         lambda: (tmp_path / "d").symlink_to("was")):
            exchange()
            with pytest.raises(OSError) as caught:
                found.here()
            assert caught.value.errno == errno.ESTALE
    finally:
        found.close()


def test_a_source_below_leads_over_no_link(tmp_path):
    (tmp_path / "d" / "in").mkdir(parents=True)
    (tmp_path / "link").symlink_to("d")
    top = source.open_path(os.fsencode(str(tmp_path)))
    try:
        top.below(b"d", b"in").close()
        for steps in ((b"link",), (b"link", b"in")):
            with pytest.raises(OSError) as caught:
                top.below(*steps).close()
            assert caught.value.errno in (errno.ELOOP, errno.ENOTDIR)
        assert stat.S_ISLNK(top.mode_of(b"link"))
    finally:
        top.close()
