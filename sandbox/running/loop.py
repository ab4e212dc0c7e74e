# SPDX-License-Identifier: Apache-2.0
"""One poll for everything that a process waits for: one run, or all the runs of a launcher.

A member has four methods.

wanted(): returns {fd: poll events}.
wait(): returns the seconds until it wants to be served without an event, or None.
serve(events): handles {fd: poll events} of its own descriptors, possibly empty.
failed(error): is told of an exception of the other three. So a member's mistake ends only that
    member.
"""
import select
import time


class Loop:
    """Asks its members what they want only after it served them, or by `ask`."""

    def __init__(self):
        self.poll = select.poll()
        self.members = {}  # member -> [{fd: events}, monotonic time or None]
        self.owners = {}  # fd -> member

    def add(self, member):
        """Serves a member from now on."""
        self.members[member] = [{}, None]
        self.ask(member)

    def remove(self, member):
        """Forgets a member and its descriptors.

        Call it before these are closed: their numbers may then belong to another member.
        """
        held = self.members.pop(member, None)
        for fd in held[0] if held else ():
            self._drop(fd, member)

    def ask(self, member):
        """Asks a member what it wants now, after its state was changed from outside."""
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
        """Waits for the next event or deadline and serves the members concerned."""
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
            if member in self.members:  # a member that was served before may have removed it
                try:
                    member.serve(events)
                except Exception as error:
                    self.remove(member)
                    member.failed(error)
                self.ask(member)
