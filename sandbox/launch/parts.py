# SPDX-License-Identifier: Apache-2.0
"""Decides which optional features a plan wants, and imports only these."""


def wanted(plan, stream=None):
    """Returns [part.Part] for a Plan, in the order in which they are called.

    stream: ledger_stream.Stream for the ledger's lines, or None.  A group's limits and the counter
    of processor time come before what is measured with them; the changes are remembered before the
    watchdog of the processor time starts to count.
    """
    found, spec, group, reaper = [], plan.spec, None, None
    if plan.group:
        from ..cgroup.group import ControlGroup
        group = ControlGroup()
        found.append(group)
    if plan.listening is not None and spec.learn == "record":
        from ..observe.learning import LearningPart
        found.append(LearningPart(stream))
    elif plan.listening is not None:
        from ..observe.hearing import ListenerPart
        found.append(ListenerPart(stream))
    if not plan.tier.own_tree:
        from .private import PrivatePart
        found.append(PrivatePart())
        if not plan.left_out("sweep"):
            from ..running.reaper import Reaper
            reaper = Reaper(group)
            found.append(reaper)
    if plan.watched:
        from ..changes.aftermath import Aftermath
        found.append(Aftermath())
    if spec.cpu_time is not None or spec.samples:
        from ..running.cputime import MeterPart
        meter = MeterPart(group, reaper)
        found.append(meter)
        if spec.samples:
            from ..running.sampling import SamplerPart
            found.append(SamplerPart(meter))
    if spec.max_output is not None:
        from ..running.output_limit import OutputLimit
        found.append(OutputLimit())
    return found


def terminal():
    """Returns the part for a private terminal: known only when the caller's descriptors are."""
    from ..running.terminal import TerminalPart
    return TerminalPart()
