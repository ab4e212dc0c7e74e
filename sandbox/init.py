# SPDX-License-Identifier: Apache-2.0
"""Holds the init, pid 1 of a sandbox, as frozen machine code, and speaks its messages.

The child that built the sandbox executes it at last, with every right given up and every signal
blocked:

    execveat(image, "", [argv0(...)], [], AT_EMPTY_PATH)

IMAGE[machine] is a whole static ELF file of one page.  It has no libc and no relocations.  Its only
data is the room: empty memory at a fixed address for what comes through the gate.  `image` makes
the room as large as a run needs.  `.ci/freeze_init.py` assembles IMAGE from the listings
init_x86_64.s and init_aarch64.s; a test compares.

What it is given
    argv[0]     two or three bytes: the number of the control socket; `k` to kill everything that
                init may signal at the end, else `-`; if there is one, the number of a Landlock
                ruleset that only the workload enters
    signals     all blocked, none ignored: an ignored SIGCHLD would hide the workload's end
    the socket  an end of a SOCK_SEQPACKET pair, blocking.  F_SETOWN (itself) and O_ASYNC make it
                signal init when the supervisor dies

What goes over the control socket, in host byte order
    out  int32 READY    the image runs; it waits at the gate and has done nothing yet
    in   the go         start the workload: its paths, arguments and environment, and maybe its
                        descriptors 0, 1 and 2.  At an end of file or anything else init leaves, and
                        nothing has run
    out  int32 -errno   no workload: dup3, prctl, clone, or a step of the workload's own up to its
                        execve failed
    in   one byte       send this signal to the workload's process group.  STOP, SIGKILL's number:
                        kill the workload; its end is reported as usual
    in   end of file    the supervisor is gone: kill the workload and leave without another packet
    out  152 bytes      the workload's end: int32 wait status, 4 zero bytes, its struct rusage (with
                        that of the children it waited for, without orphans that init reaped).
                        Init leaves right after, and the kernel ends the rest of the pid namespace

The go is one message in packets of up to 32 KiB.  It is laid out for the room's address as execve
wants it.  So init parses nothing, and follows only the pointer to the list of paths, in the
workload's process:
    uint32      length of the whole message             8 bytes     address of the list of paths
    4 bytes     GO or GO_TERMINAL                       8 bytes     address of the argument vector
                                                        8 bytes     address of the environment
GO_TERMINAL makes descriptor 0 the workload's controlling terminal.  Behind this head lie the three
lists of addresses, each with a 0 at its end, and their strings.  A message larger than the room is
EFAULT.  Three descriptors may come with the last packet.  The paths are tried in turn until one is
executed; the reported errno is the last one's.

After a failed step the process that failed ends with exit code 125, also if it was forked already.

Init closes its own 0, 1 and 2 when the workload has started, so that an end of file or a broken
pipe is noticed.

The workload's steps: setsid, TIOCSCTTY, landlock_restrict_self and close of the ruleset, empty
signal mask, FD_CLOEXEC on the control socket, execve.  The failure of any of them is reported.

If init leaves with an unread packet, the supervisor's next recv is ECONNRESET, once; init's own
records come after that.

With `k`, init calls kill(-1, SIGKILL) first at the workload's end and at the supervisor's.  That is
for a sandbox without a pid namespace, in a Landlock domain with a signal scope: "all" of that call
is then everything in the domain.  The caller that passes `k` must have checked the scope.

Signals: HUP INT QUIT USR1 USR2 TERM are forwarded to the workload's process group, which it leads
and can't leave, also those from before its start.  When the workload has started, and after each
signal of any kind, SIGCHLD and SIGIO among them, init looks at the socket and reaps the dead.  So
no signal from inside can make it miss one.  It becomes non-dumpable after the gate, when the
supervisor has read it back.

Exit code: the workload's; 128 + signal if one killed it; 125 if there was none or the supervisor is
gone.

A seccomp filter must allow: recvmsg write dup3 prctl(PR_SET_DUMPABLE) clone(0x4111) rt_sigtimedwait
kill recvfrom wait4 setsid ioctl(TIOCSCTTY) landlock_restrict_self(fd, 0) close rt_sigprocmask
fcntl(F_SETFD) execve exit_group.  If one is refused, init reports it or leaves; it never spins.
Only the result of kill is not looked at.

A workload that is traced by one of its own children stays a zombie that init can't reap.  The
supervisor that has sent STOP keeps a deadline and then kills init.
"""

import struct

from ..syscalls import process

#: Signals of the caller that are passed on to the program: HUP INT QUIT USR1 USR2 TERM.
FORWARDED = (1, 2, 3, 10, 12, 15)
SIGWINCH, SIGTSTP, SIGCONT, SIGSTOP = 28, 20, 18, 19
#: Signals that the supervisor reads from a descriptor.
WATCHED = FORWARDED + (SIGWINCH, SIGTSTP, SIGCONT)
READY = -4096  # no errno and no wait status
GO, GO_TERMINAL = b"go!\n", b"got\n"
STOP = b"\x09"
ROOM = 0x410000  # as in the listings, like all of these
PACKET = 0x8000
#: The bytes of the image that hold the size of the room: p_memsz of the second program header.
#: elf(5)
ROOM_SIZE = slice(64 + 56 + 40, 64 + 56 + 48)

_WORD = struct.Struct("=i")
_END = 152


def argv0(control_fd, ruleset_fd=None, kill_all=False):
    """Returns init's argv[0], two or three bytes.

    control_fd, ruleset_fd: descriptors of the control socket and of the ruleset, or None.
    kill_all: whether init kills everything that it may signal at the end.

    Raises ValueError for descriptors that don't fit.
    """
    numbers = [control_fd] if ruleset_fd is None else [control_fd, ruleset_fd]
    if not all(0 < number < 256 for number in numbers) or control_fd == ruleset_fd:
        raise ValueError("descriptors for init are two different numbers from 1 to 255: %r" %
                         (numbers,))
    return bytes([control_fd]) + (b"k" if kill_all else b"-") + bytes(numbers[1:])


def image(machine, room):
    """Returns init's image for a machine with so many bytes of room."""
    data = bytearray(IMAGE[machine])
    data[ROOM_SIZE] = room.to_bytes(8, "little")
    return bytes(data)


def room(argv, env):
    """Returns the bytes of room for a go with one path (at most PATH_MAX) and these lists."""
    return 8192 + sum(len(string) + 9 for strings in (argv, env) for string in strings)


def go(paths, argv, env, terminal=False):
    """Returns the message that starts a workload, a list of packets.

    paths, argv, env: lists of bytes.
    terminal: whether descriptor 0 becomes its controlling terminal.
    """
    lists = paths, argv, env
    start = ROOM + 32
    at = start + sum(8 * len(strings) + 8 for strings in lists)
    heads, addresses = [], []
    for strings in lists:
        heads.append(start + 8 * len(addresses))
        for string in strings:
            addresses.append(at)
            at += len(string) + 1
        addresses.append(0)
    head = struct.pack("<I4s%dQ" % (3 + len(addresses)), at - ROOM, GO_TERMINAL if terminal else GO,
                       *(heads + addresses))
    message = head + b"".join(string + b"\0" for strings in lists for string in strings)
    return [message[i:i + PACKET] for i in range(0, len(message), PACKET)]


def parse_record(packet):
    """Returns (READY, None), (-errno, None), or (wait status, process.Usage) of init's packet.

    Raises ValueError for any other packet.
    """
    if len(packet) == _WORD.size:
        word, = _WORD.unpack(packet)
        if READY <= word < 0:
            return word, None
    elif len(packet) == _END:
        status, usage = process.ended(packet)
        if status >= 0:
            return status, usage
    raise ValueError("no record of init: %r" % (packet,))


def exit_code(status):
    """Init's exit code for the workload's wait status."""
    return 128 + (status & 127) if status & 127 else status >> 8


# Written by .ci/freeze_init.py
IMAGE = {
    "x86_64": bytes.fromhex(
        "7f454c4602010100000000000000000002003e0001000000e800400000000000400000000000000000000000"
        "0000000000000000400038000300400000000000010000000500000000000000000000000000400000000000"
        "0000400000000000850300000000000085030000000000000000010000000000010000000600000000000000"
        "0000000000004100000000000000410000000000000000000000000000000100000000000000010000000000"
        "51e5746406000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000010000000000000004c8b7c2408410fb62f488da42470ffffffb800f0ffff504989e468074a0110e8"
        "6b02000041bd000041004989e6498d66e04889e7680080000041554889e66a006a20576a01566a006a004889"
        "e689efba000000406a2f580f0585c00f8e0f0200004901c58b04250400410025ffff00ff3d676f000a0f85f5"
        "0100008b0425000041004805000041004939c572a00f85dd010000807c242800742741807ee01c0f85cb0100"
        "0031db418b7c9ef089de31d2b824010000e895010000ffc383fb0375e66a045f31f6b89d000000e87f010000"
        "bf1141000031f631d24531d24531c06a38580f0585c00f886a0100000f84cd00000089c36a025f6a03580f05"
        "ffcf79f7eb41498d7c24f831f631d26a08415ab8800000000f0583f8fc74e785c00f883e01000083f811741b"
        "83f81d741689dff7df89c66a3e580f0585c0790789df6a3e580f0589ef4c89e66a045a6a40415a4531c04531"
        "c96a2d580f0583f8f5740f85c00f8efa000000410fb60424ebbf83cfff4c89e66a015a4d8d5424086a3d580f"
        "0585c00f8479ffffff0f88e100000039d875b0e8e4000000ba98000000e8f0000000418b3c2489f8c1ef0883"
        "e07f0f84bf0000008db880000000e9b40000006a7058e888000000803c250600410074751131ffbe0e540000"
        "31d26a1058e86d000000410fb67f0285ff741431f6b8be010000e8580000006a0358e8500000006a025f6a00"
        "4889e631d26a08415a6a0e58e83a00000089ef6a025e6a015a6a4858e82a000000448b2c2508004100498b7d"
        "004885ff74208b3425100041008b1425180041004983c5086a3b580f05ebde0f0585c07801c341890424e830"
        "000000eb0fe81600000089df6a095e6a3e580f056a7d5fb8e70000000f050f0b41807f016b750b83cfff6a09"
        "5e6a3e580f05c36a045a89ef4c89e66a01580f05c3"
    ),
    "aarch64": bytes.fromhex(
        "7f454c460201010000000000000000000200b70001000000e800400000000000400000000000000000000000"
        "0000000000000000400038000300400000000000010000000500000000000000000000000000400000000000"
        "0000400000000000e803000000000000e8030000000000000000010000000000010000000600000000000000"
        "0000000000004100000000000000410000000000000000000000000000000100000000000000010000000000"
        "51e5746406000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "000000001000000000000000f80740f914034039ffc302d1f5430091e0ff8112a00200f9e14089522100a272"
        "e17f00a9b10000943708a0d2f60317aaffc301d1ff7f00a9e0e30091210080d2e00701a9e0230191010480d2"
        "e00702a9010090d2ff1b00f9f68703a9e003142ae10300910200a8d2881a80d2010000d41f0000712d120054"
        "d602008be10a4029425c0812e3ec8d520340a1725f00036b411100542100178bdf0201ebc3fcff54c1100054"
        "e11740f9c10100b4e12740f93f7000f121100054f6630191f3031f2ac04640b8e103132ae2031faa080380d2"
        "6f000094730600117f0e007121ffff54800080d2e1031faae81480d268000094202288d2e2031faae3031faa"
        "e4031faa881b80d26200009480070034f303002a56008052e003162a280780d2010000d4d606007185ffff54"
        "15000014a04200d1e1031faae2031faa030180d2281180d2010000d41f10003120ffff54c00af8371f440071"
        "400100541f74007100010054e103002ae003134b281080d2010000d46000f836e003132a010000d4e003142a"
        "e10315aa820080d2030880d2e81980d2010000d41f2c0031a00000541f0000712d080054a0024039eeffff17"
        "00008092e10315aa220080d2a3220091882080d2010000d440fbff348007f8371f00136b61fdff543d000094"
        "021380d244000094a10240b9207c085321180072800600542000021132000014a81380d224000094e01a4039"
        "1fd00171c1000054e0031faac1818ad2e2031faaa80380d21c000094000b4039e0000034e1031faac83780d2"
        "17000094000b4039280780d214000094400080d2a12200d1e2031faa030180d2e81080d20e000094e003142a"
        "410080d2220080d2280380d209000094f60640f9c18640f8210100b4e00301aae10a41a9a81b80d2010000d4"
        "faffff17010000d44000f837c0035fd6a00200b9130000940600001409000094e003132a210180d2281080d2"
        "010000d4a00f80d2c80b80d2010000d400000000000740391fac0171a100005400008012210180d2281080d2"
        "010000d4c0035fd6820080d2e003142ae10315aa080880d2010000d4c0035fd6"
    ),
}
