# SPDX-License-Identifier: Apache-2.0
"""The ledger's file: there while the program runs, whoever reads it, and never in the program's way."""
import fcntl
import json
import os
import select
import subprocess

import mrunc  # noqa: F401  registers the package
from conftest import become
from mrunc.sandbox.observe.ledger_stream import BACKLOG, Stream
from outer_filter import EPERM, behind
from test_ledger_hostile import CALLS

PROGRAM = ("/usr/bin/python3", "-I", "-S", "-c")


def fifo(inside):
    """(path, descriptor to read from, which is there before anybody writes)"""
    path = os.path.join(inside.scratch, "fifo")
    os.mkfifo(path)
    os.chmod(path, 0o666)
    return path, os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def lines_of(fd, until=lambda text: False):
    """What comes out of a descriptor to its end, or until `until(text so far)`."""
    poll, text = select.poll(), b""
    poll.register(fd, select.POLLIN)
    while not until(text):
        assert poll.poll(120000), text
        part = os.read(fd, 65536)
        if not part:
            break
        text += part
    return text.decode()


def test_a_refused_call_can_be_read_while_the_program_runs(inside):
    path, reading = fifo(inside)
    code = CALLS + "refused('unshare', 0x10000000)\nsys.stdin.readline()\nrefused('chroot', b'/')\n"
    with subprocess.Popen(inside.command(*PROGRAM, code, options=["--ledger", path]), stdin=subprocess.PIPE, cwd=inside.scratch,
                          preexec_fn=become(inside.who)) as process:
        first = lines_of(reading, until=lambda text: text.endswith(b"\n"))
        assert json.loads(first)["syscall"] == "unshare" and process.poll() is None
        process.stdin.write(b"\n")
        process.stdin.close()
        rest = lines_of(reading)
    os.close(reading)
    assert [json.loads(line)["syscall"] for line in rest.splitlines()] == ["chroot"] and process.returncode == 0


def test_a_reader_that_takes_nothing_holds_nobody_up_and_gets_whole_lines(inside):
    path, reading = fifo(inside)
    code = CALLS + "print({refused('chroot', b'%04000d' % at) for at in range(40)})"
    done = inside.outside(inside.command(*PROGRAM, code, options=["--ledger", path]))
    text = lines_of(reading)
    os.close(reading)
    assert (done.returncode, done.stdout) == (0, "{'EPERM'}\n"), done
    whole = text.splitlines(True)
    if not whole[-1].endswith("\n"):
        whole.pop()  # it is cut where the pipe was full: by pages, which may be between two lines as well
    assert 1 << 15 < len(text) <= 1 << 16 and len(whole) < 40
    assert [json.loads(line)["args"]["path"] for line in whole] == ["%04000d" % at for at in range(len(whole))]


def test_minus_is_standard_error(inside):
    done = inside.outside(inside.command(*PROGRAM, CALLS + "refused('unshare', 0x10000000)", options=["--ledger", "-"]))
    line, = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert (line["event"], line["syscall"], line["count"], done.returncode) == ("refused", "unshare", 1, 0)


def test_a_run_that_fails_before_the_program_leaves_no_file_and_keeps_the_old_one(inside):
    old = os.path.join(inside.scratch, "old.jsonl")
    with open(old, "w") as stream:
        stream.write("kept\n")
    os.chmod(old, 0o666)
    for path in (old, os.path.join(inside.scratch, "new.jsonl")):
        done = inside.outside(behind(inside, ("pivot_root", EPERM)) + inside.command("/bin/echo", "ran", options=["--ledger", path]))
        assert (done.returncode, done.stdout) == (125, ""), done
    assert [name for name in sorted(os.listdir(inside.scratch)) if "jsonl" in name] == ["old.jsonl"]
    with open(old) as stream:
        assert stream.read() == "kept\n"


def test_a_file_that_can_not_be_written_is_told_and_hinders_no_refusal(inside):
    done = inside.run(*PROGRAM, CALLS + "print(refused('unshare', 0x10000000))", options=["--ledger", "/dev/full"])
    assert done.out == "EPERM\n" and "/dev/full" in done.err and "No space left" in done.err, done
    assert [row["syscall"] for row in done.result["refused"]] == ["unshare"]


def test_what_nobody_takes_is_dropped_beyond_the_backlog_and_the_last_line_says_so():
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETFL, os.O_NONBLOCK)
    stream, added = Stream(writing), 0
    while not stream.dropped:
        stream.add("refused", {"at": added, "text": "x" * 100000})
        stream.serve()
        added += 1
    assert stream.size <= BACKLOG
    stream.add("refused", {"at": added, "text": "x" * 100000})
    with open(reading, "rb") as pipe:
        os.set_blocking(reading, False)
        text = b""
        while stream.pending:
            text += pipe.read() or b""
            stream.serve()
        stream.close()
        os.close(writing)
        text += pipe.read() or b""
    rows = [json.loads(line) for line in text.decode().splitlines()]
    assert rows.pop() == {"schema": 1, "event": "capped", "dropped_lines": 2}
    assert [row["at"] for row in rows] == list(range(added - 1))
