# SPDX-License-Identifier: Apache-2.0
"""A launcher has the priority, the processors, the label and the root of the thread that asks for a run."""
import os

import pytest

from hosting import OWN_MOUNTS

#: What a program inside says of itself, and what its launcher has.
SEEN = """
import threading
from mrunc.sandbox.library import client
SAY = "import os; print(os.getpriority(0, 0), os.sched_getscheduler(0), sorted(os.sched_getaffinity(0)))"
def said():
    return mrunc.run(["python3", "-c", SAY], capture_output=True, text=True, check=True).stdout.strip()
def own():
    return "%d %d %s" % (os.getpriority(0, 0), os.sched_getscheduler(0), sorted(os.sched_getaffinity(0)))
def scores():
    found = []
    for pid in launchers():
        with open("/proc/%d/oom_score_adj" % pid) as stream:
            found.append(int(stream.read()))
    return sorted(found)
def in_a_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()
"""


def test_programs_have_the_nice_value_and_policy_of_the_calling_thread(host):
    host(SEEN + """
first, seen = own(), []
assert said() == said() == said() == first  # the third may be a spare's
def change():
    os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + 3)
    seen.append((own(), said()))
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    seen.append((own(), said()))
in_a_thread(change)
assert len(seen) == 2 and len({first, seen[0][0], seen[1][0]}) == 3, seen
assert all(mine == inside for mine, inside in seen), seen
assert said() == own() == first and len(client.host().links) == 3
""")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor: there is none to give up")
def test_programs_have_the_processors_of_the_calling_thread(host):
    host(SEEN + """
first, seen = own(), []
assert said() == said() == said() == first
def change():
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    seen.append((own(), said()))
in_a_thread(change)
assert seen[0][0] == seen[0][1] != first, seen
assert said() == own() == first
""")


def test_a_changed_oom_score_adj_counts_for_the_next_run(host):
    host(SEEN + """
with open("/proc/self/oom_score_adj", "r+") as stream:
    before = int(stream.read())
assert said() and scores() == [before]
with open("/proc/self/oom_score_adj", "w") as stream:
    stream.write("%d" % (before + 100))
assert said() and scores() == [before, before + 100], scores()
""")


def test_the_label_of_a_security_module_belongs_to_a_launchers_key(host):
    """Of a directory that stands for the thread's in /proc: not every kernel has a module that labels."""
    host("""
import tempfile
from mrunc.sandbox.library import surroundings
place = tempfile.mkdtemp()
os.mkdir(place + "/attr")
held, found = os.open(place, os.O_PATH), []
for label in ("unconfined\\n", "confined (enforce)\\n", "unconfined\\n"):
    with open(place + "/attr/current", "w") as stream:
        stream.write(label)
    found.append(surroundings.restrictions(held))
assert found[0] == found[2] != found[1]
""")


def test_a_host_in_a_bind_of_its_root_is_not_served_the_old_tree(host):
    """Which has the same device and inode.  In a chroot the kernel allows no user namespace: clone(2), EPERM."""
    host(OWN_MOUNTS + """
from mrunc.sandbox.library import client
import ctypes, tempfile
libc = ctypes.CDLL(None, use_errno=True)
def shown(**options):
    return mrunc.run(["ls", "/usr/share"], capture_output=True, **options).stdout
def look():
    found = os.stat("/")
    return found.st_dev, found.st_ino
before, root = shown(), look()
assert before
place = tempfile.mkdtemp(dir=os.getcwd())
assert libc.mount(b"/", place.encode(), None, 0x5000, None) == 0, ctypes.get_errno()  # MS_BIND | MS_REC
mount.move_mount(mount.new_filesystem(b"tmpfs", 0, [(b"mode", b"0755")]), -100, os.fsencode(place) + b"/usr/share")
with open(place + "/usr/share/new", "w"):
    pass
assert shown() == before
os.chroot(place)
assert look() == root and os.listdir("/usr/share") == ["new"]
try:
    shown()
    raise AssertionError("served")
except mrunc.SandboxError as error:
    assert error.control == "userns" and error.errno == 1, error.line()
assert len(client.host().links) == 2
""")
