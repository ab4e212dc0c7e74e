# SPDX-License-Identifier: Apache-2.0
"""Policies from files: what they mean, judged by running the program made from them, and what is refused, word for word."""
import ctypes
import errno
import json
import os
import random
import runpy
import struct

import pytest

import mrunc  # noqa: F401  registers the package
from mrunc import seccomp_bpf as bpf
from mrunc.sandbox.seccomp import constants, files, minijail, policy, rules, shipped
from mrunc.sandbox.errors import SandboxError
from mrunc.syscalls.widths import WIDTHS

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KILL, ALLOW, EPERM, ENOSYS = bpf.KILL_PROCESS, bpf.ALLOW, bpf.errno(1), bpf.errno(38)


@pytest.fixture
def read(tmp_path):
    """read(content, arch=..., ...) -> ask(call, *args) -> action."""
    def run(content, arch="x86_64", name="p", **settings):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else
                         (content if isinstance(content, str) else json.dumps(content)).encode("utf-8"))
        settings.setdefault("kernel", (6, 1))
        _, program, model = files.read(str(path), arch, **settings)
        table = policy.numbers(arch)

        def ask(call, *args):
            number = table.NR[call] if isinstance(call, str) else call
            return bpf.run(program, number, table.AUDIT_ARCH, tuple(args) + (0,) * (6 - len(args)))[0]
        ask.program, ask.model = program, model
        return ask
    return run


def refused(read, content, *words, **settings):
    with pytest.raises(SandboxError) as caught:
        read(content, **settings)
    error = caught.value
    assert error.status == 2 and error.stage == "policy", error.line()
    for word in words:
        assert word in error.line() + "\n" + (error.remedy or ""), error.line()
    return error


def oci(*rules, **top):
    return dict({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        dict({"action": "SCMP_ACT_ALLOW"}, **dict(rule, names=rule["names"].split())) for rule in rules]}, **top)


def arg(index, op, value, two=None):
    out = {"index": index, "op": "SCMP_CMP_" + op, "value": value}
    return out if two is None else dict(out, valueTwo=two)


# The shipped ones and the wrapping

@pytest.mark.parametrize("arch", policy.ARCHES)
@pytest.mark.parametrize("name", policy.NAMES)
def test_a_shipped_name_is_the_frozen_program_with_its_model_and_digest(name, arch):
    import hashlib
    got, program, model = files.read(name, arch)
    assert (got, program) == (name, shipped.program(name, arch)) and model.arch == policy.numbers(arch).AUDIT_ARCH
    assert shipped.digest(name, arch) == hashlib.sha256(program).hexdigest()


def test_a_file_is_never_taken_for_a_shipped_name(read, tmp_path, monkeypatch):
    (tmp_path / "setid").write_text("read: 1\n")
    monkeypatch.chdir(str(tmp_path))
    assert files.read("setid", "x86_64")[0] == "./setid"
    assert files.read(b"./setid", "x86_64")[0] == "./setid"


def test_the_files_constants_are_the_kernels():
    import fcntl
    import mmap
    import signal
    import socket
    for arch in policy.ARCHES:
        table = constants.table(arch)
        for name in table:
            for module in (socket, mmap, signal, fcntl, errno) + ((os,) if arch == os.uname().machine else ()):
                value = getattr(module, name, None)
                if isinstance(value, int) and name not in ("O_LARGEFILE", "MSG_CMSG_COMPAT", "MAP_32BIT",
                                                           "O_ACCMODE"):  # musl's has O_PATH in it
                    assert value & 0xFFFFFFFF == table[name], name
    assert constants.table("x86_64")["O_DIRECTORY"] == 0o200000
    assert constants.table("aarch64")["O_DIRECTORY"] == 0o40000
    assert not constants.OTHER_CALLS & set().union(*(policy.numbers(arch).NR for arch in policy.ARCHES))


# OCI

def test_a_small_profile(read):
    ask = read(oci({"names": "read write"}, {"names": "mount", "action": "SCMP_ACT_KILL_PROCESS"},
                   {"names": "ptrace", "action": "SCMP_ACT_ERRNO", "errnoRet": 38}))
    assert [ask(call) for call in ("read", "write", "open", "mount", "ptrace")] == [ALLOW, ALLOW, EPERM, KILL, ENOSYS]
    assert ask(0x40000000) == ask(9999) == EPERM
    assert bpf.run(ask.program, 0, 0x40000003)[0] == KILL


@pytest.mark.parametrize("word,action", [
    ("ALLOW", ALLOW), ("KILL", bpf.KILL_THREAD), ("KILL_THREAD", bpf.KILL_THREAD), ("KILL_PROCESS", KILL), ("TRAP", bpf.TRAP),
    ("LOG", bpf.LOG), ("ERRNO", EPERM), ("TRACE", bpf.TRACE | 1), ("NOTIFY", bpf.NOTIFY)])
def test_every_action(read, word, action):
    default = "SCMP_ACT_ALLOW" if word == "ERRNO" else "SCMP_ACT_ERRNO"
    ask = read(oci({"names": "read", "action": "SCMP_ACT_" + word}, defaultAction=default))
    assert ask("read") == action
    assert read({"defaultAction": "SCMP_ACT_" + word})("getpid") == action


def test_the_errno_of_the_default_by_number_and_by_name(read):
    assert read(oci(defaultErrnoRet=38))("read") == ENOSYS
    assert read(oci(defaultErrno="ENOSYS"))("read") == ENOSYS
    assert read(oci(defaultErrnoRet=38, defaultErrno="ENOSYS"))("read") == ENOSYS
    refused(read, oci(defaultErrnoRet=1, defaultErrno="ENOSYS"), "ENOSYS is 38, but defaultErrnoRet says 1")


COMPARISONS = {"EQ": lambda a, v: a == v, "NE": lambda a, v: a != v, "LT": lambda a, v: a < v, "LE": lambda a, v: a <= v,
               "GT": lambda a, v: a > v, "GE": lambda a, v: a >= v}


@pytest.mark.parametrize("op", sorted(COMPARISONS))
@pytest.mark.parametrize("value", [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, (7 << 32) + 5, (1 << 64) - 1])
def test_every_comparison_on_a_64_bit_argument(read, op, value):
    ask = read(oci({"names": "mmap", "args": [arg(1, op, value)]}))
    for near in {value, (value + 1) & (1 << 64) - 1, (value - 1) & (1 << 64) - 1, value ^ 1 << 32, 0, 1 << 63}:
        assert (ask("mmap", 0, near) == ALLOW) == COMPARISONS[op](near, value), hex(near)


def test_an_argument_that_is_an_int_for_the_kernel_is_compared_as_one(read):
    """A deny rule that looked at the upper half could be walked round with bit 32 set."""
    ask = read(oci({"names": "ioctl", "action": "SCMP_ACT_ERRNO", "args": [arg(1, "EQ", 0x5412)]}, defaultAction="SCMP_ACT_ALLOW"))
    assert ask("ioctl", 0, 0x5412) == ask("ioctl", 0, 0x5412 | 1 << 32) == ask("ioctl", 9, 0x5412 | 0xFFFFFFFF << 32) == EPERM
    assert ask("ioctl", 0, 0x5413) == ALLOW
    ask = read(oci({"names": "clone", "args": [arg(0, "MASKED_EQ", 0x7E020000, 0)]}))
    assert ask("clone", 17) == ask("clone", 17 | 1 << 40) == ALLOW and ask("clone", 0x10000011) == EPERM
    ask = read(oci({"names": "ioctl", "args": [arg(1, "MASKED_EQ", 0xFF << 32, 0)]}))
    assert ask("ioctl", 0, 1 << 33) == ALLOW, "only bits that the kernel drops"


def test_masked_equality_on_64_bits(read):
    ask = read(oci({"names": "mmap", "args": [arg(0, "MASKED_EQ", 0xF << 32 | 3, 1 << 32 | 2)]}))
    assert ask("mmap", 1 << 32 | 2) == ask("mmap", 0xF01 << 32 | 0xFE) == ALLOW
    assert ask("mmap", 2) == ask("mmap", 1 << 32 | 3) == EPERM


def test_conditions_are_anded_and_rules_are_alternatives(read):
    ask = read(oci({"names": "socket", "args": [arg(0, "LT", 5), arg(1, "EQ", 2)]},
                   {"names": "socket", "args": [arg(0, "EQ", 9)]}))
    assert [value for value in range(12) if ask("socket", value, 2) == ALLOW] == [0, 1, 2, 3, 4, 9]
    assert [value for value in range(12) if ask("socket", value, 1) == ALLOW] == [9]


def test_docker_s_three_socket_rules(read):
    ask = read(oci(*({"names": "socket", "args": [test]} for test in (arg(0, "LT", 38), arg(0, "EQ", 39), arg(0, "GT", 40)))))
    assert [value for value in range(46) if ask("socket", value) != ALLOW] == [38, 40]


def test_rules_with_several_actions_that_exclude_each_other(read):
    ask = read(oci({"names": "socket", "action": "SCMP_ACT_ERRNO", "errnoRet": 22, "args": [arg(0, "EQ", 16), arg(2, "EQ", 9)]},
                   {"names": "socket", "args": [arg(2, "NE", 9)]}, {"names": "socket", "args": [arg(0, "NE", 16)]},
                   defaultErrnoRet=38))
    assert (ask("socket", 16, 0, 9), ask("socket", 16, 0, 8), ask("socket", 1, 0, 9)) == (bpf.errno(22), ALLOW, ALLOW)


@pytest.mark.parametrize("caps,kernel,arch,wanted", [
    ((), (6, 1), "x86_64", "a"), (("CAP_SYS_PTRACE",), (6, 1), "x86_64", "ac"),
    (("CAP_SYS_PTRACE", "CAP_BPF"), (6, 1), "x86_64", "abc"), ((), (4, 7), "x86_64", "e"), ((), (4, 8), "aarch64", "ad"),
    (("CAP_BPF",), (5, 0), "x86_64", "a")])
def test_includes_and_excludes(read, caps, kernel, arch, wanted):
    calls = dict(zip("abcde", "read write close dup lseek".split()))
    ask = read(oci(
        {"names": "read", "includes": {"minKernel": "4.8"}},
        {"names": "write", "includes": {"caps": ["CAP_SYS_PTRACE", "CAP_BPF"]}},
        {"names": "close", "includes": {"caps": ["CAP_SYS_PTRACE"], "arches": ["amd64", "x32"]}},
        {"names": "dup", "excludes": {"arches": ["amd64"]}, "includes": {}},
        {"names": "lseek", "excludes": {"minKernel": "4.8", "caps": ["CAP_CHOWN"]}}), arch, caps=frozenset(caps), kernel=kernel)
    assert "".join(key for key in "abcde" if ask(calls[key]) == ALLOW) == wanted


def test_random_profiles_decide_as_their_rules_say(read):
    """Against a plain reading of the JSON; mremap's first arguments are 64 bits wide.  (libseccomp 2.6.0 differs where the upper
    halves of an order comparison differ, which is its GHSA-4q85-33p6-j5g6.)"""
    chance = random.Random(7)
    values = [0, 1, 2, 3, 5, 8, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1, (5 << 32) + 3, 1 << 63, (1 << 64) - 1]
    kinds = {"ALLOW": ALLOW, "TRAP": bpf.TRAP, "LOG": bpf.LOG}
    settled = 0
    for _ in range(400):
        rules = []
        for _ in range(chance.randrange(1, 5)):
            tests = []
            for index in chance.sample(range(3), chance.randrange(4)):
                op, value = chance.choice(sorted(COMPARISONS) + ["MASKED_EQ"]), chance.choice(values)
                tests.append(arg(index, op, value) if op in COMPARISONS else
                             arg(index, op, value or 7, chance.choice(values) & (value or 7)))
            rules.append((chance.choice(["ALLOW", "ALLOW", "ALLOW", "TRAP", "LOG"]), tests))
        try:
            ask = read(oci(*({"names": "mremap", "action": "SCMP_ACT_" + kind, "args": tests} for kind, tests in rules)))
        except SandboxError as error:
            assert "conflicting rules for mremap" in error.line()
            continue
        settled += 1
        for _ in range(40):
            args = [chance.choice(values) ^ (chance.random() < 0.3) << chance.randrange(64) for _ in range(3)]
            wanted = [kinds[kind] for kind, tests in rules if all(
                COMPARISONS[test["op"][9:]](args[test["index"]], test["value"]) if test["op"][9:] in COMPARISONS else
                args[test["index"]] & test["value"] == test["valueTwo"] for test in tests)]
            assert set(wanted or [EPERM]) == {ask("mremap", *args)}, (rules, args)
    assert settled > 150


def test_names_of_other_architectures_are_no_mistake_and_typos_are(read):
    ask = read(oci({"names": "read chown32 _llseek socketcall s390_pci_mmio_read riscv_flush_icache open"}), "aarch64")
    assert ask("read") == ALLOW
    refused(read, oci({"names": "read opne"}), "no architecture has a system call 'opne'", "did you mean open?")
    refused(read, oci({"names": "opne", "includes": {"arches": ["s390x"]}}), "'opne'")


def test_a_profile_that_allows_by_default_can_not_be_walked_round_by_x32_numbers(read):
    ask = read(oci({"names": "mount", "action": "SCMP_ACT_ERRNO"}, defaultAction="SCMP_ACT_ALLOW"))
    assert ask("mount") == EPERM and ask("read") == ask(0x3FFFFFFF) == ALLOW
    assert ask(0x40000000 + 165) == ask(0xFFFFFFFF) == ENOSYS
    assert read(oci(defaultAction="SCMP_ACT_ALLOW"), "aarch64")(0x40000000) == ALLOW


def test_architectures(read):
    assert read(oci({"names": "read"}, architectures=["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"]))("read") == ALLOW
    refused(read, oci(architectures=["SCMP_ARCH_S390X"]), "not for x86_64: expected SCMP_ARCH_X86_64")
    refused(read, oci(archMap=[{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}]), "SCMP_ARCH_AARCH64",
            arch="aarch64")
    refused(read, oci(architectures=["SCMP_ARCH_X68_64"]), "'SCMP_ARCH_X68_64' is unknown (did you mean SCMP_ARCH_X86_64?)")


def test_of_two_rules_by_capability_the_first_decides(read):
    """As libseccomp does, measured with 2.6.0; podman's profile allows setns and then refuses it without CAP_SYS_ADMIN."""
    rules = [{"names": "setns unshare"}, {"names": "setns", "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                                          "excludes": {"caps": ["CAP_SYS_ADMIN"]}}]
    assert read(oci(*rules, defaultErrnoRet=38))("setns") == ALLOW
    assert read(oci(*rules[::-1], defaultErrnoRet=38))("setns") == EPERM


def test_what_excludes_each_other_is_known_exactly_for_two_tests_of_a_kind():
    """Saying so wrongly would let an order of the file decide; not saying so refuses a sound profile."""
    tests = [bpf.Condition(0, op, value) for op in ("==", "!=", "<", "<=", ">", ">=") for value in range(5)]
    tests += [bpf.Condition(0, op, value, mask) for op in ("&==", "&!=") for mask in range(1, 6) for value in range(6)
              if not value & ~mask]
    signs = {"==": int.__eq__, "!=": int.__ne__, "<": int.__lt__, "<=": int.__le__, ">": int.__gt__, ">=": int.__ge__}

    def holds(value, test):
        return signs[test[1].lstrip("&")](value if test[3] is None else value & test[3], test[2])
    for one in tests:
        for other in tests:
            both = any(holds(value, one) and holds(value, other) for value in list(range(32)) + [0xFFFFFFFF])
            said = rules.disjoint([one], [other])
            assert not (both and said), (one, other)
            kinds = {"order" if test[1] in signs and test[1] != "!=" else test[1] for test in (one, other)}
            if kinds in ({"order"}, {"&=="}) or "==" in (one[1], other[1]):
                if not {"<"} & {one[1], other[1]} or 0 not in (one[2], other[2]):  # nothing is below 0
                    assert said != both, (one, other)
    assert not rules.disjoint([bpf.Condition(0, "==", 1)], [bpf.Condition(1, "==", 2)])
    assert not rules.disjoint([bpf.Condition(0, "==", 1)], [bpf.Condition(0, "==", 2, wide=True)])


def real_form(name, arch):
    """docker's or podman's profile as the files have it, from the facts about it, with the shape of the originals."""
    with open(os.path.join(ROOT, "docs", "peers", name + ".json")) as stream:
        facts = json.load(stream)

    def one(text):
        words = text.split()
        return arg(int(words[0][3:]), words[1], int(words[2]), int(words[4]) if len(words) > 3 else 0)
    head = facts["default_says"].split()
    rules = []
    for kind, calls in facts[arch].items():
        if kind == "conditional":
            for call, ways in calls.items():
                rules += [{"names": [call], "action": "SCMP_ACT_ALLOW", "args": [one(test) for test in way], "comment": "",
                           "includes": {}, "excludes": {}} for way in ways]
        elif kind == "allow":
            rules.append({"names": calls, "action": "SCMP_ACT_ALLOW", "args": None, "includes": {"minKernel": "4.8"}})
        elif kind.startswith("errno_") and isinstance(calls, list):
            if kind == "errno_EINVAL":  # podman: a netlink socket for the audit system
                assert calls == ["socket"]
            rules.append({"names": calls, "action": "SCMP_ACT_ERRNO", "errnoRet": getattr(errno, kind[6:]), "errno": kind[6:],
                          "args": [arg(0, "EQ", 16), arg(2, "EQ", 9)] if kind == "errno_EINVAL" else [], "excludes": {"caps": ["CAP_SYS_ADMIN"]}})
    return facts, {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": getattr(errno, head[1]), "defaultErrno": head[1],
                   "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
                               {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
                   "syscalls": rules}


# minijail

MINIJAIL = """
# a comment
@frequency ./not-there.frequency
@default trap
read: 1
write: allow   # behind a rule
{ open, openat[arch=x86_64] }: return ENOENT
kill: kill-thread
close: return 9
socket: arg0 == AF_UNIX || arg0 == AF_INET && arg1 in SOCK_STREAM|SOCK_CLOEXEC
mmap: arg2 in ~PROT_EXEC \\
   || arg0 == -1
ioctl: { arg1 == TIOCSTI; return EPERM, arg1 & 0x8000; kill-process, allow }
lseek: arg1 < 010 && arg2 != 2
dup[arch=arm64]: 1
madvise: log
dup3: arg2 & 6
dup2: { arg0 > 1 && arg0 <= 4; allow,
        return EBADF }
"""


def test_a_policy_of_minijail(read):
    ask = read(MINIJAIL)
    trap = bpf.TRAP
    assert [ask(call) for call in "read write open openat kill close dup madvise getpid".split()] == [
        ALLOW, ALLOW, bpf.errno(2), bpf.errno(2), bpf.KILL_THREAD, bpf.errno(9), trap, bpf.LOG, trap]
    assert [ask("socket", 1), ask("socket", 2, 0x80001), ask("socket", 2, 1 << 33 | 1), ask("socket", 2, 2), ask("socket", 3)] == [
        ALLOW, ALLOW, ALLOW, trap, trap]
    assert [ask("mmap", 0, 0, 3), ask("mmap", 0, 0, 4), ask("mmap", (1 << 64) - 1, 0, 4), ask("mmap", 0, 0, 4 | 1 << 32)] == [
        ALLOW, trap, ALLOW, trap]
    assert [ask("ioctl", 0, 0x5412), ask("ioctl", 0, 0x5412 | 1 << 32), ask("ioctl", 0, 0x8001), ask("ioctl", 0, 5)] == [
        EPERM, EPERM, KILL, ALLOW]
    assert [ask("lseek", 0, 7, 1), ask("lseek", 0, 8, 1), ask("lseek", 0, 1 << 32, 1), ask("lseek", 0, 7, 2)] == [
        ALLOW, trap, trap, trap]
    assert [ask("dup2", value) for value in (1, 2, 4, 5)] == [bpf.errno(9), ALLOW, ALLOW, bpf.errno(9)]
    assert [ask("dup3", 0, 0, value) for value in (1, 2, 4, 6, 8)] == [trap, ALLOW, ALLOW, ALLOW, trap]
    assert read(MINIJAIL, "aarch64")("dup") == ALLOW


def test_a_policy_of_minijail_that_begins_with_a_brace_is_not_taken_for_json(read):
    assert read("{ read, write }: 1\n")("write") == read("\n{\n read,\n write }: 1")("read") == ALLOW


def test_the_default_and_a_denylist(read):
    assert read("read: 1\n")("write") == KILL
    ask = read("@denylist\nmount: return EPERM\nsocket: { arg0 == AF_ALG; return EAFNOSUPPORT }\n")
    assert (ask("mount"), ask("read"), ask("socket", 38), ask("socket", 1)) == (EPERM, ALLOW, bpf.errno(errno.EAFNOSUPPORT), ALLOW)
    assert ask(0x40000000 + 165) == ENOSYS


def test_rules_of_one_call_decide_in_order(read):
    ask = read("ioctl: { arg1 == 1; return EPERM }\nioctl: arg1 < 5\nioctl: return ENOSYS\n")
    assert [ask("ioctl", 0, value) for value in (1, 2, 9)] == [EPERM, ALLOW, ENOSYS]


def test_includes_one_level(read, tmp_path):
    (tmp_path / "base").write_text("read: 1\n@default kill-thread\n")
    ask = read("@include ./base\nwrite: 1\n")
    assert (ask("read"), ask("write"), ask("open")) == (ALLOW, ALLOW, bpf.KILL_THREAD)
    (tmp_path / "deep").write_text("@include ./base\n")
    refused(read, "write: 1\n@include ./deep\n", "deep, line 1, column 10: nested @include")
    (tmp_path / "p").write_text("@include ./p\n")
    refused(read, "@include ./p\n", "nested @include")
    refused(read, "@include ./missing\n", "line 1, column 10", "missing: No such file")
    refused(read, "@include ./base\n@include ./base\n", "line 2, column 10: @default is given twice")
    refused(read, "read: 1\n@include ./base\n@default kill\n", "given twice")
    refused(read, "write: 1\nread: 1\n@include ./two\nread: 1\n", "two: No such")
    (tmp_path / "two").write_text("read: 1\n")
    refused(read, "@include ./two\nread: 1\n", "line 2, column 1: conflicting rules: read has one without conditions already",
            "two, line 1")


# Raw BPF

def test_a_finished_program(read):
    program = policy.exported("strict", "x86_64")
    ask = read(program)
    assert ask.program == program and ask.model is None
    assert read(struct.pack("<HBBI", bpf.RET, 0, 0, ALLOW)).program


# Mistakes

def instructions(count):
    return bpf.encode([(bpf.LD, 0, 0, 0)] * (count - 1) + [(bpf.RET, 0, 0, ALLOW)])


MISTAKES = [
    # content, words of the message
    ("", ["is empty", "OCI JSON, minijail text or a BPF program"]), ("  \n\n", ["is empty"]),
    (b"read: \xff1\n", ["byte 6 is not UTF-8"]),
    (instructions(4097), ["BPF program: 4097 instructions: must be 1 to 4096"]),
    (instructions(3)[:-1], ["23 bytes: not a whole number of 8-byte instructions"]),
    (bpf.encode([(bpf.JEQ, 9, 0, 0), (bpf.RET, 0, 0, ALLOW)]), ["instruction 0: jumps 9 ahead"]),
    (bpf.encode([(bpf.LD, 0, 0, 3), (bpf.RET, 0, 0, ALLOW)]), ["instruction 0: loads from 3"]),
    (bpf.encode([(bpf.RET, 0, 0, bpf.ERRNO)]), ["instruction 0: returns errno 0: must be 1 to 4095"]),
    (bpf.encode([(bpf.RET, 0, 0, bpf.ERRNO | 5000)]), ["returns errno 5000: must be 1 to 4095"]),
    # JSON
    ('{\n "defaultAction": "SCMP_ACT_ERRNO"\n "x": 1}', ["line 3, column 2: expected , or }"]),
    ('{\n "defaultAction": "SCMP_ACT_ERRNO",\n}', ["line 3, column 1: expected a key in double quotes: no comma after the last"]),
    ('{"defaultAction": 1.5}', ["line 1, column 19: expected a value (a number must be whole)"]),
    ('{"defaultAction" "x"}', ["column 18: expected : after the key 'defaultAction'"]),
    ('{"defaultAction": "SCMP_ACT_ERRNO", "defaultAction": "SCMP_ACT_ALLOW"}', ["'defaultAction' is given twice"]),
    ('{"a": "b', ["string: Unterminated string"]), ('{"a": ', ["the file ends in the middle"]),
    ('{"defaultAction": "SCMP_ACT_ERRNO"} x', ["column 37: expected the end of the file"]),
    ('{"a": ' + "[" * 5000, ["nested too deeply"]), ("[]", ["expected an object with defaultAction"]),
    ('{"defaultAction": 1' + "0" * 30 + "}", ["more than 64 bits"]),
    ("{}", ["expected defaultAction"]), ('{"defaultAction": 3}', ["defaultAction: expected a string"]),
    (oci(defaultAction="SCMP_ACT_ALOW"), ["action 'SCMP_ACT_ALOW' is unknown (did you mean SCMP_ACT_ALLOW?)"]),
    (oci(defaultActions="x"), ["a profile has no key 'defaultActions' (did you mean defaultAction?)"]),
    (oci({"names": "socket", "arg": []}), ["a rule has no key 'arg' (did you mean args?)"]),
    (oci({"names": ""}), ["expected names"]), ({"defaultAction": "SCMP_ACT_LOG", "syscalls": [{"names": ["read"]}]},
                                                ["expected action"]),
    (oci(flags=["SECCOMP_FILTER_FLAG_LOG"]), ["flag SECCOMP_FILTER_FLAG_LOG can't be honoured"]),
    (oci(listenerPath="/run/x"), ["listenerPath: mrunc has no listener"]),
    (oci(defaultErrnoRet=0), ["errno 0: must be 1 to 4095"]), (oci(defaultErrnoRet=4096), ["errno 4096: must be 1 to 4095"]),
    (oci({"names": "read", "errnoRet": 5}), ["an errno goes with SCMP_ACT_ERRNO and SCMP_ACT_TRACE only"]),
    (oci(defaultErrno="ENOSUCH"), ["errno 'ENOSUCH' is unknown"]),
    (oci({"names": "read", "args": [arg(6, "EQ", 1)]}), ["argument 6: must be 0 to 5"]),
    (oci({"names": "read", "args": [arg(0, "EG", 1)]}), ["operator 'SCMP_CMP_EG' is unknown (did you mean"]),
    (oci({"names": "read", "args": [arg(0, "EQ", 1 << 64)]}), ["does not fit into 64 bits"]),
    (oci({"names": "read", "args": [arg(0, "EQ", -1)]}), ["does not fit"]),
    (oci({"names": "read", "args": [arg(0, "MASKED_EQ", 1, 2)]}), ["could never be equal"]),
    (oci({"names": "read", "args": [arg(0, "MASKED_EQ", 0, 0)]}), ["mask 0 tests nothing"]),
    (oci({"names": "read", "args": [{"index": 0, "value": 1}]}), ["expected index, value and op"]),
    (oci({"names": "read", "args": [{"index": True, "value": 1, "op": "SCMP_CMP_EQ"}]}), ["index: expected a whole number"]),
    (oci({"names": "read", "includes": {"minKernel": "four"}}), ['minKernel: expected a version like "4.8"']),
    (oci({"names": "read", "includes": {"caps": ["CAP_FLY"]}}), ["capability 'CAP_FLY' is unknown"]),
    (oci({"names": "read", "includes": {"arches": ["amd46"]}}), ["architecture 'amd46' is unknown (did you mean amd64?)"]),
    (oci({"names": "read", "includes": {"cap": []}}), ["includes has no key 'cap'"]),
    (oci({"names": "read"}, {"names": "read", "action": "SCMP_ACT_TRAP"}), ["conflicting rules for read: trap here, allow in line 1"]),
    (oci({"names": "read", "args": [arg(0, "EQ", 1)], "action": "SCMP_ACT_TRAP"}, {"names": "read"}), ["conflicting rules for read"]),
    (oci({"names": "read", "args": [arg(0, "GT", 1)], "action": "SCMP_ACT_TRAP"}, {"names": "read", "args": [arg(1, "EQ", 1)]}),
     ["and both can apply"]),
    # minijail
    ("opne: 1\n", ["line 1, column 1: no architecture has a system call 'opne' (did you mean open?)"]),
    ("read 1\n", ["line 1, column 6: expected :, found '1'"]), ("read:\n", ["expected a condition or an action", "end of the line"]),
    ("\nread: arg6 == 1\n", ["line 2, column 7: expected an argument: arg0 to arg5, found 'arg6'"]),
    ("read: arg0 = 1\n", ["column 12: expected an operator"]), ("read: arg0 ==\n", ["expected a number or a constant"]),
    ("read: arg0 == O_NOSUCH\n", ["constant O_NOSUCH is unknown here", "write its number"]),
    ("read: arg0 == O_RDONYL\n", ["did you mean O_RDONLY?"]), ("read: arg0 == 08\n", ["expected a number, found '08'"]),
    ("read: arg0 == 0x5q\n", ["expected a number, found '0x5q'"]), ("read: arg0 == 1_0\n", ["expected a number"]),
    ("read: arg0 == 0x10000000000000000\n", ["does not fit into 64 bits"]), ("read: arg0 & 0\n", ["mask 0 tests nothing"]),
    ("read: arg0 in ~0\n", ["always holds"]), ("read: arg0 == (1\n", ["expected ), found the end of the line"]),
    ("read: arg0 == ~~1\n", ["expected a number or a constant"]), ("read: arg0 == 1 write\n", ["expected the end of the line"]),
    ("read: arg0 == 1 &&\n", ["expected an argument"]), ("read: return\n", ["expected an errno"]),
    ("read: return 0\n", ["errno 0: must be 1 to 4095"]), ("read: return 4096\n", ["errno 4096"]),
    ("read: return ENOSUCH\n", ["expected an errno, found 'ENOSUCH'"]), ("read: alow\n", ["expected a condition or an action"]),
    ("read: arg0 == 1; return EPERM\n", ["column 16", "read in two ways", "{ CONDITION, ACTION }"]),
    ("read: { arg0 == 1, allow\n", ["expected }, found the end"]), ("read: 1\nread: 1\n", ["line 2, column 1: conflicting rules"]),
    ("@default allow\n", ["expected one of kill"]), ("@default kill\n@default trap\n", ["given twice"]),
    ("@defualt kill\n", ["unknown statement @defualt (did you mean @default?)"]), ("@include\n", ["expected a path after @include"]),
    ("read: 1\n@denylist\n", ["must stand before the first rule"]), ("@denylist\nread: 1\n", ["in a denylist every rule returns"]),
    ("@denylist\nread: arg0 == 1\n", ["in a denylist"]), ("@denylist\n@default kill\n", ["can't go with @denylist"]),
    ("file@ns: 1\n", ["groups of system calls"]), ("read[os=linux]: 1\n", ["expected arch"]), ("read: 1 $\n", ["unexpected character '$'"]),
]


@pytest.mark.parametrize("content,words", MISTAKES, ids=[str(number) for number in range(len(MISTAKES))])
def test_a_mistake_is_named_with_its_place(read, content, words):
    error = refused(read, content, *words)
    assert "\n" not in error.line() and len(error.line()) < 400


def test_a_policy_that_becomes_too_long_is_refused(read):
    rules = [{"names": ["mmap"], "action": "SCMP_ACT_ALLOW", "args": [arg((0, 1, 5)[n % 3], "EQ", (n + 1) << 30)]} for n in range(1600)]
    refused(read, {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}, "instructions: must be 1 to 4096")


def test_what_can_not_be_read(tmp_path):
    def why(path):
        with pytest.raises(SandboxError) as caught:
            files.read(str(path), "x86_64")
        assert caught.value.status == 2
        return caught.value.line()
    assert "there is no such file (did you mean strict?)" in why("strct")
    assert "No such file" in why(tmp_path / "x") and "not a regular file" in why(tmp_path)
    os.mkfifo(str(tmp_path / "fifo"))
    assert "not a regular file" in why(tmp_path / "fifo")
    with open(str(tmp_path / "large"), "wb") as stream:
        stream.truncate(50 << 20)
    assert "52428800 bytes: a policy has at most 1048576" in why(tmp_path / "large")


def test_damaged_files_are_refused_and_nothing_else(read):
    """Every cut and a thousand changed bytes of two good files: a policy or one clean refusal."""
    chance = random.Random(4)
    good = [json.dumps(real_form("docker", "x86_64")[1]), MINIJAIL]
    for text in good:
        for _ in range(500):
            at = chance.randrange(len(text))
            damaged = text[:at] + chance.choice(["", "{", "}", '"', ",", "0", "\\", "\n", ":", "-", "&", "x"]) + text[at + 1:]
            for content in (damaged, text[:at]):
                try:
                    bpf.verify(read(content).program)
                except SandboxError as error:
                    assert error.status == 2 and error.stage == "policy"


@pytest.mark.parametrize("arch", policy.ARCHES)
@pytest.mark.parametrize("name", ["docker", "podman"])
def test_the_real_profiles_decide_as_known(read, name, arch):
    facts, profile = real_form(name, arch)
    ask = read(profile, arch)
    answers = {"errno_%s" % word: bpf.errno(getattr(errno, word)) for word in ("EPERM", "ENOSYS", "EINVAL")}
    answers["allow"] = ALLOW
    default = answers["errno_" + facts["default"]]
    decided = {}
    for kind, calls in facts[arch].items():
        for call in calls if kind in answers else ():
            decided.setdefault(call, kind)  # podman's setns stands twice
    for call in policy.numbers(arch).NR:
        if call not in facts[arch].get("conditional", ()):
            assert ask(call) == answers.get(decided.get(call), default), call
    for number in (0x40000000, 0x400000A5, 9999, 0xFFFFFFFF):
        assert ask(number) == default


def test_additions_are_conditions_of_one_call():
    assert minijail.addition("clone3", "x86_64") == ("clone3", [[]])
    call, ways = minijail.addition("ioctl: arg1 == TIOCSTI || arg1 & 0xff00 == 0x5400 && arg0 != 3", "x86_64")
    assert call == "ioctl" and ways == [[bpf.Condition(1, "==", 0x5412)],
                                        [bpf.Condition(1, "&==", 0x5400, 0xFF00), bpf.Condition(0, "!=", 3)]]
    for text, words in [("opne", "did you mean open?"), ("ioctl:", "expected a condition after the colon"),
                        (": arg0 == 1", "expected NAME"), ("ioctl: arg1 == 1 x", "column 18: expected &&, || or the end"),
                        ("ioctl: 1", "expected an argument")]:
        with pytest.raises(SandboxError) as caught:
            minijail.addition(text, "x86_64")
        assert caught.value.status == 2 and words in caught.value.line(), caught.value.line()


# what attackers of our own found

def refused_file(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SandboxError) as caught:
        files.read(str(path), "x86_64", kernel=(6, 1))
    assert caught.value.status == 2
    return str(caught.value)


def test_two_tests_of_one_argument_in_an_oci_rule_are_refused(tmp_path):
    args = ",".join('{"index": 0, "value": %d, "op": "SCMP_CMP_EQ"}' % value for value in (16, 17))
    text = '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [%s]}]}'
    assert "two tests of argument 0 in one rule: runc and crun then take" in refused_file(tmp_path, "dup.json", text % args)


@pytest.mark.parametrize("test", ['"value": -1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"', '"value": 1, "valueTwo": 2, "op": "SCMP_CMP_EQ"',
                                  '"value": 99999999999999999999, "op": "SCMP_CMP_EQ"', '"value": 4294967296, "op": "SCMP_CMP_EQ"'])
def test_an_oci_number_that_means_nothing_is_refused(tmp_path, test):
    refused_file(tmp_path, "n.json", '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", '
            '"args": [{"index": 1, %s}]}]}' % test)


def test_a_negative_int_is_refused_in_either_width(tmp_path):
    path = tmp_path / "neg.policy"
    path.write_text("@denylist\nkill: { arg0 == -1; return EPERM }\n")
    program = files.read(str(path), "x86_64", kernel=(6, 1))[1]
    code = bpf.decode(program)
    for value in (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF):
        assert bpf.run(code, 62, 0xC000003E, (value, 0, 0, 0, 0, 0))[0] == bpf.errno(1)
    assert bpf.run(code, 62, 0xC000003E, (1, 0, 0, 0, 0, 0))[0] == ALLOW


def test_a_misspelt_architecture_is_refused(tmp_path):
    assert "architecture" in refused_file(tmp_path, "arch.policy", "@denylist\nkill[arch=amd64]: { return EPERM }\n")


def test_very_many_rules_and_very_deep_ones_are_refused_at_once(tmp_path):
    names = ",".join('"kill"' for _ in range(100000))
    text = '{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": [%s], "action": "SCMP_ACT_ALLOW"}]}' % names
    assert "more than" in refused_file(tmp_path, "many.json", text)
    refused_file(tmp_path, "deep.policy", "kill: arg0 == " + "(" * 100000 + "1" + ")" * 100000)


DENY = '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["%s"], "action": "SCMP_ACT_ERRNO", "args": [' \
       '{"index": %d, "value": %d, "op": "SCMP_CMP_%s"}]}]}'


def test_a_test_that_the_upper_half_walks_round_is_refused_or_narrow(tmp_path):
    assert "32 or 64 bits" in refused_file(tmp_path, "unsure.json", DENY % ("ptrace", 0, 0, "EQ"))
    assert "32 or 64 bits" in refused_file(tmp_path, "unknown.json", DENY % ("listns", 0, 0, "EQ"))
    path = tmp_path / "known.json"
    path.write_text(DENY % ("setuid", 0, 0, "EQ"))
    code = bpf.decode(files.read(str(path), "x86_64", kernel=(6, 1))[1])
    for value in (0, 1 << 32, 0xFFFFFFFF << 32):
        assert bpf.run(code, 105, 0xC000003E, (value, 0, 0, 0, 0, 0))[0] == bpf.errno(1)
    assert bpf.run(code, 105, 0xC000003E, (1, 0, 0, 0, 0, 0))[0] == ALLOW


def test_a_mode_is_compared_on_its_16_bits(read):
    """chmod(path, 0x14755) makes the file set-user-ID: the kernel drops the upper 16 bits."""
    ask = read((DENY % ("chmod", 1, 0o4755, "EQ")))
    assert ask("chmod", 0, 0o4755) == ask("chmod", 0, 0x10000 | 0o4755) == ask("chmod", 0, 1 << 40 | 0o4755) == EPERM
    assert ask("chmod", 0, 0o755) == ask("chmod", 0, 0x10000 | 0o755) == ALLOW
    ask = read((DENY % ("chmod", 1, 0o755, "NE")))
    assert ask("chmod", 0, 0x10000 | 0o755) == ALLOW and ask("chmod", 0, 0o4755) == EPERM
    refused(read, DENY % ("chmod", 1, 0o755, "GT"), "16 bits wide", "can't compare")
    refused(read, DENY % ("chmod", 1, 0x10755, "EQ"), "16 bits wide", "does not fit")


@pytest.mark.parametrize("call,index,words", [("getpid", 0, "has no argument 0: it takes 0"), ("read", 3, "takes 3")])
def test_an_argument_that_a_call_does_not_have_is_refused(read, call, index, words):
    refused(read, DENY % (call, index, 0, "EQ"), words)


OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "&==", "&!=")


@pytest.mark.parametrize("action", [ALLOW, EPERM])
@pytest.mark.parametrize("op", OPERATORS)
def test_a_test_of_an_unsure_argument_is_taken_exactly_if_no_upper_half_gets_more(op, action):
    """By brute force over small words: what passes with an upper half must pass without, what is refused stays so."""
    signs = {"==": int.__eq__, "!=": int.__ne__, "<": int.__lt__, "<=": int.__le__, ">": int.__gt__, ">=": int.__ge__}
    lows, highs, taken = (0, 1, 2, 3, 0xFFFFFFFE, 0xFFFFFFFF), (0, 1, 2, 0xFFFFFFFF), 0
    for value in [low | high << 32 for low in (1, 2, 0xFFFFFFFE) for high in (0, 1)]:
        for mask in [None] if op[0] != "&" else [mask for mask in (0xFFFFFFFF, 1 << 32 | 0xFFFFFFFF, (1 << 64) - 1)
                                                 if not value & ~mask]:
            def holds(word):
                return signs[op.lstrip("&")](word if mask is None else word & mask, value)
            gains = any(holds(low | high << 32) != holds(low) and holds(low) == (action != ALLOW)
                        for low in lows for high in highs)
            try:
                rules.refuse_unsure("ptrace", action, [bpf.Condition(2, op, value, mask, True)])
                taken += 1
                assert not gains, (op, hex(value), mask)
            except bpf.FilterError:
                assert gains or value > 0xFFFFFFFF, (op, hex(value), mask)
    assert taken or op not in ("==", "&==", "<", "<=") or action != ALLOW


def test_every_call_has_widths_but_the_ones_that_no_kernel_makes_or_are_too_new():
    """And the widths are those of the manual pages."""
    missing = {"_sysctl", "afs_syscall", "create_module", "epoll_ctl_old", "epoll_wait_old", "get_kernel_syms", "get_thread_area",
               "getpmsg", "lookup_dcookie", "nfsservctl", "putpmsg", "query_module", "security", "set_thread_area", "tuxcall",
               "uselib", "vserver", "fchroot", "listns", "rseq_slice_yield"}
    for arch in policy.ARCHES:
        assert not set(policy.numbers(arch).NR) - set(WIDTHS) - missing
    assert set("".join(WIDTHS.values())) == set("ihw?")
    for call, widths in (("read", "iww"), ("openat", "iwih"), ("socket", "iii"), ("clone", "i"), ("prctl", "i????"),
                         ("pwrite64", "iwww"), ("mknodat", "iwhi"), ("unshare", "?"), ("getrandom", "wwi"), ("kill", "ii")):
        assert WIDTHS[call].startswith(widths)


def test_the_kernel_takes_as_many_bits_as_the_table_says(tmp_path):
    """A deed for each letter: the same call with bits above the width set does the same."""
    libc = ctypes.CDLL(None, use_errno=True)
    numbers = policy.numbers(os.uname().machine).NR

    def call(name, *words):
        return libc.syscall(ctypes.c_ulong(numbers[name]), *[ctypes.c_ulong(word) for word in words])
    assert call("fchmodat", (1 << 32) - 100 | 5 << 32, 0, 0) == -1  # AT_FDCWD with another upper half, a null path: EFAULT
    assert ctypes.get_errno() == errno.EFAULT
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    buffer = ctypes.create_string_buffer(os.fsencode(str(path)))
    assert call("fchmodat", (1 << 32) - 100, ctypes.addressof(buffer), 0x70000 | 7 << 40 | 0o640) == 0
    assert path.stat().st_mode & 0o7777 == 0o640
    fd = os.open(str(path), os.O_RDONLY)
    try:
        room = ctypes.create_string_buffer(4)
        assert call("pread64", fd | 9 << 32, ctypes.addressof(room), 2, 1) == 2 and room.raw[:2] == b"12"
        assert call("pread64", fd, ctypes.addressof(room), 2, 1 << 32 | 1) == 0, "the offset has 64 bits"
        assert call("kill", os.getpid() | 3 << 32, 7 << 32) == 0
    finally:
        os.close(fd)


def test_the_generator_of_the_widths_is_cautious(tmp_path):
    made = runpy.run_path(os.path.join(ROOT, ".ci", "generate_widths.py"))
    source = ("SYSCALL_DEFINE3(one, int, fd, const char __user *, name, unsigned long, flags)\n"
              "COMPAT_SYSCALL_DEFINE1(two, int, x)\nSYSCALL_DEFINE0(three)\n"
              "SYSCALL_DEFINE2(four, umode_t, mode,\n\t\tenum landlock_rule_type, /* a, b */ rule)\n")
    assert made["declared"](source) == [("one", "iw?"), ("three", ""), ("four", "hi")]
    assert made["width"]("struct timespec64 __user *") == "w" and made["width"]("const clockid_t") == "i"
    assert made["width"]("short") == "!" and made["width"]("long") == "?"
    assert made["agreed"]({"iw", "ww"}) == "?w" and made["agreed"]({"ii", "iii"}) == "ii?"


@pytest.mark.parametrize("text", [
    "{ %s }: %s" % (", ".join(["read"] * 20000), " || ".join("arg0 == %d" % n for n in range(5000))),
    "{ %s }: %s" % (", ".join(sorted(policy.numbers("x86_64").NR)), " || ".join("arg0 == %d" % n for n in range(5000))),
    "read: " + " || ".join("arg0 == %d" % n for n in range(5000)),
    "".join("{ %s }: arg0 == %d\n" % (", ".join(sorted(policy.numbers("x86_64").NR)), n) for n in range(150)),
], ids=["the same name", "all names", "one call", "many lines"])
def test_more_rules_than_a_filter_holds_are_refused_before_they_are_made(tmp_path, text):
    words = refused_file(tmp_path, "many.policy", text)
    assert "is named twice" in words or "no filter holds so many" in words or "has no argument 0" in words


def test_includes_are_counted(tmp_path):
    (tmp_path / "one.policy").write_text("read: 1\n")
    assert "@include" in refused_file(tmp_path, "many.policy", "@include one.policy\n" * 20000)
    (tmp_path / "two.policy").write_text("# nothing\n" * 1000)
    assert "more than 100 times @include" in refused_file(tmp_path, "many.policy", "@include two.policy\n" * 20000)


def test_rules_that_would_take_minutes_to_compare_are_refused(tmp_path):
    rules = [{"names": ["mremap", "munmap", "mmap", "madvise", "mprotect"], "action": "SCMP_ACT_" + ("LOG", "ERRNO")[n % 2],
              "args": [arg(0, "EQ", n)]} for n in range(1900)]
    assert "rules of several actions" in refused_file(tmp_path, "pairs.json", json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))


@pytest.mark.parametrize("text", ["a" * 900000 + ": 1", "read: arg0 == " + "9" * 500000, "read: arg" + "9" * 500000 + " == 1",
                                  "@include " + "../" * 300000 + "x", "read: " + "\x1b" * 5,
                                  '{"defaultAction": "SCMP_ACT_ERRNO", "flags": ["' + "\\ud800" * 100000 + '"]}'])
def test_a_message_about_a_hostile_file_stays_short(tmp_path, text):
    path = tmp_path / "p"
    path.write_text(text)
    with pytest.raises(SandboxError) as caught:
        files.read(str(path), "x86_64")
    assert caught.value.status == 2 and len(caught.value.line()) < 700


@pytest.mark.parametrize("place", ["/dev/zero", "/dev/full", "/proc/self/mem", "fifo", "loop", ".", "/proc/self/fd/0"])
def test_what_is_no_regular_file_is_never_read_alone_or_included(tmp_path, place):
    os.mkfifo(str(tmp_path / "fifo"))
    os.symlink("loop", str(tmp_path / "loop"))
    (tmp_path / "p.policy").write_text("@include %s\n" % place)
    for name in (str(tmp_path / place), str(tmp_path / "p.policy")):
        with pytest.raises(SandboxError) as caught:
            files.read(name, "x86_64")
        assert caught.value.status == 2


def test_text_with_a_nul_says_for_what_it_is_taken(tmp_path):
    assert "it holds NUL bytes, so it must be a BPF program: " in refused_file(tmp_path, "p", "read: 1\nwrite\0: 1\n")
