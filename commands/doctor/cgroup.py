# SPDX-License-Identifier: Apache-2.0
"""Finds which control group limits work here, by making a group and removing it."""
import os

from ...sandbox.cgroup import place, scope
from ...sandbox.cgroup.limits import OF_GROUP, controllers, named
from .finding import MISSING, OK, WEAK
from .throwaway import attempt


def trial(host):
    """Tries each limit in the places where a group could be made.

    host: cgroup.place.Host

    Returns a dict for JSON:
    have: {controller: directory}
    lack: {controller: [why, cause, words]}
    kill: whether groups have cgroup.kill, or None if no group could be made
    """
    out = {"have": {}, "lack": {}, "kill": None}
    for control in list(OF_GROUP) + [None]:
        name = OF_GROUP[control] if control else None
        try:
            need = controllers(control) if control else set()
            place.look(host, need)
            where, kill = _group(host, need)
            out["kill"] = kill if out["kill"] is None else out["kill"]
            if name:
                out["have"][name] = where
        except place.Unavailable as error:
            if name:
                out["lack"][name] = [error.why, error.cause, error.words]
    return out


def _group(host, need):
    """Returns (directory, whether it has cgroup.kill) for the first place that can hold a group.

    host: cgroup.place.Host
    need: set of controllers

    Raises Unavailable.
    """
    tried = []
    for how, directory in place.candidates(host):
        path = os.path.join(directory, "mrunc-doctor-%d" % os.getpid())
        try:
            place.check_usable(directory)
            if need - place.controllers(directory):
                tried.append("%s has no %s" % (directory, " ".join(sorted(need))))
                continue
            os.mkdir(path)
            try:
                return directory, os.path.exists(path + "/cgroup.kill")
            finally:
                os.rmdir(path)
        except OSError as error:
            tried.append("%s: %s" % (directory, error.strerror))
    delegated = any(" has no " in text for text in tried)
    raise place.Unavailable("; ".join(tried), "cgroup-io" if delegated and
                            host.uid else "cgroup-user")


def cgroup(exam):
    """Checks the limits on all processes together."""
    host = place.Host.read()
    got = attempt(trial, host)
    have, lack = (got.value or {}).get("have", {}), (got.value or {}).get("lack", {})
    effect = "%s: refused unless --best-effort names it; --rlimit and --timeout work" % " ".join(
        named(control) for control, controller in OF_GROUP.items() if controller not in have)
    text = "%s in %s" % (" ".join(have), " ".join(sorted(set(have.values())))) if have else ""
    if not got:
        exam.add("cgroup", MISSING, got.phrase(), effect)
    elif not lack:
        exam.add("cgroup", OK, text)
    elif host.uid and attempt(scope.prefix, list(OF_GROUP), (), os.environ).value:
        exam.add("cgroup", OK, "the user's systemd manager makes a scope for each run with a limit")
    else:
        why, cause, words = [lack[controller] for controller in OF_GROUP.values()
                             if controller in lack][0]
        text = "%snot %s: %s" % (text and text + ", ", " ".join(lack), why)
        exam.add("cgroup", WEAK if have else MISSING, text, effect, cause, **words)
    kill = (got.value or {}).get("kill")
    exam.add("cgroup-kill", OK if kill else WEAK, "available" if kill else
             "not known: no group could be made" if kill is None else "not available: since "
             "Linux 5.14", "a sandbox in a group is frozen and killed process by process")


CHECKS = (cgroup,)
