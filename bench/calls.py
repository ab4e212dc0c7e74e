# SPDX-License-Identifier: Apache-2.0
"""The system calls of a sandbox's set-up, from the reading of the host to the opened gate, held against bench/calls.json.

    python3 bench/calls.py [--json FILE]

A plain run of /bin/true is traced (strace -f) with every module loaded beforehand, so that what is counted is the sandbox's
own work: `plan` and `supervisor` in the parent, `child` from clone3 to the exec of init, `init` from there to the gate.  Each
row of the table says why the call is made and how many there may be: a number, and so many for each mount, directory, ... of
the plan.  Exit status 1: a call that no row names, or more of them than a row allows.
"""
import collections
import json
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import measure  # noqa: E402

TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "calls.json")
#: What the interpreter's own memory costs, and the time that a signal takes: nobody can count on it.
MEMORY = {"brk", "mmap", "munmap", "mremap", "madvise", "restart_syscall"}
PROCESSES = ("plan", "supervisor", "child", "init")
MARK = "/mrunc-calls/"


def traced():
    """What strace follows: a run from its plan to its end, with marks between the phases."""
    from mrunc.sandbox.seccomp import shipped, shipped_bytes  # noqa: F401
    from mrunc.sandbox import version  # noqa: F401
    from mrunc.sandbox.tree import sockets  # noqa: F401
    from mrunc.sandbox.launch import gate  # noqa: F401
    from mrunc.sandbox.running import loop, supervise  # noqa: F401
    from mrunc.commands.run import plan_text  # noqa: F401
    from mrunc.sandbox.result import result, verdict  # noqa: F401
    from mrunc.sandbox.launch import run as launch
    from mrunc.sandbox.plan import spec
    import fcntl  # noqa: F401
    request = spec.Spec(["/bin/true"])
    os.access(MARK + "plan", 0)
    plan = launch.prepare(request)
    os.access(MARK + "supervisor", 0)
    run = launch.Run(plan)
    run.start()
    run.wait_until_ready()
    run.read_back()
    run.release()
    os.access(MARK + "end", 0)
    ended = run.conclude(supervise.until_the_end(run))
    print(json.dumps(dict(amounts(plan), returncode=ended.returncode)))


def amounts(plan):
    """{what the rows count by: how many the plan has}"""
    from mrunc.sandbox.host import facts
    kinds = collections.Counter(op.kind for op in plan.operations)
    filled = sum(1 for op in plan.operations if op.kind == "file" and op.content)
    path = [part for entry in os.environ["PATH"].split(":") for part in entry.split("/") if part]
    return {"directory": kinds["directory"], "empty file": kinds["file"] - filled, "file": filled, "link": kinds["symlink"],
            "file system": kinds["tmpfs"] + kinds["proc"] + kinds["devpts"], "bind": kinds["bind"] + kinds["device"],
            "mount": sum(op.is_mount for op in plan.operations), "rule": len(plan.landlock_rules),
            "limit": len(plan.limits), "entry of /etc": len(facts.HOST_ENTRIES) + kinds["bind"],
            "place of the host": len(facts.ROOT_NAMES) + len(facts.STORES), "component of PATH": len(path)}


def measured(python=None, prefix=()):
    """({process: {call: count}}, amounts) of a traced run.  prefix: words that start the traced Python, setpriv's say."""
    with tempfile.TemporaryDirectory(prefix="mrunc-bench-") as place:
        log = os.path.join(place, "log")
        words = [*prefix, python or measure.PYTHON, "-I", "-S", "-B", os.path.abspath(__file__), "--traced"]
        # Ids that nobody else takes the first of: each one that is taken costs a call.
        first = 2000000000 + 64 * (int.from_bytes(os.urandom(2), "little") % 1024)
        environ = dict(measure.ENVIRONMENT, MRUNC_ID_RANGE="%d:64" % first)
        done = subprocess.run(["strace", "-f", "-qq", "-e", "signal=none", "-o", log] + words, env=environ,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, universal_newlines=True, timeout=120)
        found = json.loads(done.stdout)
        if done.returncode or found.pop("returncode"):
            raise RuntimeError("the traced run failed")
        with open(log, errors="replace") as stream:
            return counted(stream), found


def counted(lines):
    """{process: {call: count}} of a trace of `traced`."""
    out = {name: collections.Counter() for name in PROCESSES}
    parent = phase = None
    children, inits = set(), set()
    for line in lines:
        match = re.match(r"(\d+) +(\w+)\(", line)
        if not match:
            continue
        pid, call = match.groups()
        if MARK in line:
            parent, phase = pid, line.split(MARK)[1].split('"')[0]
        elif phase in ("plan", "supervisor"):
            who = phase if pid == parent else "init" if pid in inits else "child"
            if who == "child" and inits and pid not in children:
                continue  # the program, which may have started before the parent's mark
            children.add(pid)
            if who == "init" and out[who]["recvmsg"]:
                continue  # it waits at the gate; what it does behind it is no set-up
            out[who][call] += 1
            if who == "child" and call == "execveat":
                inits.add(pid)
    return out


def allowed(row, sizes):
    """How many calls a row lets pass."""
    return row["count"] + sum(times * sizes[what] for what, times in row.get("each", {}).items())


def verdicts(found, sizes):
    """[sentence] on what the table does not know or does not allow."""
    with open(TABLE) as stream:
        table = {(row["process"], row["call"]): row for row in json.load(stream)["rows"]}
    wrong = []
    for process, calls in found.items():
        for call, count in sorted(calls.items()):
            if call in MEMORY:
                continue
            row = table.get((process, call))
            if row is None:
                wrong.append("%s makes %s (%d times), which no row names" % (process, call, count))
            elif count > allowed(row, sizes):
                wrong.append("%s makes %d %s, the table allows %d" % (process, count, call, allowed(row, sizes)))
    return wrong


def shown(found, sizes):
    """The table with this run's counts, as Markdown."""
    with open(TABLE) as stream:
        rows = json.load(stream)["rows"]
    yield "| process | call | made | allowed | why |"
    yield "|---|---|---|---|---|"
    for row in rows:
        yield "| %s | %s | %d | %d | %s |" % (row["process"], row["call"], found[row["process"]][row["call"]],
                                              allowed(row, sizes), row["why"])
    for process in PROCESSES:
        yield "| %s | in all | %d | | |" % (process, sum(n for call, n in found[process].items() if call not in MEMORY))


def main():
    if sys.argv[1:] == ["--traced"]:
        return traced()
    asked = measure.arguments(__doc__)
    found, sizes = measured()
    wrong = verdicts(found, sizes)
    if asked.json:
        with open(asked.json, "w") as out:
            json.dump({"bench": "calls", "calls": found, "plan": sizes, "wrong": wrong}, out, indent=1)
    print("\n".join(list(shown(found, sizes)) + [""] + wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
