# SPDX-License-Identifier: Apache-2.0
"""A part of bench/phases.py: mrunc as it is, but for a note of the time where a phase of a run begins.

    STAMPS=FILE python3 -I -S bench/stamped.py run              the command line's `run -- /bin/true`
    STAMPS=FILE python3 -I -S bench/stamped.py run --spec-fd N  a launcher; its notes are of sandboxes that a Pool has ready

Each note is the number of nanoseconds of CLOCK_MONOTONIC and a name; they are written when the run is over.
"""
import time

NOTES = [(time.monotonic_ns(), "first line")]

import posix  # noqa: E402
import sys  # noqa: E402


def note(name):
    """Now a phase of this name begins."""
    NOTES.append((time.monotonic_ns(), name))


def told():
    """Writes the notes and forgets them."""
    fd = posix.open(posix.environ[b"STAMPS"], posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND, 0o600)
    posix.write(fd, "".join("%d %s\n" % each for each in NOTES).encode())
    posix.close(fd)
    del NOTES[:]


def around(place, name, before=None, after=None):
    """Notes the time before and after each call of a function of a class or module."""
    inner = getattr(place, name)

    def noting(*words, **named):
        if before:
            note(before)
        try:
            return inner(*words, **named)
        finally:
            if after:
                note(after)
    setattr(place, name, noting)


def package():
    """The package mrunc of this checkout, by its own door."""
    path = __file__.rpartition("/")[0] + "/../mrunc.py"
    path = posix.readlink("/proc/self/fd/%d" % posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC))
    made = type(sys)("mrunc")
    made.__file__, made.__spec__ = path, None
    sys.modules["mrunc"] = made
    with open(path, "rb") as stream:
        exec(compile(stream.read(), path, "exec"), made.__dict__)
    return path.rpartition("/")[0]


def command_line():
    """What `mrunc.py run -- /bin/true` does, step by step."""
    package()
    from mrunc.commands import options
    values, words = options.parse(["--", "/bin/true"])
    from mrunc.sandbox.launch import run as launch
    from mrunc.sandbox.plan.spec import Spec
    from mrunc.syscalls import process
    note("plan")
    run = launch.Run(launch.prepare(Spec(words, **values)))
    around(process, "clone3", "clone3", "child's set-up")
    around(launch.Run, "read_back", "reading back", "program")
    run.start()
    run.wait_until_ready()
    run.read_back()
    from mrunc.sandbox.running import supervise
    around(supervise.Supervision, "_ended", "end")
    run.release()
    run.conclude(supervise.until_the_end(run))
    note("leaving")
    told()
    posix._exit(0)


def launcher(number):
    """A launcher whose notes are of runs in warm sandboxes."""
    package()
    from mrunc.sandbox.service import jobs, launcher, runs
    from mrunc.sandbox.running import supervise
    around(launcher.Launcher, "receive", "launcher")
    around(runs.Later, "send_go", after="program")
    around(supervise.Supervision, "_ended", "end of pid 1")
    around(jobs.Job, "_conclude", "result")
    inner = jobs.Job.answer

    def answer(self, words):
        note("back to the host")  # and not after it, when the host may have it already
        inner(self, words)
        told()
    jobs.Job.answer = answer
    sys.exit(launcher.serve(number))


if __name__ == "__main__":
    if "--spec-fd" in sys.argv:
        launcher(sys.argv[-1])
    command_line()
