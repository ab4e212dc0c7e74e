# SPDX-License-Identifier: Apache-2.0
"""The virtual machine is the one that was asked for, and the sandbox stands in it: a proof from the wrong machine is none."""
import json
import os
import secrets

import pytest

from conftest import KERNEL, lacking

import mrunc  # noqa: F401  registers the package
from mrunc.sandbox.host.kernel import Features
from mrunc.syscalls import landlock

pytestmark = pytest.mark.vm

#: Landlock ABI by kernel: what is there may not be passed over.  landlock(7), Debian's configurations
ABI = {"5.10": 0, "6.1": 2, "6.12": 6}
MACHINES = {"x86_64", "aarch64"}


def text_of(path):
    with open(path) as stream:
        return stream.read()


def numbers(release):
    """(major, minor) of a kernel release."""
    return tuple(int(word) for word in release.split(".")[:2])


def test_the_kernel_is_the_one_that_was_asked_for(vm):
    assert os.uname().machine == vm.arch and vm.arch in MACHINES
    if vm.kernel == "backports":
        assert numbers(os.uname().release) > (6, 12)
    else:
        assert os.uname().release.startswith(vm.kernel + ".")


def test_the_user_is_the_one_that_was_asked_for(vm):
    assert os.geteuid() == {"root": 0, "tester": 1000}[vm.user]
    effective = [line for line in text_of("/proc/self/status").splitlines() if line.startswith("CapEff:")][0].split()[1]
    assert (int(effective, 16) != 0) == (vm.user == "root")


def magic(path):
    """The type of a file system, as findmnt names it; None where nothing is mounted."""
    return {words[1]: words[2] for words in (line.split() for line in open("/proc/self/mounts"))}.get(path)


@pytest.mark.vm(cgroup="hybrid")
def test_v1_has_the_controllers_and_v2_the_rest():
    assert magic("/sys/fs/cgroup/unified") == "cgroup2" and magic("/sys/fs/cgroup/pids") == "cgroup"
    assert "pids" not in text_of("/sys/fs/cgroup/unified/cgroup.controllers").split()


@pytest.mark.vm(cgroup="v1")
def test_there_is_no_cgroup2():
    assert magic("/sys/fs/cgroup/pids") == "cgroup" and "cgroup2" not in text_of("/proc/self/mounts")


@pytest.mark.vm(cgroup="none")
def test_there_are_no_cgroups():
    assert "cgroup" not in text_of("/proc/self/mounts")


@pytest.mark.vm(cgroup="v2")
def test_each_controller_is_there_and_delegated(vm):
    """Seen by use: a limit below the delegated group is written and read back."""
    assert {"cpu", "memory", "io", "pids"} <= set(text_of("/sys/fs/cgroup/cgroup.controllers").split())
    group = os.path.join(vm.delegated, "mrunc-test-" + secrets.token_hex(4))
    os.mkdir(group)
    try:
        for name, value in (("memory.max", "33554432"), ("pids.max", "7"), ("cpu.max", "50000 100000")):
            with open(os.path.join(group, name), "w") as stream:
                stream.write(value)
            assert text_of(os.path.join(group, name)).strip() == value
        assert os.path.exists(os.path.join(group, "io.max"))
        assert os.path.exists(os.path.join(group, "cgroup.kill")) == (numbers(os.uname().release) >= (5, 14))
    finally:
        os.rmdir(group)


def test_what_tests_may_need_is_there_from_the_release_that_has_it_on():
    """Those that need it are skipped where it is not."""
    for name, (since, there) in KERNEL.items():
        module = name.partition("-")[0]
        configured = module not in ("landlock", "apparmor") or module in text_of("/sys/kernel/security/lsm")
        assert there(Features()) == (configured and numbers(os.uname().release) >= numbers(since)), name


def test_landlock_has_the_abi_of_this_kernel(vm):
    if "landlock" not in text_of("/sys/kernel/security/lsm").split(","):
        assert landlock.abi() == 0
    elif vm.kernel in ABI:
        assert landlock.abi() == ABI[vm.kernel]
    else:
        assert landlock.abi() >= 7


def test_a_sandbox_stands_with_everything_in_force(inside, vm):
    """Except what this kernel lacks by name."""
    done = inside.run("/usr/bin/id", "-u")
    assert (done.rc, done.out) == (0, "0\n"), done
    asked = [control for control in done.result["controls"] if control["asked"]]
    assert {control["name"] for control in asked if not control["in_force"]} <= lacking()
    assert {"userns", "mounts", "pidns", "seccomp", "caps"} <= {control["name"] for control in asked if control["in_force"]}


def test_the_doctor_and_the_self_test_say_what_this_host_is(inside):
    """docs/hosts.md is made of what they say; anything that a probe reaches is declared, with what this kernel lacks."""
    for verb in ("doctor", "selftest"):
        done = inside.outside(inside.command(verb=verb, options=["--json"]))
        with open("/results/%s.json" % verb, "w") as stream:
            stream.write(done.stdout)
        report = json.loads(done.stdout)
        assert (done.returncode, report["tier"]) == (0, "full"), done
    assert {count for counts in report["counts"].values() for kind, count in counts.items() if kind == "error"} == {0}
    assert report["counts"]["host integrity"]["REACHED"] == 0


def test_an_overlay_is_made_where_the_kernel_can_and_else_refused_with_the_remedy(inside):
    folder = os.path.join(inside.scratch, "shown")
    done = inside.outside(["mkdir", folder])
    assert done.returncode == 0, done
    done = inside.run("/bin/sh", "-c", "echo x > /t/new; cat /t/new", options=["--ro", folder + ":/t", "--overlay=/t"])
    assert os.listdir(folder) == []
    if KERNEL["overlay"][1](Features()):
        assert (done.rc, done.out) == (0, "x\n"), done
    else:
        assert (done.rc, done.out) == (125, "") and "mrunc: remedy: " in done.err, done
        wanted = "Linux 6.6" if KERNEL["mount_setattr"][1](Features()) or os.geteuid() else "Linux 5.12 or newer"
        assert wanted in done.err, done
