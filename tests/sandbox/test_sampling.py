# SPDX-License-Identifier: Apache-2.0
"""What a run uses while it runs: noted where a report asks for it, bounded, and never a reason not to run."""
import os
import types

import pytest

import mrunc
from conftest import PYTHON
from mrunc.sandbox.running import cputime, sampling
from mrunc.sandbox.launch import provisions
from mrunc.sandbox.plan.spec import Spec

#: 40 MiB that are touched, a second process, a second of processor time and a longer rest: a sample that had to wait is
#: followed by a longer pause.
WORK = ("import os, sys, time\n"
        "block = bytearray(40 << 20)\n"
        "block[::4096] = b'x' * len(block[::4096])\n"
        "read, write = os.pipe()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os.read(read, 1)\n"
        "    os._exit(0)\n"
        "while time.process_time() < 1: pass\n"
        "time.sleep(1.5)\n"
        "os.write(write, b'x')\n"
        "os.waitpid(child, 0)\n")


def held(samples):
    """The promises of every list of samples."""
    assert 3 <= len(samples) <= sampling.MOST
    assert [row["t_s"] for row in samples] == sorted(row["t_s"] for row in samples) and samples[0]["t_s"] < 0.5
    assert [row["cpu_s"] for row in samples] == sorted(row["cpu_s"] for row in samples)
    assert max(row["memory_bytes"] for row in samples) >= 40 << 20
    assert max(row["processes"] for row in samples) == 2
    assert 0.2 <= samples[-1]["cpu_s"] < 5


@pytest.mark.parametrize("options", [[], ["--proc", "none"], ["--tier", "process"], ["--cpu-time", "60"]], ids=lambda words: words[-1:])
def test_a_report_has_samples(inside, options):
    done = inside.python(WORK, options=options)
    assert done.rc == 0, done
    held(done.result["samples"])
    names = [row["name"] for row in done.result["controls"]]
    assert ("limits.cpu-time" in names) == ("--cpu-time" in options), "samples are no control"


def test_the_library_has_them_where_it_asks(tmp_path):
    result = mrunc.run(["/usr/bin/python3", "-I", "-S", "-c", WORK], samples=True, python=PYTHON)
    held(result.samples)
    assert mrunc.run(["true"], python=PYTHON).samples is None
    with pytest.raises(mrunc.SandboxError):
        mrunc.run(["true"], samples="yes", python=PYTHON)


class Meter:
    """What a meter says, from a list; nothing more is OSError."""
    interval = 0.0

    def __init__(self, values):
        self.values = list(values)

    def sample(self):
        if not self.values:
            raise OSError(3, "gone")
        return self.values.pop(0)


@pytest.fixture
def clock(monkeypatch):
    """clock[0] is the time."""
    now = [100.0]
    monkeypatch.setattr(sampling.time, "monotonic", lambda: now[0])
    return now


def drive(sampler, clock, seconds):
    """Turns as the loop does."""
    end = clock[0] + seconds
    while sampler.wait() is not None and clock[0] + sampler.wait() <= end:
        clock[0] += sampler.wait()
        sampler.serve({})


def test_a_long_run_keeps_few_samples_over_its_whole_length(clock):
    sampler = sampling.Sampler(Meter((number, number, 1) for number in range(10 ** 6))).start()
    drive(sampler, clock, 3600)
    assert sampling.MOST / 2 <= len(sampler.rows) <= sampling.MOST
    times = [row["t_s"] for row in sampler.rows]
    assert times[0] == 0 and times[-1] > 3300 and max(b - a for a, b in zip(times, times[1:])) <= 2 * sampler.interval
    assert len(sampler.meter.values) > 10 ** 6 - 2500, "ever fewer readings"


def test_time_does_not_run_back_and_the_end_of_the_sandbox_is_no_error(clock):
    sampler = sampling.Sampler(Meter([(1.0, 5, 1), (0.5, None, None)])).start()
    drive(sampler, clock, 10)
    assert sampler.rows == [{"t_s": 0.0, "cpu_s": 1.0, "memory_bytes": 5, "processes": 1},
                            {"t_s": 0.05, "cpu_s": 1.0, "memory_bytes": None, "processes": None}]
    assert sampler.wait() is None and sampler.wanted() == {}
    sampler.serve({})
    sampler.close()
    assert len(sampler.rows) == 2


def test_a_meter_that_is_slow_is_asked_less_often(clock):
    meter = Meter((number, 1, 1) for number in range(100))
    meter.interval = 2.0  # the share of a processor that reading may cost
    sampler = sampling.Sampler(meter).start()
    drive(sampler, clock, 20)
    assert len(sampler.rows) == 11


def test_what_can_not_be_sampled_runs_without(monkeypatch):
    """The limit on processor time needs the meter, the samples do not stop a run."""
    def broken(pid, own):
        raise OSError(13, os.strerror(13), "/proc")
    monkeypatch.setattr(cputime, "open_proc", broken)

    class Plan:
        tier = type("Tier", (), {"own_tree": True})
    for options, raises in (({"samples": True}, False), ({"samples": True, "cpu_time": 3}, True)):
        run, counter = types.SimpleNamespace(), cputime.MeterPart(None, None)
        run.plan, run.pid, run.held = Plan(), 1, provisions.Held()
        run.plan.spec, run.result = Spec(["true"], environ={}, **options), mrunc.Result()
        run.parts = [counter, sampling.SamplerPart(counter)]
        if raises:
            with pytest.raises(mrunc.SandboxError):
                counter.ready(run)
            continue
        for part in list(run.parts):
            part.ready(run)
        assert run.parts == [counter]
        assert run.result.notes == ["no samples: processor time: /proc: Permission denied"]
