# SPDX-License-Identifier: Apache-2.0
"""Moves bytes between descriptors inside the kernel.  os.splice came with Python 3.10."""
from .libc import bind, c_int, c_pointer, c_size, c_uint

SPLICE_F_MOVE, SPLICE_F_NONBLOCK = 1, 2

_splice = bind("splice", c_int, c_pointer, c_int, c_pointer, c_size, c_uint)


def splice(source, sink, size):
    """Moves up to `size` bytes and returns how many; 0 at the source's end.  splice(2)

    source, sink: descriptors; one of the two is a pipe.

    It never waits for a pipe. Raises OSError: BlockingIOError if the source is empty or the sink
    full; EINVAL for a file with O_APPEND, or a file system without splice; EPIPE if the sink has no
    reader.
    """
    return _splice(source, None, sink, None, size, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
