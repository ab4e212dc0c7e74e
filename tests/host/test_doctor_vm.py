# SPDX-License-Identifier: Apache-2.0
"""The doctor where only a virtual machine can go: whole hosts whose administrator switched something off, other kernels,
security modules that are really there.  A run that fails there says the same."""
import os
import shutil
import subprocess

import pytest

import mrunc  # noqa: F401  registers the package
from mrunc.syscalls import landlock
from test_doctor import ECHO, doctor, undisturbed
from test_ledger import THREE, ledger_of

pytestmark = pytest.mark.vm


def text_of(path):
    with open(path) as stream:
        return stream.read().strip()


def release():
    return tuple(int(part) for part in os.uname().release.split(".")[:2])


def says_the_same(inside, report, name, python=None):
    """A run fails with 125 and with the remedy of a finding."""
    done = inside.outside(inside.command(*ECHO, python=python))
    why, commands = report.remedy(name)
    assert done.returncode == 125 and ECHO[1] not in done.stdout, done
    assert done.stderr.splitlines()[1] == "mrunc: remedy: " + ": ".join([why] + commands[:1] * (len(commands) == 1)), done.stderr


def test_what_this_kernel_has_is_what_the_doctor_says(inside, vm):
    report = undisturbed(inside)
    bad = {name for name, row in report.findings.items() if row["state"] != "ok"}
    expected = set()
    if release() < (5, 12):
        expected.add("calls")
    if release() < (6, 6):
        expected.add("overlay")  # tmpfs has no attributes of users'
    if release() < (5, 14):
        expected.add("cgroup-kill")
    if landlock.abi() < 6:
        expected.add("landlock")
    if os.path.exists("/proc/sys/kernel/yama/ptrace_scope") and text_of("/proc/sys/kernel/yama/ptrace_scope") in "23":
        expected.add("yama")
    if vm.cgroup != "v2":
        expected |= {"cgroup"} | ({"cgroup-kill"} if vm.cgroup in ("v1", "none") else set())
    assert bad == expected, [report[name] for name in bad ^ expected if name in report.findings]
    if release() < (5, 12):
        assert report["calls"]["evidence"] == "not available: mount_setattr (since Linux 5.12)"
    assert report.rc == 0 and report.data["line"].startswith("the full tier would run here")


def test_landlock_is_what_this_kernel_has(inside, vm):
    finding = undisturbed(inside)["landlock"]
    if landlock.abi():
        assert finding["evidence"] == "ABI %d" % landlock.abi()
        return
    built_in = release() >= (5, 13)
    assert finding["state"] == "missing"
    assert finding["remedy"]["cause"] == ("landlock-off" if built_in else "landlock-old"), finding
    done = inside.outside(inside.command(*ECHO, options=["--require", "landlock"]))
    why = "Landlock is not in its lsm= list" if built_in else "Linux 5.19 (ABI 2)"
    assert (done.returncode, done.stdout) == (125, "") and done.stderr.splitlines()[0] == (
        "mrunc: gate: landlock is required: this kernel does not have it: " + why), done
    assert finding["remedy"]["why"] in done.stderr.splitlines()[1], done


def test_control_groups_are_what_this_host_has(inside, vm):
    finding = undisturbed(inside)["cgroup"]
    if vm.cgroup == "v2":
        assert finding["state"] == "ok" and finding["evidence"].startswith("memory cpu pids io in "), finding
    else:
        cause = {"hybrid": "cgroup-v1", "v1": "cgroup-v1", "none": "cgroup-none"}[vm.cgroup]
        held = text_of("/sys/fs/cgroup/unified/cgroup.controllers").split() if vm.cgroup == "hybrid" else []
        state = "weak" if {"memory", "cpu", "pids", "io"} & set(held) else "missing"
        assert finding["state"] == state and finding["remedy"]["cause"] == cause, finding


def test_user_namespaces_used_up(inside_as_user, sysctl):
    assert doctor(inside_as_user)["userns"]["state"] == "ok"
    sysctl("user.max_user_namespaces", 0)
    report = doctor(inside_as_user)
    assert report["userns"]["state"] == report["max_user_namespaces"]["state"] == "missing" and report.rc in (1, 3)
    assert report.remedy("userns")[1] == ["sudo sysctl -w user.max_user_namespaces=16384"]
    says_the_same(inside_as_user, report, "userns")


def test_user_namespaces_switched_off_for_users(inside_as_user, inside_as_root, sysctl):
    sysctl("kernel.unprivileged_userns_clone", 0)
    report = doctor(inside_as_user)
    assert report["userns"]["state"] == report["unprivileged_userns_clone"]["state"] == "missing" and report.rc in (1, 3)
    assert report.remedy("userns")[1] == ["sudo sysctl -w kernel.unprivileged_userns_clone=1"]
    says_the_same(inside_as_user, report, "userns")
    report = doctor(inside_as_root)
    states = [report[name]["state"] for name in ("userns", "userns-nested", "unprivileged_userns_clone")]
    assert states == ["ok", "missing", "missing"], "root is above the switch, the root inside is not"
    assert report.remedy("userns-nested")[1] == ["sysctl -w kernel.unprivileged_userns_clone=1"]
    says_the_same(inside_as_root, report, "userns-nested")


def test_a_strict_yama_is_said(inside_as_root, sysctl):
    sysctl("kernel.yama.ptrace_scope", 2)
    report = doctor(inside_as_root)
    assert (report["yama"]["state"], report["yama"]["evidence"]) == ("weak", "ptrace_scope 2")
    assert report.rc == 0, "mrunc itself traces nothing"


def test_with_yama_as_it_is_all_is_in_force_and_the_ledger_tells_what_it_can(inside):
    """At 3 nobody may read another's memory: the ledger then has the address."""
    scope = text_of("/proc/sys/kernel/yama/ptrace_scope")
    finding = undisturbed(inside)["yama"]
    assert (finding["state"], finding["evidence"]) == ("weak" if scope in "23" else "ok", "ptrace_scope " + scope)
    done, lines = ledger_of(inside, THREE)
    row = lines[0]
    assert (row["syscall"], row["errno"], row["args"]["flags"]) == ("mount", "EPERM", 0), done
    assert (row["args"]["source"] == "here") == (scope != "3"), row
    print(row)


@pytest.mark.needs("vm.memfd_noexec")
def test_programs_in_memory_forbidden(inside_as_root, sysctl):
    sysctl("vm.memfd_noexec", 0)
    report = doctor(inside_as_root, ["unshare", "-pf", "sh", "-ec", 'echo 2 > /proc/sys/vm/memfd_noexec; "$@"', "sh"])
    assert report["memfd"]["state"] == "missing" and report.rc == 3
    assert report.remedy("memfd")[1] == ["sysctl -w vm.memfd_noexec=1"]


# AppArmor.  A profile is for a path: an interpreter of its own, so that no other program is meant.

@pytest.fixture
def confined(public_folder):
    """confined(text) loads a profile for a copy of the interpreter and returns the copy's path."""
    folder = os.path.join(public_folder, "snug")
    os.makedirs(folder, exist_ok=True)
    python, profile = os.path.join(folder, "python3"), os.path.join(folder, "profile")
    shutil.copy(os.path.realpath("/usr/bin/python3"), python)

    def load(rules, flags="attach_disconnected"):
        with open(profile, "w") as stream:
            stream.write('abi <abi/4.0>,\nprofile snug "%s" flags=(%s) {\n%s\n}\n' % (python, flags, rules))
        subprocess.run(["apparmor_parser", "-r", profile], check=True)
        return python
    yield load
    subprocess.run(["apparmor_parser", "-R", profile], check=True)


EVERYTHING_ELSE = ("  file,\n  /** rwmlkix,\n  network,\n  mount,\n  umount,\n  remount,\n  pivot_root,\n  signal,\n  unix,\n"
                   "  ptrace,\n  mqueue,\n")


@pytest.mark.needs("apparmor-userns")
def test_a_profile_without_userns_is_named_and_the_line_that_it_lacks_helps(inside_as_user, confined, sysctl):
    python = confined(EVERYTHING_ELSE + "  capability,")
    report = doctor(inside_as_user, python=python)
    assert report["lsm-label"]["evidence"] == "AppArmor profile snug (enforce)"
    assert report["userns"]["state"] == "missing" and "Permission denied" in report["userns"]["evidence"], report["userns"]
    why, commands = report.remedy("userns")
    assert "the AppArmor profile snug" in why and "`userns,`" in why and "apparmor_parser -r" in commands[0]
    says_the_same(inside_as_user, report, "userns", python)
    confined(EVERYTHING_ELSE + "  capability,\n  userns,")
    assert doctor(inside_as_user, python=python).rc == 0


@pytest.mark.needs("apparmor-userns")
def test_a_namespace_without_capabilities_is_seen(inside_as_user, confined, sysctl):
    """What Ubuntu does to programs without a profile, by a profile that denies them in the namespace."""
    python = confined(EVERYTHING_ELSE + "  userns,")
    report = doctor(inside_as_user, python=python)
    assert report["userns"]["state"] == "ok" and report.rc in (1, 3)
    bad = [name for name in ("uidmap", "userns-capabilities") if name in report.findings and report[name]["state"] == "missing"]
    assert bad and report[bad[0]]["remedy"]["cause"] == "maps", report.findings


@pytest.mark.needs("apparmor-userns")
def test_the_profile_that_the_doctor_prints_is_taken_and_covers_what_the_wrapper_starts(inside_as_user, sysctl):
    from mrunc.sandbox import remedies
    for command in remedies.find("userns-lsm").commands + remedies.find("userns-lsm").narrower[1]:
        os.makedirs("/usr/local/bin", exist_ok=True)
        subprocess.run(["sh", "-ec", command], check=True, stdout=subprocess.DEVNULL)
    try:
        with open("/usr/local/bin/mrunc", "w") as stream:
            stream.write('#!/bin/sh\nexec /bin/cat /proc/self/attr/current\n')
        done = inside_as_user.outside(["/usr/local/bin/mrunc"])
        assert done.stdout.strip("\0\n") == "mrunc (unconfined)", done
        done = inside_as_user.outside([os.path.realpath("/usr/bin/python3"), "-c", "print(open('/proc/self/attr/current').read())"])
        assert done.stdout.strip() == "mrunc-python (unconfined)", done
    finally:
        for name in ("mrunc", "mrunc-python"):
            subprocess.run(["apparmor_parser", "-R", "/etc/apparmor.d/" + name], check=True)
            os.unlink("/etc/apparmor.d/" + name)
        os.unlink("/usr/local/bin/mrunc")
