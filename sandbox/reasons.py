# SPDX-License-Identifier: Apache-2.0
"""Why a run can end: the closed list.  The verdict gives one of these, the documentation and the schema list them.

Not for the run path, which knows only the names it gives (verdict.py); a test compares.
"""

#: reason -> (the run ended because ..., how serious: "ok", "warn" where a limit or a signal ended it, "bad" where mrunc failed)
REASONS = {
    "exited": ("the program did", "ok"),
    "signal": ("of a signal that neither mrunc nor a limit sent", "warn"),
    "seccomp": ("the system call filter killed it (or it sent itself SIGSYS)", "warn"),
    "timeout-wall": ("`--timeout` was over", "warn"),
    "timeout-cpu": ("`--cpu-time` was used up", "warn"),
    "output-limit": ("it wrote more than `--max-output`, or than the library captures", "warn"),
    "oom": ("the kernel killed it for memory", "warn"),
    "pids-max": ("it failed after `--pids` had refused it a process", "warn"),
    "rlimit-cpu": ("`--rlimit cpu=` was used up", "warn"),
    "file-size": ("a file would have become larger than `--rlimit fsize=`", "warn"),
    "killed-by-caller": ("the caller insisted: a third SIGINT, SIGQUIT or SIGTERM", "warn"),
    "lost": ("pid 1 of the sandbox was killed from outside, or mrunc itself failed", "bad"),
    "setup": ("it never started: something could not be enforced", "bad"),
    "exec": ("it never started: there is no such program", "bad"),
}
