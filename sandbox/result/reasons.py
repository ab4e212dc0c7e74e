# SPDX-License-Identifier: Apache-2.0
"""Lists all reasons why a run can end, for the documentation, the schema and the report.

The run path does not import this; it knows only the names that it gives (verdict.py).  A test
compares the two.
"""

#: reason -> (why the run ended, how serious it is).
#: "ok"; "warn": a limit or a signal ended it; "bad": mrunc failed.
REASONS = {
    "exited": ("the program exited by itself", "ok"),
    "signal": ("a signal killed the program; neither mrunc nor a limit sent it", "warn"),
    "seccomp": ("the system call filter killed the program (or it sent itself SIGSYS)", "warn"),
    "timeout-wall": ("the time of `--timeout` was over", "warn"),
    "timeout-cpu": ("the processor time of `--cpu-time` was used up", "warn"),
    "output-limit": ("the program wrote more than `--max-output`, or than the library captures",
                     "warn"),
    "oom": ("the kernel killed the program for memory", "warn"),
    "pids-max": ("the program failed after `--pids` had refused it a process", "warn"),
    "rlimit-cpu": ("the processor time of `--rlimit cpu=` was used up", "warn"),
    "file-size": ("a file would have become larger than `--rlimit fsize=`", "warn"),
    "killed-by-caller": ("the caller sent a third SIGINT, SIGQUIT or SIGTERM", "warn"),
    "lost": ("pid 1 of the sandbox was killed from outside, or mrunc itself failed", "bad"),
    "setup": ("the program never started: something could not be enforced", "bad"),
    "exec": ("the program never started: there is no such program", "bad"),
}
