# SPDX-License-Identifier: Apache-2.0
"""The ladder: which tier runs, what is said about it, and that none runs that was not named.  And rootns, on this host and
on one without user namespaces."""
import json
import os
import subprocess

import pytest

import mrunc  # noqa: F401  registers the package
from mrunc.sandbox import controls, tiers
from mrunc.sandbox.plan.spec import Spec

from conftest import PYTHON, ROOT, USER

LIMIT = "/proc/sys/user/max_user_namespaces"
#: The command on a host without user namespaces.
NO_USERNS = ["unshare", "-Ur", "/bin/sh", "-ec", "echo 0 > %s; exec \"$@\"" % LIMIT, "sh"]
ROOTNS = ["--tier", "rootns"]


# The table

def test_the_table_names_controls_and_gives_each_lack_a_reason():
    assert tiers.NAMES == ("full", "rootns", "process")
    for tier in tiers.TIERS.values():
        for lacks in (tier.lacks, tier.lacks_without_scope, tier.lacks_for_user):
            assert set(lacks) <= set(controls.CONTROLS) and all(lacks.values())
        assert tier.vital <= set(controls.CONTROLS)
        assert all(sentence.endswith(".") for sentence in tier.not_held)
        assert tier.name == "full" or tier.not_held and tier.refuses
        default = Spec(["true"], environ={})
        assert tiers.refusal(tier, default) is None
    assert set(tiers.FULL.lacks) == {"sweep"}


@pytest.mark.parametrize("value,names", [((), ("full",)), ("rootns", ("rootns",)), ("full,process", ("full", "process")),
                                         (["process", "full"], ("process", "full")), (("full",), ("full",))])
def test_a_tier_is_a_name_or_several(value, names):
    assert Spec(["true"], environ={}, tier=value).tier == names


@pytest.mark.parametrize("value,words", [("best", "no such tier: full rootns process"), ("full,full", "named twice"),
                                         ("full,", None)])
def test_what_is_no_tier(inside, value, words):
    done = inside.run("/bin/echo", "ran", options=["--tier", value])
    if words is None:
        assert (done.rc, done.out) == (0, "ran\n"), done
        return
    assert (done.rc, done.out) == (2, ""), done
    assert words.split(":")[0] in done.err and words.split(": ")[-1] in done.err, done


def test_the_documentation_is_in_step():
    done = subprocess.run([PYTHON, os.path.join(ROOT, ".ci", "docs.py"), "--check"], stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr


# Which one runs

def test_every_result_says_which_tier_ran(inside):
    for names, ran in (("full", "full"), ("process", "process"), ("full,process", "full"), ("process,full", "process")):
        done = inside.run("/bin/echo", "ran", options=["-v", "--tier", names])
        assert (done.rc, done.out, done.result["tier"]) == (0, "ran\n", ran), done
        assert "mrunc: tier %s\n" % ran in done.err, done
        plan = inside.run("true", options=["--print-plan", "--tier", names])
        assert "\ntier          %s: " % ran in plan.out, plan
        plan = inside.run("true", options=["--print-plan", "--json", "--tier", names])
        assert json.loads(plan.out)["tier"] == ran
    assert inside.run("true").result["tier"] == "full"


def test_a_failed_run_says_its_tier_too(inside):
    done = inside.run("/nothing/there", options=["--tier", "process"])
    assert (done.rc, done.result["tier"], done.result["reason"]) == (127, "process", "exec"), done


def test_without_user_namespaces_the_default_never_falls(inside_as_user):
    done = inside_as_user.outside(NO_USERNS + inside_as_user.command("/bin/echo", "ran"))
    assert (done.returncode, done.stdout) == (125, ""), done


def test_without_user_namespaces_a_named_weaker_tier_runs_and_it_is_said(inside_as_user):
    """By trying: nothing but the failed attempt tells."""
    done = inside_as_user.outside(NO_USERNS + inside_as_user.command(
        "/usr/bin/python3", "-c", "import os; print('ran'); os.listdir('/')", options=["--tier", "full,process"]))
    assert (done.returncode, done.stdout) == (1, "ran\n") and "PermissionError" in done.stderr, done
    lines = done.stderr.splitlines()
    assert lines[0].startswith("mrunc: tier full is passed over: namespaces: clone3: "), lines
    assert lines[1] == "mrunc: running in the process tier", lines
    done = inside_as_user.outside(NO_USERNS + inside_as_user.command("/bin/echo", "ran", options=["-q", "--tier", "full,process"]))
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", ""), done


def test_without_user_namespaces_the_tier_of_a_plan_is_the_one_that_would_run(inside_as_user):
    done = inside_as_user.outside(NO_USERNS + inside_as_user.command("true", options=["--tier", "full,process", "--print-plan"]))
    assert "\ntier          process: " in done.stdout, done


def test_where_none_can_be_had_nothing_runs_and_each_is_named(inside_as_user):
    done = inside_as_user.outside(NO_USERNS + inside_as_user.command("/bin/echo", "ran", options=["--tier", "full,rootns"]))
    assert (done.returncode, done.stdout) == (125, ""), done
    first = done.stderr.splitlines()[0]
    assert first.startswith("mrunc: tier: none of full, rootns can be had: tier full is passed over: ") and "rootns" in first
    assert len(done.stderr.splitlines()) == 2 and "remedy" in done.stderr


def test_a_list_passes_over_a_tier_that_cannot_express_an_option(inside):
    done = inside.run("uname", "-n", options=["--tier", "process,full", "--hostname", "x"])
    assert (done.rc, done.out, done.result["tier"]) == (0, "x\n", "full"), done
    assert done.err.splitlines() == [
        "mrunc: tier process is passed over: options: --hostname in the process tier: the host name is the host's",
        "mrunc: running in the full tier"]
    done = inside.run("uname", "-n", options=["--tier", "process,rootns", "--user", "5"])
    assert (done.rc, done.out) == (2, ""), done


def test_a_control_that_a_tier_lacks_cannot_be_required_of_it(inside):
    done = inside.run("/bin/echo", "ran", options=["--tier", "process", "--require", "netns"])
    assert (done.rc, done.out) == (2, "") and "--require netns in the process tier" in done.err, done
    done = inside.run("/bin/echo", "ran", options=["--tier", "process,full", "--require", "netns"])
    assert (done.rc, done.result["tier"]) == (0, "full"), done


def test_the_library_takes_a_name_or_a_tuple(inside):
    code = ("import sys; sys.path.insert(0, %r); import mrunc\n"
            "for tier in ('process', ('process', 'full'), ['full']):\n"
            "    print(mrunc.run(['/bin/true'], tier=tier).tier)\n"
            "try: mrunc.run(['/bin/true'], tier='process', hostname='x')\n"
            "except mrunc.SandboxError as error: print(error.status)" % os.path.dirname(inside.tool))
    done = inside.outside([PYTHON, "-I", "-S", "-c", code])
    assert done.stdout == "process\nprocess\nfull\n2\n", done


def test_a_trial_leaves_nothing(inside):
    code = ("import sys, os; sys.path.insert(0, %r); import mrunc\nfrom mrunc.sandbox import tiers\nfrom mrunc.sandbox.launch import run\n"
            "def state(): return (sorted(os.listdir('/proc/self/fd')), open('/proc/self/mountinfo').read(),\n"
            "                     sorted(n for n in os.listdir(os.environ['TMPDIR'])))\n"
            "print(run.runnable('process'))\nbefore = state()\n"
            "for name in tiers.NAMES * 3: run.runnable(name)\n"
            "print(state() == before)\n"
            "try: os.waitpid(-1, os.WNOHANG)\nexcept ChildProcessError: print('alone')" % os.path.dirname(inside.tool))
    done = inside.outside([PYTHON, "-I", "-S", "-c", code], env=dict(os.environ, TMPDIR=inside.scratch))
    assert done.stdout == "(True, None)\nTrue\nalone\n", done


# rootns

def test_rootns_is_roots_alone(inside_as_user):
    done = inside_as_user.run("/bin/echo", "ran", options=ROOTNS)
    assert (done.rc, done.out) == (125, "") and "needs root" in done.err and "--tier process" in done.err, done


def test_rootns_has_every_namespace_but_user(inside_as_root):
    with open(LIMIT) as stream:
        limit = stream.read()
    done = inside_as_root.python("import os\nfor n in sorted(os.listdir('/proc/self/ns')): print(n, os.readlink('/proc/self/ns/' + n))",
                                 options=ROOTNS)
    seen = dict(line.split() for line in done.out.splitlines())
    for name in ("mnt", "pid", "uts", "ipc", "net", "cgroup", "time"):
        assert seen[name] != os.readlink("/proc/self/ns/" + name), name
    assert seen["user"] == os.readlink("/proc/self/ns/user")
    with open(LIMIT) as stream:
        assert stream.read() == limit


def test_rootns_is_a_stranger_with_nothing(inside_as_root):
    code = """
import json, os, pwd
status = dict(line.rstrip("\\n").split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
print(json.dumps([os.getresuid() + os.getresgid(), status["Uid"].split(), status["Groups"].split(), status["NoNewPrivs"],
                  [status[n] for n in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")], os.environ["HOME"],
                  pwd.getpwuid(os.getuid()).pw_name, os.stat("/box").st_uid, os.stat(os.environ["HOME"]).st_uid]))
for place in ("/box", "/tmp", os.environ["HOME"], "/dev/shm"):
    open(place + "/x", "w").close()
"""
    done = inside_as_root.python(code, options=ROOTNS)
    ids, uids, groups, nnp, sets, home, name, box, home_owner = json.loads(done.out)
    assert done.rc == 0 and len(set(ids)) == 1 and ids[0] >= 2000000000 and set(uids) == {str(ids[0])}, done
    assert (groups, nnp, sets, home, name) == ([], "1", ["0" * 16] * 5, "/home/user", "user")
    assert (box, home_owner) == (ids[0], ids[0])


@pytest.mark.parametrize("deed", [
    "open('/etc/shadow')", "open('/usr/bin/x', 'w')", "os.kill(1, 9)", "os.listdir('/root/.ssh')", "os.chroot('/')",
    "os.setuid(0)", "os.sethostname('x') if hasattr(os, 'sethostname') else socket.sethostname('x')",
    "socket.socket(socket.AF_INET)", "open('/x', 'w')", "open('/proc/sys/user/max_user_namespaces', 'w')",
    "os.mknod('/box/null', 0o20666, os.makedev(1, 3))", "os.chown('/box', 0, 0)"])
def test_rootns_contains(inside_as_root, deed):
    code = "import os, socket\ntry:\n    %s\n    print('done')\nexcept OSError as error:\n    print('refused')" % deed
    done = inside_as_root.python(code, options=ROOTNS)
    assert done.out == "refused\n", done


def test_rootns_shows_what_everybody_may_read_and_copies_the_rest(inside_as_root):
    folder = os.path.join(inside_as_root.scratch, "d")
    os.mkdir(folder)
    path = os.path.join(folder, "f")
    with open(path, "w") as stream:
        stream.write("text")
    os.chmod(path, 0o600)
    done = inside_as_root.run("cat", "/mnt/d/f", options=ROOTNS + ["--ro", folder + ":/mnt/d"])
    assert (done.rc, done.out) == (2, "") and "not readable for everybody" in done.err and "--copy" in done.err, done
    done = inside_as_root.run("cat", "f", options=ROOTNS + ["--copy", path])
    assert (done.rc, done.out) == (0, "text"), done
    os.chmod(path, 0o644)
    done = inside_as_root.run("cat", "/mnt/d/f", options=ROOTNS + ["--ro", folder + ":/mnt/d"])
    assert (done.rc, done.out) == (0, "text"), done
    assert inside_as_root.run("touch", "/mnt/d/x", options=ROOTNS + ["--ro", folder + ":/mnt/d"]).rc != 0


@pytest.mark.parametrize("options", ["--rw d", "--user 5", "--cap-add chown", "--unsafe-without caps", "--require userns"])
def test_rootns_refuses_by_name(inside_as_root, options):
    folder = os.path.join(inside_as_root.scratch, "d")
    os.mkdir(folder)
    os.chown(folder, USER, USER)
    done = inside_as_root.run("/bin/echo", "ran", options=ROOTNS + options.split())
    assert (done.rc, done.out) == (2, "") and "in the rootns tier: " in done.err, done


def test_no_mount_of_rootns_reaches_the_host(inside_as_root):
    """On a host whose mounts are shared, as systemd makes them."""
    script = "mount --make-rshared /; mount -t tmpfs none /mnt; cat /proc/self/mountinfo > a; \"$@\"; cat /proc/self/mountinfo > b; cmp a b"
    done = inside_as_root.outside(["unshare", "-m", "--propagation", "private", "/bin/sh", "-ec", script, "sh",
                                   *inside_as_root.command("/bin/echo", "ran", options=ROOTNS)])
    assert (done.returncode, done.stdout) == (0, "ran\n"), done


def test_rootns_with_a_terminal_and_hardened(inside_as_root):
    done = inside_as_root.run("sh", "-c", "test -t 0 && id -un", options=ROOTNS + ["--tty"])
    assert (done.rc, done.out.strip()) == (0, "user"), done
    done = inside_as_root.run("sh", "-c", "touch /box/x; touch /w/x && ls /w", options=ROOTNS + ["--harden", "--writable", "/w"])
    assert (done.rc, done.out) == (0, "x\n") and "Read-only" in done.err, done


# Other kernels

@pytest.mark.vm
def test_on_a_host_without_user_namespaces_rootns_runs_and_their_limit_stays(inside, sysctl):
    sysctl("user.max_user_namespaces", 0)
    assert inside.run("/bin/echo", "ran").rc == 125
    done = inside.run("/usr/bin/id", "-u", options=["--tier", "full,rootns"])
    assert done.rc == 0 and int(done.out) >= 2000000000 and done.result["tier"] == "rootns", done
    rows = dict((row["name"], row) for row in done.result["controls"])
    for name in ("mountns", "pidns", "netns", "uidmap", "groups", "propagation", "mounts", "caps", "nnp", "seccomp"):
        assert rows[name]["in_force"], rows[name]
    done = inside.python("import os\ntry: os.listdir('/root'), open('/etc/shadow')\nexcept OSError as error: print(error.errno)\n"
                         "print(sorted(n for n in os.listdir('/proc') if n.isdigit()) == [str(os.getpid())])", options=ROOTNS)
    assert done.out == "2\nTrue\n", done
    with open(LIMIT) as stream:
        assert stream.read() == "0\n"


@pytest.mark.vm
def test_the_process_tier_runs_on_this_kernel(inside, vm):
    done = inside.run("/bin/echo", "ran", options=["--tier", "process"])
    if vm.kernel == "5.10":
        assert (done.rc, done.out) == (125, "") and "landlock" in done.err, done
    else:
        assert (done.rc, done.out, done.result["tier"]) == (0, "ran\n", "process"), done
