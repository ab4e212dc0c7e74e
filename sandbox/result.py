# SPDX-License-Identifier: Apache-2.0
"""What happened, as one class and one JSON."""
from .errors import CANNOT_CONTAIN, DEADLINE

SCHEMA = 1
FIELDS = ("schema", "version", "argv", "tier", "reason", "detail", "advice", "returncode", "exit_code", "signal", "stage",
          "errno", "started", "usage", "limits_hit", "controls", "refused", "changes")
USAGE = ("wall_s", "user_s", "system_s", "max_rss_bytes", "memory_peak_bytes", "processes_peak", "read_bytes", "write_bytes")
SIGNALS = {1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE",
           9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM",
           24: "SIGXCPU", 25: "SIGXFSZ", 31: "SIGSYS"}


class Result:
    """The outcome of a run.

    returncode: int, as the exit status; reason: exited, signal, seccomp, timeout-wall, setup, exec, killed-by-caller,
    lost; detail, advice: one sentence or None; exit_code, signal, errno: int or None; stage: the step that failed or
    None; started: RFC 3339 UTC; usage: dict (None = not measured); controls: [{name, asked, in_force, how}].
    """

    __slots__ = FIELDS

    def __init__(self, **fields):
        from .. import __version__ as version
        self.schema, self.version, self.tier = SCHEMA, version, "full"
        self.argv = self.controls = ()
        self.refused = self.changes = None  # None: not looked at
        self.reason = self.detail = self.advice = self.exit_code = self.signal = self.stage = self.errno = None
        self.returncode, self.started, self.limits_hit = CANNOT_CONTAIN, None, {}
        self.usage = dict.fromkeys(USAGE)
        for name, value in fields.items():
            if name in FIELDS:  # a newer mrunc may say more; unknown keys are ignored
                setattr(self, name, value)

    def as_dict(self):
        """The JSON object."""
        out = dict((name, getattr(self, name)) for name in FIELDS)
        for name in ("argv", "controls"):
            out[name] = list(out[name])
        return out

    def in_force(self, control):
        """Whether a control was read back as in force.  Raises KeyError for a name that is none."""
        return dict((row["name"], row["in_force"]) for row in self.controls)[control]

    def __repr__(self):
        return "<Result %s returncode=%s%s>" % (self.reason, self.returncode, ": " + self.detail if self.detail else "")

    def ended(self, status, rusage):
        """Takes the workload's wait status and its resource usage (resource.struct_rusage or None)."""
        if status & 127:
            self.signal, self.returncode, self.reason = status & 127, 128 + (status & 127), "signal"
            self.detail = "killed by %s" % SIGNALS.get(self.signal, "signal %d" % self.signal)
            if self.signal == 31:
                self.reason = "seccomp"
                self.detail = ("killed by SIGSYS: the system call filter's answer to a call of another architecture "
                               "(a program can also send itself this signal)")
        else:
            self.exit_code, self.returncode, self.reason = status >> 8, status >> 8, "exited"
            self.detail = "exited with status %d" % self.exit_code
        if rusage is not None:
            self.usage.update(user_s=round(rusage.ru_utime, 6), system_s=round(rusage.ru_stime, 6),
                              max_rss_bytes=rusage.ru_maxrss * 1024, read_bytes=rusage.ru_inblock * 512,
                              write_bytes=rusage.ru_oublock * 512)

    def deadline(self, seconds):
        """The wall deadline ended it."""
        self.reason, self.returncode = "timeout-wall", DEADLINE
        self.detail = "the time limit of %g s was reached" % seconds
        self.advice = "allow more with --timeout"
        self.limits_hit["timeout"] = seconds

    def vanished(self, status):
        """Pid 1 ended without a word about the workload: killed from outside (out of memory, an administrator)."""
        self.returncode = 128 + (status & 127) if status & 127 else status >> 8
        self.signal = status & 127 or None
        self.detail = self.detail or "pid 1 of the sandbox was killed from outside; the program ended with it"

    def killed_by_caller(self, number):
        """A signal to the supervisor ended it."""
        self.reason, self.returncode = "killed-by-caller", 128 + number
        self.detail = "killed on the caller's third %s" % SIGNALS.get(number, "signal %d" % number)

    def failed(self, error):
        """Nothing ran.  error: SandboxError."""
        self.reason = "exec" if error.stage == "exec" else "setup"
        self.returncode, self.stage, self.errno = error.status, error.stage, error.errno
        self.detail, self.advice = error.line(), error.remedy

    def message(self):
        """The line for people where mrunc, the filter or a limit ended the program, else None."""
        if self.reason in ("timeout-wall", "seccomp", "killed-by-caller", "lost"):
            return self.detail
        return None


def now_utc(seconds):
    """RFC 3339 in UTC with milliseconds.  seconds: since the epoch."""
    import time
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + ".%03dZ" % (seconds % 1 * 1000)
