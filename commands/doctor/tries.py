# SPDX-License-Identifier: Apache-2.0
"""The doctor's findings that are tried, each in a child that is thrown away."""
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
#: What is no hindrance below /proc: the kernel lets a namespace mount proc over an empty directory's mount.
HARMLESS = ("/proc/sys/fs/binfmt_misc",)


def calls(exam):
    """The system calls by which a run is set up."""
    got = exam.tried["calls"] = attempt(probes.missing_calls)
    lacking = got.value or []
    lost, round_about = dict((row[0], row[2]) for row in TABLE), [row[0] for row in CALLS]
    if got and not lacking:
        exam.add("calls", OK, "%d system calls" % len(probes.CALLS))
    elif got and all(name in round_about for name, _ in lacking):
        effects = sorted(set(lost[feature(name)] for name, _ in lacking))
        exam.add("calls", WEAK, "not there: %s" % ", ".join("%s (Linux %s)" % (name, since) for name, since in lacking),
                 "; ".join([effect for effect in effects if not effect.startswith("nothing")] or effects), "kernel-old")
    else:
        exam.add("calls", MISSING, "not there: %s" % ", ".join("%s (Linux %s)" % (name, since) for name, since in lacking)
                 if got else got.phrase(), "a tier that needs them is refused: there is no other way yet", "kernel-old")


def userns(exam):
    """Made, then mapped, then used: on some hosts only the first works."""
    made = attempt(probes.userns_unmapped)
    if not made:
        cause, words = remedies.namespace_cause(made.errno)
        exam.tried["userns"] = made
        # EUSERS: the C libraries have no words for it that fit, and musl none at all.
        exam.add("userns", MISSING, made.call + ": nested too deeply" if cause == "userns-depth" else made.phrase(), NO_FULL,
                 cause, **words)
        return
    exam.add("userns", OK, "made")
    used = exam.tried["userns"] = attempt(probes.userns)
    at_maps = used.call.startswith("/proc/")
    if used or not at_maps:
        exam.add("uidmap", OK, "mapped")
    else:
        exam.add("uidmap", MISSING, "writing %s: %s" % (os.path.basename(used.call), used.text), NO_FULL,
                 remedies.capabilities_cause(used.errno))
        return
    exam.add("userns-capabilities", OK if used else MISSING, "usable" if used else used.phrase(), NO_FULL,
             remedies.capabilities_cause())


def apparmor(exam):
    """Ubuntu's rule; a profile may except this interpreter, so the try decides."""
    value = sysctl("kernel.apparmor_restrict_unprivileged_userns")
    text = "kernel.apparmor_restrict_unprivileged_userns = %s" % value if value else "no such rule"
    works = bool(exam.tried["userns"])
    exam.add("apparmor_restrict", OK if works or value != "1" else MISSING,
             text + (", this program is excepted" if works and value == "1" else ""), NO_FULL, "userns-capabilities")


def in_userns(name, deed, *arguments, without=NO_FULL, cause=None, good="works", state=MISSING):
    """A check that needs a user namespace to be tried in."""
    def check(exam):
        if not exam.tried["userns"]:
            exam.add(name, state, "not tried: it needs a user namespace", without)
            return
        got = exam.tried[name] = attempt(deed, *arguments)
        found, words = cause(got) if callable(cause) else (cause, {})
        exam.add(name, OK if got else state, good if got else got.phrase(), without, found, **words)
    check.__name__ = name
    return check


def refused(got):
    """The cause where a namespace within a user namespace was refused."""
    if got.errno in (22, 38):
        return "kernel-old", {}
    cause, words = remedies.namespace_cause(got.errno)
    return (cause, words) if cause in ("namespaces-max", "userns-clone") else ("maps", {})


def proc(exam):
    """A container that masks parts of its /proc may not mount one that shows them."""
    masked = masks()
    if not exam.tried["userns"]:
        exam.add("proc", WEAK if masked else MISSING, "masked: %s" % " ".join(masked[:4]) if masked else
                 "not tried: it needs a user namespace", "--proc none only", "proc-masked" if masked else None)
        return
    got = attempt(probes.proc)
    text = "mounted" if got else got.phrase()
    if masked:
        text += "; masked: %s%s" % (" ".join(masked[:4]), " ..." if len(masked) > 4 else "")
    exam.add("proc", OK if got else MISSING, text, "only --proc none runs: programs that read /proc don't work",
             "proc-masked" if os.path.exists("/proc/self/status") else "proc-missing")


def masks():
    """[path below /proc that another mount hides]."""
    points = [point for point, _, _ in mounts()]
    return [point for point in points if point.startswith("/proc/") and point not in HARMLESS]


def seccomp(exam):
    """Every tier's filter."""
    got = exam.tried["seccomp"] = attempt(probes.seccomp_filter)
    if got:
        exam.add("seccomp", WEAK if got.value else OK, "a filter answers" + (", without the actions %s" % " ".join(
            got.value) if got.value else ""), "a policy that uses them is refused")
    else:
        exam.add("seccomp", MISSING, got.phrase(), "no tier: nothing runs without the filter", "seccomp")


def seccomp_notify(exam):
    """For programs that watch their own filters' refusals."""
    got = attempt(probes.seccomp_notify)
    exam.add("seccomp-notify", OK if got else WEAK, "a listener" if got else got.phrase(),
             "runs are as safe; nothing can be told about single refused calls", "seccomp-notify")


def landlock(exam):
    """A domain that really refuses; ABI 1 forbids renames across directories, so mrunc takes 2 and up."""
    got = exam.tried["landlock"] = attempt(probes.landlock_domain)
    abi = got.value or 0
    text = "ABI %d" % abi if got else got.phrase()
    if abi >= 6:
        exam.add("landlock", OK, text)
    elif abi >= 2:
        exam.add("landlock", WEAK, text, "the program can send signals to its pid 1, which ignores or forwards them",
                 "landlock-old")
    else:
        exam.add("landlock", MISSING, text, "full runs without the second layer under the mounts, and says so",
                 "landlock-off" if got.errno == 95 else "landlock-old")


def memfd(exam):
    """Init is a program in memory: nothing is written to a disk."""
    got = attempt(probes.program_in_memory)
    value = sysctl("vm.memfd_noexec")
    exam.add("memfd", OK if got else MISSING, "executable" if got else "%s (vm.memfd_noexec = %s)" % (
        got.phrase(), value or "unknown"), "no tier: the sandbox's pid 1 can't be started", "memfd")


def pidfd(exam):
    """The handle by which a run is watched and ended."""
    got = attempt(probes.pidfd)
    exam.add("pidfd", OK if got else WEAK, "a signal through it" if got else got.phrase(),
             "runs are as safe: a child's pid is its own until it is waited for", "kernel-old")


def host_ids(exam):
    """Root gives each sandbox an id of its own, which a lock file keeps."""
    if os.geteuid():
        return
    got = attempt(probes.host_id)
    exam.add("host-ids", OK if got else MISSING, ("id %s is free" % got.value if got.value else "none to give: as for a user")
             if got else got.phrase(), "root's runs are refused", "run-directory")


CHECKS = (
    calls, userns, apparmor,
    in_userns("userns-nested", probes.nested, cause=refused, without="no full tier but with --unsafe-without userns-nested"),
    in_userns("userns-limit", probes.userns_limit, cause="proc-sys",
              without="no full tier but with --unsafe-without userns-limit"),
) + tuple(
    in_userns(control, probes.namespace, flag, cause=refused) for control, _, flag in NAMESPACES if control != "userns"
) + (
    in_userns("timens", probes.namespace, CLONE_NEWTIME, cause=refused, state=WEAK,
              without="before Linux 5.6 the host's uptime is visible; later a refusal stops the run"),
    in_userns("mounts", probes.mounts, cause=refused),
    proc,
    in_userns("devpts", probes.devpts, cause=refused),
    in_userns("overlay", probes.overlay, cause="overlay", state=WEAK, without="no --overlay"),
    seccomp, seccomp_notify, landlock, memfd, pidfd, host_ids,
)


def tiers():
    """Returns {name of a tier: what `tier` says of it}."""
    return {name: tier(name) for name in NAMES}


def tier(name):
    """Really runs a program in a tier: {runs, reason, remedy, without: [control that is asked for and not in force]}."""
    program = [word for word in (["/bin/true"], ["/usr/bin/true"], ["/bin/sh", "-c", ":"]) if os.path.exists(word[0])]
    got = attempt(probes.run, name, program[0] if program else ["true"])
    if not got:
        reason = ": ".join(part for part in (got.stage, got.call, got.text) if part)
        return {"runs": False, "reason": reason, "remedy": got.remedy, "without": []}
    without = [row["name"] for row in got.value["controls"] if row["asked"] and not row["in_force"]]
    runs = got.value["returncode"] == 0
    return {"runs": runs, "reason": None if runs else got.value["detail"], "remedy": None, "without": without}
