# SPDX-License-Identifier: Apache-2.0
"""The tiny init: pid 1 of a sandbox, as frozen machine code, and the few words it speaks.

The child that built the sandbox turns into it as its last deed, with every right given up and every signal blocked:

    execveat(image, "", [argv0(...), PROGRAM, *ARGV], ENVIRONMENT, AT_EMPTY_PATH)

IMAGE[machine] is a whole static ELF file of one page: no libc, no relocations, no data.  It is assembled from the listings
init_x86_64.s and init_aarch64.s by `.ci/freeze_init.py`; a test compares.

What it is given
    argv[0]     two or three bytes: the number of the control socket; `t` to make descriptor 0 the workload's controlling
                terminal, `k` to kill whatever init may signal at the end, else `-`; where there is one, the number of a
                Landlock ruleset that the workload alone enters
    argv[1]     the workload's path; argv[2:] its argument vector; the environment is the workload's
    signals     all blocked, none ignored: an ignored SIGCHLD would hide the workload's end
    the socket  an end of a SOCK_SEQPACKET pair, blocking; armed with F_SETOWN (itself) and O_ASYNC, it is a lifeline

What goes over the control socket, in host byte order
    out  int32 READY            the image runs; it waits at the gate and has done nothing yet
    in   GO (any 4 bytes)       start the workload.  End of file or any other length: leave, nothing has run
    out  int32 -errno           no workload: prctl, clone, or a step of the workload's own up to its execve failed
    in   STOP (any packet)      kill the workload; its end is reported as usual
    in   end of file            the supervisor is gone: kill the workload and leave, with no further word
    out  152 bytes              the workload's end: int32 wait status, 4 zero bytes, its struct rusage (with that of the
                                children it waited for; orphans that init reaped are not in it).  Init leaves right after
                                and the kernel ends what is left in the pid namespace
A failed step is followed by the end of the process that failed, exit code 125, wherever it was forked already.

The workload's steps: setsid, TIOCSCTTY, landlock_restrict_self and close of the ruleset, empty signal mask, FD_CLOEXEC
on the control socket, execve.  A failure of any is reported and none is passed over.

A packet that nobody read before init left makes the next recv ECONNRESET, once; init's own records come after that.

With `k`, at the workload's end and at the supervisor's, init calls kill(-1, SIGKILL) first: for a sandbox without a pid
namespace, in a Landlock domain with a signal scope, which makes everything in the domain the "all" of that call.  Whoever
says `k` has made sure of the scope.

Signals: HUP INT QUIT USR1 USR2 TERM are handed on to the workload, those that came before its start too.  When the
workload has started, and after each signal of any kind, SIGCHLD and SIGIO among them, init looks at the socket and reaps
who died, so no signal sent from inside can make it miss one.  It becomes non-dumpable after the gate, when the supervisor
has read it back.

Exit code: the workload's, 128 + signal where one killed it, 125 where there was none or the supervisor is gone.

Calls a seccomp filter has to leave to it: read write prctl(PR_SET_DUMPABLE) clone(0x4111) rt_sigtimedwait kill recvfrom
wait4 setsid ioctl(TIOCSCTTY) landlock_restrict_self(fd, 0) close rt_sigprocmask fcntl(F_SETFD) execve exit_group.
If one is refused init reports it or leaves; it never spins.  (kill is the exception: what it says is not asked.)

Stopping is not ending: a workload traced by one of its own children stays a zombie that is not ours to reap.  The
supervisor that has said STOP keeps a deadline and then kills init.
"""

import resource
import struct

READY = -4096       # no errno and no wait status
GO = b"go!\n"
STOP = b"stop"
NOT_RUN = 125       # init's exit code where it has no workload's to give

_WORD = struct.Struct("=i")
_END = struct.Struct("=i4x4q14q")


def argv0(control_fd, terminal, ruleset_fd=None, kill_all=False):
    """Init's argv[0]: all that it has to know, in two or three bytes."""
    if terminal and kill_all:
        raise ValueError("init has one letter: a terminal, or killing all")
    numbers = [control_fd] if ruleset_fd is None else [control_fd, ruleset_fd]
    if not all(0 < number < 256 for number in numbers) or control_fd == ruleset_fd:
        raise ValueError("descriptors for init are two different numbers from 1 to 255: %r" % (numbers,))
    return bytes([control_fd]) + (b"t" if terminal else b"k" if kill_all else b"-") + bytes(numbers[1:])


def parse_record(packet):
    """What a packet from init says: (READY, None), (-errno, None), or (wait status, resource.struct_rusage)."""
    if len(packet) == _WORD.size:
        word, = _WORD.unpack(packet)
        if READY <= word < 0:
            return word, None
    elif len(packet) == _END.size:
        status, user, user_us, system, system_us, *counts = _END.unpack(packet)
        if status >= 0:
            return status, resource.struct_rusage([user + user_us / 1e6, system + system_us / 1e6] + counts)
    raise ValueError("no record of init: %r" % (packet,))


def exit_code(status):
    """Init's exit code for the workload's wait status."""
    return 128 + (status & 127) if status & 127 else status >> 8


# Written by .ci/freeze_init.py
IMAGE = {
    "x86_64": bytes.fromhex(
        "7f454c4602010100000000000000000002003e0001000000b0004000000000004000000000000000000000000000000000000000"
        "40003800020040000000000001000000050000000000000000000000000040000000000000004000000000008e02000000000000"
        "8e02000000000000000001000000000051e574640600000000000000000000000000000000000000000000000000000000000000"
        "00000000000000000000000010000000000000008b04244c8d74c4104c8d6c24104c8b7c2408410fb62f488da42470ffffffb800"
        "f0ffff504989e468074a0110e89f010000b20831c00f0583f8040f85710100006a045f31f6b89d000000e841010000bf11410000"
        "31f631d24531d24531c06a38580f0585c00f882c0100000f84ae00000089c3eb34498d7c24f831f631d26a08415ab8800000000f"
        "0583f8fc74e785c00f880c01000083f811740e83f81d740989df89c66a3e580f0589ef4c89e66a045a6a40415a4531c04531c96a"
        "2d580f0583f8f5740d85c00f8ed50000006a0958ebce83cfff4c89e66a015a4d8d5424086a3d580f0585c0748c0f88c200000039"
        "d875b6e8c5000000ba98000000e8d1000000418b3c2489f8c1ef0883e07f0f84a00000008db880000000e9950000006a7058e869"
        "00000041807f0174751131ffbe0e54000031d26a1058e851000000410fb67f0285ff741431f6b8be010000e83c0000006a0358e8"
        "340000006a025f6a004889e631d26a08415a6a0e58e81e00000089ef6a025e6a015a6a4858e80e000000498b7d00498d75084c89"
        "f26a3b580f0585c07801c341890424e830000000eb0fe81600000089df6a095e6a3e580f056a7d5fb8e70000000f050f0b41807f"
        "016b750b83cfff6a095e6a3e580f05c36a045a89ef4c89e66a01580f05c3"
    ),
    "aarch64": bytes.fromhex(
        "7f454c460201010000000000000000000200b70001000000b0004000000000004000000000000000000000000000000000000000"
        "4000380002004000000000000100000005000000000000000000000000004000000000000000400000000000e402000000000000"
        "e402000000000000000001000000000051e574640600000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000001000000000000000e06340a9f6430091d70e008b14034039ffc302d1f5430091e0ff8112a00200f9"
        "e14089522100a272e17f00a97c000094e003142a020180d2e80780d2010000d41f100071410d0054800080d2e1031faae81480d2"
        "5b000094202288d2e2031faae3031faae4031faa881b80d25500009460060034f303002a12000014a04200d1e1031faae2031faa"
        "030180d2281180d2010000d41f10003120ffff54e009f8371f440071e00000541f740071a0000054e103002ae003132a281080d2"
        "010000d4e003142ae10315aa820080d2030880d2e81980d2010000d41f2c0031a00000541f000071ad07005420018052f1ffff17"
        "00008092e10315aa220080d2a3220091882080d2010000d4a0fbff340007f8371f00136b61fdff5439000094021380d240000094"
        "a10240b9207c08532118007200060054200002112e000014a81380d220000094000740391fd00171c1000054e0031faac1818ad2"
        "e2031faaa80380d218000094000b4039e0000034e1031faac83780d213000094000b4039280780d210000094400080d2a12200d1"
        "e2031faa030180d2e81080d20a000094e003142a410080d2220080d2280380d205000094c00240f9c1220091e20317aaa81b80d2"
        "010000d44000f837c0035fd6a00200b9130000940600001409000094e003132a210180d2281080d2010000d4a00f80d2c80b80d2"
        "010000d400000000000740391fac0171a100005400008012210180d2281080d2010000d4c0035fd6820080d2e003142ae10315aa"
        "080880d2010000d4c0035fd6"
    ),
}
