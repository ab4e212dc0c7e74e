# SPDX-License-Identifier: Apache-2.0
"""Runs the verb of a command line and imports only what that verb needs."""
import os
import sys

from ..sandbox.caller import program_name
from ..sandbox.errors import nearest, SandboxError, usage

#: Errors of writing: EIO EAGAIN EFBIG ENOSPC EDQUOT.
WRITE_ERRORS = (5, 11, 27, 28, 122)


def main(argv, leave=False):
    """Runs a verb.

    argv: list of str without the program's name; leave: whether to end the process with the exit
    status instead of returning it. Returns the exit status. Raises nothing.
    """
    status = _run(argv)
    if leave:
        _leave(status)
    return status


def _run(argv):
    try:
        _fill_standard_descriptors()
        return _dispatch(argv)
    except BrokenPipeError:
        # The reader of our output has gone. The interpreter must not flush at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except (Exception, KeyboardInterrupt) as error:
        return _failed(error)


def _failed(error):
    """Writes a message for an exception. Returns the exit status."""
    from . import output
    if isinstance(error, SandboxError):
        output.complain(error)
        return error.status
    if isinstance(error, KeyboardInterrupt):  # a run blocks the signals before it starts anything
        output.say("interrupted")
        return 130
    if isinstance(error, OSError):
        stage = "output" if error.errno in WRITE_ERRORS else "start"
        parts = [str(part) for part in (error.filename, error.strerror) if part]
        output.say("%s: %s" % (stage, ": ".join(parts)))
        return 125
    # A bug: exit status 1 would look like the program's own.
    output.say("internal error: %s: %s" % (type(error).__name__, error))
    return 125


def _leave(status):
    """Ends the process without the interpreter's tear-down, which takes 2 ms.

    Output that can't be flushed is left to the interpreter, which reports it.
    """
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        sys.exit(status)
    os._exit(status)


def _dispatch(argv):
    verb = argv[0] if argv else "--help"
    if verb in ("--help", "-h", "help", "--version", "--man", "--completion"):
        from .manual import manual
        return manual.main(argv)
    if verb in ("run", "shell"):
        from .run import run
        return run.main(argv[1:]) if verb == "run" else run.shell(argv[1:])
    if verb == "doctor":
        from .doctor import doctor
        return doctor.main(argv[1:])
    if verb == "selftest":
        from .selftest import selftest
        return selftest.main(argv[1:])
    if verb == "policy":
        from .policy import policy
        return policy.main(argv[1:])
    if verb == "rootfs":
        from .rootfs import rootfs
        return rootfs.main(argv[1:])
    if verb == "report":
        from .report import report
        return report.main(argv[1:])
    from .help import VERBS
    if verb.startswith("-"):
        raise usage("%s before the verb" % verb, "options come after the verb",
                    "%s run [options] -- CMD" % program_name())
    raise usage("unknown verb %s%s" % (verb, nearest(verb, VERBS)),
                remedy="%s --help lists them; to run a program: %s run -- CMD" % (
                    program_name(), program_name()))


def _fill_standard_descriptors():
    """Opens /dev/null for a closed descriptor 0, 1 or 2.

    The next opened file would get that number, and the sandboxed program would inherit it.
    """
    for fd in (0, 1, 2):
        try:
            if os.fstat(fd).st_mode & 0o170000 == 0o040000:
                raise usage("descriptor %d is a directory" % fd,
                            "the program could escape through it", "pass no directory as 0, 1 or 2")
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
