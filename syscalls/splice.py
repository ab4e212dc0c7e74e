# SPDX-License-Identifier: Apache-2.0
"""Bytes from one descriptor to another without passing through this process.  os.splice is Python 3.10's."""
from .libc import bind, c_int, c_pointer, c_size, c_uint

SPLICE_F_MOVE, SPLICE_F_NONBLOCK = 1, 2

_splice = bind("splice", c_int, c_pointer, c_int, c_pointer, c_size, c_uint)


def splice(source, sink, size):
    """Moves up to `size` bytes; one of the two is a pipe.  Returns how many; 0: the source has ended.  splice(2)

    It waits for no pipe: BlockingIOError, where the source is empty or the sink full.  EINVAL: a file
    opened with O_APPEND, or a file system without splice; EPIPE: nobody reads the sink.
    """
    return _splice(source, None, sink, None, size, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
