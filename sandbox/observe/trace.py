# SPDX-License-Identifier: Apache-2.0
"""--trace exec: which programs were executed, when, by whom, and how they ended.

Evidence only.  At execve and execveat the request is noted from the caller's memory, which another
thread may change before the kernel reads it.  The program that really runs is noted at
set_tid_address, the first call that libc's start-up makes, or at a later look at the process.
Every call that comes here is one that the policy allows; it always goes on.

Rows are bounded, with a share for each path; so are the text of arguments, the watched processes,
and the bytes that are hashed.  Nothing slow happens between a call and its answer: files are opened
before it and read after it.
"""
import os
import select
import time

from ...syscalls import process as processes
from ...syscalls.libc import ARCH
from ...syscalls.numbers import native
from ..decode.call import Call, PATH_MAX
from ..decode.memory import Unreadable, shown
from . import trace_files, trace_look

NR = native().NR
#: Most rows; one path may have CAP / SHARE of them.  Beyond, COUNTED paths are counted by name, and
#: all others together.
CAP, SHARE, COUNTED = 2048, 8, 128
#: Characters: of the arguments of one row; of arguments and paths of all rows; and once these are
#: used up, of the arguments and of each path of one more.
ARGUMENTS, ALL_TEXT, FEW = 8192, 4 << 20, 256
#: Processes whose end is awaited; calls whose outcome is not known yet.
WATCHED, PENDING = 256, 512
#: With so many calls pending no more requested files are held open: other sandboxes of this process
#: need descriptors, too.
HELD = 64
#: Seconds after a call at which the process is looked at, if no call of its own showed its program.
LOOKS = (0.02, 0.2)
#: Seconds for files that are still to be read when the run is over.
LAST = 0.5
EMPTY_PATH = 0x1000  # AT_EMPTY_PATH
REPLACED, STILL = "the process executed another program", "it was there at the end"
UNWATCHED, UNSEEN = "too many processes to watch", "it was not seen whether it ran"
UNTOLD = "this kernel does not tell it: Linux 6.15"
UNTAKEN = "its parent had not asked for it at the end"


class Asked:
    """A call whose outcome is not known yet.

    seen: trace_look.Seen of the caller.
    path, argv, cwd: what was asked for; parent: pid of the caller's parent, inside.
    file: trace_files.File of what was asked for, or None.
    at: monotonic time; looks: how many of LOOKS are done.
    """

    __slots__ = ("thread", "seen", "path", "argv", "cwd", "parent", "file", "at", "looks")

    def __init__(self, thread, seen, at):
        self.thread, self.seen, self.at, self.looks = thread, seen, at, 0
        self.path = self.argv = self.cwd = self.parent = self.file = None


class Row:
    """One executed program.

    Most attributes are as in result/schema.py; started and ended are monotonic times.

    awaited: whether its file is still to be read.
    told: how many of its two lines the stream has had.
    """

    __slots__ = ("pid", "parent", "path", "exe", "argv", "cwd", "uid", "started", "ended",
                 "exit_code", "signal", "exit_missing", "sha256", "sha256_missing", "confirmed",
                 "count", "awaited", "told")

    def __init__(self, pid, path, started):
        self.pid, self.path, self.started = pid, path, started
        self.parent = self.exe = self.argv = self.cwd = self.uid = None
        self.ended = self.exit_code = self.signal = None
        self.exit_missing = self.sha256 = self.sha256_missing = None
        self.confirmed = False
        self.count, self.awaited, self.told = 1, False, 0

    def as_dict(self, begun):
        """Returns the row of a Result.  begun: monotonic time of its `started`."""
        def seconds(at):
            return None if at is None else round(at - begun, 6)
        return {"pid": self.pid, "parent": self.parent, "path": self.path, "exe": self.exe,
                "argv": self.argv, "cwd": self.cwd, "uid": self.uid,
                "started_s": seconds(self.started), "ended_s": seconds(self.ended),
                "exit_code": self.exit_code, "signal": self.signal,
                "exit_missing": self.exit_missing, "sha256": self.sha256,
                "sha256_missing": self.sha256_missing, "confirmed": self.confirmed,
                "count": self.count}


class Process:
    """A process that made a call.

    host, pid: its pid here and inside; uid, started: as of trace_look.Seen.
    pidfd: -1 if its end is not awaited.
    asked: {thread: Asked}.
    row: Row of the program that it runs, or None.
    ended: whether it has ended.
    """

    __slots__ = ("host", "pid", "uid", "started", "pidfd", "asked", "row", "ended")

    def __init__(self, seen, pidfd):
        self.host, self.pid, self.uid = seen.process, seen.pid, seen.uid
        self.started = seen.started
        self.pidfd = pidfd
        self.asked, self.row, self.ended = {}, None, False


class Trace:
    """The trace of one run, a part of the ledger.

    all: [Row]; by_path: {hash of a path: how many rows}; rest: {path or None: Row} beyond the cap.
    known: {pid here: Process}; watched: {pidfd: Process}.
    pending: how many Asked there are; text: characters that may still be kept.
    users: as of trace_look.uid_map.
    first: Process of the program itself, or None.
    unseen: how many calls could not be looked at.
    """

    def __init__(self, listener, begun, read, first, stream, places=None, cap=CAP):
        """listener: listener.Listener.

        begun: monotonic time of the Result's `started`.
        read: as of Peek.read.
        first: pid of the sandbox's first process.
        stream: ledger_stream.Stream or None.
        places: as of trace_files.Files.
        cap: as CAP.
        """
        self.listener, self.begun, self.read, self.stream = listener, begun, read, stream
        self.cap, self.share, self.text = cap, max(1, cap // SHARE), ALL_TEXT
        self.users = trace_look.uid_map(first)
        self.all, self.by_path, self.rest = [], {}, {}
        self.known, self.watched, self.pending = {}, {}, 0
        self.poll = select.poll()
        self.files = trace_files.Files(places)
        self.digests = trace_files.Digests(self._hashed)
        self.first, self.closing, self.unseen = None, False, 0

    # -- a call ----------------------------------------------------------------------------------

    def heard(self, ident, thread, number, arguments, now):
        """Looks at an allowed call, and lets it go on."""
        over = self.poll.poll(0) if self.watched else ()  # ends that came before this call
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
        except Exception:  # a mistake in the look: the call goes on all the same
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
        """Returns the Asked whose program a process is seen to run by now, or None."""
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
        call = Call(ARCH, "execveat" if at else "execve", arguments,
                    lambda address, size: self.read(thread, address, size))
        out.path, raw = self._path(call, int(at))
        try:
            out.argv = self._bounded([
                "<unreadable: %s>" % word["unreadable"] if isinstance(word, dict) else word
                for word in call.vector(1 + at) or ()])
        except Unreadable:
            out.argv = None
        process = self.known.get(seen.parent)
        out.parent = process.pid if process else trace_look.inside(seen.parent)
        out.cwd = trace_look.link(seen.process, b"cwd")
        held = self.pending < HELD
        fd, directory = arguments[0] & 0xffffffff, call.directory(0) if at else "AT_FDCWD"
        if at and raw == b"" and arguments[4] & EMPTY_PATH:
            out.file = self.files.at_descriptor(seen.process, fd) if held else None
            out.path = trace_look.link(seen.process, b"fd/%d" % fd) or "?"
        elif raw and held:
            start = b"cwd" if directory == "AT_FDCWD" else b"fd/%d" % fd
            base = b"" if raw.startswith(b"/") else trace_look.target(seen.process, start)
            out.file = self.files.at_path(seen.process, base + b"/" + raw)
        return out

    @staticmethod
    def _path(call, at):
        """Returns the path that is asked for, as (text, bytes or None if it can't be read)."""
        try:
            text = call.memory.string(call.raw[at], PATH_MAX)[0] if call.raw[at] else b""
        except Unreadable as error:
            return "<unreadable: %s>" % error.reason, None
        return shown(text), text

    def _bounded(self, words):
        """Returns arguments as they are kept."""
        left, out = min(ARGUMENTS, max(self.text, FEW)), []
        for word in words:
            if left <= 0:
                out.append("...")
                break
            out.append(word if len(word) <= left else word[:left] + "...")
            left -= len(word) + 1
        return out

    def _short(self, path):
        """Returns a path as it is kept: whole as long as there is room for text."""
        return path if path is None or len(path) <= max(self.text, FEW) else path[:FEW] + "..."

    def _facts(self, host):
        """Returns (path of the executable, arguments, directory) of what a process runs."""
        line = trace_look.command_line(host)
        return (trace_look.link(host, b"exe"), line and self._bounded(line),
                trace_look.link(host, b"cwd"))

    def _watch(self, seen):
        """Returns a pidfd for a process that is not known yet, or -1.

        The process waits for its answer, so the pid is still its own.
        """
        process = self.known.get(seen.process)
        if process is not None and process.started == seen.started or len(self.watched) >= WATCHED:
            return -1
        try:
            return processes.pidfd_open(seen.process)
        except OSError:
            return -1

    def _remember(self, asked, pidfd):
        """Keeps a call that has gone on.  What its thread asked for before has failed."""
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
        """Makes room: forgets processes whose end is not awaited."""
        for process in list(self.known.values()):
            if process.pidfd < 0:
                self._ended(process, now)

    # -- rows ------------------------------------------------------------------------------------

    def _settle(self, process, asked, facts, file, confirmed, now):
        """Makes a row of what was asked for.

        facts: as of `_facts`, None if the program was not seen; file: its File, or None;
        confirmed: whether it was seen to run, None if that is not known.
        """
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
            words = (row.argv or []) + [row.path, row.exe, row.cwd]
            self.text -= sum(len(word) for word in words if word)
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
        """Reads what runs, or else what was asked for (a script): what could be written to."""
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
            names = ("pid", "ended_s", "exit_code", "signal", "exit_missing")
            self.stream.add("exit", dict((name, whole[name]) for name in names))

    # -- ends ------------------------------------------------------------------------------------

    def _over(self, fd, event, now):
        """Serves a pidfd: the process has ended, or its parent has taken its status."""
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
        """Notes that a process has ended.  Whether its last request ran is not known."""
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

    # -- as part of the ledger -------------------------------------------------------------------

    def wanted(self):
        """Returns {fd: poll events}.

        A pidfd is readable when the process has ended, and hangs up when its parent has taken the
        status.
        """
        return dict((fd, 0 if process.ended else select.POLLIN)
                    for fd, process in self.watched.items())

    def due(self):
        """Returns the monotonic time at which `serve` has something to do, or None."""
        if self.digests.busy:
            return 0.0
        times = [asked.at + LOOKS[asked.looks] for process in self.known.values()
                 for asked in process.asked.values()
                 if asked.looks < len(LOOKS)] if self.pending else ()
        return min(times) if times else None

    def serve(self, events):
        """Serves ends, looks at programs that make no call, and reads a piece of a file."""
        now = time.monotonic()
        for fd, event in self.poll.poll(0) if any(fd in events for fd in self.watched) else ():
            self._over(fd, event, now)
        if self.pending:
            self._look_again(now)
        self.digests.step()

    def _look_again(self, now):
        for process in list(self.known.values()):
            if not any(asked.looks < len(LOOKS) and asked.at + LOOKS[asked.looks] <= now
                       for asked in process.asked.values()):
                continue
            for asked in process.asked.values():
                asked.looks += asked.looks < len(LOOKS)
            seen = trace_look.look(process.host, self.known)
            running = seen and self._runs(seen)
            facts = running and self._facts(process.host)
            if not running or facts[1] is None and running.looks < len(LOOKS):
                # execve sets the stack before the arguments.  fs/binfmt_elf.c, create_elf_tables
                continue
            file = self.files.of_process(process.host)
            again = trace_look.look(process.host, self.known)
            if again is not None and (again.started, again.image) == (seen.started, seen.image):
                self._settle(process, running, facts, file, True, now)
            elif file is not None:
                file.close()

    def close(self):
        """Ends the trace: what has not ended by now was there at the end."""
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
        """Returns the rows of a Result in the order of their start; those of pid 0 come last.

        status: the wait status of the first program, as init reported it, or None.
        """
        row = self.first and self.first.row
        if status is not None and row is not None and row.exit_missing is not None:
            _take(row, status)
        rows = sorted(self.all, key=lambda row: row.started) + list(self.rest.values())
        return [row.as_dict(self.begun) for row in rows]

    def notes(self):
        """Returns [sentence] for people."""
        out = []
        if self.rest:
            out.append("the trace was full: %d programs are counted by path, and not described" %
                       sum(row.count for row in self.rest.values()))
        if self.unseen:
            out.append("the trace could not look at %d calls" % self.unseen)
        return out


def _take(row, status):
    """Writes a wait status into a row."""
    row.exit_missing = None
    if os.WIFSIGNALED(status):
        row.signal = os.WTERMSIG(status)
    else:
        row.exit_code = os.WEXITSTATUS(status)
