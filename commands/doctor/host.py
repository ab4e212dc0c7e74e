# SPDX-License-Identifier: Apache-2.0
"""Finds what is read, not tried: machine, Python, and what is around mrunc.

Makes no system call by number, so it works on any machine and with a Python that lacks ctypes.
"""
import os
import sys

from ...sandbox import remedies
from ...sandbox.caller import folder
from .finding import MISSING, OK, WEAK
from ...sandbox.vantage import apparmor_profile, read, sysctl
from ...sandbox.seccomp.shipped import ARCHES

NOTHING_RUNS = "nothing runs"


def machine(exam):
    """Checks the architecture; without a filter for it the examination ends."""
    system = os.uname()
    name = system.machine
    bits = 64 if sys.maxsize > 1 << 32 else 32
    if name in ARCHES and bits == 64:
        exam.add("machine", OK, name)
    else:
        exam.add("machine", MISSING,
                 "no filter for %s" % (name if bits == 64 else "a 32-bit Python on %s" % name),
                 NOTHING_RUNS, "machine")


def wsl(exam):
    """Checks for WSL: WSL 1 has no Linux kernel."""
    level = exam.seen.wsl
    exam.add("wsl", MISSING if level == 1 else OK, "WSL %d" % level if level else "no WSL",
             "no namespaces, no filter: " + NOTHING_RUNS, "wsl1")


def python(exam):
    """Checks for ctypes: without it no system call can be made by number."""
    version = "%d.%d.%d" % sys.version_info[:3]
    try:
        from ...syscalls import libc
    except ImportError as error:
        exam.add("python", MISSING, "%s has no ctypes: %s" % (version, error), NOTHING_RUNS,
                 "ctypes")
        return
    if libc.ARCH is None and os.uname().machine in ("x86_64", "aarch64"):
        exam.findings = [f for f in exam.findings if f.name != "machine"]
        exam.add("machine", MISSING, "no filter for a %d-bit Python on %s" % (
            libc.BITS, libc.MACHINE), NOTHING_RUNS, "machine")
    exam.add("python", OK, version)


def bytecode(exam):
    """Checks whether CPython can cache mrunc's bytecode beside the source."""
    spec = globals().get("__spec__")
    cached = getattr(spec, "cached", None)
    place = folder()
    if not os.path.isdir(place):
        exam.add("bytecode", OK, "in an archive")
    elif cached and os.path.exists(cached):
        exam.add("bytecode", OK, "cached")
    else:
        why = "PYTHONDONTWRITEBYTECODE is set" if sys.dont_write_bytecode else \
            "%s is not writable" % place if not os.access(place, os.W_OK) else "nothing is cached"
        exam.add("bytecode", WEAK, why, "each start compiles mrunc, which takes most of its time",
                 "bytecode")


def inside(exam):
    """Finds what mrunc itself runs in: a container may lack what the host has."""
    seen = exam.seen
    if seen.kind is None:
        exam.add("vantage", OK, "on the host itself")
    else:
        exam.add("vantage", WEAK, "inside %s: %s" % (remedies.describe(seen.kind),
                                                     ", ".join(seen.evidence)),
                 "what is missing may be missing here only, not on the host")


def no_new_privs(exam):
    """Checks whether no_new_privs was set before mrunc started; it can't be unset."""
    here = read("/proc/self/status", "NoNewPrivs:") == "1"
    exam.add("outer-nnp", WEAK if here else OK, "no_new_privs is set already"
             if here else "no_new_privs is not set", "none for mrunc, which sets it itself; sudo "
             "does not work from here", "outer")


def outer_filter(exam):
    """Checks for an outer seccomp filter: it stays in force, and the strictest answer wins."""
    mode, count = (read("/proc/self/status", key) for key in ("Seccomp:", "Seccomp_filters:"))
    here = mode not in ("", "0")
    text = "%s filter%s in force already" % (count or "a", "" if count in ("", "1") else "s")
    exam.add("outer-seccomp", WEAK if here else OK, text if here else "no outer filter",
             "what it forbids is missing below", "outer")


def label(exam):
    """Reads the security label of this process."""
    text = read("/proc/self/attr/apparmor/current") or read("/proc/self/attr/current").rstrip("\0")
    profile = apparmor_profile()
    if profile:
        exam.add("lsm-label", WEAK, "AppArmor profile %s" % text, "what the profile forbids is "
                 "missing below", "profile", label=profile)
    elif text.count(":") >= 2:
        permissive = read("/sys/fs/selinux/enforce") == "0"
        exam.add("lsm-label", OK, "SELinux %s%s" % (text, ", permissive" if permissive else ""))
    else:
        exam.add("lsm-label", OK, "AppArmor %s" % text if text else "no label")


def yama(exam):
    """Checks whether a parent may trace its child; mrunc itself needs no ptrace."""
    scope = sysctl("kernel.yama.ptrace_scope")
    exam.add("yama", WEAK if scope in ("2", "3") else OK, "ptrace_scope %s" % scope
             if scope else "no Yama", "gdb and strace inside (--seccomp debug) can't trace", "yama")


def max_user_namespaces(exam):
    """Checks the limit of user namespaces; hardening guides set it to 0."""
    value = sysctl("user.max_user_namespaces")
    exam.add("max_user_namespaces", MISSING if value == "0" else OK,
             "user.max_user_namespaces = %s" % (value or "unknown"), "no user namespace, so no "
             "full tier", "namespaces-max", kind="user", sysctl="user.max_user_namespaces")


def unprivileged_userns_clone(exam):
    """Checks the switch of Debian's and Arch's kernels; it binds the sandbox's root, too."""
    value = sysctl("kernel.unprivileged_userns_clone")
    exam.add("unprivileged_userns_clone", MISSING if value == "0" else OK,
             "kernel.unprivileged_userns_clone = %s" % value if value else "no such switch",
             "no full tier" if os.geteuid() else "root's full tier lacks its second user "
             "namespace, so it is refused (--unsafe-without userns-nested)", "userns-clone")


CHECKS = (machine, python, bytecode, inside, wsl, label, no_new_privs, outer_filter, yama,
          max_user_namespaces, unprivileged_userns_clone)
