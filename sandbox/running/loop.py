# SPDX-License-Identifier: Apache-2.0
"""One poll for everything that one process waits for: the command line's one run, or all the runs of a launcher.

A member has four methods.  `wanted()` -> {fd: poll events}; `wait()` -> seconds until it wants to be served without an event,
or None; `serve(events)` gets {fd: poll events} of its own descriptors, possibly empty; `failed(error)` is told of an
exception that left one of the three, so that a member's mistake is its own end and nobody else's.
"""
import select
import time


class Loop:
    """Members are asked anew what they want after each time they were served, and at no other time: `ask` does it."""

    def __init__(self):
        self.poll = select.poll()
        self.members = {}  # member -> [{fd: events}, monotonic time or None]
        self.owners = {}  # fd -> member

    def add(self, member):
        """From now on the member is served.  An exception of its own goes to its `failed`."""
        self.members[member] = [{}, None]
        self.ask(member)

    def remove(self, member):
        """Forgets a member and its descriptors; before these are closed, or their numbers may already be another's."""
        held = self.members.pop(member, None)
        for fd in held[0] if held else ():
            self._drop(fd, member)

    def ask(self, member):
        """What does it want now?  For a member whose state was changed from outside."""
        held = self.members.get(member)
        if held is None:
            return
        try:
            wanted, wait = member.wanted(), member.wait()
        except Exception as error:
            self.remove(member)
            member.failed(error)
            return
        before = held[0]
        if wanted != before:
            for fd in before:
                if fd not in wanted:
                    self._drop(fd, member)
            for fd, events in wanted.items():
                if before.get(fd) != events or self.owners.get(fd) is not member:
                    self.owners[fd] = member
                    self.poll.register(fd, events)
            held[0] = wanted
        held[1] = None if wait is None else time.monotonic() + wait

    def _drop(self, fd, member):
        if self.owners.get(fd) is member:
            del self.owners[fd]
            self.poll.unregister(fd)

    def turn(self):
        """Waits for the next event or deadline, and serves whom it concerns."""
        due = [at for _, at in self.members.values() if at is not None]
        if due:
            ready = self.poll.poll(max(0.0, min(due) - time.monotonic()) * 1000 + 1)
        else:
            ready = self.poll.poll()
        told = {}
        for fd, events in ready:
            member = self.owners.get(fd)
            if member is not None:
                told.setdefault(member, {})[fd] = events
        if due:
            now = time.monotonic()
            for member, (_, at) in self.members.items():
                if at is not None and at <= now:
                    told.setdefault(member, {})
        for member, events in told.items():
            if member in self.members:  # and not removed by another one that was served before it
                try:
                    member.serve(events)
                except Exception as error:
                    self.remove(member)
                    member.failed(error)
                self.ask(member)
