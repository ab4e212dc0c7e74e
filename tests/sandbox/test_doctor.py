# SPDX-License-Identifier: Apache-2.0
"""The doctor: on a good host all is well; each bad state, provoked in namespaces that are thrown away, changes its finding,
which then names what helps; a run that fails there says the same."""
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import PYTHON, PYTHON_PREFIX, ROOT, USER, copy_tool, make_inside, pythons
from outer_filter import EPERM, EACCES, EINVAL, EBUSY, ENOSPC, ENOSYS, EUSERS, EOPNOTSUPP, HAS, KILL, behind

ECHO = ("/bin/echo", "the workload ran")
STATES = ("ok", "weak", "missing")


class Report:
    """rc, first line's JSON, and findings by name."""

    def __init__(self, done):
        assert done.stderr == "", done.stderr
        self.rc, self.data = done.returncode, json.loads(done.stdout)
        self.findings = {row["name"]: row for row in self.data["findings"]}
        assert len(self.findings) == len(self.data["findings"]), "a name is there twice"
        for row in self.data["findings"]:
            assert row["state"] in STATES and row["evidence"], row
            assert bool(row["without"]) == (row["state"] != "ok"), row
            assert "the check itself failed" not in row["evidence"], row

    def __getitem__(self, name):
        return self.findings[name]

    def remedy(self, name):
        """(why, [command]) of a finding."""
        remedy = self.findings[name]["remedy"]
        return remedy["why"], remedy["commands"]


def doctor(inside, wrap=(), python=None, **settings):
    """`mrunc doctor --json`, below another command."""
    return Report(inside.outside([*wrap, *inside.command(options=["--json"], verb="doctor", python=python)], **settings))


#: {(who, *wrap): Future of a Report}
ASKED = {}


def ask(pool, inside, wrap):
    """The Future of the doctor's report below a wrap, which is made once for each caller: many findings are of one state."""
    key = (inside.who, *wrap)
    if key not in ASKED:
        ASKED[key] = pool.submit(doctor, inside, wrap)
    return ASKED[key]


def asked(inside, wrap=()):
    """The report itself."""
    with ThreadPoolExecutor(1) as pool:
        return ask(pool, inside, wrap).result()


def undisturbed(inside):
    """The doctor's report on this host as it is."""
    return asked(inside)


def shell(script, *options):
    """A wrap: in new namespaces, after a script; options: of unshare(1)."""
    return ["unshare", *options, "/bin/sh", "-ec", script + '\nexec "$@"', "sh"]


def in_userns(script, *options):
    """A wrap in a user namespace of its own, whose limits are nobody else's."""
    return shell(script, "-Ur", *options)


def on_a_host(inside, script):
    """A wrap in a mount namespace of its own; root's still is the host to look at."""
    return shell(script, "-m") if inside.who == "root" else shell(script, "-Urm")


def fake_sysctls(inside, **values):
    """A wrap in which /proc/sys/kernel holds these files alone (yama__ptrace_scope is yama/ptrace_scope)."""
    script = "mount -t tmpfs none /proc/sys/kernel\nmkdir /proc/sys/kernel/yama\n"
    script += "".join("echo %s > /proc/sys/kernel/%s\n" % (value, name.replace("__", "/")) for name, value in values.items())
    return on_a_host(inside, script)


SHIM = r"""
import os, sys
real = os.uname()
%s
sys.path.insert(0, %r)
import mrunc
sys.exit(mrunc.main(["doctor", "--json"] if sys.argv[1:] == [] else sys.argv[1:]))
"""


def shimmed(inside, patch, *words):
    """The finished process of a doctor, or of another verb, whose Python was changed first."""
    return inside.outside([PYTHON, "-I", "-S", "-c", SHIM % (patch, os.path.dirname(inside.tool)), *words])


UNAME = "os.uname = lambda: type(real)((real[0], real[1], %s, real[3], %s))"


# The good host, which every provoked state is compared with

def test_on_this_host_all_is_well(inside):
    report = undisturbed(inside)
    assert report.rc == 0 and report.data["tier"] == "full" and report.data["inside"] is None, report.data
    assert report.data["line"].startswith("the full tier would run here")
    bad = {name for name, row in report.findings.items() if row["state"] != "ok"}
    assert bad <= {"cgroup", "cgroup-kill"}, [report[name] for name in bad]


def test_a_healthy_host_is_one_screen(inside):
    done = inside.outside(inside.command(verb="doctor"))
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and done.stderr == "" and len(lines) <= 24, done.stdout
    assert lines[0].startswith("the full tier would run here") and all(len(line) <= 200 for line in lines)
    more = inside.outside(inside.command(verb="doctor", options=["-v"]))
    assert all(re.search(r"^\w+ +%s\b" % re.escape(name), more.stdout, re.M) for name in undisturbed(inside).findings), more.stdout


@pytest.mark.parametrize("version,python", pythons(), ids=[version for version, _ in pythons()])
def test_every_python_can_ask(tool_folder, version, python):
    done = subprocess.run([python, "-I", "-S", os.path.join(tool_folder, "mrunc.py"), "doctor", "--json"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=120)
    report = Report(done)
    assert report.rc == 0 and report["python"]["evidence"] == version, report.data


def test_the_library_asks_in_a_process_of_its_own(inside):
    code = ("import sys, os; sys.path.insert(0, %r); import mrunc\nfork = os.fork\nos.fork = None\nanswer = mrunc.doctor()\n"
            "print(answer['tier'], answer['schema'], len(answer['findings']) > 20)" % os.path.dirname(inside.tool))
    done = inside.outside([PYTHON, "-I", "-S", "-c", code])
    assert done.stdout == "full 1 True\n", done


@pytest.mark.parametrize("words,what", [(["x"], "doctor takes no arguments: x"), (["--jsn"], "unknown option --jsn")])
def test_a_mistake_is_exit_2(inside, words, what):
    done = inside.outside(inside.command(verb="doctor", options=words))
    assert done.returncode == 2 and done.stdout == "" and done.stderr.startswith("mrunc: options: " + what), done
    assert inside.outside(inside.command(verb="doctor", options=["--help"])).stdout.startswith("usage: ")


@pytest.fixture(scope="module")
def ahead(request, tool_folder):
    """All states that are provoked for the tests of this run, asked for two at a time: they share nothing."""
    with ThreadPoolExecutor(2) as pool:
        for item in request.session.items:
            if "ahead" in item.fixturenames:
                inside = make_inside(item.callspec.params["inside"], tool_folder)
                ask(pool, inside, item.callspec.params["wrap"](inside))


# Each finding, provoked.  name: [(id, wrap(inside), state, part of the evidence, cause or None)]

def limited(kind):
    return lambda inside: in_userns("echo 0 > /proc/sys/user/max_%s_namespaces" % kind)


def masked(inside):
    name = [name for name in ("acpi", "bus", "fs", "irq") if os.path.isdir("/proc/" + name)][0]
    # On every proc that the host has mounted anywhere: one whole one is enough for the kernel.
    return in_userns("grep ' - proc ' /proc/self/mountinfo | cut -d' ' -f5 | sort -u | while read -r place; do\n"
                     "mount -t tmpfs none \"$place/%s\"\ndone" % name, "-mpf", "--mount-proc")


def labelled(inside, text):
    path = os.path.join(os.path.dirname(inside.scratch), re.sub(r"\W+", "-", text))  # by which the wrap is known again
    with open(path, "w") as stream:
        stream.write(text)
    return on_a_host(inside, "mount --bind %s /proc/$$/attr/current" % shlex.quote(path))


def cgroups(inside, own, controllers=None, mount="rw", tree="rw"):
    """A wrap in which /proc tells of other control groups.  own: text of /proc/self/cgroup; controllers: of a cgroup2 mount,
    a plain directory, None for no such mount; mount, tree: rw or ro, as mountinfo says and as the directory is."""
    folder = os.path.join(inside.scratch, "cg")
    os.makedirs(folder)
    for name, text in (("cgroup.controllers", controllers or ""), ("cgroup.subtree_control", ""), ("cgroup.procs", "")):
        with open(os.path.join(folder, name), "w") as stream:
            stream.write(text + "\n")
    if inside.who == "user" and os.geteuid() == 0:
        subprocess.run(["chown", "-R", "%d:%d" % (USER, USER), folder], check=True)
    files = [os.path.join(inside.scratch, name) for name in ("mountinfo", "own")]
    with open(files[0], "w") as stream, open("/proc/self/mountinfo") as real:
        stream.write("".join(line for line in real if " - cgroup" not in line))
        if controllers is not None:
            stream.write("99 22 0:99 / %s %s,relatime - cgroup2 cgroup2 %s\n" % (folder, mount, mount))
    with open(files[1], "w") as stream:
        stream.write(own)
    script = "mount --bind %s /proc/$$/mountinfo\nmount --bind %s /proc/$$/cgroup\n" % (files[0], files[1])
    if tree == "ro":
        script += "mount --bind %s %s\nmount -o remount,bind,ro %s\n" % (folder, folder, folder)
    return on_a_host(inside, script)


ALL = "cpu io memory pids"
CGROUPS = [
    ("v1", dict(own="4:memory:/x\n1:cpu:/\n"), "missing", "cgroup v1 only", "cgroup-v1"),
    ("hybrid", dict(own="4:memory:/x\n1:cpu:/\n2:pids:/\n3:blkio:/\n0::/\n", controllers="hugetlb"), "missing",
     "belongs to cgroup v1", "cgroup-v1"),
    ("none", dict(own=""), "missing", "not mounted", "cgroup-none"),
    ("read-only mount", dict(own="0::/\n", controllers=ALL, mount="ro"), "missing", "read-only", "cgroup-read-only"),
    ("outside", dict(own="0::/../x\n", controllers=ALL), "missing", "outside the cgroup namespace", "cgroup-outside"),
    ("not ours", dict(own="0::/\n", controllers=ALL, tree="ro"), "missing", "not ours", "cgroup-user"),
    ("no io", dict(own="0::/\n", controllers="cpu memory pids"), "weak", "not io", "cgroup-lacks"),
    ("ours", dict(own="0::/\n", controllers=ALL), "ok", "memory cpu pids io in ", None),
]


@pytest.mark.parametrize("settings,state,evidence,cause", [row[1:] for row in CGROUPS], ids=[row[0] for row in CGROUPS])
def test_the_control_groups_that_there_are_decide(inside, settings, state, evidence, cause):
    report = doctor(inside, cgroups(inside, **settings))
    finding = report["cgroup"]
    assert finding["state"] == state and evidence in finding["evidence"], finding
    assert (finding["remedy"] or {}).get("cause") == cause, finding
    assert ("--memory" in (finding["without"] or "")) == (state == "missing") and \
        ("--io-read" in (finding["without"] or "")) == (state != "ok"), finding
    left = sorted(os.listdir(os.path.join(inside.scratch, "cg")))
    assert left == ["cgroup.controllers", "cgroup.procs", "cgroup.subtree_control"], left


def test_a_kernel_without_cgroup_kill_is_said(inside):
    report = doctor(inside, cgroups(inside, own="0::/\n", controllers=ALL))
    assert (report["cgroup-kill"]["state"], report["cgroup-kill"]["evidence"]) == ("weak", "not available: since Linux 5.14")
    assert "process by process" in report["cgroup-kill"]["without"]


def test_cgroup_kill_is_there(inside_as_root):
    if not any(" - cgroup2 " in line for line in open("/proc/self/mountinfo")):
        pytest.skip("no cgroup2 is mounted on this machine")
    assert undisturbed(inside_as_root)["cgroup-kill"]["evidence"] == "available"


NEW_SEVEN = {"mountns": "mnt", "pidns": "pid", "utsns": "uts", "ipcns": "ipc", "netns": "net", "cgroupns": "cgroup",
             "timens": "time"}
PROVOKED = {
    "lsm-label": [("AppArmor", lambda inside: labelled(inside, "docker-default (enforce)"), "weak", "docker-default", "profile"),
                  ("SELinux", lambda inside: labelled(inside, "user_u:user_r:user_t:s0"), "ok", "SELinux user_u", None)],
    "outer-nnp": [("setpriv", lambda inside: ["setpriv", "--no-new-privs"], "weak", "set already", "outer")],
    "outer-seccomp": [("filter", lambda inside: behind(inside, ("acct", EPERM)), "weak", "1 filter in force", "outer")],
    "yama": [("2", lambda inside: fake_sysctls(inside, yama__ptrace_scope=2), "weak", "ptrace_scope 2", "yama"),
             ("1", lambda inside: fake_sysctls(inside, yama__ptrace_scope=1), "ok", "ptrace_scope 1", None)],
    "max_user_namespaces": [("0", limited("user"), "missing", "= 0", "namespaces-max")],
    "apparmor_restrict": [
        ("in force", lambda inside: fake_sysctls(inside, apparmor_restrict_unprivileged_userns=1) + behind(
            inside, ("clone3", EACCES)), "missing", "= 1", "userns-capabilities"),
        ("excepted", lambda inside: fake_sysctls(inside, apparmor_restrict_unprivileged_userns=1), "ok", "= 1", None)],
    "calls": [(call, lambda inside, call=call: behind(inside, (call, ENOSYS)),
               "missing" if call in ("memfd_create", "seccomp") else "weak",
               "not available: %s (since Linux " % call, "kernel-old")
              for call in ("clone3", "pidfd_open", "pidfd_send_signal", "close_range", "openat2", "open_tree",
                           "move_mount", "fsopen", "fsconfig", "fsmount", "mount_setattr", "memfd_create", "seccomp")],
    "userns": [("ENOSPC", limited("user"), "missing", "No space left", "namespaces-max"),
               ("ENOSYS", lambda inside: behind(inside, ("clone3", ENOSYS), ("clone", 0, 0x10000000, ENOSYS, HAS)), "missing",
                "not implemented", "kernel-old"),
               ("EPERM", lambda inside: behind(inside, ("clone3", EPERM)), "missing", "not permitted", "userns-forbidden"),
               ("EACCES", lambda inside: behind(inside, ("clone3", EACCES)), "missing", "Permission denied", "userns-lsm"),
               ("a profile's EACCES", lambda inside: labelled(inside, "snug (enforce)") + behind(inside, ("clone3", EACCES)),
                "missing", "Permission denied", "userns-profile"),
               ("EUSERS", lambda inside: behind(inside, ("clone3", EUSERS)), "missing", "clone3: nested too deeply", "userns-depth"),
               ("switched off", lambda inside: fake_sysctls(inside, unprivileged_userns_clone=0) + behind(
                   inside, ("clone3", EPERM)), "missing", "not permitted", "userns-clone"),
               ("killed", lambda inside: behind(inside, ("clone3", KILL)), "missing", "killed by signal 31", None)],
    "uidmap": [("read-only /proc", lambda inside: on_a_host(inside, "mount -o remount,bind,ro /proc"), "missing",
                "Read-only file system", "proc-read-only")],
    "userns-capabilities": [
        ("AppArmor's way", lambda inside: fake_sysctls(inside, apparmor_restrict_unprivileged_userns=1) + behind(
            inside, ("prctl", 0, 24, EPERM)), "missing", "not permitted", "userns-capabilities"),
        ("another's way", lambda inside: behind(inside, ("prctl", 0, 24, EPERM)), "missing", "not permitted", "maps")],
    "userns-nested": [("one level", lambda inside: behind(inside, ("unshare", 0, 0x10000000, ENOSPC)), "missing", "No space left",
                       "namespaces-max")],
    "userns-limit": [("read-only /proc/sys", lambda inside: on_a_host(
        inside, "mount --bind /proc/sys /proc/sys\nmount -o remount,bind,ro /proc/sys"), "missing", "Read-only", "proc-sys")],
    "mounts": [("fsopen", lambda inside: behind(inside, ("fsopen", EPERM)), "missing", "fsopen", "maps")],
    "proc": [("masked", masked, "missing", "masked: /proc/", "proc-masked"),
             ("masked, no namespaces", lambda inside: masked(inside) + behind(inside, ("clone3", EPERM)), "weak", "masked",
              "proc-masked")],
    "devpts": [("fsopen", lambda inside: behind(inside, ("fsopen", EPERM)), "missing", "fsopen", "maps")],
    "overlay": [("fsopen", lambda inside: behind(inside, ("fsopen", EPERM)), "weak", "fsopen", "overlay")],
    "seccomp": [("forbidden", lambda inside: behind(inside, ("seccomp", EPERM)), "missing", "not permitted", "seccomp"),
                ("an old kernel", lambda inside: behind(inside, ("seccomp", 0, 2, EINVAL)), "weak",
                 "without the actions kill_process user_notif log", None)],
    "seccomp-notify": [("another listener", lambda inside: behind(inside, ("seccomp", 1, 8, EBUSY)), "weak", "busy",
                        "seccomp-notify")],
    "landlock": [("ENOSYS", lambda inside: behind(inside, ("landlock_create_ruleset", ENOSYS)), "missing", "not implemented",
                  "landlock-old"),
                 ("EOPNOTSUPP", lambda inside: behind(inside, ("landlock_create_ruleset", EOPNOTSUPP)), "missing",
                  "not supported", "landlock-off")],
    # The real setting takes the host's root, even in a pid namespace of its own.
    "memfd": [("noexec", lambda inside: in_userns("echo 2 > /proc/sys/vm/memfd_noexec", "-mpf", "--mount-proc")
               if inside.who == "root" and os.geteuid() == 0 else behind(inside, ("memfd_create", EACCES)), "missing",
               "vm.memfd_noexec = ", "memfd")],
    "pidfd": [("ENOSYS", lambda inside: behind(inside, ("pidfd_open", ENOSYS)), "weak", "pidfd_open", "kernel-old")],
    "vantage": [("user namespace", lambda inside: in_userns(":"), "weak", "own user namespace", None)],
    "unprivileged_userns_clone": [("0", lambda inside: fake_sysctls(inside, unprivileged_userns_clone=0), "missing",
                                   "kernel.unprivileged_userns_clone = 0", "userns-clone")],
}
PROVOKED.update((name, [("limit 0", limited(kind), "weak" if name == "timens" else "missing", "No space left",
                         "namespaces-max")]) for name, kind in NEW_SEVEN.items())
CASES = [(name,) + case for name, cases in sorted(PROVOKED.items()) for case in cases]
#: With tests of their own below.
ELSEWHERE = {"machine", "python", "bytecode", "wsl", "host-ids", "cgroup", "cgroup-kill"}


@pytest.mark.parametrize("name,_,wrap,state,evidence,cause", CASES, ids=["%s-%s" % (case[0], case[1]) for case in CASES])
def test_a_bad_state_changes_its_finding(inside, ahead, name, _, wrap, state, evidence, cause):
    report = asked(inside, wrap(inside))
    good, bad = undisturbed(inside)[name], report[name]
    assert good["state"] == "ok" and evidence not in good["evidence"], good
    assert bad["state"] == state, bad
    assert evidence.lower() in bad["evidence"].lower(), bad
    assert (bad["remedy"] or {}).get("cause") == cause, bad
    if cause in ("namespaces-max", "userns-clone", "yama", "memfd") and state != "ok" and report.data["inside"] != "sandbox":
        assert any("sysctl -w" in command for command in bad["remedy"]["commands"]), bad


def test_there_is_a_provoked_state_for_every_finding(inside):
    assert set(undisturbed(inside).findings) == (set(PROVOKED) | ELSEWHERE) - ({"host-ids"} if inside.who == "user" else set())


# What can't be provoked by a wrap

@pytest.mark.parametrize("patch,evidence", [
    (UNAME % ("real[2]", "'riscv64'"), "no filter for riscv64"),
    ("import _ctypes\nsize = _ctypes.sizeof\n_ctypes.sizeof = lambda kind: 4 if kind._type_ == 'P' else size(kind)",
     "no filter for a 32-bit Python on %s" % os.uname().machine),
], ids=["riscv64", "32-bit Python"])
def test_another_machine_is_said_and_nothing_is_tried(inside, patch, evidence):
    report = Report(shimmed(inside, patch + "\nos.fork = None"))
    assert report.rc == 3 and report.data["tier"] is None
    assert report.data["line"] == "no tier would run here: " + evidence
    assert report["machine"]["state"] == "missing" and report["machine"]["evidence"] == evidence
    assert report.remedy("machine") == ("mrunc runs with a 64-bit Python on x86_64 and aarch64", [])
    assert "userns" not in report.findings


def test_a_personality_of_32_bits_is_another_machine(inside):
    if os.uname().machine != "x86_64":
        pytest.skip("setarch linux32 is x86's")
    report = doctor(inside, ["setarch", "linux32"])
    assert (report.rc, report["machine"]["evidence"]) == (3, "no filter for i686")


def test_a_python_without_ctypes_is_said(inside):
    report = Report(shimmed(inside, "sys.modules['_ctypes'] = None"))
    assert report.rc == 3 and report.data["line"].startswith("no tier would run here: "), report.data["line"]
    assert report["python"]["state"] == "missing" and "has no ctypes" in report["python"]["evidence"]
    why, commands = report.remedy("python")
    assert "no ctypes" in why and commands


@pytest.mark.parametrize("release,level,state", [("4.4.0-19041-Microsoft", 1, "missing"),
                                                 ("5.15.90.1-microsoft-standard-WSL2", 2, "ok")])
def test_windows_linux_is_known(inside, release, level, state):
    report = Report(shimmed(inside, UNAME % (repr(release), "real[4]")))
    assert (report["wsl"]["state"], report["wsl"]["evidence"]) == (state, "WSL %d" % level)
    assert level == 2 or report.remedy("wsl")[1] == ["wsl.exe --set-version $WSL_DISTRO_NAME 2"]


def uncompiled(inside):
    """A copy of the tool without bytecode, of the caller's."""
    folder = os.path.join(inside.scratch, "fresh")
    os.mkdir(folder)
    copy_tool(folder)
    for place, names, _ in list(os.walk(folder)):
        if "__pycache__" in names:
            shutil.rmtree(os.path.join(place, "__pycache__"))
    if inside.who == "user" and os.geteuid() == 0:
        subprocess.run(["chown", "-R", "%d:%d" % (USER, USER), folder], check=True)
    return os.path.join(folder, "mrunc.py")


def test_bytecode_that_may_not_be_written_is_said_and_the_remedy_works(inside):
    tool = uncompiled(inside)
    command = [PYTHON, "-S", tool, "doctor", "--json"]
    finding = Report(inside.outside(command, env=dict(os.environ, PYTHONDONTWRITEBYTECODE="1")))
    assert (finding["bytecode"]["state"], finding["bytecode"]["evidence"]) == ("weak", "PYTHONDONTWRITEBYTECODE is set")
    [paste] = finding.remedy("bytecode")[1]
    assert "-m compileall" in paste
    assert inside.outside(["sh", "-c", paste]).returncode == 0
    finding = Report(inside.outside(command, env=dict(os.environ, PYTHONDONTWRITEBYTECODE="1")))
    assert finding["bytecode"]["state"] == "ok"


def test_a_folder_that_is_read_only_is_said(inside):
    tool = uncompiled(inside)
    folder = os.path.dirname(tool)
    wrap = on_a_host(inside, "mount --bind %s %s\nmount -o remount,bind,ro %s" % ((shlex.quote(folder),) * 3))
    report = Report(inside.outside([*wrap, PYTHON, "-I", "-S", tool, "doctor", "--json"]))
    assert (report["bytecode"]["state"], report["bytecode"]["evidence"]) == ("weak", "%s is not writable" % folder)
    assert not os.path.exists(os.path.join(folder, "sandbox", "__pycache__"))


def test_a_masked_proc_beside_a_whole_one_is_no_hindrance(inside_as_root):
    """What is seen is what was tried, not what the mounts suggest."""
    place = os.path.join(inside_as_root.scratch, "proc")
    os.mkdir(place)
    inner = ["unshare", "-Urmpf", "--mount-proc", "sh", "-ec", 'mount -t tmpfs none /proc/irq; exec "$@"', "sh"]
    report = doctor(inside_as_root, shell("mount -t proc proc %s" % place, "-m") + inner)
    assert report["proc"]["state"] == "ok" and "masked: /proc/irq" in report["proc"]["evidence"], report["proc"]
    assert report.rc == 0


def test_a_weaker_tier_is_named_first_with_what_the_full_one_lacks(inside_as_user):
    wrap = limited("user")(inside_as_user)
    report = asked(inside_as_user, wrap)
    assert (report.rc, report.data["tier"]) == (1, "process")
    assert report.data["line"].startswith("the process tier would run here (--tier process); the full tier would not: namespaces: "
                                          "clone3: No space left on device"), report.data["line"]
    done = inside_as_user.outside([*wrap, *inside_as_user.command(*ECHO, options=["--tier", "process"])])
    assert done.returncode == 0 and done.stdout == ECHO[1] + "\n", done


def test_root_without_a_place_for_its_lock_file_is_said(inside_as_root):
    report = doctor(inside_as_root, on_a_host(inside_as_root, "mount -t tmpfs -o ro none /run"))
    assert report.rc == 3 and report["host-ids"]["state"] == "missing" and "Read-only" in report["host-ids"]["evidence"]
    assert report.remedy("host-ids")[1] == ["mount -t tmpfs tmpfs /run"]
    assert doctor(inside_as_root)["host-ids"]["state"] == "ok"


# Where it runs itself

def test_inside_mrunc_it_says_so_and_does_not_blame_the_host(inside):
    done = inside.run("/usr/bin/python3", "-I", "-S", "/mnt/tool/mrunc.py", "doctor", "--json",
                      options=["--ro", os.path.dirname(inside.tool) + ":/mnt/tool"])
    assert done.rc == 3 and done.err == "", done
    report = json.loads(done.out)
    assert report["inside"] == "mrunc" and "an mrunc sandbox" in report["line"]
    for row in report["findings"]:
        if row["state"] == "missing" and row["remedy"]:
            assert row["remedy"]["commands"] == [] and "start mrunc outside of it" in row["remedy"]["why"], row


def test_inside_bubblewrap_it_says_so(inside):
    wrap = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
    report = doctor(inside, wrap)
    assert report.data["inside"] == "sandbox" and "(seen from inside a sandbox" in report.data["line"], report.data["line"]
    assert report["vantage"]["state"] == "weak" and "pid" in report["vantage"]["evidence"]


@pytest.mark.parametrize("mark,kind", [("/.dockerenv", "docker"), ("/run/.containerenv", "podman"), ("/.flatpak-info", "flatpak")])
def test_containers_are_known_by_their_marks_and_the_remedy_is_the_runtimes(inside, mark, kind):
    folder = os.path.dirname(inside.tool)
    wrap = ["bwrap", "--unshare-all", "--tmpfs", "/", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin",
            "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--ro-bind", "/etc", "/etc", "--proc", "/proc",
            "--dev", "/dev", "--dir", "/run", "--ro-bind", "/dev/null", mark, "--ro-bind", folder, folder,
            "--ro-bind", PYTHON_PREFIX, PYTHON_PREFIX]
    report = doctor(inside, wrap + behind(inside, ("clone3", EPERM)))
    assert report.data["inside"] == kind
    why, _ = report.remedy("userns")
    if kind == "flatpak":
        assert "start mrunc outside" in why
    else:
        for word in ("seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined"):
            assert "--security-opt " + word in why
        assert "--tier process" in why


# The same table speaks when a run fails

SAME = ["userns-ENOSPC", "userns-ENOSYS", "userns-EPERM", "userns-EACCES", "userns-EUSERS", "userns-switched off",
        "uidmap-read-only /proc", "userns-limit-read-only /proc/sys", "proc-masked", "netns-limit 0", "timens-limit 0"]


@pytest.mark.parametrize("case", [case for case in CASES if "%s-%s" % case[:2] in SAME], ids="{0[0]}-{0[1]}".format)
def test_a_run_that_fails_says_the_same(inside, case):
    name, _, wrap, _, _, cause = case
    wrap = wrap(inside)
    report = asked(inside, wrap)
    done = inside.outside([*wrap, *inside.command(*ECHO)])
    assert done.returncode == 125 and ECHO[1] not in done.stdout, done
    lines = done.stderr.splitlines()
    assert len(lines) == 2 and lines[1].startswith("mrunc: remedy: "), lines
    why, commands = report.remedy(name)
    assert lines[1] == "mrunc: remedy: " + (
        why if not commands else "%s: %s" % (why, commands[0]) if len(commands) == 1 else
        "%s: `python3 %s doctor` prints the commands" % (why, inside.tool))
    assert report.data["tier"] != "full" and report.data["tiers"]["full"]["reason"] == lines[0][len("mrunc: "):]
    assert report.rc in (1, 3)


NO_CAPABILITIES = """
from mrunc.syscalls import caps, process
def denied(*arguments):
    raise OSError(1, os.strerror(1), "denied")
process.unshare = caps.drop_bounding = denied
"""


def test_ubuntus_rule_is_met_by_a_profile_and_never_by_the_sysctl_alone(inside):
    release = os.path.join(inside.scratch, "os-release")
    with open(release, "w") as stream:
        stream.write('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\nPRETTY_NAME="Ubuntu 24.04.1 LTS"\n')
    wrap = on_a_host(inside, "mount --bind %s /usr/lib/os-release" % shlex.quote(release))
    wrap += fake_sysctls(inside, apparmor_restrict_unprivileged_userns=1)
    # A shim, since there is no AppArmor here: a new namespace is made, but its capabilities are denied.
    shim = SHIM % ("pass", os.path.dirname(inside.tool))
    wrap += [PYTHON, "-I", "-S", "-c", shim.replace("sys.exit(", NO_CAPABILITIES + "sys.exit(")]
    report = Report(inside.outside(wrap))
    assert report.data["host"]["system"] == "Ubuntu 24.04.1 LTS"
    remedy = report["userns-capabilities"]["remedy"]
    binary = os.path.realpath(PYTHON)
    assert 'profile mrunc-python "%s" flags=(unconfined) {' % binary in remedy["commands"][0]
    assert "userns," in remedy["commands"][0] and "apparmor_parser -r" in remedy["commands"][1]
    assert "every script" in remedy["warning"] and binary in remedy["warning"]
    assert "/usr/local/bin/mrunc" in " ".join(remedy["narrower"]["commands"]) and "narrower" in remedy["narrower"]["why"]
    assert not [command for command in remedy["commands"] + remedy["narrower"]["commands"] if "sysctl" in command]
    done = inside.outside([*wrap, "run", "--", *ECHO])
    assert done.returncode == 125 and done.stderr.splitlines()[1] == "mrunc: remedy: %s: `python3 %s doctor` prints the commands" % (
        remedy["why"], inside.tool)
    text = inside.outside([*wrap, "doctor"]).stdout
    assert remedy["commands"][0] in text and remedy["warning"].split(";")[0].split()[-1] in text


# The table itself

def remedies():
    import mrunc  # noqa: F401  registers the package
    from mrunc.sandbox import remedies
    return remedies


def seen(*places):
    class Seen:
        kind = None

        def places(self):
            return list(places)
    return Seen()


def test_every_row_can_be_pasted():
    table = remedies()
    for place, cause in table.TABLE:
        row = table.find(cause, seen(place), kind="user", sysctl="user.max_user_namespaces",
                         label="snug", controller="io")
        texts = [row.why, row.warning or ""] + row.commands + (list(row.narrower[1]) if row.narrower else [])
        assert not [text for text in texts if re.search(r"\{[a-z_]+\}", text)], (place, cause, texts)
        assert "\n" not in row.line() and row.line()
        for command in row.commands + (list(row.narrower[1]) if row.narrower else []):
            assert subprocess.run(["sh", "-nc", command]).returncode == 0, command
        assert not any("apparmor_restrict" in command for command in row.commands)
    assert table.find("no such cause", seen()) is None and table.line(None) is None


def test_a_profile_written_by_the_remedy_is_the_files_content(tmp_path):
    row = remedies().find("userns-lsm", seen())
    command = row.commands[0].replace("/etc/apparmor.d/mrunc-python", str(tmp_path / "profile")).replace("sudo ", "")
    subprocess.run(["sh", "-c", command], check=True, stdout=subprocess.DEVNULL)
    lines = (tmp_path / "profile").read_text().splitlines()
    assert lines[0] == "abi <abi/4.0>," and lines[-2:] == ["  userns,", "}"] and lines[1].startswith('profile mrunc-python "/')


@pytest.mark.parametrize("text,places,cause,words", [
    ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n', ["ubuntu-24.04", "ubuntu-24", "ubuntu", "debian"], "cgroup-v1",
     "update-grub"),
    ('ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="8.9"\n',
     ["rocky-8.9", "rocky-8", "rocky", "rhel-8", "rhel", "centos", "fedora"], "cgroup-v1", "grubby"),
    ('ID="rhel"\nID_LIKE="fedora"\nVERSION_ID="8.10"\n', ["rhel-8.10", "rhel-8", "rhel", "fedora"], "ctypes",
     "platform-python"),
    ("ID=debian\nVERSION_ID=12\n", ["debian-12", "debian"], "userns-clone", "kernel.unprivileged_userns_clone=1"),
    ("ID=arch\n", ["arch"], "cgroup-v1", "systemd.unified_cgroup_hierarchy=1"),
    ("", [], "namespaces-max", "sysctl -w"),
], ids=["ubuntu", "rocky 8", "rhel 8", "debian", "arch", "none"])
def test_the_distribution_decides(tmp_path, monkeypatch, text, places, cause, words):
    table = remedies()
    path = tmp_path / "os-release"
    path.write_text(text)
    real = table.vantage.lines
    monkeypatch.setattr(table.vantage, "lines", lambda name: real(str(path)) if name.endswith("os-release") else real(name))
    assert table.vantage.distributions() == places
    there = table.os.path.exists
    monkeypatch.setattr(table.os.path, "exists", lambda name: name == table.GRUB_FILE or there(name))
    row = table.find(cause, seen(*places), kind="user", sysctl="user.max_user_namespaces")
    assert words in " ".join([row.why] + row.commands)


def test_a_host_that_grub_does_not_boot_is_not_told_to_change_grubs_file(monkeypatch):
    table = remedies()
    there = table.os.path.exists
    monkeypatch.setattr(table.os.path, "exists", lambda name: name != table.GRUB_FILE and there(name))
    for cause, words in (("cgroup-v1", "boot it with systemd.unified_cgroup_hierarchy=1"), ("landlock-off", "boot with lsm=landlock")):
        row = table.find(cause, seen("debian-13", "debian"))
        assert words in row.why and row.commands == [], cause


def test_a_command_is_prefixed_for_users_alone(monkeypatch):
    table = remedies()
    for uid, command in ((0, "sysctl -w kernel.unprivileged_userns_clone=1"),
                         (1000, "sudo sysctl -w kernel.unprivileged_userns_clone=1")):
        monkeypatch.setattr(table.os, "geteuid", lambda uid=uid: uid)
        assert table.find("userns-clone", seen()).commands == [command]


# It leaves nothing

def alive(inside):
    """The processes that this tool's path is named by."""
    done = subprocess.run(["ps", "-eo", "pid=,args="], stdout=subprocess.PIPE, universal_newlines=True)
    return [line for line in done.stdout.splitlines() if inside.tool in line and "doctor" in line]


def state(inside):
    with open("/proc/self/mountinfo") as stream:
        return stream.read(), sorted(os.listdir("/tmp")), sorted(os.listdir("/run"))


def test_it_leaves_nothing_behind(inside):
    doctor(inside)  # the lock file of root's ids
    before = state(inside)
    doctor(inside)
    assert alive(inside) == [] and [part for part in (0, 2) if state(inside)[part] != before[part]] == []


def test_killed_at_any_moment_it_leaves_no_process(inside):
    for _ in range(8):
        process = subprocess.Popen(inside.command(verb="doctor", options=["--json"]), stdout=subprocess.DEVNULL,
                                   stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(secrets.randbelow(150) / 1000)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.wait()
    end = time.monotonic() + 30
    while alive(inside):
        assert time.monotonic() < end, alive(inside)
        time.sleep(0.01)


def test_a_deed_that_hangs_or_dies_is_an_outcome(monkeypatch):
    import mrunc  # noqa: F401
    from mrunc.commands.doctor import throwaway
    monkeypatch.setattr(throwaway, "PATIENCE", 0.2)
    assert "no answer" in throwaway.attempt(time.sleep, 60).text
    assert throwaway.attempt(os._exit, 3).text == "killed by signal 0"
    assert throwaway.attempt(os.kill, 0, 0).value is None and throwaway.attempt(os.getpid).value not in (None, os.getpid())
    failed = throwaway.attempt(os.open, "/nowhere", os.O_RDONLY)
    assert (failed.errno, failed.call, bool(failed)) == (2, "/nowhere", False)


def test_a_check_that_fails_is_a_finding():
    import mrunc  # noqa: F401
    from mrunc.commands.doctor.finding import Examination
    exam = Examination()
    exam.run([lambda exam: 1 / 0])
    assert [(f.state, f.evidence) for f in exam.findings] == [("weak", "the check itself failed: ZeroDivisionError: division by zero")]


def test_the_tool_is_where_the_commands_say():
    assert remedies().door() == shlex.quote(os.path.join(ROOT, "mrunc.py"))
