# SPDX-License-Identifier: Apache-2.0
"""Samples what a sandbox uses while it runs.

There are at most MOST samples.  When there would be more, every other one goes and the interval
doubles.

Read by the supervisor's one poll, from outside; the sandbox is not asked and does not notice.
"""
import time

from .cputime import pause
from ..part import Part

#: Seconds between two samples at first, how many are kept, and the share of one processor that
#: reading may cost.
INTERVAL, MOST, SHARE = 0.05, 240, 0.01


class SamplerPart(Part):
    """Samples what a run uses.  counter: cputime.MeterPart of the run."""

    tells = True

    def __init__(self, counter):
        self.counter = counter

    def ready(self, run):
        """Does without where nothing can be read."""
        if self.counter.meter is None:
            run.parts.remove(self)

    def watch(self, run, supervision):
        """Takes the first sample."""
        sampler = Sampler(self.counter.meter)
        supervision.listeners.append(sampler.start())
        run.result.samples = sampler.rows


class Sampler:
    """A listener of the supervision.  meter: cputime.Meter or GroupMeter, made at the gate; rows: [{t_s, cpu_s, memory_bytes,
    processes}] as the result has them, t_s since `start`."""

    def __init__(self, meter):
        self.meter, self.rows, self.interval = meter, [], INTERVAL
        self.begun = self.due = None

    def start(self):
        """The program has been let go.  Returns itself."""
        self.begun = self.due = time.monotonic()
        return self

    def wanted(self):
        """It waits for no descriptor."""
        return {}

    def wait(self):
        """Seconds until the next sample, None after the last."""
        return None if self.due is None else max(0.0, self.due - time.monotonic())

    def serve(self, events):
        """Takes a sample if it is time."""
        now, used = time.monotonic(), time.process_time()
        if self.due is None or now < self.due:
            return
        try:
            cpu, memory, processes = self.meter.sample()
        except OSError:  # the sandbox is gone
            self.due = None
            return
        # What was seen of a process that is being reaped may be counted twice for a moment.
        if self.rows:
            cpu = max(cpu, self.rows[-1]["cpu_s"])
        self.rows.append({"t_s": round(now - self.begun, 3), "cpu_s": round(cpu, 3),
                          "memory_bytes": memory,
                          "processes": processes})
        if len(self.rows) >= MOST:
            del self.rows[1::2]
            self.interval *= 2
        self.due = now + max(self.interval, self.meter.interval, pause((now, used), SHARE))

    def close(self):
        """Nothing is held."""
