# SPDX-License-Identifier: Apache-2.0
"""Samples what a sandbox uses while it runs, at most MOST times.

When the list is full, every other sample goes and the interval doubles. The supervisor reads from
outside: the sandbox does not notice.
"""
import time

from .cputime import pause
from ..part import Part

#: Seconds between two samples at first.
INTERVAL = 0.05
#: Samples that are kept, and the share of one processor that reading may cost.
MOST, SHARE = 240, 0.01


class SamplerPart(Part):
    """Samples what a run uses.  counter: cputime.MeterPart of the run."""

    tells = True

    def __init__(self, counter):
        self.counter = counter

    def ready(self, run):
        """Removes itself if nothing can be read."""
        if self.counter.meter is None:
            run.parts.remove(self)

    def watch(self, run, supervision):
        """Takes the first sample."""
        sampler = Sampler(self.counter.meter)
        supervision.listeners.append(sampler.start())
        run.result.samples = sampler.rows


class Sampler:
    """A listener of the supervision that takes the samples.

    meter: cputime.Meter or GroupMeter, made at the gate.
    rows: [{t_s, cpu_s, memory_bytes, processes}] as the result has them; t_s counts from `start`.
    """

    def __init__(self, meter):
        self.meter, self.rows, self.interval = meter, [], INTERVAL
        self.begun = self.due = None

    def start(self):
        """Takes the program's start as time 0.  Returns itself."""
        self.begun = self.due = time.monotonic()
        return self

    def wanted(self):
        """Returns {}: it waits for no descriptor."""
        return {}

    def wait(self):
        """Returns the seconds until the next sample, None after the last."""
        return None if self.due is None else max(0.0, self.due - time.monotonic())

    def serve(self, events):
        """Takes a sample if one is due."""
        now, used = time.monotonic(), time.process_time()
        if self.due is None or now < self.due:
            return
        try:
            cpu, memory, processes = self.meter.sample()
        except OSError:  # the sandbox is gone
            self.due = None
            return
        # A process that is being reaped may count double for a moment.
        if self.rows:
            cpu = max(cpu, self.rows[-1]["cpu_s"])
        self.rows.append({"t_s": round(now - self.begun, 3), "cpu_s": round(cpu, 3),
                          "memory_bytes": memory, "processes": processes})
        if len(self.rows) >= MOST:
            del self.rows[1::2]
            self.interval *= 2
        self.due = now + max(self.interval, self.meter.interval, pause((now, used), SHARE))

    def close(self):
        """Does nothing: it holds nothing."""
