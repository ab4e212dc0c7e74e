# SPDX-License-Identifier: Apache-2.0
"""--harden: nothing is writable but what was named, and what is writable does not execute.  And for every combination of the
options that touch mounts: what the plan says is what stands inside, flag by flag."""
import itertools
import json
import os
import shutil
import subprocess

import pytest

from conftest import PYTHON, USER, Inside, copy_tool

FLAGS = {"ro": os.ST_RDONLY, "nosuid": os.ST_NOSUID, "nodev": os.ST_NODEV, "noexec": os.ST_NOEXEC}
PLACES = ("/", "/tmp", "/box", "/root", "/dev/shm", "/run", "/var/tmp", "/usr", "/etc", "/opt", "/dev", "/srv")


def writable_places(inside, *options):
    code = ("import os\n"
            "for place in %r:\n"
            "    try:\n"
            "        os.close(os.open(place + '/made' + place.replace('/', '-'), os.O_CREAT | os.O_EXCL | os.O_WRONLY)); print(place)\n"
            "    except OSError as error:\n"
            "        assert error.errno in (30, 13), (place, error)\n" % (PLACES,))
    return inside.python(code, options=list(options)).out.split()


def test_nothing_is_writable(inside):
    assert writable_places(inside) == ["/tmp", "/box", "/root", "/dev/shm", "/var/tmp"]
    assert writable_places(inside, "--harden") == []
    assert writable_places(inside, "--harden", "--writable", "/srv", "--writable", "/tmp=1M") == ["/tmp", "/var/tmp", "/srv"]


def test_a_writable_place_has_its_size(inside):
    done = inside.python("import os\nprint(os.statvfs('/srv').f_blocks * os.statvfs('/srv').f_frsize)",
                         options=["--harden", "--writable", "/srv=3M"])
    assert done.out == "%d\n" % (3 << 20)


WRITE_AND_RUN = """
import os, shutil, sys
def attempt(name, path, *argv):
    pid = os.fork()
    if pid == 0:
        try:
            os.execv(path, list(argv or [path]))
        except OSError as error:
            os._exit(100 + error.errno)
    status = os.waitpid(pid, 0)[1]
    print(name, os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status), flush=True)
shutil.copy('/usr/bin/true', PLACE + '/t')
attempt('program', PLACE + '/t')
import glob
loader = [path for pattern in ('/lib64/ld-linux-x86-64.so.2', '/lib/ld-linux-aarch64.so.1') for path in glob.glob(pattern)][0]
attempt('loader', loader, loader, PLACE + '/t')
with open(PLACE + '/s', 'w') as script:
    script.write('#!/bin/sh\\nexit 0\\n')
os.chmod(PLACE + '/s', 0o755)
attempt('script', PLACE + '/s')
try:
    fd = os.memfd_create('x', FLAGS)
    os.write(fd, open('/usr/bin/true', 'rb').read())
    os.set_inheritable(fd, True)
    attempt('memfd-loader', loader, loader, '/proc/self/fd/%d' % fd)
    os.close(os.open('/proc/self/fd/%d' % fd, os.O_RDONLY))
    os.fchmod(fd, 0o755)
    attempt('memfd', '/proc/self/fd/%d' % os.dup(fd))
except OSError as error:
    print('memfd', error.errno)
attempt('interpreter', '/bin/sh', 'sh', PLACE + '/s')
"""


def run_written(inside, options, flags="0"):
    code = WRITE_AND_RUN.replace("PLACE", "'/srv'").replace("FLAGS", flags)
    return dict(line.split() for line in inside.python(code, options=options).out.splitlines())


def test_what_was_written_does_not_execute(inside):
    assert set(run_written(inside, ["--tmpfs", "/srv"]).values()) == {"0"}
    got = run_written(inside, ["--harden", "--writable", "/srv"])
    assert (got["program"], got["script"], got["memfd"]) == ("113", "113", "13")  # EACCES
    assert got["loader"] == "127"  # it can't map it for execution
    assert got["interpreter"] == "0", "interpreters read scripts, and nothing can hinder that"


def test_an_anonymous_file_is_not_to_be_had_whatever_its_flags(inside):
    """MFD_NOEXEC_SEAL keeps execve from it, but the dynamic loader maps it all the same."""
    assert run_written(inside, ["--tmpfs", "/srv"], flags="8")["memfd-loader"] == "0"
    got = run_written(inside, ["--harden", "--writable", "/srv"], flags="8")
    assert got["memfd"] == "13" and "memfd-loader" not in got


def test_a_copy_executes_and_cannot_be_changed(inside):
    done = inside.run("sh", "-c", "./true && echo ran; echo x >> true; rm true; chmod 600 true; mv true /tmp/x; echo done",
                      options=["--harden", "--copy", "/usr/bin/true"])
    assert done.out == "ran\ndone\n" and done.err.count("Read-only file system") == 4


def test_a_writable_host_directory_does_not_execute(inside):
    folder = os.path.join(inside.scratch, "out")
    os.mkdir(folder)
    os.chown(folder, USER, USER) if os.geteuid() == 0 else None
    command = ["sh", "-c", "cp /usr/bin/true /srv/t; /srv/t; echo $?"]
    assert inside.run(*command, options=["--rw", folder + ":/srv"]).out == "0\n"
    assert inside.run(*command, options=["--rw", folder + ":/srv", "--harden"]).out == "126\n"
    assert os.listdir(folder) == ["t"]


def test_a_users_output_file_does_not_execute(inside):
    """The descriptor is the host's file, on a mount that may execute."""
    code = ("import os\nos.fchmod(1, 0o755)\nfd = os.open('/proc/self/fd/1', os.O_RDONLY)\n"
            "os.write(1, open('/usr/bin/true', 'rb').read())\nos.dup2(2, 1)\n"
            "try:\n    os.execv('/proc/self/fd/%d' % fd, ['t'])\nexcept OSError as error:\n    print(error.errno, flush=True)\n")
    path = os.path.join(inside.scratch, "output")
    with open(path, "wb") as stream:
        os.fchown(stream.fileno(), USER, USER) if inside.who == "user" and os.geteuid() == 0 else None
        done = inside.outside(inside.command("/usr/bin/python3", "-I", "-S", "-c", code, options=["--harden"]), stdout=stream)
    assert "13" in done.stderr or inside.who == "root" and "Permission" in done.stderr, done


def test_there_is_no_terminal_device_unless_asked_for(inside):
    look = ["sh", "-c", "test -e /dev/tty && echo there; test -e /dev/null && echo null"]
    assert inside.run(*look).out == "there\nnull\n"
    assert inside.run(*look, options=["--harden"]).out == "null\n"
    assert inside.run(*look, options=["--harden", "--tty"]).out == "there\nnull\n"


def test_calls_of_exploits_kill(inside):
    code = "import ctypes\nprint(ctypes.CDLL(None).ptrace(16, 1, 0, 0), flush=True)"
    assert inside.python(code).out == "-1\n"
    done = inside.python(code, options=["--harden"])
    assert (done.rc, done.out, done.result["reason"]) == (159, "", "seccomp")


@pytest.mark.parametrize("options, said", [
    (["--harden", "--proc", "full"], "contradicts --proc full"),
    (["--harden", "--unsafe-without", "landlock"], "contradicts --unsafe-without"),
    (["--harden", "--tmpfs", "/srv"], "contradicts --tmpfs"),
    (["--harden", "--seccomp", "default"], "contradicts --seccomp default"),
    (["--writable", "/srv"], "goes with --harden"),
    (["--harden", "--writable", "/box", "--copy", "/bin/true"], "may not hold such a file"),
    (["--harden", "--writable", "srv"], "must be absolute"),
    (["--harden", "--writable", "/srv=0"], "more than 0"),
    (["--harden", "--writable", "/usr/x"], "nothing is made in /usr"),
    (["--harden", "--writable", "/srv", "--writable", "/srv"], "named twice"),
])
def test_contradictions_are_named(inside_as_user, options, said):
    done = inside_as_user.run("/bin/echo", "ran", options=options)
    assert done.rc == 2 and said in done.err and done.out == "", done


# -- the plan is what stands inside ------------------------------------------------------------------------------------

FACTORS = {
    "harden": [(), ("--harden",)],
    "proc": [(), ("--proc", "full"), ("--proc", "none")],
    "tty": [(), ("--tty",)],
    "user": [(), ("--user", "1000:1000")],
    "ro": [(), ("--ro", "DIR:/mnt/d"), ("--ro", "FILE:/srv/f")],
    "rw": [(), ("--rw", "OUT:/out"), ("--rw", "OUT:/mnt/d/sub")],
    "copy": [(), ("--copy", "/bin/true"), ("--copy", "/bin/true:/opt/here/t")],
    "more": [(), ("TMPFS", "/data=4M"), ("TMPFS", "/tmp=4M"), ("TMPFS", "/dev/shm=4M")],
    "here": [(), ("--here",)],
}


def allowed(row):
    """Combinations that are no contradiction."""
    if ("--harden",) in row.values() and ("--proc", "full") in row.values():
        return False
    if row.get("rw") == ("--rw", "OUT:/mnt/d/sub") and row.get("ro", ()) != ("--ro", "DIR:/mnt/d"):
        return "ro" not in row  # undecided yet
    return not (row.get("here") and row.get("copy") == ("--copy", "/bin/true"))  # nothing is copied into a host directory


def pairwise():
    """Rows of FACTORS in which each allowed pair of values stands at least once."""
    names = list(FACTORS)
    wanted = set()
    for one, two in itertools.combinations(names, 2):
        for a, b in itertools.product(FACTORS[one], FACTORS[two]):
            if allowed({one: a, two: b}):
                wanted.add(((one, a), (two, b)))
    rows = []
    while wanted:
        best, covers = None, set()
        for first in sorted(wanted)[:1]:
            row = dict(first)
            if row.get("rw") == ("--rw", "OUT:/mnt/d/sub"):
                row["ro"] = ("--ro", "DIR:/mnt/d")
            for name in names:
                if name not in row:
                    row[name] = max((value for value in FACTORS[name] if allowed(dict(row, **{name: value}))), key=lambda value: sum(
                        pair in wanted for other in row for pair in (((name, value), (other, row[other])),
                                                                     ((other, row[other]), (name, value)))))
            best = row
            covers = {((one, row[one]), (two, row[two])) for one, two in itertools.combinations(names, 2)} & wanted
        assert allowed(best), best
        assert covers, "no row for %r" % (sorted(wanted)[0],)
        wanted -= covers
        rows.append([best[name] for name in names])
    return rows


def options_of(row, folder, who):
    """The row as options, with places that exist."""
    out = []
    for value in row:
        for word in value:
            word = word.replace("DIR", folder + "/dir").replace("FILE", folder + "/file").replace("OUT", folder + "/out")
            out.append(word.replace("TMPFS", "--writable" if ("--harden",) in row else "--tmpfs"))
    return out


def differences(planned, found, sources):
    """[(mount point, words)] in which the plan and what stands there differ.  planned: {point: [flags]}; found: {point: set};
    sources: {point: the flags that the source's own mount brings along}."""
    wrong = [(point, "not there") for point in sorted(set(planned) - set(found))]
    wrong += [(point, "not planned") for point in sorted(set(found) - set(planned))]
    for point in sorted(set(planned) & set(found)):
        need, got = set(planned[point]) & set(FLAGS), found[point]
        if need - got or got - need - sources.get(point, set()):
            wrong.append((point, "planned %s, is %s" % (sorted(need), sorted(got))))
    return wrong


LOOK = """
import json, os, sys
out = {}
try:
    lines = open('/proc/self/mountinfo').read().splitlines()
except OSError:
    lines = []
points = [line.split()[4] for line in lines] or json.loads(sys.argv[1])
for point in points:
    try:
        out[point] = os.statvfs(point).f_flag
    except OSError:
        pass  # what is mounted over by something deeper, or may not be walked to
print('FOUND', json.dumps([bool(lines), out]))
"""


def compare(inside, row):
    folder = inside.scratch
    for name in ("dir", "dir/sub", "out"):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
        if os.geteuid() == 0:
            os.chown(os.path.join(folder, name), USER, USER)
    with open(os.path.join(folder, "file"), "w") as stream:
        stream.write("x")
    options = options_of(row, folder, inside.who)
    plan = inside.outside(inside.command("/bin/true", options=["--print-plan", "--json", *options]))
    assert plan.returncode == 0, (options, plan.stderr)
    plan = json.loads(plan.stdout)
    planned = plan["mounts"]
    done = inside.run("/usr/bin/python3", "-I", "-S", "-c", LOOK, json.dumps(sorted(planned)), options=options)
    assert "FOUND" in done.out, (options, done)
    complete, flags = json.loads(done.out.partition("FOUND ")[2])
    found = {point: {word for word, bit in FLAGS.items() if value & bit} for point, value in flags.items()}
    sources = {}
    for op in plan["operations"]:
        if op["kind"] in ("bind", "device", "mask-file"):
            value = os.statvfs(op["src"]).f_flag
            sources[op["dst"]] = {word for word, bit in FLAGS.items() if value & bit}
    if not complete:
        assert row[list(FACTORS).index("proc")] == ("--proc", "none")
    return options, differences(planned, found, sources)


ROWS = pairwise()


def test_the_combinations_are_many_enough():
    assert 12 <= len(ROWS) <= 60
    print("\n".join(" ".join(word for value in row for word in value) or "(none)" for row in ROWS))


@pytest.mark.parametrize("number", range(len(ROWS)))
def test_the_plan_is_what_stands_inside(inside, number):
    options, wrong = compare(inside, ROWS[number])
    assert wrong == [], options


def test_a_mount_that_is_not_as_planned_is_found(inside, tmp_path_factory, public_folder):
    """The same comparison, with a tool in which one step is broken and the gate looks away."""
    folder = os.path.join(public_folder, "broken-%s" % inside.who)
    os.mkdir(folder)
    copy_tool(folder)
    for name, good, bad in (("launch/child.py", "mount.mount_setattr(fd, mount.MOUNT_ATTR_RDONLY, recursive=False)", "pass"),
                            ("launch/gate.py", "if not need <= got[point]:", "if False:")):
        path = os.path.join(folder, "sandbox", name)
        with open(path) as stream:
            text = stream.read()
        assert text.count(good) == 1
        with open(path, "w") as stream:
            stream.write(text.replace(good, bad))
    subprocess.run([PYTHON, "-m", "compileall", "-q", folder], check=True)
    broken = Inside(inside.who, os.path.join(folder, "mrunc.py"), inside.scratch)
    row = [FACTORS[name][1] if name == "harden" else () for name in FACTORS]
    assert compare(inside, row)[1] == []
    assert [point for point, _ in compare(broken, row)[1]] == ["/box", "/dev/shm", "/root", "/tmp"]
    shutil.rmtree(folder)


def test_the_gate_sees_a_place_that_stayed_writable(inside, public_folder):
    folder = os.path.join(public_folder, "unsealed-%s" % inside.who)
    os.mkdir(folder)
    copy_tool(folder)
    path = os.path.join(folder, "sandbox", "launch", "child.py")
    with open(path) as stream:
        text = stream.read()
    with open(path, "w") as stream:
        stream.write(text.replace("mount.mount_setattr(fd, mount.MOUNT_ATTR_RDONLY, recursive=False)", "pass"))
    done = Inside(inside.who, os.path.join(folder, "mrunc.py"), inside.scratch).run("/bin/echo", "ran", options=["--harden"])
    assert (done.rc, done.out) == (125, "") and "lacks ro" in done.err
