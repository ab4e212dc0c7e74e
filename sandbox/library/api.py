# SPDX-License-Identifier: Apache-2.0
"""The library: `run` and `Sandbox`, close to subprocess in feel.  The work is done by a launcher (client.py, launcher.py)."""
import subprocess

from . import client
from ..plan.spec import known
from .popen import Process, exchange_async
from .request import ask, finished, most_output, settle
from .streams import Streams, exchange


def run(argv, *, input=None, capture_output=False, check=False, text=False, stdin=None, stdout=None, stderr=None, python=None,
        **options):
    """Runs a program in a sandbox and waits for its end.

    argv: list of str or bytes.  input: bytes, or str with text=True, for its stdin.  capture_output: its stdout and stderr
    become attributes of the Result, bytes, or with text=True str (UTF-8; what isn't is replaced).
    max_output: bytes that it may write to both. Without it, a program whose captured output takes
    more than 64 MiB of memory is ended (output-limit).
    stdin, stdout, stderr: descriptors, files, subprocess.DEVNULL, PIPE (captured) or STDOUT, by default the host's 0, 1, 2.
    check: raise for a returncode other than 0.  python: the interpreter of the launcher, by default this one, else `python3`
    of PATH.  Options are those of the command line: ro, rw, copy (lists of `SRC[:DST]` or pairs), here, follow_links, tmpfs,
    rootfs, harden, writable, overlay, changes (True: the Result has them), export, chdir, env (a dict, adds to the sandbox's
    own), hostname, user, cap_add, rlimit, timeout, cpu_time, grace, max_output, proc, tty, seccomp, seccomp_add,
    seccomp_action, tier, unsafe_without, memory, cpus, pids, io_read, io_write (lists of `[DEV:]BPS`), best_effort, require;
    ledger (True: the Result has what was `refused`), samples (True: the Result has them), trace ("exec": the Result has
    `processes`).

    Returns a Result, whatever the program did; a deadline is no exception, its reason is timeout-wall.  Raises SandboxError
    for what mrunc could not do: its status is 2 for a mistake in the options, 125 where this host can't, 126 or 127 where
    there is no such program; CalledProcessError, which is subprocess's too, with check=True.
    """
    streams = Streams(stdin, stdout, stderr, input, capture_output, text, most_output(options))
    try:
        call = ask(argv, streams, python, options)
        streams.handed_over()
        try:
            answer = exchange(call, streams)
        except BaseException:  # KeyboardInterrupt: nothing of it stays
            settle(call)
            raise
    finally:
        streams.close()
    return finished(answer, streams, check)


class Sandbox:
    """Options for many runs.  python and options: as of `run`; an option that is given again for one run replaces this one,
    and env is added to."""

    def __init__(self, *, python=None, **options):
        """Raises SandboxError (2) for a name that is no option's; values are checked when something runs."""
        known(options)
        self.python, self.options = python, options

    def _with(self, options):
        env = options.get("env")
        if isinstance(env, dict) and isinstance(self.options.get("env"), dict):
            options = dict(options, env=dict(self.options["env"], **env))
        return dict(self.options, **options)

    def run(self, argv, **options):
        """As `mrunc.run`."""
        return run(argv, python=self.python, **self._with(options))

    def popen(self, argv, *, stdin=None, stdout=None, stderr=None, text=False, **options):
        """Starts a program and returns a popen.Process, when its sandbox has been read back and it runs.  stdin, stdout,
        stderr: as of subprocess.Popen, PIPE included.  Raises SandboxError."""
        options = self._with(options)
        streams = Streams(stdin, stdout, stderr, None, False, text, most_output(options))
        return Process(argv, streams, self.python, options)

    async def run_async(self, argv, *, input=None, capture_output=False, check=False, text=False, stdin=None, stdout=None,
                        stderr=None, **options):
        """As `run`, in the running event loop of asyncio: no thread waits.  Cancelling it kills the sandbox."""
        options = self._with(options)
        streams = Streams(stdin, stdout, stderr, input, capture_output, text, most_output(options))
        try:
            call = ask(argv, streams, self.python, options)
            streams.handed_over()
            answer = await exchange_async(call, streams)
        finally:
            streams.close()
        return finished(answer, streams, check)


def doctor(python=None):
    """What this host can run, as `mrunc doctor --json` says it: a dict (commands/doctor/examine.py has its keys).

    python: the interpreter that is examined with, this one by default.  Raises SandboxError where it can't be started.
    """
    import json
    import sys
    from ..caller import door
    words = [python or sys.executable or "python3", "-I", "-S", door(), "doctor", "--json"]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return json.loads(done.stdout.decode("ascii"))
    except OSError as error:
        raise client.not_started(words, error)
    except ValueError:
        raise client.no_answer(words, done.returncode)
