# SPDX-License-Identifier: Apache-2.0
"""An outer seccomp filter round a start of mrunc: what an older kernel, a container runtime or another sandbox would answer."""
import json
import os

from conftest import PYTHON

FILTER = r"""
import json, os, struct, sys
sys.path.insert(0, %r)
import mrunc
from mrunc.syscalls import libc, process, seccomp
rows = []
for call, argument, value, action, test in json.loads(sys.argv[1]):
    rows += [(0x20, 0, 0, 0), (0x15, 0, 1 if argument is None else 3, libc.NR[call])]
    if argument is not None:
        rows += [(0x20, 0, 0, 16 + 8 * argument), (test, 0, 1, value)]
    rows.append((0x06, 0, 0, action))
rows.append((0x06, 0, 0, 0x7fff0000))
process.set_no_new_privs()
seccomp.attach(seccomp.prepare(b"".join(struct.pack("=HBBI", *row) for row in rows)))
os.execv(sys.argv[2], sys.argv[2:])
"""
EPERM, EACCES, EINVAL, EBUSY, ENOSPC, ENOSYS, EUSERS, EOPNOTSUPP = (0x50000 | n for n in (1, 13, 22, 16, 28, 38, 87, 95))
KILL = 0x80000000
HAS = 0x45


def behind(inside, *rules):
    """A wrap with an outer seccomp filter.  rules: (call, answer), (call, argument, value, answer), or the latter with HAS: for
    each argument with a bit of the value."""
    full = [(rule[0], None, 0, rule[1]) if len(rule) == 2 else rule for rule in rules]
    full = [rule if len(rule) == 5 else (*rule, 0x15) for rule in full]
    return [PYTHON, "-I", "-S", "-c", FILTER % os.path.dirname(inside.tool), json.dumps(full)]


def hidden(*arguments):
    """In place of a bound system call: it is not there."""
    raise OSError(38, os.strerror(38))
