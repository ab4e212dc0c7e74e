# SPDX-License-Identifier: Apache-2.0
"""Describes an optional feature of a run: the moments at which it may do something.

`parts.wanted` names the parts that a plan asks for; launch.run.Run calls them in that order. A part
does not keep the Run: two objects that keep each other need the garbage collector.
"""


class Part:
    """One optional feature.  A hook does nothing unless the feature needs that moment.

    run: launch.run.Run.
    child: launch.child.Child.
    supervision: supervise.Supervision.
    tells: whether the result gets more than the program's end tells.
    awaited: a descriptor that `admit` serves before the gate, or -1.
    """

    tells, awaited = False, -1

    # -- before the program, in this order -------------------------------------------------------

    def prepare(self, run):
        """Takes what it needs before the sources are opened.  Raises SandboxError, OSError."""

    def before_child(self, run):
        """Every signal is blocked, the child comes next.

        Returns {attribute of that Child: value}.  Raises SandboxError.
        """
        return {}

    def child_started(self, run, child):
        """The child waits for its id maps and has done nothing yet.  Raises SandboxError."""

    def packet(self, run, packet, fd):
        """The child has sent a packet, with a descriptor or None.

        Returns whether the part itself closes the descriptor.  Raises SandboxError.
        """
        return False

    def admit(self, events, pid):
        """Serves `awaited`.  events: of poll; pid: of init.  Raises SandboxError."""

    def ready(self, run):
        """Init waits at the gate, nothing has been read back yet.  Raises SandboxError."""

    def limits(self):
        """Returns the cgroup.Group that reads back limits on all processes together, or None."""
        return None

    def before_program(self, run):
        """Everything is in force, the program comes next.  Raises SandboxError."""

    # -- while it runs ---------------------------------------------------------------------------

    def watch(self, run, supervision):
        """The program begins.  Adds to supervision.listeners and carriers.  Raises OSError."""

    def served(self, supervision):
        """The supervision has served its events."""

    def program_ended(self, supervision):
        """Init has reported the program's end."""

    def signal(self, number):
        """Sends the program a signal that init can't send.  Returns whether it did."""
        return False

    # -- the end ---------------------------------------------------------------------------------

    def stop(self):
        """Kills the program where init can't.  Never raises."""

    def kill_all(self):
        """Kills everything inside at once, before pid 1 is killed.  Never raises."""

    def kill_orphans(self):
        """Kills what has lost its parent, after pid 1 was killed.  Never raises."""

    def over(self, run):
        """The run is over; the caller's signals are let through again next.  Never raises."""

    def finish(self, run, result, outcome):
        """Everything has been undone.  Adds to the result and the outcome.  Never raises.

        outcome: supervise.Outcome; with an exec_errno nothing has run.
        """

    def explain(self, error):
        """Returns what is to be raised for an error before the gate, when all has been undone."""
        return error
