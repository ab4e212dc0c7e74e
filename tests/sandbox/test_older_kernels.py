# SPDX-License-Identifier: Apache-2.0
"""Where a newer call is missing, the way round it gives the same sandbox.  An outer filter hides the call, so every way round
is walked on every kernel; Linux 5.10 walks them by itself."""
import json
import os
import secrets
import shlex
import signal
import subprocess

import pytest

from conftest import PYTHON, also_in_vm, become, lacking
from mrunc.sandbox.host import kernel
from outer_filter import ENOSYS, HIDDEN, behind

MOUNTS = """
for line in open('/proc/self/mountinfo'):
    words = line.split(' ')
    print(words[4], *sorted(words[5].split(',')), *words[words.index('-'):-1],
          *(word for word in words[-1].split(',') if not word.startswith(('uid=', 'gid='))))
"""


# Linux 4.18 lacks controls, too: .ci/hidden compares nothing, and looks at the containment itself.
@pytest.fixture(params=also_in_vm(sorted(set(HIDDEN) - {"Linux 4.18"}), "all of them"))
def hidden(request):
    """The rules of one filter."""
    return HIDDEN[request.param]


def finished(inside, wrap, code, options=(), **settings):
    """The finished process of Python code inside, its report, and the lines that it printed.  wrap: words before mrunc's."""
    path, nonce = os.path.join(inside.scratch, "report-%s.json" % secrets.token_hex(4)), secrets.token_hex(8)
    command = inside.command("/usr/bin/python3", "-I", "-S", "-c", "print(%r, flush=True)\n%s" % (nonce, code),
                             options=["--report", path, *options])
    done = inside.outside([*wrap, *command], **settings)
    assert done.stdout.startswith(nonce + "\n"), "the workload did not run: %r" % done
    with open(path) as stream:
        return done, json.load(stream), done.stdout.splitlines()[1:]


def test_every_mount_has_the_same_flags(inside, hidden):
    plain = finished(inside, [], MOUNTS)
    other = finished(inside, behind(inside, *hidden), MOUNTS)
    assert sorted(other[2]) == sorted(plain[2]) and len(plain[2]) > 15
    assert [(row["name"], row["in_force"]) for row in other[1]["controls"]] == \
        [(row["name"], row["in_force"]) for row in plain[1]["controls"]]


@pytest.fixture(params=["mount_setattr", "mount API"])
def old_mounts(request):
    """The rules of a filter under which mounts are restricted one by one."""
    return HIDDEN[request.param]


@pytest.mark.parametrize("options", also_in_vm([[], ["--proc", "full"], ["--harden"]], []), ids=["default", "proc full", "harden"])
def test_mounts_below_a_mount_are_restricted_too(inside, old_mounts, options):
    """MS_REMOUNT alone reaches the one at the top: these stay writable, with devices and set-uid programs."""
    script = """mount -t tmpfs none /usr/local
mkdir -p '/usr/local/a b/c' /usr/local/d
mount -t tmpfs none '/usr/local/a b/c'
mount -t tmpfs -o noexec none /usr/local/d
chmod 777 '/usr/local/a b/c' /usr/local/d
exec "$@"
"""
    wrap = ["unshare", "-m" if inside.who == "root" else "-Urm", "/bin/sh", "-ec", script, "sh"]
    code = MOUNTS + """
for place in ('/usr/local', '/usr/local/a b/c', '/usr/local/d'):
    try:
        open(place + '/made', 'w')
    except OSError as error:
        print(place, error.errno)
"""
    plain = finished(inside, wrap, code, options)
    other = finished(inside, wrap + behind(inside, *old_mounts), code, options)
    assert sorted(other[2]) == sorted(plain[2])
    for place in ("/usr/local", "/usr/local/a b/c", "/usr/local/d"):
        assert "%s 30" % place in other[2]  # EROFS
    line = [line for line in other[2] if line.startswith("/usr/local/d ")][0]
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(line.split()), "what the mount had stays: %s" % line


@pytest.mark.needs("overlay")  # root's source is mapped, which a tmpfs knows since Linux 6.3
def test_mounts_below_a_source_are_restricted_as_it_is(inside):
    place = os.path.join(inside.scratch, "shown")
    script = "cd %s; mount -t tmpfs -o mode=755 none .; cd %s; mkdir in\n" \
             "mount -t tmpfs -o mode=755 none in; cd /; exec \"$@\"" % (place, place)
    os.mkdir(place)
    wrap = ["unshare", "-m" if inside.who == "root" else "-Urm", "/bin/sh", "-ec", script, "sh"]
    code = "rows = [line.split() for line in open('/proc/self/mountinfo')]\n" \
           "print(*[row[5] for row in rows if row[4] in ('/x', '/x/in')])"
    done, _, lines = finished(inside, wrap, code, ["--ro", place + ":/x"])
    flags = [set(words.split(",")) for words in lines[0].split()]
    assert done.returncode == 0 and len(flags) == 2
    assert all({"ro", "nosuid", "nodev"} <= found for found in flags), lines


def test_a_covered_mount_below_is_refused(inside, old_mounts):
    """It can't be reached to be restricted, and would be there again when the upper one is gone."""
    script = "mount -t tmpfs none /usr/local\nmount -t tmpfs none /usr/local\nexec \"$@\""
    wrap = ["unshare", "-m" if inside.who == "root" else "-Urm", "/bin/sh", "-ec", script, "sh"]
    done = inside.outside(wrap + behind(inside, *old_mounts) + inside.command("/bin/echo", "ran"))
    assert (done.returncode, done.stdout) == (125, "") and "covers" in done.stderr, done


def test_the_tier_without_user_namespaces_walks_the_same_ways(inside_as_root, hidden):
    inside = inside_as_root
    options = ["--tier", "rootns", "--ro", "/usr/share:/shared"]
    plain, other = finished(inside, [], MOUNTS, options), finished(inside, behind(inside, *hidden), MOUNTS, options)
    assert sorted(other[2]) == sorted(plain[2]) and len(plain[2]) > 15
    assert {row["name"] for row in other[1]["controls"] if row["asked"] and not row["in_force"]} <= lacking()


def test_no_descriptor_of_the_callers_is_inherited(inside, hidden):
    code = """
import os
for fd in range(1000):
    try:
        os.fstat(fd)
        print(fd)
    except OSError:
        pass
"""
    opened = "exec 7</etc/passwd 9</usr 444</etc/passwd\nexec \"$@\""
    wrap = ["/bin/bash", "-c", opened, "bash"]
    assert finished(inside, wrap + behind(inside, *hidden), code)[2] == ["0", "1", "2"]
    outside = inside.outside(wrap + behind(inside, *hidden) + [PYTHON, "-I", "-S", "-c", code])
    assert {"7", "9", "444"} <= set(outside.stdout.split()), "they reach mrunc"


def test_without_mount_setattr_roots_sources_are_read_only_and_everybodys(inside_as_root, old_mounts):
    """They can't be mapped to their owner."""
    inside = inside_as_root
    wrap = behind(inside, *old_mounts)
    open_to_all, closed = os.path.join(inside.scratch, "open"), os.path.join(inside.scratch, "closed")
    for place, mode in ((open_to_all, 0o755), (closed, 0o700)):
        os.mkdir(place)
        with open(os.path.join(place, "file"), "w") as stream:
            stream.write("content")
        os.chmod(place, mode)
        os.chown(place, 1000, 1000)
    done = finished(inside, wrap, "print(open('/in/file').read())\nopen('/in/made', 'w')", ["--ro", open_to_all + ":/in"])
    assert done[2] == ["content"] and "Read-only file system" in done[0].stderr, done
    for option, place in (("--ro", closed), ("--rw", open_to_all)):
        done = inside.outside(wrap + inside.command("/bin/echo", "ran", options=[option, place + ":/in"]))
        assert done.returncode == 125 and done.stdout == "", (option, done)
        assert "its owner can't be mapped here" in done.stderr and "mrunc: remedy: " in done.stderr, (option, done)


def test_without_detached_mounts_roots_sources_are_reached_by_path(inside_as_root):
    """Linux before 5.2 can't hand a mount over; with it, the way to a source is nobody's business but the caller's."""
    inside = inside_as_root
    above = os.path.join(inside.scratch, "above")
    os.mkdir(above, 0o700)
    os.mkdir(above + "/open", 0o755)
    command = inside.command("/bin/ls", "-d", "/in", options=["--ro", above + "/open:/in"])
    assert inside.outside(behind(inside, *HIDDEN["mount_setattr"]) + command).stdout == "/in\n"
    done = inside.outside(behind(inside, *HIDDEN["mount API"]) + command)
    assert (done.returncode, done.stdout) == (125, ""), done
    assert above + " is not readable for everybody" in done.stderr and "mrunc: remedy: bring files in" in done.stderr, done


def test_without_mount_setattr_a_user_keeps_both(inside_as_user, old_mounts):
    inside = inside_as_user
    place = os.path.join(inside.scratch, "kept")
    inside.outside(["/bin/sh", "-c", "mkdir -m 700 %s" % shlex.quote(place)])
    done = finished(inside, behind(inside, *old_mounts), "open('/in/made', 'w').write('x')\nprint('made')",
                    ["--rw", place + ":/in"])
    assert done[2] == ["made"] and os.path.exists(place + "/made"), done


def test_an_overlay_is_refused_without_mount_setattr(inside_as_user, old_mounts):
    inside = inside_as_user
    tree = os.path.join(inside.scratch, "tree")
    assert inside.outside(["mkdir", tree]).returncode == 0
    command = inside.command("/bin/echo", "ran", options=["--ro", tree + ":/t", "--overlay=/t"])
    assert inside.outside(command).stdout == "ran\n"
    done = inside.outside(behind(inside, *old_mounts) + command)
    assert (done.returncode, done.stdout) == (125, ""), done
    first, remedy = done.stderr.splitlines()
    assert first == "mrunc: overlay: mount_setattr: Function not implemented", done
    assert remedy.startswith("mrunc: remedy: an overlay needs ") or "start mrunc outside of it" in remedy, done


def test_the_result_says_which_way_was_taken(inside):
    report = finished(inside, behind(inside, *HIDDEN["all of them"]), "")[1]
    how = {row["name"]: row["how"] for row in report["controls"]}
    assert how["userns"].endswith("; made by clone(2): no clone3 (Linux 5.3)"), how["userns"]
    assert how["pidns"].endswith("; ended by its pid: no pidfd_open, pidfd_send_signal (Linux 5.3, 5.1)"), how["pidns"]
    assert how["fds"].endswith("; each marked by itself: no close_range (Linux 5.11)"), how["fds"]
    assert how["mounts"].endswith("; made by mount(2), restricted one by one by mount(2), walked one component at a time: "
                                  "no mount API, mount_setattr, openat2 (Linux 5.2, 5.12, 5.6)"), how["mounts"]
    if not kernel.missing():
        assert not [row for row in finished(inside, [], "")[1]["controls"] if row["in_force"] and ": no " in row["how"]]



ENDS = {
    "deadline": (["--timeout", "0.3", "--grace", "0.1"], "while True:\n    pass", "timeout-wall", 124),
    "output": (["--max-output", "64k"], "while True:\n    print('x' * 4000)", "output-limit", None),
    "signal": ([], "import os\nos.kill(os.getpid(), 9)", "signal", 137),
}


@pytest.mark.parametrize("end", ENDS)
def test_without_pidfds_a_run_ends_in_every_way(inside, end):
    """Who was started in the background ends with it: the last holder of the pipe has gone when mrunc has ended."""
    options, code, reason, status = ENDS[end]
    code = "import os, signal\nif os.fork() == 0:\n    signal.signal(15, signal.SIG_IGN)\n    while True:\n" \
        "        signal.pause()\nsignal.signal(15, signal.SIG_IGN)\n" + code
    done, report, _ = finished(inside, behind(inside, *HIDDEN["any pidfd"]), code, options, timeout=60)
    assert report["reason"] == reason and (status is None or done.returncode == status), (done.stderr, report)


def test_without_pidfds_a_signal_for_mrunc_reaches_the_program(inside):
    command = behind(inside, *HIDDEN["any pidfd"]) + inside.command(
        "/usr/bin/python3", "-c", "import os, signal\nsignal.signal(15, lambda *_: os._exit(7))\nprint('up', flush=True)\n"
        "while True:\n    signal.pause()")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=inside.scratch, preexec_fn=become(inside.who))
    try:
        assert process.stdout.readline() == b"up\n"
        process.terminate()
        assert process.wait(60) == 7
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


LIBRARY = """
import os, signal, sys
sys.path.insert(0, %r)
import mrunc
box = mrunc.Sandbox()
process = box.popen(["sh", "-c", "echo up; exec sleep 1000"], stdout=-1)
process.stdout.readline()
process.kill()
print(box.run(["true"]).returncode, process.wait(), process.result.reason, flush=True)
other = os.fork()  # holds the launcher's socket, so that only the host's own end can tell
if other == 0:
    os.close(2)
    signal.pause()
print(other, flush=True)
process = box.popen(["sh", "-c", "exec sleep 1000"], stdout=2)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_without_pidfds_the_library_ends_what_it_started_and_goes_with_its_host(inside):
    """The sandbox of the killed host is the last that holds our pipe."""
    command = behind(inside, *HIDDEN["any pidfd"]) + [PYTHON, "-c", LIBRARY % os.path.dirname(inside.tool)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=inside.scratch,
                          preexec_fn=become(inside.who)) as host:
        first, other = host.stdout.readline(), int(host.stdout.readline() or 0)
        try:
            assert host.stderr.read() == b"" and first == b"0 137 killed-by-caller\n" and host.wait(60) == -9
            os.kill(other, 0)
        finally:
            os.kill(other, signal.SIGKILL)


#: What nothing stands in for: Linux 5.10 has them all.
NEEDED = ("seccomp", "memfd_create", "execveat")


@pytest.mark.parametrize("call", NEEDED)
def test_a_call_without_a_way_round_is_refused_with_the_remedy_and_the_doctor_knows(inside, call):
    wrap = behind(inside, (call, ENOSYS))
    done = inside.outside([*wrap, *inside.command("/bin/echo", "ran")])
    assert (done.returncode, done.stdout) == (125, ""), done
    first, remedy = done.stderr.splitlines()
    assert first.startswith("mrunc: ") and first.endswith(": Function not implemented"), done
    assert remedy.startswith("mrunc: remedy: "), done
    report = json.loads(inside.outside([*wrap, *inside.command(verb="doctor", options=["--json"])]).stdout)
    finding = [row for row in report["findings"] if row["name"] == "calls"][0]
    assert report["tiers"]["full"]["reason"] == first[len("mrunc: "):]
    assert finding["state"] == "missing" and call in finding["evidence"], finding
