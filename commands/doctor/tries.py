# SPDX-License-Identifier: Apache-2.0
"""Finds what works here by trying it, each thing in a child process."""
import os

from . import probes
from ...sandbox import remedies
from .finding import MISSING, OK, WEAK
from ...sandbox.host.kernel import CALLS, TABLE, feature
from ...sandbox.plan.plan import NAMESPACES
from ...sandbox.tiers import NAMES
from .throwaway import attempt
from ...sandbox.vantage import mounts, sysctl
from ...syscalls.process import CLONE_NEWTIME

NO_FULL = "no full tier"
#: Mounts below /proc that don't stop a namespace from mounting proc: they cover an empty directory.
HARMLESS = ("/proc/sys/fs/binfmt_misc",)


def calls(exam):
    """Checks the system calls that set up a run."""
    got = exam.tried["calls"] = attempt(probes.missing_calls)
    lacking = got.value or []
    lost, emulated = dict((row[0], row[2]) for row in TABLE), [row[0] for row in CALLS]
    text = "not available: %s" % ", ".join("%s (since Linux %s)" % tuple(row) for row in lacking)
    if got and not lacking:
        exam.add("calls", OK, "%d system calls" % len(probes.CALLS))
    elif got and all(name in emulated for name, _ in lacking):
        effects = sorted(set(lost[feature(name)] for name, _ in lacking))
        exam.add("calls", WEAK, text, "; ".join([
            effect for effect in effects if not effect.startswith("nothing")] or effects),
            "kernel-old")
    else:
        exam.add("calls", MISSING, text if got else got.phrase(),
                 "a tier that needs them is refused", "kernel-old")


def userns(exam):
    """Checks a user namespace: made, mapped, used; on some hosts only the first works."""
    made = attempt(probes.userns_unmapped)
    if not made:
        cause, words = remedies.namespace_cause(made.errno)
        exam.tried["userns"] = made
        # EUSERS: glibc's text ("Too many users") misleads, and musl has none.
        exam.add("userns", MISSING, made.call + ": nested too deeply" if cause == "userns-depth"
                 else made.phrase(), NO_FULL, cause, **words)
        return
    exam.add("userns", OK, "made")
    used = exam.tried["userns"] = attempt(probes.userns)
    at_maps = used.call.startswith("/proc/")
    if used or not at_maps:
        exam.add("uidmap", OK, "mapped")
    else:
        exam.add("uidmap", MISSING, "writing %s: %s" % (os.path.basename(used.call), used.text),
                 NO_FULL, remedies.capabilities_cause(used.errno))
        return
    exam.add("userns-capabilities", OK if used else MISSING, "usable" if used else used.phrase(),
             NO_FULL, remedies.capabilities_cause())


def apparmor(exam):
    """Checks Ubuntu's rule; a profile may except this interpreter, so the try decides."""
    value = sysctl("kernel.apparmor_restrict_unprivileged_userns")
    text = "kernel.apparmor_restrict_unprivileged_userns = %s" % value if value else "no such rule"
    works = bool(exam.tried["userns"])
    exam.add("apparmor_restrict", OK if works or value != "1" else MISSING,
             text + (", this program is excepted" if works and value == "1" else ""), NO_FULL,
             "userns-capabilities")


def in_userns(name, function, *arguments, without=NO_FULL, cause=None, state=MISSING):
    """Returns a check that tries a function which needs a user namespace.

    name: of the finding
    function, arguments: for `attempt`
    without: the effect if it fails
    cause: of sandbox/remedies.py, or a function (Outcome) -> (cause, words)
    state: of the finding if it fails
    """
    def check(exam):
        if not exam.tried["userns"]:
            exam.add(name, state, "not tried: it needs a user namespace", without)
            return
        got = exam.tried[name] = attempt(function, *arguments)
        found, words = cause(got) if callable(cause) else (cause, {})
        exam.add(name, OK if got else state, "works" if got else got.phrase(), without, found,
                 **words)
    check.__name__ = name
    return check


def refusal(got):
    """Returns (cause, words) for a namespace refused within a user namespace. got: Outcome."""
    if got.errno in (22, 38):
        return "kernel-old", {}
    cause, words = remedies.namespace_cause(got.errno)
    return (cause, words) if cause in ("namespaces-max", "userns-clone") else ("maps", {})


def proc(exam):
    """Checks /proc: in a container that masks parts of its /proc no full one can be mounted."""
    masked = masked_paths()
    if not exam.tried["userns"]:
        exam.add("proc", WEAK if masked else MISSING, "masked: %s" % " ".join(masked[:4])
                 if masked else "not tried: it needs a user namespace", "--proc none only",
                 "proc-masked" if masked else None)
        return
    got = attempt(probes.proc)
    text = "mounted" if got else got.phrase()
    if masked:
        text += "; masked: %s%s" % (" ".join(masked[:4]), " ..." if len(masked) > 4 else "")
    exam.add("proc", OK if got else MISSING, text, "only --proc none runs: programs that read "
             "/proc don't work", "proc-masked" if os.path.exists("/proc/self/status")
             else "proc-missing")


def masked_paths():
    """Returns the paths below /proc that another mount hides."""
    return [point for point, _, _ in mounts()
            if point.startswith("/proc/") and point not in HARMLESS]


def seccomp(exam):
    """Checks the system call filter, which every tier needs."""
    got = exam.tried["seccomp"] = attempt(probes.seccomp_filter)
    if got:
        lacking = ", without the actions %s" % " ".join(got.value) if got.value else ""
        exam.add("seccomp", WEAK if got.value else OK, "a filter answers" + lacking,
                 "a policy that uses them is refused")
    else:
        exam.add("seccomp", MISSING, got.phrase(), "no tier: nothing runs without the filter",
                 "seccomp")


def seccomp_notify(exam):
    """Checks the listener, by which refused calls are recorded."""
    got = attempt(probes.seccomp_notify)
    exam.add("seccomp-notify", OK if got else WEAK, "a listener" if got else got.phrase(),
             "runs are as safe; refused calls can't be recorded", "seccomp-notify")


def landlock(exam):
    """Checks that a domain refuses; ABI 1 forbids renames across directories, so mrunc needs 2."""
    got = exam.tried["landlock"] = attempt(probes.landlock_domain)
    abi = got.value or 0
    text = "ABI %d" % abi if got else got.phrase()
    if abi >= 6:
        exam.add("landlock", OK, text)
    elif abi >= 2:
        exam.add("landlock", WEAK, text, "the program can send signals to its pid 1, which ignores "
                 "or forwards them", "landlock-old")
    else:
        exam.add("landlock", MISSING, text, "full runs without the second layer under the mounts, "
                 "and says so", "landlock-off" if got.errno == 95 else "landlock-old")


def memfd(exam):
    """Checks that a program in memory can be executed: the sandbox's pid 1 is one."""
    got = attempt(probes.program_in_memory)
    value = sysctl("vm.memfd_noexec")
    exam.add("memfd", OK if got else MISSING,
             "executable" if got else "%s (vm.memfd_noexec = %s)" % (
        got.phrase(), value or "unknown"), "no tier: the sandbox's pid 1 can't be started", "memfd")


def pidfd(exam):
    """Checks the handle by which a run is watched and ended."""
    got = attempt(probes.pidfd)
    exam.add("pidfd", OK if got else WEAK, "a signal through it" if got else got.phrase(),
             "runs are as safe: a child's pid is its own until it is waited for", "kernel-old")


def host_ids(exam):
    """Checks whether root can take a host id for a sandbox; a lock file reserves it."""
    if os.geteuid():
        return
    got = attempt(probes.host_id)
    good = "id %s is free" % got.value if got.value else "not needed: runs use the caller's id"
    exam.add("host-ids", OK if got else MISSING, good if got else got.phrase(),
             "root's runs are refused", "run-directory")


CHECKS = (
    calls, userns, apparmor,
    in_userns("userns-nested", probes.nested, cause=refusal,
              without="the full tier needs --unsafe-without userns-nested"),
    in_userns("userns-limit", probes.userns_limit, cause="proc-sys",
              without="the full tier needs --unsafe-without userns-limit"),
) + tuple(
    in_userns(control, probes.namespace, flag, cause=refusal)
    for control, _, flag in NAMESPACES if control != "userns"
) + (
    in_userns("timens", probes.namespace, CLONE_NEWTIME, cause=refusal, state=WEAK,
              without="before Linux 5.6 the host's uptime is visible; since then the run is "
              "refused"),
    in_userns("mounts", probes.mounts, cause=refusal),
    proc,
    in_userns("devpts", probes.devpts, cause=refusal),
    in_userns("overlay", probes.overlay, cause="overlay", state=WEAK, without="no --overlay"),
    seccomp, seccomp_notify, landlock, memfd, pidfd, host_ids,
)


def tiers():
    """Returns {name of a tier: what `tier` says of it}."""
    return {name: tier(name) for name in NAMES}


def tier(name):
    """Runs a program in a tier.

    name: of the tier

    Returns {runs, reason, remedy, without}; without lists the controls that were asked for and are
    not in force.
    """
    program = [word for word in (["/bin/true"], ["/usr/bin/true"], ["/bin/sh", "-c", ":"])
               if os.path.exists(word[0])]
    got = attempt(probes.run, name, program[0] if program else ["true"])
    if not got:
        reason = ": ".join(part for part in (got.stage, got.call, got.text) if part)
        return {"runs": False, "reason": reason, "remedy": got.remedy, "without": []}
    without = [row["name"] for row in got.value["controls"] if row["asked"] and not row["in_force"]]
    runs = got.value["returncode"] == 0
    return {"runs": runs, "reason": None if runs else got.value["detail"], "remedy": None,
            "without": without}
