# SPDX-License-Identifier: Apache-2.0
"""Limits how much a program may write to the caller's stdout and stderr together."""
from ..part import Part


class OutputLimit(Part):
    """Ends a run that writes too much."""

    def served(self, supervision):
        """Ends the run if the budget of the caller's 1 and 2 is used up."""
        outcome = supervision.outcome
        if supervision.run.places.budget.exceeded and not outcome.overflow:
            outcome.overflow = True
            supervision.stop()
            if supervision.over:
                supervision.wait_for_reader()


class Budget:
    """Counts the bytes that all flows of a run may still carry together.

    left: how many.
    exceeded: whether more came, and was dropped.
    """

    __slots__ = ("left", "exceeded")

    def __init__(self, size):
        self.left, self.exceeded = size, False

    def take(self, data):
        """Returns the part of the data (bytes) that is still within the budget."""
        self.exceeded = self.exceeded or len(data) > self.left
        data = data[:self.left]
        self.left -= len(data)
        return data
