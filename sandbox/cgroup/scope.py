# SPDX-License-Identifier: Apache-2.0
"""An ordinary user without a delegated group: whether the user's systemd manager can give one, decided on plain data.

`systemd-run --user --scope` starts the rest of its command line in a new scope and then *becomes* it, so mrunc starts once
more, in a group that is its own.  systemd-run(1), systemd.resource-control(5)
"""
import os

from ..errors import SandboxError
from ..proc import text

#: Seconds for the user's systemd manager to make a scope.
PATIENCE = 20


class Facts:
    """uid, pid: int; own: path of the own group; runtime: XDG_RUNTIME_DIR or None; manager: the user manager answers there;
    systemd_run: path or None; handed: controllers that the user's manager has, None where it has no group here."""

    __slots__ = ("uid", "pid", "own", "runtime", "manager", "systemd_run", "handed")

    def __init__(self, **given):
        for name in self.__slots__:
            setattr(self, name, given[name])


def unit(pid, random=""):
    """The scope's name.  systemd-run keeps its pid when it becomes mrunc, so mrunc knows its own scope again."""
    return "mrunc-%d-%s" % (pid, random + ".scope" if random else "")


def decide(facts, need):
    """(command to put before mrunc's own, None), or (None, why the user's manager can't help).

    need: controllers.  Raises SandboxError where the manager is there and lacks a controller.
    """
    if any(part.startswith(unit(facts.pid)) for part in facts.own.split("/")):
        return None, "this already is a scope of the user's systemd manager"
    if facts.uid == 0:
        return None, "root makes its own groups"
    if not facts.systemd_run:
        return None, "there is no systemd-run here"
    if not facts.runtime or not facts.manager:
        return None, "no systemd manager of the user runs (su, sudo and cron start none; loginctl enable-linger starts one)"
    if facts.handed is not None and need - facts.handed:
        lacking = " ".join(sorted(need - facts.handed))
        from .. import remedies
        raise SandboxError("limits", "the user's systemd manager",
                           remedy=remedies.line("cgroup-io"),
                           reason="systemd does not delegate %s to users here" % lacking)
    return [facts.systemd_run, "--user", "--scope", "--quiet", "--collect",
            "--unit=" + unit(facts.pid, os.urandom(4).hex()), "-p", "Delegate=yes", "--"], None


def prefix(asked, best_effort, environ):
    """The command to put before mrunc's own, [] where none is needed or none helps: the run itself then says why.

    asked, best_effort: control names.  Raises SandboxError (125) where systemd is there and does not do it.
    """
    from . import place as cgroup_place
    from .limits import controllers
    need = set().union(*(controllers(name) for name in asked if name not in best_effort))
    host = cgroup_place.Host.read()
    try:
        if host.uid == 0 or cgroup_place.promising(host, need):
            return []
        point = cgroup_place.own_directory(host)[0]
    except (OSError, cgroup_place.Unavailable):
        return []
    words, _ = decide(read_facts(host.own, point, environ), need)
    if words:
        _rehearse(words)
    return words or []


def _rehearse(words):
    """Its failure after we have become it would look like the program's own exit status."""
    import subprocess
    name = [word for word in words if word.startswith("--unit=")][0]
    rehearsal = [word if word != name else name.replace(".scope", "-try.scope")
                 for word in words] + ["/bin/true"]
    try:
        done = subprocess.run(rehearsal, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE,
                              timeout=PATIENCE)
        why = done.stderr.decode("utf-8", "replace").strip() if done.returncode else None
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    if why is not None:
        raise SandboxError("limits", "systemd-run --user --scope",
                           reason=why or "failed without a word",
                           remedy="in a login session: systemctl --user status; or run as root")


def become(asked, best_effort, arguments):
    """Starts this command line once more in a scope, where that is how a group can be had; then never returns.

    arguments: of the command line, where this process is nothing but it.  Raises SandboxError.
    """
    import sys
    from ..caller import door
    words = prefix(asked, best_effort, os.environ)
    if words:
        words += [sys.executable or "python3", "-I", "-S", door()] + arguments
        try:
            os.execv(words[0], words)
        except OSError as error:
            raise SandboxError("limits", words[0], error.errno)


def read_facts(own, point, environ):
    """The Facts of this process.  own: path of its group; point: where cgroup2 is mounted."""
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
    """Never by PATH: the caller's may lead to a sample's directory."""
    found = [os.path.join(place, name) for place in places
             if os.access(os.path.join(place, name), os.X_OK)]
    return found[0] if found else None
