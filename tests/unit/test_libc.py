# SPDX-License-Identifier: Apache-2.0
"""System calls through the C module behind ctypes, and through ctypes itself where that module is not what it was."""
import subprocess

import pytest

import mrunc  # noqa: F401  registers the package
from conftest import ROOT
from interpreters import musl, pythons
from mrunc.syscalls import caps, libc, numbers

SCRIPT = r"""
import os, sys
sys.path.insert(0, sys.argv[1])
from mrunc.syscalls import libc
assert "ctypes" not in sys.modules, "the package was imported"

def check(types, function, get_errno, addressof, sizeof):
    def call(name, codes, *arguments):
        made = function()
        made.argtypes = [types["l"]] + [types[code] for code in codes]
        result = made(libc.number(name), *arguments)
        return result, get_errno() if result == -1 else 0
    assert [sizeof(types[code]) for code in "iIlLzPc"] == [4, 4, 8, 8, 8, 8, 1]
    # an address is 64 bits wide, as a result and as an argument; so is a size: 4 GiB more than there is room for
    area, _ = call("mmap", "PLiiiL", None, 4096, 3, 0x22, -1, 0)
    assert area > 1 << 32, hex(area)
    assert call("mmap", "PLiiiL", None, 1 << 63, 3, 0x22, -1, 0) == (-1, 12)
    assert call("munmap", "PL", area, 4096) == (0, 0)
    assert call("munmap", "PL", area + 1, 4096) == (-1, 22)
    # errno is the call's own, whatever the interpreter did in between
    assert call("close", "i", -1) == (-1, 9)
    # bytes, None and memory to write to as pointers
    memory = (types["c"] * 64)()
    assert call("getcwd", "PL", memory, 64)[0] == len(os.getcwd()) + 1 and memory.value == os.getcwd().encode()
    assert call("getcwd", "PL", addressof(memory), 64)[0] == len(os.getcwd()) + 1
    assert call("access", "zi", b"/", 0) == (0, 0) and call("access", "zi", None, 0) == (-1, 14)
    assert call("pipe2", "Pi", memory, 0x80000) == (0, 0)
    ends = [int.from_bytes(memory.raw[at:at + 4], "little") for at in (0, 4)]
    assert call("write", "iPL", ends[1], b"a\0b", 3) == (3, 0) and os.read(ends[0], 9) == b"a\0b"
    words = (types["z"] * 3)(b"one", b"two", None)
    assert list(words) == [b"one", b"two", None]

os.chdir("/usr")
check(*libc.bare())
check(*libc.public())
made = libc.buffer(b"ab\0c", 8)
assert made.raw == b"ab\0c\0\0\0\0" and libc.buffer(b"xy").raw == b"xy\0" and libc.buffer(3).raw == b"\0\0\0"
"""


@pytest.mark.parametrize("python", [path for _, path in pythons() + musl()])
def test_both_ways_to_ctypes_make_the_same_calls(python, tmp_path):
    (tmp_path / "mrunc").symlink_to(ROOT)
    done = subprocess.run([python, "-I", "-S", "-c", SCRIPT, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_single_number_is_that_of_the_table():
    table = numbers.native().NR
    assert {name: libc.number(name) for name in table} == table and len(table) > 300
    assert {libc.number(name) for name in ("", "rea", "ead", "read ", "read 0", "0", "no_such_call")} == {-1}


def test_where_the_c_module_is_another_the_package_serves(tmp_path):
    """An implementation without it, or with another: the calls are made all the same."""
    (tmp_path / "mrunc").symlink_to(ROOT)
    script = ("import sys, _ctypes\nsys.path.insert(0, sys.argv[1])\nimport ctypes\ndel _ctypes.CFuncPtr\n"
              "from mrunc.syscalls import libc, process\nassert libc.c_int is ctypes.c_int\n"
              "import os\nfd = process.pidfd_open(os.getpid())\nprocess.pidfd_kill(fd, 0)\n"
              "try:\n    process.pidfd_open(-1)\nexcept OSError as error:\n    print(error.errno, error.filename)\n")
    done = subprocess.run(["/usr/bin/python3", "-I", "-S", "-c", script, str(tmp_path)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, universal_newlines=True, timeout=60)
    assert done.stdout == "22 pidfd_open\n"


LIMITS = r"""
import os, resource, sys
sys.path.insert(0, sys.argv[1])
from mrunc.syscalls import process
def theirs(name):  # without a limit it is -1, and from 3.15 on 1 << 64 less one
    return tuple(-1 if value == (1 << 64) - 1 else value
                 for value in resource.getrlimit(getattr(resource, "RLIMIT_" + name.upper())))
known = [name for name in process.LIMITS if hasattr(resource, "RLIMIT_" + name.upper())]  # not each Python has them all
assert len(known) > 10
for name in known:
    assert process.get_limit(name) == theirs(name), name
process.set_limit("nofile", 100, 200)
process.set_limit("cpu", 1000, -1)
process.set_limit("core", 0, 1 << 63)
assert process.get_limit("nofile") == theirs("nofile") == (100, 200)
assert process.get_limit("cpu") == theirs("cpu") == (1000, -1)
before = resource.getrusage(resource.RUSAGE_SELF)
user, system = process.usage()
after = resource.getrusage(resource.RUSAGE_SELF)
micro = [[round(seconds * 1e6) for seconds in pair] for pair in  # the same microseconds may be floats that differ in the last bit
         ((before.ru_utime, before.ru_stime), (user, system), (after.ru_utime, after.ru_stime))]
assert micro[0][0] <= micro[1][0] <= micro[2][0] and micro[0][1] <= micro[1][1] <= micro[2][1], micro
child = os.fork()
if child == 0:
    bytearray(8 << 20)
    os._exit(3)
status, usage = process.wait(child)
whole = resource.getrusage(resource.RUSAGE_CHILDREN)
assert status == 3 << 8 and len(usage) == len(whole) and usage[2:] == whole[2:], (usage, whole)
for name in "ru_utime ru_stime ru_maxrss ru_inblock ru_oublock".split():
    assert round(getattr(usage, name) * 1e6) == round(getattr(whole, name) * 1e6), name
try:
    process.set_limit("nofile", 300, 200)
except OSError as error:
    print(error.errno)
"""


@pytest.mark.parametrize("python", [path for _, path in pythons() + musl()])
def test_limits_and_usage_are_those_of_the_resource_module(python, tmp_path):
    (tmp_path / "mrunc").symlink_to(ROOT)
    done = subprocess.run([python, "-I", "-S", "-c", LIMITS, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "22\n")


def test_a_kernel_that_seems_to_know_every_capability_is_asked_of_64(monkeypatch):
    monkeypatch.setattr(caps, "_prctl", lambda *arguments: 0)
    assert caps.last_capability() == 63
