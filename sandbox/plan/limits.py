# SPDX-License-Identifier: Apache-2.0
"""The part of a Spec about control groups, and what is done where a control can't be: checked as text, host unseen."""
import os

from .. import units
from ..controls import BEST_EFFORT, CONTROLS, GROUP_LIMITS
from ..caller import option
from ..errors import usage
from .spec import _bytes, _list as _texts

#: pid 1 of the sandbox and the program.
FEWEST_PIDS = 2
#: PID_MAX_LIMIT of the kernel on 64 bits.
MOST_PIDS = 4194304
#: cpu.max takes no quota below a millisecond, of a period of 100.
FEWEST_CPUS, MOST_CPUS = 0.01, 100000.0
#: The smallest rate that io.max takes.
LOWEST_RATE = 2


def check(spec, memory=None, cpus=None, pids=None, io_read=(), io_write=(), best_effort=(), require=()):
    """Sets these attributes of a Spec.  Raises SandboxError (exit 2)."""
    spec.memory = None if memory is None else units.size(memory, "memory")
    spec.cpus = None if cpus is None else _cpus(cpus)
    spec.pids = None if pids is None else _pids(pids)
    spec.io_read = [_rate(value, "io_read") for value in _list(io_read, "io_read")]
    spec.io_write = [_rate(value, "io_write") for value in _list(io_write, "io_write")]
    if spec.memory is not None and spec.memory < os.sysconf("SC_PAGE_SIZE"):
        bare = not str(memory).strip().strip("0123456789.")
        raise usage(option("memory", memory), "less than a page", "a number without a unit is bytes; for megabytes write %sM" %
                    str(memory).strip() if bare else "write it like 256M or 1.5G")
    spec.best_effort = frozenset(_names(best_effort, "best_effort"))
    spec.require = frozenset(_names(require, "require"))
    for name in spec.best_effort:
        if name not in BEST_EFFORT:
            raise usage(option("best_effort", name), "it is never done without", "these can be: " + " ".join(BEST_EFFORT))
    for name in spec.require:
        for other, others in (("best_effort", spec.best_effort), ("unsafe_without", spec.unsafe_without)):
            if name in others:
                raise usage(option("require", name), "contradicts " + option(other, name))
        options = CONTROLS[name].options
        if options and not any(getattr(spec, attribute) for attribute in options):
            raise usage(option("require", name), "nothing asks for it",
                        "give " + " or ".join(map(option, options)))


def asked(options):
    """[control] that options ask for.  options: a Spec, or the library's dict."""
    get = options.get if isinstance(options, dict) else lambda name: getattr(options, name)
    return [control for control in GROUP_LIMITS
            if any(get(name) for name in CONTROLS[control].options)]


def _list(value, name):
    return [value] if isinstance(value, (int, float)) else _texts(value, name)


def _names(value, asking):
    names = []
    for part in _list(value, asking):
        names += str(part).replace(",", " ").split()
    for name in names:
        if name not in CONTROLS:
            near = "limits." + name if "limits." + name in CONTROLS else None
            raise usage(option(asking, name), "no such control%s" % (" (did you mean %s?)" % near if near else ""),
                        "the names are: " + " ".join(CONTROLS))
    return names


def _cpus(value):
    try:
        number = float(value)
        if isinstance(value, bool) or not FEWEST_CPUS <= number <= MOST_CPUS:
            raise ValueError
    except (ValueError, TypeError, OverflowError):
        raise usage(option("cpus", value), "a number of processors, %g at least, such as 0.5 or 2" % FEWEST_CPUS)
    return number


def _pids(value):
    try:
        number = int(str(value))
        if isinstance(value, bool) or not FEWEST_PIDS <= number <= MOST_PIDS:
            raise ValueError
    except ValueError:
        raise usage(option("pids", value), "a whole number from %d to %d; pid 1 of the sandbox is one of them" %
                    (FEWEST_PIDS, MOST_PIDS))
    return number


def _rate(value, name):
    """(device as bytes or None, bytes per second) of `[DEV:]BPS`, a pair, or a number."""
    if isinstance(value, (tuple, list)) and len(value) == 2:
        device, rate = value
    elif isinstance(value, (str, bytes)):
        device, colon, rate = os.fsdecode(value).rpartition(":")
        device = device if colon else None
        if colon and not device:
            raise usage(option(name, os.fsdecode(value)), "the device is empty")
    else:
        device, rate = None, value
    number = units.size(rate, name)
    if number < LOWEST_RATE:
        raise usage(option(name, rate), "the smallest rate is %d bytes per second" % LOWEST_RATE)
    if device is None:
        return None, number
    return _bytes(device, name), number
