# SPDX-License-Identifier: Apache-2.0
"""Tries ways round the system call filter."""
import errno
import os
import signal
import struct

from ..attempt import addressof, asks, blocked, buffer, call, child_exits, int80, low_memory, \
    reached, wide
from .namespaces import NEWUSER
from ..probe import HOST, KERNEL, Probe

GROUP = "filter"
ENOTTY, EBADF, EINVAL, EFAULT = errno.ENOTTY, errno.EBADF, errno.EINVAL, errno.EFAULT
TIOCSTI, TIOCLINUX, TIOCSETD = 0x5412, 0x541c, 0x5423
PTRACE_TRACEME, PTRACE_SEIZE, PTRACE_GETREGS, PTRACE_SETREGS, PTRACE_SYSCALL = 0, 0x4206, 12, 13, 24
#: Signal of a kernel without 32-bit emulation; the filter sends SIGSYS.
NO_EMULATION = (signal.SIGSEGV,)


def compat(number, first=0, second=0, third=0):
    """Returns an action that makes a call by int 0x80; any answer of the kernel is reached."""
    def action(facts):
        result = int80(number, first(facts) if callable(first) else first, second, third)
        if result in (-errno.ENOSYS, -errno.EPERM, -errno.ENOSPC):
            return blocked("refused", -result)
        return reached("the 32-bit table answered %d" % result)
    return action


def compat_socket(facts):
    """Tries socketcall(SYS_SOCKET, {AF_INET, SOCK_STREAM, 0}), whose family lies in memory."""
    keeper, address = low_memory(struct.pack("=3I", 2, 1, 0))
    return compat(102, 1, address)(facts)


def on_pipe(request):
    """Returns an action that sends an ioctl to a pipe; ENOTTY comes from the driver."""
    def action(facts):
        read, write = os.pipe()
        return asks("ioctl", read, request, buffer(b"x", 8), after=(ENOTTY,))(facts)
    return action


def traced(facts):
    """Starts a child that asks to be traced."""
    status, _ = child_exits(lambda write: call("ptrace", PTRACE_TRACEME, 0, 0, 0))
    return blocked("EPERM", errno.EPERM) if status else reached("PTRACE_TRACEME is allowed")


def seized(facts):
    """Seizes a child by ptrace."""
    return _with_child(lambda pid: (call("ptrace", PTRACE_SEIZE, pid, 0, 0),
                                    reached("the child is traced"))[1])


def _with_child(action):
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    try:
        return action(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def prepared(flags):
    """Returns an action that attaches another filter with these flags; it allows everything."""
    def action(facts):
        call("prctl", 38, 1, 0, 0, 0)
        code = buffer(struct.pack("=HBBI", 6, 0, 0, 0x7fff0000), 8)
        program = buffer(struct.pack("=HxxxxxxQ", 1, addressof(code)), 16)
        os.close(call("seccomp", 1, flags, program))
        return reached("a listener for the calls of children")
    return action


def runs_free(facts):
    """Executes a program in memory and looks whether it is confined."""
    fd = call("memfd_create", b"program", 0)
    image = b""
    for path in ("/bin/cat", "/usr/bin/cat", "/bin/busybox"):
        if os.path.exists(path):
            with open(path, "rb") as stream:
                image = stream.read()
            break
    view = memoryview(image)
    while view:
        view = view[os.write(fd, view):]

    def action(write):
        os.dup2(write, 1)
        words = [buffer(word) for word in (b"cat", b"/proc/self/status")]
        argv = buffer(struct.pack("=3Q", addressof(words[0]), addressof(words[1]), 0), 24)
        call("execveat", fd, b"", argv, buffer(8), 0x1000)
    status, text = child_exits(action)
    if status:
        return blocked("it did not run (status %d)" % (status >> 8))
    lines = text.decode("utf-8", "replace").split("\n")
    free = "Seccomp:\t2" not in lines or "NoNewPrivs:\t1" not in lines
    if free:
        return reached("it runs without filter or no_new_privs")
    return blocked("it runs under the same filter")


PROBES = (
    Probe("B01", "int 0x80: getpid", KERNEL, "T1106", "seccomp (architecture first)", compat(20),
          "x86_64", (), NO_EMULATION),
    Probe("B02", "int 0x80: unshare a user namespace", KERNEL, "T1611",
          "seccomp (architecture first), then the namespace's limit",
          compat(310, NEWUSER), "x86_64", (), NO_EMULATION),
    Probe("B03", "int 0x80: mount", KERNEL, "T1611", "seccomp (architecture first), then no "
          "capability", compat(21, 0, 0, 0), "x86_64", (), NO_EMULATION),
    Probe("B04", "int 0x80: keyctl", KERNEL, "T1106", "seccomp (architecture first)",
          compat(288, 0, -5 & 0xffffffff, 1), "x86_64", (),
          NO_EMULATION),
    Probe("B05", "int 0x80: a network socket by socketcall, its family in memory", KERNEL, "T1106",
          "seccomp (architecture first)",
          compat_socket, "x86_64", (), NO_EMULATION),
    Probe("B06", "int 0x80: ptrace", KERNEL, "T1055.008", "seccomp (architecture first)",
          compat(26, 0, 0, 0), "x86_64", (), NO_EMULATION),
    Probe("B07", "an x32 number", KERNEL, "T1106", "seccomp (numbers from 0x40000000)",
          asks(0x40000000 | 39), "x86_64"),
    Probe("B08", "a call's number with bit 32 set: unshare", KERNEL, "T1106", "seccomp, kernel",
          asks(272 | 1 << 32, NEWUSER), "x86_64"),
    Probe("B09", "a socket family with bit 32 set", KERNEL, "T1106", "seccomp (low 32 bits "
          "compared)", asks("socket", wide(2), 1, 0, close=True)),
    Probe("B10", "TIOCSTI", KERNEL, "CVE-2017-5226", "seccomp, then an own session",
          on_pipe(TIOCSTI)),
    Probe("B11", "TIOCSTI with bit 32 set", KERNEL, "CVE-2019-10063", "seccomp (low 32 bits "
          "compared), then an own session", on_pipe(wide(TIOCSTI))),
    Probe("B12", "TIOCLINUX", KERNEL, "CVE-2023-28100", "seccomp, then no console",
          on_pipe(TIOCLINUX)),
    Probe("B13", "TIOCLINUX with bit 32 set", KERNEL, "CVE-2023-28100", "seccomp (low 32 bits "
          "compared), then no console", on_pipe(wide(TIOCLINUX))),
    Probe("B14", "a line discipline (TIOCSETD)", KERNEL, "CVE-2017-2636",
          "seccomp, then no terminal", on_pipe(TIOCSETD)),
    Probe("B15", "TIOCSETD with bit 32 set", KERNEL, "CVE-2017-2636", "seccomp (low 32 bits "
          "compared), then no terminal", on_pipe(wide(TIOCSETD))),
    Probe("B20", "io_uring_setup", KERNEL, "T1106", "seccomp",
          asks("io_uring_setup", 1, buffer(120), close=True)),
    Probe("B21", "io_uring_enter", KERNEL, "T1106", "seccomp",
          asks("io_uring_enter", -1, 0, 0, 0, None, 0, after=(EBADF,))),
    Probe("B22", "io_uring_register", KERNEL, "T1106", "seccomp",
          asks("io_uring_register", -1, 0, None, 0, after=(EBADF, EINVAL))),
    Probe("B23", "ptrace: a child asks to be traced", KERNEL, "T1055.008", "seccomp", traced),
    Probe("B24", "ptrace: a child is seized", KERNEL, "T1055.008", "seccomp", seized),
    Probe("B25", "personality: no address randomisation", KERNEL, "", "seccomp",
          asks("personality", 0x0040000)),
    Probe("B26", "personality: what is readable executes", KERNEL, "", "seccomp",
          asks("personality", 0x0400000)),
    Probe("B27", "personality: page zero can be mapped", KERNEL, "", "seccomp",
          asks("personality", 0x0100000)),
    Probe("B28", "personality with bit 32 set", KERNEL, "", "seccomp (low 32 bits compared)",
          asks("personality", wide(0x0040000))),
    Probe("B29", "a seccomp listener", KERNEL, "", "seccomp", prepared(8)),
    Probe("B30", "a seccomp listener among other flags", KERNEL, "", "seccomp (the bit alone "
          "compared)", prepared(8 | 2)),
    Probe("B31", "a seccomp listener with bit 32 set", KERNEL, "", "seccomp (low 32 bits "
          "compared)", prepared(wide(8))),
    Probe("B32", "a program in memory runs unconfined (execveat)", HOST, "T1620",
          "filter and no_new_privs outlive exec", runs_free),
)
