# SPDX-License-Identifier: Apache-2.0
"""Collects the doctor's findings."""
from ...sandbox import remedies
from ...sandbox.vantage import Vantage

OK, WEAK, MISSING = "ok", "weak", "missing"


class Finding:
    """Holds one finding.

    name: a control's short name if it is about a control
    state: OK, WEAK (mrunc works with less, or something is worth knowing) or MISSING
    evidence: what was tried or read, and the result
    without: the effect on mrunc, None if OK
    remedy: a Remedy or None
    """

    __slots__ = ("name", "state", "evidence", "without", "remedy")

    def __init__(self, name, state, evidence, without=None, remedy=None):
        self.name, self.state, self.evidence = name, state, evidence
        self.without, self.remedy = (None, None) if state == OK else (without, remedy)

    def as_dict(self):
        """Returns the JSON object."""
        return {"name": self.name, "state": self.state, "evidence": self.evidence,
                "without": self.without,
                "remedy": self.remedy and self.remedy.as_dict()}


class Examination:
    """Collects findings.

    seen: the Vantage, what mrunc itself runs in
    findings: list of Finding
    tried: {name: Outcome} of the tries so far
    """

    def __init__(self):
        self.seen, self.findings, self.tried = Vantage.read(), [], {}

    def add(self, name, state, evidence, without=None, cause=None, **words):
        """Adds a finding; cause and words choose a remedy of sandbox/remedies.py."""
        remedy = remedies.find(cause, self.seen, **words) if cause and state != OK else None
        self.findings.append(Finding(name, state, evidence, without, remedy))

    def run(self, checks):
        """Runs each check; a check that fails becomes a finding."""
        for check in checks:
            try:
                check(self)
            except Exception as error:  # of any kind: the other checks still help
                self.findings.append(Finding(
                    check.__name__.strip("_"), WEAK, "the check itself failed: %s: %s" % (
                        type(error).__name__, error), "not known"))
