# SPDX-License-Identifier: Apache-2.0
"""The result of a run: what happened, as one class and one JSON object."""
import os
import time

from .. import errors
from ..caller import option, program_name
from ..version import __version__

SCHEMA = 1
FIELDS = ("schema", "version", "argv", "tier", "reason", "detail", "advice", "evidence",
          "returncode", "exit_code", "signal", "stage", "errno", "started", "kernel", "machine",
          "policy", "usage", "limits_hit", "controls", "refused", "processes", "samples", "changes",
          "changes_omitted", "notes")
USAGE = ("wall_s", "user_s", "system_s", "max_rss_bytes", "memory_peak_bytes", "processes_peak",
         "read_bytes", "write_bytes", "memory_anon_bytes", "memory_file_bytes", "throttled_s",
         "memory_max_events", "oom_kill_events", "pids_max_events")
#: The reasons that one line on stderr tells: mrunc, the filter or a limit ended the program.
TOLD = frozenset(("timeout-wall", "timeout-cpu", "output-limit", "rlimit-cpu", "file-size",
                  "seccomp", "killed-by-caller", "lost", "oom", "pids-max"))

#: What to do next if an error has no remedy of its own, by exit status.
NEXT = {errors.USAGE: "{program} --man describes every option",
        errors.CANNOT_CONTAIN: "{program} doctor tells what this host has",
        errors.NOT_EXECUTABLE: "make it a program that this machine can execute",
        errors.NOT_FOUND: "check its name; {copy} brings a program in"}

class Result:
    """The outcome of a run.

    returncode: int, as the exit status.
    reason: exited, signal, seccomp, timeout-wall, timeout-cpu, output-limit, oom, pids-max,
        rlimit-cpu, file-size, setup, exec, killed-by-caller or lost.
    detail, advice: one sentence or None.
    evidence: [str], what speaks for the reason, each with who saw it.
    exit_code, signal, errno: int or None.
    stage: the step that failed, or None.
    started: RFC 3339, UTC.
    kernel, machine: as of uname(2).
    policy: {name, sha256} of the system call policy, None without one.
    usage: dict; None is not measured.
    controls: [{name, asked, in_force, how}].
    refused, processes, samples, changes: rows as in schema.py, None if nobody looked.  In the
        process that read them, `changes` is a rows.Rows.
    changes_omitted: how many more changes there were than `changes` lists.
    notes: [str], the warnings of the plan (tiers passed over, system calls added to the policy),
        then what `changes` and --export could not take.

    Not in the JSON:
    stdout, stderr: the output, if the library captured it.
    learned: a learned.Learned or None.
    """

    __slots__ = FIELDS + ("stdout", "stderr", "learned")

    def __init__(self, **fields):
        """fields: as_dict of a result.  Keys of a newer mrunc are ignored."""
        self.schema, self.version, self.tier = SCHEMA, __version__, "full"
        self.argv, self.controls, self.evidence = [], [], []
        self.refused = self.processes = self.samples = self.changes = self.changes_omitted = None
        self.kernel = self.machine = self.policy = None
        self.notes, self.stdout, self.stderr, self.learned = [], None, None, None
        self.reason = self.detail = self.advice = self.exit_code = self.signal = None
        self.stage = self.errno = None
        self.returncode, self.started, self.limits_hit = errors.CANNOT_CONTAIN, None, {}
        self.usage = dict.fromkeys(USAGE)
        for name, value in fields.items():
            if name in FIELDS:
                setattr(self, name, value)
        if self.changes and isinstance(self.changes[0], bytes):
            from .rows import Rows  # json, which few runs need
            self.changes = list(Rows(self.changes))

    def packed(self):
        """Returns as_dict for marshal; the rows of `changes` stay JSON, which Result(**) takes."""
        texts = None if self.changes is None else self.changes.texts
        return dict(self.as_dict(), changes=texts)

    def as_dict(self):
        """Returns the JSON object, in which `changes` may be a rows.Rows."""
        out = dict((name, getattr(self, name)) for name in FIELDS)
        for name in ("argv", "controls", "evidence"):
            out[name] = list(out[name])
        return out

    def in_force(self, control):
        """Whether a control was read back as in force.  Raises KeyError for an unknown name."""
        found = dict((row["name"], row["in_force"]) for row in self.controls)
        if control not in found:
            raise KeyError("no control is called %r%s; of this run there are: %s" % (
                control, errors.nearest(str(control), found), " ".join(sorted(found)) or "none"))
        return found[control]

    def __repr__(self):
        detail = ": " + self.detail if self.detail else ""
        return "<Result %s returncode=%s%s>" % (self.reason, self.returncode, detail)

    def planned(self, plan):
        """Takes what is known before anything runs, from a plan.Plan.  Returns the Result."""
        self.argv, self.tier = [os.fsdecode(word) for word in plan.spec.argv], plan.tier.name
        self.notes = list(plan.warnings)
        system = os.uname()
        self.kernel, self.machine = system.release, system.machine
        if plan.policy_digest is not None:
            self.policy = {"name": plan.filters[0][0], "sha256": plan.policy_digest}
        return self

    def take(self, verdict):
        """Takes a verdict.Verdict: how the program ended."""
        for name in ("reason", "detail", "advice", "evidence", "returncode", "exit_code", "signal"):
            setattr(self, name, getattr(verdict, name))
        self.limits_hit.update(verdict.limits_hit)

    def used(self, rusage, whole):
        """Takes the resource usage of the program and of the whole sandbox.

        rusage: process.Usage of the program; whole: [(user, system)] in seconds, of the whole
        sandbox.  Each may be too little but none too much, so the largest counts.
        """
        user, system = max([(rusage.ru_utime, rusage.ru_stime)] + whole, key=sum)
        self.usage.update(
            user_s=round(user, 6), system_s=round(system, 6),
            max_rss_bytes=rusage.ru_maxrss * 1024, read_bytes=rusage.ru_inblock * 512,
            write_bytes=rusage.ru_oublock * 512)

    def counted(self, group):
        """Takes what the control group counted of everything that ran in it (Group.evidence)."""
        split, throttled = group["split"], group["throttled_usec"]
        found = {"user_s": group["user_s"], "system_s": group["system_s"],
                 "read_bytes": group["read_bytes"], "write_bytes": group["write_bytes"],
                 "memory_peak_bytes": group["memory_peak"], "processes_peak": group["pids_peak"],
                 "memory_anon_bytes": split.get("anon"), "memory_file_bytes": split.get("file"),
                 "throttled_s": None if throttled is None else throttled / 1e6,
                 "memory_max_events": group["memory_max"], "oom_kill_events": group["oom_kill"],
                 "pids_max_events": group["pids_max"]}
        self.usage.update((name, value) for name, value in found.items() if value is not None)

    def failed(self, error):
        """Takes the SandboxError because of which nothing ran."""
        self.reason = "exec" if error.stage == "exec" else "setup"
        self.returncode, self.stage, self.errno = error.status, error.stage, error.errno
        self.detail, self.advice = error.line(), error.remedy
        if not self.advice:
            advice = NEXT.get(error.status, "run it again: nothing of it has run")
            self.advice = advice.format(program=program_name(), copy=option("copy"))
        self.evidence = ["step: %s" % error.stage]
        if error.control:
            self.evidence.append("control: %s" % error.control)
        if error.errno:
            self.evidence.append("errno: %d, %s" % (error.errno, os.strerror(error.errno)))

    def message(self):
        """Returns the line for people if mrunc, the filter or a limit ended the program."""
        return self.detail if self.reason in TOLD else None


def now_utc(seconds):
    """Returns a time as RFC 3339, UTC, with milliseconds.  seconds: since the epoch."""
    date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return date + ".%03dZ" % (seconds % 1 * 1000)
