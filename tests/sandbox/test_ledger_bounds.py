# SPDX-License-Identifier: Apache-2.0
"""What a flood of refused calls can do to the ledger: nothing but wait.  Counts, memory, pace, and what is never done."""
import errno
import os
import select
import sys
import types

import pytest

import mrunc  # noqa: F401  registers the package
from mrunc.sandbox.seccomp import policy, shipped
from mrunc.sandbox.errors import SandboxError
from mrunc.sandbox.observe import hearing, ledger as module, listener as notify
from mrunc.sandbox.seccomp.arms import Answers
from mrunc.sandbox.decode.call import decode
from mrunc.sandbox.observe.ledger import BURST, CAP, CERTAINLY, Ledger, PACE, SHARE
from mrunc.sandbox.observe.origin import Origins
from test_ledger import brief, control
from test_ledger_hostile import CALLS, NOTHING, total

NATIVE = os.uname().machine
TABLE = policy.numbers(NATIVE)
NR = TABLE.NR


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


class Calls:
    """A listener whose queue is a list.  calls: iterator of (number, arguments) or None for one that is gone; each takes
    `cost` seconds.  valid: whether the caller still waits."""

    def __init__(self, clock, calls, cost=0.0):
        self.clock, self.calls, self.cost, self.ident = clock, iter(calls), cost, 0
        self.answers, self.is_valid, self.arrives, self.thread = [], True, True, os.getpid()
        self.arch = TABLE.AUDIT_ARCH
        self.fd, self.other = os.pipe()
        os.write(self.other, b"x")  # something is always there

    def receive(self):
        self.clock.now += self.cost
        call = next(self.calls)
        if call is None:
            return None
        self.ident += 1
        return self.ident, self.thread, call[0], self.arch, call[1]

    def valid(self, ident):
        return self.is_valid

    def refuse(self, ident, number):
        self.answers.append(number)
        return self.arrives

    def close(self):
        os.close(self.fd)
        os.close(self.other)


class Listening:
    audit_arch = TABLE.AUDIT_ARCH


@pytest.fixture
def made(monkeypatch):
    """made(calls, cost, **settings) -> Ledger on a made-up clock."""
    clock, calls_made = Clock(), []
    monkeypatch.setattr(module, "time", clock)

    def make(calls, cost=0.0, told=decode, read=None, **settings):
        calls = Calls(clock, calls, cost)
        calls_made.append(calls)
        answers = Answers([shipped.program("default", NATIVE)], TABLE.AUDIT_ARCH)
        out = Ledger(calls, Listening(), answers, clock.now, told, read or nothing_there, **settings)
        out.clock = clock
        return out
    yield make
    for calls in calls_made:
        calls.close()


def nothing_there(thread, address, size):
    raise OSError(errno.EFAULT, "")


def feed(ledger, turns):
    """So many turns of the supervision, in each of which one call waits."""
    for _ in range(turns):
        ledger.clock.now += 2 * module.SOON
        if ledger.listener.fd in ledger.wanted():
            ledger.serve({ledger.listener.fd: select.POLLIN})


def several(name, count, *start):
    """Calls whose last argument differs."""
    for at in range(count):
        yield NR[name], (tuple(start) + (at,)).__add__((0,) * 6)[:6]


# Counting and capping

def test_a_call_counts_when_its_answer_has_arrived_and_is_told_as_interrupted_where_it_has_not(made):
    ledger = made([(NR["unshare"], (0x20000, 0, 0, 0, 0, 0))] * 5)
    feed(ledger, 2)
    ledger.listener.arrives = False
    feed(ledger, 3)
    assert ledger.listener.answers == [errno.EPERM] * 5
    assert [(row["syscall"], row["count"], row["interrupted"]) for row in ledger.rows()] == [("unshare", 2, 3)]


def test_a_call_that_is_gone_is_not_answered(made):
    ledger = made([None, (NR["unshare"], (0x20000, 0, 0, 0, 0, 0)), None])
    feed(ledger, 3)
    assert ledger.listener.answers == [errno.EPERM] and ledger.gone == 2


def test_what_was_read_of_a_caller_that_is_gone_is_not_told(made):
    ledger = made([(NR["chroot"], (4096, 0, 0, 0, 0, 0))], read=lambda thread, address, size: b"/secret\0")
    ledger.listener.is_valid = ledger.listener.arrives = False
    feed(ledger, 1)
    assert [(row["args"], row["pid"], row["exe"], row["interrupted"]) for row in ledger.rows()] == [
        ({"path": {"unreadable": "ESRCH"}}, 0, None, 1)]


def test_what_was_read_while_the_caller_went_away_is_not_told(made):
    """By then it may be another process's memory, and another one's path."""
    def read(thread, address, size):
        ledger.listener.is_valid = ledger.listener.arrives = False
        return b"/secret\0"
    ledger = made([(NR["chroot"], (4096, 0, 0, 0, 0, 0))], read=read)
    feed(ledger, 1)
    assert [(row["args"], row["pid"], row["exe"]) for row in ledger.rows()] == [
        ({"path": {"unreadable": "ESRCH"}}, 0, None)]


def test_a_caller_that_went_away_has_no_name(made, monkeypatch):
    ledger = made([(NR["unshare"], (0x20000, 0, 0, 0, 0, 0))])

    def of(thread):
        ledger.listener.is_valid = False
        return 7, "/bin/another"
    monkeypatch.setattr(ledger.origins, "of", of)
    feed(ledger, 1)
    assert [(row["pid"], row["exe"]) for row in ledger.rows()] == [(0, None)]


def test_a_call_of_another_architecture_does_not_exist(made):
    """Its number means another call there: no rule of the policy is for it."""
    calls = [(NR[name], (0x20000, 0, 0, 0, 0, 0)) for name in ("unshare", "getpid")]
    ledger = made(calls)
    ledger.listener.arch = TABLE.AUDIT_ARCH ^ 0x80000000
    feed(ledger, len(calls))
    assert ledger.listener.answers == [errno.ENOSYS] * len(calls)
    assert {row["errno"] for row in ledger.rows()} == {"ENOSYS"}


def test_one_call_takes_its_share_of_the_ledger_and_hides_no_other(made):
    floods = ("ptrace", "setns", "keyctl", "kcmp", "pidfd_getfd", "fsmount", "reboot", "process_mrelease", "quotactl_fd")
    flood = [call for name in floods for call in several(name, CAP, 7)]
    ledger = made(flood + list(several("add_key", 1)), burst=1 << 30)
    feed(ledger, len(flood) + 1)
    rows = ledger.rows()
    assert sum(row["count"] for row in rows) == len(flood) + 1
    described = [row for row in rows if row["args"]]
    assert max(sum(row["syscall"] == name for row in described) for name in NR) == CAP // SHARE
    assert len(described) <= CAP + 3 * CERTAINLY and "add_key" in {row["syscall"] for row in described}
    beyond = {row["syscall"]: row["count"] for row in rows if row["pid"] == 0}
    assert beyond["ptrace"] == CAP - CAP // SHARE and set(beyond) == set(floods)
    assert 0 not in ledger.listener.answers


def test_numbers_that_no_call_has_are_together_like_one(made):
    ledger = made([(1 << 20 | at, (0,) * 6) for at in range(3 * CAP)], burst=1 << 30)
    feed(ledger, 3 * CAP)
    rows = ledger.rows()
    assert len(rows) == CAP // SHARE + 1
    assert (rows[-1]["syscall"], rows[-1]["count"]) == ("other numbers", 3 * CAP - CAP // SHARE)
    assert set(ledger.listener.answers) == {errno.ENOSYS}


def test_long_texts_fill_the_share_of_a_call_sooner(made):
    """4096 bytes that are no text are 16384 characters."""
    ledger = made([(NR["move_mount"], (3, 4096 * (at + 1), 4, 4096, 0, 0)) for at in range(CAP)],
                  read=lambda thread, address, size: (b"%d" % address).rjust(size, b"\xff"), burst=1 << 30)
    feed(ledger, CAP)
    rows = ledger.rows()
    assert sum(row["count"] for row in rows) == CAP
    assert sum(len(repr(row["args"])) for row in rows) <= 2 * module.WEIGHT * CAP // SHARE


def test_every_store_of_the_ledger_is_bounded(made):
    """Calls that differ in everything: as many again change nothing."""
    def every(start):
        for at in range(start, start + 4 * CAP):
            for number in (NR["unshare"], NR["mount"], 1 << 20 | at):
                yield number, (at, at << 16, at, at, at, at)
    ledger = made(list(every(0)) + list(every(1 << 20)), burst=1 << 30)
    sizes = []
    for _ in range(2):
        feed(ledger, 12 * CAP)
        sizes.append({name: len(value) for name, value in vars(ledger).items() if isinstance(value, (dict, list))})
    assert ledger.listener.ident == 24 * CAP
    assert len(ledger.answers.constant) + len(ledger.answers.known) <= 2 * Answers.MOST
    assert all(sizes[1][name] <= max(sizes[0][name], 4 * CAP) for name in sizes[1])
    assert sys.getsizeof(ledger.records) + sys.getsizeof(ledger.seen) < 1 << 21


def test_what_lies_in_other_registers_fills_nothing(made):
    """Registers that a call does not take tell its calls apart, and are told of none."""
    cap, count = 64, 1000
    ledger = made([(NR["unshare"], (0x20000, at, at, at, at, at)) for at in range(count)],
                  cap=cap, burst=1 << 30)
    feed(ledger, count)
    assert [row["count"] for row in ledger.rows()] == [count] and len(ledger.seen) <= 4 * cap


def test_a_caller_is_looked_up_less_often_than_what_it_points_to(made, monkeypatch):
    """A text may change with each call, a program only by an exec."""
    texts, looked = iter(range(1 << 20)), []
    ledger = made([(NR["chroot"], (1 << 20, 0, 0, 0, 0, 0))] * 1000,
                  read=lambda thread, address, size: b"/%d\0" % (next(texts) // 250))
    monkeypatch.setattr(ledger.origins, "of", lambda thread: looked.append(thread) or (7, "/bin/sh"))
    feed(ledger, 1000)
    assert [(row["args"]["path"], row["count"], row["pid"], row["exe"]) for row in ledger.rows()] == [
        ("/%d" % at, 250, 7, "/bin/sh") for at in range(4)]
    assert 4 * module.CERTAIN <= len(looked) < 600


# Pace

def test_a_flood_is_answered_at_full_speed_for_a_burst_and_at_the_pace_from_then_on(made):
    ledger = made(((NR["unshare"], (0x20000, 0, 0, 0, 0, 0)) for _ in iter(int, 1)), cost=1e-5)
    begun = ledger.clock.now
    while ledger.clock.now < begun + 30:
        wait = ledger.wait()
        if wait is None:
            assert ledger.listener.fd in ledger.wanted()
            ledger.serve({ledger.listener.fd: select.POLLIN})
        else:
            assert ledger.wanted() == {}, "the poll waits for time alone"
            ledger.clock.now += wait + 1e-6
            ledger.serve({})
    spent = ledger.clock.now - begun
    assert BURST <= len(ledger.listener.answers) <= BURST + PACE * spent + module.BATCH


def test_one_turn_of_the_supervision_answers_no_longer_than_a_slice(made):
    """So that deadlines are met while calls are waiting."""
    ledger = made(((NR["unshare"], (0x20000, 0, 0, 0, 0, 0)) for _ in iter(int, 1)), cost=1e-5)
    ledger.last_call = ledger.clock.now
    ledger.serve({ledger.listener.fd: select.POLLIN})
    assert 1 < len(ledger.listener.answers) <= module.SLICE / 1e-5 + 2


# Never

@pytest.mark.parametrize("event", [select.POLLHUP, select.POLLERR, select.POLLNVAL])
def test_nothing_is_received_when_nobody_is_left(made, event):
    """On Linux 5.10 that would block for ever."""
    ledger = made([])  # receiving would be a StopIteration
    ledger.serve({ledger.listener.fd: event})
    assert ledger.over and ledger.wanted() == {} and ledger.listener.answers == []


def test_nobody_is_left_in_the_middle_of_a_turn(made):
    ledger = made([(NR["unshare"], (0x20000, 0, 0, 0, 0, 0))])
    ledger.last_call = ledger.clock.now
    os.read(ledger.listener.fd, 1)
    os.close(ledger.listener.other)
    ledger.listener.other = os.open("/dev/null", os.O_RDONLY)
    ledger.serve({ledger.listener.fd: select.POLLIN})
    assert ledger.over and len(ledger.listener.answers) == 1


def test_a_decoder_that_fails_changes_no_answer(made):
    def broken(*words):
        raise ZeroDivisionError
    ledger = made(several("ptrace", 2), told=broken)
    feed(ledger, 2)
    assert ledger.listener.answers == [errno.EPERM] * 2
    assert [(row["syscall"], row["args"]) for row in ledger.rows()] == [("ptrace", {"arguments": {"unreadable": "ZeroDivisionError"}})]


def test_a_call_that_the_policy_would_allow_is_refused_all_the_same(made):
    """The filter asks about none of these; were it wrong, no permission would come of it."""
    ledger = made([(NR["getpid"], (0,) * 6)])
    feed(ledger, 1)
    assert ledger.listener.answers == [errno.EPERM]


def test_only_numbers_that_were_named_may_be_continued_and_errnos_alone_are_answers():
    reading, writing = os.pipe()
    try:
        listener = notify.Listener(reading, True, continued=[NR["execve"]])
        for number in (NR["mount"], NR["ptrace"], -1, 1 << 20):
            with pytest.raises(ValueError):
                listener.go_on(1, number)
        for number in (0, -1, 4096):
            with pytest.raises(ValueError):
                listener.refuse(1, number)
        assert not listener.is_one() and not listener.synchronous
    finally:
        os.close(reading)
        os.close(writing)


def test_before_the_gate_only_inits_own_exec_is_let_through():
    """Whose call it is, which, and of what architecture."""
    child, execveat, arch = 77, NR["execveat"], TABLE.AUDIT_ARCH
    for call, right in (((1, child, execveat, arch), True), ((1, child + 1, execveat, arch), False),
                        ((1, child, NR["execve"], arch), False),
                        ((1, child, execveat, arch ^ 0x80000000), False)):
        went, heard = [], hearing.Hearing.__new__(hearing.Hearing)
        heard.awaited, heard.listening = 5, Listening()
        heard.listener = types.SimpleNamespace(
            receive=lambda call=call: call + ((0,) * 6,),
            go_on=lambda *words: went.append(words) or True)
        if right:
            heard.admit(select.POLLIN, child)
            assert went == [(1, execveat)] and heard.awaited == -1
        else:
            with pytest.raises(SandboxError):
                heard.admit(select.POLLIN, child)
            assert went == [] and heard.awaited == 5


# Pids

def test_a_pid_that_is_given_out_again_is_another_process(monkeypatch):
    from mrunc.sandbox.observe import origin
    state = {"start": b"100", "pid": 7}
    monkeypatch.setattr(origin, "_start_time", lambda thread: state["start"])
    monkeypatch.setattr(origin, "_process", lambda thread: state["pid"])
    origins = Origins()
    assert [origins.of(4711)[0], origins.of(4711)[0]] == [7, 7]
    state.update(start=b"100", pid=9)
    assert origins.of(4711)[0] == 7, "the same process, which was looked at already"
    state.update(start=b"101")
    assert origins.of(4711)[0] == 9
    state.update(start=b"", pid=0)
    assert origins.of(4711) == (0, None)


def test_threads_beyond_number_are_forgotten(monkeypatch):
    from mrunc.sandbox.observe import origin
    monkeypatch.setattr(origin, "_start_time", lambda thread: b"1")
    monkeypatch.setattr(origin, "_process", lambda thread: thread)
    origins = Origins()
    for thread in range(1 << 22, (1 << 22) + 3 * origin.MOST):
        assert origins.of(thread) == (thread, None)
    assert len(origins.threads) <= origin.MOST


# On the kernel

@pytest.mark.parametrize("threads", [1, 4])
def test_a_real_flood_is_counted_exactly_and_the_result_says_what_it_does_not_describe(inside, threads):
    """More distinct calls than the ledger holds, more calls than are answered at full speed."""
    each = (BURST + 2000) // threads
    done = inside.python(CALLS + """
got, each, count = [], %d, %d
def work(base):
    mine = set()
    for at in range(each): mine.add(refused("ptrace", 16, base + at, None, None))
    got.append(mine)
threads = [threading.Thread(target=work, args=(each * at,)) for at in range(count)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sorted(set().union(*got)), refused("unshare", 0x10000000))
""" % (each, threads), options=NOTHING)
    assert done.out == "['EPERM'] EPERM\n", done
    rows = done.result["refused"]
    assert total(rows, "ptrace") == each * threads
    assert ("unshare", "EPERM", 1) in brief(rows)
    assert sum(row["syscall"] == "ptrace" for row in rows) == CAP // SHARE + 1
    assert any("the ledger was full: %d calls of ptrace" % rows[-1]["count"] in note for note in done.result["notes"])
    assert control(done)["in_force"]
