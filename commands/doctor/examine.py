# SPDX-License-Identifier: Apache-2.0
"""What would run on this host, and what is missing for more: every finding with its evidence, what mrunc does without it,
and the smallest remedy.  Tries and does not guess (doctor_tries.py); what can't be tried is read (doctor_host.py).

For a process of its own (the command line): the tries fork.  The library's `doctor` starts one.
"""
import os

from ...sandbox import remedies
from ...sandbox.host.vantage import Vantage, os_release

OK, WEAK, MISSING = "ok", "weak", "missing"
SCHEMA = 1


class Finding:
    """name: a control's short name where it is one; state: OK, WEAK (mrunc works with less, or there is something to know) or
    MISSING; evidence: what was tried or read and what came of it; without: what mrunc does then, None where OK; remedy: a
    Remedy or None."""

    __slots__ = ("name", "state", "evidence", "without", "remedy")

    def __init__(self, name, state, evidence, without=None, remedy=None):
        self.name, self.state, self.evidence = name, state, evidence
        self.without, self.remedy = (None, None) if state == OK else (without, remedy)

    def as_dict(self):
        """The JSON object."""
        return {"name": self.name, "state": self.state, "evidence": self.evidence, "without": self.without,
                "remedy": self.remedy and self.remedy.as_dict()}


class Examination:
    """Collects findings.  seen: the Vantage; tried: {name: Outcome} of what was tried so far."""

    def __init__(self):
        self.seen, self.findings, self.tried = Vantage.read(), [], {}

    def add(self, name, state, evidence, without=None, cause=None, **words):
        """One more finding; cause: of the table of remedies."""
        remedy = remedies.find(cause, self.seen, **words) if cause and state != OK else None
        self.findings.append(Finding(name, state, evidence, without, remedy))

    def run(self, checks):
        """Each check by itself: one that fails is a finding, not an end."""
        for check in checks:
            try:
                check(self)
            except Exception as error:  # of any kind: a doctor that falls ill helps nobody
                self.findings.append(Finding(check.__name__.strip("_"), WEAK, "the check itself failed: %s: %s" %
                                             (type(error).__name__, error), "it is not known"))


def examine():
    """The report, a dict that JSON has.  Never raises.

    tier: the strongest tier that ran, or None; line: that in words; tiers: {name: {runs, reason, remedy, without}};
    inside: what mrunc itself runs in, or None; host: {}; findings: [{name, state, evidence, without, remedy}].
    """
    from ... import __version__ as version
    from . import host
    examination = Examination()
    examination.run(host.CHECKS)
    tiers = {}
    missing = [finding for finding in examination.findings if finding.name in ("machine", "python") and
               finding.state == MISSING]
    if missing:
        tiers["full"] = {"runs": False, "reason": missing[0].evidence, "without": [],
                         "remedy": missing[0].remedy and missing[0].remedy.line()}
    else:
        from . import cgroup, tries
        from ...sandbox.tiers import NAMES
        examination.run(tries.CHECKS + cgroup.CHECKS)
        for name in NAMES:
            tiers[name] = tries.tier(name)
    best = [name for name in tiers if tiers[name]["runs"]][:1]
    tier = best[0] if best else None
    return {"schema": SCHEMA, "version": version, "tier": tier, "line": _line(tier, tiers, examination.seen), "tiers": tiers,
            "inside": examination.seen.kind, "host": _host(), "findings": [f.as_dict() for f in examination.findings]}


def exit_status(report):
    """0: the full tier, 1: a weaker one, 3: none."""
    return {"full": 0, None: 3}.get(report["tier"], 1)


def _line(tier, tiers, seen):
    full = tiers["full"]
    if tier == "full":
        text = "the full tier would run here"
        if full["without"]:
            text += ", without %s" % ", ".join(full["without"])
    elif tier:
        text = "the %s tier would run here (--tier %s); the full tier would not: %s" % (tier, tier, full["reason"])
    else:
        text = "no tier would run here: %s" % full["reason"]
    if seen.kind:
        text += " (seen from inside %s, not from the host)" % remedies.describe(seen.kind)
    return text


def _host():
    release = os_release()
    system = os.uname()
    return {"system": release.get("PRETTY_NAME") or release.get("ID") or "Linux", "kernel": system.release,
            "machine": system.machine, "uid": os.geteuid()}
