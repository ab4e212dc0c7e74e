# SPDX-License-Identifier: Apache-2.0
"""Who is killed when memory runs out: what is inside, and neither mrunc nor the host's own programs."""
import subprocess

import pytest

from conftest import become

LOWERS = """
import os
def tries(path):
    with open(path) as stream:
        score = stream.read().strip()
    try:
        with open(path, "w") as stream:
            stream.write("%d" % (int(score) - 1))
        return score, "lowered"
    except OSError as error:
        return score, error.errno
print(*tries("/proc/self/oom_score_adj"), flush=True)
if os.fork() == 0:
    print(*tries("/proc/self/oom_score_adj"), flush=True)
    os._exit(0)
os.wait()
"""


@pytest.mark.also_vm
@pytest.mark.parametrize("options", [[], ["--proc", "full"], ["-q", "--unsafe-without", "seccomp,landlock,landlock-signals"]],
                         ids=["default", "full proc", "one layer"])
def test_program_can_not_lower_its_score(inside, options):
    """Outside, what was raised can be lowered to what the caller has."""
    outside = inside.outside(["/usr/bin/python3", "-c", "open('/proc/self/oom_score_adj', 'w').write('1000')\n" + LOWERS])
    assert outside.stdout == "1000 lowered\n999 lowered\n", outside
    done = inside.python(LOWERS, options=options)
    assert done.out in ("1000 13\n1000 13\n", "1000 30\n1000 30\n"), done
    row = [row for row in done.result["controls"] if row["name"] == "limits.oom"][0]
    assert (row["asked"], row["in_force"], row["how"]) == (True, True, "oom_score_adj 1000")


def test_supervisor_keeps_its_own_score(inside):
    command = inside.command("/bin/sh", "-c", "echo up; read line")
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=become(inside.who),
                               cwd=inside.scratch)
    assert process.stdout.readline() == b"up\n"
    with open("/proc/%d/oom_score_adj" % process.pid) as theirs, open("/proc/self/oom_score_adj") as ours:
        assert theirs.read() == ours.read()
    process.communicate(b"\n", timeout=60)
    assert process.returncode == 1 or process.returncode == 0


#: Many processes that are each smaller than mrunc or pytest, which go by size otherwise.
FILL = """
import os, signal
for number in range(300):
    if os.fork() == 0:
        held = b"x" * (6 << 20)
        signal.pause()
print("full", flush=True)
pid, status = os.wait()
print("killed", status)
for pid in os.listdir("/proc"):
    if pid.isdigit() and int(pid) not in (1, os.getpid()): os.kill(int(pid), 9)
"""


@pytest.mark.vm
@pytest.mark.whoever
def test_program_that_takes_all_memory_dies_and_not_mrunc(inside):
    with open("/proc/meminfo") as stream:
        assert int(stream.readline().split()[1]) < 1600 << 10, "the program must have more than there is"
    done = inside.run("/usr/bin/python3", "-I", "-S", "-c", FILL)
    assert done.rc == 137 or (done.rc, done.out.splitlines()[-1]) == (0, "killed 9"), done
    assert done.result["usage"]["wall_s"] > 0
