# SPDX-License-Identifier: Apache-2.0
"""`rootfs build --from-host`: what belongs to a package, and what a program of no package needs to start."""
import os
import pathlib
import shutil
import stat
import subprocess
import tempfile

import pytest

import mrunc  # noqa: F401  (makes the package)
from mrunc.commands.rootfs import entries as rootfs_entries, from_host, packages
from mrunc.sandbox.errors import SandboxError
from mrunc.commands.rootfs.packages import Apk, Database, Dpkg, Package, Rpm

FIELDS = "installed\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n"


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """manager(name, script): a made-up query command."""
    def make(name, script):
        path = tmp_path / name
        path.write_text("#!/bin/sh\n" + script)
        path.chmod(0o755)
        monkeypatch.setattr(packages, "DPKG", b"/nowhere")
        monkeypatch.setattr(packages, "RPM", b"/nowhere")
        monkeypatch.setattr(packages, "APK_FILES", ())
        monkeypatch.setattr(packages, {"dpkg-query": "DPKG", "rpm": "RPM"}.get(name, "APK_FILES"),
                            os.fsencode(str(path)) if name != "installed" else (os.fsencode(str(path)),))
        return path
    return make


def keys(database, *names):
    return [package.key for package in database.closure([database.find(name) for name in names])]


def test_dpkg_dependencies(manager):
    table = "".join(FIELDS % row for row in (
        ("app", "app", "amd64", "1", "pre (>= 1)", "lib:any (>= 2) | nothing, virtual, gone | second [amd64], one-of | two-of", ""),
        ("pre", "pre", "all", "1", "", "", ""), ("lib:amd64", "lib", "amd64", "2", "", "lib-data", ""),
        ("lib:i386", "lib", "i386", "2", "", "old-data", ""), ("lib-data", "lib-data", "all", "1", "", "app", ""),
        ("old-data", "old-data", "all", "1", "", "", ""), ("real", "real", "amd64", "1", "", "", "virtual (= 3), other"),
        ("second", "second", "amd64", "1", "", "", ""), ("one-of", "one-of", "amd64", "1", "", "", ""),
        ("two-of", "two-of", "amd64", "1", "", "", ""), ("dpkg", "dpkg", "amd64", "1", "", "", ""),
        ("versioned", "versioned", "amd64", "1", "", "pre (<< 1) | second", ""), ("loner", "loner", "amd64", "1", "", "", "")))
    manager("dpkg-query", """case $1 in
        -W) cat <<'END'
%sdeinstall\\tx\\tx\\tx\\tx\\t\\t\\t
END
        ;;
        -L) shift; echo /.; for p in "$@"; do echo /usr/share/$p; done; echo 'diverted by x to: /usr/bin/moved'
            echo 'package diverts others to: /usr/bin/others';;
        -S) case $2 in /usr/bin/known) echo 'app: /usr/bin/known';; /bin/old) printf 'diversion by z from: /bin/old\\nlib:i386, lib:amd64: /bin/old\\n';;
            '/we\\[i\\]rd\\*') echo 'loner: /we[i]rd*';; *) exit 1;; esac;;
        esac""" % table)
    database = packages.read()
    assert type(database) is Dpkg and database.native == "amd64"
    assert keys(database, "app") == ["app", "lib-data", "lib:amd64", "one-of", "pre", "real", "second"]
    assert keys(database, "lib:i386") == ["app" if key == "app" else key for key in keys(database, "lib:i386")]
    assert "old-data" in keys(database, "lib:i386") and "old-data" not in keys(database, "lib")
    if shutil.which("dpkg"):
        assert keys(database, "versioned") == ["second", "versioned"]  # pre is installed, but not before version 1
    assert database.find("gone") is None and database.find("other").key == "real"
    assert database.owner(b"/usr/bin/known").key == "app" and database.owner(b"/usr/bin/old").key in ("lib:i386", "lib:amd64")
    assert database.owner(b"/usr/bin/none") is None and database.owner(b"/we[i]rd*").key == "loner"
    assert database.files([database.find("app"), database.find("pre")]) == {
        b"/usr/share/app", b"/usr/share/pre", b"/usr/bin/moved", b"/usr/bin/others"}


def test_rpm_dependencies(manager):
    manager("rpm", r"""printf '%b' '@app\tx86_64\t1-1\nRlibc.so.6()(64bit)\nR/bin/sh\nRrpmlib(CompressedFileNames)\nR(a or b)\nR(c if d)\nPapp\nF/usr/bin/app\nF/usr/share/app\n'
        printf '%b' '@glibc\tx86_64\t2-1\nPlibc.so.6()(64bit)\nPglibc\nF/lib64/libc.so.6\n@glibc\ti686\t2-1\nPglibc\nF/lib/libc.so.6\n'
        printf '%b' '@bash\tx86_64\t5-1\nPbash\nF/bin/sh\nF/usr/bin/bash\n@b\tnoarch\t1-1\nPb\nF/usr/share/b\n@c\tx86_64\t1-1\nPc\n@d\tx86_64\t1-1\nPd\n'""")
    database = packages.read()
    assert type(database) is Rpm
    arch = os.uname().machine
    assert [key.split("-")[0] for key in keys(database, "app")] == ["app", "b", "bash", "c", "glibc"]
    assert database.find("glibc", arch).arch in ("x86_64", "i686") and database.owner(b"/bin/sh").name == "bash"
    assert b"/lib64/libc.so.6" in database.files(database.closure([database.find("app")]))


def test_an_empty_rpm_data_base_is_none(manager):
    manager("rpm", "exit 1")
    assert type(packages.read()) is Database


def test_apk_dependencies(manager):
    manager("installed", "").write_text(
        "C:Q1=\nP:app\nV:1-r0\nA:x86_64\nD:so:libc.musl-x86_64.so.1 busybox>=1.0 !bad /bin/sh\nF:usr/bin\nR:app\na:0:0:755\n\n"
        "C:Q1=\nP:musl\nV:1\nA:x86_64\np:so:libc.musl-x86_64.so.1=1\nF:lib\nR:ld-musl-x86_64.so.1\n\n"
        "P:busybox\nV:1\np:cmd:busybox=1 cmd:sh=1\nF:bin\nR:busybox\nR:sh\n\nP:other\nF:\nR:rooted\n\n")
    database = packages.read()
    assert type(database) is Apk and keys(database, "app") == ["app", "busybox", "musl"]
    assert database.files(database.closure([database.find("app")])) == {
        b"/usr/bin", b"/usr/bin/app", b"/lib", b"/lib/ld-musl-x86_64.so.1", b"/bin", b"/bin/busybox", b"/bin/sh"}
    assert database.owner(b"/rooted").name == "other" and database.find("cmd:sh").name == "busybox"


def test_a_failing_query_says_so(manager):
    manager("dpkg-query", "echo broken >&2; exit 2")
    with pytest.raises(SandboxError) as caught:
        packages.read()
    assert caught.value.status == 125 and "broken" in caught.value.line()


# This host

def selected(*names, database=None):
    return {os.fsdecode(entry.name): entry for entry in _all(from_host.entries(list(names)))}


def _all(entries):
    return [entry for entry in entries]


def test_packages_come_with_all_that_they_need():
    assert shutil.which("dpkg-query"), "the real query is tested on Debian"
    found = selected("coreutils")
    for name in ("usr/bin/ls", "usr/lib64/ld-linux-x86-64.so.2" if os.uname().machine == "x86_64" else "usr/bin/env",
                 "bin", "usr/bin/sh", "etc/passwd", "etc/hosts"):
        assert name in found, name
    assert [name for name in found if "/libc.so.6" in name] and [name for name in found if "/libselinux.so.1" in name]
    assert found["bin"].kind == "symlink" and "usr/bin/python3" not in found
    names = [entry.name for entry in from_host.entries(["coreutils"])]
    seen = set()
    for name in names:  # each directory before what it holds
        parent = os.path.dirname(name)
        assert not parent or parent in seen, name
        seen.add(name)


def test_nothing_that_not_everybody_may_read_is_taken():
    for entry in from_host.entries(["passwd", "coreutils"]):
        if entry.kind == "file" and not entry.name.startswith(b"etc/"):
            assert os.stat(b"/" + entry.name).st_mode & 0o004, entry.name
        assert entry.name not in (b"etc/shadow", b"etc/gshadow", b"etc/machine-id")


@pytest.fixture(scope="module")
def built(public_folder):
    """A program of no package with a library of its own, one found by RUNPATH, and scripts."""
    assert shutil.which("gcc"), "apt-get install gcc libc6-dev (as root, .ci/test does it)"
    folder = pathlib.Path(tempfile.mkdtemp(prefix="built-", dir=public_folder))
    folder.chmod(0o755)
    (folder / "lib").mkdir()
    (folder / "bin").mkdir()
    (folder / "deep.c").write_text("int deep(void) { return 42; }\n")
    (folder / "own.c").write_text("int deep(void); int own(void) { return deep(); }\n")
    (folder / "main.c").write_text("#include <stdio.h>\nint own(void); int main(void) { printf(\"%d\\n\", own()); return 0; }\n")
    for command in (["-shared", "-fPIC", "-o", "lib/libdeep.so", "deep.c"],
                    ["-shared", "-fPIC", "-o", "lib/libown.so.1", "-Wl,-soname,libown.so.1", "own.c", "-Llib", "-ldeep", "-Wl,-rpath,$ORIGIN"],
                    ["-o", "bin/program", "main.c", "lib/libown.so.1", "-Llib", "-Wl,-rpath-link,lib", "-Wl,-rpath,$ORIGIN/../lib"]):
        subprocess.run(["gcc"] + command, cwd=str(folder), check=True)
    (folder / "bin" / "link").symlink_to("program")
    (folder / "bin" / "script").write_text("#!/usr/bin/env perl\nprint 1\n")
    (folder / "bin" / "inner").write_text("#!%s\n" % (folder / "bin" / "link"))
    for name in ("script", "inner"):
        (folder / "bin" / name).chmod(0o755)
    return folder


def test_a_program_of_no_package_is_followed(built):
    base = str(built)[1:]
    found = selected(str(built / "bin" / "link"))
    for name in ("/bin/link", "/bin/program", "/lib/libown.so.1", "/lib/libdeep.so"):
        assert base + name in found, name
    assert found[base + "/bin/link"].kind == "symlink"
    libc = [name for name in found if name.endswith("/libc.so.6")]
    assert libc and [name for name in found if name.endswith("/libm.so.6")], "a library of a package brings the package"
    assert base + "/main.c" not in found


def test_scripts_bring_their_interpreters(built):
    base = str(built)[1:]
    found = selected(str(built / "bin" / "script"))
    assert "usr/bin/env" in found and "usr/bin/perl" in found and base + "/bin/script" in found
    found = selected(str(built / "bin" / "inner"), str(built / "bin" / "link"))
    assert base + "/bin/program" in found and base + "/lib/libdeep.so" in found


# A program decides what it names

def kinds(*names):
    return {path: entry.kind for path, entry in selected(*names).items()}


@pytest.fixture
def no_packages(monkeypatch):
    """A host without a package manager that is known: what a program needs is followed alone, in a tenth of the time."""
    monkeypatch.setattr(packages, "read", lambda: Database({}))


@pytest.fixture
def sample(built, no_packages):
    """sample(first line): a script of that interpreter, in a directory that everybody can search."""
    def make(line):
        path = built / "bin" / "sample"
        path.write_text(line + "\n")
        path.chmod(0o755)
        return str(path)
    return make


@pytest.fixture
def secret(public_folder):
    """A program whose own mode is for everybody, in a directory that is not."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="secret-", dir=public_folder))
    (folder / "inner").mkdir()
    shutil.copy("/bin/true", str(folder / "inner" / "key"))
    assert stat.S_IMODE((folder / "inner" / "key").stat().st_mode) == 0o755
    return folder / "inner" / "key"


def test_what_only_a_directory_protects_is_not_taken(sample, secret):
    """By a script's first line, by env, and through a link; the same program from an open directory is taken where named."""
    path = str(secret)[1:]
    link = pathlib.Path(sample("")).parent / "way"
    if not os.path.islink(str(link)):
        link.symlink_to(secret)
    else:
        link.unlink()
        link.symlink_to(secret)
    above = "/".join([".."] * 6)
    for line in ("#!%s" % secret, "#!/usr/bin/env %s%s" % (above, secret), "#!%s" % link):
        found = kinds(sample(line))
        assert found.get(path) not in ("file", "hardlink"), line
        assert os.path.dirname(path) not in found, "nor is told what lies there"
    assert kinds(sample("#!%s" % secret))[path] == rootfs_entries.CLOSED
    found = kinds(sample("#!%s" % secret), str(secret))  # the caller's own word
    assert found[path] == "file" and found[os.path.dirname(path)] == "directory"


def test_an_interpreter_of_no_package_is_taken_only_where_it_is_named(sample, built):
    own = str(built / "bin" / "program")
    assert kinds(sample("#!" + own))[own[1:]] == rootfs_entries.STRANGE
    assert kinds(sample("#!" + own), own)[own[1:]] == "file"
    for path in ("/etc/passwd", "/etc/hostname"):
        found = selected(sample("#!" + path))
        assert found[path[1:]].kind in (rootfs_entries.STRANGE, "file")
        with open(path, "rb") as stream:  # that of the tree is another one
            assert found[path[1:]].kind != "file" or found[path[1:]].size != len(stream.read())


@pytest.mark.skipif(os.geteuid() != 0, reason="a program of the system's is root's")
def test_a_program_of_the_systems_that_no_package_owns_is_taken(sample, secret):
    place = "/usr/local/bin/mrunc-test-interpreter"
    shutil.copy("/bin/true", place)
    try:
        for mode, taken in ((0o755, True), (0o775, False), (0o754, False)):
            os.chmod(place, mode)
            assert (kinds(sample("#!" + place))[place[1:]] == "file") == taken, oct(mode)
    finally:
        os.unlink(place)


def test_libraries_in_a_closed_directory_are_not_taken(built, no_packages):
    """Of the program's RUNPATH; what was dropped is told, and the directory's mode alone makes the difference."""
    program, lib = str(built / "bin" / "program"), str(built / "lib")
    assert kinds(program)[lib[1:] + "/libown.so.1"] == "file"
    os.chmod(lib, 0o750)
    try:
        found = kinds(program)
        assert found[lib[1:] + "/libown.so.1"] == rootfs_entries.CLOSED and found[program[1:]] == "file"
    finally:
        os.chmod(lib, 0o755)


def test_the_mode_is_of_what_was_opened(built, no_packages, monkeypatch):
    """A file that is swapped between the look and the opening."""
    path = built / "bin" / "swapped"
    path.write_text("open")
    path.chmod(0o644)
    real = from_host.file_entry

    def swap(holder, name, full, links):
        if name == b"swapped":
            path.chmod(0o600)
        return real(holder, name, full, links)
    monkeypatch.setattr(from_host, "file_entry", swap)
    assert kinds(str(path))[str(path)[1:]] == rootfs_entries.UNREADABLE


def test_a_device_that_a_program_names_is_not_opened(sample, monkeypatch):
    opened, real = [], os.open
    monkeypatch.setattr(os, "open", lambda path, flags, *words, **named: opened.append((path, flags)) or real(
        path, flags, *words, **named))
    selected(sample("#!/dev/zero"))
    paths = [path for path, flags in opened if os.fsencode(path) in (b"/dev/zero", b"zero") and not flags & os.O_PATH]
    assert opened and paths == []


def test_links_that_scripts_made_are_there():
    """Debian's awk is an alternative: no package has it."""
    assert os.path.islink("/usr/bin/awk") and os.path.islink("/etc/alternatives/awk")
    package = {"mawk": "mawk", "gawk": "gawk"}[os.path.basename(os.path.realpath("/usr/bin/awk"))]
    found = selected(package)
    assert found["usr/bin/awk"].kind == "symlink" and "etc/alternatives/awk" in found
    assert "etc/alternatives/awk" not in selected("coreutils")


def test_bytecode_comes_with_its_source():
    found = selected("python3")
    cached = [name for name in found if name.endswith(".pyc")]
    assert len(cached) > 50 and not [name for name in cached if "tests/" in name]


def test_what_is_not_there_is_a_usage_error():
    for name in ("no-such-package-or-program", "/no/such/file", "/etc"):
        with pytest.raises(SandboxError) as caught:
            from_host.entries([name])
        assert caught.value.status == 2


def test_without_a_package_manager_everything_is_followed(monkeypatch):
    monkeypatch.setattr(packages, "read", lambda: Database({}))
    found = selected("ls")
    assert "usr/bin/ls" in found and [name for name in found if name.endswith("libc.so.6")]
    assert not [name for name in found if "share/doc" in name]
    assert Package("x", "x").needs == []
