# SPDX-License-Identifier: Apache-2.0
"""Control groups as data: where one can be made, which file says what, whose disk a path is, what systemd is asked.

What the kernel then does is proved in virtual machines, by test_cgroup_vm.py; here is every decision and every refusal.
"""
import os
import stat
import types

import pytest

import mrunc  # noqa: F401  registers the package
from mrunc.sandbox.cgroup import disks, group as cgroup, limits, place as cgroup_place, \
    scope as cgroup_scope
from mrunc.sandbox.cgroup.place import Host, Unavailable
from mrunc.sandbox.errors import SandboxError
from mrunc.sandbox.plan.spec import Spec

V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = ("31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
          "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
          "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n")
V1_OWN = "9:name=systemd:/\n8:pids:/\n4:memory:/x\n3:cpuset:/\n1:cpu,cpuacct:/\n7:blkio:/\n"


# What the kernel's files say

def test_the_mounts_of_cgroup2_are_found_among_all_others():
    assert cgroup_place.mounts(V2) == [("/sys/fs/cgroup", "/", True)]
    assert cgroup_place.mounts(HYBRID) == [("/sys/fs/cgroup/unified", "/", True)]
    assert cgroup_place.mounts("") == []
    odd = "31 23 0:28 /a\\040b /c\\134d\\040e ro,relatime - cgroup2 none rw\n"
    assert cgroup_place.mounts(odd) == [("/c\\d e", "/a b", False)]


@pytest.mark.parametrize("text, wanted", [
    ("0::/\n", "/"), ("0::/user.slice/x.scope\n", "/user.slice/x.scope"), (V1_OWN, None), (V1_OWN + "0::/a\n", "/a"),
    ("0::/gone (deleted)\n", None), ("0::/../../outside\n", None),
])
def test_the_own_group_is_the_line_of_v2(text, wanted):
    assert cgroup_place.own_group(text) == wanted


def test_the_controllers_of_v1_hierarchies():
    assert cgroup_place.v1_controllers(V1_OWN + "0::/\n") == {"pids", "memory", "cpuset", "cpu", "cpuacct", "blkio"}


# Where: made-up trees

class Tree:
    """A made-up hierarchy in a directory.  group(path, has, gives, ours) makes a group."""

    def __init__(self, root):
        self.root = str(root)

    def group(self, path="", has="memory pids cpu io", gives="", ours=True):
        directory = os.path.join(self.root, path) if path else self.root
        os.makedirs(directory, exist_ok=True)
        for name, text in (("cgroup.controllers", has), ("cgroup.subtree_control", gives), ("cgroup.procs", "")):
            if name != "cgroup.procs" or ours:
                with open(os.path.join(directory, name), "w") as stream:
                    stream.write(text + "\n")
        return directory

    def host(self, own="/", uid=1000, root="/", rights="rw", v1="", table=""):
        line = "31 23 0:28 %s %s %s,relatime - cgroup2 cgroup2 %s\n" % (root, self.root, rights, rights)
        return Host(uid, line, v1 + "0::%s\n" % own, table)


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def test_root_makes_a_subtree_of_its_own_at_the_mount(tree):
    tree.group(gives="memory pids")
    tree.group("mrunc", gives="memory pids")
    place = cgroup_place.find(tree.host(uid=0), {"memory", "pids"})
    assert (place.directory, place.how, place.ours) == (tree.root + "/mrunc", "root", True)


def test_a_user_gets_a_sibling_where_the_parent_was_delegated(tree):
    tree.group(ours=False)
    delegated = tree.group("user/session", gives="memory pids cpu")
    tree.group("user/session/own")
    tree.group("user", ours=False)
    place = cgroup_place.find(tree.host("/user/session/own"), {"memory"})
    assert (place.directory, place.how, place.ours) == (delegated, "parent", False)


def test_a_user_s_own_group_takes_children_after_everything_moved_to_a_leaf(tree):
    tree.group(ours=False)
    own = tree.group("scope", gives="memory")
    place = cgroup_place.find(tree.host("/scope"), {"memory"})
    assert (place.directory, place.how) == (own, "self") and os.path.isdir(own + "/" + cgroup_place.LEAF)


def test_a_mount_of_a_part_of_the_hierarchy_cuts_the_own_path(tree):
    tree.group(ours=False)
    tree.group("here", gives="pids")
    host = tree.host("/container/7/here", root="/container/7")
    assert cgroup_place.own_directory(host) == (tree.root, tree.root + "/here")
    with pytest.raises(Unavailable) as caught:
        cgroup_place.own_directory(tree.host("/other", root="/container/7"))
    assert "not below what is mounted" in caught.value.why


@pytest.mark.parametrize("host, words", [
    (lambda tree: Host(0, "", V1_OWN, ""), "this host has cgroup v1 only"),
    (lambda tree: Host(0, "", "0::/\n", ""), "cgroup2 is not mounted here"),
    (lambda tree: tree.host(uid=0, rights="ro"), "mounted read-only"),
    (lambda tree: tree.host("/../x", uid=0), "outside the cgroup namespace"),
    (lambda tree: tree.host(uid=0, root="/.."), "outside the cgroup namespace"),
    (lambda tree: tree.host(uid=0, v1=V1_OWN), "memory controller belongs to cgroup v1 here (a hybrid host)"),
    (lambda tree: tree.host(uid=0, table="#name\nmemory\t0\t1\t0\n"), "the kernel was started without the memory controller"),
    (lambda tree: tree.host(uid=0), "the memory controller is not in"),
    (lambda tree: tree.host("/user"), "no group was delegated that has memory (/: not ours; /user: not ours)"),
])
def test_each_reason_why_there_is_no_place_has_its_words(tree, host, words):
    tree.group(has="hugetlb", ours=False)
    tree.group("user", ours=False)
    with pytest.raises(Unavailable) as caught:
        cgroup_place.find(host(tree), {"memory"})
    assert words in caught.value.why and caught.value.remedy, caught.value.why


def test_io_of_v1_is_called_blkio(tree):
    tree.group(has="memory")
    with pytest.raises(Unavailable) as caught:
        cgroup_place.find(tree.host(uid=0, v1=V1_OWN), {"io"})
    assert "the io controller belongs to cgroup v1" in caught.value.why


def test_a_controller_that_was_not_handed_down_is_named(tree):
    tree.group(ours=False)
    tree.group("user", has="memory pids", gives="memory pids")
    tree.group("user/own", has="memory pids")
    with pytest.raises(Unavailable) as caught:
        cgroup_place.find(tree.host("/user/own"), {"memory", "io"})
    assert "/user: not handed down to it: io" in caught.value.why
    assert not os.path.exists(tree.root + "/user/own/" + cgroup_place.LEAF), "nothing moves where it can't help"


def test_looking_for_a_place_changes_nothing(tree):
    tree.group(ours=False)
    tree.group("user", has="memory", gives="")
    tree.group("user/own", has="")
    before = sorted(os.walk(tree.root))
    assert cgroup_place.seems_usable(tree.host("/user/own"), {"memory"})
    assert not cgroup_place.seems_usable(tree.host("/user/own"), {"pids"})
    assert sorted(os.walk(tree.root)) == before
    assert open(tree.root + "/user/cgroup.subtree_control").read() == "\n"


MANAGER = "/user.slice/user-1000.slice/user@1000.service"


def test_what_the_user_s_systemd_manager_keeps_for_itself_comes_last(tree):
    scope = MANAGER + "/app.slice/mrunc-77-0123abcd.scope"
    order = [(how, path[len(tree.root):]) for how, path in cgroup_place.candidates(tree.host(scope))]
    assert order == [("parent", "/user.slice/user-1000.slice"), ("parent", "/user.slice"), ("parent", ""), ("self", scope),
                     ("parent", MANAGER + "/app.slice"), ("parent", MANAGER)]
    leaf = scope + "/" + cgroup_place.LEAF
    assert cgroup_place.candidates(tree.host(leaf))[0] == ("parent", tree.root + scope), "its own scope, once it moved"


def test_a_terminal_of_the_user_s_is_not_taken_apart_where_a_scope_can_be_had(tree):
    for path in ("", "user.slice", "user.slice/user-1000.slice"):
        tree.group(path, ours=False)
    for path in (MANAGER, MANAGER + "/app.slice", MANAGER + "/app.slice/terminal.scope"):
        tree.group(path[1:], gives="memory pids")
    host = tree.host(MANAGER + "/app.slice/terminal.scope")
    assert not cgroup_place.seems_usable(host, {"memory"})
    assert cgroup_place.find(host, {"memory"}).how == "self", "without a manager that answers it is all there is"


# What is asked of it

def wanted(**options):
    return [(one.control, one.file, one.value) for one in limits.settings(Spec(["true"], **options), {})]


def test_each_limit_is_its_files():
    assert wanted(memory="64M") == [("limits.memory", "memory.max", "67108864"), ("limits.memory", "memory.swap.max", "0"),
                                    ("limits.memory", "memory.oom.group", "1")]
    assert wanted(pids=20) == [("limits.pids", "pids.max", "20")]
    assert wanted(cpus="0.5") == [("limits.cpu", "cpu.max", "50000 100000")]
    assert wanted(cpus=2) == [("limits.cpu", "cpu.max", "200000 100000")]
    assert wanted(memory="64M", unsafe_without="limits.memory") == []
    both = limits.settings(Spec(["true"]), {"8:0": {"wbps": 2000, "rbps": 1000}, "8:16": {"wbps": 5}})
    assert [one.value for one in both] == ["8:0 rbps=1000 wbps=2000", "8:16 wbps=5"]


@pytest.mark.parametrize("file, value, text, right", [
    ("memory.max", "67108864", "67108864\n", True), ("memory.max", "67108865", "67108864\n", True),
    ("memory.max", "67108864", "max\n", False), ("memory.max", "67108864", "67104768\n", False),
    ("pids.max", "20", "20\n", True), ("pids.max", "20", "max\n", False), ("cpu.max", "50000 100000", "50000 100000\n", True),
    ("cpu.max", "50000 100000", "max 100000\n", False),
    ("io.max", "8:0 wbps=5", "8:0 rbps=max wbps=5 riops=max wiops=max\n", True),
    ("io.max", "8:0 wbps=5", "8:16 rbps=max wbps=5 riops=max wiops=max\n", False),
    ("io.max", "8:0 wbps=5", "8:0 rbps=max wbps=50 riops=max wiops=max\n", False), ("io.max", "8:0 wbps=5", "", False),
    ("io.max", "8:0 rbps=1 wbps=5", "7:0 rbps=9\n8:0 rbps=1 wbps=5 riops=max wiops=max\n", True),
])
def test_what_is_read_back_is_compared_in_the_kernel_s_own_form(file, value, text, right):
    control = {"memory": "limits.memory", "pids": "limits.pids", "cpu": "limits.cpu", "io": "limits.io"}[file.split(".")[0]]
    assert limits.Setting(control, file, value).shown_by(text) is right


@pytest.mark.parametrize("options, words", [
    (dict(memory="0"), "memory='0': a size must be more than 0"), (dict(memory="lots"), "memory='lots': not a size"),
    (dict(memory="100"), "memory='100': less than a page"), (dict(cpus=0), "cpus=0: a number of processors"),
    (dict(cpus="0.001"), "cpus='0.001': a number of processors"), (dict(cpus="nan"), "cpus='nan': a number of processors"),
    (dict(cpus="many"), "cpus='many'"), (dict(cpus=True), "cpus=True"), (dict(pids=1), "pids=1: a whole number from 2"),
    (dict(pids="x"), "pids='x'"), (dict(pids=4194305), "pids=4194305"), (dict(pids=2.5), "pids=2.5"),
    (dict(io_read="1"), "the smallest rate is 2"), (dict(io_write=":1M"), "the device is empty"),
    (dict(io_write=["/dev/sda:fast"]), "io_write='fast': not a size"),
    (dict(best_effort="netns"), "best_effort='netns': it is never done without"),
    (dict(best_effort="memory"), "no such control (did you mean limits.memory?)"),
    (dict(require="nonsense"), "require='nonsense': no such control"),
    (dict(require="limits.memory"), "require='limits.memory': nothing asks for it"),
    (dict(require="limits.io", memory="1G"), "require='limits.io': nothing asks for it"),
    (dict(require="landlock", best_effort="landlock"), "contradicts best_effort='landlock'"),
    (dict(require="landlock", unsafe_without="landlock"), "contradicts unsafe_without='landlock'"),
])
def test_what_makes_no_sense_is_refused_whatever_the_host(options, words):
    with pytest.raises(SandboxError) as caught:
        Spec(["true"], **options)
    assert caught.value.status == 2 and words in caught.value.line(), caught.value.line()


@pytest.mark.parametrize("word, options, line, remedy", [
    ("mrunc", dict(memory=100), "--memory 100: less than a page", "a number without a unit is bytes; for megabytes write 100M"),
    ("host.py", dict(memory=100), "memory=100: less than a page", "a number without a unit is bytes; for megabytes write 100M"),
    ("mrunc", dict(memory="1K"), "--memory 1K: less than a page", "write it like 256M or 1.5G"),
    ("mrunc", dict(require="limits.io"), "--require limits.io: nothing asks for it", "give --io-read or --io-write"),
    ("host.py", dict(require="limits.io"), "require='limits.io': nothing asks for it", "give io_read or io_write"),
])
def test_a_mistake_is_named_as_the_caller_wrote_it(monkeypatch, word, options, line, remedy):
    monkeypatch.setattr("sys.argv", [word])
    with pytest.raises(SandboxError) as caught:
        Spec(["true"], **options)
    assert (caught.value.line(), caught.value.remedy) == ("options: " + line, remedy)


def test_a_rate_is_for_a_device_or_for_the_sources():
    spec = Spec(["true"], io_read=["1M", "8:16:2M", "/dev/disk:with:colons:3M"], io_write=[("/data", 4096)])
    assert spec.io_read == [(None, 1 << 20), (b"8:16", 2 << 20), (b"/dev/disk:with:colons", 3 << 20)]
    assert spec.io_write == [(b"/data", 4096)] and spec.wants_group
    assert not Spec(["true"], best_effort="limits.io").wants_group


def test_more_processes_asked_for_than_the_usual_limit_are_not_cut_by_it():
    from test_plan import make
    assert make(pids=100).limits["nproc"] == (512, 512)
    assert make(pids=1000).limits["nproc"][0] > 1000
    assert make(pids=1000, rlimit=["nproc=64"]).limits["nproc"] == (64, 64)


def test_the_plan_shows_the_files_and_asks_for_the_controls_alone_that_were_given():
    from mrunc.sandbox import controls
    from mrunc.commands.run import plan_text
    from test_plan import make
    made = make(memory="64M", pids=20)
    assert [name for name, asked in made.controls.items() if asked and name in controls.GROUP_LIMITS] == \
        ["limits.memory", "limits.pids"]
    assert "control group memory.max 67108864; memory.swap.max 0; memory.oom.group 1; pids.max 20" in \
        list(plan_text.describe(made))
    assert plan_text.as_dict(made)["group"][0] == {"control": "limits.memory", "file": "memory.max", "value": "67108864"}


# What can't be

SETTINGS = limits.settings(Spec(["true"], memory="64M", pids=20, cpus=1), {})


@pytest.mark.parametrize("word, name, way_out", [("mrunc", "--memory", "--best-effort limits.memory"),
                                                 ("host.py", "memory", "best_effort='limits.memory'")])
def test_a_limit_that_can_t_be_enforced_is_refused_by_name(tree, monkeypatch, word, name, way_out):
    monkeypatch.setattr("sys.argv", [word])
    tree.group(has="pids cpu", gives="pids cpu")
    tree.group("mrunc", has="pids cpu", gives="pids cpu")
    with pytest.raises(SandboxError) as caught:
        cgroup_place.choose(SETTINGS, frozenset(), tree.host(uid=0))
    error = caught.value
    assert (error.status, error.control) == (125, "limits.memory")
    assert error.line().startswith("limits: %s: the memory controller is not in " % name)
    assert error.remedy.endswith("; or %s to run without this limit" % way_out)


def test_best_effort_leaves_out_what_can_t_be_and_keeps_the_rest(tree):
    tree.group(has="pids cpu", gives="pids cpu")
    tree.group("mrunc", has="pids cpu", gives="pids cpu")
    place, have, notes = cgroup_place.choose(SETTINGS, frozenset(["limits.memory"]), tree.host(uid=0))
    assert place.how == "root" and have == {"pids", "cpu"} and list(notes) == ["limits.memory"]
    everything = frozenset(["limits.memory", "limits.pids", "limits.cpu"])
    place, have, notes = cgroup_place.choose(SETTINGS, everything, Host(0, "", V1_OWN, ""))
    assert place is None and not have and set(notes) == everything
    with pytest.raises(SandboxError) as caught:
        cgroup_place.choose(SETTINGS, frozenset(["limits.memory"]), Host(0, "", V1_OWN, ""))
    assert caught.value.control == "limits.pids"


def test_a_user_without_a_group_is_refused_and_nothing_runs(inside_as_user):
    done = inside_as_user.run("/bin/echo", "ran", options=["--memory", "64M"])
    assert (done.rc, done.out) == (125, "") and done.err.startswith("mrunc: limits: --memory: "), done
    assert "mrunc: remedy: " in done.err and "--best-effort limits.memory" in done.err
    assert (done.result["reason"], done.result["stage"]) == ("setup", "limits")


def test_best_effort_runs_and_says_what_is_not_in_force(inside_as_user):
    options = ["--memory", "64M", "--pids=20", "--best-effort", "limits.memory,limits.pids"]
    done = inside_as_user.run("/bin/echo", "ran", options=options)
    assert (done.rc, done.out) == (0, "ran\n") and done.err.startswith("mrunc: note: without limits.memory"), done
    rows = dict((row["name"], row) for row in done.result["controls"])
    for name in ("limits.memory", "limits.pids"):
        assert rows[name]["asked"] and not rows[name]["in_force"] and rows[name]["how"] in done.err
    assert not rows["limits.cpu"]["asked"]
    assert done.result["usage"]["memory_peak_bytes"] is None and done.result["limits_hit"] == {}


def test_a_control_that_is_required_and_missing_stops_the_run(inside):
    done = inside.run("/bin/echo", "ran", options=["--require", "proc", "--proc", "none"])
    assert (done.rc, done.out) == (125, "") and done.err.startswith("mrunc: gate: proc is required: "), done
    assert "without --require proc" in done.err
    done = inside.run("/bin/echo", "ran", options=["--tier", "process", "--require", "netns"])
    assert (done.rc, done.out) == (2, "") and "--require netns in the process tier: " in done.err, done
    done = inside.run("/bin/echo", "ran", options=["--require", "netns,seccomp,caps"])
    assert (done.rc, done.out) == (0, "ran\n"), done


# Disks

class Sys:
    """A made-up /sys/dev/block and mountinfo; stat says what it is told."""

    def __init__(self, folder):
        self.folder, self.said, self.lines = str(folder), {}, []
        os.makedirs(self.folder + "/dev/block")

    def disk(self, number, partitions=()):
        place = "%s/devices/%s" % (self.folder, number.replace(":", "-"))
        os.makedirs(place)
        with open(place + "/dev", "w") as stream:
            stream.write(number + "\n")
        os.symlink(place, "%s/dev/block/%s" % (self.folder, number))
        for partition in partitions:
            part = place + "/" + partition.replace(":", "-")
            os.mkdir(part)
            for name, text in (("dev", partition), ("partition", "1")):
                with open(part + "/" + name, "w") as stream:
                    stream.write(text + "\n")
            os.symlink(part, "%s/dev/block/%s" % (self.folder, partition))

    def file(self, path, device):
        self.said[path] = types.SimpleNamespace(st_mode=stat.S_IFDIR, st_dev=os.makedev(*device), st_rdev=0)

    def node(self, path, device, kind=stat.S_IFBLK):
        self.said[path] = types.SimpleNamespace(st_mode=kind, st_dev=os.makedev(0, 5), st_rdev=os.makedev(*device))

    def mount(self, point, kind, source, words="rw"):
        self.lines.append("1 1 0:9 / %s rw - %s %s %s\n" % (point, kind, source, words))

    def disks(self):
        with open(self.folder + "/mountinfo", "w") as stream:
            stream.writelines(self.lines)

        def look(path):
            path = os.fsencode(path)
            if path not in self.said:
                raise FileNotFoundError(2, "No such file or directory", path)
            return self.said[path]
        return disks.Disks(self.folder + "/mountinfo", self.folder, look)


@pytest.fixture
def made_up(tmp_path):
    made = Sys(tmp_path)
    made.disk("8:0", ["8:1"])
    made.disk("253:0")
    made.file(b"/data", (8, 1))
    made.file(b"/crypt", (253, 0))
    made.node(b"/dev/sda", (8, 0))
    made.node(b"/dev/sda1", (8, 1))
    made.node(b"/dev/null", (1, 3), stat.S_IFCHR)
    made.mount("/", "tmpfs", "tmpfs")
    return made


@pytest.mark.parametrize("path, wanted", [(b"/data", "8:0"), (b"/crypt", "253:0"), (b"/dev/sda", "8:0"), (b"/dev/sda1", "8:0")])
def test_a_path_is_its_whole_disk(made_up, path, wanted):
    assert made_up.disks().below(path) == wanted


def test_a_file_system_without_a_number_of_its_own_is_found_by_its_mount(made_up):
    made_up.mount("/pool", "btrfs", "/dev/sda1", "rw,subvol=/x")
    made_up.file(b"/pool/deep/down", (0, 40))
    assert made_up.disks().below(b"/pool/deep/down") == "8:0"


def test_an_overlay_is_the_disk_of_its_upper_layer(made_up, tmp_path):
    upper, lower = str(tmp_path / "upper"), str(tmp_path / "lower")
    for folder, device in ((upper, (8, 1)), (lower, (253, 0))):
        os.mkdir(folder)
        made_up.file(os.fsencode(folder), device)
    made_up.mount("/merged", "overlay", "overlay", "rw,lowerdir=%s:/else,upperdir=%s,workdir=/w" % (lower, upper))
    made_up.file(b"/merged", (0, 50))
    assert made_up.disks().below(b"/merged") == "8:0"
    made_up.lines[-1] = "1 1 0:9 / /merged rw - overlay overlay ro,lowerdir=%s:/else\n" % lower
    assert made_up.disks().below(b"/merged") == "253:0"


@pytest.mark.parametrize("kind, source", [("tmpfs", "tmpfs"), ("nfs4", "server:/export"), ("9p", "share"), ("proc", "proc")])
def test_what_has_no_disk_is_refused_by_name(made_up, kind, source):
    made_up.mount("/there", kind, source)
    made_up.file(b"/there/x", (0, 60))
    with pytest.raises(SandboxError) as caught:
        made_up.disks().below(b"/there/x")
    assert (caught.value.status, caught.value.control) == (125, "limits.io")
    assert caught.value.line() == "limits: /there/x: lies on %s, which has no disk of its own: there is nothing to limit" % kind
    assert caught.value.remedy.startswith("name a disk: io_write='/dev/NAME:BPS'")
    assert ("memory bounds" in caught.value.remedy) == (kind == "tmpfs")


def test_rates_are_gathered_by_disk_and_the_lower_holds(made_up):
    found = made_up.disks()
    assert disks.rates([], [(None, 100)], [b"/data", b"/crypt"], disks=found) == {"8:0": {"wbps": 100}, "253:0": {"wbps": 100}}
    assert disks.rates([(b"8:1", 7)], [(b"/dev/sda", 9), (b"/data", 5)], [], disks=found) == {"8:0": {"rbps": 7, "wbps": 5}}


@pytest.mark.parametrize("device, words", [(b"8:99", "no such block device"), (b"/dev/nothing", "No such file"),
                                           (b"/dev/null", "character device"), (None, "no source of the host is shown")])
def test_a_device_that_is_none_is_a_mistake(made_up, device, words):
    with pytest.raises(SandboxError) as caught:
        disks.rates([], [(device, 100)], [], disks=made_up.disks())
    assert caught.value.status == 2 and words in caught.value.line()


@pytest.mark.parametrize("kind, holds", [("ext4", True), ("xfs", True), ("vfat", False), ("ntfs3", False)])
def test_a_limit_on_writing_that_the_file_system_lets_slip_is_refused(made_up, kind, holds):
    made_up.mount("/data", kind, "/dev/sda1")
    found = made_up.disks()
    assert disks.rates([(None, 5)], [], [b"/data"], [b"/data"], found) == {"8:0": {"rbps": 5}}
    assert disks.rates([], [(b"253:0", 5)], [], [b"/data"], found) == {"253:0": {"wbps": 5}}, "another disk"
    if holds:
        assert disks.rates([], [(None, 5)], [b"/data"], [b"/data"], found) == {"8:0": {"wbps": 5}}
        return
    with pytest.raises(SandboxError) as caught:
        disks.rates([], [(None, 5)], [b"/data"], [b"/data"], found)
    assert (caught.value.status, caught.value.control) == (125, "limits.io") and "would not hold" in caught.value.line()


def test_a_limit_on_disks_takes_the_memory_controller_too(tree):
    """Or what is written through the page cache is nobody's."""
    settings = limits.settings(Spec(["true"]), {"8:0": {"wbps": 4096}})
    tree.group(has="io", gives="io")
    with pytest.raises(SandboxError) as caught:
        cgroup_place.choose(settings, frozenset(), tree.host(uid=0))
    assert "the memory controller is not in" in caught.value.line() and caught.value.control == "limits.io"
    tree.group(has="io memory", gives="io memory")
    tree.group("mrunc", has="io memory", gives="io memory")
    assert cgroup_place.choose(settings, frozenset(), tree.host(uid=0))[1] == {"io", "memory"}


def test_a_limit_without_a_device_means_everything_of_the_host_s_that_is_shown():
    spec = Spec(["true"], ro=["/a:/x"], rw=["/b:/y"], here=True, rootfs="/c")
    assert limits.sources(spec) == [b"/a", b"/b", os.getcwdb(), b"/c"]


# The user's systemd manager

def facts(**changed):
    given = dict(uid=1000, pid=77, own="/user.slice/user-1000.slice/session-3.scope", runtime="/run/user/1000", manager=True,
                 systemd_run="/usr/bin/systemd-run", handed={"memory", "pids", "cpu"})
    given.update(changed)
    return cgroup_scope.Facts(**given)


def test_a_login_session_asks_for_a_scope_with_the_same_pid_in_its_name():
    words, why = cgroup_scope.decide(facts(), {"memory"})
    assert why is None and words[:4] == ["/usr/bin/systemd-run", "--user", "--scope", "--quiet"] and words[-1] == "--"
    assert "-p" in words and "Delegate=yes" in words and any(word.startswith("--unit=mrunc-77-") for word in words)


@pytest.mark.parametrize("changed, words", [
    (dict(own="/user.slice/user@1000.service/app.slice/mrunc-77-abcd.scope"), "already is a scope"),
    (dict(own="/user.slice/user@1000.service/app.slice/mrunc-77-abcd.scope/mrunc-super"), "already is a scope"),
    (dict(uid=0), "root makes its own"), (dict(systemd_run=None), "no systemd-run"), (dict(runtime=None), "no systemd manager"),
    (dict(manager=False), "no systemd manager"),
])
def test_where_no_scope_helps_none_is_asked_for(changed, words):
    command, why = cgroup_scope.decide(facts(**changed), {"memory"})
    assert command is None and words in why


def test_a_controller_that_systemd_does_not_delegate_is_refused_with_the_drop_in():
    with pytest.raises(SandboxError) as caught:
        cgroup_scope.decide(facts(), {"memory", "io"})
    assert caught.value.status == 125 and "does not delegate io to users" in caught.value.line()
    assert "Delegate=cpu cpuset io memory pids" in caught.value.remedy and "user@.service.d" in caught.value.remedy
    assert cgroup_scope.decide(facts(handed=None), {"io"})[0], "a manager whose group can't be seen is asked"


def test_a_scope_of_another_mrunc_is_not_its_own():
    assert cgroup_scope.decide(facts(own="/x/mrunc-7-ab.scope"), {"memory"})[0]
    assert cgroup_scope.decide(facts(own="/x/mrunc-777-ab.scope"), {"memory"})[0]


def test_a_plain_run_knows_nothing_of_control_groups():
    from test_layout import PYTHON, imported
    found = imported(PYTHON, "run", "--", "/bin/true")
    assert not [name for name in found if "cgroup" in name or name.endswith(".disks")]


# The life of a group, as far as a directory goes

def test_a_leftover_is_known_by_its_name_and_its_lock(tmp_path):
    place = cgroup_place.Place(str(tmp_path), "parent")
    for name in ("mrunc-1-0123abcd", "mrunc-super", "mrunc-x-0123abcd", "mrunc-12", "other-1-0123abcd"):
        (tmp_path / name).mkdir()
    living = cgroup.Group(place)
    assert cgroup.sweep(str(tmp_path)) == 1
    assert sorted(os.listdir(str(tmp_path))) == sorted(["mrunc-super", "mrunc-x-0123abcd", "mrunc-12", "other-1-0123abcd",
                                                        os.path.basename(living.path)])
    assert living.remove() and not os.path.exists(living.path)
    with pytest.raises(OSError):
        os.fstat(living.fd)


def test_what_the_kernel_does_not_count_is_not_measured(tmp_path):
    group = cgroup.Group(cgroup_place.Place(str(tmp_path), "parent"))
    group.finish()
    assert all(value is None for name, value in group.evidence.items() if name != "split"), group.evidence
    assert not group.killed() and group.remove()


def test_a_group_that_a_sweeper_takes_at_once_is_made_again(tmp_path, monkeypatch):
    """Between mkdir and the lock it looks like a crashed run's."""
    made, real = [], os.mkdir

    def taken(path, mode):
        real(path, mode)
        made.append(path)
        if len(made) == 1:
            os.rmdir(path)
    monkeypatch.setattr(os, "mkdir", taken)

    class Place:
        directory = str(tmp_path)
    path, fd = cgroup._make(Place)
    os.close(fd)
    assert len(made) == 2 and path == made[1] and os.listdir(str(tmp_path)) == [os.path.basename(path)]


def test_best_effort_of_one_limit_leaves_the_others(monkeypatch):
    def write(path, value):
        raise OSError(22, "Invalid argument", path)
    monkeypatch.setattr(cgroup, "write", write)
    made = cgroup.Group.__new__(cgroup.Group)
    made.path, made.notes, made.settings = "/nowhere", {}, []
    wanted = [limits.Setting("limits.memory", "memory.max", "4096")]
    with pytest.raises(SandboxError) as caught:
        made.limit(wanted, {"limits.pids"})
    assert caught.value.control == "limits.memory"
    made.limit(wanted, {"limits.memory"})
    assert made.settings == [] and "Invalid argument" in made.notes["limits.memory"]
