# SPDX-License-Identifier: Apache-2.0
"""What a system call was asked to do: names, arguments, structures; for any memory, and never more of it than the budget."""
import ctypes
import errno
import functools
import os
import random
import struct
import subprocess
import sys

import pytest

from mrunc.sandbox.decode import call as decode, constants, families, tables, variants
from mrunc.sandbox.seccomp import policy
from mrunc.sandbox.decode.memory import BUDGET
from mrunc.sandbox.observe.peek import Peek
from mrunc.syscalls.widths import WIDTHS

ARCHES = ("x86_64", "aarch64")
NR = {arch: policy.numbers(arch).NR for arch in ARCHES}


class Pages:
    """A memory made of (address, bytes); everything else is a hole."""

    def __init__(self):
        self.parts, self.next = [], 0x7F0000001000

    def put(self, data):
        address, self.next = self.next, self.next + (len(data) // 4096 + 2) * 4096
        self.parts.append((address, data))
        return address

    def peek(self, address, size):
        for start, data in self.parts:
            if start <= address < start + len(data):
                return data[address - start:][:size]
        raise OSError(errno.EFAULT, "")


def told(call, *args, arch="x86_64"):
    """The decoded arguments; bytes among the arguments are put into memory first."""
    pages = Pages()
    numbers = [pages.put(value) if isinstance(value, bytes) else value & 0xFFFFFFFFFFFFFFFF for value in args]
    name, arguments = decode.decode(arch, NR[arch][call], numbers + [0] * (6 - len(numbers)), pages.peek)
    assert name == call
    return arguments


@pytest.mark.parametrize("arch", ARCHES)
def test_each_call_of_the_architecture_is_described_with_as_many_parameters_as_the_kernel_has(arch):
    signatures = tables.signatures(arch)
    assert set(NR[arch]) <= set(signatures)
    assert set(signatures) <= set(NR["x86_64"]) | set(NR["aarch64"])
    for call, parameters in signatures.items():
        # the sixth of clone is of an architecture that mrunc doesn't run on
        assert call == "clone" or call not in WIDTHS or len(WIDTHS[call]) == len(parameters), call
        assert len({name for name, _, _ in parameters}) == len(parameters), call
        check_kinds(arch, parameters)


@pytest.mark.parametrize("arch", ARCHES)
def test_each_variant_is_reached_by_a_constant_that_exists(arch):
    signatures = tables.signatures(arch)
    for (call, at), forms in variants.VARIANTS.items():
        kind = signatures[call][at][1]
        known = set(families.names(arch, kind.lstrip("=")).values())
        for name, text in forms.items():
            assert name in known, (call, name)
            check_kinds(arch, tables.parameters(text))


def check_kinds(arch, parameters):
    for _, kind, other in parameters:
        assert other is None or other < 6
        if kind[0] in "|=":
            assert families.names(arch, kind[1:])
        else:
            assert kind in decode.KINDS


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("name", policy.NAMES)
def test_what_the_policy_refuses_is_told_with_named_arguments(arch, name):
    """But for the few that no kernel has had for decades, whose parameters nobody documented."""
    pages = Pages()
    nameless = set()
    for call, (rule, _) in policy.decisions(name, arch).items():
        if rule == "allow":
            continue
        found, arguments = decode.decode(arch, NR[arch][call], [0] * 6, pages.peek)
        assert found == call
        if any(parameter.startswith("arg0") for parameter in arguments):
            nameless.add(call)
    assert nameless <= {"afs_syscall", "epoll_ctl_old", "epoll_wait_old", "getpmsg", "putpmsg", "security", "tuxcall",
                        "vserver"}


def test_numbers_that_no_call_has_are_told_as_such():
    peek = Pages().peek
    assert decode.decode("x86_64", 999, (1, 2, 3, 4, 5, 6), peek) == (
        "syscall_999", {"arg0": 1, "arg1": 2, "arg2": 3, "arg3": 4, "arg4": 5, "arg5": 6})
    assert decode.decode("x86_64", 0x40000000 + NR["x86_64"]["mount"], [0] * 6, peek)[0] == "x32_mount"
    assert decode.decode("x86_64", -1, [0] * 6, peek)[0] == "syscall_-1"
    assert decode.decode("aarch64", 0x40000000, [0] * 6, peek)[0] == "syscall_1073741824"
    with pytest.raises(KeyError):
        decode.decode("riscv64", 1, [0] * 6, peek)


SIN = struct.pack("!H4s8x", 443, bytes([93, 184, 216, 34]))
FIXED = [
    (("mount", b"none\0", b"/mnt\0", b"tmpfs\0", 0x1003, b"size=1m\0"),
     {"source": "none", "target": "/mnt", "fstype": "tmpfs", "flags": "MS_RDONLY|MS_NOSUID|MS_BIND", "data": "size=1m"}),
    (("umount2", b"/proc\0", 2 | 8), {"target": "/proc", "flags": "MNT_DETACH|UMOUNT_NOFOLLOW"}),
    (("pivot_root", b".\0", b".\0"), {"new_root": ".", "put_old": "."}),
    (("unshare", 0x10020000), {"flags": "CLONE_NEWNS|CLONE_NEWUSER"}),
    (("unshare", 0x80), {"flags": "CLONE_NEWTIME"}),
    (("setns", 3, 0x40000000), {"fd": 3, "nstype": "CLONE_NEWNET"}),
    (("clone3", struct.pack("=11Q", 0x210000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 5), 88),
     {"cl_args": {"flags": "CLONE_NEWUSER|CLONE_INTO_CGROUP", "exit_signal": "SIGCHLD", "cgroup": 5}, "size": 88}),
    (("ptrace", 16, 7), {"request": "PTRACE_ATTACH", "pid": 7}),
    (("ptrace", 0x4206, 7, 0, 0x100002), {"request": "PTRACE_SEIZE", "pid": 7, "addr": "0x0",
                                          "data": "PTRACE_O_TRACEFORK|PTRACE_O_EXITKILL"}),
    (("socket", 2, 0x80001, 0), {"domain": "AF_INET", "type": "SOCK_STREAM|SOCK_CLOEXEC", "protocol": "IPPROTO_IP"}),
    (("socket", 16, 3, 9), {"domain": "AF_NETLINK", "type": "SOCK_RAW", "protocol": "NETLINK_AUDIT"}),
    (("socket", 17, 3, 0x0300), {"domain": "AF_PACKET", "type": "SOCK_RAW", "protocol": "ETH_P_ALL"}),
    (("socket", 99, 3, 5), {"domain": 99, "type": "SOCK_RAW", "protocol": 5}),
    (("connect", 3, struct.pack("=H", 2) + SIN, 16),
     {"fd": 3, "addr": {"family": "AF_INET", "address": "93.184.216.34", "port": 443}, "addrlen": 16}),
    (("connect", 3, struct.pack("=H", 10) + struct.pack("!HI", 80, 0) + b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01" + bytes(4),
      28),
     {"fd": 3, "addr": {"family": "AF_INET6", "address": "2001:db8::1", "port": 80}, "addrlen": 28}),
    (("connect", 3, b"\1\0/run/x\0", 9), {"fd": 3, "addr": {"family": "AF_UNIX", "path": "/run/x"}, "addrlen": 9}),
    (("connect", 3, b"\1\0\0bus", 6), {"fd": 3, "addr": {"family": "AF_UNIX", "abstract": "bus"}, "addrlen": 6}),
    (("bind", 3, b"\1\0", 2), {"fd": 3, "addr": {"family": "AF_UNIX", "path": ""}, "addrlen": 2}),
    (("connect", 3, struct.pack("=HxxII", 16, 4, 5), 12),
     {"fd": 3, "addr": {"family": "AF_NETLINK", "pid": 4, "groups": 5}, "addrlen": 12}),
    (("connect", 3, struct.pack("=HxxII4x", 40, 1024, 2), 16),
     {"fd": 3, "addr": {"family": "AF_VSOCK", "port": 1024, "cid": 2}, "addrlen": 16}),
    (("bind", 3, struct.pack("=H", 38) + b"skcipher".ljust(14, b"\0") + bytes(8) + b"cbc(aes)".ljust(64, b"\0"), 88),
     {"fd": 3, "addr": {"family": "AF_ALG", "type": "skcipher", "name": "cbc(aes)"}, "addrlen": 88}),
    (("connect", 3, b"\x1d\0\1\2\3", 5), {"fd": 3, "addr": {"family": "AF_CAN", "bytes": "010203"}, "addrlen": 5}),
    (("ioctl", 0, 0x5412, b"x"), {"fd": 0, "request": "TIOCSTI", "arg": 120}),
    (("ioctl", 0, 0x541C, b"\3"), {"fd": 0, "request": "TIOCLINUX", "arg": 3}),
    (("ioctl", 0, 1 << 32 | 0x5412, b"x"), {"fd": 0, "request": "TIOCSTI", "arg": 120}),
    (("ioctl", 4, 0x40049409, 5), {"fd": 4, "request": "FICLONE", "src_fd": 5}),
    (("ioctl", 4, 0x8913, b"eth0".ljust(40, b"\0")), {"fd": 4, "request": "SIOCGIFFLAGS", "arg": {"ifr_name": "eth0"}}),
    (("ioctl", 4, 0xC0106467, 5), {"fd": 4, "request": {
        "dir": "_IOC_READ|_IOC_WRITE", "type": "0x64", "nr": "0x67", "size": 16}, "arg": "0x5"}),
    (("prctl", 15, b"worker\0"), {"option": "PR_SET_NAME", "name": "worker"}),
    (("prctl", 22, 2, struct.pack("=HxxxxxxQ", 3, 4)), {"option": "PR_SET_SECCOMP", "mode": "SECCOMP_MODE_FILTER",
                                                       "filter": {"len": 3}}),
    (("prctl", 24, 21), {"option": "PR_CAPBSET_DROP", "cap": "CAP_SYS_ADMIN"}),
    (("prctl", 77, 1, 2, 3, 4), {"option": 77, "arg2": "0x1", "arg3": "0x2", "arg4": "0x3", "arg5": "0x4"}),
    (("bpf", 0, struct.pack("=IIII", 1, 4, 8, 16), 16),
     {"cmd": "BPF_MAP_CREATE", "attr": {"map_type": "BPF_MAP_TYPE_HASH", "key_size": 4, "value_size": 8, "max_entries": 16},
      "size": 16}),
    (("keyctl", 1, b"ring\0"), {"operation": "KEYCTL_JOIN_SESSION_KEYRING", "name": "ring"}),
    (("keyctl", 0, -3, 1), {"operation": "KEYCTL_GET_KEYRING_ID", "key": "KEY_SPEC_SESSION_KEYRING", "create": 1}),
    (("add_key", b"user\0", b"k\0", b"secret", 6, -4),
     {"type": "user", "description": "k", "payload": "buffer", "plen": 6, "keyring": "KEY_SPEC_USER_KEYRING"}),
    (("init_module", b"\x7fELF", 4, b"a=1\0"), {"module_image": "buffer", "len": 4, "param_values": "a=1"}),
    (("finit_module", 5, b"\0", 2), {"fd": 5, "param_values": "", "flags": "MODULE_INIT_IGNORE_VERMAGIC"}),
    (("delete_module", b"kvm\0", 0x800), {"name": "kvm", "flags": "O_RDONLY|O_NONBLOCK"}),
    (("kexec_load", 0x1000, 2, b"seg", 1),
     {"entry": "0x1000", "nr_segments": 2, "segments": "buffer", "flags": "KEXEC_ON_CRASH"}),
    (("kexec_file_load", 3, -1, 6, b"quiet\0", 4),
     {"kernel_fd": 3, "initrd_fd": -1, "cmdline_len": 6, "cmdline": "quiet", "flags": "KEXEC_FILE_NO_INITRAMFS"}),
    (("seccomp", 1, 8, struct.pack("=HxxxxxxQ", 9, 1)),
     {"operation": "SECCOMP_SET_MODE_FILTER", "flags": "SECCOMP_FILTER_FLAG_NEW_LISTENER", "args": {"len": 9}}),
    (("perf_event_open", struct.pack("=IIQ", 1, 112, 9), -1, 0, -1, 8),
     {"attr": {"type": "PERF_TYPE_SOFTWARE", "size": 112, "config": "0x9"}, "pid": -1, "cpu": 0, "group_fd": -1,
      "flags": "PERF_FLAG_FD_CLOEXEC"}),
    (("mknod", b"/dev/sda\0", 0o60600, 8 << 8), {"path": "/dev/sda", "mode": "S_IFBLK|0600", "dev": "8:0"}),
    (("mknodat", -100, b"x\0", 0o20000, 0), {"dirfd": "AT_FDCWD", "path": "x", "mode": "S_IFCHR|0", "dev": "0:0"}),
    (("fcntl", 3, 8, -5), {"fd": 3, "cmd": "F_SETOWN", "arg": -5}),
    (("fcntl", 3, 15, struct.pack("=ii", 1, 9)), {"fd": 3, "cmd": "F_SETOWN_EX", "arg": {"type": "F_OWNER_PID", "pid": 9}}),
    (("chmod", b"x\0", 0o4755), {"path": "x", "mode": "04755"}),
    (("fchmodat", -100, b"x\0", 0o644), {"dirfd": "AT_FDCWD", "path": "x", "mode": "0644"}),
    (("kill", -1, 9), {"pid": -1, "sig": "SIGKILL"}),
    (("personality", 0x40000), {"persona": "PER_LINUX|ADDR_NO_RANDOMIZE"}),
    (("personality", 0xFFFFFFFF), {"persona": "query"}),
    (("quotactl", 0x80000200, b"/dev/x\0", 1000, 0),
     {"cmd": "Q_QUOTAON|USRQUOTA", "special": "/dev/x", "id": 1000, "addr": 0}),
    (("io_uring_setup", 8, struct.pack("=10I", 0, 0, 2, 0, 0, 0, 0, 0, 0, 0)),
     {"entries": 8, "p": {"flags": "IORING_SETUP_SQPOLL"}}),
    (("userfaultfd", 0x80001), {"flags": "UFFD_USER_MODE_ONLY|O_CLOEXEC"}),
    (("process_vm_readv", 5, struct.pack("=QQ", 1, 64), 1, struct.pack("=QQ", 0x400000, 64), 1, 0),
     {"pid": 5, "local_iov": {"len": 64}, "liovcnt": 1, "remote_iov": [{"base": "0x400000", "len": 64}], "riovcnt": 1,
      "flags": "0x0"}),
    (("open_by_handle_at", 4, struct.pack("=Ii", 8, 1) + bytes(range(8)), 0),
     {"mount_fd": 4, "handle": {"handle_bytes": 8, "handle_type": 1, "f_handle": "0001020304050607"}, "flags": "O_RDONLY"}),
    (("openat2", -100, b"/x\0", struct.pack("=QQQ", 0x41, 0o600, 8), 24),
     {"dirfd": "AT_FDCWD", "path": "/x", "how": {"flags": "O_WRONLY|O_CREAT", "mode": "0600", "resolve": "RESOLVE_BENEATH"},
      "size": 24}),
    (("open", b"/x\0", 0o1102, 0o600), {"path": "/x", "flags": "O_RDWR|O_CREAT|O_TRUNC", "mode": "0600"}),
    (("open", b"/x\0", 0x80000, 0o600), {"path": "/x", "flags": "O_RDONLY|O_CLOEXEC", "mode": 0}),
    (("open_tree", -100, b"/\0", 0x80001), {"dirfd": "AT_FDCWD", "path": "/", "flags": "OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC"}),
    (("fsopen", b"ext4\0", 1), {"fsname": "ext4", "flags": "FSOPEN_CLOEXEC"}),
    (("fsconfig", 3, 1, b"source\0", b"/dev/vda\0", 0),
     {"fd": 3, "cmd": "FSCONFIG_SET_STRING", "key": "source", "value": "/dev/vda"}),
    (("move_mount", 3, b"\0", -100, b"/mnt\0", 4),
     {"from_dirfd": 3, "from_path": "", "to_dirfd": "AT_FDCWD", "to_path": "/mnt", "flags": "MOVE_MOUNT_F_EMPTY_PATH"}),
    (("mount_setattr", -100, b"/\0", 0x8000, struct.pack("=QQQQ", 1, 8, 1 << 18, 0), 32),
     {"dirfd": "AT_FDCWD", "path": "/", "flags": "AT_RECURSIVE", "attr": {
         "attr_set": "MOUNT_ATTR_RDONLY", "attr_clr": "MOUNT_ATTR_NOEXEC", "propagation": "MS_PRIVATE"}, "size": 32}),
    (("reboot", 0xFEE1DEAD, 0x28121969, 0x4321FEDC),
     {"magic": "LINUX_REBOOT_MAGIC1", "magic2": "LINUX_REBOOT_MAGIC2", "op": "LINUX_REBOOT_CMD_POWER_OFF", "arg": 0}),
    (("sethostname", b"evilxx", 4), {"name": "evil", "len": 4}),
    (("settimeofday", struct.pack("=qq", 5, 6), 0), {"tv": {"tv_sec": 5, "tv_usec": 6}, "tz": 0}),
    (("clock_settime", 0, struct.pack("=qq", 5, 6)), {"clockid": "CLOCK_REALTIME", "tp": {"tv_sec": 5, "tv_nsec": 6}}),
    (("swapon", b"/swap\0", 0x8005), {"path": "/swap", "swapflags": "SWAP_FLAG_PREFER|0x5"}),
    (("landlock_create_ruleset", struct.pack("=QQQ", 2, 2, 2), 24, 0),
     {"attr": {"handled_access_fs": "LANDLOCK_ACCESS_FS_WRITE_FILE", "handled_access_net": "LANDLOCK_ACCESS_NET_CONNECT_TCP",
               "scoped": "LANDLOCK_SCOPE_SIGNAL"}, "size": 24, "flags": 0}),
    (("prlimit64", 1, 0, struct.pack("=QQ", 0, (1 << 64) - 1), 0),
     {"pid": 1, "resource": "RLIMIT_CPU", "new_limit": {"rlim_cur": 0, "rlim_max": "infinity"}, "old_limit": 0}),
    (("unlinkat", -100, b"d\0", 0x200), {"dirfd": "AT_FDCWD", "path": "d", "flags": "AT_REMOVEDIR"}),
    (("faccessat2", -100, b"d\0", 4, 0x200), {"dirfd": "AT_FDCWD", "path": "d", "mode": "R_OK", "flags": "AT_EACCESS"}),
    (("vhangup",), {}),
]


@pytest.mark.parametrize("words, wanted", FIXED, ids=["%s-%d" % (words[0], at) for at, (words, _) in enumerate(FIXED)])
def test_arguments_are_told_as_a_person_would_write_them(words, wanted):
    found = told(*words)
    assert found == wanted
    assert list(found) == list(wanted), "in the call's order"


def test_a_program_to_run_is_told_with_its_arguments():
    pages = Pages()
    argv = struct.pack("=QQQ", pages.put(b"sh\0"), pages.put(b"-c\0"), 0)
    numbers = [pages.put(b"/bin/sh\0"), pages.put(argv), 0, 0, 0, 0]
    assert decode.decode("x86_64", NR["x86_64"]["execve"], numbers, pages.peek) == (
        "execve", {"path": "/bin/sh", "argv": ["sh", "-c"], "envp": 0})


def test_a_long_argument_vector_is_cut_with_a_mark():
    pages = Pages()
    word = pages.put(b"a" * 3000 + b"\0")
    numbers = [0, pages.put(struct.pack("=40Q", *[word] * 40)), 0, 0, 0, 0]
    argv = decode.decode("x86_64", NR["x86_64"]["execve"], numbers, pages.peek)[1]["argv"]
    assert argv == ["a" * 2048 + "..."] * 32 + ["..."]


def test_the_namespaces_of_clone_are_told_on_both_architectures():
    for arch in ARCHES:
        assert told("clone", 0x10000011, arch=arch)["flags"] == "CLONE_NEWUSER|SIGCHLD"
    assert list(told("clone", 0)) == ["flags", "stack", "parent_tid", "child_tid", "tls"]
    assert list(told("clone", 0, arch="aarch64")) == ["flags", "stack", "parent_tid", "tls", "child_tid"]


def test_flags_that_differ_between_the_architectures_are_told_by_their_own_numbers():
    assert told("openat", -100, b"x\0", 0x10000)["flags"] == "O_RDONLY|O_DIRECTORY"
    assert told("openat", -100, b"x\0", 0x4000, arch="aarch64")["flags"] == "O_RDONLY|O_DIRECTORY"


def test_what_cannot_be_read_says_why():
    assert told("chroot", 0x1000) == {"path": {"unreadable": "EFAULT"}}

    def forbidden(address, size):
        raise OSError(errno.EPERM, "")
    assert decode.decode("x86_64", NR["x86_64"]["chroot"], [8, 0, 0, 0, 0, 0], forbidden) == (
        "chroot", {"path": {"unreadable": "EPERM"}})
    assert told("chroot", b"/half") == {"path": {"unreadable": "EFAULT", "begins": "/half"}}
    assert told("chroot", 0) == {"path": 0}


def test_texts_are_cut_with_a_mark_and_no_byte_is_lost_in_them():
    assert told("chroot", b"x" * 9000 + b"\0") == {"path": "x" * 4096 + "..."}
    assert told("fsopen", b"x" * 300 + b"\0", 0)["fsname"] == "x" * 256 + "..."
    assert told("chroot", b"/a\x1b[31m\n\xff\xc3\xa9\xed\xa0\x80\0") == {"path": "/a\x1b[31m\n\\xff\xe9\\xed\\xa0\\x80"}


def test_the_upper_half_that_the_kernel_drops_is_dropped():
    assert told("setns", 1 << 32 | 3, 1 << 32)["fd"] == 3
    assert told("chmod", b"x\0", 1 << 16 | 0o755)["mode"] == "0755"


def test_any_memory_and_any_arguments_are_told_without_an_exception_and_within_the_budget():
    """Seeded: the same cases at each run; the ordinary user's run has others than root's."""
    source = random.Random(20 + bool(os.geteuid()))
    numbers = {arch: sorted(NR[arch].values()) for arch in ARCHES}
    noise = bytes(source.getrandbits(8) for _ in range(1 << 16)) + bytes(64) + b"/etc/shadow\0" * 100
    reasons = (errno.EFAULT, errno.EPERM, errno.ESRCH, 4095)
    odd = (0, 1, 0x7FFFFFFFFFFF, 0xFFFFFFFFFFFFF000, (1 << 64) - 1, 1 << 63, 0xFFFFFFFF, 0x80000000, 0x5412, 16, 24, 88)
    state = {}

    def peek(address, size):
        assert 0 < size <= 4096 and 0 <= address < 1 << 64
        state["read"] += size
        assert state["read"] <= BUDGET
        dice = source.random()
        if dice < 0.08:
            raise OSError(reasons[int(dice * 100) % 4], "")
        at = address % len(noise)
        found = noise[at:at + size]
        return found[:int(dice * size)] if dice < 0.12 else found.ljust(size, b"\1")

    def number():
        dice = source.random()
        return source.choice(odd) if dice < 0.3 else source.getrandbits(10) if dice < 0.6 else source.getrandbits(64)

    for _ in range(100000):
        arch = source.choice(ARCHES)
        nr = source.choice(numbers[arch]) if source.random() < 0.98 else source.getrandbits(32) - (1 << 31)
        state["read"] = 0
        name, arguments = decode.decode(arch, nr, [number() for _ in range(6)], peek)
        assert isinstance(name, str)
        for parameter, value in arguments.items():
            assert isinstance(parameter, str) and isinstance(value, (int, str, dict, list)), (name, parameter, value)


def test_no_variant_and_no_structure_escapes_the_chance_of_the_fuzzer():
    """Each form with each kind of memory: whole, half, none, forbidden."""
    memories = [lambda address, size: b"\xff" * size, lambda address, size: b"\0" * size,
                lambda address, size: b"\1" * (size // 2), lambda address, size: b""]
    for arch in ARCHES:
        for (call, at), forms in variants.VARIANTS.items():
            kind = tables.signatures(arch)[call][at][1]
            for number, name in families.names(arch, kind.lstrip("=")).items():
                args = [8] * 6
                args[at] = number & 0xFFFFFFFFFFFFFFFF
                for memory in memories:
                    arguments = decode.decode(arch, NR[arch][call], args, memory)[1]
                    if name in forms:
                        assert list(arguments) == [word.split(":")[0] for word in forms[name].split()]


HEADERS = """sys/mount.h linux/mount.h sys/ptrace.h linux/ptrace.h linux/bpf.h linux/keyctl.h linux/perf_event.h linux/kexec.h
linux/reboot.h linux/io_uring.h linux/userfaultfd.h linux/kcmp.h linux/fanotify.h linux/mempolicy.h linux/netlink.h
linux/landlock.h linux/sched.h linux/quota.h linux/openat2.h linux/fs.h linux/sockios.h linux/personality.h linux/module.h
linux/kd.h linux/vt.h linux/loop.h linux/if_tun.h linux/kvm.h linux/fuse.h linux/nsfs.h linux/random.h linux/if_ether.h
sys/swap.h linux/futex.h linux/membarrier.h linux/vhost.h linux/dm-ioctl.h linux/lsm.h linux/fscrypt.h linux/xattr.h
sys/timex.h asm/prctl.h linux/seccomp.h sys/wait.h fcntl.h"""


def test_the_constants_are_those_of_the_headers(tmp_path):
    """Asked with #ifdef, which enums answer with no: those lie in the second list, by the compiler's own word."""
    wanted = {}
    for family, text in constants.FAMILIES.items():
        for word in text.split():
            name, value = ((family if family.endswith("_") else "") + word).split("=")
            wanted[name] = int(value, 0)
    lines = ["#define _GNU_SOURCE", "#include <stdio.h>"] + [
        "#if __has_include(<%s>)\n#include <%s>\n#endif" % (name, name) for name in HEADERS.split()] + ["int main(void) {"]
    for name in sorted(wanted):
        lines += ["#ifdef %s" % name, 'printf("%s %%llx\\n", (unsigned long long)(%s));' % (name, name), "#endif"]
    (tmp_path / "ask.c").write_text("\n".join(lines) + "\n}\n")
    subprocess.run(["gcc", "-w", "-o", str(tmp_path / "ask"), str(tmp_path / "ask.c")], check=True, timeout=60)
    answers = subprocess.run([str(tmp_path / "ask")], stdout=subprocess.PIPE, universal_newlines=True, check=True).stdout
    found = {name: int(value, 16) for name, value in (line.split() for line in answers.splitlines())}
    assert len(found) > 300
    assert {name: value for name, value in found.items() if wanted[name] & 0xFFFFFFFF != value & 0xFFFFFFFF} == {}


# What looks into a process

SLEEPER = """
import ctypes, mmap, sys
area = mmap.mmap(-1, 3 * 4096)
address = ctypes.addressof(ctypes.c_char.from_buffer(area))
area[4096 - 3:4096 + 6] = b"/hidden/\\0"
area[2 * 4096 - 4:2 * 4096] = b"edge"
libc = ctypes.CDLL(None)
assert libc.munmap(ctypes.c_void_p(address + 2 * 4096), 4096) == 0
print(address, flush=True)
sys.stdin.read()
import os
os._exit(0)
"""


@pytest.fixture
def sleeper():
    with subprocess.Popen([sys.executable, "-c", SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.address = int(process.stdout.readline())
        yield process
        process.stdin.close()
        process.wait(timeout=60)


def test_another_process_is_read_page_by_page(sleeper):
    peek = functools.partial(Peek().read, sleeper.pid)
    assert peek(sleeper.address + 4096 - 3, 9) == b"/hidden/\0"
    assert peek(sleeper.address + 2 * 4096 - 4, 100) == b"edge", "the hole behind does not take what lies before"
    number = NR["x86_64"]["chroot"]
    assert decode.decode("x86_64", number, [sleeper.address + 4093, 0, 0, 0, 0, 0], peek)[1] == {"path": "/hidden/"}
    assert decode.decode("x86_64", number, [sleeper.address + 8188, 0, 0, 0, 0, 0], peek)[1] == {
        "path": {"unreadable": "EFAULT", "begins": "edge"}}


@pytest.mark.parametrize("address", [0, 8, 1 << 63, (1 << 64) - 1, 1 << 64, -4096])
def test_an_address_that_no_process_has_is_refused_like_one_that_is_not_mapped(sleeper, address):
    with pytest.raises(OSError) as error:
        Peek().read(sleeper.pid, address, 16)
    assert error.value.errno == errno.EFAULT


def test_a_process_that_is_gone_or_forbidden_says_so():
    gone = subprocess.Popen(["true"])
    gone.wait(timeout=60)
    with pytest.raises(OSError) as error:
        Peek().read(gone.pid, 4096, 16)
    assert error.value.errno == errno.ESRCH


def test_a_kernel_without_the_call_is_read_through_proc(sleeper, monkeypatch):
    peek = Peek()

    def missing(pid, address, size):
        raise OSError(errno.ENOSYS, "")
    monkeypatch.setattr(peek._reader, "read", missing)
    assert peek.read(sleeper.pid, sleeper.address + 4093, 9) == b"/hidden/\0"
    with pytest.raises(OSError) as error:
        peek.read(sleeper.pid, 8, 16)
    assert error.value.errno == errno.ENOSYS


def test_reading_the_own_memory_gives_what_lies_there():
    data = ctypes.create_string_buffer(bytes(range(256)) * 40)
    assert Peek().read(os.getpid(), ctypes.addressof(data), 10240) == bytes(range(256)) * 40
