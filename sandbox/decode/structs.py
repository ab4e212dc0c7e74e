# SPDX-License-Identifier: Apache-2.0
"""The structures that system calls point to, as far as they show what was attempted.

Each function takes (call, index, index of the parameter with the size or count) and returns a dict
or a list.  KINDS has them with 0 for a null pointer.  Layouts are those of the kernel's
include/uapi, the same on both 64-bit architectures.
"""
import struct

from . import families
from .memory import shown

#: How many entries of an iovec[] are read.
_VECTORS = 8


def _address(value):
    return "%#x" % value


def _quad(raw):
    return ".".join("%d" % byte for byte in raw)


def _six(raw):
    """Returns an IPv6 address by RFC 5952.  socket.inet_ntop would need an import."""
    groups = struct.unpack("!8H", raw)
    best = (0, 0)
    for start in range(8):
        end = start
        while end < 8 and not groups[end]:
            end += 1
        if end - start > max(best[1] - best[0], 1):
            best = (start, end)
    if raw[:12] == b"\0" * 10 + b"\xff\xff":
        return "::ffff:" + _quad(raw[12:])
    text = ["%x" % group for group in groups]
    if best == (0, 0):
        return ":".join(text)
    return ":".join(text[:best[0]]) + "::" + ":".join(text[best[1]:])


def socket_address(arch, raw):
    """Returns a struct sockaddr as {"family", ...}.  raw: bytes, at least those that were read.

    unix(7), ip(7), ipv6(7), netlink(7), packet(7), vsock(7)
    """
    if len(raw) < 2:
        return {"bytes": raw.hex()}
    family = struct.unpack_from("=H", raw)[0]
    out = {"family": families.one(arch, "AF_", family)}
    if family == 1:
        path = raw[2:]
        if not path:
            out["path"] = ""
        elif path[:1] == b"\0":  # abstract; an unnamed address is shorter
            out["abstract"] = shown(path[1:])
        else:
            out["path"] = shown(path.split(b"\0")[0])
    elif family == 2 and len(raw) >= 8:
        out.update(address=_quad(raw[4:8]), port=struct.unpack_from("!H", raw, 2)[0])
    elif family == 10 and len(raw) >= 24:
        out.update(address=_six(raw[8:24]), port=struct.unpack_from("!H", raw, 2)[0])
        if len(raw) >= 28 and any(raw[24:28]):
            out["scope"] = struct.unpack_from("=I", raw, 24)[0]
    elif family == 16 and len(raw) >= 12:
        out.update(zip(("pid", "groups"), struct.unpack_from("=II", raw, 4)))
    elif family == 17 and len(raw) >= 8:
        protocol = struct.unpack_from("!H", raw, 2)[0]
        out["ifindex"] = struct.unpack_from("=i", raw, 4)[0]
        out["protocol"] = families.one(arch, "ETH_P_", protocol)
    elif family == 40 and len(raw) >= 12:
        out.update(zip(("port", "cid"), struct.unpack_from("=II", raw, 4)))
    elif family == 38 and len(raw) >= 88:  # AF_ALG: type, feat, mask, name
        out.update(type=shown(raw[2:16].split(b"\0")[0]), name=shown(raw[24:88].split(b"\0")[0]))
    elif len(raw) > 2:
        out["bytes"] = raw[2:34].hex()
    return out


def sockaddr(call, at, other):
    """A struct sockaddr.  connect(2)"""
    size = min(call.raw[other] & 0xFFFFFFFF, 128)  # sockaddr_storage: the kernel takes no more
    return socket_address(call.arch, call.memory.bytes(call.raw[at], size))


def message(call, at, _):
    """The address in a struct msghdr (sendmsg(2)); of several (sendmmsg(2)), the first one's."""
    name, size, _, count = call.memory.fields("=QIxxxxQQ", call.raw[at])
    out = {"iovlen": count}
    if name:
        out["name"] = socket_address(call.arch, call.memory.bytes(name, min(size, 128)))
    return out


def _parts(call, at, other):
    count = call.raw[other]
    for index in range(min(count, _VECTORS)):
        yield call.memory.fields("=QQ", call.raw[at] + 16 * index)


def vectors(call, at, other):
    """The places in another process that a struct iovec[] names, the first eight.

    process_vm_readv(2)
    """
    out = [{"base": _address(base), "len": size} for base, size in _parts(call, at, other)]
    return out + (["..."] if call.raw[other] > _VECTORS else [])


def vector_length(call, at, other):
    """The bytes that the first eight of a struct iovec[] hold: their places say nothing."""
    return {"len": sum(size for _, size in _parts(call, at, other))}


def clone_args(call, at, other):
    """struct clone_args of 64, 80 or 88 bytes; a longer one is read up to there.  clone3(2)"""
    size = call.raw[other]
    if size < 64:
        return {"size": size}
    raw = call.memory.bytes(call.raw[at], min(size, 88) & ~7)
    words = struct.unpack("=%dQ" % (len(raw) // 8), raw)
    out = {"flags": families.flags(call.arch, "CLONE_ARGS", words[0]),
           "exit_signal": families.one(call.arch, "SIG", words[4])}
    if len(words) > 9 and words[9]:
        out["set_tid_size"] = words[9]
    if len(words) > 10 and words[0] & 0x200000000:
        out["cgroup"] = words[10]
    return out


def open_how(call, at, other):
    """struct open_how.  openat2(2)"""
    if call.raw[other] < 24:
        return {"size": call.raw[other]}
    flags, mode, resolve = call.memory.fields("=QQQ", call.raw[at])
    out = {"flags": call.open_flags(flags)}
    if flags & 0o20000100:  # O_CREAT, __O_TMPFILE
        out["mode"] = "0%o" % mode
    out["resolve"] = families.flags(call.arch, "RESOLVE_", resolve)
    return out


def mount_attr(call, at, other):
    """struct mount_attr.  mount_setattr(2)"""
    if call.raw[other] < 32:
        return {"size": call.raw[other]}
    put, clear, propagation, namespace = call.memory.fields("=QQQQ", call.raw[at])
    out = {"attr_set": families.flags(call.arch, "MOUNT_ATTR_", put),
           "attr_clr": families.flags(call.arch, "MOUNT_ATTR_", clear),
           "propagation": families.flags(call.arch, "MS_", propagation)}
    if put & 0x100000:  # MOUNT_ATTR_IDMAP
        out["userns_fd"] = namespace
    return out


def mount_id(call, at, _):
    """struct mnt_id_req.  statmount(2), listmount(2), Linux 6.8"""
    size, _, mount, parameter = call.memory.fields("=IIQQ", call.raw[at])
    return {"size": size, "mnt_id": _address(mount), "param": _address(parameter)}


def bpf(call, at, other):
    """What a command of bpf(2) makes: a map, a program, a pinned path."""
    command, size = call.raw[0], call.raw[other]
    if command == 0 and size >= 16:  # BPF_MAP_CREATE
        kind, key, value, most = call.memory.fields("=IIII", call.raw[at])
        return {"map_type": families.one(call.arch, "BPF_MAP_TYPE_", kind), "key_size": key,
                "value_size": value, "max_entries": most}
    if command == 5 and size >= 24:  # BPF_PROG_LOAD
        kind, count, _, licence = call.memory.fields("=IIQQ", call.raw[at])
        out = {"prog_type": families.one(call.arch, "BPF_PROG_TYPE_", kind), "insn_cnt": count,
               "license": call.memory.text(licence, 128) if licence else 0}
        if size >= 64:
            out["prog_name"] = shown(call.memory.bytes(call.raw[at] + 48, 16).split(b"\0")[0])
        return out
    if command in (6, 7) and size >= 8:  # BPF_OBJ_PIN, BPF_OBJ_GET
        path = call.memory.word(call.raw[at], 8)
        return {"pathname": call.memory.text(path, 4096) if path else 0}
    return "buffer"


def perf_attr(call, at, _):
    """The head of struct perf_event_attr.  perf_event_open(2)"""
    kind, size, config = call.memory.fields("=IIQ", call.raw[at])
    return {"type": families.one(call.arch, "PERF_TYPE_", kind), "size": size,
            "config": _address(config)}


def file_handle(call, at, _):
    """struct file_handle: the handle is the file system's own, mostly an inode's number.

    open_by_handle_at(2)
    """
    size, kind = call.memory.fields("=Ii", call.raw[at])
    found = call.memory.bytes(call.raw[at] + 8, min(size, 128))  # MAX_HANDLE_SZ
    return {"handle_bytes": size, "handle_type": kind, "f_handle": found.hex()}


def io_uring(call, at, _):
    """struct io_uring_params.  io_uring_setup(2)"""
    _, _, flags = call.memory.fields("=III", call.raw[at])
    return {"flags": families.flags(call.arch, "IORING_SETUP_", flags)}


def filter_program(call, at, _):
    """struct sock_fprog.  seccomp(2)"""
    return {"len": call.memory.fields("=HxxxxxxQ", call.raw[at])[0]}


def landlock(call, at, other):
    """struct landlock_ruleset_attr.  landlock_create_ruleset(2)"""
    size = call.raw[other]
    if size < 8:
        return {"size": size}
    kinds = (("handled_access_fs", "LANDLOCK_ACCESS_FS_"),
             ("handled_access_net", "LANDLOCK_ACCESS_NET_"), ("scoped", "LANDLOCK_SCOPE_"))
    raw = call.memory.bytes(call.raw[at], min(size, 24) & ~7)
    words = struct.unpack("=%dQ" % (len(raw) // 8), raw)
    return {name: families.flags(call.arch, family, value)
            for (name, family), value in zip(kinds, words)}


def sched_attr(call, at, _):
    """struct sched_attr.  sched_setattr(2)"""
    _, policy, flags, nice, priority = call.memory.fields("=IIQiI", call.raw[at])
    return {"sched_policy": families.one(call.arch, "SCHED_", policy),
            "sched_flags": "%#x" % flags, "sched_nice": nice, "sched_priority": priority}


def limit(call, at, _):
    """struct rlimit; "infinity" for RLIM_INFINITY.  setrlimit(2)"""
    now, most = call.memory.fields("=QQ", call.raw[at])
    return {"rlim_cur": now if now + 1 >> 64 == 0 else "infinity",
            "rlim_max": most if most + 1 >> 64 == 0 else "infinity"}


def capability_sets(call, at, _):
    """struct __user_cap_data_struct, version 3.  capset(2)"""
    words = call.memory.fields("=6I", call.raw[at])
    return {name: "%#x" % (words[index] | words[index + 3] << 32)
            for index, name in enumerate(("effective", "permitted", "inheritable"))}


def _moment(part):
    def read(call, at, _):
        seconds, rest = call.memory.fields("=qq", call.raw[at])
        return {"tv_sec": seconds, part: rest}
    return read


def clock_change(call, at, _):
    """The fields of a struct timex that are to be set.  adjtimex(2)"""
    modes = call.memory.fields("=I", call.raw[at])[0]
    return {"modes": families.flags(call.arch, "ADJ_", modes)}


def owner(call, at, _):
    """struct f_owner_ex.  fcntl(2)"""
    kind, pid = call.memory.fields("=ii", call.raw[at])
    return {"type": families.one(call.arch, "F_OWNER_", kind), "pid": pid}


def interface(call, at, _):
    """The interface's name, with which a struct ifreq begins.  netdevice(7)"""
    return {"ifr_name": shown(call.memory.bytes(call.raw[at], 16).split(b"\0")[0])}


def _or_null(function):
    return lambda call, at, other: function(call, at, other) if call.raw[at] else 0


KINDS = {kind: _or_null(function) for kind, function in {
    "sockaddr": sockaddr, "msghdr": message, "iovec": vectors, "iovlen": vector_length,
    "clone_args": clone_args, "open_how": open_how, "mount_attr": mount_attr, "mnt_id": mount_id,
    "bpf": bpf, "perf_attr": perf_attr, "file_handle": file_handle, "io_uring": io_uring,
    "fprog": filter_program, "landlock": landlock, "sched_attr": sched_attr, "rlimit": limit,
    "capset": capability_sets, "timespec": _moment("tv_nsec"), "timeval": _moment("tv_usec"),
    "timex": clock_change, "owner_ex": owner, "ifname": interface}.items()}
