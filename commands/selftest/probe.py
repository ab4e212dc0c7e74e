# SPDX-License-Identifier: Apache-2.0
"""Defines a probe, and the dangers."""

HOST, KERNEL, INFO, LIMIT = "host integrity", "kernel surface", "information", "limits"
PLACES = ("inside", "terminal", "outside")
DANGERS = (HOST, KERNEL, INFO, LIMIT)
DEADLINE = 10.0


class Probe:
    """Describes one attempt.

    id: for people
    title: for people
    danger: of DANGERS
    reference: CVE or ATT&CK id, or ""
    layers: what must stop it, then what else would
    action: function (facts) that returns an Outcome, or raises OSError for a refusal
    arch: the only architecture that has it, or None
    needs: facts that it needs
    signals: what may kill it besides SIGSYS and still be a refusal
    bare: whether it may run unconfined, else it might change the host
    deadline: seconds
    group: set by `runner.corpus`
    """

    __slots__ = ("id", "title", "danger", "reference", "layers", "action", "arch", "needs",
                 "signals", "bare", "deadline", "group")

    def __init__(self, id, title, danger, reference, layers, action, arch=None, needs=(),
                 signals=(), bare=True, deadline=DEADLINE):
        self.id, self.title, self.danger, self.reference = id, title, danger, reference
        self.layers, self.action, self.arch, self.needs = layers, action, arch, needs
        self.signals, self.bare, self.deadline, self.group = signals, bare, deadline, None

    def place(self):
        """Returns where it runs, one of PLACES: inside, there with a terminal as stdin, or outside.
        """
        if "tool" in self.needs:
            return "outside"
        return "terminal" if "terminal" in self.needs or "pipe" in self.needs else "inside"

    def expected(self):
        """Returns the outcomes that are no miss."""
        return "blocked, killed or invisible"
