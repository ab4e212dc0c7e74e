# SPDX-License-Identifier: Apache-2.0
"""--overlay: the tree can be changed as on a real system, the report sees every change, and the host sees none."""
import hashlib
import os
import random
import subprocess

import pytest

from conftest import USER, also_in_vm
from test_changes import OUT, check, changes_of, files_below

TREE = r"""
import os, sys
os.chdir(sys.argv[1])
for name in ('a', 'b/c/d', 'e/f', 'g', 'empty'):
    os.makedirs(name)
for i in range(20):
    open('a/%d' % i, 'w').write('content %d' % i)
open('b/c/d/deep', 'w').write('deep'); open('b/top', 'w').write('top'); open('e/f/x', 'w').write('x')
os.symlink('a/1', 'link'); os.symlink('/nowhere', 'b/dangling'); os.link('a/2', 'g/hard')
os.chmod('a/3', 0o755); os.chmod('a/4', 0o600); os.mkfifo('fifo') if len(sys.argv) > 2 else None
open(b'odd\n\xff', 'w').write('odd')
open('g/sparse', 'wb').truncate(1 << 20)
"""


@pytest.fixture
def tree(inside):
    """A directory of the caller's (for root: of host root's) with something of everything; its digest after the test is as before."""
    place = os.path.join(inside.scratch, "tree")
    os.mkdir(place)
    if inside.who == "user" and os.geteuid() == 0:
        os.chown(place, USER, USER)
    made = inside.outside(["/usr/bin/python3", "-c", TREE, place])
    assert made.returncode == 0, made
    before = picture(place)
    yield place
    assert picture(place) == before, "the host's tree was changed"


def picture(folder):
    """Everything about a tree that a program could change, but for access times."""
    out = []
    for place, folders, names in os.walk(os.fsencode(folder)):
        for name in [b"."] + folders + names:
            path = os.path.join(place, name)
            found = os.lstat(path)
            content = b""
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as stream:
                    content = hashlib.sha256(stream.read()).digest()
            out.append((path, found.st_mode, found.st_uid, found.st_gid, found.st_size, found.st_mtime_ns, found.st_ino, content))
    return sorted(out)


DEEDS = {
    "nothing": "open('/t/a/1').read(); os.listdir('/t')",
    "touched only": "os.utime('/t/a/1'); os.chmod('/t/a/2', 0o600); os.chmod('/t/a/2', 0o644)",
    "a new file and directory": "open('/t/new', 'w'); os.makedirs('/t/n/m'); open('/t/n/m/x', 'w').write('y')",
    "appended": "open('/t/a/1', 'a').write('more')",
    "rewritten the same": "d = open('/t/a/1').read(); open('/t/a/1', 'w').write(d)",
    "truncated": "os.truncate('/t/a/1', 0)",
    "mode only": "os.chmod('/t/a/1', 0o4755); os.chmod('/t/a', 0o700); os.chmod('/t', 0o711)",
    "deleted": "os.unlink('/t/a/1'); os.unlink('/t/link'); os.rmdir('/t/empty')",
    "a deleted tree": "import shutil; shutil.rmtree('/t/b')",
    "everything deleted": "import shutil\nfor n in os.listdir('/t'):\n    p = '/t/' + n\n    shutil.rmtree(p) if os.path.isdir(p) and not os.path.islink(p) else os.unlink(p)",
    "deleted and made again": "import shutil; shutil.rmtree('/t/b'); os.makedirs('/t/b/c'); open('/t/b/new', 'w')",
    "the same again": "import shutil; shutil.rmtree('/t/e'); os.makedirs('/t/e/f'); open('/t/e/f/x', 'w').write('x')",
    "a directory for a file": "os.unlink('/t/a/1'); os.makedirs('/t/a/1/x')",
    "a file for a directory": "import shutil; shutil.rmtree('/t/b'); open('/t/b', 'w').write('file')",
    "there and back": "os.unlink('/t/a/1'); os.mkdir('/t/a/1'); os.rmdir('/t/a/1'); open('/t/a/1', 'w').write('content 1')",
    "renamed": "os.rename('/t/a/1', '/t/renamed'); os.rename('/t/link', '/t/a/5')",
    "linked": "os.link('/t/a/1', '/t/again'); os.symlink('x', '/t/sym'); os.unlink('/t/link'); os.symlink('other', '/t/link')",
    "through a link": "open('/t/link', 'a').write('via')",
    "a link for a file": "os.unlink('/t/a/1'); os.symlink('2', '/t/a/1')",
    "by mmap": "import mmap\nf = open('/t/a/1', 'r+b'); m = mmap.mmap(f.fileno(), 0); m[0] = 65; m.flush()",
    "odd names": r"os.unlink(b'/t/odd\n\xff'); open(b'/t/a/\x1b[2J', 'w')",
    "a FIFO and a socket": "import socket; os.mkfifo('/t/p'); socket.socket(socket.AF_UNIX).bind('/t/s')",
    "a whiteout of one's own": "\ntry:\n    os.mknod('/t/a/1x', 0o020600, 0)\nexcept OSError as error:\n    assert error.errno == 1",
    "marks of one's own": "\nfor n in ('user.overlay.opaque', 'user.overlay.redirect', 'user.overlay.whiteout'):\n    try:\n"
                          "        os.setxattr('/t/b', n, b'y')\n    except OSError:\n        pass",
}


@pytest.mark.parametrize("name", also_in_vm(sorted(DEEDS), "renamed", "deleted and made again"))
@pytest.mark.needs("overlay")
def test_the_report_is_what_an_independent_look_sees(inside, tree, name):
    check(inside, DEEDS[name], options=["--ro", tree + ":/t", "--overlay=/t"], places=["/t", "/box"])


@pytest.mark.parametrize("seed", range(8))
def test_random_deeds_are_seen(inside, tree, seed):
    chance = random.Random(seed)
    deed = "import random, shutil\nchance = random.Random(%d)\n" % chance.randrange(1 << 30) + r"""
paths = [os.path.join(p, n) for p, ds, fs in os.walk('/t') for n in ds + fs]
for step in range(200):
    old = chance.choice(paths)
    folder = chance.choice(['/t'] + [p for p in paths if os.path.isdir(p) and not os.path.islink(p)])
    new = chance.choice([folder + '/n%d' % step, chance.choice(paths)])
    word = chance.choice(['file', 'dir', 'link', 'hard', 'rename', 'chmod', 'unlink', 'rmtree', 'append', 'rmdir', 'fifo'])
    try:
        if word == 'file': fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK); os.write(fd, b'x' * chance.randrange(3000))
        elif word == 'dir': os.mkdir(new)
        elif word == 'link': os.symlink(old, new)
        elif word == 'hard': os.link(old, new)
        elif word == 'rename': os.rename(old, new)
        elif word == 'chmod' and not os.path.islink(old): os.chmod(old, chance.choice([0o600, 0o755, 0o700, 0o7777]))
        elif word == 'unlink': os.unlink(old)
        elif word == 'rmtree': shutil.rmtree(old)
        elif word == 'append': os.write(os.open(old, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK), b'more')
        elif word == 'rmdir': os.rmdir(old)
        elif word == 'fifo': os.mkfifo(new)
        paths.append(new)
    except OSError:
        pass
"""
    check(inside, deed, options=["--ro", tree + ":/t", "--overlay=/t"], places=["/t"])


@pytest.mark.parametrize("place", ["/t", "/in"])
def test_what_was_changed_is_brought_out(inside, tree, place):
    target = os.path.join(inside.scratch, "out")
    done = inside.run("sh", "-c", "cd %s && echo more >> a/1; echo new > b/n; rm a/2; chmod 700 a/3; touch a/5" % place,
                      options=["--ro", tree + ":" + place, "--overlay=" + place, "--export", target])
    assert done.rc == 0, done
    assert files_below(target) == {place[1:] + "/a/1", place[1:] + "/b/n"}
    assert OUT  # the mess of the other module is for tmpfs


def test_without_the_option_the_same_is_refused(inside, tree):
    done = inside.run("sh", "-c", "touch /t/x", options=["--ro", tree + ":/t"])
    assert done.rc == 1 and "Read-only" in done.err


def test_it_works_without_anybody_looking(inside, tree):
    done = inside.run("sh", "-c", "rm -r /t/b && echo x > /t/new && ls /t/new && test ! -e /t/b && cat /proc/self/mounts",
                      options=["--ro", tree + ":/t", "--overlay=/t"])
    assert done.rc == 0 and done.out.startswith("/t/new\n")
    assert tree not in done.out, "the overlay's own line hides where it lies"


def test_root_changes_the_systems_files(inside_as_root):
    before = [picture("/usr/share/doc/bash"), os.lstat("/usr/bin/env"), hashlib.sha256(open("/usr/bin/true", "rb").read()).digest()]
    done = inside_as_root.run(
        "sh", "-c", "rm /usr/bin/env; echo x >> /usr/bin/true; echo me >> /etc/passwd; mkdir -p /var/lib/x; echo y > /var/lib/x/f;"
        "rm -r /usr/share/doc/bash; echo file > /usr/share/doc/bash; chmod 4755 /usr/bin/id; ls /usr/bin/env; cat /usr/share/doc/bash",
        options=["--overlay", "--changes", os.path.join(inside_as_root.scratch, "c.json")])
    assert done.out == "file\n" and "/usr/bin/env" in done.err, done
    rows = {row["path"]: row for row in done.result["changes"]}
    told = {path: row["change"] for path, row in rows.items() if not path.startswith("/usr/share/doc/bash/")}
    assert told == {"/usr/bin/env": "deleted", "/usr/bin/true": "modified", "/etc/passwd": "modified", "/var/lib/x": "added",
                    "/var/lib/x/f": "added", "/usr/share/doc/bash": "modified", "/usr/bin/id": "modified"}
    assert rows["/usr/bin/id"]["set_id"] and rows["/usr/share/doc/bash"]["was"]["kind"] == "directory"
    gone = {path for path, row in rows.items() if path.startswith("/usr/share/doc/bash/")}
    assert gone == {os.fsdecode(row[0]) for row in before[0]} - {"/usr/share/doc/bash/."} and \
        all(rows[path]["change"] == "deleted" for path in gone)
    assert [picture("/usr/share/doc/bash"), os.lstat("/usr/bin/env")[:7], os.lstat("/usr/bin/id").st_mode & 0o7777] == \
        [before[0], before[1][:7], 0o755]
    assert hashlib.sha256(open("/usr/bin/true", "rb").read()).digest() == before[2]


def test_what_takes_the_place_of_a_moved_mount_is_seen(inside_as_root):
    done = inside_as_root.run(
        "sh", "-c", "mv /etc/ssl /etc/other; mkdir -p /etc/ssl/certs; echo evil > /etc/ssl/certs/x",
        options=["--overlay", "--changes", os.path.join(inside_as_root.scratch, "c.json")])
    assert done.rc == 0 and {"/etc/ssl/certs", "/etc/ssl/certs/x", "/etc/other"} <= {row["path"] for row in done.result["changes"]}, done


def test_what_only_root_may_read_in_a_store_stays_closed(inside_as_root):
    """It would be readable if the store were mapped to its owner, as /usr is."""
    done = inside_as_root.outside(
        ["unshare", "-m", "sh", "-ec", "mount -t tmpfs -o mode=755 x /opt; mkdir /opt/bin; echo open >/opt/open; (umask 77; "
         'echo secret >/opt/key); PATH=/opt/bin:$PATH exec "$@"', "sh"] + inside_as_root.command(
             "sh", "-c", "cat /opt/open; cat /opt/key || echo closed; echo x >>/usr/bin/true && echo changed", options=["--overlay"]))
    assert (done.returncode, done.stdout) == (0, "open\nclosed\nchanged\n"), done


def test_a_set_id_file_made_in_an_overlay_is_void(inside_as_root):
    done = inside_as_root.run("sh", "-c", "cp /usr/bin/id /usr/bin/suid; chmod 6755 /usr/bin/suid; setpriv --dump | grep -i 'no_new'; /usr/bin/suid -u",
                              options=["--overlay"])
    assert done.out.endswith("0\n") and done.rc == 0


def test_an_ordinary_user_is_told_what_can_be_changed(inside_as_user):
    done = inside_as_user.run("/bin/echo", "ran", options=["--overlay"])
    assert (done.rc, done.out) == (125, "")
    assert "mrunc: overlay: /usr: belongs to uid 0" in done.err and "--rootfs TREE --overlay" in done.err


def test_a_users_own_rootfs_can_be_changed(inside):
    tree = os.path.join(inside.scratch, "small")
    made = inside.outside([*inside.command(verb="rootfs"), "build", tree, "--from-host", "dash,coreutils", "-q"])
    assert made.returncode == 0, made
    done = inside.run("sh", "-c", "rm /usr/bin/ls; echo x > /etc/new; echo y >> /usr/bin/cat; echo done",
                      options=["--rootfs", tree, "--overlay", "--changes", os.path.join(inside.scratch, "c.json")])
    assert done.out == "done\n", done
    assert {row["path"]: row["change"] for row in done.result["changes"]} == {
        "/usr/bin/ls": "deleted", "/etc/new": "added", "/usr/bin/cat": "modified"}
    assert os.path.exists(tree + "/usr/bin/ls") and not os.path.exists(tree + "/etc/new")


@pytest.mark.parametrize("options, said", [
    (["--overlay=/nowhere"], "nothing is shown at that place"),
    (["--overlay=relative"], "must be absolute"),
    (["--ro", "/etc/hostname:/srv/f", "--overlay=/srv/f"], "is a file"),
    (["--overlay", "--harden"], "contradicts --overlay"),
    (["--overlay=/proc"], "mrunc's own"),
])
def test_misuse_is_named(inside, options, said):
    done = inside.run("/bin/echo", "ran", options=options)
    assert done.rc == 2 and said in done.err and done.out == "", done


def test_a_writable_bind_is_none(inside):
    folder = os.path.join(inside.scratch, "out")
    os.mkdir(folder)
    os.chown(folder, USER, USER) if os.geteuid() == 0 else None
    done = inside.run("/bin/echo", "ran", options=["--rw", folder + ":/out", "--overlay=/out"])
    assert done.rc == 2 and "writes to the host" in done.err


def test_the_upper_layer_has_a_size(inside, tree):
    done = inside.run("sh", "-c", "df -k --output=size,target /t | tail -1; dd if=/dev/zero of=/t/big bs=1M count=1100 2>&1 | head -1",
                      options=["--ro", tree + ":/t", "--overlay=/t"])
    assert "No space left" in done.out, done


def test_the_upper_layer_has_a_number_of_files(inside, tree):
    """Empty ones take no space of it, but memory of the kernel."""
    done = inside.python("import os\ntry:\n    for i in range(200000):\n        os.mknod('/t/a/new%d' % i)\nexcept OSError as error:\n"
                         "    print(error.errno, i < 100000)", options=["--ro", tree + ":/t", "--overlay=/t"])
    assert done.out == "28 True\n", done


def test_nothing_of_the_layers_stays(inside, tree):
    before = subprocess.run(["cat", "/proc/self/mounts"], stdout=subprocess.PIPE).stdout
    done = inside.run("sh", "-c", "ls -a / | grep -e lower -e upper; grep -c overlay /proc/self/mounts", options=["--ro", tree + ":/t", "--overlay=/t"])
    assert done.out == "1\n"
    assert subprocess.run(["cat", "/proc/self/mounts"], stdout=subprocess.PIPE).stdout == before


def test_the_plan_shows_it(inside, tree):
    done = inside.outside(inside.command("/bin/true", options=["--print-plan", "--ro", tree + ":/t", "--overlay=/t"]))
    assert "overlay        /t " in done.stdout and "changed in at most 1G" in done.stdout, done.stdout


def test_deletions_are_all_told(inside):
    """As many as there are, where a list could have been cut."""
    place = os.path.join(inside.scratch, "many")
    os.mkdir(place)
    for number in range(3000):
        open("%s/%d" % (place, number), "w").close()
    if inside.who == "user" and os.geteuid() == 0:
        subprocess.run(["chown", "-R", "%d:%d" % (USER, USER), place], check=True)
    rows = changes_of(inside, "import shutil; [os.unlink('/t/' + n) for n in os.listdir('/t')]",
                      options=["--ro", place + ":/t", "--overlay=/t"], places=["/t"])[0]
    assert len(rows) == 3000 and {row["change"] for row in rows.values()} == {"deleted"}
