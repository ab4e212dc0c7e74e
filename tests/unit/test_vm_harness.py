# SPDX-License-Identifier: Apache-2.0
"""The harness of the virtual machines: it ends cleanly whatever happens, keeps nothing half-made, and believes no guest.

QEMU is played by a script here; what a real machine does, the tests marked vm see.
"""
import http.server
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import ROOT

HARNESS = os.path.join(ROOT, "tests", "vm")
sys.path.insert(0, HARNESS)
import boot  # noqa: E402
import image  # noqa: E402
import kernel  # noqa: E402
import packages  # noqa: E402
from cache import DAY, Cache  # noqa: E402
from report import Failure  # noqa: E402
sys.path.remove(HARNESS)

#: Plays QEMU: `deed` says what it does; results go where a guest would write them.
QEMU = """#!/usr/bin/python3
import io, os, re, sys, tarfile, time
results = [re.search("file=([^,]*out.tar)", word).group(1) for word in sys.argv if "out.tar" in word][0]
console = [word[5:] for word in sys.argv if word.startswith("file:")][0]
def finish(status, **files):
    with tarfile.open(results, "w") as tar:
        for name, text in dict(files, **{".status": "%s 1.5 2.5" % status}).items():
            member = tarfile.TarInfo("./" + name.replace("_xml", ".xml"))
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
with open(os.environ["PIDS"], "a") as stream:
    stream.write("%d\\n" % os.getpid())
"""


@pytest.fixture
def stage(tmp_path):
    """stage(deed, *words) runs the harness with a player that does `deed`, and a cache in which everything lies ready."""
    folder, programs, pids = str(tmp_path / "mrunc-vm"), tmp_path / "bin", str(tmp_path / "pids")
    cache = Cache(folder)
    ready = cache.path("kernel", "x86_64-6.12", kernel.recipe())
    os.mkdir(ready)
    for name in ("vmlinuz", "initrd.gz", "release"):
        with open(os.path.join(ready, name), "w") as stream:
            stream.write("6.12.0-played")
    with open(cache.path("image", "x86_64-" + image.SUITE, image.recipe()), "w"):
        pass
    programs.mkdir()

    with open(os.path.join(ready, "kvm-" + os.uname().release), "w") as stream:
        stream.write("no")

    class Stage:
        work = os.path.join(folder, "work")

        def start(self, deed, *words):
            return self.play(deed, [sys.executable, os.path.join(HARNESS, "run.py"), "--arch", "x86_64", "--accel", "tcg",
                                    "--cache", folder, *words])

        def cells(self, deed, *words):
            """.ci/vm with these cells, which finds everything installed."""
            (programs / "dpkg-query").write_text("#!/bin/sh\necho installed\n")
            os.chmod(str(programs / "dpkg-query"), 0o755)
            return self.play(deed, [os.path.join(ROOT, ".ci", "vm"), *words])

        def play(self, deed, command):
            with open(str(programs / "qemu-system-x86_64"), "w") as stream:
                stream.write(QEMU + deed)
            os.chmod(str(programs / "qemu-system-x86_64"), 0o755)
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE, universal_newlines=True, start_new_session=True,
                                    env=dict(os.environ, PATH="%s:%s" % (programs, os.environ["PATH"]), PIDS=pids,
                                             XDG_CACHE_HOME=str(tmp_path), TMPDIR=str(tmp_path)))

        def __call__(self, deed, *words):
            process = self.start(deed, *words)
            process.out, process.err = process.communicate(timeout=120)
            return process

        def player(self):
            """The player's pid, once it plays."""
            return self.players(1)[0]

        def players(self, count):
            """The pids of so many, once they play."""
            while not (os.path.exists(pids) and open(pids).read().count("\n") == count):
                time.sleep(0.01)
            return [int(line) for line in open(pids)]
    return Stage()


def gone(pid):
    """Waits until a process has gone; the time limit of the run is the limit here."""
    while os.path.exists("/proc/%d" % pid):
        with open("/proc/%d/stat" % pid) as stream:
            if stream.read().rpartition(")")[2].split()[0] == "Z":
                return
        time.sleep(0.01)


# How a run ends

def test_the_status_the_output_and_the_files_are_the_guests(stage, tmp_path):
    junit, out = str(tmp_path / "junit.xml"), tmp_path / "out"
    done = stage("print('said'); finish(7, junit_xml='<x/>', other='text')", "--junit", junit, "--out", str(out), "--",
                 "pytest")
    assert (done.returncode, done.out) == (7, "said\n"), done.err
    with open(junit) as stream:
        assert stream.read() == "<x/>"
    assert (out / "other").read_text() == "text" and os.listdir(stage.work) == []


@pytest.mark.parametrize("deed, words, status, said", [
    ("sys.exit(0)", [], 125, "ended without a result"),
    ("open(console, 'w').write('Kernel panic'); sys.exit(0)", [], 125, "Kernel panic"),
    ("time.sleep(1000)", ["--timeout", "0.5"], 124, "time ran out"),
    ("finish('setup')", ["--setup", "false"], 125, "--setup failed in the guest"),
    ("finish(0)", ["--junit", "/nowhere/x"], 125, "no junit.xml came back"),
    ("finish(0, junit_xml='')", ["--junit", "/nowhere/x"], 125, "/nowhere/x: No such file"),
], ids=["no result", "panic", "late", "setup", "no junit", "no place for junit"])
def test_what_goes_wrong_has_its_status_and_its_reason(stage, deed, words, status, said):
    done = stage(deed, *words, "--", "true")
    assert done.returncode == status and said in done.err and "Traceback" not in done.err, done.err
    assert os.listdir(stage.work) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_machine_survives_the_harness(stage, number):
    process = stage.start("time.sleep(1000)", "--", "true")
    player = stage.player()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    gone(player)
    if number == signal.SIGKILL:
        assert process.returncode == -9
        left = os.path.join(stage.work, os.listdir(stage.work)[0])
        os.utime(left, (0, 0))
        Cache(os.path.dirname(stage.work))  # the next run sweeps
    else:
        assert process.returncode == 128 + number and "interrupted" in err, err
    assert os.listdir(stage.work) == []


#: Waits for the other one, so that two play at the same time.
TOGETHER = ("while len(open(os.environ['PIDS']).readlines()) < 2:\n    time.sleep(0.01)\n"
            "for number in range(50):\n    print(os.getpid(), flush=True)\nfinish(%s)\n")


@pytest.mark.parametrize("status", ["0", "7 * (open(os.environ['PIDS']).readline() == '%d\\n' % os.getpid())"],
                         ids=["both pass", "one fails"])
def test_two_cells_run_at_a_time_and_what_each_said_stays_together(stage, status):
    cells = ["x86_64/6.12/root", "x86_64/6.12/tester"]
    process = stage.cells(TOGETHER % status, *cells)
    out, err = process.communicate(timeout=120)
    lines = out.splitlines()
    said = [line for line in lines if line.isdigit()]
    assert sorted(set(said)) == sorted(map(str, stage.players(2))) and said == [said[0]] * 50 + [said[50]] * 50, out
    assert sorted(line.split()[2] for line in lines[-2:]) == cells, out
    assert process.returncode == (status != "0") and (status == "0") == ("failed: " not in err), err
    assert os.listdir(stage.work) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_no_machine_survives_the_cells_and_they_end_by_the_signal(stage, number):
    process = stage.cells("time.sleep(1000)", "x86_64/6.12/root", "x86_64/6.12/tester", "x86_64/6.12/other")
    players = stage.players(2)
    os.killpg(process.pid, number)  # as a terminal does
    process.communicate(timeout=60)
    for pid in players:
        gone(pid)
    assert process.returncode == -number and stage.players(2) == players and os.listdir(stage.work) == []


def test_a_reader_that_goes_away_does_not_stop_the_machine(stage):
    process = stage.start("print('x' * 1000000); finish(3)", "--", "true")
    process.stdout.close()
    assert process.wait(timeout=60) == 3
    process.stderr.close()


@pytest.mark.parametrize("words", [[], ["--arch", "m68k", "--", "true"], ["--kernel", "2.6", "--", "true"],
                                   ["--env", "9=x", "--", "true"]])
def test_wrong_use_is_2(words):
    done = subprocess.run([sys.executable, os.path.join(HARNESS, "run.py"), *words], stderr=subprocess.PIPE)
    assert done.returncode == 2 and b"error: " in done.stderr


def test_of_the_guests_files_only_plain_ones_are_taken(tmp_path):
    path = str(tmp_path / "out.tar")
    with tarfile.open(path, "w") as tar:
        for name, kind in (("../evil", tarfile.REGTYPE), ("/evil", tarfile.REGTYPE), ("./a/b", tarfile.REGTYPE),
                           ("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("device", tarfile.CHRTYPE),
                           ("./good", tarfile.REGTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    ended = boot.Ended(path, 0)
    assert ended.files == {"good": b""} and ended.status is None


def test_no_results_at_all_are_no_status(tmp_path):
    for content in (b"", b"\0" * 4096, b"x" * 4096):
        (tmp_path / "out.tar").write_bytes(content)
        assert boot.Ended(str(tmp_path / "out.tar"), 0).status is None


# What goes in

def test_the_checkout_goes_in_with_new_files_and_without_ignored_ones(tmp_path):
    for name in ("kept", "new", "ignored", "gone"):
        (tmp_path / name).write_text(name)
    (tmp_path / ".gitignore").write_text("ignored\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_text("x")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x"]
    for words in (["init", "-q"], ["add", "kept", "gone", "sub"], ["commit", "-q", "-m", "x"]):
        subprocess.run(git + words, check=True)
    (tmp_path / "gone").unlink()
    assert boot.files_of(str(tmp_path)) == [".gitignore", "kept", "new", "sub/file"]
    stream = io.BytesIO()
    boot.Task(["echo", "it's"], "tester", {"A": "b c"}, "true", checkout=str(tmp_path)).write(stream)
    with tarfile.open(fileobj=io.BytesIO(stream.getvalue())) as tar:
        members = {member.name: member for member in tar}
        assert {"env", "cmd", "setup", "init", "src", "src/kept", "src/sub", "src/sub/file"} <= set(members)
        assert all(members[name].uid == 1000 for name in members if name.startswith("src"))
        assert tar.extractfile("cmd").read() == b"exec echo 'it'\"'\"'s'\n"
        assert b"export A='b c'\n" in tar.extractfile("env").read()


def test_a_copy_that_is_no_repository_goes_in_whole(tmp_path):
    for name in ("a.py", "sub/b.py", "__pycache__/a.pyc", "sub/__pycache__/b.pyc"):
        os.makedirs(os.path.dirname(str(tmp_path / name)), exist_ok=True)
        (tmp_path / name).write_text("x")
    assert boot.files_of(str(tmp_path)) == ["a.py", "sub/b.py"]


# Fetching

@pytest.fixture(scope="module")
def mirror():
    """mirror(answer) is the address of a server; answer(request handler) writes what it likes."""
    servers = []

    def serve(answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                answer(self)

            def log_message(self, *words):
                pass
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return "http://127.0.0.1:%d/debian" % server.server_port
    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def cut_short(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.wfile.write(b"Origin: Debian\n")


def unsigned(handler):
    text = b"Origin: Debian\nSuite: trixie\n"
    handler.send_response(200 if handler.path.endswith("Release") else 404)
    handler.send_header("Content-Length", str(len(text)))
    handler.end_headers()
    handler.wfile.write(text)


ANSWERS = {"dead": None, "cut short": cut_short, "unsigned": unsigned}


@pytest.fixture(scope="module")
def unserved(mirror, tmp_path_factory):
    """{how a mirror does not serve: (its address, folder of the cache, Future of the harness)}.  All at a time: apt waits before
    it tries one again."""
    def build(address, folder):
        return subprocess.run([sys.executable, os.path.join(HARNESS, "run.py"), "--arch", "x86_64", "--cache", folder, "--mirror",
                               address, "--build"], stderr=subprocess.PIPE, universal_newlines=True, timeout=300)
    out = {}
    with ThreadPoolExecutor(len(ANSWERS)) as pool:
        for how, answer in ANSWERS.items():
            address = mirror(answer) if answer else "http://127.0.0.1:9/debian"  # discard: nobody listens
            folder = str(tmp_path_factory.mktemp("mirror") / "cache")
            out[how] = address, folder, pool.submit(build, address, folder)
    return out


@pytest.mark.parametrize("how", ANSWERS)
def test_a_mirror_that_does_not_serve_is_named_and_nothing_is_kept(unserved, how):
    address, folder, running = unserved[how]
    done = running.result()
    assert done.returncode == 125 and "apt-get -q update failed" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert address in done.stderr
    assert [os.listdir(os.path.join(folder, name)) for name in ("kernel", "image", "work")] == [[], [], []]
    assert not os.path.exists(os.path.join(folder, "apt", "amd64-trixie", "fresh"))


def test_the_mirror_is_the_one_that_apt_uses(tmp_path):
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    with pytest.raises(Failure):
        packages.configured_mirror(str(tmp_path))
    (tmp_path / "sources.list").write_text("# deb http://old/ trixie main\n"
                                           "deb [arch=amd64 signed-by=/k.gpg] http://one/debian trixie main\n")
    assert packages.configured_mirror(str(tmp_path)) == ("http://one/debian", "/k.gpg")
    paragraphs = ("file:/local", "./", ""), ("http://s/", "trixie-security", ""), ("http://two/debian", "trixie", "/s.gpg")
    (parts / "debian.sources").write_text("\n".join("Types: deb\nURIs: %s\nSuites: %s\nSigned-By: %s\n" % words
                                                    for words in paragraphs))
    assert packages.configured_mirror(str(tmp_path)) == ("http://two/debian", "/s.gpg")


# Building

@pytest.fixture
def package(tmp_path):
    """The path of a small package: a set-uid program in /bin, a link, a hard link, and documentation."""
    tree = tmp_path / "tree"
    for name in ("bin", "DEBIAN", "usr/share/doc/small"):
        (tree / name).mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text("Package: small\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\n"
                                            "Description: x\n")
    (tree / "bin" / "raise").write_text("x" * 5000)
    os.chmod(str(tree / "bin" / "raise"), 0o4755)
    os.link(str(tree / "bin" / "raise"), str(tree / "bin" / "same"))
    os.symlink("raise", str(tree / "bin" / "link"))
    (tree / "usr/share/doc/small/copyright").write_text("x")
    path = str(tmp_path / "small.deb")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", str(tree), path], check=True, stdout=subprocess.DEVNULL)
    return path


def look(path, *requests):
    """What debugfs says of an image."""
    command = shutil.which("debugfs", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    return [subprocess.run([command, "-R", request, path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                           universal_newlines=True).stdout for request in requests]


def test_an_image_has_the_packages_files_with_owner_and_set_uid_bit(tmp_path, package):
    built = str(tmp_path / "image")
    image.build([package], str(tmp_path), built)
    raised, same, link, home, document, init = look(
        built, "stat /usr/bin/raise", "stat /usr/bin/same", "stat /bin", "stat /home/tester", "stat /usr/share/doc/small",
        "cat /vm/init")
    assert "Mode:  04755" in raised and "User:     0" in raised and "Links: 2" in raised and "Links: 2" in same
    assert 'Fast link dest: "usr/bin"' in link and "User:  1000" in home and not document and "exec sh /vm/in/init" in init
    assert not os.path.exists(str(tmp_path / "merged.tar"))


@pytest.mark.parametrize("size", [0, 50, 1000])
def test_a_package_cut_short_stops_the_build(tmp_path, package, size):
    with open(package, "r+b") as stream:
        stream.truncate(min(size, os.path.getsize(package) - 10))
    with pytest.raises(Failure, match="small.deb: not a readable package"):
        image.build([package], str(tmp_path), str(tmp_path / "image"))
    assert not os.path.exists(str(tmp_path / "image"))


@pytest.mark.parametrize("room, said", [(1, "MB are free, building needs about"), (0, "No space left on device")],
                         ids=["seen before", "met on the way"])
def test_a_full_disk_is_said_and_nothing_is_kept(tmp_path, package, room, said):
    script = ("import sys; sys.path.insert(0, %r)\nimport image\nfrom cache import Cache\nfrom report import Failure\n"
              "class Suite:\n    def fetch_all(self, names):\n        return [%r]\n    def drop_packages(self):\n        pass\n"
              "image.ROOM *= %d\ntry:\n    image.provide(Cache(%r), lambda suite: Suite(), 'x86_64', int)\n"
              "except Failure as failure:\n    print(failure)\n" % (HARNESS, package, room, str(tmp_path / "small")))
    (tmp_path / "small").mkdir()
    mounting = 'mount -t tmpfs -o size=256k none "$0"; "$@"; echo left; find "$0"/image/* "$0"/work/*'
    done = subprocess.run(["unshare", "-Urm", "/bin/sh", "-c", mounting, str(tmp_path / "small"), sys.executable, "-c", script],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    assert said in done.stdout and "Traceback" not in done.stderr, done
    assert done.stdout.splitlines()[-1] == "left", "nothing is: %r" % done


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Failure, match="--cache DIR"):
        Cache(str(tmp_path / "file" / "cache"))


def test_products_out_of_use_are_pruned(tmp_path):
    cache = Cache(str(tmp_path))
    now = time.time()
    for name, age in (("x86_64-trixie-present", 20), ("x86_64-trixie-before", 2), ("x86_64-trixie-other", 0.5),
                      ("aarch64-trixie-present", 13), ("aarch64-trixie-unused", 15)):
        path = os.path.join(cache.folder, "image", name)
        with open(path, "w"):
            pass
        os.utime(path, (now - age * DAY,) * 2)
    assert cache.find("image", "x86_64-trixie", "present") and not cache.find("image", "x86_64-trixie", "none")
    cache.prune("image", "x86_64-trixie", "present")
    assert sorted(os.listdir(os.path.join(cache.folder, "image"))) == [
        "aarch64-trixie-present", "x86_64-trixie-other", "x86_64-trixie-present"]


def test_one_builds_and_the_other_waits(tmp_path):
    cache, order = Cache(str(tmp_path)), []

    def other():
        with cache.building():
            order.append("second")
    with cache.building():
        thread = threading.Thread(target=other)
        thread.start()
        inode = ":%d" % os.stat(os.path.join(cache.folder, "lock")).st_ino
        while not [line for line in open("/proc/locks") if "->" in line and inode + " " in line]:
            time.sleep(0.01)  # until it waits
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
