# SPDX-License-Identifier: Apache-2.0
"""The library: `run`, `Sandbox` and `doctor`.  A launcher does the work (client.py)."""
import subprocess
import sys

from ..caller import door
from ..plan.spec import known
from . import client
from .popen import Process, wait_async
from .request import ask, finished, most_output, wait
from .streams import Streams


def run(argv, *, input=None, capture_output=False, check=False, text=False, stdin=None,
        stdout=None, stderr=None, python=None, **options):
    """Runs a program in a sandbox and waits for its end.

    argv: list of str, bytes or paths.
    input: bytes, or str with text=True, for the program's stdin.
    capture_output: whether stdout and stderr of the program become attributes of the Result.
    check: whether a returncode other than 0 raises CalledProcessError.
    text: whether captured output is str: UTF-8, with U+FFFD for each byte that is none.
    stdin, stdout, stderr: a file descriptor, a file, subprocess.DEVNULL, PIPE (captured) or
        STDOUT.  Default: 0, 1 and 2 of this process.
    python: the launcher's interpreter.  Default: this one, or `python3` of PATH.

    The options are those of the command line:

    ro, rw, copy: lists of `SRC[:DST]` or (src, dst).
    here, follow_links, tmpfs, rootfs, harden, writable, overlay, export, chdir: the files inside.
    env: dict, added to the sandbox's own environment.
    hostname, user, cap_add, rlimit, proc, tty: what the program finds.
    timeout, cpu_time, grace: seconds.
    max_output: bytes that the program may write to both outputs.  Without it, a program whose
        captured output takes more than 64 MiB of memory is ended (output-limit).
    memory, cpus, pids, io_read, io_write: limits on all processes together; the last two are lists
        of `[DEV:]BPS`.
    seccomp, seccomp_add, seccomp_action: the system call policy.
    tier, unsafe_without, best_effort, require: which controls must be in force.
    changes, ledger, samples: True adds `changes`, `refused`, `samples` to the Result.
    trace: "exec" adds `processes` to the Result.

    Returns a Result, whatever the program did: a program that ran out of time is no exception, its
    reason is timeout-wall.

    Raises SandboxError if nothing ran.  Its status is 2 for a mistake in the options, 125 if this
    host can't do it, 126 if the program can't be executed, 127 if there is none.  Raises
    CalledProcessError, a subprocess.CalledProcessError, with check=True.
    """
    streams = Streams(stdin, stdout, stderr, input, capture_output, text, most_output(options))
    answer = wait(streams, lambda: ask(argv, streams, python, options))
    return finished(answer, streams, check)


class Sandbox:
    """Options for many runs: python and options as of `run`.

    An option that is given again for one run replaces the one here; a dict of env adds to it.
    """

    def __init__(self, *, python=None, **options):
        """Raises SandboxError (2) for an unknown option.  Values are checked by each run."""
        known(options)
        self.python, self.options = python, options

    def _with(self, options):
        env = options.get("env")
        if isinstance(env, dict) and isinstance(self.options.get("env"), dict):
            options = dict(options, env=dict(self.options["env"], **env))
        return dict(self.options, **options)

    def run(self, argv, **options):
        """Runs a program and returns its Result, as `mrunc.run` does."""
        return run(argv, python=self.python, **self._with(options))

    def popen(self, argv, *, stdin=None, stdout=None, stderr=None, text=False, **options):
        """Starts a program and returns a popen.Process once it runs.

        stdin, stdout, stderr: as of subprocess.Popen, PIPE included.
        text: whether the files of pipes are text.
        Raises SandboxError if nothing ran.
        """
        options = self._with(options)
        streams = Streams(stdin, stdout, stderr, None, False, text, most_output(options))
        return Process(argv, streams, self.python, options)

    async def run_async(self, argv, *, input=None, capture_output=False, check=False, text=False,
                        stdin=None, stdout=None, stderr=None, **options):
        """As `run`, in the running event loop of asyncio and without a thread.

        Cancelling it kills the sandbox.
        """
        options = self._with(options)
        streams = Streams(stdin, stdout, stderr, input, capture_output, text, most_output(options))
        answer = await wait_async(streams, lambda: ask(argv, streams, self.python, options))
        return finished(answer, streams, check)


def doctor(python=None):
    """Returns what this host can run: the dict of `mrunc doctor --json`.

    python: the interpreter to examine the host with, default this one.  The keys are those of
    commands/doctor/examine.py.  Raises SandboxError if the interpreter does not start or says
    nothing.
    """
    import json  # no other function of the library needs it
    words = [python or sys.executable or "python3", "-I", "-S", door(), "doctor", "--json"]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
        return json.loads(done.stdout.decode("ascii"))
    except OSError as error:
        raise client.not_started(words, error)
    except ValueError:
        raise client.no_answer(words, done.returncode)
