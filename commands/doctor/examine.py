# SPDX-License-Identifier: Apache-2.0
"""Examines what runs on this host and what is missing: evidence, effect and remedy.

Everything that can be tried is tried (tries.py); the rest is read (host.py). The tries fork, so
this is for a process of its own, as the command line is; the library's `doctor` starts one.
"""
import os

from ...sandbox import remedies
from ...sandbox.vantage import os_release
from . import host
from .finding import MISSING, Examination
from ...sandbox.version import __version__ as version

SCHEMA = 1


def examine():
    """Returns the report, a dict for JSON. Raises nothing.

    tier: the strongest tier that ran, or None
    line: the same in words
    tiers: {name: {runs, reason, remedy, without}}
    inside: the kind of container that mrunc itself runs in, or None
    host: {system, kernel, machine, uid}
    findings: [{name, state, evidence, without, remedy}]
    """
    examination = Examination()
    examination.run(host.CHECKS)
    tiers = {}
    missing = [finding for finding in examination.findings
               if finding.name in ("machine", "python") and finding.state == MISSING]
    if missing:
        tiers["full"] = {"runs": False, "reason": missing[0].evidence, "without": [],
                         "remedy": missing[0].remedy and missing[0].remedy.line()}
    else:
        from . import cgroup, tries  # need ctypes and a known machine
        examination.run(tries.CHECKS + cgroup.CHECKS)
        tiers = tries.tiers()
    tier = next((name for name in tiers if tiers[name]["runs"]), None)
    return {"schema": SCHEMA, "version": version, "tier": tier,
            "line": _line(tier, tiers, examination.seen), "tiers": tiers,
            "inside": examination.seen.kind, "host": _host(),
            "findings": [finding.as_dict() for finding in examination.findings]}


def exit_status(report):
    """Returns the exit status for a report: 0 the full tier, 1 a weaker one, 3 none."""
    return {"full": 0, None: 3}.get(report["tier"], 1)


def _line(tier, tiers, seen):
    full = tiers["full"]
    if tier == "full":
        text = "the full tier would run here"
        if full["without"]:
            text += ", without %s" % ", ".join(full["without"])
    elif tier:
        text = "the %s tier would run here (--tier %s); the full tier would not: %s" % (
            tier, tier, full["reason"])
    else:
        text = "no tier would run here: %s" % full["reason"]
    if seen.kind:
        text += " (seen from inside %s, not from the host)" % remedies.describe(seen.kind)
    return text


def _host():
    release = os_release()
    system = os.uname()
    return {"system": release.get("PRETTY_NAME") or release.get("ID") or "Linux",
            "kernel": system.release,
            "machine": system.machine, "uid": os.geteuid()}
