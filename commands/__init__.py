# SPDX-License-Identifier: Apache-2.0
"""The command line: one verb, one module.  Nothing is imported before it is known which verb runs."""
import os
import sys

#: What a descriptor that can't be written says: EIO EAGAIN EFBIG ENOSPC EDQUOT.
NO_OUTPUT = (5, 11, 27, 28, 122)
VERBS = ("run", "shell", "doctor", "selftest", "policy", "rootfs", "report")


def main(argv, leave=False):
    """Runs a verb.  argv: list of str without the program's name.  Returns the exit status; leave: ends the process with
    it."""
    status = _run(argv)
    if leave:
        _leave(status)
    return status


def _run(argv):
    from ..sandbox.errors import SandboxError
    try:
        _fill_standard_descriptors()
        return _dispatch(argv)
    except SandboxError as error:
        from .output import complain
        complain(error)
        return error.status
    except KeyboardInterrupt:  # before run has taken over the signals nothing has been started
        from .output import say
        say("interrupted")
        return 130
    except BrokenPipeError:
        # The reader of our output is gone; nothing more can be said, and the interpreter must not try at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except OSError as error:
        from .output import say
        stage = "output" if error.errno in NO_OUTPUT else "start"
        say("%s: %s" % (stage, ": ".join(str(part) for part in (error.filename, error.strerror) if part)))
        return 125
    except Exception as error:  # a bug of ours; exit status 1 would read as the program's own
        from .output import say
        say("internal error: %s: %s" % (type(error).__name__, error))
        return 125


def _leave(status):
    """Ends the process with this status, without the interpreter's tear-down: it takes 2 ms, and the kernel does all of it.
    Not where something can't be flushed: the interpreter says so."""
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
    if verb == "run":
        from .run import run
        return run.main(argv[1:])
    if verb == "shell":
        from .run import run
        return run.shell(argv[1:])
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
    from ..sandbox.errors import nearest, usage
    if verb.startswith("-"):
        raise usage("%s before the verb" % verb, "options follow it", "%s run [options] -- CMD" % program_name())
    raise usage("unknown verb %s%s" % (verb, nearest(verb, VERBS)),
                remedy="%s --help lists them; to run a program: %s run -- CMD" % (program_name(), program_name()))


def _fill_standard_descriptors():
    """A closed 0, 1 or 2 would be given to the next file that is opened, and so to the workload."""
    from ..sandbox.errors import usage
    for fd in (0, 1, 2):
        try:
            if os.fstat(fd).st_mode & 0o170000 == 0o040000:
                raise usage("descriptor %d is a directory" % fd, "the program could leave through it")
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def program_name():
    """What the user typed to start us, for command lines to paste."""
    from ..sandbox import caller
    return caller.program_name()
