# SPDX-License-Identifier: Apache-2.0
"""Holds what the doctor finds, one finding a check."""
from ...sandbox import remedies
from ...sandbox.vantage import Vantage

OK, WEAK, MISSING = "ok", "weak", "missing"


class Finding:
    """Holds one finding.

    name: a control's short name where it is one
    state: OK, WEAK (mrunc works with less, or there is something to know) or MISSING
    evidence: what was tried or read and what came of it
    without: what mrunc does then, None where OK
    remedy: a Remedy or None
    """

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
