# SPDX-License-Identifier: Apache-2.0
"""Pools of warm sandboxes, as their host sees them; service/pools.py keeps them."""
import os
import threading

from ..errors import SandboxError, usage
from ..plan.spec import known
from . import client
from .api import Sandbox, run
from .popen import wait_async
from .request import (arguments, environ, finished, most_output, occupies, plain, scope, settle,
                      wait)
from .streams import DEVNULL, Streams


class Pool:
    """Sandboxes that are ready before they are asked for; each is used once and then replaced.

    size: how many, from 1 to 256.
    python, options: as of `mrunc.run`, except tty, changes, export, the tier `process` and several
        tiers.

    What the options name of the host (`copy`, `ro`) is taken when a sandbox is made.  Several
    threads may use a Pool.  A forked process that uses it gets sandboxes of its own.  It is a
    context manager.
    """

    def __init__(self, size, *, python=None, **options):
        """Returns when all sandboxes are ready.  Raises SandboxError as `mrunc.run` does."""
        self._call, self._pid, self._lock, self._closed = None, 0, None, False
        known(options)
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 256:
            raise usage("a pool of %r" % (size,), "its size is a number from 1 to 256")
        if occupies(options):
            raise usage("a pool with these options", "tty, changes, export, the tier process and "
                        "several tiers have no warm sandboxes")
        self.size, self.python, self.options = size, python, options
        self._opened()

    def run(self, argv, *, input=None, capture_output=False, check=False, text=False, stdin=None,
            stdout=None, stderr=None, env=None, timeout=None, **options):
        """Runs a program in one of the sandboxes, or in the next one that is ready.

        As `mrunc.run`, but with the pool's options: env adds to the pool's, timeout (seconds) takes
        the place of the pool's, and no other option may be given.  Returns a Result.
        """
        _none(options)
        streams = Streams(stdin, stdout, stderr, input, capture_output, text,
                          most_output(self.options))
        answer = wait(streams, lambda: self._ask(argv, streams, env, timeout))
        if _not_executed(answer):
            return run(argv, input=input, capture_output=capture_output, check=check, text=text,
                       stdin=stdin, stdout=stdout, stderr=stderr, python=self.python,
                       **self._with(env, timeout))
        return finished(answer, streams, check)

    async def run_async(self, argv, *, input=None, capture_output=False, check=False, text=False,
                        stdin=None, stdout=None, stderr=None, env=None, timeout=None, **options):
        """As `run`, in the running event loop of asyncio.  Cancelling it kills the sandbox."""
        _none(options)
        streams = Streams(stdin, stdout, stderr, input, capture_output, text,
                          most_output(self.options))
        answer = await wait_async(streams, lambda: self._ask(argv, streams, env, timeout))
        if _not_executed(answer):
            return await Sandbox(python=self.python, **self._with(env, timeout)).run_async(
                argv, input=input, capture_output=capture_output, check=check, text=text,
                stdin=stdin, stdout=stdout, stderr=stderr)
        return finished(answer, streams, check)

    def close(self):
        """Ends the sandboxes that wait, and returns when they have ended.

        A run that is under way goes on.  No other can begin.
        """
        call = self._let_go()
        if call is not None:
            settle(call)

    def _let_go(self):
        self._closed = True
        call, self._call = self._call, None
        return call if self._pid == os.getpid() else None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close()

    def __del__(self):
        call = self._let_go()
        if call is not None:
            call.close()

    def _with(self, env, timeout):
        options = dict(self.options)
        if env:
            options["env"] = _pairs(self.options.get("env")) + _pairs(env)
        if timeout is not None:
            options["timeout"] = timeout
        return options

    def _ask(self, argv, streams, env, timeout):
        request = {"argv": arguments(argv), "env": plain(env), "timeout": timeout,
                   "environ": environ({"env": env}) if env else {}, "tell": False,
                   "own": streams.own}
        for _ in range(2):
            opened = self._opened()
            request["pool"] = opened.started["pool"]
            call = client.submit(request, streams.theirs, self.python, link=opened.link)
            if call is not None:
                return call
            with self._lock:
                if self._call is opened:
                    self._call = None
                    opened.close()
        raise SandboxError("launcher", "ends again and again")

    def _opened(self):
        """Returns the Call of this process's pool.  Raises SandboxError."""
        if self._pid != os.getpid():  # the first use, or a fork's: the lock may be held for ever
            self._call, self._lock, self._pid = None, threading.Lock(), os.getpid()
        with self._lock:
            if self._closed:
                raise usage("the pool", "is closed")
            if self._call is None:
                self._call = self._open()
            return self._call

    def _open(self):
        request = {"pool": 0, "size": self.size, "options": plain(self.options), "tell": True,
                   "environ": environ(self.options)}
        streams = Streams(DEVNULL, DEVNULL, DEVNULL)
        try:
            call = client.submit(request, streams.theirs, self.python, scope=scope(self.options))
        finally:
            streams.close()
        try:
            while call.started is None:
                answer = call.take()
                if answer is not None:
                    finished(answer)
        except BaseException:
            call.close()
            raise
        return call


def _none(options):
    """Refuses options for one run.  Raises SandboxError (2)."""
    known(options)
    for name in sorted(options):
        raise usage(name, "is the pool's: its sandboxes are made before the run",
                    "Pool(size, %s=...), or mrunc.run" % name)


def _not_executed(answer):
    """Whether there is no such program: nothing has run, and an ordinary run finds out why."""
    return answer.get("error", {}).get("stage") == "exec"


def _pairs(env):
    if isinstance(env, dict):
        return list(env.items())
    return [env] if isinstance(env, (str, bytes)) else list(env or ())
