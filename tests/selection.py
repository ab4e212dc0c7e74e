# SPDX-License-Identifier: Apache-2.0
"""Chooses the tests of this run and gives each its deadline: callers, kernels, machines."""
import collections
import os
import signal
import sys
import tempfile

import pytest

import outer_filter
from interpreters import version_of

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
#: The interpreter that runs the tool.  The user can't read a virtual environment's folder.
PYTHON = os.environ.get("MRUNC_TEST_PYTHON") or "/usr/bin/python3"
#: In a virtual machine of tests/vm; there each user has a run of its own.
IN_VM = "MRUNC_VM_ARCH" in os.environ
#: The callers of this run of the suite: root's is for both, or for the one in MRUNC_TEST_WHO.
WHO = ["user"] if os.geteuid() else ["root"]
if os.geteuid() == 0 and not IN_VM:
    WHO = os.environ.get("MRUNC_TEST_WHO", "root user").split()


def also_in_vm(values, *chosen):
    """Parameters, of which the chosen ones are tried in virtual machines too: there a start costs twenty times as much."""
    assert all(value in values for value in chosen)
    return [pytest.param(value, marks=[pytest.mark.also_vm] if value in chosen else []) for value in values]


#: What a test may need of a kernel (`needs`): name -> (since Linux, is it there?).  tests/host/test_vm.py holds that it is there
#: where it has to be, so that nothing is passed over.
KERNEL = {
    "landlock": ("5.13", lambda features: features.landlock_abi >= 1),
    "landlock-signals": ("6.12", lambda features: features.landlock_abi >= 6),
    "apparmor-userns": ("6.7", lambda features: "userns_create" in first_line(
        "/sys/kernel/security/apparmor/features/namespaces/mask")),
    "listener": ("5.0", lambda features: listens()),
    "mount API": ("5.2", lambda features: features.mount_api),
    "pidfd_open": ("5.3", lambda features: "pidfd_open" not in features.missing),
    "openat2": ("5.6", lambda features: "openat2" not in features.missing),
    "mount_setattr": ("5.12", lambda features: features.mount_setattr),
    "overlay": ("6.6", lambda features: features.mount_setattr and tmpfs_keeps_marks()),
    "vm.memfd_noexec": ("6.3", lambda features: os.path.exists("/proc/sys/vm/memfd_noexec")),
}


def needs_python(minor, what):
    """A mark for what the interpreter of this run has since 3.`minor` only."""
    lacks = tuple(map(int, version_of(PYTHON).split(".")[:2])) < (3, minor)
    return pytest.mark.skipif(lacks, reason="this Python lacks %s: 3.%d" % (what, minor))


def first_line(path):
    """Of a file, "" where there is none."""
    try:
        with open(path) as stream:
            return stream.readline()
    except OSError:
        return ""


def listens():
    """Whether a filter can have a listener: SECCOMP_GET_NOTIF_SIZES."""
    from mrunc.syscalls import libc
    return libc.answers([("seccomp", (3, 0, libc.buffer(6)))]) == [0]


def tmpfs_keeps_marks():
    """Whether tmpfs has extended attributes of users'."""
    with tempfile.TemporaryFile(dir="/dev/shm") as stream:
        try:
            os.setxattr(stream.fileno(), "user.mrunc", b"")
        except OSError:
            return False
    return True


def need(name):
    """Skips the test that runs where the kernel lacks a feature of the table."""
    from mrunc.sandbox.host.kernel import Features
    since, there = KERNEL[name]
    if not there(Features()):
        pytest.skip("this kernel lacks %s: Linux %s" % (name, since))


#: Seconds that a test may take; and one marked slow, or a setup, which may build what many share.
TEST_DEADLINE, SLOW_DEADLINE = 120, 600


def limit(seconds):
    """Makes what takes longer from now on fail where it hangs; in a virtual machine five times."""
    def late(_number, _frame):
        pytest.fail("no end after %d seconds" % seconds)
    seconds *= 5 if IN_VM else 1
    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    limit(SLOW_DEADLINE if item.get_closest_marker("slow") else TEST_DEADLINE)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item):
    limit(SLOW_DEADLINE)


def pytest_runtest_logfinish(nodeid, location):
    signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    limit(SLOW_DEADLINE)
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            need(name)


def caller(item):
    """Returns the caller that a test starts the tool for; a test that has none is root's."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    given = [params[name] for name in ("inside", "who", "process")
             if params.get(name) in ("root", "user")]
    return given[0] if given else "user" if "inside_as_user" in item.fixturenames else "root"


def elsewhere(item):
    """Why a test has no place in this run, or None."""
    if item.get_closest_marker("vm") and not (IN_VM or item.get_closest_marker("also_vm")):
        return "marked vm: .ci/vm runs it in a virtual machine"
    layouts = [mark.kwargs["cgroup"] for mark in item.iter_markers("vm") if "cgroup" in mark.kwargs]
    if IN_VM and layouts and os.environ["MRUNC_VM_CGROUP"] not in layouts:
        return "for another layout of control groups (--cgroup)"
    once = item.get_closest_marker("once")
    if os.geteuid() == 0 and not IN_VM:
        if once and caller(item) != once.kwargs.get("who", "user"):
            return "long, and the same whoever calls: it runs for one of the two"
        if caller(item) not in WHO:
            return "for another caller (MRUNC_TEST_WHO)"
    if item.get_closest_marker("unhidden") and item.config.getoption("--hide"):
        return "about calls that reach our filter: --hide answers some before"
    if item.get_closest_marker("x86") and os.uname().machine != "x86_64":
        return "about an instruction or numbers of x86_64"
    if os.geteuid() != 0 and {"inside_as_root", "as_root", "sysctl", "debian", "system"} & set(item.fixturenames):
        return "for root: this run of the suite is an ordinary user's"
    return None


def pytest_itemcollected(item):
    if item.get_closest_marker("also_vm"):
        item.add_marker("vm")  # so that -m vm takes it


def pytest_collection_modifyitems(config, items):
    reasons = [elsewhere(item) for item in items]
    config.elsewhere = collections.Counter(reason for reason in reasons if reason)
    config.hook.pytest_deselected(items=[item for item, reason in zip(items, reasons) if reason])
    items[:] = [item for item, reason in zip(items, reasons) if not reason]


def pytest_report_collectionfinish(config):
    return ["%d deselected, %s" % (count, reason) for reason, count in sorted(config.elsewhere.items())]


def pytest_addoption(parser):
    parser.addoption("--hide", help="a row of outer_filter.HIDDEN: the whole run lies behind a filter that hides these calls")


def pytest_configure(config):
    sys.path[:0] = [ROOT] + [os.path.join(ROOT, "tests", name) for name in ("unit", "sandbox", "host")]
    if config.getoption("--hide"):
        outer_filter.go_behind(*outer_filter.HIDDEN[config.getoption("--hide")])
    config.elsewhere = collections.Counter()
