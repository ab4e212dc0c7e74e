# SPDX-License-Identifier: Apache-2.0
"""Decodes the six numbers of a system call: its name and arguments as a person writes them.

Pure: it takes the data of tables.py, and what `peek` can read of the caller's memory.  What is read
is evidence of an attempt and never a decision: another thread may have changed it.  No input makes
it raise or read more than BUDGET bytes: paths up to 4096, other strings up to 256, argument vectors
up to 32 entries of 2 KiB.
"""
from ...syscalls import numbers
from ...syscalls.widths import WIDTHS
from . import families, structs, tables
from .memory import Memory, Unreadable
from .variants import VARIANTS

X32_BIT = 0x40000000  # __X32_SYSCALL_BIT; asm/unistd.h of x86
AT_FDCWD = -100
PATH_MAX, STRING_MAX = 4096, 256
ARGV_MAX, ARGV_ENTRY_MAX = 32, 2048
_MASKS = {"i": 0xFFFFFFFF, "h": 0xFFFF}
#: Requests that name a network interface.  netdevice(7)
_INTERFACE = ("SIOCGIF", "SIOCSIF", "SIOCBR", "TUNSETIFF")
_tables = {}


def decode(arch, nr, args, peek):
    """Returns (name, arguments) of a system call.

    arch: "x86_64" or "aarch64".
    nr: the call's number.
    args: six integers as the registers held them.
    peek: function of (address, size) that returns bytes, fewer at the end of the memory.  It raises
        OSError.

    The name of a number without a call is "syscall_600"; of an x32 call of x86_64, "x32_mount".
    The arguments are {parameter: value} in the call's order.  A value is an int; a str for text, a
    path, names of constants or an address in hexadecimal; a dict for a structure; a list for a
    vector; 0 for a null pointer; "buffer" for a pointer whose content says nothing; and
    {"unreadable": errno name} for memory that could not be read.

    Raises KeyError for another architecture.
    """
    table = _table(arch)
    call = table.names.get(nr)
    if call is None:
        return _unknown(arch, table, nr), {"arg%d" % at: value for at, value in enumerate(args)}
    return call, Call(arch, call, args, peek).arguments()


class _Table:
    """The calls of one architecture, by number, and their parameters."""

    def __init__(self, arch):
        self.names = {number: name for name, number in numbers.table(arch).NR.items()}
        self.signatures = tables.signatures(arch)
        self.variants = {
            call: (at, {name: tables.parameters(text) for name, text in forms.items()})
            for (call, at), forms in VARIANTS.items()}


def _table(arch):
    if arch not in _tables:
        _tables[arch] = _Table(arch)
    return _tables[arch]


def _unknown(arch, table, nr):
    if arch == "x86_64" and nr & X32_BIT and nr ^ X32_BIT in table.names:
        return "x32_" + table.names[nr ^ X32_BIT]
    return "syscall_%d" % nr


def octal(value):
    """Returns a number in octal as C writes it."""
    return "0%o" % value if value else "0"


class Call:
    """One call that is decoded.

    raw: its arguments, as wide as the kernel takes them.
    memory: memory.Memory of the caller.
    """

    def __init__(self, arch, name, args, peek):
        self.arch, self.name, self.memory = arch, name, Memory(peek)
        self.widths = WIDTHS.get(name, "").ljust(6, "?")
        self.raw = [value & _MASKS.get(width, 0xFFFFFFFFFFFFFFFF)
                    for value, width in zip(args, self.widths)]

    def arguments(self):
        """Returns {parameter: value}."""
        out = {}
        for at, (parameter, kind, other) in enumerate(self._signature()):
            try:
                out[parameter] = self.value(kind, at, other)
            except Unreadable as error:
                out[parameter] = error.value()
        return out

    def _signature(self):
        table = _table(self.arch)
        told = table.signatures[self.name]
        if self.name in table.variants:
            at, forms = table.variants[self.name]
            name = self.value(told[at][1], at, None)
            if isinstance(name, str) and name in forms:
                return forms[name]
            if self.name == "ioctl" and isinstance(name, str) and name.startswith(_INTERFACE):
                return told[:2] + (("arg", "ifname", None),)
        return told

    # -- numbers ---------------------------------------------------------------------------------

    def signed(self, at):
        """Returns an argument as a signed number.

        If its width is unknown, it is an int unless the upper half says otherwise.
        """
        value, width = self.raw[at], self.widths[at]
        if width in "ih" or width == "?" and value >> 31 in (0, 1, 0x1FFFFFFFF):
            value &= 0xFFFFFFFF
            return value - (1 << 32) if value >> 31 else value
        return value - (1 << 64) if value >> 63 else value

    def value(self, kind, at, other):
        """Returns the value of one argument.

        kind: of tables.py; at: its index; other: index of a parameter that its meaning depends on,
        or None.  Raises Unreadable.
        """
        if kind[0] == "|":
            return families.flags(self.arch, kind[1:], self.raw[at])
        if kind[0] == "=":
            value = self.signed(at)
            found = families.names(self.arch, kind[1:])
            return found.get(self.raw[at], found.get(value, value))
        return KINDS[kind](self, at, other)

    def descriptor(self, at):
        value = self.raw[at] & 0xFFFFFFFF
        return value - (1 << 32) if value >> 31 else value

    def directory(self, at):
        value = self.descriptor(at)
        return "AT_FDCWD" if value == AT_FDCWD else value

    def signal(self, at):
        return families.one(self.arch, "SIG", self.signed(at))

    # -- memory ----------------------------------------------------------------------------------

    def text(self, at, limit=STRING_MAX):
        return self.memory.text(self.raw[at], limit) if self.raw[at] else 0

    def vector(self, at):
        """Returns the strings of a char *[]; more than ARGV_MAX end in "..."."""
        address, out = self.raw[at], []
        if not address:
            return 0
        for _ in range(ARGV_MAX):
            entry = self.memory.word(address, 8)
            if not entry:
                return out
            try:
                out.append(self.memory.text(entry, ARGV_ENTRY_MAX))
            except Unreadable as error:
                out.append(error.value())
                if error.reason == "E2BIG":
                    return out
            address += 8
        return out + ["..."]

    def pointed(self, at, size):
        """Returns the number that an argument points to.  size: in bytes."""
        return self.memory.word(self.raw[at], size) if self.raw[at] else 0

    def some(self, at, other):
        """Returns a string whose length another argument has."""
        size = min(self.raw[other], STRING_MAX)
        if not self.raw[at] or not size:
            return 0 if not self.raw[at] else ""
        mark = "..." if self.raw[other] > STRING_MAX else ""
        return self.memory.bytes(self.raw[at], size).decode("utf-8", "backslashreplace") + mark

    # -- numbers with a meaning of their own -----------------------------------------------------

    def mode(self, at):
        return octal(self.raw[at])

    def file_mode(self, at):
        kind = self.raw[at] & 0o170000
        name = families.names(self.arch, "S_IF").get(kind)
        if name and not self.raw[at] & ~0o177777:
            return "%s|%s" % (name, octal(self.raw[at] & 0o7777))
        return self.mode(at)

    def open_mode(self, at, other):
        """open(2) has a mode only if it can make a file."""
        makes = self.raw[other] & 0o100 or self.raw[other] & 0o20000000
        return self.mode(at) if makes else 0

    def access(self, at):
        value = self.raw[at]
        names = [name for bit, name in ((4, "R_OK"), (2, "W_OK"), (1, "X_OK")) if value & bit]
        return "|".join(names + (["%#x" % (value & ~7)] if value & ~7 else [])) or "F_OK"

    def open_flags(self, value):
        """Returns the access mode, then the flags."""
        way = ("O_RDONLY", "O_WRONLY", "O_RDWR", "3")[value & 3]
        rest = families.flags(self.arch, "O_", value & ~3)
        return "%s|%s" % (way, rest) if rest else way

    def device(self, at):
        value = self.raw[at]
        major = value >> 8 & 0xFFF
        return "%d:%d" % (major, value & 0xFF | value >> 12 & 0xFFF00)

    def clone(self, at):
        """clone(2)'s flags, with the signal of the child's end in the lowest byte."""
        value = self.raw[at] & 0xFFFFFFFF
        bits, sig = families.flags(self.arch, "CLONE", value & ~0xFF), value & 0xFF
        end = [str(families.one(self.arch, "SIG", sig))] if sig else []
        return "|".join(([bits] if bits else []) + end) or 0

    def map_flags(self, at):
        value = self.raw[at]
        kind = value & 0xF
        parts = ("MAP_SHARED_VALIDATE" if kind == 3 else
                 families.flags(self.arch, "MAPKIND", kind),
                 families.flags(self.arch, "MAP_", value & ~0xF))
        return "|".join(str(part) for part in parts if part) or 0

    def socket_type(self, at):
        value = self.raw[at]
        kind, rest = value & 0xF, families.flags(self.arch, "SOCKFLAG", value & ~0xF)
        name = families.one(self.arch, "SOCK", kind)
        return "%s|%s" % (name, rest) if rest else name

    def protocol(self, at, other):
        domain, value = self.raw[other], self.signed(at)
        if domain in (2, 10):  # AF_INET, AF_INET6
            return families.one(self.arch, "IPPROTO_", value)
        if domain == 16:  # AF_NETLINK
            return families.one(self.arch, "NETLINK_", value)
        if domain == 17:  # AF_PACKET: in network order
            return families.one(self.arch, "ETH_P_", (value & 0xFF) << 8 | value >> 8 & 0xFF)
        return value

    def ioctl(self, at):
        """Returns the request's name, or its parts as asm-generic/ioctl.h packs them."""
        value = self.raw[at]
        name = families.names(self.arch, "ioctl").get(value)
        if name is not None:
            return name
        ways = ("_IOC_NONE", "_IOC_WRITE", "_IOC_READ", "_IOC_READ|_IOC_WRITE")
        return {"dir": ways[value >> 30], "type": "%#x" % (value >> 8 & 0xFF),
                "nr": "%#x" % (value & 0xFF), "size": value >> 16 & 0x3FFF}

    def persona(self, at):
        value = self.raw[at]
        if value == 0xFFFFFFFF:
            return "query"
        base = families.names(self.arch, "PER_").get(value & 0xFF, "%#x" % (value & 0xFF))
        rest = families.flags(self.arch, "PERSONALITY", value & ~0xFF)
        return "%s|%s" % (base, rest) if rest else base

    def quota(self, at):
        value = self.raw[at]
        command, kind = value >> 8, value & 0xFF
        name = "Q_X%d" % (command & 0xFF) if command >> 8 == ord("X") else None
        name = name or families.names(self.arch, "Q_").get(command, "%#x" % command)
        return "%s|%s" % (name, families.one(self.arch, "QUOTA", kind))

    def ipc(self, at):
        value = self.raw[at]
        made = families.flags(self.arch, "IPC_", value & 0o7000)
        return "|".join(([made] if made else []) + [octal(value & 0o777)] + (
            ["%#x" % (value & ~0o7777)] if value & ~0o7777 else []))

    def buffer(self, at):
        return "buffer" if self.raw[at] else 0


#: {kind of tables.py: function(Call, index, index of the other parameter or None)}
KINDS = {
    "i": lambda call, at, _: call.signed(at), "u": lambda call, at, _: call.raw[at],
    "x": lambda call, at, _: "%#x" % call.raw[at],
    "b": lambda call, at, _: call.buffer(at), "fd": lambda call, at, _: call.descriptor(at),
    "at": lambda call, at, _: call.directory(at), "sig": lambda call, at, _: call.signal(at),
    "path": lambda call, at, _: call.text(at, PATH_MAX), "str": lambda call, at, _: call.text(at),
    "argv": lambda call, at, _: call.vector(at),
    "bytes": lambda call, at, other: call.some(at, other),
    "mode": lambda call, at, _: call.mode(at), "fmode": lambda call, at, _: call.file_mode(at),
    "omode": lambda call, at, other: call.open_mode(at, other),
    "access": lambda call, at, _: call.access(at),
    "openflags": lambda call, at, _: call.open_flags(call.raw[at]),
    "dev": lambda call, at, _: call.device(at),
    "clone": lambda call, at, _: call.clone(at), "mmap": lambda call, at, _: call.map_flags(at),
    "socktype": lambda call, at, _: call.socket_type(at),
    "protocol": lambda call, at, other: call.protocol(at, other),
    "ioctl": lambda call, at, _: call.ioctl(at), "persona": lambda call, at, _: call.persona(at),
    "quota": lambda call, at, _: call.quota(at), "ipc": lambda call, at, _: call.ipc(at),
    "byte": lambda call, at, _: call.pointed(at, 1), "int": lambda call, at, _: call.pointed(at, 4),
}
KINDS.update(structs.KINDS)
