# SPDX-License-Identifier: Apache-2.0
"""What a test's host program begins with: the library, and looking for the processes that it has started."""

HEAD = """
import os, pickle, subprocess, sys, time
sys.path.insert(0, %r)
import mrunc

def launchers():
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%%s/cmdline" %% name, "rb") as stream:
                    words = stream.read().split(b"\\0")
            except OSError:
                continue
            if b"--spec-fd" in words and os.fsencode(mrunc.__path__[0] + "/mrunc.py") in words:
                found.append(int(name))
    return [pid for pid in found if parent(pid) not in found + [None]]  # a sandbox that is being made looks the same

def state(pid):
    try:
        with open("/proc/%%d/stat" %% pid) as stream:
            return stream.read().rpartition(")")[2].split()[0]
    except OSError:
        return None

def alive(pid):
    return state(pid) not in (None, "Z")

def parent(pid):
    try:
        with open("/proc/%%d/stat" %% pid) as stream:
            return int(stream.read().rpartition(")")[2].split()[1])
    except OSError:
        return None

def below(pid):
    try:
        with open("/proc/%%d/task/%%d/children" %% (pid, pid)) as stream:
            return [int(word) for word in stream.read().split()]
    except OSError:  # one that was being made is another process's by now
        return []

def sandboxes():
    return sorted(pid for launcher in launchers() for pid in below(launcher))

def until(condition):
    while not condition():
        time.sleep(0.002)

until(lambda: not launchers())  # that of the test before may be at its end
"""

#: Then: the right to have namespaces of its own, for an ordinary user too.
OWN_USERS = """
from mrunc.syscalls import process
uid, gid = os.geteuid(), os.getegid()
if uid:
    process.unshare(process.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", "%d %d 1" % (uid, uid)), ("gid_map", "%d %d 1" % (gid, gid))):
        with open("/proc/self/" + name, "w") as stream:
            stream.write(text)
"""

#: Then: mounts of its own, which it can change, for an ordinary user too.
OWN_MOUNTS = """
from mrunc.syscalls import mount, process
uid, gid = os.geteuid(), os.getegid()
process.unshare(process.CLONE_NEWNS | (process.CLONE_NEWUSER if uid else 0))
if uid:
    for name, text in (("setgroups", "deny"), ("uid_map", "%d %d 1" % (uid, uid)), ("gid_map", "%d %d 1" % (gid, gid))):
        with open("/proc/self/" + name, "w") as stream:
            stream.write(text)
mount.make_private(b"/")
"""
