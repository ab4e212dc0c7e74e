# SPDX-License-Identifier: Apache-2.0
"""The ledger: refused system calls as evidence, aggregated and bounded.

Nothing that is read from a program decides anything.  Between receiving a call and answering it
there is no disk, no pipe and no JSON.  A call is counted when its answer has arrived; if the caller
has gone before, it counts as interrupted.

A flood of calls is bounded.  Records are capped, with a share for each system call, so that one
can't hide the others.  Beyond the cap only numbers are counted, and they are exact.  A token bucket
bounds the supervisor's processor time, which lies outside the sandbox's limits: the program waits.
"""
import errno
import select
import time

from ...syscalls.libc import ARCH
from ...syscalls.numbers import native
from ...syscalls.widths import WIDTHS
from ..seccomp.arms import ACTION, ERRNO, PASSES
from .origin import Origins

NR = native().NR
#: Most records.  A system call may have CAP / SHARE of them, and always has CERTAINLY.
CAP = 2048
SHARE = 8
CERTAINLY = 8
#: A record counts once more for each so many characters of its arguments.
WEIGHT = 1024
#: Calls that are answered at full speed; then calls a second; and calls of one batch.
BURST, PACE, BATCH = 20000, 2000, 40
#: Seconds after which the loop gets its turn, though calls are waiting.
SLICE = 0.002
#: Seconds.  After a call that came so soon after another, the next is awaited without the loop.
SOON = 0.001
#: Milliseconds of that wait: longer than the scheduler's tick, 4 ms on most kernels.  A timer that
#: is due before the tick is armed in hardware, which costs a virtual machine more than all else.
PATIENCE = 5
#: A line is written for a record's first call, and when its count has grown so many times since:
#: a bound on the file's size.
AGAIN = 10
#: Repeats of a call whose origin is looked up each time; then at most each EVERY seconds.
CERTAIN, EVERY = 64, 0.01


class Record:
    """One row of the ledger.

    syscall, args, errno, count, pid, exe, interrupted: as in result/schema.py.
    first, last: monotonic times.
    pointers: whether an argument may be an address.
    looked: monotonic time of the last look at the caller; due: the count of the next one.
    told: (count, interrupted) of its last line, or None.
    rest: whether it stands for all calls beyond the cap.
    """

    __slots__ = ("syscall", "args", "errno", "count", "pid", "exe", "first", "last", "interrupted",
                 "pointers", "looked", "due", "told", "rest")

    def __init__(self, syscall, args, answer, pid, exe, now):
        self.syscall, self.args, self.errno, self.pid, self.exe = syscall, args, answer, pid, exe
        self.count, self.interrupted, self.told = 0, 0, None
        self.first = self.last = self.looked = now
        self.due, self.pointers, self.rest = 1, False, False

    def as_dict(self, begun):
        """Returns the row of a Result.  begun: monotonic time of its `started`."""
        return {"syscall": self.syscall, "args": self.args, "errno": self.errno,
                "count": self.count, "pid": self.pid, "exe": self.exe,
                "first_s": round(self.first - begun, 6), "last_s": round(self.last - begun, 6),
                "interrupted": self.interrupted}


class Ledger:
    """Answers the calls that ask, and counts them: a member of the supervision.

    killed: the Record of the call that kills, or None.
    gone: how many calls were taken back before they could be received.
    over: whether no process is left under the filter.
    seen: {(thread, number) + arguments: (Record, errno or 0)}; records: {what makes one: Record}.
    rest: {number or None: Record} beyond the cap.
    used, full: the weight of the records, by number and in all.
    tokens, marked: of the bucket, and when they were counted; resume: when calls are taken again.
    fresh: records with a line to be written.
    trace: trace.Trace, to which allowed calls go, or None.
    """

    def __init__(self, listener, listening, answers, begun, decode, read, stream=None, cap=CAP,
                 burst=BURST, pace=PACE):
        """listener: listener.Listener.

        listening: plan.listening.Listening.
        answers: arms.Answers of its programs.
        begun: monotonic time of the Result's `started`.
        decode: call.decode; read: peek.Peek.read.
        stream: ledger_stream.Stream or None.
        cap, burst, pace: as CAP, BURST, PACE.
        """
        self.listener, self.listening, self.answers = listener, listening, answers
        self.begun = begun
        self.decode, self.read, self.stream = decode, read, stream
        self.cap, self.share, self.burst, self.pace = cap, max(1, cap // SHARE), burst, pace
        self.origins = Origins()
        self.seen, self.records, self.used, self.full, self.rest = {}, {}, {}, 0, {}
        self.killed, self.gone, self.over = None, 0, False
        self.tokens, self.marked, self.resume = float(burst), time.monotonic(), None
        self.last_call, self.fresh = 0.0, []
        self.names = dict((value, name) for name, value in NR.items())
        self.trace = None
        self.poll = select.poll()
        self.poll.register(listener.fd, select.POLLIN)

    # -- as a member -----------------------------------------------------------------------------

    def wanted(self):
        """Returns {fd: poll events}."""
        wanted = {} if self.stream is None else self.stream.wanted()
        if not self.over and self.killed is None and self.resume is None:
            wanted[self.listener.fd] = select.POLLIN
        if self.trace is not None:
            wanted.update(self.trace.wanted())
        return wanted

    def wait(self):
        """Returns the seconds until calls are taken again or the trace must look, or None."""
        due = [at for at in (self.resume, self.trace and self.trace.due()) if at is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def serve(self, events):
        """Answers waiting calls, for SLICE seconds at most."""
        now = time.monotonic()
        if self.resume is not None and now >= self.resume:
            self.resume = None
        event = events.get(self.listener.fd, 0)
        if event & select.POLLIN:
            self._answer_all(now)
        elif event & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
            self.over = True  # another RECV would block for ever on old kernels
        if self.fresh:
            self._tell()
        if self.trace is not None:
            self.trace.serve(events)
        if self.stream is not None:
            self.stream.serve(events)

    def close(self):
        """Writes the last counts.  The listener itself is closed when the sandbox has ended."""
        if self.trace is not None:
            self.trace.close()
        if self.stream is not None:
            self.fresh = [record for record in self._all()
                          if record.told != (record.count, record.interrupted)]
            self._tell()
            self.stream.close()

    def rows(self):
        """Returns the rows of a Result, in the order of the first call.

        What lay beyond the cap comes last: a row for each system call, with pid 0 and no arguments.
        """
        return [record.as_dict(self.begun) for record in self._all()]

    def _all(self):
        return sorted(self.records.values(), key=lambda record: record.first) + \
            sorted(self.rest.values(), key=lambda record: record.first)

    # -- calls -----------------------------------------------------------------------------------

    def _answer_all(self, now):
        ends = now + SLICE
        while True:
            busy = now - self.last_call < SOON
            self._answer()
            if self.killed is not None:
                return
            now = self.last_call = time.monotonic()
            if self.tokens < 1 and not self._refill(now) or now >= ends or not busy:
                return
            ready = self.poll.poll(PATIENCE)
            if not ready:
                return
            if not ready[0][1] & select.POLLIN:
                self.over = True
                return

    def _refill(self, now):
        """Returns whether there is a token.  If not, no call is taken until there is a batch."""
        self.tokens = min(self.burst, self.tokens + (now - self.marked) * self.pace)
        self.marked = now
        if self.tokens >= 1:
            return True
        self.resume = now + min(BATCH, self.burst) / self.pace
        return False

    def _answer(self):
        self.tokens -= 1
        call = self.listener.receive()
        if call is None:
            self.gone += 1
            return
        ident, thread, number, arch, arguments = call
        now = time.monotonic()
        if self.trace is not None and number in self.listening.trace and \
                arch == self.listening.audit_arch and \
                self.answers.of(number, arguments) & ACTION in PASSES:
            self.trace.heard(ident, thread, number, arguments, now)
            return
        raw = (thread, number) + arguments
        known = self.seen.get(raw)
        if known is None or known[0].count >= known[0].due or self._is_stale(known[0], now):
            known = self._look(call, raw, now, known and known[0])
        record, answer = known
        record.last = now
        if not answer:  # it kills: the caller stays blocked until the sandbox is killed
            record.count += 1
            self.killed = record
            self._due(record)
            return
        if self.listener.refuse(ident, answer):
            record.count += 1
            if record.told is None or record.count >= AGAIN * record.told[0]:
                self._due(record)
        else:
            record.interrupted += 1
            if record.told is None:
                self._due(record)

    def _due(self, record):
        """Has one line written for a record, when the calls of this turn are answered."""
        record.told = record.count, record.interrupted
        self.fresh.append(record)

    def _is_stale(self, record, now):
        """Whether the same numbers may come from another program, or point to another text."""
        return record.pointers and self.tokens > self.burst / 2 or self._is_stranger(record, now)

    @staticmethod
    def _is_stranger(record, now):
        return record.count < CERTAIN or now - record.looked > EVERY

    def _look(self, call, raw, now, before):
        """Returns (Record, errno, or 0 for a call that kills).

        call: as of Listener.receive; before: the record of the last one with these numbers.
        """
        ident, thread, number, arch, arguments = call
        if arch != self.listening.audit_arch:
            value = ERRNO | errno.ENOSYS
        else:
            value = self.answers.of(number, arguments)
        # The filter asks about nothing that it would allow: a mistake must not become a permission.
        answer = value & 0xffff if value & ACTION == ERRNO and value & 0xffff else errno.EPERM
        if value & ACTION in (0x80000000, 0):
            answer = 0
        shown = errno.errorcode.get(answer, str(answer)) if answer else "SIGKILL"
        kind = number if number in self.names else None  # there are 2^32 numbers without a call
        used = self.used.get(kind, 0)
        if used >= self.share or self.full >= self.cap and used >= CERTAINLY:
            known = self.seen.get(raw)  # nothing new is decoded
            if known is not None and not known[0].pointers:
                known[0].looked = now
                return known
            return self._beyond(kind, shown, now), answer
        name, args = self._decode(ident, thread, number, arguments)
        fresh = before is None or self._is_stranger(before, now)
        pid, exe = self.origins.of(thread) if fresh else (before.pid, before.exe)
        if not self.listener.valid(ident):  # the pid may be another process's by now
            pid, exe = 0, None
        text = repr(args)
        key = pid, exe, number, answer, hash(text)  # keyed hash: no program can make two clash
        record = self.records.get(key)
        if record is None:
            record = self.records[key] = Record(name, args, shown, pid, exe, now)
            record.pointers = _may_point(name, arguments)
            weight = 1 + len(text) // WEIGHT
            self.used[kind] = used + weight
            self.full += weight
        if fresh:
            record.looked = now
        record.due = max(CERTAIN, 2 * record.count)
        if len(self.seen) >= 4 * self.cap:
            self.seen.clear()
        self.seen[raw] = known = record, answer
        return known

    def _beyond(self, kind, shown, now):
        record = self.rest.get(kind)
        if record is None:
            name = self.names.get(kind, "other numbers")
            record = self.rest[kind] = Record(name, {}, shown, 0, None, now)
            record.rest = True
        record.errno = shown
        return record

    def _decode(self, ident, thread, number, arguments):
        def peek(address, size):
            if not self.listener.valid(ident):
                raise OSError(errno.ESRCH, "gone")
            data = self.read(thread, address, size)
            if not self.listener.valid(ident):
                raise OSError(errno.ESRCH, "gone")
            return data
        try:
            return self.decode(ARCH, number, arguments, peek)
        except Exception as error:  # a decoder's mistake: the call is refused all the same
            name = self.names.get(number, "syscall_%d" % number)
            return name, {"arguments": {"unreadable": type(error).__name__}}

    # -- lines -----------------------------------------------------------------------------------

    def _tell(self):
        records, self.fresh = self.fresh, []
        for record in records:
            record.told = record.count, record.interrupted
        if self.stream is not None:
            for record in records:
                self.stream.add("capped" if record.rest else "refused", record.as_dict(self.begun))


def _may_point(name, arguments):
    """Whether a register that the kernel uses for this call could be an address."""
    widths = WIDTHS.get(name, "??????")
    return any(value > 65535 and width in "w?" for value, width in zip(arguments, widths))
