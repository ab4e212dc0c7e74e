# SPDX-License-Identifier: Apache-2.0
"""What a stricter policy breaks: the programs of the workload suite under its frozen filter alone.

    python3 bench/strict.py [POLICY] [--json]

Each program runs in a plain child process three times: without a filter, under the default, and under POLICY (strict
unless said).  Broken is what says the same without a filter and under the default, and something else under POLICY.
Also run: small programs that use just what the stricter policy takes away, so that an empty list can be told from a
filter that was not there.  docs/policy.md has the result.
"""
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if HERE not in sys.path:
    sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, "tests"))

import mrunc  # noqa: E402,F401
from mrunc.sandbox.seccomp import shipped  # noqa: E402
from mrunc.syscalls import seccomp  # noqa: E402
from mrunc.syscalls.libc import bind, c_int, c_ulong  # noqa: E402

PR_SET_NO_NEW_PRIVS = 38
_prctl = bind("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)

USES = [
    ("install -m 4755 (a set-id mode)", ["sh", "-c", "touch a && install -m 4755 a b && stat -c %a b"]),
    ("chmod g+s DIR", ["sh", "-c", "mkdir d && chmod g+s d && stat -c %a d"]),
    ("tar -xp of a set-id file", ["sh", "-c", "touch f; tar cf a.tar --mode=4755 f && tar xpf a.tar && stat -c %a f"]),
    ("git init --shared", ["sh", "-c", "git init -q --shared r && stat -c %a r/.git/refs"]),
    ("ipcmk -Q (System V message queue)", ["sh", "-c", "ipcrm -q $(ipcmk -Q | sed 's/.*: //') && echo made"]),
    ("ipcmk -M (System V shared memory)", ["sh", "-c", "ipcrm -m $(ipcmk -M 64 | sed 's/.*: //') && echo made"]),
    ("python3 multiprocessing.shared_memory (a file in /dev/shm)",
     ["python3", "-c", "from multiprocessing import shared_memory as s\n"
     "m = s.SharedMemory(create=True, size=64); m.close(); m.unlink(); print('made')"]),
    ("setarch --uname-2.6, linux32", ["sh", "-c", "setarch --uname-2.6 sh -c 'echo ran'; linux32 uname -m"]),
    ("perl System V semaphores",
     ["perl", "-e", "use IPC::SysV; $i = semget(IPC::SysV::IPC_PRIVATE(), 1, 0600); defined $i or die $!;"
     " semctl($i, 0, IPC::SysV::IPC_RMID(), 0); print 'made'"]),
    ("strace", ["strace", "-f", "-o", "/dev/null", "true"]),
]


def attach(name):
    """A preexec function that puts the process under a frozen filter."""
    if name is None:
        return None
    prepared = seccomp.prepare(shipped.program(name, os.uname().machine))

    def change():
        _prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        seccomp.attach(prepared)
    return change


def run(command, files, filtered):
    """(status, what it printed) in a fresh directory."""
    place = tempfile.mkdtemp(prefix="mrunc-strict-")
    try:
        for name, text in files.items():
            with open(os.path.join(place, name), "w") as out:
                out.write(re.sub(r"/(box|tmp)\b", place, text))  # nothing may stay for the next run to find
        command = [re.sub(r"/(box|tmp)\b", place, word) for word in command]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = subprocess.Popen(command, cwd=place, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                     start_new_session=True, preexec_fn=attach(filtered),
                                     env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": place, "TMPDIR": place,
                                          "LANG": "C.UTF-8"})
            try:
                child.wait(timeout=300)
            finally:
                try:
                    os.killpg(child.pid, signal.SIGKILL)  # a killed strace leaves its program stopped
                except ProcessLookupError:
                    pass
            texts = []
            for stream in (out, err):
                stream.seek(0)
                texts.append(stream.read().decode("utf-8", "replace").replace(place, "/box"))
        return [child.wait()] + texts
    finally:
        shutil.rmtree(place, ignore_errors=True)


def main():
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    name = words[0] if words else "strict"
    workloads = runpy.run_path(os.path.join(HERE, "tests", "sandbox", "test_workloads.py"))
    jobs = [(row[0], ["sh", "-c", row[2]], {}) for row in workloads["SHELL"]]
    jobs += [(row[0], ["python3", "program.py"], {"program.py": row[1]}) for row in workloads["PYTHON"]]
    count = len(jobs)
    jobs += [(title, command, {}) for title, command in USES]
    result = {"policy": name, "workloads": count, "uses": len(USES), "unsteady": [], "broken": []}
    for title, command, files in jobs:
        plain, default, strict = [run(command, files, each) for each in (None, "default", name)]
        if (plain[0] or plain[:2] != default[:2]) and command[0] != "strace":
            result["unsteady"].append([title, (plain if plain[0] else default)[2].strip()[-200:]])
        if strict[:2] != (plain if command[0] == "strace" else default)[:2]:
            result["broken"].append([title, strict[0], strict[2].strip().split("\n")[-1][:160]])
    if "--json" in sys.argv[1:]:
        print(json.dumps(result, indent=2))
        return 0
    print("%d programs of the workload suite and %d that use what is taken away, under %s" % (count, len(USES), name))
    for title, why in result["unsteady"]:
        print("  fails without strict already: %s: %s" % (title, why))
    for title, status, why in result["broken"]:
        print("  broken: %s: status %d: %s" % (title, status, why))
    return 0


if __name__ == "__main__":
    sys.exit(main())
