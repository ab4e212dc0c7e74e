# SPDX-License-Identifier: Apache-2.0
"""`mrunc run --rootfs DIR`: real programs on trees of their own, and what a hostile tree can't do."""
import json
import os
import shutil
import stat
import subprocess

import pytest

import mrunc  # noqa: F401  (makes the package)
from conftest import PYTHON, ROOT, USER
from mrunc.sandbox.tree import operations, userland
from mrunc.commands.run import plan_text
from mrunc.sandbox.errors import SandboxError
from mrunc.sandbox.plan.spec import Spec
from test_plan import at, made_up, make
from test_workloads import PYTHON as PYTHON_WORKLOADS
from test_workloads import SHELL as SHELL_WORKLOADS

PACKAGES = "python3,perl,gawk,git,patch,xz-utils,bzip2,zstd,sqlite3"
#: What these packages, and Debian's essential ones, can run of the workloads.
SHELL = [row for row in SHELL_WORKLOADS
         if set(row[1].split()) <= {"awk", "bash", "find", "flock", "diff", "patch", "tar", "bzip2", "gzip", "xz", "zstd", "perl", "git",
                                    "sqlite3"}]
SCRIPTS = [row for row in PYTHON_WORKLOADS if "venv" not in row[0]]


def ours(inside, path):
    """Gives a tree to the caller."""
    if inside.who == "user" and os.geteuid() == 0:
        subprocess.run(["chown", "-hR", "%d:%d" % (USER, USER), path], check=True)
    return path


def small(inside, name="small"):
    """A tree with one static program that prints its arguments, and an /etc of its own."""
    assert shutil.which("gcc"), "apt-get install gcc libc6-dev (as root, .ci/test does it)"
    top = os.path.join(inside.scratch, name)
    for folder in ("bin", "etc", "var/tmp", "opt"):
        os.makedirs(os.path.join(top, folder))
    with open(top + "/main.c", "w") as stream:
        stream.write("#include <stdio.h>\n#include <unistd.h>\nint main(int c, char **v) { char b[99]; FILE *f;\n"
                     "while (*++v) { f = fopen(*v, \"r\"); puts(f && fgets(b, 99, f) ? b : f ? \"empty\" : \"none\"); }\n"
                     "printf(\"%d %d\\n\", getuid(), geteuid()); return 0; }\n")
    subprocess.run(["gcc", "-static", "-o", top + "/bin/show", top + "/main.c"], check=True)
    for place, content in (("etc/hosts", "1.2.3.4 secret\n"), ("etc/hostname", "thathost\n"), ("etc/passwd", "tree:x:0:0::/:/bin/sh\n")):
        with open(os.path.join(top, place), "w") as stream:
            stream.write(content)
    return ours(inside, top)


# Trees that people have

def test_python_bash_and_git_of_this_host(inside):
    """The tree is made and used by the same caller."""
    built = inside.outside(inside.command("build", verb="rootfs")[:-2] + ["build", "r", "--from-host", "python3,bash,coreutils,git",
                                                                         "--manifest", "m.json"])
    assert (built.returncode, built.stdout) == (0, ""), built
    with open(os.path.join(inside.scratch, "m.json")) as stream:
        manifest = json.load(stream)
    assert len(manifest["entries"]) > 3000 and {"path": "bin", "kind": "symlink"}.items() <= manifest["entries"][0].items()
    tree = os.path.join(inside.scratch, "r")
    for row in manifest["entries"]:  # the manifest is what is there
        found = os.lstat(os.path.join(os.fsencode(tree), os.fsencode(row["path"])))
        assert "%04o" % stat.S_IMODE(found.st_mode) == row["mode"] and found.st_size == row.get("size", found.st_size)
        assert found.st_uid == (0 if inside.who == "root" else os.stat(inside.scratch).st_uid)
    checked = inside.outside(inside.command("check", verb="rootfs")[:-2] + ["check", "r"])
    assert (checked.returncode, checked.stdout) == (0, ""), checked
    done = inside.run("python3", "-c", "import ssl, sqlite3, json; print(ssl.OPENSSL_VERSION[:7], sqlite3.sqlite_version[0])",
                      options=["--rootfs", "r"])
    assert (done.rc, done.out) == (0, "OpenSSL 3\n"), done
    done = inside.run("bash", "-c", "git init -q x && cd x && git config user.email a@b && git config user.name n && echo 1 > f && "
                                    "git add f && git commit -qm m && git log --format=%an; whoami; hash perl awk; hash gcc",
                      options=["--rootfs", "r"])
    assert done.out == "n\nroot\n" and done.rc == 1 and "gcc: not found" in done.err.replace("hash: ", ""), done
    done = inside.run("gcc", options=["--rootfs", "r"])
    assert done.rc == 127 and "not found inside" in done.err, done


@pytest.fixture(scope="session")
def debian(public_folder):
    """A small Debian, from the mirror that this host's apt uses, with device nodes, for which it takes root: see
    conftest.elsewhere.  What a crash would leave of it is nobody's, so dpkg need not wait for the disk."""
    assert shutil.which("mmdebstrap"), "apt-get install mmdebstrap (as root, .ci/test does it)"
    out = subprocess.run(["apt-get", "indextargets", "--format", "$(SITE) $(CODENAME) $(COMPONENT)", "Created-By: Packages"],
                         stdout=subprocess.PIPE, universal_newlines=True, check=True).stdout
    site, codename = [line.split()[:2] for line in out.splitlines()
                      if line.startswith("http") and line.endswith(" main") and "-" not in line.split()[1]][0]
    tree = os.path.join(public_folder, "debian")
    done = subprocess.run(["mmdebstrap", "--quiet", "--mode=root", "--format=directory", "--variant=minbase",
                           "--dpkgopt=force-unsafe-io", "--include=" + PACKAGES, codename, tree, site],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:]
    return tree


@pytest.fixture(scope="session")
def image(debian, public_folder):
    """The same as an OCI image of three layers, unpacked by mrunc."""
    assert shutil.which("umoci"), "apt-get install umoci (as root, .ci/test does it)"
    layout, more = os.path.join(public_folder, "oci"), os.path.join(public_folder, "more")
    os.makedirs(os.path.join(more, "in"))
    with open(os.path.join(more, "in", "motd"), "w") as stream:
        stream.write("made by a layer\n")
    for words in (["init", "--layout", layout], ["new", "--image", layout + ":x"], ["insert", "--image", layout + ":x", debian, "/"],
                  ["insert", "--image", layout + ":x", "--whiteout", "/usr/share/doc"],
                  ["insert", "--image", layout + ":x", "--opaque", os.path.join(more, "in"), "/etc/update-motd.d"]):
        subprocess.run(["umoci"] + words, check=True, stdout=subprocess.DEVNULL)
    tree = os.path.join(public_folder, "unpacked")
    done = subprocess.run([PYTHON, os.path.join(ROOT, "mrunc.py"), "rootfs", "build", tree, "--from", layout],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    assert done.returncode == 0 and "dropped: usr/bin/su: set-uid bit" in done.stderr, done
    assert os.listdir(os.path.join(tree, "etc/update-motd.d")) == ["motd"] and not os.path.exists(os.path.join(tree, "usr/share/doc"))
    return tree


@pytest.fixture
def system(request):
    """A tree of the two."""
    return request.getfixturevalue(request.param)


def on_both(table, *names):
    """Each row on both trees, for root on the one and for the user on the other, with the next row the other way round: so
    each row meets both callers and both trees, and each caller both trees."""
    return pytest.mark.parametrize("system, " + ", ".join(names), [
        pytest.param(tree, *row, id="%s-%s" % (tree, row[0].replace(" ", "-")),
                     marks=pytest.mark.once(who=("root", "user")[(number + (tree == "debian")) % 2]))
        for tree in ("debian", "image") for number, row in enumerate(table)], indirect=["system"])


@on_both(SHELL, "name", "programs", "script", "expected")
def test_a_debian_runs_programs(inside, system, name, programs, script, expected):
    done = inside.run("sh", "-c", script, options=["--rootfs", system])
    assert (done.out, done.rc) == (expected, 0), done.err


@on_both(SCRIPTS, "name", "code", "expected")
def test_a_debian_runs_python(inside, system, name, code, expected):
    path = os.path.join(inside.scratch, "program.py")
    with open(path, "w") as stream:
        stream.write(code)
    os.chmod(path, 0o644)
    done = inside.run("python3", "program.py", options=["--rootfs", system, "--copy", path])
    assert (done.out, done.rc) == (expected, 0), done.err


def test_a_debian_is_built_and_checked(inside, debian):
    """The tree as dpkg leaves it has set-id files and devices; what is built of it has not."""
    words = inside.command("check", verb="rootfs")[:-2]
    done = inside.outside(words + ["check", "--json", debian])
    kinds = {row["kind"] for row in json.loads(done.stdout)["findings"]}
    assert done.returncode == 1 and kinds >= {"set-uid", "set-gid"} and (inside.who == "user" or "device" in kinds), kinds
    built = inside.outside(words + ["build", "built", "--from", debian, "-q"])
    assert (built.returncode, built.stderr) == (0, ""), built
    done = inside.outside(words + ["check", "--json", "built"])
    findings = json.loads(done.stdout)["findings"]
    assert {row["kind"] for row in findings} <= {"interpreter"}, findings[:5]
    done = inside.run("sh", "-c", "python3 -c 'import ssl, sqlite3, json' && git --version && perl -e 'print 6*7'",
                      options=["--rootfs", "built"])
    assert done.rc == 0 and done.out.startswith("git version") and done.out.endswith("42"), done


# What is whose

def test_the_tree_is_read_only_and_the_hosts_is_not_there(inside):
    tree = os.path.join(inside.scratch, "t")
    done = inside.outside(inside.command("x", verb="rootfs")[:-2] + ["build", "-q", "t", "--from-host", "python3,coreutils"])
    assert done.returncode == 0, done
    with open(os.path.join(tree, "only-here"), "w") as stream:
        stream.write("x")
    ours(inside, tree)
    code = """
import os
for path in ("/usr/bin/x", "/etc/x", "/x", "/only-here", "/var/x", "/usr/bin/env", "/etc/passwd"):
    try:
        open(path, "a").close()
        print("WROTE", path)
    except OSError as error:
        print(error.errno, path)
for path in ("/tmp/x", "/box/x", os.environ["HOME"] + "/x", "/dev/shm/x"):
    open(path, "w").close()
print(os.path.exists("/usr/bin/gcc"), os.path.exists("/etc/ssl/certs"), open("/only-here").read(), os.listdir("/run"))
"""
    done = inside.python(code, options=["--rootfs", tree])
    assert done.out.splitlines() == ["30 " + path for path in (
        "/usr/bin/x", "/etc/x", "/x", "/only-here", "/var/x", "/usr/bin/env", "/etc/passwd")] + ["False False x []"], done
    assert done.result["reason"] == "exited" and all(row["in_force"] for row in done.result["controls"] if row["asked"])
    done = inside.run("python3", "-c", "open('/tmp/x', 'w')", options=["--rootfs", tree, "--harden"])
    assert done.rc == 1 and "Read-only" in done.err, done


def test_etc_is_the_trees_but_for_what_names_the_host(inside):
    done = inside.run("show", "/etc/hosts", "/etc/hostname", "/etc/passwd", "/etc/resolv.conf", "/proc/self/comm",
                      options=["--rootfs", small(inside), "--hostname", "inner"])
    assert done.out == "127.0.0.1 localhost inner\n\ninner\n\ntree:x:0:0::/:/bin/sh\n\nnone\nshow\n\n0 0\n", done


def test_the_tree_may_be_named_by_a_link_or_a_relative_path(inside):
    small(inside)
    os.symlink("small", os.path.join(inside.scratch, "link"))
    for name in ("small", "./link", os.path.join(inside.scratch, "small", "etc", "..")):
        assert inside.run("show", options=["--rootfs", name, "--follow-links"]).out == "0 0\n"
    assert inside.run("show", options=["--rootfs", "small", "--user", "1000"]).out == "1000 1000\n"


def test_what_the_user_brings_lies_over_the_tree(inside):
    tree = small(inside)
    with open(os.path.join(inside.scratch, "f"), "w") as stream:
        stream.write("mine\n")
    os.chmod(os.path.join(inside.scratch, "f"), 0o644)
    done = inside.run("show", "/etc/hosts", "/box/f", "/opt/f", "/new/f", options=[
        "--rootfs", tree, "--ro", "f:/etc/hosts", "--copy", "f", "--tmpfs", "/opt", "--copy", "f:/opt/f", "--copy", "f:/new/f"])
    assert done.out == "mine\n\n" * 4 + "0 0\n", done
    done = inside.run("show", options=["--rootfs", tree, "--copy", "f:/opt/f"])
    assert done.rc == 2 and "nothing is made in /opt" in done.err, done


def test_set_id_programs_of_a_tree_have_no_effect(inside):
    """The file system of the tree honours them outside."""
    tree = small(inside)
    owner = 54321 if os.geteuid() == 0 else os.geteuid()
    os.chown(tree + "/bin/show", owner, -1)
    os.chmod(tree + "/bin/show", 0o6755)
    outside = inside.outside([tree + "/bin/show"])
    assert outside.stdout.split()[1] == str(owner), outside
    done = inside.run("show", options=["--rootfs", tree])
    assert done.out == "0 0\n" or done.out.split()[0] == done.out.split()[1], done
    assert all("nosuid" in flags for place, flags in json.loads(inside.outside(inside.command("true", options=[
        "--rootfs", tree, "--print-plan", "--json"])).stdout)["mounts"].items())


def test_files_of_other_owners_are_nobodys(inside_as_root):
    tree = small(inside_as_root)
    for name, mode in (("open", 0o644), ("closed", 0o600)):
        with open(tree + "/etc/" + name, "w") as stream:
            stream.write(name + "\n")
        os.chmod(tree + "/etc/" + name, mode)
        os.chown(tree + "/etc/" + name, 12345, 12345)
    with open(tree + "/etc/private", "w") as stream:
        stream.write("of the tree's owner\n")
    os.chmod(tree + "/etc/private", 0o600)
    done = inside_as_root.run("show", "/etc/open", "/etc/closed", "/etc/private", options=["--rootfs", tree])
    assert done.out == "open\n\nnone\nof the tree's owner\n\n0 0\n", done


def test_a_tree_of_another_owner_is_mapped_to_that_owner(inside_as_root):
    tree = small(inside_as_root)
    subprocess.run(["chown", "-R", "%d:%d" % (USER, USER), tree], check=True)
    os.chmod(tree + "/etc/passwd", 0o600)
    os.chmod(tree, 0o700)
    assert inside_as_root.run("show", "/etc/passwd", options=["--rootfs", tree]).out == "tree:x:0:0::/:/bin/sh\n\n0 0\n"


# Programs that can't run there

def test_a_program_for_another_libc_says_so(inside):
    tree = small(inside)
    for name, loader in (("musl", "/lib/ld-musl-x86_64.so.1"), ("glibc", "/lib64/ld-linux-x86-64.so.2")):
        subprocess.run(["gcc", "-o", tree + "/bin/" + name, tree + "/main.c", "-Wl,--dynamic-linker=" + loader], check=True)
        done = inside.run(name, options=["--rootfs", tree])
        assert done.rc == 126 and "its loader %s is not there inside" % loader in done.err, done
        assert done.result["reason"] == "setup" or done.result["returncode"] == 126
    with open(tree + "/bin/script", "w") as stream:
        stream.write("#!/usr/bin/python9\n")
    os.chmod(tree + "/bin/script", 0o755)
    done = inside.run("script", options=["--rootfs", tree])
    assert done.rc == 126 and "its interpreter /usr/bin/python9 is not there inside" in done.err, done
    assert inside.run("python3", options=["--rootfs", tree]).rc == 127


# Hostile trees

@pytest.mark.parametrize("how, words", [
    ("missing", "No such file"), ("file", "is a file; a directory is needed"), ("/", "the host's own root"), ("many", "holds 300 entries"),
    ("fifo at the top", "is a FIFO"), ("fifo below", "is a FIFO"), ("socket below", "is a socket")])
def test_what_is_no_tree_is_refused(inside, how, words):
    import socket
    tree = os.path.join(inside.scratch, "tree")
    os.makedirs(tree + "/usr/deep")
    if how == "many":
        for number in range(299):
            os.mkdir("%s/%d" % (tree, number))
    elif how == "fifo at the top":
        os.mkfifo(tree + "/fifo")
    elif how == "fifo below":
        os.mkfifo(tree + "/usr/deep/fifo")
    elif how == "socket below":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(tree + "/usr/deep/socket")
    with open(os.path.join(inside.scratch, "file"), "w"):
        pass
    ours(inside, tree)
    done = inside.run("true", options=["--rootfs", {"missing": "missing", "file": "file", "/": "/"}.get(how, tree)])
    assert done.rc == 2 and words in done.err, done


def test_a_hostile_top_takes_nothing_of_ours(inside):
    """Names that mrunc has itself, and links that lead anywhere."""
    tree = small(inside)
    with open(tree + "/etc/secret", "w") as stream:
        stream.write("secret\n")
    for name in ("proc", "sys", "dev", "tmp", "box", "run", "root", ".landlock", ".cover"):
        os.symlink("/etc", os.path.join(tree, name))
    for name, target in (("usr", "../../../.."), ("home", "/proc/1/root"), ("lib", "/box"), ("odd\n\x1b", "x")):
        os.symlink(target, os.path.join(tree, name))
    os.rmdir(tree + "/var/tmp")
    os.symlink("/etc", tree + "/var/tmp")
    os.unlink(tree + "/etc/hosts")
    os.symlink("/etc/secret", tree + "/etc/hosts")
    ours(inside, tree)
    done = inside.run("show", "/tmp/secret", "/root/secret", "/etc/hosts", "/dev/null", "/proc/self/comm", "/var/tmp/secret",
                      options=["--rootfs", tree])
    assert done.out == "none\nnone\nsecret\n\nempty\nshow\n\nsecret\n\n0 0\n", done
    assert all(row["in_force"] for row in done.result["controls"] if row["asked"])


@pytest.mark.parametrize("what", ["the tree", "an entry", "a directory on the way"])
def test_what_is_swapped_after_the_plan_is_not_entered(inside, what):
    """Whoever owns the tree swaps it for a link to something else between the check and the use."""
    tree, other = small(inside, "way/tree"), small(inside, "other")
    ours(inside, os.path.dirname(tree))
    script = """
import os, sys
sys.path.insert(0, %r)
import mrunc
from mrunc.sandbox.launch import run as launch; from mrunc.sandbox.plan import spec
plan = launch.prepare(spec.Spec(["show"], rootfs=%r))
place = %r
os.rename(place, place + ".old")
os.symlink(%r, place)
try:
    print(launch.launch(plan).as_dict())
except mrunc.SandboxError as error:
    print("REFUSED", error.line())
""" % (os.path.dirname(inside.tool), tree, {"the tree": tree, "an entry": tree + "/etc", "a directory on the way": os.path.dirname(tree)}[what],
       {"the tree": other, "an entry": other + "/etc", "a directory on the way": os.path.dirname(other)}[what])
    folder = os.path.join(inside.scratch, "import")
    os.mkdir(folder)
    os.symlink(os.path.dirname(inside.tool), os.path.join(folder, "mrunc"))
    done = inside.outside([PYTHON, "-I", "-c", script.replace(repr(os.path.dirname(inside.tool)), repr(folder), 1)])
    if inside.who == "root":  # what was opened is shown
        assert done.stdout.startswith("0 0\n{"), done
    else:  # it is looked for again in the child's mount namespace
        assert done.stdout.startswith("REFUSED sources") and "replaced" in done.stdout, done


# The plan

def test_the_plan_binds_the_trees_entries_and_nothing_of_the_hosts(tmp_path):
    tree = tmp_path / "t"
    for name in ("usr/bin", "etc", "var/tmp", "srv", "home/app", "root", "dev", "data"):
        (tree / name).mkdir(parents=True)
    (tree / "bin").symlink_to("usr/bin")
    (tree / "etc" / "hosts").write_text("x")
    (tree / "init").write_text("x")
    made = make(rootfs=str(tree))
    base = os.fsencode(str(tree))
    binds = {op.dst: op for op in made.operations if op.kind == "bind"}
    assert set(binds) == {b"/usr", b"/etc", b"/var", b"/srv", b"/home", b"/data", b"/init"}
    flags = operations.RO | operations.NOSUID | operations.NODEV
    assert all(op.src == base + op.dst and op.flags & flags == flags for op in binds.values())
    assert [op.dst for op in made.operations if op.kind == "cover"] == [b"/etc/hosts"]
    assert at(made, b"/bin", "symlink")[0].src == b"usr/bin" and at(made, b"/var/tmp", "tmpfs") and at(made, b"/opt", "directory")
    assert set(made.mounts) == {op.dst for op in made.operations if op.is_mount}
    assert made.mounts[b"/etc/hosts"] == {"ro", "nosuid", "nodev", "noexec"} and made.mounts[b"/usr"] == {"ro", "nosuid", "nodev"}
    assert set(make(rootfs=str(tree), user="1000").mounts) >= {b"/root", b"/home/user"} and \
        b"/home" not in make(rootfs=str(tree), user="1000").mounts
    text = "\n".join(plan_text.describe(made))
    assert "cover          /etc/hosts" in text and str(tree) + "/usr" in text
    assert json.loads(json.dumps(plan_text.as_dict(made)))["mounts"]["/data"] == ["nodev", "nosuid", "ro"]
    assert make(rootfs=str(tree), facts=made_up(uid=0), ids=[(5, 5)]).mounts == made.mounts


def test_a_bare_tree_gets_what_programs_expect(tmp_path):
    (tmp_path / "t").mkdir()
    made = make(rootfs=str(tmp_path / "t"))
    assert at(made, b"/etc/passwd", "file") and at(made, b"/var/tmp", "symlink") and at(made, b"/usr", "directory")
    with pytest.raises(SandboxError):
        userland.Userland(Spec(["true"], rootfs="/"), [])


def test_the_library_takes_it_too(inside):
    tree = small(inside)
    folder = os.path.join(inside.scratch, "import")
    os.mkdir(folder)
    os.symlink(os.path.dirname(inside.tool), os.path.join(folder, "mrunc"))
    done = inside.outside([PYTHON, "-c", "import sys; sys.path.insert(0, %r); import mrunc\n"
                           "print(mrunc.run(['show'], rootfs=%r).returncode)" % (folder, tree)])
    assert done.stdout == "0 0\n0\n", done
