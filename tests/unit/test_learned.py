# SPDX-License-Identifier: Apache-2.0
"""Learned policies as data: what was seen passes and nothing else, text and back, merging."""
import random

import pytest

import mrunc  # noqa: F401  registers the package
from mrunc import seccomp_bpf as bpf
from mrunc.sandbox.seccomp import choose, files, learned, learned_text, policy, tables
from mrunc.sandbox.errors import SandboxError
from mrunc.sandbox.seccomp.learned import HELD, Judge, Learned

ARCHES = policy.ARCHES
#: Values that programs use, so that names are met, and some without a name.
VALUES = {"ioctl": [(0x5401,), (0x5413,), (0x541B,), (0x5412,), (0x80086601,), (0x40049409,), (0xC020660B,)],
          "fcntl": [(0,), (1,), (2,), (3,), (4,), (0x406,), (0x409,), (77,)],
          "prctl": [(1,), (4,), (15,), (16,), (38,), (0x53564D41,), (0x59616D61,), (4096,)],
          "socket": [(1, 1), (1, 0x80001), (1, 0x80802), (2, 1), (16, 3), (99, 15), (1, 0x100001)],
          "clone": [(0x1200011,), (0x4111,), (0x3D0F00,), (0x10000011,), (17,), (0,), (0x11 | 1 << 31,)]}


def compiled(text, arch, tmp_path):
    path = tmp_path / "learned"
    path.write_text(text)
    return bpf.decode(files.read(str(path), arch)[1])


def answer(code, arch, call, args=()):
    table = policy.numbers(arch)
    vector = tuple(args.get(index, 0) for index in range(6)) if isinstance(args, dict) else tuple(args) + (0,) * (6 - len(args))
    return bpf.run(code, table.NR[call], table.AUDIT_ARCH, vector)[0]


def made_up(rng, arch):
    """Observations of a program that keeps to the default policy, and of one that does not always."""
    judge, found = Judge(arch), Learned(1, ["made up"])
    for call in rng.sample(sorted(policy.numbers(arch).NR), rng.randrange(1, 60)):
        if call in HELD or call in learned.BLIND:
            continue
        found.see(call, None, rng.choice((1, 1, 2, 900)))
        if judge.tested(call) and rng.random() < 0.3:
            found.outside.add(call)
    for call, values in VALUES.items():
        for each in rng.sample(values, rng.randrange(len(values))):
            found.see(call, each, rng.choice((1, 3)))
    return found


@pytest.mark.parametrize("arch", ARCHES)
def test_what_was_seen_passes_and_nothing_else_does(arch, tmp_path):
    rng, judge = random.Random(20261125), Judge(arch)
    base = dict(learned.BASE)
    for _ in range(25):
        found = made_up(rng, arch)
        text = learned_text.write(found, arch)
        code = compiled(text, arch, tmp_path)
        marked = text.partition("# " + learned_text.REFUSED + "\n")[2].split("\n\n")[0]
        marked = {line.split(":")[0] for line in marked.split("\n")}
        assert not choose.lacking(b"".join(bpf.encode([word]) for word in code), arch, tty=False), "pid 1 runs behind it"
        for call in policy.numbers(arch).NR:
            seen = found.calls.get(call, {})
            if call in HELD:
                for values in VALUES[call]:
                    args = dict(zip(HELD[call], values))
                    allowed = answer(code, arch, call, args) == bpf.ALLOW
                    enough = base.get(call) and learned_text._tests(call, values) == learned_text.conditions_of(call, base[call])
                    assert allowed == (values in seen or bool(enough)), (call, values)
            elif call in base and base[call] is None:
                assert answer(code, arch, call) == bpf.ALLOW
            elif not seen and call not in base:
                assert answer(code, arch, call) == bpf.errno(38), call
            elif seen and judge.tested(call) and call not in found.outside:  # the default's own tests are kept
                for _ in range(20):
                    args = [rng.choice((0, 1, 2, 8, 0x1000, 0x2000, 0xC000, 0xFFFFFFFF, rng.getrandbits(32))) for _ in range(6)]
                    assert (answer(code, arch, call, args) == bpf.ALLOW) == judge.allows(call, dict(enumerate(args))), (call, args)
            elif seen:
                assert answer(code, arch, call, [rng.getrandbits(64) for _ in range(6)]) == bpf.ALLOW
                assert judge.refuses(call) is None or call in marked, "no line is looser than the default without a word"
        assert answer(code, arch, "clone3") == bpf.errno(38) and answer(code, arch, "io_uring_setup") == bpf.errno(38)


@pytest.mark.parametrize("arch", ARCHES)
def test_x32_and_foreign_calls_stay_out(arch, tmp_path):
    found = Learned(1)
    for call in policy.numbers(arch).NR:
        if call not in HELD and call not in learned.BLIND:
            found.see(call, None)
    code, table = compiled(learned_text.write(found, arch), arch, tmp_path), policy.numbers(arch)
    other = policy.numbers([each for each in ARCHES if each != arch][0])
    for number in (0, 1, 59, 512):
        assert bpf.run(code, number, other.AUDIT_ARCH)[0] == bpf.KILL_PROCESS
        assert bpf.run(code, number | policy.X32_BIT, table.AUDIT_ARCH)[0] == bpf.errno(38)


@pytest.mark.parametrize("arch", ARCHES)
def test_text_and_back_is_the_same_text(arch):
    rng = random.Random(7)
    for _ in range(30):
        found = made_up(rng, arch)
        text = learned_text.write(found, arch)
        back = learned_text.read("p", text.encode(), arch)
        assert learned_text.write(back, arch) == text
        assert set(found.calls) - set(dict(learned.BASE)) == set(back.calls) - set(dict(learned.BASE))
        assert back.runs == found.runs and back.lines == found.lines


def test_merging_loses_nothing_and_knows_no_order(tmp_path):
    rng = random.Random(11)

    def text(*parts):
        whole = Learned()
        for part in parts:
            whole.merge(learned_text.read("p", learned_text.write(part, "x86_64").encode(), "x86_64"))
        whole.lines = []
        return learned_text.write(whole, "x86_64")
    for _ in range(15):
        one, two, three = (made_up(rng, "x86_64") for _ in range(3))
        assert text(one, two, three) == text(three, one, two)
        union = compiled(text(one, two), "x86_64", tmp_path)
        for part in (one, two):
            for call, seen in part.calls.items():
                for values in seen:
                    args = dict(zip(HELD[call], values)) if values else {}
                    assert answer(union, "x86_64", call, args) == bpf.ALLOW or Judge("x86_64").tested(call)


def test_what_was_seen_once_is_marked_until_it_is_seen_again():
    def rules(*counts):
        whole = Learned()
        for count in counts:
            one = Learned(1)
            one.see("chdir", None, count)
            one.see("fcntl", (1,), count)
            whole.merge(learned_text.read("p", learned_text.write(one, "x86_64").encode(), "x86_64"))
        return [line for line in learned_text.write(whole, "x86_64").split("\n") if line.startswith(("chdir", "fcntl: arg1 == F_GETFD"))]
    assert rules(1) == ["chdir: 1  # once", "fcntl: arg1 == F_GETFD  # once"]
    assert rules(1, 1) == rules(5) == ["chdir: 1", "fcntl: arg1 == F_GETFD"]


def test_many_values_of_a_call_become_all_that_the_default_lets_pass(tmp_path):
    found = Learned(1)
    for request in sorted(request for _, names in tables.IOCTLS for request in names)[:learned.MOST_VALUES + 1]:
        found.see("ioctl", (request,))
    text = learned_text.write(found, "x86_64")
    assert "# any value: only up to 32 are held on to" in text and "the default policy refuses" not in text
    code = compiled(text, "x86_64", tmp_path)
    assert answer(code, "x86_64", "ioctl", {1: 0x40049409}) == bpf.ALLOW
    assert answer(code, "x86_64", "ioctl", {1: 0x1234}) == bpf.errno(25)
    assert answer(code, "x86_64", "ioctl", {1: 0x5412}) == bpf.errno(1), "TIOCSTI is not among them"
    assert learned_text.write(learned_text.read("p", text.encode(), "x86_64"), "x86_64") == text
    many = Learned(1)
    for number in range(40):
        many.see("socket", (number, 1))
        many.see("clone", (number << 8 | 17,))
    code = compiled(learned_text.write(many, "x86_64"), "x86_64", tmp_path)
    assert answer(code, "x86_64", "socket", {0: 39, 1: 1}) == bpf.ALLOW
    assert answer(code, "x86_64", "socket", {0: 40, 1: 1}) == bpf.errno(97), "never widened"
    assert answer(code, "x86_64", "clone", {0: 0x10000011}) == bpf.errno(1)


def test_constants_have_their_c_names():
    found = Learned(1)
    for call, values in VALUES.items():
        for each in values:
            found.see(call, each, 2)
    lines = learned_text.write(found, "x86_64").split("\n")
    for line in ("ioctl: arg1 == TCGETS", "ioctl: arg1 == FIONREAD", "fcntl: arg1 == F_DUPFD",
                 "ioctl: arg1 == 0xc020660b  # the default policy refuses this", "fcntl: arg1 == F_ADD_SEALS",
                 "fcntl: arg1 == 0x4d  # the default policy refuses this", "prctl: arg0 == PR_SET_NAME", "prctl: arg0 == PR_SET_VMA",
                 "socket: arg0 == AF_UNIX && arg1 == SOCK_STREAM|SOCK_CLOEXEC",
                 "socket: arg0 == AF_INET && arg1 == SOCK_STREAM  # the default policy refuses this",
                 "clone: arg0 == CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD",
                 "clone: arg0 == CLONE_NEWUSER|SIGCHLD  # the default policy refuses this",
                 "ioctl: arg1 == TIOCSTI  # the default policy refuses this"):
        assert line in lines, line
    inner = [line.split(":")[0] for line in lines if ": arg" in line]
    assert "clone" in inner and lines.count("clone: arg0 == CLONE_VM|CLONE_VFORK|SIGCHLD") == 1, "mrunc's own is not repeated"


def test_each_call_has_its_section():
    places = learned_text._places()
    assert {call for _, call in learned_text.SECTIONS} <= set(places)
    assert all(places[call] >= 0 for call in policy.decisions("default", "x86_64"))
    assert [places[call] for call in ("openat", "mmap", "clone", "epoll_wait", "connect")] == [0, 1, 2, 3, 4]


def test_a_command_line_can_not_leave_its_comment():
    hostile = ["sh", b"-c", "a\nmount: 1\r\x1b[31m \x85\u2028#", b"\xff", ""]
    found = Learned(1, [learned_text.shown(hostile), learned_text.shown(["x" * 9999])])
    text = learned_text.write(found, "x86_64")
    assert text.encode("ascii") and max(map(len, text.split("\n"))) < 300
    assert "mount" not in learned_text.read("p", text.encode(), "x86_64").calls


@pytest.mark.parametrize("content, said", [
    ("@default kill\nread: 1\n", "expected @default return ENOSYS"), ("read: 1\n", "not a learned policy"),
    ("@default return EPERM\nread: 1\n", "expected @default return ENOSYS"),
    ("@default return ENOSYS\nopenat: arg2 == 0\n", "line 2, column 1: a rule that learning does not write"),
    ("@default return ENOSYS\nioctl: arg1 & 4\n", "a rule that learning does not write"),
    ("@default return ENOSYS\nsocket: arg0 == AF_UNIX\n", "a rule that learning does not write"),
    ("@default return ENOSYS\nopenat: return EPERM\n", "a rule that learning does not write"),
    ("@default return ENOSYS\nnosuch: 1\n", "no architecture has"), ("@denylist\nread: return 1\n", "not a learned policy"),
    ("\xff", "is not text")])
def test_what_merging_would_lose_is_refused(content, said):
    with pytest.raises(SandboxError) as caught:
        learned_text.read("p", content.encode("latin-1"), "x86_64")
    assert caught.value.status == 2 and said in caught.value.line()


def test_a_rule_added_by_hand_is_merged():
    text = "@default return ENOSYS\nopenat: 1\nsocket: arg0 == 1 && arg1 == 1 || arg0 == 1 && arg1 == 2\n{ chdir, fchdir }: 1\nprctl: 1\n"
    found = learned_text.read("p", text.encode(), "x86_64")
    assert found.calls == {"openat": {None: 2}, "socket": {(1, 1): 2, (1, 2): 2}, "chdir": {None: 2}, "fchdir": {None: 2},
                           "prctl": {None: 2}}


def test_a_file_of_the_other_architecture_is_merged_by_name():
    one = Learned(1)
    for call in ("open", "stat", "arch_prctl", "openat"):
        one.see(call, None)
    text = learned_text.write(learned_text.read("p", learned_text.write(one, "x86_64").encode(), "aarch64"), "aarch64")
    assert {"open: 1  # once", "arch_prctl: 1  # once"} <= set(text.split("\n"))


def test_the_two_forms_beyond_minijails(tmp_path):
    path = tmp_path / "p"
    path.write_text("@default return ENOSYS\nmknod: arg1 & S_IFMT == S_IFIFO\nread: 1\n")
    code = bpf.decode(files.read(str(path), "x86_64")[1])
    assert answer(code, "x86_64", "mknod", {1: 0o10644}) == bpf.ALLOW and answer(code, "x86_64", "mknod", {1: 0o100644}) == bpf.errno(38)
    assert answer(code, "x86_64", "getpid") == bpf.errno(38)
