# SPDX-License-Identifier: Apache-2.0
"""The plan is data: made for a host that does not exist, without a privilege, and without any effect."""
import inspect
import json
import os
import stat
import types

import pytest

import mrunc  # noqa: F401 (makes the package)
from mrunc.sandbox.tree import default, mounting, operations, source, user_mounts
from mrunc.sandbox import controls
from mrunc.sandbox.host import facts as host
from mrunc.sandbox.plan import plan
from mrunc.commands.run import plan_text
from mrunc.sandbox.errors import SandboxError
from mrunc.sandbox.proc import parse
from mrunc.sandbox.plan.spec import Spec
from mrunc.syscalls import landlock

RO, NOSUID, NODEV, NOEXEC = operations.RO, operations.NOSUID, operations.NODEV, operations.NOEXEC


def made_up(uid=1000, **changes):
    """A merged-/usr host."""
    self = host.Host()
    self.uid, self.gid = uid, uid
    self.layout = {"bin": b"usr/bin", "lib": b"usr/lib", "lib64": b"usr/lib64", "sbin": b"usr/sbin"}
    self.stores = []
    self.etc = [(b"/etc/ld.so.cache", False), (b"/etc/ssl/certs", True)]
    self.cpu = {"online": b"0-1\n", "possible": b"0-1\n", "present": b"0-1\n"}
    self.proc = frozenset(["kcore", "sys", "acpi", "keys"])
    self.hard_limits = {"nofile": (1024, 524288), "nproc": (9999, 9999)}
    self.mounts = parse(b"1 0 0:1 / / rw - ext4 none rw\n2 1 0:2 / /usr/local rw - ext4 none rw\n")
    for name, value in changes.items():
        setattr(self, name, value)
    return self


def make(facts=None, ids=(), **options):
    return plan.make(Spec(["true"], environ={}, **options), facts or made_up(), ids)


def at(made, path, kind=None):
    """The operations at a path."""
    return [op for op in made.operations if op.dst == path and kind in (None, op.kind)]


def refused(words, facts=None, **options):
    with pytest.raises(SandboxError) as caught:
        make(facts, **options)
    assert caught.value.status == 2 and words in caught.value.line(), caught.value.line()
    return caught.value


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory with a file, a directory and links, as the current one."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "sub").mkdir()
    (tmp_path / "d" / "inner").write_text("x")
    (tmp_path / "f").write_text("text")
    (tmp_path / "link").symlink_to("f")
    (tmp_path / "d" / "away").symlink_to("/etc")
    os.mkfifo(str(tmp_path / "fifo"))
    monkeypatch.chdir(str(tmp_path))
    return os.fsencode(str(tmp_path))


# The defaults

def test_the_default_plan():
    made = make()
    assert (made.uid, made.gid, made.caller, made.root, made.nested, made.cap_mask) == (0, 0, (1000, 1000), False, True, 0)
    assert (made.hostname, made.cwd, made.home) == (b"mrunc", b"/box", b"/root")
    assert [name for name, _, _ in made.namespaces] == ["userns", "mountns", "pidns", "utsns", "ipcns", "netns", "cgroupns"]
    assert made.limits == {"core": (1, 1), "nofile": (640, 640), "nproc": (512, 512)}
    assert [name for name, _ in made.filters] == ["default"]
    assert set(made.controls) == set(controls.CONTROLS)
    assert [name for name, asked in made.controls.items() if not asked] == ["groups", "sweep", "limits.rlimit", *controls.GROUP_LIMITS, "ledger", "trace", "setid-filter"]
    assert make(ids=[(2000000000, 100)]).controls["groups"] is True


def test_every_mount_is_nosuid_and_only_devices_may_be_devices():
    made = make(tty=True, proc="full", tmpfs=["/mnt/x", "/tmp", "/dev/shm"])
    for op in made.operations:
        if op.kind == "bind" and op.dst.startswith(b"/etc/"):
            assert op.flags == RO | NOSUID | NODEV | NOEXEC, op.dst
        if op.is_mount:
            assert op.flags & NOSUID, op.dst
            assert op.flags & NODEV or op.kind in ("device", "devpts", "mask-file"), op.dst
        if op.kind in ("device", "mask-file"):
            assert op.flags & (RO | NOEXEC) == RO | NOEXEC
        if op.kind in ("bind", "proc"):
            assert op.flags & RO
        assert op.dst.startswith(b"/")


def test_no_directory_is_made_below_a_bind_of_the_host():
    made, binds = make(), []
    for op in made.operations:
        if op.kind in ("directory", "file", "symlink"):
            assert not [bind for bind in binds if op.dst.startswith(bind + b"/")], op.dst
        if op.kind == "bind":
            binds.append(op.dst)


def test_everything_lies_in_a_directory_that_was_made_before():
    made = make(tty=True, proc="full", user="1000")
    known = {b"/"}
    for op in made.operations[1:]:
        parent = os.path.dirname(op.dst)
        assert parent in known or op.dst.startswith(b"/proc/"), op.dst
        known.add(op.dst)


def test_proc_comes_last_because_it_needs_the_old_root():
    made = make(proc="full", tmpfs=["/srv/x"])
    kinds = [op.kind for op in made.operations]
    assert set(kinds[kinds.index("proc"):]) == {"proc", "mask-file", "mask-directory", "read-only"}
    assert [op.dst for op in made.operations if op.kind == "mask-file"] == [b"/proc/kcore", b"/proc/keys"]
    assert [op.dst for op in made.operations if op.kind == "mask-directory"] == [b"/proc/acpi"]
    assert [op.dst for op in made.operations if op.kind == "read-only"] == [b"/proc/sys"]
    assert at(make(facts=made_up(proc=frozenset()), proc="full"), b"/proc/sys") == []


def test_proc_shows_own_processes_only_unless_asked():
    assert at(make(), b"/proc", "proc")[0].subset is True
    assert at(make(proc="full"), b"/proc", "proc")[0].subset is False
    assert at(make(proc="none"), b"/proc", "proc") == [] and make(proc="none").controls["proc"] is False
    left_out = at(make(unsafe_without="proc"), b"/proc", "proc")[0]
    assert (left_out.subset, left_out.hidepid) == (False, False)


#: Of /proc: what acts on the host or tells of it, wherever it is there.
DANGEROUS = ("kcore", "kmsg", "sysrq-trigger", "keys", "key-users", "kallsyms", "modules",
             "timer_list", "config.gz", "kpagecount", "kpageflags", "kpagecgroup", "iomem",
             "ioports", "mtrr", "acpi", "bus", "driver", "fs", "irq", "scsi", "dynamic_debug", "sys")


def test_full_proc_masks_what_acts_on_the_host():
    made = make(facts=made_up(proc=frozenset(DANGEROUS)), proc="full")
    kinds = ("mask-file", "mask-directory", "read-only")
    covered = [op.dst for op in made.operations if op.kind in kinds]
    assert sorted(covered) == sorted(b"/proc/" + name.encode() for name in DANGEROUS)


def test_the_hosts_layout_is_kept():
    made = make(facts=made_up(layout={"bin": b"", "lib": b"", "lib64": b"usr/lib64"}))
    assert at(made, b"/bin", "bind") and at(made, b"/lib", "bind") and at(made, b"/lib64", "symlink")[0].src == b"usr/lib64"
    assert len(at(made, b"/lib", "directory")) == 1
    made = make(facts=made_up(layout={}))
    assert at(made, b"/lib", "directory") and not at(made, b"/bin")
    made = make(facts=made_up(stores=[b"/nix/store", b"/opt"]))
    assert at(made, b"/nix/store", "bind")[0].flags & RO and at(made, b"/opt", "bind")


def test_the_writable_places():
    made = make()
    sizes = dict((op.dst, (op.size, op.mode, op.flags)) for op in made.operations
                 if op.kind == "tmpfs")
    assert sizes == {b"/": (16 << 20, 0o755, NOSUID | NODEV | NOEXEC), b"/tmp": (1 << 30, 0o1777, NOSUID | NODEV),
                     b"/box": (1 << 30, 0o755, NOSUID | NODEV), b"/root": (256 << 20, 0o700, NOSUID | NODEV),
                     b"/dev/shm": (256 << 20, 0o1777, NOSUID | NODEV | NOEXEC)}
    made = make(user="1000:5")
    assert at(made, b"/home/user", "tmpfs") and not at(made, b"/root", "tmpfs") and (made.uid, made.gid) == (1000, 5)


def test_every_sandbox_has_a_devpts_of_its_own():
    assert at(make(), b"/dev/pts", "devpts") and at(make(), b"/dev/ptmx")[0].src == b"pts/ptmx"


def test_our_own_etc():
    files = dict(default.own_files(0, 0, b"/root", b"box"))
    assert files["passwd"].splitlines() == [b"root:x:0:0:root:/root:/bin/sh", b"nobody:x:65534:65534:nobody:/:/usr/sbin/nologin"]
    assert files["hosts"].startswith(b"127.0.0.1 localhost box\n") and files["hostname"] == b"box\n" and files["resolv.conf"] == b""
    files = dict(default.own_files(1000, 5, b"/home/user", b"box"))
    assert b"user:x:1000:5:user:/home/user:/bin/sh" in files["passwd"] and b"root:x:0:0:root:/:/bin/sh" in files["passwd"]
    assert b"user:x:5:" in files["group"]
    assert b"user:" not in dict(default.own_files(1000, 0, b"/home/user", b"box"))["group"]
    names = [name for name, _ in host.HOST_ENTRIES]
    assert not {"shadow", "gshadow", "machine-id", "ssh", "sudoers", "passwd", "hostname"} & set(names)
    assert all(reason for _, reason in host.HOST_ENTRIES)


def test_etc_entries_that_not_everybody_may_read_are_left_out(monkeypatch):
    modes = {b"open": 0o100644, b"closed": 0o100640, b"folder": 0o40755, b"device": 0o20666}
    monkeypatch.setattr(host, "etc_candidates", lambda: list(modes))
    with monkeypatch.context() as patched:
        patched.setattr(host.os, "stat",
                        lambda path: types.SimpleNamespace(st_mode=modes[path[5:]]))
        found = list(host._etc_entries())
    assert found == [(b"open", False), (b"folder", True)]


# Controls, limits, identity

def test_what_is_left_out_is_left_out_of_the_plan():
    made = make(unsafe_without="netns,ipcns,userns-nested,seccomp,limits.core,root-ro")
    assert "netns" not in [name for name, _, _ in made.namespaces] and len(made.namespaces) == 5
    assert made.nested is False and made.filters == [] and "core" not in made.limits
    assert "ro" not in made.mounts[b"/"] and "ro" in make().mounts[b"/"]
    assert not any(made.controls[name] for name in ("netns", "ipcns", "userns-nested", "seccomp", "limits.core", "root-ro"))
    assert made.left_out("netns") and not made.left_out("caps")


def test_a_capability_means_no_second_user_namespace():
    made = make(cap_add=["net_raw", "chown"])
    assert made.cap_mask == 1 << 13 | 1 and made.nested is False and made.controls["userns-nested"] is False


def test_limits_never_exceed_the_callers():
    made = make(facts=made_up(hard_limits={"nofile": (100, 200), "nproc": (-1, -1)}))
    assert made.limits["nofile"] == (64, 64) and made.limits["nproc"] == (512, 512)
    assert make(facts=made_up(hard_limits={"nofile": (1024, 200)})).limits["nofile"] == (200, 200)
    assert make(facts=made_up(hard_limits={})).limits["nofile"] == (1024, 4096)
    assert make(rlimit=["nofile=7", "as=1G"]).limits == {"core": (1, 1), "nofile": (7, 7), "nproc": (512, 512),
                                                        "as": (1 << 30, 1 << 30)}


@pytest.mark.parametrize("soft,limit", [(-1, (1024, 4096)), (8192, (1024, 4096)), (4480, (1024, 4096)),
                                        (1408, (1024, 1024)), (1024, (640, 640)), (448, (64, 64)), (10, (64, 64))])
def test_open_files_leave_room_for_descriptors_in_flight(soft, limit):
    facts = made_up(hard_limits={"nofile": (soft, 1 << 20)})
    assert make(facts).limits["nofile"] == limit
    own_uid = made_up(uid=0, hard_limits={"nofile": (soft, 1 << 20)})
    assert make(own_uid, [(1 << 19, 9)]).limits["nofile"] == (1024, 4096)
    assert make(facts, rlimit=["nofile=9999"]).limits["nofile"] == (9999, 9999)


def test_another_machine_has_no_plan(monkeypatch):
    monkeypatch.setattr(plan, "ARCH", None)
    monkeypatch.setattr(plan, "MACHINE", "riscv64")
    with pytest.raises(SandboxError) as caught:
        make()
    assert caught.value.status == 125 and caught.value.line() == "machine: no filter for riscv64"
    monkeypatch.setattr(plan, "BITS", 32)
    with pytest.raises(SandboxError) as caught:
        make()
    assert caught.value.line() == "machine: no filter for a 32-bit Python on riscv64"


# What must be there at the gate

def test_the_expected_mounts_are_the_planned_ones_and_those_below_the_sources():
    made = make()
    assert set(made.mounts) == {op.dst for op in made.operations if op.is_mount} | {b"/usr/local"}
    assert made.mounts[b"/usr/local"] == {"ro", "nosuid", "nodev"} == made.mounts[b"/usr"]
    assert made.mounts[b"/"] == {"ro", "nosuid", "nodev", "noexec"} and made.mounts[b"/tmp"] == {"nosuid", "nodev"}
    assert made.mounts[b"/dev/null"] == {"ro", "nosuid", "noexec"}


def test_landlock_grants_what_the_mounts_grant(here):
    rules = dict(make(ro=["d:/mnt/d"], copy=["f:/srv/f"]).landlock_rules)
    assert rules[b"/"] == landlock.READ_DIR
    assert b"/.landlock" not in rules and not [path for path in rules if path.startswith(b"/.")]
    assert rules[b"/usr"] & landlock.EXECUTE and not rules[b"/usr"] & landlock.WRITE_FILE
    assert rules[b"/tmp"] & landlock.WRITE_FILE and rules[b"/tmp"] & landlock.EXECUTE
    assert rules[b"/dev/shm"] & landlock.WRITE_FILE and not rules[b"/dev/shm"] & landlock.EXECUTE
    assert rules[b"/mnt/d"] & landlock.READ_FILE and not rules[b"/mnt/d"] & landlock.WRITE_FILE
    assert rules[b"/srv/f"] == landlock.READ_FILE | landlock.EXECUTE
    assert not rules[b"/proc"] & landlock.WRITE_FILE
    for right in (landlock.MAKE_CHAR, landlock.MAKE_BLOCK):
        assert not [path for path, rights in rules.items() if rights & right]


# The user's mounts

def test_a_directory_shown_where_nothing_is(here):
    made = make(ro=["d:/mnt/a/b"], rw=["d:/data"])
    assert [op.kind for op in at(made, b"/mnt/a")] == ["directory"]
    shown = at(made, b"/mnt/a/b", "bind")[0]
    assert (shown.src, shown.flags) == (here + b"/d", RO | NOSUID | NODEV)
    assert shown.directory and shown.user
    assert at(made, b"/data", "bind")[0].flags == NOSUID | NODEV
    assert [name for name, _ in made.filters] == ["default", "setid"] and made.controls["setid-filter"]
    assert [name for name, _ in make(rw=["d:/data"], unsafe_without="setid-filter").filters] == ["default"]
    assert dict(made.landlock_rules)[b"/data"] & landlock.WRITE_FILE


def test_a_file_shown_where_nothing_is_and_over_our_own(here):
    made = make(ro=["f:/mnt/f", "link:/srv/l", "f:/etc/hosts"], follow_links=True)
    assert [op.kind for op in at(made, b"/mnt/f")] == ["file", "bind"] and at(made, b"/srv/l", "bind")[0].src == here + b"/f"
    assert [op.kind for op in at(made, b"/etc/hosts")] == ["file", "bind"]


def test_the_current_directory_as_box(here):
    made = make(here=True)
    assert [op.kind for op in at(made, b"/box")] == ["directory", "bind"]
    assert at(made, b"/box", "bind")[0].src == here and at(made, b"/box", "bind")[0].flags & RO


def test_a_mount_of_the_user_replaces_the_default_one_and_what_was_below(here):
    made = make(tmpfs=["/tmp=5M", "/dev/shm=1M", "/srv"], ro=["d:/etc"])
    assert [op.size for op in at(made, b"/tmp", "tmpfs")] == [5 << 20]
    assert at(made, b"/tmp", "tmpfs")[0].mode == 0o1777
    assert at(made, b"/srv", "tmpfs")[0].mode == 0o755
    assert at(made, b"/dev/shm", "tmpfs")[0].flags & NOEXEC and not at(made, b"/tmp", "tmpfs")[0].flags & NOEXEC
    assert not [op for op in made.operations if op.dst.startswith(b"/etc/")] and at(made, b"/etc", "bind")


def test_deeper_mounts_come_later_whatever_the_order_on_the_command_line(here):
    made = make(tmpfs=["/mnt/a/b/c", "/mnt/a"])
    places = [op.dst for op in made.operations if op.kind == "tmpfs" and op.dst.startswith(b"/mnt")]
    assert places == [b"/mnt/a", b"/mnt/a/b/c"]
    made = make(tmpfs=["/mnt/d/sub"], ro=["d:/mnt/d"])
    assert [op.kind for op in made.operations if op.dst.startswith(b"/mnt/d")] == ["directory", "bind", "tmpfs"]


def test_a_copy_lands_in_box_or_where_it_is_told(here):
    made = make(copy=["f", "d/inner:/opt/deep/er/name"])
    copies = [op for op in made.operations if op.kind == "copy"]
    assert [(op.dst, op.src) for op in copies] == [(b"/box/f", here + b"/f"), (b"/opt/deep/er/name", here + b"/d/inner")]
    assert [op.kind for op in at(made, b"/opt/deep/er")] == ["directory"]
    assert not at(made, b"/", "tmpfs")[0].flags & NOEXEC  # a copy may run wherever it lies
    assert at(make(copy=["f"]), b"/", "tmpfs")[0].flags & NOEXEC
    assert not at(make(copy=["f:/tmp/x"]), b"/tmp", "tmpfs")[0].flags & NOEXEC


@pytest.mark.parametrize("options,words", [
    ({"ro": ["missing"]}, "ro='missing': No such file or directory"), ({"rw": ["missing"]}, "rw='missing': No such file"),
    ({"copy": ["missing"]}, "copy='missing': No such file"), ({"ro": ["f/x"]}, "ro='f/x': Not a directory"),
    ({"ro": ["fifo"]}, "is a FIFO"), ({"copy": ["fifo"]}, "is a FIFO"), ({"copy": ["d"]}, "is a directory; a file is copied"),
    ({"ro": ["d:/bin"]}, "/bin is a symlink inside (to usr/bin)"), ({"ro": ["d:/var/run/x"]}, "/var/run is a symlink inside (to /run)"),
    ({"ro": ["d:/usr/none/x"]}, "nothing is made in /usr"), ({"copy": ["f:/usr/none"]}, "nothing is made in /usr"),
    ({"ro": ["f:/usr"]}, "is a directory inside, the source is a file"),
    ({"ro": ["d:/mnt/d", "f:/mnt/d/sub"]}, "is a directory inside, the source is a file"),
    ({"ro": ["d:/mnt/d", "d:/mnt/d/inner"]}, "is a file inside, the source is a directory"),
    ({"ro": ["d:/mnt/d", "d:/mnt/d/inner/x"]}, "/mnt/d/inner is not a directory inside"),
    ({"ro": ["d:/mnt/d", "d:/mnt/d/away/x"]}, "/mnt/d/away is a symlink inside"),
    ({"ro": ["f:/mnt/f", "d:/mnt/f/x"]}, "/mnt/f is not a directory inside"),
    ({"copy": ["f:/etc/passwd"]}, "there is something at that path already"), ({"copy": ["f", "f"]}, "something at that path"),
    ({"copy": ["f:/box"]}, "something at that path"), ({"copy": ["f:/etc/passwd/x"]}, "/etc/passwd is not a directory inside"),
])
def test_what_cannot_be_brought_in(here, options, words):
    refused(words, **options)


def test_a_source_that_cannot_be_read(here, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    refused("ro='f': Permission denied", ro=["f:/x"])
    refused("copy='f': Permission denied", copy=["f"])


def test_what_is_roots_is_never_writable_for_root(here):
    error = refused("belongs to root", facts=made_up(uid=0), rw=["/usr/lib:/x"])
    refused("belongs to root", facts=made_up(uid=0), rw=["/usr/bin/env:/x"])
    assert "copy" in error.remedy
    assert at(make(facts=made_up(uid=0), ro=["/usr/lib:/x"]), b"/x", "bind")
    assert at(make(rw=["d:/x"]), b"/x", "bind")  # an ordinary user's sandbox can't write it anyway


def test_the_current_directory_is_gone(monkeypatch):
    def gone():
        raise FileNotFoundError(2, "No such file or directory")
    monkeypatch.setattr(os, "getcwdb", gone)
    refused("here: the current directory is gone", here=True)


def test_the_tree_knows_what_lies_where():
    seen = user_mounts.Tree(make().operations)
    assert seen.mount_of(b"/tmp/a/b").dst == b"/tmp" and seen.mount_of(b"/usr/bin").dst == b"/usr" and seen.mount_of(b"/x").dst == b"/"
    assert seen.place(b"/box/a", True, "x")[0].kind == "directory" and seen.place(b"/box/f", False, "x")[0].kind == "file"
    assert seen.place(b"/box/c", False, "copy", copy=True) == []
    assert seen.place(b"/box/a", True, "x") == []


# The host's facts

@pytest.mark.parametrize("mode,word", [(stat.S_IFREG, "file"), (stat.S_IFDIR, "directory"), (stat.S_IFLNK, "link"), (stat.S_IFSOCK, "socket"),
                                       (stat.S_IFIFO, "FIFO"), (stat.S_IFCHR, "character device"), (stat.S_IFBLK, "block device"),
                                       (0, "unknown kind of file")])
def test_file_types_by_name(mode, word):
    assert host.kind_of(mode | 0o644) == word


def test_this_host_can_be_planned_for():
    facts = host.Host.read({"PATH": "/usr/bin::/opt/x/bin"})
    made = plan.make(Spec(["true"]), facts, [])
    assert at(made, b"/usr", "bind") and facts.uid == os.geteuid() and facts.kind("/usr") == "directory"


# Shown

def test_the_plan_can_be_read_by_people_and_by_programs(here):
    made = make(ro=[("d", "/mnt/\udcff")], copy=["f"], timeout="2s", cap_add=["chown"], unsafe_without="caps", env=["A=b"],
                rlimit=["as=unlimited"])
    lines = list(plan_text.describe(made))
    text = "\n".join(lines)
    for words in ("command       true", "1000:1000 (the caller's own)", "deadline      2 s, grace 0.5 s", "LEFT OUT      caps", "A=b",
                  "capabilities  0x1", "bind           /mnt/\udcff", "copy           /box/f", "at most 1G, 100000 inodes",
                  "hidepid=2,subset=pid"):
        assert words in text, words
    shown = json.loads(json.dumps(plan_text.as_dict(made)))
    assert shown["schema"] == 1 and shown["argv"] == ["true"] and shown["tier"] == "full" and shown["timeout"] == 2.0
    assert {row["name"] for row in shown["controls"]} == set(controls.CONTROLS)
    assert [op["kind"] for op in shown["operations"]] == [op.kind for op in made.operations]
    assert shown["mounts"]["/"] == ["nodev", "noexec", "nosuid", "ro"] and "/mnt/\udcff" in shown["mounts"]
    assert shown["filters"][0]["name"] == "default" and len(shown["filters"][0]["sha256"]) == 64


def test_the_plan_of_root_names_the_range(here):
    made = make(facts=made_up(uid=0), ids=[(2000000000, 65536)], proc="full", unsafe_without="seccomp,timens")
    text = "\n".join(plan_text.describe(made))
    assert "is one of the host ids 2000000000..2000065535" in text and "deadline      none" in text and "filters       none" in text
    assert "capabilities  none" in text and "time (where" not in text and "second user namespace" in text
    assert plan_text.as_dict(made)["identity"]["unprivileged_host_id"] is True


def test_planning_changes_nothing_and_is_always_the_same(here):
    before = sorted(os.listdir(here))
    first, second = (plan_text.as_dict(make(ro=["d:/mnt/d"], copy=["f"], tmpfs=["/x"])) for _ in range(2))
    assert first == second and sorted(os.listdir(here)) == before


def test_the_same_plan_for_another_program_leaves_the_first_as_it_was():
    made = make(env=["A=b"])
    other, later = made.again(["/bin/id", "-u"]), made.again(None)
    assert (made.spec.argv, other.spec.argv, later.spec.argv) == ([b"true"], [b"/bin/id", b"-u"], [])
    assert other.operations is made.operations and other.filters is made.filters and other.environment() == made.environment()
    other.env[b"C"] = b"d"
    assert b"C=d" in other.environment() and b"C=d" not in made.environment() + later.environment()
    with pytest.raises(SandboxError):
        made.again(["a\0b"])


def test_every_control_says_what_it_does():
    for name, row in controls.CONTROLS.items():
        assert row.what and isinstance(row.removable, bool) and name == name.lower() and " " not in name
    assert controls.Control("caps", True, False, "x").as_dict() == {"name": "caps", "asked": True, "in_force": False, "how": "x"}



def test_the_working_directory_must_be_there_by_its_own_path():
    for place in ("/var/tmp", "/nowhere", "/etc/passwd"):
        with pytest.raises(SandboxError) as caught:
            make(chdir=place)
        assert caught.value.status == 2 and place in str(caught.value)
    assert make(chdir="/usr").cwd == b"/usr"


def test_the_directories_between_a_writable_mount_and_one_below_it_are_pinned(tmp_path):
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (tmp_path / "link").symlink_to("a")
    made = make(rw=[(str(tmp_path), "/p")], ro=[(str(deep), "/p/a/b/c"), (str(deep.parent), "/p/a/b")])
    pinned = at(made, b"/p/a", "bind")
    assert len(pinned) == 1 and pinned[0].rw and not pinned[0].flags & RO
    assert len(at(made, b"/p/a/b", "bind")) == 1 and at(made, b"/p/a/b", "bind")[0].flags & RO
    for place, why in (("/p/link/b", "symlink"), ("/p/missing/x", "is not there")):
        with pytest.raises(SandboxError) as caught:
            make(rw=[(str(tmp_path), "/p")], ro=[(str(deep), place)])
        assert why in str(caught.value)


def test_a_directory_of_roots_is_not_pinned_writable(tmp_path, monkeypatch):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    real = os.fstat

    def owned_by_a_user(fd):
        found = real(fd)
        owner = 0 if os.readlink("/proc/self/fd/%d" % fd) == str(tmp_path / "a") else 1000
        return os.stat_result(found[:4] + (owner, owner) + found[6:])
    monkeypatch.setattr(source.os, "fstat", owned_by_a_user)
    with pytest.raises(SandboxError) as caught:
        make(facts=made_up(uid=0), ids=[(5, 5)], rw=[(str(tmp_path), "/p")], ro=[(str(deep), "/p/a/b")])
    assert caught.value.status == 2 and "belongs to root" in str(caught.value)


# -- other tiers, hardened and overlaid trees ---------------------------------------------------------------------------


def in_tier(name, ids=(), facts=None, **options):
    from mrunc.sandbox import tiers
    return plan.make(Spec(["true"], environ={}, tier=name, **options), facts or made_up(), ids, tiers.TIERS[name])


def test_the_rootns_tier_has_no_user_namespace_and_the_hosts_own_number():
    made = in_tier("rootns", ids=[(2000000000, 16)], facts=made_up(uid=0))
    assert "user" not in [name for _, name, _ in made.namespaces] and not made.nested
    assert not made.controls["userns"] and made.controls["caps"]
    assert "rootns" in list(plan_text.describe(made))[1] and plan_text.as_dict(made)["tier"] == "rootns"


def test_the_process_tier_has_no_mounts_and_a_filter_of_its_own():
    made = in_tier("process")
    assert made.namespaces == [] and made.mounts == {} and not made.controls["mountns"] and made.controls["landlock"]
    assert made.filters[0][0].startswith("process") and [name for name, _ in made.filters][1:] == ["setid"]
    lines = list(plan_text.describe(made))
    assert "  read-only      /" not in lines and any("/usr" in line for line in lines)


def test_a_hardened_tree_has_no_writable_place_but_the_named():
    made = make(harden=True, writable=["/srv=2M"])
    places = dict((op.dst, op.flags) for op in made.operations if op.kind == "tmpfs")
    assert all(flags & RO for place, flags in places.items() if place not in (b"/", b"/srv"))
    assert places[b"/srv"] & NOEXEC and not places[b"/srv"] & RO and made.filters[0][0] == "strict"
    rights = dict(made.landlock_rules)
    assert not rights[b"/tmp"] & landlock.WRITE_FILE and rights[b"/srv"] & landlock.WRITE_FILE and \
        not rights[b"/srv"] & landlock.EXECUTE


def test_an_overlay_takes_the_place_of_a_bind(here):
    made = make(made_up(uid=os.getuid()), ro=["d:/srv/t"], overlay=["/srv/t"])
    op, = [op for op in at(made, b"/srv/t") if op.kind in ("bind", "overlay")]
    assert (op.kind, op.flags) == ("overlay", NOSUID | NODEV) and op.size == 1 << 30
    assert dict(made.landlock_rules)[b"/srv/t"] & landlock.WRITE_FILE and made.mounts[b"/srv/t"] == {"nosuid", "nodev"}
    refused("nothing is shown", overlay=["/srv/x"])


def test_processor_time_has_a_backstop_that_comes_later():
    made = make(cpu_time="3s", grace="1s", max_output="1K")
    assert made.limits["cpu"] == (6, 7)
    assert make(made_up(hard_limits={"nofile": (1024, 4096), "nproc": (99, 99), "cpu": (4, 5)}), cpu_time="3s").limits["cpu"] == (5, 5)
    text = "\n".join(plan_text.describe(made))
    assert "3 s of processor time" in text and "at most 1024 bytes" in text


def test_an_ownerless_source_is_refused_for_root(here):
    facts = made_up(uid=0)
    row = b"3 1 0:3 / %s/d rw - proc proc rw" % os.fsencode(os.getcwd())
    facts.mounts = facts.mounts + parse(row)
    with pytest.raises(SandboxError) as caught:
        make(facts, ids=[(2000000000, 16)], ro=["d:/srv/t"])
    assert caught.value.status == 2 and "can't be mapped to an owner" in caught.value.line()


def test_only_places_with_nothing_but_our_own_directories_above_are_reached_by_name():
    """A link or a mount on the way could lead anywhere: those are walked."""
    made = make()
    assert all(made.plain[1:]), "the default tree is all ours"
    ops = [operations.Root(1)]
    ops += [operations.Directory(path) for path in (b"/a", b"/a/b", b"/a/b/c")]
    ops += [operations.Symlink(b"/l", b"/a"), operations.Tmpfs(b"/a/b", 1)]
    plain = len(ops)
    ops += [operations.File(b"/l/f"), operations.Tmpfs(b"/l", 1), operations.Directory(b"/l"),
            operations.File(b"/l/g"), operations.File(b"/a/b/c/f"),
            operations.Tmpfs(b"/missing", 1)]
    assert operations.plain_places(ops) == \
        [False] + [True] * (plain - 1) + [False, False, True, False, False, False]


class Recorder:
    """What stands in for a mounting.Tree: writes down the calls instead of doing them."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append((name, arguments))
            return 7, True  # of `take`
        return call


def test_an_operation_names_calls_of_the_tree_with_plain_data(here):
    made = make(made_up(uid=os.getuid()), proc="full", copy=["f"], ro=["d:/srv/t", "f:/mnt/f"],
                overlay=["/srv/t"])
    made.operations.append(operations.Cover(b"/etc/hosts", b"x"))
    kinds = set(op.kind for op in made.operations)
    assert kinds == {"tmpfs", "directory", "file", "symlink", "copy", "bind", "overlay", "cover",
                     "device", "devpts", "proc", "mask-file", "mask-directory", "read-only"}
    for op in made.operations[1:]:
        seen = Recorder()
        op.make(seen)
        calls = [(name, arguments) for name, arguments in seen.calls if name != "take"]
        assert len(calls) == 1, op.kind
        (name, arguments), = calls
        inspect.signature(getattr(mounting.Tree, name)).bind(None, *arguments)
        assert op.dst in arguments
        assert all(isinstance(value, (bytes, int, list, source.Source)) for value in arguments)
    made.release()


def test_system_trees_are_the_hosts_own_directories(here):
    made = make(ro=[(b"d", b"/x")])
    trees = made.system_trees()
    assert b"/usr" in trees and b"/etc/ssl/certs" in trees
    assert at(made, b"/x", "bind") and not [path for path in trees if path.endswith(b"/d")]
    made.release()
    assert made.held == []


@pytest.mark.parametrize("options, names", [({}, ["default"]), ({"seccomp": "strict"}, ["strict"]),
                                            ({"seccomp_add": ["clone3"]}, ["default", "core"])])
def test_every_policy_holds_the_limit_of_core_dumps(options, names):
    """The shipped ones by themselves; beside any other there is a filter for it."""
    made = make(**options)
    found = [name for name, _ in made.filters]
    assert len(found) == len(names) and found[1:] == names[1:] and found[0].startswith(names[0])


def test_a_link_that_others_can_have_planted_is_refused(here, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open" / "link").symlink_to("../d")
    (tmp_path / "open" / "gone").symlink_to("nowhere")
    error = refused("symbolic link", ro=[(b"open/link", b"/x")])
    assert "%s:/x" % (tmp_path / "d") in error.remedy and "follow_links" in error.remedy
    refused("No such file", ro=[(b"open/gone", b"/x")])
    made = make(ro=[(b"open/link", b"/x")], follow_links=True)
    assert at(made, b"/x", "bind")[0].source.directory
    made.release()
