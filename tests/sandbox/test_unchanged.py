# SPDX-License-Identifier: Apache-2.0
"""A launcher uses a plan again only while nothing that it was made of has changed."""
from hosting import OWN_MOUNTS

#: A host of our own, in which everything can be changed.
SMALL_HOST = OWN_MOUNTS + """
import resource, tempfile
from mrunc.sandbox.service import plans as unchanged
place = tempfile.mkdtemp()
def tmpfs(path):
    mount.move_mount(mount.new_filesystem(b"tmpfs", 0, [(b"mode", b"0755")]), -100, path)
tmpfs(place.encode())
os.chdir(place)
for name in "etc etc/ssl etc/ssl/certs usr usr/bin usr/lib usr/share opt opt/tool nix nix/store proc sys".split():
    os.mkdir(name)
for name, target in (("bin", "usr/bin"), ("sbin", "usr/bin"), ("usr/link", "/opt/tool")):
    os.symlink(target, name)
open("etc/magic", "w").close()
for name in (b"proc", b"sys"):
    mount.move_mount(mount.open_tree(b"/" + name, True), -100, name)
tmpfs(b"usr/lib")
os.chroot(".")
made, options, environ = [], {}, {"PATH": "/bin:/usr/link:/usr/late:"}
class Plan:
    def again(self, argv):
        return self
def plan(argv=("true",)):
    plans.plan({"argv": argv and list(argv), "options": options, "environ": environ},
               lambda request: made.append(request) or Plan())
    return len(made)
plans = unchanged.Plans()
"""
CHANGES = [
    'tmpfs(b"/usr/share")',
    'fd = os.open("/usr/lib", os.O_PATH); mount.mount_setattr(fd, mount.MOUNT_ATTR_RDONLY, False); os.close(fd)',
    'mount.umount(b"/usr/lib")',
    'open("/etc/localtime", "w").close()',
    'os.unlink("/etc/localtime")',
    'open("/etc/new", "w").close(); os.rename("/etc/new", "/etc/magic")',
    'os.rename("/etc/ssl/certs", "/etc/ssl/was"); os.mkdir("/etc/ssl/certs")',
    'os.chmod("/etc/magic", 0o600)',
    'os.chmod("/etc/ssl/certs", 0o700)',
    'os.unlink("/bin"); os.symlink("usr/sbin", "/bin")',
    'os.mkdir("/lib64")',
    'os.unlink("/sbin"); os.mkdir("/sbin")',
    'os.rename("/opt/tool", "/opt/other")',
    'os.mkdir("/usr/late")',
    'os.unlink("/usr/link"); os.symlink("/usr/lib", "/usr/link")',
    'os.rename("/nix", "/nax")',
    'resource.setrlimit(resource.RLIMIT_NPROC, (100, 100))',
    'environ["PATH"] += ":/usr/sbin"',
    'options["hostname"] = "other"',
    'options["unsafe_without"] = ["timens"]',
]


def test_each_kind_of_change_is_seen(host):
    host(SMALL_HOST + """
unchanged.SETTLED = -1  # the directories are new, and nothing would be kept
assert plan() == plan() == plan(["other"]) == 1
for change in %r:
    before = plan()
    exec(change)
    assert plan() == before + 1, change
    assert plan() == before + 1, change
before = plan()
assert plan(None) == before + 1  # a program that is named later
""" % CHANGES)


def test_a_mount_that_comes_while_one_plan_is_made_is_seen_for_all(host):
    """The kernel tells of it once."""
    host(SMALL_HOST + """
unchanged.SETTLED = -1
before = plan()
class Late(Plan):
    def __init__(self):
        tmpfs(b"/usr/share")
plans.plan({"argv": ["true"], "options": {"hostname": "other"}, "environ": environ}, lambda request: Late())
assert plan() == before + 1
assert plan() == before + 1
""")


def test_what_can_not_be_told_is_planned_each_time(host):
    host(SMALL_HOST + """
assert plan() + 1 == plan()  # of directories that have only just been changed
unchanged.SETTLED = -1
assert plan() == plan()
for more in ({"ro": ["/usr"]}, {"rw": ["/usr"]}, {"copy": ["/etc/magic"]}, {"here": True}, {"tmpfs": ["/x"]}, {"rootfs": "/"},
             {"overlay": True}, {"changes": True}, {"export": "/x"}, {"proc": "full"}, {"harden": True}, {"writable": ["/x"]},
             {"seccomp": "./policy"}, {"seccomp_add": ["bpf"]}, {"tier": "process"}, {"tier": "full,process"}, {"memory": 1},
             {"cpus": 1}, {"pids": 1}, {"io_read": [1]}, {"io_write": [1]}, {"best_effort": ["landlock"]}, {"ledger": True},
             {"require": ["landlock"]}, {"seccomp_action": "kill"}, {"trace": "exec"}, {"chdir": "/usr"}, {"tty": True},
             {"learn": "record"}, {"of a later version": 1}):
    options = more
    assert plan() + 1 == plan(), more
options = {"ro": [], "here": False, "seccomp": "strict", "proc": "none", "tier": ["full"]}
assert plan() == plan()
environ["PATH"] = "bin:/usr/bin"
assert plan() + 1 == plan()
environ["PATH"] = "/bin"
assert plan() == plan()
os.rename("/etc", "/was")
assert plan() + 1 == plan()
""")


def test_everything_that_the_host_is_read_from_is_looked_at_again(host):
    host("""
import resource
from mrunc.sandbox.host import facts; from mrunc.sandbox.service import plans as unchanged
asked = set()
class Os:
    def __getattr__(self, name):
        found = getattr(os, name)
        if name == "path":
            return Os.Path()
        def noted(*arguments, **named):
            if name in ("stat", "lstat", "readlink", "listdir", "open", "scandir", "access"):
                asked.add(os.fsdecode(arguments[0]))
            return found(*arguments, **named)
        return noted if callable(found) and not isinstance(found, type) else found
    class Path:
        def __getattr__(self, name):
            found = getattr(os.path, name)
            def noted(path, *more):
                if name in ("isdir", "isfile", "exists", "lexists", "islink", "realpath"):
                    asked.add(os.path.join("/", os.fsdecode(path)))
                return found(path, *more)
            return noted
plans = unchanged.Plans()
looked = unchanged.Facts(os.environ["PATH"], plans.cpus)
facts.os = Os()
facts.Host.read()
known = set(looked.looks) | set(os.fsdecode(entry) for entry, _ in looked.entries) | {"/etc", "/proc/self/mountinfo", "/"}
known |= set("/sys/devices/system/cpu/" + name for name in facts.CPU_FILES)
assert len(asked) > 12 and {"/usr/bin", "/bin", "/etc"} <= asked
missing = [path + "/" for path, look in looked.looks.items() if isinstance(look, int)]  # and so is what lies below
unseen = [path for path in asked if (path.rstrip("/") or "/") not in known and not path.startswith(tuple(missing))]
assert not unseen, unseen
""")


def test_everything_that_a_sandbox_holds_of_the_host_is_looked_at_again(host):
    """By its identity, whatever leads to it: a spare would go on with what was there before."""
    host("""
from mrunc.sandbox.launch import run as launch; from mrunc.sandbox.service import plans as unchanged
from mrunc.sandbox.plan.spec import Spec
plans = unchanged.Plans()
for path in (os.environ["PATH"], "", "/nowhere"):
    looked = unchanged.Facts(path, plans.cpus)
    known = [os.fsencode(path) for path in looked.looks] + [entry for entry, _ in looked.entries]
    held = [op.src for op in launch.prepare(Spec(["true"]), {"PATH": path}).operations if op.kind in ("bind", "device")]
    assert len(held) > 8 and set(held) <= set(known), sorted(set(held) - set(known))
    for _, found in looked.entries:
        assert isinstance(found, int) or len(found) == 3
""")


def test_nothing_of_one_run_is_in_the_next_one_with_its_plan(host):
    assert host("""
code = ["sh", "-c", 'echo "$0 $A $(uname -n)"; exit 3']
def run(where, *words, **more):
    done = where.run(code + list(words), capture_output=True, text=True, **more)
    assert done.returncode == 3 and done.argv == code + list(words), done
    return done.stdout.split()
for _ in range(2):
    assert run(mrunc, "one", env={"A": "a"}) == ["one", "a", "mrunc"] and run(mrunc, "two") == ["two", "mrunc"]
    with mrunc.Pool(2, hostname="pool") as pool:
        assert run(pool, "three", env={"A": "b"}) == ["three", "b", "pool"]
        assert [run(pool, "four") for _ in range(4)] == [["four", "pool"]] * 4
    done = mrunc.run(["sleep", "100"], timeout=0.05)
    assert done.reason == "timeout-wall" and mrunc.run(["true"]).reason == "exited"
""") == ""


def test_a_new_mount_is_in_the_next_sandbox(host):
    """Its plan lists every mount, and what the plan does not list is refused at the gate."""
    host(OWN_MOUNTS + """
def shown():
    return mrunc.run(["ls", "/usr/include"], capture_output=True, text=True).stdout.split()
before = shown()
launcher = launchers()
assert shown() == before
mount.move_mount(mount.new_filesystem(b"tmpfs", 0, [(b"mode", b"0755")]), -100, b"/usr/include")
open("/usr/include/new", "w").close()
assert shown() == ["new"] and launchers() == launcher
mount.umount(b"/usr/include")
assert shown() == before and launchers() == launcher
""")
