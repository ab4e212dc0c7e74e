# SPDX-License-Identifier: Apache-2.0
"""Turns the limits by control group into files to write, as data.  cgroup-v2.rst

Loaded only for such a limit. The other modules: place (where a group can be made), group (its
life), scope (a user's systemd manager), disks.
"""
import os

from ..caller import option
from ..controls import CONTROLS
from ..errors import SandboxError
from . import disks

#: {control: controller of the kernel}
OF_GROUP = {"limits.memory": "memory", "limits.cpu": "cpu", "limits.pids": "pids",
            "limits.io": "io"}
PERIOD = 100000  # microseconds, the kernel's own default of cpu.max


def controllers(control):
    """Returns the names of the controllers that a control takes, a set.

    The kernel knows by its memory which group a page-cache write belongs to. Without the v2 memory
    controller a limit on writing would not hold (cgroup-v2.rst, Writeback).
    """
    return {OF_GROUP[control]} | ({"memory"} if control == "limits.io" else set())


def named(control):
    """Returns the options that ask for a control, as the caller writes them."""
    return "/".join(option(name) for name in CONTROLS[control].options)


class Setting:
    """One file to write.

    control: that it belongs to.
    file: its name in the group.
    value: the text.
    """

    __slots__ = ("control", "file", "value")

    def __init__(self, control, file, value):
        self.control, self.file, self.value = control, file, value

    def shown_by(self, text):
        """Returns whether a file's content (text) is this setting, as the kernel prints it.

        memory.max is rounded down to a page; io.max lists every device with all four keys.
        """
        lines = text.strip().split("\n")
        if self.file == "memory.max":
            page = os.sysconf("SC_PAGE_SIZE")
            return lines == ["%d" % (int(self.value) // page * page)]
        if self.file == "io.max":
            device, _, keys = self.value.partition(" ")
            found = [line.split() for line in lines if line.split()[:1] == [device]]
            return len(found) == 1 and set(keys.split()) <= set(found[0])
        return lines == [self.value]

    def as_dict(self):
        """Returns the JSON object of --print-plan."""
        return {"control": self.control, "file": self.file, "value": self.value}


def settings(spec, devices):
    """Returns [Setting] for a Spec.

    devices: of `disks.rates`.
    """
    out = []
    if spec.memory is not None:
        out += [Setting("limits.memory", "memory.max", "%d" % spec.memory),
                Setting("limits.memory", "memory.swap.max", "0"),
                Setting("limits.memory", "memory.oom.group", "1")]
    if spec.pids is not None:
        out.append(Setting("limits.pids", "pids.max", "%d" % spec.pids))
    if spec.cpus is not None:
        out.append(Setting("limits.cpu", "cpu.max", "%d %d" % (round(spec.cpus * PERIOD), PERIOD)))
    for device, rates in sorted(devices.items()):
        keys = " ".join("%s=%d" % rate for rate in sorted(rates.items()))
        out.append(Setting("limits.io", "io.max", "%s %s" % (device, keys)))
    return [setting for setting in out if setting.control not in spec.unsafe_without]


def sources(spec):
    """Returns the host paths whose disks an I/O limit means if it names none."""
    found = [source for source, _ in spec.ro + spec.rw]
    return found + [os.getcwdb()] * bool(spec.here) + [spec.rootfs] * (spec.rootfs is not None)


def plan(spec):
    """Returns ([Setting], {control: why it can't be in force}) on this host.

    Raises SandboxError: exit 2 if no disk is meant or a device does not exist; 125 if a path has no
    disk, unless --best-effort names the limit.
    """
    devices, notes = {}, {}
    if spec.io_read or spec.io_write:
        try:
            devices = disks.rates(spec.io_read, spec.io_write, sources(spec),
                                  [source for source, _ in spec.rw])
        except SandboxError as error:
            if error.control not in spec.best_effort:
                raise
            notes[error.control] = error.reason
    return settings(spec, devices), notes
