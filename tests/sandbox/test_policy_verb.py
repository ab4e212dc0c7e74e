# SPDX-License-Identifier: Apache-2.0
"""`mrunc policy`: what it shows, compares and exports, and what bwrap, runc, crun and libseccomp make of the exports."""
import errno
import itertools
import json
import multiprocessing
import os
import random
import runpy
import shutil
import stat
import subprocess
import tempfile
from concurrent.futures import ProcessPoolExecutor

import pytest

import mrunc
from conftest import PYTHON, ROOT
from mrunc.commands import dispatch
from mrunc import seccomp_bpf as bpf
from mrunc.commands.policy import call_names, export, filter_diff, filter_text, \
    paths as filter_paths, peer_table, peers
from mrunc.sandbox.seccomp import policy, shipped
from mrunc.sandbox.errors import SandboxError

bench = runpy.run_path(os.path.join(ROOT, "bench", "bpf.py"))
NATIVE = os.uname().machine
EVERY = [(name, arch) for name in policy.NAMES for arch in policy.ARCHES]


@pytest.fixture
def cli(capfd):
    """cli(words...) -> (status, stdout, stderr) of `mrunc policy`, through the entry point in this process."""
    def call(*words):
        status = dispatch.main(["policy", *words])
        out, err = capfd.readouterr()
        return status, out, err
    return call


def real(*words, **settings):
    """`mrunc policy` as its own process; stdout in bytes."""
    done = subprocess.run([PYTHON, "-I", "-S", os.path.join(ROOT, "mrunc.py"), "policy", *words], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=120, **settings)
    return done.returncode, done.stdout, done.stderr.decode()


def named(name, arch):
    return shipped.program(name, arch)


def compiled(rules, arch="x86_64", default=bpf.errno(errno.ENOSYS)):
    table = policy.numbers(arch)
    return bpf.compile_policy(bpf.Policy(table.AUDIT_ARCH, default, {table.NR[call]: rule for call, rule in rules.items()}))


def compare(one, two, arches=("x86_64",)):
    return filter_diff.differences((lambda arch: one, lambda arch: two), arches)


# Ways and cubes

def matches(words, args):
    values = {16 + 8 * at + half: args[at] >> (8 * half) & 0xFFFFFFFF for at in range(6) for half in (0, 4)}
    return all(any(values[offset] & mask == value for value, mask in cubes) for offset, cubes in words.items())


@pytest.mark.parametrize("name, arch", EVERY)
def test_the_ways_say_what_the_interpreter_says_and_exclude_each_other(name, arch):
    model, code, audit = policy.policy(name, arch), bpf.decode(named(name, arch)), policy.numbers(arch).AUDIT_ARCH
    for number in list(range(500)) + [0x40000000, 0x40000010, 0xFFFFFFFF]:
        ways = filter_paths.ways(code, number, audit)
        for args in bench["corners"](model.rules.get(number, 0)):
            found = [action for action, words in ways if matches(words, args)]
            assert found == [bpf.run(code, number, audit, args)[0]], (number, args)


def random_policy(seed, arch="x86_64"):
    chance = random.Random(seed)
    calls = chance.sample(sorted(policy.numbers(arch).NR), 25)
    actions = [bpf.ALLOW, bpf.errno(1), bpf.errno(38), bpf.KILL_PROCESS, bpf.LOG]

    def condition():
        wide = chance.random() < 0.3
        limit = (1 << 64) - 1 if wide else 0xFFFFFFFF
        op = chance.choice(["==", "!=", "<", "<=", ">", ">=", "&==", "&!="])
        mask = chance.randint(1, limit) & chance.randint(1, limit) or 1
        value = chance.choice([0, 1, 5, 0x5412, limit, chance.randint(0, limit)]) & limit
        return bpf.Condition(chance.randint(0, 2), op, value & mask if op[0] == "&" else value, mask if op[0] == "&" else None, wide)
    rules = {}
    for call in calls:
        rules[policy.numbers(arch).NR[call]] = chance.choice(actions) if chance.random() < 0.4 else [
            (chance.choice(actions), [condition() for _ in range(chance.randint(1, 2))]) for _ in range(chance.randint(1, 3))]
    return bpf.Policy(policy.numbers(arch).AUDIT_ARCH, chance.choice(actions), rules)


def differ_exactly(seed):
    """Of two random policies: nothing is invented (each example is run), nothing missed (brute force over the corners of both)."""
    models = [random_policy(seed), random_policy(seed + 1000)]
    models[1].rules.update({nr: rule for at, (nr, rule) in enumerate(models[0].rules.items()) if at % 2})
    programs = [bpf.compile_policy(model) for model in models]
    codes, audit = [bpf.decode(program) for program in programs], models[0].arch
    found, tried = compare(*programs)
    assert not tried
    claimed = {}
    for each in found:
        if each.arch == "x86_64":
            for number in range(each.first, min(each.last, 600) + 1):
                claimed.setdefault(number, set()).add((each.one, each.two))
            for args in each.examples:
                answers = [bpf.run(code, each.first, audit, [arg or 0 for arg in args])[0] for code in codes]
                assert answers == [each.one, each.two] and answers[0] != answers[1]
    for number in range(600):
        rules = [entry for model in models if isinstance(model.rules.get(number), list) for entry in model.rules[number]]
        for args in bench["corners"](rules)[:3000]:
            pair = tuple(bpf.run(code, number, audit, args)[0] for code in codes)
            if pair[0] != pair[1]:
                assert pair in claimed.get(number, ()), (number, args)


@pytest.fixture(scope="module")
def compared(request):
    """{seed: Future of `differ_exactly`} for the seeds of this run, by two processes."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        return {item.callspec.params["seed"]: pool.submit(differ_exactly, item.callspec.params["seed"])
                for item in request.session.items if "compared" in item.fixturenames}


@pytest.mark.parametrize("seed", range(60))
def test_two_random_policies_differ_exactly_where_the_interpreter_finds_it(compared, seed):
    compared[seed].result()


def test_a_single_constant_in_64_bits_is_found():
    rule = [(bpf.ALLOW, [])]
    needle = [(bpf.errno(1), [bpf.Condition(1, "==", 0x123456789ABCDEF0, wide=True)]), (bpf.ALLOW, [])]
    found, _ = compare(compiled({"ioctl": rule}), compiled({"ioctl": needle}))
    assert [(each.first, each.examples) for each in found] == [(16, [(None, 0x123456789ABCDEF0, None, None, None, None)])]


def test_a_filter_that_compares_all_64_bits_is_told_from_one_that_does_not():
    narrow = [(bpf.errno(1), [bpf.Condition(1, "==", 0x5412)]), (bpf.ALLOW, [])]
    wide = [(bpf.errno(1), [bpf.Condition(1, "==", 0x5412, wide=True)]), (bpf.ALLOW, [])]
    found, _ = compare(compiled({"ioctl": narrow}), compiled({"ioctl": wide}))
    assert len(found) == 1 and found[0].one == bpf.errno(1) and found[0].two == bpf.ALLOW
    value = found[0].examples[0][1]
    assert value & 0xFFFFFFFF == 0x5412 and value >> 32


def test_a_program_that_computes_with_arguments_is_tried_and_says_so():
    code = bpf.encode([(bpf.LD, 0, 0, 24), (0x04, 0, 0, 1), (bpf.JEQ, 0, 1, 7), (bpf.RET, 0, 0, bpf.errno(1)),
                       (bpf.RET, 0, 0, bpf.ALLOW)])
    found, tried = compare(code, bpf.encode([(bpf.RET, 0, 0, bpf.ALLOW)]))
    assert "x86_64" in tried and any(6 in args for each in found for args in each.examples)
    with pytest.raises(SandboxError, match="OCI"):
        export.oci(code, "x86_64", "x")


def test_numbers_of_other_architectures_are_compared_too():
    """A filter that lets 32-bit calls through is a hole in one for 64-bit calls."""
    code = bpf.decode(named("default", "x86_64"))
    holed = bpf.encode([(bpf.LD, 0, 0, 4), (bpf.JEQ, 0, 1, 0x40000003), (bpf.RET, 0, 0, bpf.ALLOW)] + code)
    found, _ = compare(named("default", "x86_64"), holed)
    assert [(each.arch, each.first, each.last, each.one, each.two) for each in found] == \
        [("i386", 0, 0xFFFFFFFF, bpf.KILL_PROCESS, bpf.ALLOW)]


@pytest.mark.parametrize("least", [0, 1, 2, 3, 0x5412, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF])
def test_an_order_comparison_is_cut_exactly(least):
    for test, wanted in itertools.product((bpf.JGE, bpf.JGT), (True, False)):
        cubes = filter_paths._cut([(0, 0)], 0xFFFFFFFF, test, least, wanted)
        for word in {0, 1, 2, 3, 4, least, max(least - 1, 0), min(least + 1, 0xFFFFFFFF), 0x5411, 0x7FFFFFFF, 0xFFFFFFFF}:
            hits = sum(word & mask == value for value, mask in cubes)
            assert hits == (((word >= least) if test == bpf.JGE else (word > least)) == wanted), (word, cubes)


# show

def test_show_names_each_call_once_with_a_reason(cli):
    for name, arch in EVERY:
        status, out, _ = cli("show", name, "--arch", arch, "--json")
        shown = json.loads(out)
        assert status == 0 and shown["instructions"] == len(named(name, arch)) // 8
        calls = [call for group in shown["groups"] for call in group["calls"]]
        assert sorted(calls) == sorted(policy.numbers(arch).NR)
        assert all(group["reason"] for group in shown["groups"])
        for group in shown["groups"]:
            for call in group["calls"]:
                rule = policy.decisions(name, arch)[call][0]
                assert group["decision"] == (rule if isinstance(rule, str) else "by argument")


def test_show_is_for_reading(cli):
    status, out, err = cli("show")
    assert (status, err) == (0, "")
    assert out.startswith("default on %s, %d instructions: " % (NATIVE, len(named("default", NATIVE)) // 8))
    assert "Other numbers: ENOSYS. Another architecture: kill_process." in out
    assert "allow: random numbers (node aborts without)\n    getrandom\n" in out
    assert "socket socketpair: allow if family == AF_UNIX; EAFNOSUPPORT otherwise" in out
    assert "clone: allow if flags & (CLONE_NEWNS|CLONE_NEWCGROUP|" in " ".join(out.split())
    assert max(map(len, out.split("\n"))) <= 120


def test_show_bpf_names_calls_arguments_and_actions(cli):
    status, out, _ = cli("show", "default", "--bpf", "--arch", "x86_64")
    assert status == 0 and "if arch == x86_64 goto" in out and "(socket)" in out and "return errno EPERM" in out
    assert "load arg1" in out and len(out.splitlines()) == len(named("default", "x86_64")) // 8
    assert json.loads(cli("show", "--bpf", "--json")[1])["bpf"][0].endswith("load arch")


@pytest.mark.parametrize("name, arch", EVERY)
def test_what_is_read_from_the_bytes_is_what_the_table_says(name, arch):
    said = dict(filter_text.decisions(named(name, arch), arch, filter_paths.Budget()))
    for call, (rule, _) in policy.decisions(name, arch).items():
        if isinstance(rule, str):
            assert said[call] == rule.replace("kill", "kill_process"), call
        else:
            assert isinstance(said[call], tuple), call


def test_show_reads_a_program_file(cli, tmp_path):
    path = str(tmp_path / "p.bpf")
    with open(path, "wb") as out:
        out.write(policy.exported("default", "x86_64"))
    status, out, _ = cli("show", path, "--arch", "x86_64")
    assert status == 0 and "EPERM if request == TIOCSTI or request == TIOCLINUX or request == TIOCSETD" in out
    assert "socket: allow if family == AF_UNIX; EAFNOSUPPORT otherwise" in out


# explain

def test_explain_says_decision_reason_and_who_else(cli):
    status, out, _ = cli("explain", "ptrace")
    assert status == 0
    for text in ("ptrace (x86_64 101, aarch64 117)", "default: EPERM\n    debugging another process", "strict: kill",
                 "debug: allow", "docker      allows", "snapd       EPERM", "bubblewrap  has no policy of its own; flatpak: EPERM"):
        assert text in out, text
    assert cli("explain", "101", "--arch", "x86_64")[1] == out
    assert cli("explain", "ptrace", "--policy", "strict")[1].split("\n")[2] == "strict: kill"
    data = json.loads(cli("explain", "clone3", "--json")[1])
    assert data["policies"]["default"]["decision"] == "ENOSYS" and data["numbers"] == {"x86_64": 435, "aarch64": 435}
    assert data["peers"]["docker"] == [{"policy": "docker", "answer": "ENOSYS", "tests": ""}]


def test_explain_knows_every_call():
    for call in set(policy.numbers("x86_64").NR) | set(policy.numbers("aarch64").NR):
        for peer in peer_table.ORDER:
            assert peer_table.answers(peer, call)[0][1]


# diff

def test_diff_prints_a_counter_example_for_each_difference(cli):
    status, out, err = cli("diff", "default", "strict")
    assert (status, err) == (1, "")
    assert "default allows fchmod(fd, S_ISGID), strict answers EPERM" in out
    assert "default answers EPERM to ptrace(), strict kills the process" in out
    assert "default allows shmget(), strict answers ENOSYS" in out
    status, out, _ = cli("diff", "debug", "default", "--arch", "x86_64")
    assert "debug allows ptrace(), default answers EPERM\n" in out and "ADDR_NO_RANDOMIZE" in out and status == 1


def test_diff_names_terminal_injection(cli, tmp_path):
    """The example of the manual: a filter that forgot TIOCSTI."""
    model = policy.policy("default", "x86_64")
    # A program from a file may not answer 0 for what it refuses, as the shipped one does for core dumps.
    model.rules.update({16: bpf.ALLOW, 160: bpf.ALLOW, 302: bpf.ALLOW})
    path = str(tmp_path / "open.bpf")
    with open(path, "wb") as out:
        out.write(bpf.compile_policy(model))
    status, out, _ = cli("diff", path, "default", "--arch", "x86_64")
    assert status == 1
    assert "%s allows ioctl(fd, TIOCSTI), default answers EPERM (also ioctl(fd, TIOCLINUX), ioctl(fd, TIOCSETD))\n" % path in out
    data = json.loads(cli("diff", path, "default", "--arch", "x86_64", "--json")[1])
    typed = [row for row in data["differences"] if row["call"] == "ioctl" and row["b"] == "EPERM"]
    assert [row["examples"][0][1] for row in typed] == [0x5412]


def test_diff_of_the_same_is_none_and_a_program_for_one_architecture_says_so(cli, tmp_path):
    assert cli("diff", "default", "default")[:2] == \
        (0, "no difference: every call number, every argument, on x86_64, aarch64\n")
    path = str(tmp_path / "x.bpf")
    assert cli("export", "default", "--format", "bpf", "--arch", "x86_64", "-o", path)[0] == 0
    lines = cli("diff", "default", path)[1].splitlines()
    assert [line for line in lines if "RLIMIT_CORE" not in line] == \
        ["%s kills the process at every call, default does not  [aarch64]" % path]
    assert len(lines) == 4  # of RLIMIT_CORE, which the exported one lets be


# Against other sandboxes

def test_the_facts_are_what_was_collected():
    done = subprocess.run([PYTHON, os.path.join(ROOT, ".ci", "generate_peers.py"), "--check"], stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert os.path.getsize(peers.__file__.replace(".pyc", ".py")) < 200000


def test_the_peers_names_exist():
    for peer, facts in peers.PEERS.items():
        assert facts["source"] and facts["version"] and facts["licence"] and facts["says"], peer
        assert all(other in peers.PEERS for other in facts["typical"])
        for arch, answers in facts["calls"].items():
            names = [name for some in answers.values() for name in some.split()]
            assert len(names) == len(set(names)) and set(names) <= set(policy.numbers(arch).NR), (peer, arch)
    assert [peer for peer in peer_table.ORDER if not peers.PEERS[peer]["own"]] == ["bubblewrap", "nsjail"]


@pytest.mark.parametrize("arch", policy.ARCHES)
@pytest.mark.parametrize("name", ["docker", "podman"])
def test_the_facts_agree_with_the_profiles_that_are_compiled(name, arch):
    model, code = bench["profile"](name, arch), None
    code = bpf.decode(bpf.compile_policy(model))
    for call, number in policy.numbers(arch).NR.items():
        actions = {action for action, _ in filter_paths.ways(code, number, model.arch)}
        said = peer_table.answer(name, call, arch)
        assert said == ("args" if len(actions) > 1 else filter_paths.action_text(actions.pop())), call


@pytest.mark.parametrize("peer, call, wanted", [
    ("docker", "ptrace", "+"), ("docker", "clone", "?"), ("docker", "mount", "-"), ("podman", "mount", "+"),
    ("podman", "setns", "+"), ("flatpak", "ioctl", "?"), ("flatpak", "read", "+"), ("firejail", "ptrace", "-"),
    ("bubblewrap", "ptrace", "?"), ("bubblewrap", "read", "+"), ("nsjail", "ptrace", "-"), ("nsjail", "mount", "+"),
    ("systemd", "mount", "-"), ("chromium", "clone3", "-"), ("gvisor", "execve", "-"), ("minijail", "bpf", "-"),
    ("minijail", "read", "+"), ("snapd", "mknod", "?")])
def test_the_table_says_who_lets_what_through(peer, call, wanted):
    assert peer_table.sign(peer, call) == wanted


def test_the_table_in_three_forms(cli):
    wanted = "docker,podman,gvisor,minijail,bubblewrap,flatpak,systemd,firejail,snapd,nsjail,chromium"
    status, text, err = cli("diff", "default", "--against", wanted)
    assert (status, err) == (0, "")
    assert "none of its own" in text and "none: nsjail installs no filter" in " ".join(text.split())
    data = json.loads(cli("diff", "default", "--against", wanted, "--json")[1])
    assert {row["call"] for row in data["calls"]} == set(policy.numbers("x86_64").NR) | set(policy.numbers("aarch64").NR)
    assert all(row["reason"] and set(row["peers"]) == set(wanted.split(",")) for row in data["calls"])
    assert all(data["peers"][peer]["version"] and data["peers"][peer]["path"] for peer in wanted.split(","))
    marks = cli("diff", "default", "--against", wanted, "--markdown")[1]
    named_there = {word.strip("`:") for line in marks.split("\n") for word in line.split("|")[2:3] for word in word.split()
                   if word.startswith("`")}
    assert set(policy.numbers("x86_64").NR) | set(policy.numbers("aarch64").NR) <= named_there
    assert "docker" in cli("diff", "strict", "--against", "docker")[1]


def test_the_document_lists_what_strict_breaks():
    strict = runpy.run_path(os.path.join(ROOT, "bench", "strict.py"))
    with open(os.path.join(ROOT, "docs", "policy.md"), encoding="utf-8") as stream:
        text = stream.read()
    for title, command in strict["USES"]:
        broken = strict["run"](command, {}, "strict")[:2] != strict["run"](command, {}, None)[:2]
        assert broken == ("\n| %s |" % title in text), title


def test_the_document_is_in_step():
    done = subprocess.run([PYTHON, os.path.join(ROOT, ".ci", "docs.py"), "--check"], stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr


# Mistakes

@pytest.mark.parametrize("words, message", [
    (["shwo"], "unknown action shwo (did you mean show?)"),
    (["show", "defualt"], "no policy and no file is called defualt (did you mean default?)"),
    (["show", "a", "b"], "policy: show takes one NAME or FILE at most"),
    (["show", "--arch", "riscv64"], "--arch riscv64: it is one of: x86_64, aarch64"),
    (["show", "--bfp"], "unknown option --bfp (did you mean --bpf?)"),
    (["show", "--markdown"], "policy: show takes no --markdown"),
    (["explain"], "policy: explain takes one system call"),
    (["explain", "ptracee"], "no system call is called ptracee (did you mean ptrace?)"),
    (["explain", "fork", "--arch", "aarch64"], "no system call of aarch64 is called fork"),
    (["explain", "9999", "--arch", "x86_64"], "no system call of x86_64 has the number 9999"),
    (["explain", "read", "--policy", "x"], "--policy x: it is one of"),
    (["export", "default"], "policy: export needs --format: it is one of: bpf, oci"),
    (["export", "default", "--format", "elf"], "--format elf: it is one of: bpf, oci"),
    (["export", "default", "--format", "bpf", "-o", "/nonexistent/x"], "-o /nonexistent/x: No such file or directory"),
    (["diff", "default"], "policy: diff takes A and B, or one --against"),
    (["diff", "default", "strict", "--against", "docker"], "policy: diff --against takes one NAME"),
    (["diff", "default", "--against", "dockr"], "--against dockr (did you mean docker?)"),
    (["diff", "default", "--against", "all", "--json", "--markdown"], "--json and --markdown exclude each other"),
    (["diff", "x.bpf", "--against", "docker"], "--against compares a shipped policy, not x.bpf"),
])
def test_a_mistake_is_named_and_exits_2(cli, words, message):
    status, out, err = cli(*words)
    assert (status, out) == (2, "") and message in err, err


def test_help_lists_every_option(cli):
    status, out, _ = cli("--help")
    assert status == 0
    for word in ("show", "explain", "export", "diff", "--arch", "--bpf", "--format", "--against", "--markdown", "--json", "-o"):
        assert word in out
    assert cli("show", "-h")[1] == out and cli()[:2] == (2, out)


# export

@pytest.mark.parametrize("name, arch", EVERY)
def test_the_exported_program_decides_as_the_frozen_one_but_for_rlimit_core(name, arch, tmp_path):
    wanted, table = policy.exported(name, arch), policy.numbers(arch)
    codes = [bpf.decode(named(name, arch)), bpf.decode(wanted)]
    rules, held = policy.policy(name, arch).rules, {table.NR["setrlimit"], table.NR["prlimit64"]}
    for number in range(1024):
        for args in bench["corners"](rules.get(number, 0))[:500] if number not in held else ():
            assert len({bpf.run(code, number, table.AUDIT_ARCH, args)[0] for code in codes}) == 1, (number, args)
    assert [bpf.run(code, table.NR["setrlimit"], table.AUDIT_ARCH, (4, 0, 0, 0, 0, 0))[0] for code in codes] == [
        bpf.ERRNO, bpf.ALLOW]
    path = str(tmp_path / "out")
    assert real("export", name, "--arch", arch, "--format", "bpf", "-o", path)[0] == 0
    with open(path, "rb") as stream:
        assert stream.read() == wanted
    assert real("export", name, "--arch", arch, "--format", "bpf")[1] == wanted


LIBSECCOMP = r"""
import json, sys
import seccomp
profile = json.load(sys.stdin)
actions = {"SCMP_ACT_ALLOW": seccomp.ALLOW, "SCMP_ACT_LOG": seccomp.LOG, "SCMP_ACT_KILL_PROCESS": seccomp.KILL_PROCESS}
def action(name, number):
    return seccomp.ERRNO(number) if name == "SCMP_ACT_ERRNO" else actions[name]
made = seccomp.SyscallFilter(action(profile["defaultAction"], profile.get("defaultErrnoRet")))
arch = {"SCMP_ARCH_X86_64": seccomp.Arch.X86_64, "SCMP_ARCH_AARCH64": seccomp.Arch.AARCH64}[profile["architectures"][0]]
if not made.exist_arch(arch):
    made.add_arch(arch)
    made.remove_arch(seccomp.Arch())
unknown = []
for entry in profile["syscalls"]:
    tests = [seccomp.Arg(each["index"], seccomp.NE, each["value"]) if each["op"] == "SCMP_CMP_NE" else
             seccomp.Arg(each["index"], seccomp.MASKED_EQ, each["value"], each["valueTwo"]) for each in entry.get("args", [])]
    for name in entry["names"]:
        try:
            made.add_rule_exactly(action(entry["action"], entry.get("errnoRet")), name, *tests)
        except RuntimeError:
            unknown.append(name)
with open(sys.argv[1], "wb") as out:
    made.export_bpf(out)
print(json.dumps(unknown))
"""


def by_libseccomp(text, tmp_path):
    """(the program that libseccomp makes of an OCI profile, [names that it doesn't know]); compiled as runc and crun do."""
    if subprocess.run(["/usr/bin/python3", "-c", "import seccomp"], stderr=subprocess.DEVNULL).returncode:
        pytest.fail("python3-seccomp is not installed: apt-get install python3-seccomp")
    path = str(tmp_path / "theirs")
    done = subprocess.run(["/usr/bin/python3", "-c", LIBSECCOMP, path], input=text, stdout=subprocess.PIPE, check=True)
    with open(path, "rb") as stream:
        return stream.read(), json.loads(done.stdout.decode())


REFUSALS = [bpf.errno(number) for number in (errno.ENOTTY, errno.ENOPROTOOPT, errno.EINVAL)]
LEFT = "mrunc: some calls of %s get %s here; runc, crun and docker answer ENOSYS"


def differ_only_as_known(ours, theirs, arch, unknown, left=()):
    found, tried = compare(ours, theirs, (arch,))
    assert not tried and set(unknown) <= {"uprobe"}
    for each in found:
        if each.arch != arch:  # a foreign architecture loses a thread there
            assert (each.one, each.two) == (bpf.KILL_PROCESS, bpf.KILL_THREAD)
        elif each.first >= 0x40000000:  # x32 numbers are a foreign architecture there
            assert each.two == bpf.KILL_THREAD
        elif each.first in {policy.numbers(arch).NR[call] for call in left}:  # which the format says in too many rules
            assert each.one in REFUSALS and each.two == bpf.errno(errno.ENOSYS)
        else:
            assert each.first in {policy.numbers(arch).NR[call] for call in unknown}


@pytest.mark.parametrize("name, arch", EVERY)
def test_libseccomp_makes_the_same_filter_of_the_oci_export(name, arch, tmp_path):
    """Over all numbers and all arguments."""
    status, text, err = real("export", name, "--arch", arch, "--format", "oci")
    left = {"ioctl": "ENOTTY", "setsockopt": "ENOPROTOOPT", "getsockopt": "ENOPROTOOPT", "fcntl": "EINVAL"}
    first = ["mrunc: the exported policy lets RLIMIT_CORE be changed; mrunc keeps it at 1 and answers success",
             "mrunc: calls of another architecture get kill_process here; runc, crun and docker kill the thread",
             "mrunc: x32 numbers get ENOSYS here; runc, crun and docker kill the thread"][:3 if arch == "x86_64" else 2]
    assert status == 0 and err.splitlines()[:len(first)] == first
    assert sorted(err.splitlines()[len(first):]) == sorted(LEFT % pair for pair in left.items())
    theirs, unknown = by_libseccomp(text, tmp_path)
    differ_only_as_known(policy.exported(name, arch), theirs, arch, unknown, left)


@pytest.mark.parametrize("arch", policy.ARCHES)
def test_libseccomp_makes_the_same_filter_of_other_exports(arch, tmp_path):
    """podman's profile, and 64-bit comparisons: two != at a time, which masks could only say in 4096 rules."""
    wide = {"read": [(bpf.errno(1), [bpf.Condition(0, "!=", 7, wide=True), bpf.Condition(1, "!=", 1 << 40, wide=True)])],
            "ioctl": [(bpf.ALLOW, [bpf.Condition(1, "<", 1 << 33, wide=True)]), (bpf.errno(5), [])],
            "mmap": [(bpf.ALLOW, [bpf.Condition(2, "&==", 0, 4, wide=True)]), (bpf.KILL_PROCESS, [])]}
    for program in (bpf.compile_policy(bench["profile"]("podman", arch)), compiled(wide, arch)):
        text = json.dumps(export.oci(program, arch, "x")[0]).encode()
        assert len(text) < 60000
        theirs, unknown = by_libseccomp(text, tmp_path)
        differ_only_as_known(program, theirs, arch, unknown)


def test_what_oci_cannot_say_is_refused():
    for action, text in ((bpf.NOTIFY, "notify"), (bpf.TRAP | 5, "trap")):
        with pytest.raises(SandboxError, match=text):
            export.oci(compiled({"read": action}), "x86_64", "x")
    table = policy.numbers("x86_64")
    with pytest.raises(SandboxError, match="number 1000 has no name"):
        export.oci(bpf.compile_policy(bpf.Policy(table.AUDIT_ARCH, bpf.errno(38), {1000: bpf.ALLOW})), "x86_64", "x")


def raw(*instructions):
    """A program for x86_64: these instructions where the architecture is ours and the number loaded; else killed."""
    return bpf.encode([(bpf.LD, 0, 0, 4), (bpf.JEQ, 1, 0, 0xC000003E), (bpf.RET, 0, 0, bpf.KILL_PROCESS), (bpf.LD, 0, 0, 0)]
                      + list(instructions))


ALLOW, EPERM = (bpf.RET, 0, 0, bpf.ALLOW), (bpf.RET, 0, 0, bpf.errno(1))
TAIL = [(bpf.JGE, 0, 1, 0x40000000), (bpf.RET, 0, 0, bpf.errno(38)), (bpf.JEQ, 0, 1, 101), EPERM, ALLOW]


@pytest.mark.parametrize("program, arch, words", [
    (raw(*TAIL), "x86_64", "x32 numbers get ENOSYS here; runc"),
    (raw(*TAIL[2:]), "x86_64", "x32 numbers get allow, and with a profile libseccomp kills them"),
    (bpf.encode([(bpf.LD, 0, 0, 4), (bpf.JEQ, 0, 1, 0x40000003), ALLOW, (bpf.LD, 0, 0, 0)] + TAIL), "x86_64",
     "calls of another architecture get"),
    (bpf.encode([(bpf.LD, 0, 0, 4), (bpf.JEQ, 1, 0, 0xC000003E), EPERM, (bpf.LD, 0, 0, 0)] + TAIL), "x86_64",
     "calls of another architecture get EPERM here; runc"),
    (bpf.encode([(bpf.LD, 0, 0, 4), (bpf.JEQ, 1, 0, 0xC00000B7), (bpf.RET, 0, 0, bpf.KILL_THREAD), (bpf.LD, 0, 0, 0)] + TAIL),
     "aarch64", "number 1073741824 has no name and its own answer, ENOSYS"),
    (raw((bpf.AND, 0, 0, 0x3FF), *TAIL), "x86_64", "it computes with the call number"),
], ids=["x32 refused", "x32 allowed", "i386 allowed", "i386 refused", "numbers of x32 elsewhere", "masked numbers"])
def test_no_answer_of_a_program_is_lost_in_an_oci_export(cli, tmp_path, program, arch, words):
    """libseccomp kills foreign architectures and x32 numbers whatever a profile says: else refused where they pass, said where not."""
    path = str(tmp_path / "x.bpf")
    with open(path, "wb") as out:
        out.write(program)
    status, out, err = cli("export", path, "--arch", arch, "--format", "oci")
    assert words in err and (status, bool(out)) == ((0, True) if "here" in words else (2, False))


def test_show_says_what_a_run_needs_beside_a_file(cli, tmp_path):
    path = str(tmp_path / "p.policy")
    with open(path, "w") as out:
        out.write("read: 1\nexit_group: 1\n")
    said = " ".join(cli("show", path)[1].split())
    assert "since its pid 1 needs: execveat write recvmsg dup3 prctl clone" in said
    assert "execve. --seccomp-add allows them, to the program as well." in said
    assert "pid 1 needs" not in cli("show", "default")[1]


# Programs that branch beyond measure, and numbers that are computed with

def branching():
    """name: program: each of 60 tests of one argument goes on; thousands of instructions."""
    chance = random.Random(1)
    start = [(bpf.LD, 0, 0, 4), (bpf.JEQ, 1, 0, 0xC000003E), (bpf.RET, 0, 0, bpf.KILL_PROCESS), (bpf.LD, 0, 0, 16)]
    leaves = [(bpf.RET, 0, 0, bpf.errno(1 + at)) for at in range(100)]
    order = [line for at in range(1300) for line in (
        (bpf.LD, 0, 0, 16 + 4 * (at % 12)), (bpf.JGE, 0, 1, chance.getrandbits(32)), leaves[at % 100])]
    return {
        "bits": start + [(bpf.JSET, 0, 0, 1 << at % 32) for at in range(60)] + [ALLOW],
        "values": start + [line for at in range(60) for line in ((bpf.JEQ, 1, 0, at * 7919), (bpf.JA, 0, 0, 0))] + [ALLOW],
        "long": start + [line for at in range(1990) for line in ((bpf.JEQ, 0, 1, chance.getrandbits(32)), leaves[at % 100])] + [ALLOW],
        "order": start[:3] + order + [ALLOW]}


@pytest.mark.parametrize("name", ["bits", "values", "long", "order"])
def test_what_a_budget_cut_short_is_said_by_every_tool(cli, tmp_path, monkeypatch, name):
    monkeypatch.setattr(filter_paths.Budget.__init__, "__defaults__", (200000,))
    path = str(tmp_path / "x.bpf")
    with open(path, "wb") as out:
        out.write(bpf.encode(branching()[name]))
    status, text, err = cli("show", path, "--arch", "x86_64")
    assert status == 0 and "not known (" in text
    assert "branches too much: calls that were not followed to the end say so" in err or "more than 20000 ways" in text
    assert "386 not known (" in text.splitlines()[0]
    assert json.loads(cli("show", path, "--json", "--arch", "x86_64")[1])["complete"] is False
    status, text, err = cli("export", path, "--arch", "x86_64", "--format", "oci")
    assert (status, text) == (2, "") and "can't be written as OCI JSON" in err
    status, text, err = cli("diff", path, "default", "--arch", "x86_64")
    assert status == 1 and ("not everything was compared on x86_64" in err or "every call" in text)
    data = json.loads(cli("diff", path, "default", "--arch", "x86_64", "--json")[1])
    assert data["differences"] and data["complete"] == (not data["partly"])


def test_no_difference_is_only_said_where_everything_was_compared(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(filter_paths.Budget.__init__, "__defaults__", (100,))
    for name, leaf in (("a", ALLOW), ("b", (bpf.RET, 0, 0, bpf.ALLOW | 7))):  # the same for the kernel, other bytes
        with open(str(tmp_path / name), "wb") as out:
            out.write(raw(*TAIL[:-1], leaf))
    status, text, _ = cli("diff", str(tmp_path / "a"), str(tmp_path / "b"), "--arch", "x86_64")
    assert (status, text) == (1, "no difference found, but not everything was compared on x86_64, i386\n")
    monkeypatch.undo()
    assert cli("diff", str(tmp_path / "a"), str(tmp_path / "b"), "--arch", "x86_64")[:2] == \
        (0, "no difference: every call number, every argument, on x86_64\n")


MASKED = [(bpf.AND, 0, 0, 0x5FFFFFFF), (bpf.JEQ, 0, 1, 0x5A5A5A5), EPERM, ALLOW]


def test_a_number_that_no_list_holds_is_found_where_numbers_are_masked(cli, tmp_path):
    """0x5a5a5a5 and three others are told apart by mask only; one of them with bit 31 and 29 set."""
    paths = [str(tmp_path / name) for name in "ab"]
    for path, mask in zip(paths, (0x5FFFFFFF, 0xDFFFFFFF)):
        with open(path, "wb") as out:
            out.write(raw((bpf.AND, 0, 0, mask), *MASKED[1:]))
    status, text, err = cli("diff", *paths, "--arch", "x86_64")
    assert (status, err) == (1, "") and "number %d" % (0x85A5A5A5) in text
    assert cli("diff", paths[0], paths[0], "--arch", "x86_64")[0] == 0
    assert "Other numbers: not known (the program computes with the call number)" in cli("show", paths[0], "--arch", "x86_64")[1]


def test_numbers_that_are_added_to_are_tried_and_that_is_said(cli, tmp_path):
    paths = [str(tmp_path / name) for name in "ab"]
    for path, leaf in zip(paths, (ALLOW, (bpf.RET, 0, 0, bpf.ALLOW | 7))):
        with open(path, "wb") as out:
            out.write(raw((0x04, 0, 0, 1), (bpf.JEQ, 0, 1, 60), EPERM, leaf))
    status, text, err = cli("diff", *paths, "--arch", "x86_64")
    assert status == 1 and text == "no difference found, but not everything was compared on x86_64\n"
    assert "computes with an argument" in err or "computes with the" in err


@pytest.mark.parametrize("code, wanted", [
    ([(bpf.LD, 0, 0, 0), (bpf.JEQ, 0, 1, 5), EPERM, ALLOW], False),
    ([(bpf.LD, 0, 0, 0), (bpf.JSET, 0, 1, 5), EPERM, ALLOW], True),
    ([(bpf.LD, 0, 0, 0), (0x1D, 0, 1, 0), EPERM, ALLOW], True),
    ([(bpf.LD, 0, 0, 0), (0x07, 0, 0, 0), EPERM], True),
    ([(bpf.LD, 0, 0, 0), (0x02, 0, 0, 3), EPERM], True),
    ([(bpf.LD, 0, 0, 16), (bpf.AND, 0, 0, 3), (bpf.JEQ, 0, 1, 1), EPERM, ALLOW], False),
    ([(bpf.LD, 0, 0, 0), (bpf.JEQ, 1, 0, 5), (bpf.LD, 0, 0, 16), (bpf.AND, 0, 0, 3), (bpf.JEQ, 0, 1, 1), EPERM, ALLOW], True),
], ids=["compared", "a bit of it", "compared with X", "copied to X", "stored", "an argument", "by a jump"])
def test_what_computes_with_the_number_is_known(code, wanted):
    bpf.verify(bpf.encode(code))
    assert filter_paths.masks_numbers(code) == wanted


#: unshare(CLONE_NEWUSER) -> EPERM, clone3 -> ENOSYS, socket(AF_INET) -> EAFNOSUPPORT, ioctl TIOCSTI + bit 32 -> EPERM, and a
#: thread, which must work.  Prints the errnos; without the filter none of these is what comes back.
PROBE = r"""
import ctypes, os, threading
libc = ctypes.CDLL(None, use_errno=True)
def fails(*words):
    ctypes.set_errno(0)
    libc.syscall(*[ctypes.c_ulong(word) for word in words])
    return ctypes.get_errno()
numbers = {"x86_64": (435, 41, 16), "aarch64": (435, 198, 29)}[os.uname().machine]
out = [fails(numbers[0], 0, 0), fails(numbers[1], 2, 1, 0), fails(numbers[2], 0, 0x5412 | 1 << 32, 0)]
ran = []
thread = threading.Thread(target=ran.append, args=(1,))
thread.start()
thread.join()
print(out, ran)
"""
REFUSED = "[%d, %d, %d] [1]\n" % (errno.ENOSYS, errno.EAFNOSUPPORT, errno.EPERM)


def need(program):
    assert shutil.which(program, path="/usr/bin:/usr/sbin:/bin:/sbin"), \
        "%s is missing (as root, .ci/test installs it)" % program


def test_bwrap_takes_the_exported_program(inside):
    need("bwrap")
    path = os.path.join(inside.scratch, "default.bpf")
    assert inside.outside([*inside.command(verb="policy"), "export", "default", "--format", "bpf", "-o", path]).returncode == 0
    base = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev"]
    probe = ["/usr/bin/python3", "-I", "-S", "-c", PROBE]
    plain = inside.outside([*base, *probe])
    assert plain.returncode == 0 and plain.stdout != REFUSED, plain
    done = inside.outside(["sh", "-c", 'exec "$@" 9< %s' % path, "sh", *base, "--seccomp", "9", *probe])
    assert (done.stdout, done.returncode) == (REFUSED, 0), done


def bundle(folder, tool, profile, probe=None):
    """An OCI bundle whose root has the host's /usr."""
    os.makedirs(os.path.join(folder, "rootfs"))
    subprocess.run([tool, "spec"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    path = os.path.join(folder, "config.json")
    with open(path) as stream:
        config = json.load(stream)
    config["process"]["terminal"] = False
    config["process"]["args"] = ["/usr/bin/python3", "-I", "-S", "-c", probe or PROBE]
    config["linux"].pop("seccomp", None)
    if profile:
        config["linux"]["seccomp"] = profile
    for name in ("/usr", "/lib", "/lib64", "/bin"):
        if os.path.isdir(name):
            config["mounts"].append({"destination": name, "type": "bind", "source": os.path.realpath(name), "options": ["rbind", "ro"]})
    with open(path, "w") as stream:
        json.dump(config, stream)


def by_runtime(inside, tool, profile, probe=PROBE):
    """What the probe says in a container of runc or crun.

    In a mount namespace with an own cgroup2, since crun takes no host with cgroup v1 beside v2.
    """
    need(tool)
    folder = tempfile.mkdtemp(prefix="bundle-", dir=inside.scratch)
    bundle(folder, tool, profile, probe)
    command = [tool] + (["--cgroup-manager=disabled"] if tool == "crun" else []) + ["--root", os.path.join(folder, "state"),
                                                                                   "run", os.path.basename(folder)]
    if tool == "crun":
        command = ["unshare", "-m", "sh", "-c", "umount -R -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"",
                   "sh", *command]
    done = inside.outside(command, cwd=folder)
    assert done.returncode == 0, done
    return done.stdout


@pytest.mark.parametrize("tool", ["runc", "crun"])
def test_oci_runtimes_take_the_exported_profile_as_root_only(inside_as_root, tool):
    profile = json.loads(real("export", "default", "--format", "oci")[1].decode())
    assert by_runtime(inside_as_root, tool, None) != REFUSED
    assert by_runtime(inside_as_root, tool, profile) == REFUSED


@pytest.mark.parametrize("tool", ["runc", "crun"])
def test_oci_runtimes_take_two_tests_of_one_argument_for_alternatives_as_root_only(inside_as_root, tool):
    """Which is why a file with such a rule is refused here: its author meant both, and would get every family."""
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99, "args": [
        {"index": 0, "op": "SCMP_CMP_NE", "value": 1}, {"index": 0, "op": "SCMP_CMP_NE", "value": 2}]}]}
    probe = ("import socket\nfor family in (1, 2, 16):\n    try:\n        socket.socket(family, 3 if family == 16 else 1).close()\n"
             "        print('opened')\n    except OSError as error:\n        print(error.errno)\n")
    assert by_runtime(inside_as_root, tool, None, probe) == "opened\nopened\nopened\n"
    both, either = "opened\nopened\n99\n", "99\n99\n99\n"
    assert by_runtime(inside_as_root, tool, profile, probe) == either != both


# Names

def test_constants_by_name():
    text = call_names.call_text
    assert text("ioctl", (None, 0x5412) + (None,) * 4) == "ioctl(fd, TIOCSTI)"
    assert text("ioctl", (None, 0x5412 | 1 << 32) + (None,) * 4) == "ioctl(fd, TIOCSTI + 0x1<<32)"
    assert text("clone", (0x10000011,) + (None,) * 5) == "clone(CLONE_NEWUSER|0x11)"
    assert text("socket", (38,) + (None,) * 5) == "socket(AF_ALG)"
    assert text("mknodat", (None, None, 0x2000) + (None,) * 3) == "mknodat(dirfd, path, S_IFCHR)"
    assert text("read", (None,) * 6) == "read()"
    assert text("read", (None, None, 5) + (None,) * 3) == "read(arg0, arg1, 5)"


def test_no_run_imports_the_tools():
    done = subprocess.run([PYTHON, "-I", "-S", "-X", "importtime", os.path.join(ROOT, "mrunc.py"), "run", "--", "/bin/true"],
                          stderr=subprocess.PIPE, universal_newlines=True)
    for name in ("peers", "peer_table", "filter_", "call_names", "commands.policy.policy"):
        assert "mrunc.sandbox." + name not in done.stderr and "mrunc." + name not in done.stderr
    assert mrunc.__version__


def test_an_export_replaces_a_link_and_never_a_device(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("untouched")
    link.symlink_to(target)
    tool = [PYTHON, os.path.join(ROOT, "mrunc.py"), "policy", "export", "default", "--format", "bpf", "-o"]
    assert subprocess.run(tool + [str(link)]).returncode == 0
    assert target.read_text() == "untouched" and not link.is_symlink() and link.stat().st_size % 8 == 0
    assert subprocess.run(tool + ["/dev/null"]).returncode == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert sorted(os.listdir(str(tmp_path))) == ["link", "target"]
