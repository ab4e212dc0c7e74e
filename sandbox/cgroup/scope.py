# SPDX-License-Identifier: Apache-2.0
"""Gets a control group for an ordinary user from the user's systemd manager.

`systemd-run --user --scope` starts a command in a new scope and then *becomes* it. So mrunc starts
once more, in a group of its own. systemd-run(1), systemd.resource-control(5)
"""
import os

from ..errors import remedies, SandboxError
from ..proc import text
from ..caller import door
from . import place as cgroup_place
from .limits import controllers

#: Seconds for the user's systemd manager to make a scope.
PATIENCE = 20


class Facts:
    """Plain data to decide on.

    uid, pid: of this process.
    own: path of its group.
    runtime: XDG_RUNTIME_DIR or None.
    manager: whether the user's manager answers there.
    systemd_run: path or None.
    handed: controllers of the user's manager; None if it has no group here.
    """

    __slots__ = ("uid", "pid", "own", "runtime", "manager", "systemd_run", "handed")

    def __init__(self, **given):
        for name in self.__slots__:
            setattr(self, name, given[name])


def unit(pid, random=""):
    """Returns the scope's name, or its beginning without `random`.

    systemd-run keeps its pid when it becomes mrunc, so mrunc knows its own scope.
    """
    return "mrunc-%d-%s" % (pid, random + ".scope" if random else "")


def decide(facts, need):
    """Returns (words to put before mrunc's command line, None), or (None, why not).

    facts: Facts.
    need: controllers.

    Raises SandboxError if the manager exists and lacks a controller.
    """
    if any(part.startswith(unit(facts.pid)) for part in facts.own.split("/")):
        return None, "this already is a scope of the user's systemd manager"
    if facts.uid == 0:
        return None, "root makes its own groups"
    if not facts.systemd_run:
        return None, "there is no systemd-run here"
    if not facts.runtime or not facts.manager:
        return None, "no systemd manager of the user runs (su, sudo and cron start none; " \
                     "loginctl enable-linger starts one)"
    if facts.handed is not None and need - facts.handed:
        lacking = " ".join(sorted(need - facts.handed))
        raise SandboxError("limits", "the user's systemd manager",
                           remedy=remedies().line("cgroup-io"),
                           reason="systemd does not delegate %s to users here" % lacking)
    return [facts.systemd_run, "--user", "--scope", "--quiet", "--collect",
            "--unit=" + unit(facts.pid, os.urandom(4).hex()), "-p", "Delegate=yes", "--"], None


def prefix(asked, best_effort, environ):
    """Returns the words to put before mrunc's command line, [] if none are needed or help.

    asked, best_effort: names of controls.
    environ: dict.

    With [] the run itself says why. Raises SandboxError (125) if systemd exists and fails.
    """
    need = set().union(*(controllers(name) for name in asked if name not in best_effort))
    host = cgroup_place.Host.read()
    try:
        if host.uid == 0 or cgroup_place.seems_usable(host, need):
            return []
        point = cgroup_place.own_directory(host)[0]
    except (OSError, cgroup_place.Unavailable):
        return []
    words, _ = decide(read_facts(host.own, point, environ), need)
    if words:
        _rehearse(words)
    return words or []


def _rehearse(words):
    """Tries the scope first: a later failure would look like the program's exit status."""
    import subprocess
    name = [word for word in words if word.startswith("--unit=")][0]
    rehearsal = [word if word != name else name.replace(".scope", "-try.scope")
                 for word in words] + ["/bin/true"]
    try:
        done = subprocess.run(rehearsal, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, timeout=PATIENCE)
        why = done.stderr.decode("utf-8", "replace").strip() if done.returncode else None
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    if why is not None:
        raise SandboxError("limits", "systemd-run --user --scope",
                           reason=why or "failed without a word",
                           remedy="in a login session: systemctl --user status; or run as root")


def become(asked, best_effort, arguments):
    """Runs this command line again in a scope and never returns, if that is needed and helps.

    asked, best_effort: names of controls.
    arguments: of the command line, which must be all that this process does.

    Raises SandboxError.
    """
    import sys
    words = prefix(asked, best_effort, os.environ)
    if words:
        words += [sys.executable or "python3", "-I", "-S", door()] + arguments
        try:
            os.execv(words[0], words)
        except OSError as error:
            raise SandboxError("limits", words[0], error.errno)


def read_facts(own, point, environ):
    """Returns the Facts of this process.

    own: path of its group.
    point: mount point of cgroup2.
    environ: dict.
    """
    runtime = environ.get("XDG_RUNTIME_DIR")
    uid = os.geteuid()
    handed = None
    try:
        handed = set(text("%s/user.slice/user-%d.slice/user@%d.service/cgroup.controllers" %
                          (point, uid, uid)).split())
    except OSError:
        pass
    return Facts(uid=uid, pid=os.getpid(), own=own, runtime=runtime, handed=handed,
                 manager=bool(runtime) and
                 any(os.path.exists(runtime + name) for name in ("/systemd/private", "/bus")),
                 systemd_run=_which("systemd-run",
                                    ("/usr/bin", "/bin", "/run/current-system/sw/bin")))


def _which(name, places):
    """Returns the path of a program or None; not by PATH, which may lead to a sample."""
    found = [os.path.join(place, name) for place in places
             if os.access(os.path.join(place, name), os.X_OK)]
    return found[0] if found else None
