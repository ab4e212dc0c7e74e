# SPDX-License-Identifier: Apache-2.0
"""Why a run ended: from the evidence to one reason, one sentence and one advice.

Pure: no system call, no clock.  `judge` asks the RULES in their order; the first that recognises
the evidence decides.  No rule looks at the number 137 alone: who killed a program is known by who
counted it.  A new way to end is a field of Evidence and a rule.
"""
from ..caller import option
from ..errors import DEADLINE
from ..units import human

SIGKILL, SIGXCPU, SIGXFSZ, SIGSYS = 9, 24, 25, 31
SIGNALS = {1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT",
           7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2",
           13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM", 24: "SIGXCPU", 25: "SIGXFSZ", 31: "SIGSYS"}
REPORT = "report it with this result: a mistake of mrunc's own"


class Evidence:
    """What is known of an end; each default says "nothing".

    status: the program's wait status as init reported it, or None.
    init_status: the wait status of the sandbox's pid 1.
    policy: the name of the system call policy.
    deadline: the wall deadline that was reached, in seconds, or None.
    stopped: whether all processes of the program were stopped then.
    insisted: the number of the caller's third signal, or 0.
    failure: a sentence if the supervisor itself failed, or None.
    group: what the control group counted (cgroup.Group.evidence), or None.
    memory, cpus, pids: the limits on it, or None.
    cpu_deadline: processor time that the sandbox used up, in seconds, or None.
    overflow: bytes of output that were too few, or None.
    forbidden: (name, arguments as text, why) of the call that ended it, or None.  why is None if
        the policy says so.
    rlimits: {name: (soft, hard)} of the program.
    cpu_time: seconds of --cpu-time if RLIMIT_CPU only backs it, or None.
    cpu_used: seconds that the program and the children it waited for used, or None.
    passed_on: {number: how often} of the caller's signals that the program was sent.
    refused: how many kinds of refused calls the ledger holds, or None without one.
    """

    def __init__(self, **given):
        self.status, self.init_status, self.policy = None, 0, "default"
        self.deadline, self.insisted, self.failure = None, 0, None
        self.group = self.memory = self.cpus = self.pids = None
        self.forbidden = None
        self.cpu_deadline = self.overflow = self.cpu_time = self.cpu_used = None
        self.rlimits, self.passed_on = {}, {}
        self.stopped, self.refused = False, None
        for name, value in given.items():
            if name not in self.__dict__:
                raise TypeError("no such evidence: %s" % name)
            setattr(self, name, value)

    @property
    def ended_by(self):
        """The wait status that counts: the program's, else that of pid 1."""
        return self.init_status if self.status is None else self.status

    def counted(self, name):
        """Returns what the control group counted, 0 if it did not."""
        return (self.group or {}).get(name) or 0

    def seen(self):
        """Returns [str]: all evidence, each with who saw it.  The plainest facts come last."""
        out = []
        if self.failure is not None:
            out.append("mrunc: %s" % self.failure)
        if self.forbidden is not None:
            out.append("the filter's listener: %s(%s)" % self.forbidden[:2])
        for value, what in (
                (self.deadline, "the clock: %g s were over"),
                (self.overflow, "mrunc: more than %d bytes came through stdout and stderr"),
                (self.cpu_deadline, "processor time of all processes: %g s were used up")):
            if value is not None:
                out.append(what % value)
        if self.stopped:
            out.append("/proc: all processes of the program were stopped")
        if self.insisted:
            out.append("mrunc was told to end it" if self.insisted == SIGKILL else
                       "mrunc got the third of SIGINT, SIGQUIT and SIGTERM: %s" %
                       signal_name(self.insisted))
        for number in sorted(self.passed_on):
            times = self.passed_on[number]
            out.append("mrunc got %s%s and passed it on" % (
                signal_name(number), "" if times == 1 else " %d times" % times))
        for name, place in (("oom", "memory.events: oom"), ("oom_kill", "memory.events: oom_kill"),
                            ("pids_max", "pids.events: max"),
                            ("throttled", "cpu.stat: nr_throttled")):
            if self.counted(name):
                out.append("the control group, %s %d" % (place, self.counted(name)))
        if "cpu" in self.rlimits and self.cpu_used is not None:
            out.append("wait4: %.2f s of processor time; RLIMIT_CPU %d and %d s" % (
                (self.cpu_used,) + tuple(self.rlimits["cpu"])))
        if self.status is None:
            out.append("pid 1 of the sandbox said nothing about the program, and %s" %
                       _ended(self.init_status))
        else:
            out.append("pid 1 of the sandbox: the program %s" % _ended(self.status))
        return out


class Verdict:
    """The judgement on an end.

    reason, returncode: as of Result.
    detail, advice: one sentence, or None after a success.
    evidence: [str], as of Evidence.seen.
    exit_code, signal: int or None.
    limits_hit: {option: its value}.
    """

    __slots__ = ("reason", "detail", "advice", "evidence", "returncode", "exit_code", "signal",
                 "limits_hit")

    def __init__(self, evidence):
        status = evidence.ended_by
        self.reason = self.detail = self.advice = self.exit_code = self.signal = None
        self.limits_hit, self.evidence = {}, evidence.seen()
        if status & 127:
            self.signal, self.returncode = status & 127, 128 + (status & 127)
        else:
            self.returncode = status >> 8
            self.exit_code = None if evidence.status is None else self.returncode

    def set(self, reason, detail, advice=None, returncode=None):
        """Decides.  Returns True, which a rule returns."""
        self.reason, self.detail, self.advice = reason, detail, advice
        self.returncode = self.returncode if returncode is None else returncode
        return True


def judge(evidence):
    """Returns the Verdict on an Evidence."""
    verdict = Verdict(evidence)
    for limit, event in (("memory", "oom"), ("cpus", "throttled"), ("pids", "pids_max")):
        if getattr(evidence, limit) is not None and evidence.counted(event):
            verdict.limits_hit[limit] = getattr(evidence, limit)
    for rule in RULES:
        if rule(evidence, verdict):
            break
    return verdict


def signal_name(number):
    """Returns SIGKILL for 9, and `signal 40` for a number without a name."""
    return SIGNALS.get(number, "signal %d" % number)


def _ended(status):
    """Returns a wait status in words."""
    if not status & 127:
        return "exited with status %d" % (status >> 8)
    core = ", dumping core" if status & 128 else ""
    return "was killed by %s%s" % (signal_name(status & 127), core)


def _refusals(evidence):
    """Returns an advice for an unknown failure: a refused call may be behind it."""
    if evidence.policy == "learning":
        return "hardly any call was refused while learning: look at what it wrote"
    if evidence.refused is None:
        return "see whether a refused call is behind it: %s lists them" % option(
            "ledger", True, typed="FILE")
    if evidence.refused:
        return "see whether one of the refused calls is behind it"
    return "it was refused no system call: look at what it wrote"


def _deadline(evidence, verdict):
    if evidence.deadline is None:
        return False
    verdict.limits_hit["timeout"] = evidence.deadline
    if evidence.stopped:
        return verdict.set(
            "timeout-wall", "the time limit of %g s was reached, and all its processes were "
            "stopped" % evidence.deadline,
            "find what sent SIGSTOP or SIGTSTP: a stopped program waits for SIGCONT", DEADLINE)
    return verdict.set("timeout-wall", "the time limit of %g s was reached" % evidence.deadline,
                       "allow more with " + option("timeout"), DEADLINE)


def _cpu_deadline(evidence, verdict):
    return evidence.cpu_deadline is not None and _cpu_time(evidence.cpu_deadline, verdict)


def _cpu_time(seconds, verdict):
    verdict.limits_hit["cpu_time"] = seconds
    return verdict.set("timeout-cpu", "the processor time of %g s was used up" % seconds,
                       "allow more with " + option("cpu_time"), DEADLINE)


def _overflow(evidence, verdict):
    if evidence.overflow is None:
        return False
    verdict.limits_hit["max_output"] = evidence.overflow
    return verdict.set("output-limit", "it wrote more than %d bytes" % evidence.overflow,
                       "allow more with " + option("max_output"), 128 + SIGKILL)


def _forbidden(evidence, verdict):
    """mrunc killed it, in the filter's place: a filter can't say for which call."""
    if evidence.forbidden is None:
        return False
    name, arguments, why = evidence.forbidden
    other = option("seccomp_action", "errno") if why else "an errno in the policy"
    return verdict.set("seccomp", "killed for calling %s(%s), which %s" % (
        name, arguments, why or "policy %s answers so" % evidence.policy),
        "let it go on, refused, with " + other, 128 + SIGSYS)


def _insisted(evidence, verdict):
    return evidence.insisted and verdict.set(
        "killed-by-caller", "killed by the caller" if evidence.insisted == 9 else
        "killed on the caller's third %s" % signal_name(evidence.insisted),
        "let it end by itself: SIGTERM asks it to, %s with %s does so and then kills" % (
            option("timeout"), option("grace")), 128 + evidence.insisted)


def _failed(evidence, verdict):
    """If nobody knows how the program ended, it is no success."""
    if evidence.failure is None:
        return False
    unknown = evidence.status is None and not verdict.signal
    return verdict.set("lost", evidence.failure, REPORT,
                       returncode=128 + SIGKILL if unknown else None)


def _oom(evidence, verdict):
    """Killed by SIGKILL, not by mrunc (those rules come first), and counted.

    How many were killed can't be told: with memory.oom.group one process counts twice.  `oom`
    counts the group's own limit, `oom_kill` also the host's.  cgroup-v2.rst, memory.events
    """
    if verdict.signal != SIGKILL or not evidence.counted("oom_kill"):
        return False
    if evidence.memory is None or not evidence.counted("oom"):
        return verdict.set("oom", "killed because the host ran out of memory",
                           "bound it with " + option("memory"))
    return verdict.set("oom", "killed for memory: the limit of %s was reached%s" % (
        human(evidence.memory), _split(evidence)), "allow more with " + option("memory"))


def _split(evidence):
    """Returns in words what the memory was used for, if it was seen."""
    split = evidence.counted("split") or {}
    parts = (("of programs", split.get("anon", 0)), ("of files in memory", split.get("shmem", 0)),
             ("of cached files", split.get("file", 0) - split.get("shmem", 0)),
             ("of the kernel's buffers for them", split.get("kernel", 0) + split.get("sock", 0)))
    words = ", ".join("%d MiB %s" % (count >> 20, what) for what, count in parts
                      if count >> 20 > 0)
    return " (%s)" % words if words else ""


def _pids(evidence, verdict):
    """A program that copes with the refusals exits with 0, and only limits_hit tells of them."""
    if not evidence.counted("pids_max") or verdict.returncode == 0:
        return False
    end = ("killed by %s" % signal_name(verdict.signal) if verdict.signal else
           "exited with status %d" % verdict.returncode)
    limit = "" if evidence.pids is None else " of %d" % evidence.pids
    times = evidence.counted("pids_max")
    return verdict.set(
        "pids-max", "%s, after the limit%s on processes and threads had refused %s" % (
            end, limit, "one" if times == 1 else "%d" % times), "allow more with " + option("pids"))


def _lost(evidence, verdict):
    """Pid 1 said nothing of the program: its own exit status is none of the program's."""
    if evidence.status is not None:
        return False
    if verdict.signal:
        return verdict.set(
            "lost", "pid 1 of the sandbox was killed from outside; the program ended with it",
            "look on the host for who did: somebody's kill, or the kernel for want of memory "
            "(dmesg)")
    return verdict.set(
        "lost", "pid 1 of the sandbox left without a word about the program, which ended with it",
        REPORT, 128 + SIGKILL)


def _seccomp(evidence, verdict):
    if verdict.signal != SIGSYS:
        return False
    if evidence.policy == "default":
        return verdict.set(
            "seccomp", "killed by SIGSYS: the system call filter's answer to a call of another "
            "architecture (a program can also send itself this signal)",
            "build it for this machine: a 32-bit program, or one with x32 calls, does not run here")
    return verdict.set(
        "seccomp", "killed by SIGSYS: policy %s answers a call so (a program can also send itself "
        "this signal)" % evidence.policy,
        "with %s the result names the call" % option("ledger", True, typed="FILE"))


def _rlimit_cpu(evidence, verdict):
    """Killed at a limit of processor time, by SIGKILL at the hard one.

    A program can send itself SIGXCPU, so the time that it used decides.  The kernel counts whole
    clock ticks at which it found the program running, and those may be more.
    """
    if verdict.signal not in (SIGXCPU, SIGKILL) or "cpu" not in evidence.rlimits:
        return False
    limit = evidence.rlimits["cpu"][verdict.signal == SIGKILL]
    least = (0.75 if verdict.signal == SIGKILL else 0.5) * limit
    if evidence.cpu_used is None or evidence.cpu_used < least:
        return False
    if evidence.cpu_time is not None:
        return _cpu_time(evidence.cpu_time, verdict)
    verdict.limits_hit["rlimit_cpu"] = limit
    return verdict.set("rlimit-cpu", "killed by %s after %d s of processor time" % (
        signal_name(verdict.signal), limit), "allow more with " + option("rlimit", "cpu=SECONDS"))


def _file_size(evidence, verdict):
    limit = evidence.rlimits.get("fsize", (1 << 63,))[0]
    if verdict.signal != SIGXFSZ or limit >= 1 << 63:
        return False
    verdict.limits_hit["rlimit_fsize"] = limit
    return verdict.set(
        "file-size", "killed by SIGXFSZ: a file would have become larger than %d bytes (a program "
        "can also send itself this signal)" % limit,
        "allow more with " + option("rlimit", "fsize=SIZE"))


def _signal(evidence, verdict):
    if verdict.signal is None:
        return False
    name = signal_name(verdict.signal)
    if verdict.signal in evidence.passed_on:
        return verdict.set("signal", "killed by %s, which the caller had sent" % name,
                           "handle %s in the program to end in order" % name)
    if verdict.signal == SIGKILL:
        return verdict.set("signal", "killed by SIGKILL", "see whether it did so itself, or the "
                           "host's memory ran out (dmesg): %s bounds it" % option("memory"))
    return verdict.set("signal", "killed by %s" % name, _refusals(evidence))


def _exited(evidence, verdict):
    killed = "; a process in it was killed for memory" if evidence.counted("oom_kill") else ""
    if killed:
        more = "bound it with " if evidence.memory is None else "allow more with "
        advice = more + option("memory")
    elif verdict.returncode in (126, 127):
        advice = ("bring in with %s or %s what it did not find: a shell ends so for a missing "
                  "command" % (option("copy"), option("ro")))
    else:
        advice = _refusals(evidence) if verdict.returncode else None
    return verdict.set("exited", "exited with status %d%s" % (verdict.returncode, killed), advice)


#: First what mrunc did or failed to do, then what the kernel counted, then what the status says.
RULES = (_failed, _forbidden, _deadline, _cpu_deadline, _overflow, _insisted, _oom, _lost, _seccomp,
         _rlimit_cpu, _file_size, _pids, _signal, _exited)
