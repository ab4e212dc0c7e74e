# SPDX-License-Identifier: Apache-2.0
"""The process story of --trace exec: which programs were executed, when, by whom, and how they ended.

Evidence only.  At execve and execveat it is noted what is asked for, from the caller's memory, which another thread may change
before the kernel reads it; at set_tid_address, the first call of a program that libc starts, or when the process is looked at
later, what really runs.  Every call that comes here is one that the policy allows; it always goes on, whatever was seen.

Bounded: rows, with a share for each path; text of arguments; watched processes; bytes that are hashed.  Nothing slow between a
call and its answer: files are opened before it and read after it.
"""
import os
import select
import time

from ...syscalls import process as processes
from ...syscalls.libc import ARCH
from ...syscalls.numbers import native
from . import trace_files, trace_look
from ..decode.call import Call, PATH_MAX
from ..decode.memory import Unreadable, shown

NR = native().NR
#: Rows in all; one path may have an eighth of them.  Beyond, so many paths are counted by name, and the others together.
CAP, SHARE, COUNTED = 2048, 8, 128
#: Characters of arguments of one row; of arguments and paths of all rows; then of the arguments, and of each path, of one more.
ARGUMENTS, ALL_TEXT, FEW = 8192, 4 << 20, 256
#: Processes whose end is awaited; calls whose outcome is not known yet.
WATCHED, PENDING = 256, 512
#: With so many calls pending no more files of what they ask for are held: descriptors are shared with other sandboxes.
HELD = 64
#: Seconds after a call at which its process is looked at, where no call of its own said that the new program runs.
LOOKS = (0.02, 0.2)
EMPTY_PATH = 0x1000  # AT_EMPTY_PATH
REPLACED, STILL, UNWATCHED = "the process executed another program", "it was there at the end", "too many processes to watch"
UNSEEN = "it was not seen whether it ran"
UNTOLD, UNTAKEN = "this kernel does not tell it: Linux 6.15", "its parent had not asked for it at the end"


class Asked:
    """A call whose outcome is not known yet."""

    __slots__ = ("thread", "seen", "path", "argv", "cwd", "parent", "file", "at", "looks")

    def __init__(self, thread, seen, at):
        self.thread, self.seen, self.at, self.looks = thread, seen, at, 0
        self.path = self.argv = self.cwd = self.parent = self.file = None


class Row:
    """One executed program.  awaited: whether its file is still read; told: how much of it the stream has had: 0, 1, 2."""

    __slots__ = ("pid", "parent", "path", "exe", "argv", "cwd", "uid", "started", "ended", "exit_code", "signal",
                 "exit_missing", "sha256", "sha256_missing", "confirmed", "count", "awaited", "told")

    def __init__(self, pid, path, started):
        self.pid, self.path, self.started = pid, path, started
        self.parent = self.exe = self.argv = self.cwd = self.uid = self.ended = self.exit_code = self.signal = None
        self.exit_missing = self.sha256 = self.sha256_missing = None
        self.confirmed = False
        self.count, self.awaited, self.told = 1, False, 0

    def as_dict(self, begun):
        """The row of a Result.  begun: monotonic time of its `started`."""
        def seconds(at):
            return None if at is None else round(at - begun, 6)
        return {"pid": self.pid, "parent": self.parent, "path": self.path, "exe": self.exe, "argv": self.argv, "cwd": self.cwd,
                "uid": self.uid, "started_s": seconds(self.started), "ended_s": seconds(self.ended),
                "exit_code": self.exit_code, "signal": self.signal, "exit_missing": self.exit_missing, "sha256": self.sha256,
                "sha256_missing": self.sha256_missing, "confirmed": self.confirmed, "count": self.count}


class Process:
    """A process that made a call.  asked: {thread: Asked}; row: of the program that it runs, or None; pidfd: -1 without."""

    __slots__ = ("host", "pid", "uid", "started", "pidfd", "asked", "row", "ended")

    def __init__(self, seen, pidfd):
        self.host, self.pid, self.uid, self.started = seen.process, seen.pid, seen.uid, seen.started
        self.pidfd = pidfd
        self.asked, self.row, self.ended = {}, None, False


class Trace:
    """Part of the ledger.  listener: notify.Listener; begun: monotonic time of the Result's `started`; read: as Peek.read;
    first: pid of the sandbox's first process; stream: ledger_stream.Stream or None; places: as trace_files.Files."""

    def __init__(self, listener, begun, read, first, stream, places=None, cap=CAP):
        self.listener, self.begun, self.read, self.stream = listener, begun, read, stream
        self.cap, self.share, self.text = cap, max(1, cap // SHARE), ALL_TEXT
        self.users = trace_look.uid_map(first)
        self.all, self.by_path, self.rest = [], {}, {}
        self.known, self.watched, self.pending = {}, {}, 0
        self.poll = select.poll()
        self.files = trace_files.Files(places)
        self.digests = trace_files.Digests(self._hashed)
        self.first, self.closing, self.unseen = None, False, 0

    # -- a call --------------------------------------------------------------------------------------------------

    def heard(self, ident, thread, number, arguments, now):
        """Looks at an allowed call, and lets it go on."""
        over = self.poll.poll(0) if self.watched else ()  # what ended before it, ended before it
        seen = asked = running = file = facts = None
        pidfd = -1
        try:
            seen = trace_look.look(thread, self.known)
            running = seen and self._runs(seen)
            if running:
                file, facts = self.files.of_process(seen.process), self._facts(seen.process)
            if number != NR["set_tid_address"]:
                asked = seen and self._asked(thread, number, arguments, seen, now)
                pidfd = self._watch(seen) if asked else -1
                self.unseen += asked is None
        except Exception:  # of whoever looks: the call goes on all the same
            self.unseen += 1
            seen = running = None
        if not self.listener.valid(ident):  # what was read may be another process's
            seen = running = None
        sent = self.listener.go_on(ident, number)
        for fd, event in over:
            self._over(fd, event, now)
        if running:
            process = self.known.get(seen.process)
            if process is not None and process.asked.get(running.thread) is running:
                self._settle(process, running, facts, file, True, now)
                file = None
        if file is not None:
            file.close()
        if seen is not None and asked is not None and sent:
            return self._remember(asked, pidfd)
        if pidfd >= 0:
            os.close(pidfd)
        if asked is not None and asked.file is not None:
            asked.file.close()
        return None

    def _runs(self, seen):
        """The Asked whose program a process is seen to run by now, or None."""
        process = self.known.get(seen.process)
        if process is None or process.started != seen.started or seen.image is None:
            return None
        for asked in sorted(process.asked.values(), key=lambda asked: -asked.at):
            if asked.seen.image != seen.image:
                return asked
        return None

    def _asked(self, thread, number, arguments, seen, now):
        out = Asked(thread, seen, now)
        at = number == NR["execveat"]
        call = Call(ARCH, "execveat" if at else "execve", arguments, lambda address, size: self.read(thread, address, size))
        out.path, raw = self._path(call, int(at))
        try:
            out.argv = self._bounded(["<unreadable: %s>" % word["unreadable"] if isinstance(word, dict) else word
                                      for word in call.vector(1 + at) or ()])
        except Unreadable:
            out.argv = None
        process = self.known.get(seen.parent)
        out.parent = process.pid if process else trace_look.inside(seen.parent)
        out.cwd = trace_look.link(seen.process, b"cwd")
        held = self.pending < HELD
        directory = call.directory(0) if at else "AT_FDCWD"
        if at and raw == b"" and arguments[4] & EMPTY_PATH:
            out.file = self.files.at_descriptor(seen.process, arguments[0] & 0xffffffff) if held else None
            out.path = trace_look.link(seen.process, b"fd/%d" % (arguments[0] & 0xffffffff)) or "?"
        elif raw and held:
            start = b"cwd" if directory == "AT_FDCWD" else b"fd/%d" % (arguments[0] & 0xffffffff)
            base = b"" if raw.startswith(b"/") else trace_look.target(seen.process, start)
            out.file = self.files.at_path(seen.process, base + b"/" + raw)
        return out

    @staticmethod
    def _path(call, at):
        """(the path that is asked for as text, as bytes or None where it can't be read)"""
        try:
            text = call.memory.string(call.raw[at], PATH_MAX)[0] if call.raw[at] else b""
        except Unreadable as error:
            return "<unreadable: %s>" % error.reason, None
        return shown(text), text

    def _bounded(self, words):
        """Arguments as they are kept."""
        left, out = min(ARGUMENTS, max(self.text, FEW)), []
        for word in words:
            if left <= 0:
                out.append("...")
                break
            out.append(word if len(word) <= left else word[:left] + "...")
            left -= len(word) + 1
        return out

    def _short(self, path):
        """A path as it is kept: whole as long as there is room for text."""
        return path if path is None or len(path) <= max(self.text, FEW) else path[:FEW] + "..."

    def _facts(self, host):
        """(path of the executable, arguments, directory) of what a process runs."""
        line = trace_look.command_line(host)
        return trace_look.link(host, b"exe"), line and self._bounded(line), trace_look.link(host, b"cwd")

    def _watch(self, seen):
        """A pidfd for a process that is not known yet, or -1.  It waits for its answer, so that its pid is its own."""
        process = self.known.get(seen.process)
        if process is not None and process.started == seen.started or len(self.watched) >= WATCHED:
            return -1
        try:
            return processes.pidfd_open(seen.process)
        except OSError:
            return -1

    def _remember(self, asked, pidfd):
        """A call has gone on; what its thread asked for before has failed, or its program runs by now."""
        seen = asked.seen
        process = self.known.get(seen.process)
        if process is None or process.started != seen.started:
            if process is not None:
                self._ended(process, asked.at)
            if len(self.known) >= PENDING:
                self._forget(asked.at)
            process = self.known[seen.process] = Process(seen, pidfd)
            self.first = self.first or process
            if pidfd >= 0:
                self.watched[pidfd] = process
                self.poll.register(pidfd, select.POLLIN)
        before = process.asked.pop(asked.thread, None)
        if before is not None:
            self._failed(before)
        if self.pending >= PENDING or len(process.asked) >= SHARE:
            return self._settle(process, asked, None, None, None, asked.at)
        process.asked[asked.thread] = asked
        self.pending += 1
        return None

    def _failed(self, asked):
        self.pending -= 1
        if asked.file is not None:
            asked.file.close()

    def _forget(self, now):
        """Makes room among processes whose end nobody will tell."""
        for process in list(self.known.values()):
            if process.pidfd < 0:
                self._ended(process, now)

    # -- rows ----------------------------------------------------------------------------------------------------

    def _settle(self, process, asked, facts, file, confirmed, now):
        """What was asked for becomes a row.  facts: of the running program, None where it was not seen; file: its File."""
        for other in list(process.asked.values()):
            if confirmed or other is asked:
                process.asked.pop(other.thread)
                if other is not asked:
                    self._failed(other)
                else:
                    self.pending -= 1
        row = self._row(process, asked)
        if row.pid:
            exe, argv, cwd = facts or (None, None, None)
            row.argv = argv or asked.argv
            row.exe, row.cwd = self._short(exe), self._short(cwd or asked.cwd)
            row.confirmed, row.parent = bool(confirmed), asked.parent
            self.text -= sum(len(word) for word in (row.argv or []) + [row.path, row.exe, row.cwd] if word)
            for inside, here, count in self.users:
                if here <= asked.seen.uid < here + count:
                    row.uid = asked.seen.uid - here + inside
            before = process.row
            if before is not None and not confirmed:
                row.exit_missing = UNSEEN
            else:
                process.row = row
                row.exit_missing = STILL if process.pidfd >= 0 else UNWATCHED
                if before is not None and before.ended is None:
                    before.ended, before.exit_missing = asked.at, REPLACED
                    self._tell(before)
            self._hash(row, asked.file, file)
            self._tell(row)
        else:
            for held in (asked.file, file):
                if held is not None:
                    held.close()

    def _row(self, process, asked):
        path, name = self._short(asked.path), hash(asked.path)
        used = self.by_path.get(name, 0)
        if len(self.all) < self.cap and used < self.share:
            self.by_path[name] = used + 1
            row = Row(process.pid, path, asked.at)
            self.all.append(row)
            return row
        if path not in self.rest and len(self.rest) >= COUNTED:
            path = None
        row = self.rest.get(path)
        if row is None:
            row = self.rest[path] = Row(0, path, asked.at)
            row.count, row.exit_missing = 0, None
        row.count += 1
        return row

    def _hash(self, row, asked, running):
        """Reads what runs, or the script for which an interpreter runs, where it could be written to."""
        if running is not None and asked is not None:
            asked.close()
        if running is not None or asked is not None:
            row.awaited = True
            self.digests.add(row, running or asked)

    def _hashed(self, row, digest, why):
        row.awaited, row.sha256, row.sha256_missing = False, digest, why
        self._tell(row)

    def _tell(self, row):
        if self.stream is None or row.awaited:
            return
        if row.told == 0:
            self.stream.add("exec", row.as_dict(self.begun))
        row.told = max(row.told, 1)
        if row.told < 2 and row.ended is not None and (self.closing or row.exit_missing != UNTAKEN):
            row.told = 2
            whole = row.as_dict(self.begun)
            self.stream.add("exit", dict((name, whole[name]) for name in ("pid", "ended_s", "exit_code", "signal",
                                                                          "exit_missing")))

    # -- ends ----------------------------------------------------------------------------------------------------

    def _over(self, fd, event, now):
        """Something happened to a watched process: it has ended, or its parent has taken its status."""
        process = self.watched[fd]
        status = None
        try:
            status = processes.pidfd_status(fd)
            why = UNTAKEN
        except OSError:
            why = UNTOLD
        if not process.ended:
            self._ended(process, now, why)
        row = process.row
        if status is not None and row is not None and row.exit_missing == UNTAKEN:
            _take(row, status)
        if status is not None or why == UNTOLD or event & ~select.POLLIN:
            self._unwatch(fd)
            if row is not None:
                self._tell(row)

    def _ended(self, process, now, why=UNWATCHED):
        """The process is gone; of what it asked for last nobody knows whether it ran."""
        process.ended = True
        if process.pidfd in self.watched:
            self.poll.modify(process.pidfd, 0)
        if self.known.get(process.host) is process:
            del self.known[process.host]
        for asked in sorted(process.asked.values(), key=lambda asked: asked.at):
            self._settle(process, asked, None, None, False, now)
        row = process.row
        if row is not None and row.ended is None:
            row.exit_missing = why
            if process.pidfd >= 0:
                row.ended = now
            self._tell(row)

    def _unwatch(self, fd):
        del self.watched[fd]
        self.poll.unregister(fd)
        os.close(fd)

    # -- as part of the ledger -----------------------------------------------------------------------------------

    def wanted(self):
        """{fd: events}: readable when the process has ended, hung up when its parent has taken the status."""
        return dict((fd, 0 if process.ended else select.POLLIN) for fd, process in self.watched.items())

    def due(self):
        """The monotonic time at which `serve` has something to do, or None."""
        if self.digests.busy:
            return 0.0
        times = [asked.at + LOOKS[asked.looks] for process in self.known.values() for asked in process.asked.values()
                 if asked.looks < len(LOOKS)] if self.pending else ()
        return min(times) if times else None

    def serve(self, events):
        """Takes what ended, looks at programs that make no call of their own, and reads a piece of a file."""
        now = time.monotonic()
        for fd, event in self.poll.poll(0) if any(fd in events for fd in self.watched) else ():
            self._over(fd, event, now)
        if self.pending:
            self._look_again(now)
        self.digests.step()

    def _look_again(self, now):
        for process in list(self.known.values()):
            if not any(asked.looks < len(LOOKS) and asked.at + LOOKS[asked.looks] <= now for asked in process.asked.values()):
                continue
            for asked in process.asked.values():
                asked.looks += asked.looks < len(LOOKS)
            seen = trace_look.look(process.host, self.known)
            running = seen and self._runs(seen)
            facts = running and self._facts(process.host)
            if not running or facts[1] is None and running.looks < len(LOOKS):
                continue  # in execve the stack is told before the arguments.  fs/binfmt_elf.c, create_elf_tables
            file, again = self.files.of_process(process.host), trace_look.look(process.host, self.known)
            if again is not None and (again.started, again.image) == (seen.started, seen.image):
                self._settle(process, running, facts, file, True, now)
            elif file is not None:
                file.close()

    def close(self):
        """What is over is over; the rest was there at the end."""
        now = time.monotonic()
        for fd, event in self.poll.poll(0) if self.watched else ():
            self._over(fd, event, now)
        for process in list(self.known.values()):
            for asked in sorted(process.asked.values(), key=lambda asked: asked.at):
                self._settle(process, asked, None, None, False, now)
        until = now + LAST
        while self.digests.busy and time.monotonic() < until:
            self.digests.step()
        self.digests.close()
        self.closing = True
        for row in self.all:
            self._tell(row)
        self.stream = None
        for fd in list(self.watched):
            self._unwatch(fd)

    def rows(self, status):
        """[row] of a Result, in the order of their start; what lay beyond the cap comes last, of pid 0.  status: the wait
        status of the first program, as its init reported it, or None."""
        row = self.first and self.first.row
        if status is not None and row is not None and row.exit_missing is not None:
            _take(row, status)
        return [row.as_dict(self.begun) for row in sorted(self.all, key=lambda row: row.started)] + \
            [row.as_dict(self.begun) for row in self.rest.values()]

    def notes(self):
        """[sentence] for people."""
        out = ["the trace was full: %d programs are counted by path, and not described" %
               sum(row.count for row in self.rest.values())] if self.rest else []
        return out + ["the trace could not look at %d calls" % self.unseen] if self.unseen else out


#: Seconds for what is still to be read when the run is over.
LAST = 0.5


def _take(row, status):
    """What a wait status says of an end."""
    row.exit_missing = None
    if os.WIFSIGNALED(status):
        row.signal = os.WTERMSIG(status)
    else:
        row.exit_code = os.WEXITSTATUS(status)
