# SPDX-License-Identifier: Apache-2.0
"""Tests checks that stand behind others, with input that only a failure of those would bring."""

import errno
import os
import resource
import stat
import types

import pytest

import mrunc  # noqa: F401 (makes the package)
from mrunc.sandbox.cgroup import group as cgroup
from mrunc.sandbox.library import client, surroundings
from mrunc.sandbox.result import rows
from mrunc.sandbox.changes import drafts, export, walk as tree_walk
from mrunc.sandbox.errors import SandboxError
from mrunc.sandbox.launch import child as child_steps, gate, idmap, private
from mrunc.sandbox.observe import hearing, trace, trace_look
from mrunc.sandbox.running import carry, cputime, stdio, supervise
from mrunc.sandbox.tree import operations
from mrunc.sandbox.cgroup.limits import Setting
from mrunc.sandbox.controls import CONTROLS
from mrunc.sandbox.proc import Mount
from mrunc.syscalls import files, process
from mrunc.syscalls.numbers import native

NR, NO_DOMAIN = native().NR, process.NO_DOMAIN.decode()


# The gate: what /proc could say of an init


class Reading:
    """What the gate reads, made up.  status: {key: value of /proc/PID/status}."""

    def __init__(self, mounts=(), status=(), filters=0, wanted=(), sized=(), cwd="/box"):
        self.mounts, self.status, self.cwd, self.pid = list(mounts), dict(status), cwd, os.getpid()
        self.expected = types.SimpleNamespace(
            mounts=dict(wanted),
            details=list(sized),
            proc=operations.Proc(),
            filters=filters,
            namespaces={},
            places=None,
            terminal=None,
        )
        self.descriptors, self.session, self.group, self.base = {}, self.pid, None, "/proc/self/"

    def says(self, key, default=None):
        return self.status.get(key, default)

    def limit(self, row):
        return self.status.get(row, ("?", "?"))


def in_force(name, reading, facts=None, **plan):
    """Whether the gate takes a control for being in force."""
    plan.setdefault("left_out", lambda name: False)
    plan.setdefault("limits", {"nofile": (1024, 4096)})
    made = types.SimpleNamespace(
        policy_digest="0" * 64,
        cwd=b"/box",
        nested=True,
        cap_mask=0,
        caller=(1000, 1000),
        root=False,
        tier=types.SimpleNamespace(userns=True, death=9, scopes=1),
        hostname=b"box",
        **plan,
    )
    features = types.SimpleNamespace(landlock_abi=6)
    read = gate.READERS[CONTROLS[name].read]
    return bool(read(name, made, reading, facts or {}, features, (1000, 1000), 2)[0])


@pytest.mark.parametrize(
    "mode, count, outer, filters, right",
    [
        ("2", "1", 0, ["default"], True),
        ("2", "3", 1, ["default", "setid"], True),
        ("2", None, None, ["default"], True),
        ("2", "0", 0, ["default"], False),
        ("2", "1", 1, ["default"], False),
        ("2", "1", 0, ["default", "setid"], False),
        ("2", "3", 0, ["default", "setid"], False),
        ("1", "1", 0, ["default"], False),
        ("0", None, None, ["default"], False),
        ("2", "1", 0, ["setid"], False),
    ],
)
def test_gate_counts_filters(mode, count, outer, filters, right):
    status = {"Seccomp": mode}
    if count is not None:
        status["Seccomp_filters"] = count
    plan = [(name, b"") for name in filters]
    assert in_force("seccomp", Reading(status=status, filters=outer), filters=plan) is right
    if "setid" in filters and "default" in filters:
        assert (
            in_force("setid-filter", Reading(status=status, filters=outer), filters=plan) is right
        )


def test_gate_counts_one_filter_where_a_listener_is_asked():
    filters = [("default", b""), ("setid", b"")]
    for count, right in (("1", True), ("2", False)):
        reading = Reading(status={"Seccomp": "2", "Seccomp_filters": count})
        assert in_force("seccomp", reading, {"listener": "a listener"}, filters=filters) is right


def row(point, flags=(), optional=(), kind=b"tmpfs", words=()):
    """A row of mountinfo."""
    words = [b",".join(flags) or b"rw", *optional, b"-", kind, b"none", b",".join(words) or b"rw"]
    return Mount(b" ".join([b"2 1 0:1 /", point, *words]))


@pytest.mark.parametrize(
    "word, right",
    [
        (None, True),
        (b"unbindable", True),
        (b"shared:1", False),
        (b"master:2", False),
        (b"propagate_from:3", False),
    ],
)
def test_gate_sees_propagation(word, right):
    rows_made = [row(b"/"), row(b"/usr", optional=[word] if word else [])]
    assert in_force("propagation", Reading(mounts=rows_made)) is right


TMP = row(b"/tmp", [b"rw", b"nosuid", b"nodev"], words=[b"rw", b"size=4k", b"nr_inodes=100000"])
USR = row(b"/usr", [b"ro", b"nosuid", b"nodev"], kind=b"ext4")
WANTED = {
    b"/tmp": frozenset([b"nosuid", b"nodev"]),
    b"/usr": frozenset([b"ro", b"nosuid", b"nodev"]),
}


@pytest.mark.parametrize(
    "mounts, right",
    [
        ([TMP, USR], True),
        ([TMP, USR, row(b"/mnt", [b"ro", b"nosuid", b"nodev"])], False),
        ([TMP], False),
        ([], False),
        ([TMP, row(b"/usr", [b"rw", b"nosuid", b"nodev"])], False),
        ([TMP, row(b"/usr", [b"ro", b"nodev"])], False),
        ([TMP, USR, row(b"/usr", [b"rw"])], False),
        ([TMP, row(b"/usr", [b"rw"]), USR], False),
        ([TMP, USR, row(b"/usr", [b"ro", b"nosuid", b"nodev", b"noexec"])], True),
        (
            [row(b"/tmp", [b"nosuid", b"nodev"], words=[b"size=8k", b"nr_inodes=100000"]), USR],
            False,
        ),
        ([row(b"/tmp", [b"nosuid", b"nodev"], words=[b"size=4k"]), USR], False),
    ],
)
def test_gate_compares_each_mount(mounts, right):
    sized = [(b"/tmp", [b"size=4k", b"nr_inodes=100000"])]
    assert in_force("mounts", Reading(mounts=mounts, wanted=WANTED, sized=sized)) is right


@pytest.mark.parametrize(
    "rows_made, right",
    [
        ([row(b"/", [b"ro"])], True),
        ([row(b"/", [b"rw"])], False),
        ([], False),
        ([row(b"/", [b"ro"]), row(b"/", [b"rw"])], False),
    ],
)
def test_gate_sees_a_writable_root(rows_made, right):
    reading = Reading(mounts=rows_made or [row(b"/x")])
    if not rows_made:  # no row at all is no proof
        with pytest.raises(IndexError):
            in_force("root-ro", reading)
        return
    assert in_force("root-ro", reading) is right


@pytest.mark.parametrize(
    "rows_made, right",
    [
        ([row(b"/proc", kind=b"proc", words=[b"hidepid=invisible", b"subset=pid"])], True),
        ([row(b"/proc", kind=b"proc", words=[b"hidepid=2", b"subset=pid"])], True),
        ([row(b"/proc", kind=b"proc", words=[b"hidepid=2"])], False),
        ([row(b"/proc", kind=b"proc", words=[b"subset=pid"])], False),
        ([row(b"/proc", kind=b"tmpfs", words=[b"hidepid=2", b"subset=pid"])], False),
        ([], False),
        (2 * [row(b"/proc", kind=b"proc", words=[b"hidepid=2", b"subset=pid"])], False),
    ],
)
def test_gate_looks_at_proc(rows_made, right):
    assert in_force("proc", Reading(mounts=rows_made)) is right


@pytest.mark.parametrize(
    "facts, cwd, right",
    [
        ({"cwd": "/box", "umask": "22"}, "/box", True),
        ({"cwd": "/box", "umask": "0"}, "/box", False),
        ({"cwd": "/box"}, "/box", False),
        ({"cwd": "/tmp", "umask": "22"}, "/box", False),
        ({"cwd": "/box", "umask": "22"}, "/tmp", False),
    ],
)
def test_gate_compares_directory_and_umask(facts, cwd, right):
    assert in_force("cwd", Reading(cwd=cwd), facts) is right


@pytest.mark.parametrize(
    "answer, right", [("13", True), ("open", False), ("2", False), (None, False)]
)
def test_gate_takes_only_eacces_for_a_landlock_domain(answer, right):
    """ENOENT: the probe is not there, which proves nothing."""
    assert in_force("landlock", Reading(), {} if answer is None else {"landlock": answer}) is right


@pytest.mark.parametrize(
    "status, right",
    [
        ({}, True),
        ({"CapBnd": "1"}, False),
        ({"CapEff": "200000"}, False),
        ({"CapAmb": "1"}, False),
        ({"CapInh": "1"}, False),
    ],
)
def test_gate_compares_five_capability_sets(status, right):
    sets = dict(dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0"), **status)
    assert in_force("caps", Reading(status=sets)) is right


@pytest.mark.parametrize(
    "status, right",
    [
        ({"SigIgn": "0", "SigBlk": "%x" % gate.BLOCKED}, True),
        ({"SigIgn": "1000", "SigBlk": "%x" % gate.BLOCKED}, False),
        ({"SigIgn": "0", "SigBlk": "%x" % (gate.BLOCKED & ~(1 << 14))}, False),
    ],
)
def test_gate_compares_signals(status, right):
    assert in_force("session", Reading(status=status)) is right


@pytest.mark.parametrize(
    "facts, right",
    [
        ({"parent-death": "9", "lifeline": "armed"}, True),
        ({"parent-death": "0", "lifeline": "armed"}, False),
        ({"parent-death": "9", "lifeline": "not armed"}, False),
        ({"parent-death": "9"}, False),
    ],
)
def test_gate_wants_both_ways_to_learn_of_the_supervisors_death(facts, right):
    assert in_force("parent-death", Reading(), facts) is right


@pytest.mark.parametrize(
    "uids, right", [("1000 1000 1000 1000", True), ("1000 1000 0 1000", False), ("0 0 0 0", False)]
)
def test_gate_compares_all_four_ids(uids, right):
    ids = "1000 1000 1000 1000"
    assert in_force("uidmap", Reading(status={"Uid": uids, "Gid": ids})) is right
    assert in_force("uidmap", Reading(status={"Uid": ids, "Gid": uids})) is right


@pytest.mark.parametrize(
    "name, status, facts, right",
    [
        ("nnp", {"NoNewPrivs": "1"}, {}, True),
        ("nnp", {"NoNewPrivs": "0"}, {}, False),
        ("nnp", {}, {}, False),
        ("securebits", {}, {"securebits": "0xef"}, True),
        ("securebits", {}, {"securebits": "0x2f"}, False),
        ("securebits", {}, {}, False),
        ("userns-limit", {}, {"userns-limit": "1"}, True),
        ("userns-limit", {}, {"userns-limit": "15000"}, False),
        ("userns-limit", {}, {}, False),
        ("hostname", {}, {"hostname": "box", "domainname": NO_DOMAIN}, True),
        ("hostname", {}, {"hostname": "host", "domainname": NO_DOMAIN}, False),
        ("hostname", {}, {"hostname": "box", "domainname": "example"}, False),
        ("hostname", {}, {"hostname": "box"}, False),
        ("limits.nofile", {"Max open files": ("1024", "4096")}, {}, True),
        ("limits.nofile", {"Max open files": ("1024", "1048576")}, {}, False),
        ("limits.nofile", {}, {}, False),
        ("userns-nested", {}, {"outer-userns": "user:[1]"}, True),
        ("userns-nested", {}, {"outer-userns": "user:[2]"}, False),
        ("userns-nested", {}, {}, False),
    ],
)
def test_gate_compares_one_value(name, status, facts, right):
    reading = Reading(status=status)
    reading.namespace = "{}:[2]".format
    assert in_force(name, reading, facts) is right


@pytest.mark.parametrize(
    "read, asked, right",
    [
        ({"Max cpu time": ("9", "10"), "Max core file size": ("0", "0")}, True, True),
        ({"Max cpu time": ("9", "unlimited"), "Max core file size": ("1", "1")}, True, False),
        ({"Max core file size": ("1", "1")}, True, False),
        ({"Max cpu time": ("9", "10"), "Max core file size": ("1", "1")}, False, False),
    ],
)
def test_gate_compares_each_rlimit(read, asked, right):
    plan = dict(limits={"core": (1, 1), "cpu": (9, 10)}, controls={"limits.rlimit": asked})
    assert in_force("limits.rlimit", Reading(status=read), **plan) is right


@pytest.mark.parametrize(
    "name, theirs, inner, right",
    [
        ("netns", "net:[2]", "", True),
        ("netns", "net:[1]", "", False),
        ("netns", None, "", False),
        ("pidns", "pid:[2]", "77\t1", True),
        ("pidns", "pid:[1]", "77\t1", False),
        ("pidns", "pid:[2]", "77\t2", False),
        ("pidns", "pid:[2]", "1", False),
    ],
)
def test_gate_compares_namespaces(name, theirs, inner, right):
    reading = Reading(status={"NSpid": inner})
    reading.expected.namespaces = {"net": "net:[1]", "pid": "pid:[1]"}
    reading.namespace = lambda kind: theirs
    assert in_force(name, reading) is right


@pytest.mark.parametrize("count, right", [(0, False), (1, True), (2, False)])
def test_gate_wants_one_ruleset_for_the_program(count, right):
    reading = Reading()
    reading.descriptors = {3: "socket:[1]"}
    reading.descriptors.update((4 + at, "anon_inode:[landlock-ruleset]") for at in range(count))
    assert in_force("landlock-signals", reading) is right


@pytest.mark.parametrize(
    "extra, null, right", [(2, True, True), (3, True, False), (2, False, False)]
)
def test_gate_counts_descriptors(monkeypatch, extra, null, right):
    monkeypatch.setattr(gate, "all_null", lambda pid: (null, ""))
    reading = Reading()
    reading.descriptors = dict.fromkeys(range(3, 3 + extra), "socket:[1]")
    assert in_force("fds", reading) is right


@pytest.mark.parametrize(
    "pattern, limits, right",
    [
        (b"core", ("1", "1"), True),
        (b"core", ("0", "0"), True),
        (b"core", ("0", "unlimited"), False),
        (b"|/usr/lib/handler %p", ("1", "1"), True),
        (b"|/usr/lib/handler %p", ("0", "0"), False),
        (b"@/run/socket", ("1", "1"), False),
    ],
)
def test_gate_looks_at_where_core_dumps_go(monkeypatch, pattern, limits, right):
    monkeypatch.setattr(gate, "read", lambda path: pattern)
    assert in_force("limits.core", Reading(status={"Max core file size": limits})) is right


def test_gate_reads_the_out_of_memory_score(monkeypatch):
    for score, right in ((b"1000\n", True), (b"0\n", False)):
        monkeypatch.setattr(gate, "read", lambda path: score)
        assert in_force("limits.oom", Reading()) is right


# The child


def test_the_callers_limit_of_user_namespaces_is_never_written(monkeypatch):
    """Where no new user namespace is, the limit would be the host's."""

    def opened(*words, **more):
        raise AssertionError("opened: %r" % (words,))

    child = types.SimpleNamespace(userns=os.stat("/proc/self/ns/user").st_ino, facts={})
    child.plan = types.SimpleNamespace(nested=True)
    with monkeypatch.context() as patched:
        patched.setattr(child_steps.os, "open", opened)
        with pytest.raises(OSError):
            child_steps.userns_limit(child)


# Control groups


@pytest.fixture
def group(monkeypatch):
    """A Group without a kernel.  group.files: {path: text}."""
    pid = 77
    made = cgroup.Group.__new__(cgroup.Group)
    made.path, made.notes, made.mechanism = "/cg/mrunc-1-aaaaaaaa", {}, "made up"
    made.settings = [Setting("limits.pids", "pids.max", "20")]
    made.files = {
        made.path + "/cgroup.procs": "%d\n" % pid,
        made.path + "/pids.max": "20\n",
        "/proc/%d/cgroup" % pid: "0::/x/mrunc-1-aaaaaaaa\n",
    }

    def read(path):
        if path not in made.files:
            raise OSError(errno.ENOENT, "none", path)
        return made.files[path]

    monkeypatch.setattr(cgroup, "text", read)
    made.holds_now = lambda control="limits.pids": made.holds(control, pid)[0]
    return made


def test_a_group_holds_what_it_reads_back(group):
    assert group.holds_now()


@pytest.mark.parametrize(
    "name, text",
    [
        ("/cg/mrunc-1-aaaaaaaa/pids.max", "max\n"),
        ("/cg/mrunc-1-aaaaaaaa/cgroup.procs", "78\n"),
        ("/proc/77/cgroup", "0::/x/other\n"),
        ("/cg/mrunc-1-aaaaaaaa/pids.max", None),
    ],
)
def test_a_group_does_not_hold_what_it_reads_otherwise(group, name, text):
    if text is None:
        del group.files[name]
    else:
        group.files[name] = text
    assert not group.holds_now()


def test_a_group_holds_no_limit_that_was_not_written(group):
    assert not group.holds_now("limits.memory")
    group.notes = {"limits.pids": "it can't be"}
    assert not group.holds_now()


# A tree that a program left


def walked(path, **settings):
    fd = os.open(str(path), os.O_RDONLY)
    try:
        walk = tree_walk.Walk(fd, **settings)
        return [entry.path for entry in walk], walk
    finally:
        os.close(fd)


def test_a_walk_opens_no_link(tmp_path):
    (tmp_path / "target").write_text("x")
    (tmp_path / "link").symlink_to("target")
    fd = os.open(str(tmp_path), os.O_RDONLY)
    try:
        entry = tree_walk.Entry(b"link", b"link", os.lstat(str(tmp_path / "target")), fd)
        for ours in (True, False):
            entry.ours = ours
            with pytest.raises(OSError) as caught:
                entry.open()
            assert caught.value.errno == errno.ELOOP
    finally:
        os.close(fd)


def test_a_walk_notices_a_directory_that_moves(tmp_path, monkeypatch):
    monkeypatch.setattr(tree_walk, "HELD", 1)
    (tmp_path / "a" / "b" / "c" / "d").mkdir(parents=True)
    (tmp_path / "x").mkdir()
    fd = os.open(str(tmp_path), os.O_RDONLY)
    try:
        with pytest.raises(OSError) as caught:
            for entry in tree_walk.Walk(fd):
                if entry.path == b"a/b/c/d":
                    os.rename(str(tmp_path / "a" / "b" / "c"), str(tmp_path / "x" / "c"))
        assert caught.value.errno == errno.ESTALE
    finally:
        os.close(fd)


def test_a_deep_tree_needs_few_descriptors(tmp_path):
    depth, here = 400, os.getcwd()
    os.chdir(str(tmp_path))
    try:
        for _ in range(depth):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(here)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (held + tree_walk.HELD + 20, hard))
    try:
        paths, walk = walked(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (len(paths), walk.unreadable) == (depth + 1, 0)


def test_a_long_path_is_counted_and_not_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(tree_walk, "LONGEST_PATH", 5)
    (tmp_path / "aa" / "bb" / "cc").mkdir(parents=True)
    paths, walk = walked(tmp_path)
    assert paths == [b"", b"aa", b"aa/bb"] and walk.too_long == 1


def test_rows_end_at_their_number_and_at_their_bytes(monkeypatch):
    made = rows.Rows()
    monkeypatch.setattr(rows, "MOST_ROWS", 2)
    assert [made.add({"n": number}) for number in range(4)] == [True, True, False, False]
    monkeypatch.setattr(rows, "MOST_ROWS", 100)
    monkeypatch.setattr(rows, "MOST_BYTES", 100)
    made = rows.Rows()
    assert [made.add({"text": "x" * 40}) for _ in range(3)] == [True, False, False]
    assert made.add({"n": 1}), "a short one fits"


def test_an_export_ends_at_its_number_and_at_its_bytes(tmp_path, monkeypatch):
    (tmp_path / "f").write_bytes(b"x" * 10000)
    fd = os.open(str(tmp_path / "f"), os.O_RDONLY)
    try:
        found, exporter = os.fstat(fd), export.Exporter(None)
        assert exporter._why_not(fd, found) is None
        exporter.bytes = export.MOST_BYTES - 9999
        assert "bytes in all" in exporter._why_not(fd, found)
        exporter.bytes, exporter.files = 0, export.MOST_FILES
        assert "files" in exporter._why_not(fd, found)
        exporter.files = 0
        assert exporter._why_not(fd, os.stat("/dev/null")) == "not a regular file"
    finally:
        os.close(fd)


# Private directories of runs that were killed


def test_a_strangers_private_directory_stays(tmp_path):
    names = [os.fsdecode(private.PREFIX) + digit * 16 for digit in "ab"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text("x")
    fd = os.open(str(tmp_path), os.O_RDONLY)
    try:
        private.remove_leftovers(fd, [(os.geteuid() + 1, 1000)])
        assert sorted(os.listdir(str(tmp_path))) == sorted(names)
        private.remove_leftovers(fd, [(5, 1), (os.geteuid(), 1)])
        assert os.listdir(str(tmp_path)) == []
    finally:
        os.close(fd)


def test_a_private_directory_in_use_stays(tmp_path):
    made = private.PrivateDirectory(
        os.fsencode(str(tmp_path)), (os.geteuid(), os.getegid()), [(os.geteuid(), 1)]
    )
    try:
        private.remove_leftovers(made.parent, [(os.geteuid(), 1)])
        assert os.listdir(str(tmp_path)) == [os.fsdecode(made.name)]
        assert stat.S_IMODE(os.stat(made.path).st_mode) == 0o700
    finally:
        made.remove()
    assert os.listdir(str(tmp_path)) == [] and not made.left


def test_pipes_that_cannot_be_carried_are_closed(monkeypatch):
    """A launcher would lose their descriptors with each such run."""
    def fail(*arguments):
        raise OSError(errno.EMFILE, "refused")

    read, write = os.pipe()
    before = os.listdir("/proc/self/fd")
    places = stdio.Stdio((read, write, write))
    places.release()
    monkeypatch.setattr(carry, "Outward", fail)
    with pytest.raises(OSError, match="refused"):
        places.start(False)
    places.abandon()
    assert os.listdir("/proc/self/fd") == before
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("call", ["open", "fchmod", "rename", "fchown", "flock"])
def test_a_private_directory_that_fails_is_not_left(tmp_path, monkeypatch, call):
    """Its draft has a name that no later run removes."""
    module = private.fcntl if call == "flock" else os
    real, descriptors = getattr(module, call), os.listdir("/proc/self/fd")

    def fail(*arguments, **others):
        if call == "open" and not bytes(arguments[0]).startswith(b"."):
            return real(*arguments, **others)
        raise OSError(errno.EIO, "refused")

    monkeypatch.setattr(private.os, "geteuid", lambda: 0)
    monkeypatch.setattr(module, call, fail)
    with pytest.raises(SandboxError, match="private directory"):
        private.PrivateDirectory(os.fsencode(str(tmp_path)), (5, 5), [(5, 1)])
    monkeypatch.undo()
    assert os.listdir(str(tmp_path)) == []
    assert os.listdir("/proc/self/fd") == descriptors


def test_emptying_a_directory_follows_no_link(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "f").write_text("x")
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "link").symlink_to(str(tmp_path / "kept"))
    (tmp_path / "top" / "d").mkdir()
    (tmp_path / "top" / "d" / "link").symlink_to("../../kept")
    fd = os.open(str(tmp_path / "top"), os.O_RDONLY)
    try:
        private.empty(fd)
    finally:
        os.close(fd)
    assert os.listdir(str(tmp_path / "top")) == [] and os.listdir(str(tmp_path / "kept")) == ["f"]


# The host's end of a launcher


@pytest.mark.parametrize("name", ["getresuid", "getresgid", "getgroups"])
def test_a_host_with_other_ids_has_another_launcher(monkeypatch, name):
    before = client._key(None, None)
    assert client._key(None, None) == before
    monkeypatch.setattr(os, name, lambda: (7, 7, 7))
    assert client._key(None, None) != before


def test_a_view_is_told_by_each_namespace(tmp_path):
    """Whatever else tells of a change: each link counts."""
    (tmp_path / "ns").mkdir()
    for name in surroundings.VIEW + surroundings.SHARED:
        (tmp_path / name).write_text("")
    fd = os.open(str(tmp_path), os.O_RDONLY)
    try:
        both = surroundings.VIEW + surroundings.SHARED
        for shares, names in ((False, surroundings.VIEW), (True, both)):
            for name in names:
                before = surroundings.view(fd, shares)
                assert surroundings.view(fd, shares) == before
                (tmp_path / "new").write_text("")
                os.rename(str(tmp_path / "new"), str(tmp_path / name))
                assert surroundings.view(fd, shares) != before, name
    finally:
        os.close(fd)
    assert {"ns/mnt", "ns/user"} <= set(surroundings.VIEW)
    assert {"ns/net", "ns/ipc", "ns/uts", "ns/cgroup"} <= set(surroundings.SHARED)


# Trace and ledger


def test_a_call_that_ends_a_run_is_told_in_short():
    record = types.SimpleNamespace(syscall="bpf", args={"data": "x" * 1000})
    heard, outcome = (
        hearing.Hearing.__new__(hearing.Hearing),
        types.SimpleNamespace(spec=types.SimpleNamespace(seccomp_action=None)),
    )
    heard.listening, heard.trace = types.SimpleNamespace(record=False), None
    heard.ledger = types.SimpleNamespace(rest={}, gone=0, killed=record)
    heard.tell(types.SimpleNamespace(notes=[]), outcome)
    assert outcome.forbidden_call == ("bpf", "data=" + "x" * (hearing.LONGEST - 5) + "...", None)
    record.args = {"data": "short"}
    heard.tell(types.SimpleNamespace(notes=[]), outcome)
    assert outcome.forbidden_call == ("bpf", "data=short", None)


class Waiting:
    """A listener whose calls wait, or do not any more."""

    def __init__(self, waits):
        self.waits, self.went = waits, 0

    def valid(self, ident):
        return self.waits

    def go_on(self, ident, number):
        self.went += 1
        return True


def unreadable(thread, address, size):
    raise OSError(errno.EFAULT, "")


def asked(looking, *, address=0):
    return looking.heard(1, os.getpid(), NR["execve"], (address,) + (0,) * 5, 0.0)


def test_what_was_read_of_a_process_that_is_gone_is_not_traced():
    before = len(os.listdir("/proc/self/fd"))
    for waits, known in ((True, 1), (False, 0)):
        looking = trace.Trace(Waiting(waits), 0.0, unreadable, os.getpid(), None)
        asked(looking)
        assert (looking.listener.went, len(looking.known)) == (1, known)
        looking.close()
        assert len(looking.all) == known
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_trace_holds_few_files_of_calls_that_are_not_decided(monkeypatch):
    looking, opened = (
        trace.Trace(
            Waiting(True),
            0.0,
            lambda thread, address, size: b"/bin/true\0"[:size],
            os.getpid(),
            None,
        ),
        [],
    )
    monkeypatch.setattr(looking.files, "at_path", lambda pid, path: opened.append(path))
    looking.pending = trace.HELD - 1
    seen = trace_look.look(os.getpid(), {})
    looking._asked(os.getpid(), NR["execve"], (4096, 0, 0, 0, 0, 0), seen, 0.0)
    assert opened == [b"/bin/true"] or opened == [b"//bin/true"]
    looking.pending = trace.HELD
    looking._asked(os.getpid(), NR["execve"], (4096, 0, 0, 0, 0, 0), seen, 0.0)
    assert len(opened) == 1
    looking.pending = 0
    looking.close()


def test_the_text_of_all_traced_programs_is_bounded(monkeypatch):
    monkeypatch.setattr(trace, "ALL_TEXT", 4000)
    looking = trace.Trace(Waiting(True), 0.0, unreadable, os.getpid(), None)
    for number in range(1, 41):
        process = trace.Process(trace_look.Seen(number, 1, number, 0, b"1"), -1)
        request = trace.Asked(number, trace_look.Seen(number, 1, number, 0, b"1"), float(number))
        request.path, request.argv = "/%d" % number + "p" * 2000, looking._bounded(["a" * 2000])
        process.asked[number] = request
        looking.pending += 1
        looking._settle(process, request, ("e" * 2000, None, "c" * 2000), None, True, 0.0)
    size = sum(len(text) for row in looking.all for text in [row.path, row.exe, row.cwd] + row.argv)
    assert len(looking.all) == 40 and size < 4000 + 8000 + 40 * 4 * (trace.FEW + 3)
    assert looking._bounded(["x"] * 10000)[-1] == "..."
    looking.close()


# Deadlines


class Ended:
    """A run whose kills are counted."""

    def __init__(self):
        self.sock, self.pid, self.sent, self.kills, self.stops = self, 0, [], 0, 0
        self.plan = types.SimpleNamespace(
            spec=types.SimpleNamespace(timeout=None, cpu_time=None, grace=0.5)
        )

    def signal(self, number):
        self.sent.append(number)

    def send(self, word):
        self.sent.append(word)

    def stop(self):
        self.stops += 1

    def kill_all(self):
        self.kills += 1
        return 1.0


def test_a_deadline_waits_for_the_grace_time_and_no_longer():
    run = Ended()
    served = supervise.Supervision(run, supervise.Outcome(run.plan.spec))
    served.ask_to_end()
    assert run.sent == [supervise.SIGTERM] and len(served.due) == 1
    assert 0.0 < min(at for at, _ in served.due) - served.begun < 0.5 + 10
    assert served.due[0][1] == served.stop


def test_processor_time_that_is_used_up_ends_the_run():
    """It is asked twice: a process that is reaped meanwhile shows twice."""
    for readings, ends in (([1.0], False), ([2.5, 1.0], False), ([2.5, 2.6], True)):
        run = Ended()
        served = supervise.Supervision(run, supervise.Outcome(run.plan.spec))
        run.plan.spec.cpu_time = 2.0
        counter = cputime.MeterPart(None, None)
        counter.meter = types.SimpleNamespace(interval=0.02, read=iter(readings).__next__)
        counter.watch(run, served)
        (_, look), = served.due
        served.due = []
        look()
        assert (served.outcome.cpu_deadline, served.ending, len(served.due)) == (ends, ends, 1)
        assert run.sent == [supervise.SIGTERM] * ends


def test_what_does_not_stop_is_killed_until_it_has_ended():
    run = Ended()
    served = supervise.Supervision(run, supervise.Outcome(run.plan.spec))
    served.stop()
    assert run.stops == 1 and [step for _, step in served.due] == [served._kill]
    served.due[0][1]()
    assert run.kills == 1 and [step for _, step in served.due[1:]] == [served._kill]
    served.over = True
    served._kill()
    served.stop()
    assert (run.kills, run.stops) == (1, 1)


def test_an_end_of_a_sandbox_is_no_other_callers_signal():
    """The third SIGINT, SIGQUIT or SIGTERM ends the sandbox; other signals are the program's."""
    run = Ended()
    served = supervise.Supervision(run, supervise.Outcome(run.plan.spec))
    for number in (2, 10, 15, 12, 1):
        served.signal(number)
    assert run.sent == [2, 10, 15, 12, 1] and not served.ending
    served.signal(3)
    assert served.ending and run.stops == 1 and served.outcome.insisted == 3


# Names, ids, descriptors


def test_an_export_leads_over_no_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    made = export.Folder(drafts.Target(os.fsencode(str(tmp_path / "out"))))
    (tmp_path / "out" / "a").symlink_to("../elsewhere")
    (tmp_path / "out" / "f").symlink_to("../elsewhere/f")
    (tmp_path / "text").write_text("x")
    fd = os.open(str(tmp_path / "text"), os.O_RDONLY)
    try:
        for name in (b"a/f", b"f"):
            with pytest.raises(OSError):
                made.put(name, fd, 1)
    finally:
        os.close(fd)
        made.discard()
    assert os.listdir(str(tmp_path / "elsewhere")) == []


def test_an_export_uses_no_directory_of_another_user(tmp_path, monkeypatch):
    """One that took the name while the program ran, and is empty, too."""
    made = export.Folder(drafts.Target(os.fsencode(str(tmp_path / "out"))))
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: os.getuid() + 12345)
        with pytest.raises(OSError) as caught:
            made.complete()
    assert caught.value.errno == errno.ESTALE and made.fd == -1
    made.discard()


def test_below_a_directory_no_link_is_followed(tmp_path):
    """Not even one that stays inside, wherever on the path it is."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("x")
    (tmp_path / "link").symlink_to("d")
    (tmp_path / "d" / "same").symlink_to("f")
    fd = os.open(str(tmp_path), os.O_RDONLY)
    try:
        os.close(files.open_beneath(fd, b"d/f", os.O_RDONLY))
        for path in (b"link/f", b"d/same", b"link", b"../" + os.fsencode(tmp_path.name), b"/etc"):
            with pytest.raises(OSError):
                files.open_beneath(fd, path, os.O_RDONLY)
    finally:
        os.close(fd)


def test_a_draft_takes_the_place_of_a_file_alone(tmp_path):
    (tmp_path / "kept").write_text("x")
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "folder").mkdir()
    os.mkfifo(str(tmp_path / "fifo"))
    for name, fits in (("kept", True), ("new", True), ("link", False), ("folder", False),
                       ("fifo", False)):
        target = drafts.Target(os.fsencode(str(tmp_path / name)))
        try:
            if fits:
                drafts.Draft(target, 0o600).discard()
                continue
            with pytest.raises(OSError) as caught:
                drafts.Draft(target, 0o600)
            assert caught.value.errno == errno.EEXIST
        finally:
            target.close()
    assert (tmp_path / "kept").read_text() == "x"


def test_a_draft_has_a_name_that_nobody_guesses():
    names = {drafts._fresh(b"report") for _ in range(20)}
    assert len(names) == 20 and all(name.startswith(b".report.") for name in names)


def test_a_leftover_that_is_a_link_is_not_entered(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "f").write_text("x")
    name = os.fsdecode(private.PREFIX) + "a" * 16
    (tmp_path / name).symlink_to("elsewhere")
    fd = os.open(str(tmp_path), os.O_RDONLY)
    try:
        private.remove_leftovers(fd, [(os.geteuid(), 1)])
    finally:
        os.close(fd)
    assert sorted(os.listdir(str(tmp_path))) == ["elsewhere", name]
    assert os.listdir(str(tmp_path / "elsewhere")) == ["f"]


def test_the_range_of_ids_holds_neither_root_nor_nobody():
    for text in ("0:5", "65534:1", "65000:1000", "4294967290:9", "5:0", "-1:3", "5", "a:b"):
        with pytest.raises(SandboxError) as caught:
            idmap.wanted_range({"MRUNC_ID_RANGE": text})
        assert caught.value.status == 2
    assert idmap.wanted_range({"MRUNC_ID_RANGE": "1:65533"}) == (1, 65533)
    wanted = idmap.wanted_range({})
    for lines in ([(0, 5)], [(0, 65536)], [(0, 1)], [(0, 70000)], [(0, 1), (100000, 10)]):
        for first, count in idmap.candidates(wanted, lines, lines):
            held = range(first, first + count)
            assert not {0, 65534, 65535} & set(held)
            assert any(low <= first and first + count <= low + size for low, size in lines)


def test_an_id_that_is_not_locked_is_refused(tmp_path, monkeypatch):
    """A lock that only pretends to be one, as a file system without locks has it."""
    monkeypatch.setattr(idmap, "LOCK_DIRECTORY", str(tmp_path))
    idmap.HostId([(5, 1)]).release()
    real = idmap.fcntl.fcntl

    def pretends(fd, command, *words):
        return 0 if command == idmap.F_OFD_SETLK else real(fd, command, *words)

    with monkeypatch.context() as patched:
        patched.setattr(idmap.fcntl, "fcntl", pretends)
        with pytest.raises(SandboxError) as caught:
            idmap.HostId([(5, 1)])
    assert "had no effect" in caught.value.line()


def test_a_descriptor_that_is_not_ours_is_seen():
    read, write = os.pipe()
    zero = os.open("/dev/zero", os.O_RDWR)
    made = stdio.Stdio((read, write, write))
    try:
        assert not made.holds(os.getpid(), -1)[0]
        assert stdio.is_null(os.stat("/dev/null")) and not stdio.is_null(os.fstat(zero))
    finally:
        made.abandon()
        for fd in (read, write, zero):
            os.close(fd)
