# SPDX-License-Identifier: Apache-2.0
"""Runs the probes, each in a child process, with a deadline.

It runs inside the sandbox (from an archive), in the current environment, and without a sandbox for
the positive controls. So it must be harmless everywhere, also as root on a bare host.
"""
import errno
import os
import select
import signal
import time

from .attempt import ARCH, ERROR, KILLED, Outcome, SKIPPED, Unsuitable, buffer, call, refusal
from .probe import LIMIT, PLACES
from .probes import devices, filter as probes_filter, given, identity, kernel, leaks, limits, \
    mounts, namespaces, neighbours, network, patterns, proc, requests, sources, tasks

#: Modules of probes, in the order in which they run.
GROUPS = (namespaces, mounts, proc, devices, identity, given, probes_filter, requests, kernel,
          tasks, neighbours, network, leaks, patterns, sources, limits)
#: Seconds that a probe has to exit after its answer.
GRACE = 5.0


def corpus(groups=()):
    """Returns [Probe] in order.

    groups: names of groups, dangers or probes to keep; if empty, all but the limits
    """
    out = []
    for module in GROUPS:
        for probe in module.PROBES:
            probe.group = module.GROUP
            if probe.id in groups or probe.group in groups or probe.danger in groups or \
                    not groups and probe.danger != LIMIT:
                out.append(probe)
    return out


def confined():
    """Returns whether a seccomp filter is attached to this process."""
    try:
        with open("/proc/self/status") as stream:
            return "\nSeccomp:\t2" in stream.read()
    except OSError:
        return True  # every host has /proc


def run(probes, facts):
    """Yields (probe, Outcome).

    probes: [Probe]

    facts: dict about the outside, see plants.py
    """
    facts = dict(facts, descriptors=descriptors(), runner=os.getpid(), cwd=directory(),
                 scratch=scratch())
    bare = not confined()
    try:
        for probe in probes:
            if probe.arch not in (None, ARCH):
                outcome = Outcome(SKIPPED, "only on %s" % probe.arch)
            elif any(name not in facts for name in probe.needs):
                outcome = Outcome(SKIPPED, "needs something planted outside")
            elif facts.get("current") and bare and not probe.bare:
                outcome = Outcome(SKIPPED, "not tried unconfined: it might change the host")
            else:
                outcome = attempt(probe, facts)
            yield probe, outcome
    finally:
        clear(facts["scratch"])


def descriptors():
    """Returns [(fd, mode, device, inode)] of the descriptors that this process was started with."""
    out = []
    try:
        # Without the descriptor of the listing itself, which is closed by now.
        names = [name for name in os.listdir("/proc/self/fd")
                 if os.path.lexists("/proc/self/fd/" + name)]
    except OSError:
        names = range(1024)
    for name in names:
        try:
            found = os.fstat(int(name))
            out.append((int(name), found.st_mode, found.st_dev, found.st_ino))
        except OSError:
            pass
    return out


def directory():
    """Returns the current directory of getcwd(2): "(unreachable)..." if it is outside the root."""
    name = buffer(4096)
    try:
        size = call("getcwd", name, 4096)
        return name.raw[:size - 1].decode("utf-8", "replace")
    except OSError:
        return ""


def scratch():
    """Makes a directory for what probes make and remove; returns its path, or None."""
    for place in (os.environ.get("TMPDIR"), "/tmp", "/box", "/dev/shm", os.environ.get("HOME"),
                  "."):
        path = "%s/mrunc-selftest-%d-%d" % (place, os.getpid(), int(time.time() * 1e6) & 0xffffff)
        try:
            os.mkdir(path, 0o700)
            return path
        except (OSError, TypeError):
            continue
    return None


def clear(path):
    """Removes the scratch directory."""
    for folder, directories, files in os.walk(path, topdown=False) if path else ():
        for name in files:
            _quietly(os.unlink, os.path.join(folder, name))
        for name in directories:
            place = os.path.join(folder, name)
            _quietly(os.unlink if os.path.islink(place) else os.rmdir, place)
    if path:
        _quietly(os.rmdir, path)


def _quietly(action, path):
    try:
        action(path)
    except OSError:
        pass


def attempt(probe, facts):
    """Returns the Outcome of one probe, run in an own process group that is killed afterwards."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        child(probe, facts, write)
    os.close(write)
    try:
        os.setpgid(pid, pid)
    except OSError:
        pass  # the child did it, or has ended
    text, status, late = collect(read, pid, probe.deadline)
    os.close(read)
    if status is None and not late:  # it answered and exits: its status must not be of our signal
        status = _wait(pid, GRACE)
    _kill(-pid)
    if status is None:
        _kill(pid)
        status = os.waitpid(pid, 0)[1]
    return judge(probe, text, late, status)


def _wait(pid, seconds):
    """Returns the wait status, or None if it does not end in time."""
    end = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        if time.monotonic() >= end:
            return None
        time.sleep(0.001)


def _kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass


def collect(fd, pid, deadline):
    """Returns (output up to a newline, wait status or None, whether the deadline passed).

    The end of the pipe is not enough: what a probe leaves behind may hold it open.
    """
    data, end, status = b"", time.monotonic() + deadline, None
    while not data.endswith(b"\n") and len(data) < 4096:
        ready = select.select([fd], [], [], 0.02 if status is None else 0)[0]
        if ready:
            part = os.read(fd, 4096)
            data += part
            if not part:
                break
        elif status is not None or time.monotonic() >= end:
            return data, status, status is None
        else:
            done, found = os.waitpid(pid, os.WNOHANG)
            status = found if done else None
    return data, status, False


def judge(probe, text, late, status):
    """Returns the Outcome from a child's answer and its end."""
    if text.endswith(b"\n"):
        kind, number, detail = text.decode("utf-8", "replace")[:-1].split("\t", 2)
        return Outcome(kind, detail, int(number) if number else None)
    sign = status & 127
    if sign == signal.SIGSYS or sign in probe.signals:
        return Outcome(KILLED, "SIGSYS" if sign == signal.SIGSYS else "signal %d" % sign)
    if late:
        return Outcome(ERROR, "no answer within %g s" % probe.deadline)
    return Outcome(ERROR, "ended by signal %d" % sign if sign else "ended without an answer, "
                   "status %d" % (status >> 8))


def child(probe, facts, write):
    """Runs the action of a probe; never returns."""
    try:
        os.setpgid(0, 0)
        import resource
        try:
            hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
            resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
        except (OSError, ValueError):
            pass  # if the limit can't be changed, no dump is made either
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, 1)  # the results go there
        os.close(null)
        if facts["scratch"]:
            os.chdir(facts["scratch"])
        try:
            outcome = probe.action(facts)
        except Unsuitable as error:
            outcome = Outcome(SKIPPED, str(error))
        except OSError as error:
            outcome = refusal(error)
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                outcome.kind = ERROR
        except Exception as error:
            outcome = Outcome(ERROR, "%s: %s" % (type(error).__name__, error))
        detail = outcome.detail.replace("\n", " ").replace("\t", " ")[:500]
        os.write(write,
                 ("%s\t%s\t%s\n" % (outcome.kind, "" if outcome.errno is None else outcome.errno,
                                    detail)).encode(
            "utf-8", "backslashreplace"))
    finally:
        os._exit(0)


def report(argv):
    """Runs the archive: prints one JSON line for each probe.

    argv: [JSON object {nonce, groups, places, facts}]

    Returns the exit status.
    """
    import json
    request = json.loads(argv[0])
    places = request.get("places", PLACES)
    probes = [probe for probe in corpus(request.get("groups", ())) if probe.place() in places]
    for probe, outcome in run(probes, request.get("facts", {})):
        line = json.dumps({"nonce": request.get("nonce"), "id": probe.id, "kind": outcome.kind,
                           "errno": outcome.errno,
                           "detail": outcome.detail})
        os.write(1, line.encode("ascii") + b"\n")
    return 0
