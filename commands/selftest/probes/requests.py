# SPDX-License-Identifier: Apache-2.0
"""Tries ioctl requests, socket options and message flags, each by its number.

A request is reached if the kernel's own handler answers. The filter answers ENOTTY. So each request
gets arguments for which the handler answers something else and does nothing: mostly a null pointer,
EFAULT.
"""
import errno
import os
import socket
import struct

from ..attempt import addressof, asks, buffer, call, reached, wide
from ..probe import HOST, INFO, KERNEL, Probe

GROUP = "requests"
EPERM, EACCES, EBADF, EFAULT = errno.EPERM, errno.EACCES, errno.EBADF, errno.EFAULT
EINVAL, EROFS, EOPNOTSUPP, ENODEV = errno.EINVAL, errno.EROFS, errno.EOPNOTSUPP, errno.ENODEV
#: include/linux/errno.h: not meant for user space, but SO_ZEROCOPY of AF_UNIX returns it.
ENOTSUPP = 524
ENOPKG = 65
SOL_SOCKET, MSG_OOB, MSG_DONTWAIT = 1, 1, 0x40
SHOWN = "the filter (requests by allowlist)"
OPTIONS = "the filter (options by allowlist)"
FLAGS = "the filter (MSG_OOB by its bit)"


def shown_file():
    """Opens a file of the host that any sandbox shows, for reading."""
    for path in (os.__file__, "/usr/lib/os-release", "/etc/passwd"):
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            last = error
    raise last


def shown_directory():
    """Opens /usr for reading."""
    return os.open("/usr", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def own_pipe():
    """Opens a pipe, whose file system can't be frozen."""
    return os.pipe()[0]


def request(opened, number, after, argument=None):
    """Returns an action that sends an ioctl.

    opened: function that returns a descriptor

    after: errnos of the kernel's handler
    """
    def action(facts):
        fd = opened()
        try:
            return asks("ioctl", fd, number, argument, after=after)(facts)
        finally:
            os.close(fd)
    return action


def on_socket(number, after, argument=None):
    """Returns an action that sends an ioctl to an AF_UNIX socket."""
    return request(lambda: socket.socket(socket.AF_UNIX).detach(), number, after, argument)


def sets(option, value, after=(), level=SOL_SOCKET):
    """Returns an action that calls setsockopt on an AF_UNIX socket.

    value: int, or a function that returns a buffer and its size
    """
    def action(facts):
        one, two = socket.socketpair()
        data, size = value() if callable(value) else (buffer(struct.pack("=i", value), 4), 4)
        return asks("setsockopt", one.fileno(), level, option, data, size, after=after)(facts)
    return action


def gets(option, after=()):
    """Returns an action that calls getsockopt of SOL_SOCKET on an AF_UNIX socket."""
    def action(facts):
        one, two = socket.socketpair()
        size = buffer(struct.pack("=I", 64), 4)
        words = one.fileno(), SOL_SOCKET, option, buffer(64), size
        return asks("getsockopt", *words, after=after)(facts)
    return action


_keep = []


def accept_all():
    """Returns a classic filter that accepts each packet: one instruction, `ret 65535`."""
    code = buffer(struct.pack("=HBBI", 6, 0, 0, 65535), 8)
    _keep.append(code)
    return buffer(struct.pack("=HxxxxxxQ", 1, addressof(code)), 16), 16


def message(data):
    """Returns a struct msghdr of one part, with which a mmsghdr begins."""
    part = buffer(struct.pack("=QQ", addressof(data), 1), 16)
    _keep.extend((data, part))
    return buffer(struct.pack("=QQQQQQQQ", 0, 0, addressof(part), 1, 0, 0, 0, 0), 64)


def out_of_band(name, flags=MSG_OOB):
    """Returns an action that sends an urgent byte over a local stream by a call with flags."""
    def action(facts):
        one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        data = buffer(b"x", 1)
        calls = {
            "sendto": (data, 1, flags, None, 0),
            "recvfrom": (data, 1, flags, None, None),
            "sendmsg": (message(data), flags),
            "recvmsg": (message(data), flags),
            "sendmmsg": (message(data), 1, flags),
            "recvmmsg": (message(data), 1, flags, None),
        }
        # Nothing was sent, so the handler answers EINVAL to a receiving call.
        call(name, one.fileno(), *calls[name])
        return reached("an urgent byte went through")

    def asked(facts):
        try:
            return action(facts)
        except OSError as error:
            if name.startswith("recv") and error.errno == EINVAL:
                return reached("the kernel was asked: EINVAL")
            raise
    return asked


def _file(number, title, opened, request_number, after=(EFAULT,), danger=KERNEL, layers=SHOWN,
          argument=None):
    return Probe("Q%02d" % number, title, danger, "", layers,
                 request(opened, request_number, after, argument))


def _socket(number, title, request_number, after=(EFAULT,), danger=KERNEL):
    return Probe("Q%02d" % number, title, danger, "", SHOWN, on_socket(request_number, after),
                 bare=False)


def _option(number, title, action, reference=""):
    return Probe("Q%02d" % number, title, KERNEL, reference, OPTIONS, action)


def _oob(number, name, flags=MSG_OOB):
    return Probe("Q%02d" % number, "an urgent byte on a local socket: %s%s"
                 % (name, "" if flags < 1 << 32 else " with bit 32 set"), KERNEL, "CVE-2025-38236",
                 FLAGS, out_of_band(name, flags))


PROBES = (
    _file(1, "the flags of a shown file (FS_IOC_SETFLAGS)", shown_file, 0x40086602,
          (EFAULT, EACCES, EROFS), HOST, SHOWN + ", then a read-only mount, another owner"),
    _file(2, "the project and flags of a shown file (FS_IOC_FSSETXATTR)", shown_file, 0x401C5820,
          (EFAULT,), HOST, SHOWN + ", then a read-only mount, another owner"),
    _file(3, "a key for a shown file system (FS_IOC_ADD_ENCRYPTION_KEY)", shown_directory,
          0xC0506617, (EFAULT, EOPNOTSUPP), HOST),
    _file(4, "the owner's key taken from a shown file system (FS_IOC_REMOVE_ENCRYPTION_KEY)",
          shown_directory, 0xC0406618, (EFAULT, EOPNOTSUPP), HOST),
    _file(5, "files compared and shared (FIDEDUPERANGE)", shown_file, 0xC0189436),
    _file(6, "a file system frozen (FIFREEZE)", own_pipe, 0xC0045877, (EPERM, EOPNOTSUPP), HOST,
          SHOWN + ", then no capability"),
    _file(7, "a file system's free blocks discarded (FITRIM)", shown_directory, 0xC0185879,
          (EPERM, EFAULT, EOPNOTSUPP, EROFS), HOST, SHOWN + ", then no capability"),
    _file(8, "the block of a shown file (FIBMAP)", shown_file, 1, (EPERM, EFAULT, EINVAL), KERNEL,
          SHOWN + ", then no capability"),
    _file(9, "the id of a shown file system (FS_IOC_GETFSUUID)", shown_file, 0x80111500, (EFAULT,),
          INFO),
    _file(10, "the policy of an encrypted directory (FS_IOC_GET_ENCRYPTION_POLICY_EX)",
          shown_directory, 0xC0096616, (EFAULT, EOPNOTSUPP, errno.ENODATA), INFO),
    _file(11, "a shown file sealed for ever (FS_IOC_ENABLE_VERITY)", shown_file, 0x40806685,
          (EFAULT, EOPNOTSUPP), HOST),
    _file(12, "FS_IOC_SETFLAGS with bit 32 set", shown_file, wide(0x40086602),
          (EFAULT, EACCES, EROFS), KERNEL, "the filter (low 32 bits compared)"),
    _socket(20, "the module of virtual networks (SIOCGIFVLAN)", 0x8982,
            (EFAULT, ENOPKG, ENODEV, EPERM)),
    _socket(21, "the module of network bridges (SIOCGIFBR)", 0x8940,
            (EFAULT, ENOPKG, EPERM, ENODEV)),
    _socket(22, "the drivers of network cards (SIOCETHTOOL)", 0x8946),
    _socket(23, "the list of interfaces (SIOCGIFCONF)", 0x8912, (EFAULT,), INFO),
    _socket(24, "the file behind a local socket (SIOCUNIXFILE)", 0x89E0, (EPERM, errno.ENOENT)),
    _socket(25, "SIOCGIFVLAN with bit 32 set", wide(0x8982), (EFAULT, ENOPKG, ENODEV, EPERM)),
    _option(30, "a classic program on a socket (SO_ATTACH_FILTER)", sets(26, accept_all)),
    _option(31, "a program of the kernel's on a socket (SO_ATTACH_BPF)",
            sets(50, -1, (EBADF, EPERM))),
    _option(32, "a socket's program locked (SO_LOCK_FILTER)", sets(44, 1)),
    _option(33, "busy polling (SO_BUSY_POLL)", sets(46, 0)),
    _option(34, "sending without a copy (SO_ZEROCOPY)", sets(60, 1, (EOPNOTSUPP, ENOTSUPP))),
    _option(35, "time stamps of the hardware (SO_TIMESTAMPING)", sets(37, 1 << 3)),
    _option(36, "a program that shares out a port (SO_ATTACH_REUSEPORT_CBPF)",
            sets(51, accept_all, (EINVAL, EPERM, EOPNOTSUPP))),
    _option(37, "the time of sending (SO_TXTIME)", sets(61, 0, (EINVAL, EPERM))),
    _option(38, "the program of a socket read back (SO_GET_FILTER)", gets(26)),
    _option(39, "the number of a socket in the kernel (SO_COOKIE)", gets(57)),
    _option(40, "SO_ATTACH_FILTER with bit 32 set", sets(wide(26), accept_all)),
    _oob(50, "sendto"),
    _oob(51, "recvfrom"),
    _oob(52, "sendmsg"),
    _oob(53, "recvmsg"),
    _oob(54, "sendmmsg"),
    _oob(55, "recvmmsg"),
    _oob(56, "sendto", wide(MSG_OOB)),
)
