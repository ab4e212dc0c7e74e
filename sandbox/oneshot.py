# SPDX-License-Identifier: Apache-2.0
"""The library's `run`: a small process of its own per sandbox, never a fork of the host (threads, heap, secrets).

The host starts `python -I -S mrunc.py run --spec-fd N`, hands the options over as JSON and reads one JSON answer back.
"""
import os
import sys

from .errors import SandboxError, usage

LIMIT = 64 << 20


def run(argv, stdin=None, stdout=None, stderr=None, python=None, **options):
    """Runs a program in a sandbox.

    argv: list of str or bytes.  Options are those of the command line: ro, rw, copy (lists of `SRC[:DST]` or pairs),
    here, tmpfs, rootfs, harden, writable, overlay, changes (True: the Result has them), export, chdir, env (dict or list),
    hostname, user, cap_add, rlimit, timeout, cpu_time, grace, max_output, proc, tty, seccomp, seccomp_add, tier,
    unsafe_without, memory, cpus, pids, io_read, io_write (lists of `[DEV:]BPS`), best_effort, require; samples (True: the Result
    has them).
    stdin, stdout, stderr: descriptors or files for the program, the host's own by default; python: the interpreter of
    the launcher, this one by default.

    Returns a Result, whatever the program did.  Raises SandboxError for what mrunc could not do: its status is 2 for a
    mistake in the options, 125 where this host can't, 126 or 127 where there is no such program.
    """
    import json
    import socket
    import subprocess
    if subprocess.PIPE in (stdin, stdout, stderr):
        raise usage("stdin, stdout, stderr", "descriptors or files; a pipe of subprocess would have no reader")
    request = {"argv": [_text(word) for word in _words(argv)], "options": _plain(options)}
    before = _scope(options)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            before + [python or sys.executable or "python3", "-I", "-S", door(), "run", "--spec-fd", str(theirs.fileno())],
            pass_fds=[theirs.fileno()], stdin=stdin, stdout=stdout, stderr=stderr)
        try:
            theirs.close()
            try:
                ours.sendall(json.dumps(request).encode("ascii") + b"\n")
                answer = _read_all(ours)
            except (BrokenPipeError, ConnectionResetError):
                answer = b""
        except BaseException:
            process.kill()
            process.wait()
            raise
        code = process.wait()
    if not answer:
        raise SandboxError("launcher", "ended without an answer", reason="exit status %d" % code)
    try:
        message = json.loads(answer.decode("ascii"))
    except ValueError:
        raise SandboxError("launcher", "ended in the middle of its answer", reason="exit status %d" % code)
    if "error" in message:
        error = message["error"]
        raise SandboxError(error["stage"], error["what"], error["errno"], error["reason"], error["remedy"],
                           error["control"], error["status"])
    from .result import Result
    return Result(**message["result"])


def doctor(python=None):
    """What this host can run, as `mrunc doctor --json` says it: a dict (sandbox/doctor.py has its keys).

    python: the interpreter that is examined with, this one by default.  Raises SandboxError where it can't be started.
    """
    import json
    import subprocess
    try:
        done = subprocess.run([python or sys.executable or "python3", "-I", "-S", door(), "doctor", "--json"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return json.loads(done.stdout.decode("ascii"))
    except OSError as error:
        raise SandboxError("launcher", error.filename or "", error.errno)
    except ValueError:
        raise SandboxError("launcher", "ended without an answer", reason="exit status %d" % done.returncode)


def _scope(options):
    """What goes before the launcher's command line where a limit needs a group that the user's systemd manager makes."""
    from . import spec_limits
    asked = spec_limits.asked(options)
    if not asked:
        return []
    from . import cgroup_scope
    best_effort = options.get("best_effort") or ()
    return cgroup_scope.prefix(asked, [best_effort] if isinstance(best_effort, str) else best_effort, os.environ)


def door():
    """The path by which an interpreter starts this copy of mrunc: mrunc.py, or the archive that it lies in."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = os.path.join(folder, "mrunc.py")
    while not os.path.exists(path) and folder != "/":
        if os.path.isfile(folder):
            return folder  # a zipapp
        folder = os.path.dirname(folder)
    return path


def _words(argv):
    if isinstance(argv, (str, bytes)):
        raise usage("the command", "must be a list of arguments, not one text")
    return list(argv)


def _text(value):
    try:
        return os.fsdecode(value)
    except TypeError:
        raise usage("%r" % (value,), "not text, bytes or a path")


def _plain(value):
    """Options as JSON can carry them: bytes and paths as text."""
    if isinstance(value, dict):
        return dict((_text(key) if isinstance(key, (str, bytes)) else key, _plain(item)) for key, item in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, (bytes, os.PathLike)):
        return _text(value)
    return value


def _read_all(sock):
    parts, size = [], 0
    while size < LIMIT:
        data = sock.recv(65536)
        if not data:
            break
        parts.append(data)
        size += len(data)
    return b"".join(parts)


def serve(number):
    """The launcher's side.  number: the descriptor, as text.  Returns the exit status."""
    import json
    from . import launch
    from .spec import Spec
    try:
        fd = int(number)
        os.set_inheritable(fd, False)
    except (ValueError, OSError, OverflowError):
        raise usage("--spec-fd %s" % number, "not an open descriptor")
    data = b""
    while not data.endswith(b"\n"):
        part = os.read(fd, 65536)
        if not part:
            return 125
        data += part
    status = 0
    try:
        request = json.loads(data.decode("ascii"))
        options = request["options"]
        unknown = sorted(set(options) - set(Spec.__slots__) | set(options) & {"argv"})
        if unknown:
            raise usage("unknown option %s" % unknown[0])
        for name in ("ro", "rw", "copy", "tmpfs", "writable", "env"):  # pairs come as lists
            if isinstance(options.get(name), list):
                options[name] = [tuple(item) if isinstance(item, list) else item for item in options[name]]
        spec = Spec(request["argv"], **options)
        answer = {"result": launch.launch(launch.prepare(spec)).as_dict()}
        status = answer["result"]["returncode"]
    except SandboxError as error:
        status = error.status
        answer = {"error": {"stage": error.stage, "what": error.what, "errno": error.errno, "reason": error.reason,
                            "remedy": error.remedy, "control": error.control, "status": error.status}}
    data = json.dumps(answer).encode("ascii")
    try:
        while data:
            data = data[os.write(fd, data):]
    except OSError:
        pass  # the host is gone; so is the sandbox
    return status
