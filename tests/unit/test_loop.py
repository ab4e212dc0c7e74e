# SPDX-License-Identifier: Apache-2.0
"""The one poll: many members, each with descriptors and deadlines of its own."""
import os
import select
import time

from mrunc.sandbox.running.loop import Loop


class Member:
    """Reads one descriptor, notes what it was served, leaves the loop when told so by an empty read."""

    def __init__(self, loop, fd, wait=None):
        self.loop, self.fd, self.seconds, self.got, self.error = loop, fd, wait, [], None

    def wanted(self):
        return {self.fd: select.POLLIN} if self.fd >= 0 else {}

    def wait(self):
        return self.seconds

    def serve(self, events):
        if self.fd in events:
            self.got.append(os.read(self.fd, 100))
            if self.got[-1] == b"fail":
                raise ValueError("a member's mistake")
        else:
            self.got.append("due")
            self.seconds = None

    def failed(self, error):
        self.error = error


def test_each_member_gets_its_own_events():
    loop, pipes = Loop(), [os.pipe() for _ in range(3)]
    members = [Member(loop, read) for read, _ in pipes]
    for member in members:
        loop.add(member)
    os.write(pipes[1][1], b"one")
    loop.turn()
    assert [member.got for member in members] == [[], [b"one"], []]
    os.write(pipes[0][1], b"zero")
    os.write(pipes[2][1], b"two")
    loop.turn()
    assert [member.got for member in members] == [[b"zero"], [b"one"], [b"two"]]
    for fd in sum(pipes, ()):
        os.close(fd)


def test_a_deadline_is_served_without_an_event_and_not_before_its_time():
    loop = Loop()
    read, write = os.pipe()
    late, waiting = Member(loop, -1, wait=0.02), Member(loop, read)
    loop.add(late)
    loop.add(waiting)
    begun = time.monotonic()
    while not late.got:
        loop.turn()
    assert time.monotonic() - begun >= 0.02 and late.got == ["due"] and waiting.got == []
    os.close(read)
    os.close(write)


def test_a_members_mistake_is_its_own_end():
    loop, pipes = Loop(), [os.pipe() for _ in range(2)]
    bad, good = [Member(loop, read) for read, _ in pipes]
    loop.add(bad)
    loop.add(good)
    os.write(pipes[0][1], b"fail")
    os.write(pipes[1][1], b"fine")
    loop.turn()
    assert isinstance(bad.error, ValueError) and good.error is None and good.got == [b"fine"]
    os.write(pipes[0][1], b"more")
    os.write(pipes[1][1], b"more")
    loop.turn()
    assert bad.got == [b"fail"] and good.got == [b"fine", b"more"], "who failed is not served any more"
    for fd in sum(pipes, ()):
        os.close(fd)


def test_a_number_that_was_closed_and_given_again_belongs_to_the_new_member():
    loop = Loop()
    read, write = os.pipe()
    old = Member(loop, read)
    loop.add(old)
    old.fd = -1  # closed without a word to the loop
    os.close(read)
    again, other = os.pipe()
    assert again == read
    new = Member(loop, again)
    loop.add(new)
    loop.ask(old)
    os.write(other, b"new")
    loop.turn()
    assert new.got == [b"new"] and old.got == []
    loop.remove(old)
    os.write(other, b"still")
    loop.turn()
    assert new.got == [b"new", b"still"]
    for fd in (write, again, other):
        os.close(fd)
