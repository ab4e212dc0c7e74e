# SPDX-License-Identifier: Apache-2.0
"""Says what a probe is, and which dangers there are."""

HOST, KERNEL, INFO, LIMIT = "host integrity", "kernel surface", "information", "limits"
PLACES = ("inside", "terminal", "outside")
DANGERS = (HOST, KERNEL, INFO, LIMIT)
DEADLINE = 10.0


class Probe:
    """Describes one attempt.

    id, title: for people
    danger: of DANGERS
    reference: CVE or ATT&CK id, or ""
    layers: what must stop it, then what else would
    deed: function(facts) -> Outcome, or OSError for a refusal
    arch: the only architecture it makes sense on, or None
    needs: facts without which it makes no sense
    signals: what may kill it besides SIGSYS and still be a refusal
    bare: whether it may run where nothing confines it (else it might change the host)
    deadline: seconds
    group: set by `runner.corpus` from the table it stands in
    """

    __slots__ = ("id", "title", "danger", "reference", "layers", "deed", "arch", "needs", "signals", "bare", "deadline",
                 "group")

    def __init__(self, id, title, danger, reference, layers, deed, arch=None, needs=(), signals=(), bare=True,
                 deadline=DEADLINE):
        self.id, self.title, self.danger, self.reference, self.layers = id, title, danger, reference, layers
        self.deed, self.arch, self.needs, self.signals, self.bare = deed, arch, needs, signals, bare
        self.deadline, self.group = deadline, None

    def place(self):
        """Where it runs, one of PLACES: inside, there with a terminal as stdin, or outside."""
        if "tool" in self.needs:
            return "outside"
        return "terminal" if "terminal" in self.needs or "pipe" in self.needs else "inside"

    def expected(self):
        """What is not a miss."""
        return "blocked, killed or invisible"
