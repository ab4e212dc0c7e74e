# SPDX-License-Identifier: Apache-2.0
"""Descriptors on their way through sockets, which the kernel counts for each uid of the host."""
import os
import subprocess

import pytest

from conftest import PYTHON, become

#: Sends its own stdin to itself again and again, with as many descriptors as it may, and says how many are on their way.
FILL = """
import array, resource, socket, sys
hard = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], %d)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
kept, sent, rest = [], 0, 253
while rest and sent < %d:
    if len(kept) %% 2 == 0:
        kept += socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    kept[-2].setblocking(False)
    try:
        kept[-2].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * rest))])
        sent += rest
    except BlockingIOError:
        kept += socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    except OSError as error:
        if error.errno != 109:
            raise
        break
print("sent", sent, hard, flush=True)
sys.stdin.read()
"""
#: Whether a process of the caller's with these limits can send one more.
PASSES = """
import array, resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
one, other = socket.socketpair()
one.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
print("passed")
"""


def limited(soft, hard, who):
    """A preexec function: the caller with these limits."""
    import resource

    def change():
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        (become(who) or (lambda: None))()
    return change


class Holder:
    """A process that holds descriptors in flight until the block ends.  sent: how many; hard: its limit."""

    def __init__(self, command, soft, hard):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True,
                                        preexec_fn=limited(soft, hard, "user"))

    def __enter__(self):
        word, sent, hard = self.process.stdout.readline().split()
        self.sent, self.hard = int(sent), int(hard)
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(60) == 0


@pytest.mark.also_vm
def test_sandbox_of_a_user_leaves_descriptor_passing_to_its_host(inside_as_user):
    """The sandbox has its caller's uid; whatever it does, the caller's own programs pass descriptors on."""
    inside = inside_as_user
    command = inside.command("/usr/bin/python3", "-I", "-S", "-c", FILL % (1 << 20, 1 << 20))
    with Holder(command, 1024, 4096) as holder:
        assert holder.hard == 640 and 640 < holder.sent <= 1024 - 131
        done = inside.outside([PYTHON, "-I", "-c", PASSES])
        assert done.stdout == "passed\n", done.stderr
    with Holder([PYTHON, "-I", "-c", FILL % (2048, 1500)], 1024, 4096):  # without a sandbox: the check can fail
        done = inside.outside([PYTHON, "-I", "-c", PASSES])
        assert "ETOOMANYREFS" in done.stderr or "Errno 109" in done.stderr, done


STARTS = {
    "tty": ["--tty"],
    "ledger": ["--ledger", "ledger.json"],
}


@pytest.mark.also_vm
@pytest.mark.parametrize("options", list(STARTS.values()), ids=list(STARTS))
def test_start_needs_no_room_below_the_soft_limit(inside_as_user, options):
    """1,500 descriptors of this user are on their way: more than the soft limit, fewer than the hard one."""
    inside = inside_as_user
    with Holder([PYTHON, "-I", "-c", FILL % (2048, 1500)], 1024, 4096) as holder:
        assert 1500 <= holder.sent < 1500 + 253
        done = subprocess.run(inside.command("echo", "it ran", options=options), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=120,
                              cwd=inside.scratch, preexec_fn=limited(1024, 4096, "user"))
        assert done.returncode == 0 and "it ran" in done.stdout, done
        if "--tty" in options:
            done = subprocess.run(inside.command("echo", "it ran", options=options), stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=120,
                                  cwd=inside.scratch, preexec_fn=limited(1024, 1024, "user"))
            assert done.returncode == 125 and "it ran" not in done.stdout
            assert "prlimit --nofile=65536:65536" in done.stderr, done


LIBRARY = """
import resource
print(mrunc.run(["echo", "it ran"], capture_output=True).stdout)
with mrunc.Pool(1) as pool:
    print(pool.run(["echo", "warm"], capture_output=True).stdout)
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (1024, 4096)
print('the end')
"""


def test_library_starts_while_the_user_has_many_in_flight(inside_as_user):
    inside = inside_as_user
    from hosting import HEAD
    with Holder([PYTHON, "-I", "-c", FILL % (2048, 1500)], 1024, 4096):
        done = subprocess.run([PYTHON, "-I", "-c", HEAD % os.path.dirname(inside.tool) + LIBRARY], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=120,
                              cwd=inside.scratch, preexec_fn=limited(1024, 4096, "user"))
    assert done.stdout == "b'it ran\\n'\nb'warm\\n'\nthe end\n", done
