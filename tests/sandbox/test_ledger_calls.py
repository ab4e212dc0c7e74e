# SPDX-License-Identifier: Apache-2.0
"""Sixty kinds of refused calls: the program writes down what it does, and the ledger shows exactly that."""
import json
import os

import pytest

import mrunc  # noqa: F401  registers the package
from mrunc.sandbox.seccomp import policy
from mrunc.sandbox.seccomp.arms import QUIET

NATIVE = os.uname().machine
LEDGER = ("--ledger", "/dev/null")
pytestmark = pytest.mark.needs("listener")

#: What the program does.  do(count, name, {parameter: value as the ledger tells it}, arguments...): bytes become pointers.
PROGRAM = r"""
import ctypes, errno, json, os, struct
NR = json.loads('NUMBERS')
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
NONE = (1 << 64) - 1
kept = []
def word(value):
    if isinstance(value, bytes):
        kept.append(ctypes.create_string_buffer(value, len(value)))
        value = ctypes.addressof(kept[-1])
    return ctypes.c_ulong(value & NONE)
def do(count, name, told, *arguments):
    words = [word(value) for value in arguments]
    got = set()
    for _ in range(count):
        ctypes.set_errno(0)
        result = libc.syscall(ctypes.c_long(NR.get(name, 600)), *words)
        got.add(ctypes.get_errno() if result == -1 else 0)
    assert len(got) == 1, (name, got)
    print(json.dumps({"syscall": name if name in NR else "syscall_600", "args": told, "count": count,
                      "errno": errno.errorcode.get(got.pop(), "none"), "pid": os.getpid()}), flush=True)
"""
CALLS = PROGRAM + r"""
do(3, "mount", {"source": "none", "target": "/mnt", "fstype": "tmpfs", "flags": "MS_NOSUID|MS_NODEV", "data": "size=1m"},
   b"none\0", b"/mnt\0", b"tmpfs\0", 6, b"size=1m\0")
do(1, "umount2", {"target": "/proc", "flags": "MNT_DETACH"}, b"/proc\0", 2)
do(1, "pivot_root", {"new_root": ".", "put_old": "."}, b".\0", b".\0")
do(2, "chroot", {"path": "/tmp"}, b"/tmp\0")
do(1, "open_tree", {"dirfd": "AT_FDCWD", "path": "/", "flags": "OPEN_TREE_CLONE|AT_RECURSIVE"}, -100, b"/\0", 0x8001)
do(1, "open_tree_attr", {"dirfd": "AT_FDCWD", "path": "/", "flags": "OPEN_TREE_CLONE", "attr": {
    "attr_set": "MOUNT_ATTR_NOEXEC", "attr_clr": "MOUNT_ATTR_RDONLY", "propagation": 0}, "size": 32},
   -100, b"/\0", 1, struct.pack("=QQQQ", 8, 1, 0, 0), 32)
do(1, "move_mount", {"from_dirfd": 3, "from_path": "", "to_dirfd": "AT_FDCWD", "to_path": "/mnt",
                     "flags": "MOVE_MOUNT_F_EMPTY_PATH"}, 3, b"\0", -100, b"/mnt\0", 4)
do(1, "mount_setattr", {"dirfd": "AT_FDCWD", "path": "/", "flags": "AT_RECURSIVE", "attr": {
    "attr_set": 0, "attr_clr": "MOUNT_ATTR_RDONLY", "propagation": "MS_SHARED"}, "size": 32},
   -100, b"/\0", 0x8000, struct.pack("=QQQQ", 0, 1, 1 << 20, 0), 32)
do(1, "fsopen", {"fsname": "overlay", "flags": "FSOPEN_CLOEXEC"}, b"overlay\0", 1)
do(1, "fsconfig", {"fd": 3, "cmd": "FSCONFIG_SET_STRING", "key": "source", "value": "none"}, 3, 1, b"source\0", b"none\0", 0)
do(1, "fsmount", {"fsfd": 3, "flags": "FSMOUNT_CLOEXEC", "attr_flags": "MOUNT_ATTR_NOSUID"}, 3, 1, 2)
do(1, "fspick", {"dirfd": "AT_FDCWD", "path": "/", "flags": "FSPICK_NO_AUTOMOUNT"}, -100, b"/\0", 4)
do(2, "unshare", {"flags": "CLONE_NEWNS|CLONE_NEWUSER"}, 0x10020000)
do(1, "setns", {"fd": 0, "nstype": "CLONE_NEWNET"}, 0, 0x40000000)
do(1, "ptrace", {"request": "PTRACE_ATTACH", "pid": 1}, 16, 1)
do(1, "ptrace", {"request": "PTRACE_TRACEME"}, 0)
do(1, "process_vm_readv", {"pid": 1, "local_iov": {"len": 8}, "liovcnt": 1, "remote_iov": [{"base": "0x400000", "len": 8}],
                           "riovcnt": 1, "flags": "0x0"}, 1, struct.pack("=QQ", 0, 8), 1, struct.pack("=QQ", 0x400000, 8), 1, 0)
do(1, "process_vm_writev", {"pid": 1, "local_iov": {"len": 8}, "liovcnt": 1, "remote_iov": [
    {"base": "0x400000", "len": 4}, {"base": "0x500000", "len": 4}], "riovcnt": 2, "flags": "0x0"},
   1, struct.pack("=QQ", 0, 8), 1, struct.pack("=QQQQ", 0x400000, 4, 0x500000, 4), 2, 0)
do(1, "pidfd_getfd", {"pidfd": 3, "targetfd": 0, "flags": "0x0"}, 3, 0, 0)
do(1, "kcmp", {"pid1": 1, "pid2": 2, "type": "KCMP_VM", "idx1": "0x0", "idx2": "0x0"}, 1, 2, 1, 0, 0)
do(1, "process_mrelease", {"pidfd": 3, "flags": "0x0"}, 3, 0)
do(1, "bpf", {"cmd": "BPF_MAP_CREATE", "attr": {"map_type": "BPF_MAP_TYPE_ARRAY", "key_size": 4, "value_size": 8,
                                                "max_entries": 1}, "size": 16}, 0, struct.pack("=IIII", 2, 4, 8, 1), 16)
kept.append(ctypes.create_string_buffer(b"GPL"))
do(1, "bpf", {"cmd": "BPF_PROG_LOAD", "attr": {"prog_type": "BPF_PROG_TYPE_KPROBE", "insn_cnt": 2, "license": "GPL",
                                               "prog_name": "hook"}, "size": 64},
   5, struct.pack("=IIQQ", 2, 2, 0, ctypes.addressof(kept[-1])).ljust(48, b"\0") + b"hook".ljust(16, b"\0"), 64)
do(1, "perf_event_open", {"attr": {"type": "PERF_TYPE_HARDWARE", "size": 112, "config": "0x0"}, "pid": 0, "cpu": -1,
                          "group_fd": -1, "flags": "PERF_FLAG_FD_CLOEXEC"}, struct.pack("=IIQ", 0, 112, 0), 0, -1, -1, 8)
do(1, "userfaultfd", {"flags": "O_CLOEXEC"}, 0x80000)
do(1, "io_uring_setup", {"entries": 8, "p": {"flags": "IORING_SETUP_SQPOLL"}}, 8, struct.pack("=III", 0, 0, 2))
do(1, "io_uring_enter", {"fd": 3, "to_submit": 1, "min_complete": 0, "flags": "IORING_ENTER_GETEVENTS", "arg": 0, "size": 0},
   3, 1, 0, 1, 0, 0)
do(1, "io_uring_register", {"fd": 3, "opcode": "IORING_REGISTER_FILES", "arg": "buffer", "nr_args": 1}, 3, 2, b"file", 1)
do(1, "add_key", {"type": "user", "description": "loot", "payload": "buffer", "plen": 4, "keyring": "KEY_SPEC_SESSION_KEYRING"},
   b"user\0", b"loot\0", b"data", 4, -3)
do(1, "request_key", {"type": "user", "description": "loot", "callout_info": 0, "dest_keyring": "KEY_SPEC_PROCESS_KEYRING"},
   b"user\0", b"loot\0", 0, -2)
do(1, "keyctl", {"operation": "KEYCTL_JOIN_SESSION_KEYRING", "name": "mine"}, 1, b"mine\0")
do(1, "open_by_handle_at", {"mount_fd": 3, "handle": {"handle_bytes": 8, "handle_type": 1, "f_handle": "0200000000000000"},
                            "flags": "O_RDONLY"}, 3, struct.pack("=IiQ", 8, 1, 2), 0)
do(1, "name_to_handle_at", {"dirfd": "AT_FDCWD", "path": "/etc", "handle": "buffer", "mount_id": "buffer", "flags": 0},
   -100, b"/etc\0", bytes(32), bytes(8), 0)
do(1, "fanotify_init", {"flags": "FAN_CLASS_CONTENT", "event_f_flags": "O_RDONLY"}, 4, 0)
do(1, "fanotify_mark", {"fanotify_fd": 3, "flags": "FAN_MARK_ADD|FAN_MARK_MOUNT", "mask": "FAN_OPEN", "dirfd": "AT_FDCWD",
                        "path": "/"}, 3, 0x11, 0x20, -100, b"/\0")
do(1, "acct", {"filename": "/tmp/acct"}, b"/tmp/acct\0")
do(1, "adjtimex", {"buf": {"modes": "ADJ_FREQUENCY"}}, struct.pack("=I", 2).ljust(208, b"\0"))
do(1, "clock_adjtime", {"clockid": "CLOCK_REALTIME", "buf": {"modes": "ADJ_SETOFFSET"}},
   0, struct.pack("=I", 0x100).ljust(208, b"\0"))
do(1, "clock_settime", {"clockid": "CLOCK_REALTIME", "tp": {"tv_sec": 1, "tv_nsec": 2}}, 0, struct.pack("=qq", 1, 2))
do(1, "settimeofday", {"tv": {"tv_sec": 1, "tv_usec": 2}, "tz": 0}, struct.pack("=qq", 1, 2), 0)
do(1, "delete_module", {"name": "kvm", "flags": "O_RDONLY|O_NONBLOCK"}, b"kvm\0", 0o4000)
do(1, "finit_module", {"fd": 3, "param_values": "debug=1", "flags": "MODULE_INIT_IGNORE_VERMAGIC"}, 3, b"debug=1\0", 2)
do(1, "init_module", {"module_image": "buffer", "len": 4, "param_values": ""}, b"\x7fELF", 4, b"\0")
do(1, "kexec_file_load", {"kernel_fd": 3, "initrd_fd": -1, "cmdline_len": 6, "cmdline": "quiet", "flags": "KEXEC_FILE_UNLOAD"},
   3, -1, 6, b"quiet\0", 1)
do(1, "kexec_load", {"entry": "0x100000", "nr_segments": 0, "segments": 0, "flags": "KEXEC_ON_CRASH"}, 0x100000, 0, 0, 1)
do(1, "quotactl", {"cmd": "Q_QUOTAON|USRQUOTA", "special": "/dev/sda1", "id": 0, "addr": 0}, 0x80000200, b"/dev/sda1\0", 0, 0)
do(1, "quotactl_fd", {"fd": 3, "cmd": "Q_SYNC|GRPQUOTA", "id": 0, "addr": 0}, 3, 0x80000101, 0, 0)
do(1, "reboot", {"magic": "LINUX_REBOOT_MAGIC1", "magic2": "LINUX_REBOOT_MAGIC2", "op": "LINUX_REBOOT_CMD_RESTART", "arg": 0},
   0xFEE1DEAD, 0x28121969, 0x1234567, 0)
do(1, "setdomainname", {"name": "evil", "len": 4}, b"evil", 4)
do(1, "sethostname", {"name": "owned", "len": 5}, b"owned", 5)
do(1, "swapon", {"path": "/tmp/swap", "swapflags": "SWAP_FLAG_DISCARD"}, b"/tmp/swap\0", 0x10000)
do(1, "swapoff", {"path": "/tmp/swap"}, b"/tmp/swap\0")
do(1, "syslog", {"type": "SYSLOG_ACTION_READ_ALL", "buf": "buffer", "len": 64}, 3, bytes(64), 64)
do(1, "vhangup", {})
do(1, "memfd_secret", {"flags": "O_CLOEXEC"}, 0x80000)
do(1, "remap_file_pages", {"addr": "0x10000", "size": 4096, "prot": 0, "pgoff": 1, "flags": 0}, 0x10000, 4096, 0, 1, 0)
do(1, "migrate_pages", {"pid": 1, "maxnode": 64, "old_nodes": "buffer", "new_nodes": "buffer"}, 1, 64, bytes(8), bytes(8))
do(1, "lsm_get_self_attr", {"attr": "LSM_ATTR_CURRENT", "ctx": 0, "size": "buffer", "flags": "0x0"}, 100, 0, bytes(8), 0)
do(1, "file_getattr", {"dirfd": "AT_FDCWD", "path": "/etc", "attr": "buffer", "size": 32, "at_flags": 0},
   -100, b"/etc\0", bytes(32), 32, 0)
do(2, "socket", {"domain": "AF_INET", "type": "SOCK_STREAM|SOCK_CLOEXEC", "protocol": "IPPROTO_IP"}, 2, 0x80001, 0)
do(1, "socket", {"domain": "AF_INET6", "type": "SOCK_RAW", "protocol": "IPPROTO_ICMPV6"}, 10, 3, 58)
do(1, "socket", {"domain": "AF_NETLINK", "type": "SOCK_RAW", "protocol": "NETLINK_NETFILTER"}, 16, 3, 12)
do(1, "socket", {"domain": "AF_PACKET", "type": "SOCK_RAW", "protocol": "ETH_P_ALL"}, 17, 3, 0x0300)
do(1, "socket", {"domain": "AF_ALG", "type": "SOCK_SEQPACKET", "protocol": 0}, 38, 5, 0)
do(1, "socketpair", {"domain": "AF_VSOCK", "type": "SOCK_STREAM", "protocol": 0, "sv": "buffer"}, 40, 1, 0, bytes(8))
do(1, "ioctl", {"fd": 0, "request": "TIOCSTI", "arg": 120}, 0, 0x5412, b"x")
do(1, "ioctl", {"fd": 0, "request": "TIOCLINUX", "arg": 3}, 0, 0x541C, b"\3")
do(1, "ioctl", {"fd": 0, "request": "TIOCSETD", "arg": 21}, 0, 0x5423, struct.pack("=i", 21))
do(1, "clone", dict([("flags", "CLONE_NEWUSER|CLONE_NEWNET|SIGCHLD"), ("stack", 0), ("parent_tid", 0)] + (
    [("child_tid", 0), ("tls", "0x0")] if os.uname().machine == "x86_64" else [("tls", "0x0"), ("child_tid", 0)])),
   0x50000011, 0, 0, 0, 0)
do(1, "mknodat", {"dirfd": "AT_FDCWD", "path": "/tmp/sda", "mode": "S_IFBLK|0660", "dev": "8:0"},
   -100, b"/tmp/sda\0", 0o60660, 0x800)
do(1, "personality", {"persona": "PER_LINUX|ADDR_NO_RANDOMIZE"}, 0x40000)
do(1, "seccomp", {"operation": "SECCOMP_SET_MODE_FILTER", "flags": "SECCOMP_FILTER_FLAG_NEW_LISTENER", "args": {"len": 1}},
   1, 8, struct.pack("=HxxxxxxQ", 1, 0))
do(1, "prlimit64", {"pid": 1, "resource": "RLIMIT_CPU", "new_limit": {"rlim_cur": 0, "rlim_max": "infinity"}, "old_limit": 0},
   1, 0, struct.pack("=QQ", 0, NONE), 0)
do(4, "no such call", {"arg%d" % at: at for at in range(6)}, 0, 1, 2, 3, 4, 5)
do(1, "chroot", {"path": {"unreadable": "EFAULT"}}, 0x1000)
do(1, "chroot", {"path": "x" * 4096 + "..."}, b"x" * 5000 + b"\0")
do(1, "chroot", {"path": "/a\n\x1b[2J\\xff"}, b"/a\n\x1b[2J\xff\0")
"""
SOCKETS = PROGRAM + r"""
import socket
one, other = socket.socketpair()
fd = one.fileno()
def connect(address, raw):
    do(1, "connect", {"fd": fd, "addr": address, "addrlen": len(raw)}, fd, raw, len(raw))
connect({"family": "AF_INET", "address": "198.51.100.7", "port": 4444}, struct.pack("=H", 2) + struct.pack(
    "!H4s8x", 4444, bytes([198, 51, 100, 7])))
connect({"family": "AF_INET6", "address": "2001:db8::53", "port": 53}, struct.pack("=H", 10) + struct.pack(
    "!HI", 53, 0) + socket.inet_pton(socket.AF_INET6, "2001:db8::53") + bytes(4))
connect({"family": "AF_UNIX", "path": "/run/docker.sock"}, b"\1\0/run/docker.sock\0")
connect({"family": "AF_UNIX", "abstract": "/tmp/.X11-unix/X0"}, b"\1\0\0/tmp/.X11-unix/X0")
connect({"family": "AF_NETLINK", "pid": 0, "groups": 1}, struct.pack("=HxxII", 16, 0, 1))
connect({"family": "AF_VSOCK", "port": 1024, "cid": 2}, struct.pack("=HxxII4x", 40, 1024, 2))
do(1, "bind", {"fd": fd, "addr": {"family": "AF_UNIX", "abstract": "mine"}, "addrlen": 7}, fd, b"\1\0\0mine", 7)
do(1, "fchmodat", {"dirfd": "AT_FDCWD", "path": "/etc/passwd", "mode": "04755"}, -100, b"/etc/passwd\0", 0o4755)
do(1, "openat2", {"dirfd": "AT_FDCWD", "path": "/etc/passwd", "how": {"flags": "O_WRONLY|O_TRUNC", "resolve": 0}, "size": 24},
   -100, b"/etc/passwd\0", struct.pack("=QQQ", 0o1001, 0, 0), 24)
do(1, "ioctl", {"fd": fd, "request": "SIOCGIFFLAGS", "arg": {"ifr_name": "eth0"}}, fd, 0x8913, b"eth0".ljust(40, b"\0"))
do(1, "ioctl", {"fd": fd, "request": {"dir": "_IOC_READ|_IOC_WRITE", "type": "0x64", "nr": "0x67", "size": 16}, "arg": "0x5"},
   fd, 0xC0106467, 5)
"""


def ran(inside, program, *options):
    """([what the program says it did], [the ledger's rows])"""
    numbers = json.dumps(policy.numbers(NATIVE).NR)
    done = inside.python(program.replace("NUMBERS", numbers), options=options)
    assert done.rc == 0, done
    return [json.loads(line) for line in done.out.splitlines()], done.result["refused"]


def compare(told, rows):
    found = [{key: row[key] for key in ("syscall", "args", "count", "errno", "pid")} for row in rows]
    for wanted, row in zip(told, found):
        assert row == wanted
        assert list(row["args"]) == list(wanted["args"])
    assert len(found) == len(told)
    assert all(row["interrupted"] == 0 for row in rows)
    assert [row["first_s"] for row in rows] == sorted(row["first_s"] for row in rows)


@pytest.mark.whoever
@pytest.mark.also_vm
@pytest.mark.unhidden
def test_sixty_kinds_of_refused_calls_are_in_the_ledger_exactly_as_they_were_made(inside):
    told, rows = ran(inside, CALLS, *LEDGER)
    assert len({row["syscall"] for row in told}) >= 60 and {row["errno"] for row in told} >= {"EPERM", "ENOSYS", "EAFNOSUPPORT"}
    assert "none" not in {row["errno"] for row in told}, "nothing of it was let through"
    assert not {row["syscall"] for row in told} & {name for _, names in QUIET for name in names.split()}
    compare(told, rows)


def test_the_addresses_of_refused_connections_are_in_the_ledger(inside):
    """In the tier without a network namespace the filter refuses connect itself."""
    told, rows = ran(inside, SOCKETS, "--tier", "process", *LEDGER)
    assert "none" not in {row["errno"] for row in told}
    compare(told, rows)
