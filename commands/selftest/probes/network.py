# SPDX-License-Identifier: Apache-2.0
"""Tries the network, and socket families that reach large parts of the kernel."""
import errno
import os
import struct

from ..attempt import asks, blocked, buffer, call, invisible, reached
from ..probe import HOST, INFO, KERNEL, Probe

GROUP = "network"
STREAM, DGRAM, RAW, SEQPACKET = 1, 2, 3, 5
NETLINK = 16


def _family(number, name, family, kind, protocol=0, reference=""):
    """Returns the Probe of a socket family.

    Unconfined it could load the family's module, so it is not tried.
    """
    return Probe("W%02d" % number, "a socket of %s" % name, KERNEL, reference,
                 "seccomp (AF_UNIX alone)", asks("socket", family, kind, protocol, close=True),
                 bare=family in (2, 10, 16))


def connects(facts):
    """Connects to a listener on the host's loopback."""
    fd = call("socket", 2, STREAM, 0)
    address = struct.pack("=H", 2) + struct.pack(">H", facts["tcp"]) + b"\x7f\0\0\1" + b"\0" * 8
    call("connect", fd, address, 16)
    return reached("connected to the host's loopback")


def host_listener(facts):
    """Looks for the planted listener in the tables of the own network namespace."""
    wanted = ":%04X" % facts["tcp"]
    try:
        with open("/proc/self/net/tcp") as stream:
            found = [line for line in stream if line.split()[1].endswith(wanted)]
    except OSError:
        return invisible("/proc/self/net/tcp is not there")
    return reached("the host's connections are listed") if found else blocked("not listed")


def interfaces(facts):
    """Looks for interfaces besides the loopback."""
    try:
        with open("/proc/self/net/dev") as stream:
            names = [line.split(":")[0].strip() for line in stream if ":" in line]
    except OSError:
        return invisible("/proc/self/net/dev is not there")
    names = [name for name in names if name not in ("lo", "sit0", "tunl0", "ip6tnl0", "gre0",
                                                    "gretap0", "erspan0")]
    return reached("interface %s" % names[0]) if names else blocked("the loopback alone")


def routes(facts):
    """Looks for a route."""
    try:
        with open("/proc/self/net/route") as stream:
            rows = stream.read().splitlines()[1:]
    except OSError:
        return invisible("/proc/self/net/route is not there")
    return reached("%d routes" % len(rows)) if rows else blocked("no route")


def pair(family, kind):
    """Returns an action that calls socketpair of a family that has none.

    The kernel's errno for that comes after the filter.
    """
    return asks("socketpair", family, kind, 0, buffer(8), after=(errno.EOPNOTSUPP,))


def local_id(facts):
    """Opens a vsock, which leads to the hypervisor."""
    fd = call("socket", 40, STREAM, 0)
    os.close(fd)
    return reached("the hypervisor's sockets")


def hashes(facts):
    """Binds a kernel algorithm to a socket."""
    fd = call("socket", 38, SEQPACKET, 0)
    call("bind", fd, struct.pack("=H14sII64s", 38, b"hash", 0, 0, b"sha256"), 88)
    os.close(fd)
    return reached("the kernel hashes for us")


PROBES = (
    Probe("W01", "connect to a listener on the host's loopback", HOST, "T1611",
          "own network namespace, then seccomp", connects, needs=("tcp",)),
    Probe("W02", "the host's connections are listed", INFO, "T1049", "own network namespace",
          host_listener, needs=("tcp",)),
    Probe("W03", "network interfaces", INFO, "T1016", "own network namespace", interfaces),
    Probe("W04", "routes", INFO, "T1016", "own network namespace", routes),
    _family(10, "AF_INET, TCP", 2, STREAM),
    _family(11, "AF_INET, UDP", 2, DGRAM),
    _family(12, "AF_INET6", 10, STREAM),
    _family(13, "AF_INET, raw ICMP", 2, RAW, 1),
    _family(14, "AF_PACKET", 17, RAW, 0, "CVE-2020-14386"),
    Probe("W15", "a socket of AF_VSOCK", HOST, "T1611", "seccomp (AF_UNIX alone)", local_id,
          bare=False),
    _family(16, "AF_NETLINK, routes", NETLINK, RAW, 0),
    _family(17, "AF_NETLINK, netfilter", NETLINK, RAW, 12, "CVE-2024-1086"),
    _family(18, "AF_NETLINK, audit", NETLINK, RAW, 9),
    _family(19, "AF_NETLINK, device events", NETLINK, RAW, 15),
    _family(20, "AF_NETLINK, xfrm", NETLINK, RAW, 6),
    _family(21, "AF_NETLINK, generic", NETLINK, RAW, 16),
    _family(22, "AF_NETLINK, socket diagnosis", NETLINK, RAW, 4),
    Probe("W23", "AF_ALG: the kernel's cryptography", KERNEL, "", "seccomp (AF_UNIX alone)",
          hashes, bare=False),
    _family(24, "AF_KEY", 15, RAW, 2),
    _family(25, "AF_TIPC", 30, SEQPACKET),
    _family(26, "AF_RDS", 21, SEQPACKET),
    _family(27, "AF_CAN", 29, RAW, 1),
    _family(28, "AF_X25", 9, SEQPACKET),
    _family(29, "AF_BLUETOOTH", 31, RAW, 1),
    _family(30, "AF_SMC", 43, STREAM),
    _family(31, "AF_XDP", 44, RAW),
    _family(32, "AF_KCM", 41, DGRAM),
    _family(33, "AF_QIPCRTR", 42, DGRAM),
    _family(34, "AF_MCTP", 45, DGRAM),
    _family(35, "AF_PPPOX", 24, STREAM),
    _family(36, "AF_NFC", 39, SEQPACKET),
    _family(37, "AF_PHONET", 35, DGRAM),
    _family(38, "AF_ROSE", 11, SEQPACKET),
    _family(39, "AF_LLC", 26, STREAM),
    Probe("W40", "socketpair of AF_INET", KERNEL, "", "seccomp (AF_UNIX alone)", pair(2, STREAM)),
    Probe("W41", "socketpair of AF_NETLINK", KERNEL, "", "seccomp (AF_UNIX alone)",
          pair(NETLINK, RAW)),
)
