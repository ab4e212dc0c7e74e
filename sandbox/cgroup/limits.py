# SPDX-License-Identifier: Apache-2.0
"""Which files of a control group say what was asked: the limits as data.  cgroup-v2.rst of the kernel

Loaded only when such a limit was asked for; the other modules of it are cgroup_place (where a group can be made),
cgroup (its life), cgroup_scope (a user's systemd manager), disks.
"""
import os

from ..caller import option
from ..controls import CONTROLS

#: control -> controller of the kernel
OF_GROUP = {"limits.memory": "memory", "limits.cpu": "cpu", "limits.pids": "pids",
            "limits.io": "io"}
PERIOD = 100000  # microseconds, the kernel's own default of cpu.max


def controllers(control):
    """{controller} that a control takes.  What is written through the page cache is known to be a group's by its memory:
    where the memory controller is not in v2, a limit on writing would not hold (cgroup-v2.rst, Writeback)."""
    return {OF_GROUP[control]} | ({"memory"} if control == "limits.io" else set())


def named(control):
    """The options that ask for a control, as whoever called us writes them."""
    return "/".join(option(name) for name in CONTROLS[control].options)


class Setting:
    """One file to write.  control; file: its name in the group; value: text."""

    __slots__ = ("control", "file", "value")

    def __init__(self, control, file, value):
        self.control, self.file, self.value = control, file, value

    def shown_by(self, text):
        """Whether this is what the file says when it is read back.  text: its content.

        memory.max is rounded down to a page, io.max lists every device with all four keys.
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
        """The JSON object of --print-plan."""
        return {"control": self.control, "file": self.file, "value": self.value}


def settings(spec, devices):
    """[Setting] for a Spec.  devices: {`MAJOR:MINOR`: {"rbps" or "wbps": bytes per second}}."""
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
    """[path] of the host whose disks the I/O limits mean when none is named: everything of the host's that was asked for."""
    found = [source for source, _ in spec.ro + spec.rw]
    return found + ([os.getcwdb()] if spec.here
                    else []) + ([spec.rootfs] if spec.rootfs is not None else [])


def plan(spec):
    """([Setting], {control: why it can't be}) on this host.

    Raises SandboxError: exit 2 where no disk is meant, or a device does not exist; 125 where a path has no disk and the
    limit is not one of --best-effort.
    """
    from ..errors import SandboxError
    devices, notes = {}, {}
    if spec.io_read or spec.io_write:
        from . import disks
        try:
            devices = disks.rates(spec.io_read, spec.io_write, sources(spec),
                                  [source for source, _ in spec.rw])
        except SandboxError as error:
            if error.control not in spec.best_effort:
                raise
            notes[error.control] = error.reason
    return settings(spec, devices), notes
