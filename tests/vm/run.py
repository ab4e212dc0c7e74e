#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command on another kernel or architecture, against this checkout, in a virtual machine that is thrown away.

    python3 tests/vm/run.py -- pytest -q -m vm tests
    python3 tests/vm/run.py --arch aarch64 --kernel 6.12 --user tester -- python3 mrunc.py run -- id
    python3 tests/vm/run.py --kernel 6.1 --cgroup hybrid --junit out.xml -- pytest -q tests/sandbox/test_cgroup.py
    python3 tests/vm/run.py --lsm capability,yama --setup 'sysctl -w user.max_user_namespaces=0' -- pytest -q tests/test_x.py
    python3 tests/vm/run.py --shell

Needs Debian's apt, qemu-system-x86, qemu-system-arm, e2fsprogs (1.47.1 or newer) and libarchive13t64, which .ci/vm installs;
no root, no loop device, no network in the guest.  Kernels and root file system come from the Debian mirror that apt is
configured with, and are kept in $XDG_CACHE_HOME/mrunc-vm; remove that folder to get newer ones.

The command runs in a copy of the checkout that belongs to its user.  It sees MRUNC_VM_ARCH, MRUNC_VM_KERNEL (6.12, ...),
MRUNC_VM_USER, MRUNC_VM_CGROUP and MRUNC_VM_DELEGATED: a cgroup (empty without cgroup v2) that belongs to its user as
systemd would delegate it, with all controllers that there are; the command itself is in the group `command` below.  Each boot
starts from the same image.  Files that it leaves in /results come back with --out.

Exit status: the command's own; 124 when time ran out; 125 when there is no machine or it ended without a status.
"""
import argparse
import io
import os
import shlex
import shutil
import signal
import sys

import image
import kernel
from boot import Machine, Task
from cache import Cache, default_folder
from packages import DEBIAN, Archive
from report import Failure, say

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NO_MACHINE = 125
FIRST_BOOT_SECONDS = 300
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def parser():
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = made.add_argument
    add("--arch", choices=sorted(DEBIAN), default=os.uname().machine)
    add("--kernel", choices=sorted(kernel.SUITES), default="6.12", help="default: 6.12")
    add("--user", choices=sorted(image.USERS), default="root", help="who runs the command; default: root")
    add("--cgroup", choices=("v2", "hybrid", "v1", "none"), default="v2",
        help="at /sys/fs/cgroup: v2 with all controllers; v1, and v2 with what v1 leaves at unified/; v1 only; nothing")
    add("--lsm", default="", help="the kernel's lsm= list; default: its own")
    add("--setup", default="", help="shell text that runs as root in the guest before the command; if it fails, 125")
    add("--env", action="append", default=[], metavar="NAME=VALUE", help="for the command")
    add("--timeout", type=float, default=900, metavar="S", help="for boot and command; default: 900")
    add("--memory", type=int, default=1024, metavar="MIB", help="of the machine; default: 1024")
    add("--cpus", type=int, default=2, metavar="N", help="processors of the machine; default: 2")
    add("--junit", metavar="FILE", help="where pytest's JUnit XML goes")
    add("--out", metavar="DIR", help="where all files of /results go")
    add("--accel", choices=("auto", "kvm", "tcg"), default="auto", help="default: KVM where it really boots the kernel")
    add("--cache", default=default_folder(), metavar="DIR", help="default: %(default)s")
    add("--mirror", metavar="URL", help="a Debian mirror; default: the one that apt uses here")
    add("--shell", action="store_true", help="an interactive shell instead of a command")
    add("--build", action="store_true", help="only make kernel and image")
    add("-v", "--verbose", action="store_true", help="show QEMU's command line")
    add("command", nargs=argparse.REMAINDER, metavar="-- CMD ...")
    return made


def read(argv):
    """The checked options."""
    made = parser()
    given = made.parse_args(argv)
    if given.command[:1] == ["--"]:
        del given.command[0]
    if given.shell:
        given.command = ["bash", "-i"]
    if not given.command and not given.build:
        made.error("no command")
    if given.arch not in DEBIAN:
        made.error("--arch is one of %s" % ", ".join(sorted(DEBIAN)))
    for item in given.env:
        if not item.partition("=")[0].isidentifier() or "=" not in item:
            made.error("--env %s: not NAME=VALUE" % item)
    if given.command[:1] == ["pytest"]:
        given.command[:1] = ["python3", "-m", "pytest", "-p", "no:cacheprovider"]
        if given.junit:
            given.command.append("--junitxml=/results/junit.xml")
    return given


def machine_for(given, cache):
    """The Machine, built as far as it is not in the cache."""
    archives = {}

    def archive(suite):
        if suite not in archives:
            archives[suite] = Archive(os.path.join(cache.folder, "apt", "%s-%s" % (given.arch, suite)), given.arch, suite,
                                      given.mirror)
        return archives[suite]

    def make(path, accel):
        return Machine(given.arch, booted, path, accel, memory=given.memory, cpus=given.cpus, verbose=given.verbose)

    def first_boot(path):
        said = io.BytesIO()
        with cache.workplace() as place:
            task = Task(["sh", "-c", image.FIRST_BOOT], timeout=FIRST_BOOT_SECONDS, output=said)
            if make(path, accel).run(place, task, write=True).status != 0:
                raise Failure("the image's first boot failed: %s" % said.getvalue().decode(errors="replace"))

    with cache.building():
        booted = kernel.provide(cache, archive, given.arch, given.kernel)
        accel = given.accel if given.accel != "auto" else "kvm" if kvm_works(cache, make(None, "kvm")) else "tcg"
        path = image.provide(cache, archive, given.arch, first_boot)
    machine = make(path, accel)
    machine.lsm = given.lsm
    return machine


def kvm_works(cache, machine):
    """Tried once per host kernel and guest kernel."""
    if machine.arch != os.uname().machine or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    mark = os.path.join(machine.kernel, "kvm-" + os.uname().release)
    if not os.path.exists(mark):
        say("trying KVM")
        with cache.workplace() as place:
            works = machine.boots(place)
        with open(mark, "w") as stream:
            stream.write("yes" if works else "no")
    with open(mark) as stream:
        return stream.read() == "yes"


def run(given):
    """Runs the command; returns the exit status."""
    cache = Cache(given.cache)
    machine = machine_for(given, cache)
    if given.build:
        return 0
    environ = dict(item.split("=", 1) for item in given.env)
    environ.update(MRUNC_VM_ARCH=given.arch, MRUNC_VM_KERNEL=given.kernel, CI="true", PYTHONDONTWRITEBYTECODE="1")
    if given.shell:
        environ["TERM"] = os.environ.get("TERM", "linux")
    task = Task(given.command, given.user, environ, given.setup, given.cgroup, ROOT, given.timeout, given.shell)
    with cache.workplace() as place:
        ended = machine.run(place, task)
        if given.out:
            os.makedirs(given.out, exist_ok=True)
            for name, content in ended.files.items():
                write(os.path.join(given.out, name), content)
            console = os.path.join(place, "console.log")
            if os.path.exists(console):
                shutil.copy(console, given.out)
    if given.junit:
        if "junit.xml" not in ended.files:
            raise Failure("status %d, and no junit.xml came back: %s"
                          % (ended.status, " ".join(map(shlex.quote, given.command))))
        write(given.junit, ended.files["junit.xml"])
    return ended.status


def write(path, content):
    with open(path, "wb") as stream:
        stream.write(content)


def interrupted(number, frame):
    for other in ENDING:  # a second one would cut the tidying up short
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt(number)


def main(argv=None):
    given = read(argv)
    for number in ENDING:
        signal.signal(number, interrupted)
    try:
        return run(given)
    except Failure as failure:
        say(failure)
    except OSError as error:
        say("%s: %s" % (error.filename or "the harness", error.strerror or error))
    except KeyboardInterrupt as error:
        number = error.args[0] if error.args else signal.SIGINT
        say("interrupted")
        return 128 + number
    return NO_MACHINE


if __name__ == "__main__":
    status = main()
    try:
        sys.stdout.flush()
    except OSError:  # the reader went away; the interpreter's own flush would make this status 120
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(status)
