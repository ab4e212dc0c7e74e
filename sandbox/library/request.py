# SPDX-License-Identifier: Apache-2.0
"""Makes requests of a launcher out of options, and Results out of its answers."""
import os
import subprocess

from ..controls import limits_of
from ..errors import SandboxError, usage
from . import client
from .streams import MOST_OUTPUT, exchange

#: Options that keep a launcher from serving others: a terminal at 0 and 1, trees that are read at
#: the end.
OCCUPYING = ("tty", "changes", "export")


class CalledProcessError(subprocess.CalledProcessError):
    """check=True, and the program did not exit with 0.

    returncode, cmd, output, stdout, stderr: as in subprocess.
    result: the Result.
    """

    def __init__(self, result):
        subprocess.CalledProcessError.__init__(self, result.returncode, result.argv, result.stdout,
                                               result.stderr)
        self.result = result

    def __str__(self):
        return "%s: %s" % (" ".join(self.cmd), self.result.detail or self.result.reason)

    def __reduce__(self):
        return type(self), (self.result,)


def ask(argv, streams, python, options, tell=False):
    """Hands a run to a launcher and returns the client.Call.

    argv, python, options: as of `mrunc.run`; streams: streams.Streams; tell: whether the launcher
    says when the program has begun.  Raises SandboxError.
    """
    wanted = {"argv": arguments(argv), "options": plain(options), "environ": environ(options),
              "tell": tell, "own": streams.own}
    return client.submit(wanted, streams.theirs, python, occupies(options), scope(options))


def wait(streams, submit):
    """Hands a request over, feeds and reads the program, and returns the answer.

    submit: function that returns the client.Call.
    The answer is that of client.Call.take.  An exception, also a KeyboardInterrupt, kills the
    sandbox.  The streams are closed.  Raises SandboxError.
    """
    try:
        call = submit()
        streams.handed_over()
        try:
            return exchange(call, streams)
        except BaseException:
            settle(call)
            raise
    finally:
        streams.close()


def settle(call):
    """Kills the sandbox of a client.Call and waits for its end, at most client.SETTLE seconds."""
    if call.channel.fileno() < 0:
        return
    call.kill()
    call.channel.settimeout(client.SETTLE)
    try:
        while call.channel.fileno() >= 0 and call.take() is None:
            pass
    except (SandboxError, OSError):
        pass
    call.close()


def most_output(options):
    """Returns the bytes of memory that captured output may take; None: max_output is the bound."""
    return MOST_OUTPUT if options.get("max_output") is None else None


def overflowed(result, streams):
    """Makes a Result say that the program was ended because of its output's length."""
    if result.reason == "output-limit":
        return  # the launcher has noticed
    said = "more than %d bytes" % streams.most
    result.reason, result.returncode = "output-limit", 128 + client.SIGKILL
    result.detail = "it wrote " + said
    if streams.text:
        result.detail = "its output takes %s of memory as text" % said
    result.advice = "allow more with max_output=BYTES, or give files: stdout=FILE, stderr=FILE"
    result.evidence.insert(0, "the calling process: " + result.detail)
    result.limits_hit["max_output"] = streams.most


def finished(answer, streams=None, check=False):
    """Returns the Result of an answer (client.Call.take).

    streams: streams.Streams with the captured output, or None.  check: as of `mrunc.run`.
    Raises SandboxError, CalledProcessError.
    """
    if "error" in answer:
        raise SandboxError(**answer["error"])
    result = answer["result"]
    if streams is not None:
        result.stdout, result.stderr = streams.output(1), streams.output(2)
        if streams.exceeded:
            overflowed(result, streams)
    if check and result.returncode:
        raise CalledProcessError(result)
    return result


def arguments(argv):
    """Returns argv as a list of str.  Raises SandboxError (2)."""
    if isinstance(argv, (str, bytes)):
        raise usage("the command", "must be a list of arguments, not one text")
    try:
        words = list(argv)
    except TypeError:
        raise usage("the command",
                    "must be a list of arguments, such as ['ls', '-l'], and not %r" % (argv,))
    return [_text(word) for word in words]


def occupies(options):
    """Whether a run with these options keeps a launcher from serving others."""
    tiers = " ".join(_words(options.get("tier"))).replace(",", " ").split()
    return any(options.get(name) for name in OCCUPYING) or len(tiers) > 1 or "process" in tiers


def scope(options):
    """Returns the limits for which a user may need a systemd scope: (control, ...) or None."""
    if os.geteuid() == 0:
        return None
    best_effort = _words(options.get("best_effort"))
    return tuple(sorted(name for name in limits_of(options) if name not in best_effort)) or None


def environ(options):
    """Returns {name: value} of the environment that a request with these options depends on."""
    names = set(client.ENVIRONMENT)
    env = options.get("env")
    if env and not isinstance(env, dict):
        names.update(word for word in _words(env) if "=" not in word)
    return dict((name, os.environ[name]) for name in names if name in os.environ)


def _words(value):
    """Returns the texts of an option's value; of other values none, the launcher refuses them."""
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, (list, tuple, set, frozenset)):
        return []
    return [word for word in words if isinstance(word, str)]


def _text(value):
    try:
        return os.fsdecode(value)
    except TypeError:
        raise usage("%r" % (value,), "not text, bytes or a path")


def plain(value):
    """Returns a value as marshal takes it: bytes and paths as text.  Raises SandboxError (2)."""
    if isinstance(value, dict):
        return dict((_text(key) if isinstance(key, (str, bytes)) else plain(key), plain(item))
                    for key, item in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        exact = type(value) in (type(None), bool, int, float, str)
        return value if exact else type(value).__mro__[-2](value)
    if isinstance(value, (bytes, os.PathLike)):
        return _text(value)
    raise usage("%r" % (value,), "not an option's value")
