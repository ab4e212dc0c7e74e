# SPDX-License-Identifier: Apache-2.0
"""A private pipe between the caller's stdin and the workload's, where the caller's own would be a way out.

A pipe can be opened again through /proc/self/fd by whoever owns it, for the other direction too, and Landlock has no rule
for pipes.  An ordinary user's sandbox runs under the user's id: in `producer | sh` it could write commands into the pipe
that this `sh` reads.  So it gets a pipe of its own, and the supervisor copies.  As with ssh, a piped stdin is read ahead.
"""
import fcntl
import os
import select

CHUNK = 65536


def needed(root):
    """Whether the workload must not hold descriptor 0 itself.  root: the sandbox runs under an id of its own."""
    try:
        return not root and os.fstat(0).st_mode & 0o170000 == 0o010000
    except OSError:
        return False


class Feed:
    """Copies the caller's descriptor 0 into the pipe whose write end is `pipe` (fd)."""

    def __init__(self, pipe):
        self.pipe, self.data, self.registered = pipe, b"", {}
        os.set_blocking(pipe, False)
        try:  # a description of our own: the flag on the caller's would change it for everybody who shares it
            self.source = os.open("/proc/self/fd/0", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self.source = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3)

    def prepare(self, poll):
        """Registers what can go on with the poll object."""
        wanted = {}
        if self.source >= 0:
            wanted = {self.pipe: select.POLLOUT} if self.data else {self.source: select.POLLIN, self.pipe: 0}
        for fd in set(self.registered) - set(wanted):
            poll.unregister(fd)
        for fd, events in wanted.items():
            if self.registered.get(fd) != events:
                poll.register(fd, events)
        self.registered = wanted

    def serve(self, events):
        """Moves what can be moved.  events: dict fd -> poll events."""
        if self.source < 0:
            return
        try:
            if self.pipe in events:
                if events[self.pipe] & select.POLLERR:  # the last reader is gone
                    raise BrokenPipeError
                self.data = self.data[os.write(self.pipe, self.data):]
            elif self.source in events and not self.data:
                self.data = os.read(self.source, CHUNK)
                if not self.data:
                    raise BrokenPipeError
        except BlockingIOError:
            pass
        except OSError:
            self._end()

    def _end(self):
        """End of file for the workload.  The number of the write end stays ours, so that nobody else gets it."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, self.pipe, inheritable=False)
        os.close(null)
        os.close(self.source)
        self.source = -1

    def close(self):
        """At the end of the run."""
        if self.source >= 0:
            os.close(self.source)
            self.source = -1
