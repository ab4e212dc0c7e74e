# SPDX-License-Identifier: Apache-2.0
"""Names of numbers: one constant of a family, or flags of it."""
from ...syscalls import caps
from ..seccomp import constants
from . import constants as named

#: Families of names in seccomp/constants.py: (beginnings or whole names, names to leave out).
_SHARED = {
    "AF_": ("AF_", "AF_LOCAL AF_FILE AF_ROUTE AF_MAX"),
    "AT_": ("AT_", "AT_REMOVEDIR AT_HANDLE_FID AT_STATX_SYNC_TYPE AT_STATX_SYNC_AS_STAT"),
    "ATUNLINK": ("AT_REMOVEDIR", ""),
    "ATHANDLE": ("AT_HANDLE_FID AT_EMPTY_PATH AT_SYMLINK_FOLLOW", ""),
    "CLOCK_": ("CLOCK_", ""),
    "CLONE_": ("CLONE_", "CLONE_NEWTIME"),
    "NEWNS": ("CLONE_", ""),
    "FD_": ("FD_", ""),
    "F_": ("F_", "F_RDLCK F_WRLCK F_UNLCK F_EXLCK F_SHLCK F_GETLK64 F_SETLK64 F_SETLKW64"
           " F_SEAL_EXEC F_SEAL_FUTURE_WRITE F_SEAL_GROW F_SEAL_SEAL F_SEAL_SHRINK F_SEAL_WRITE"),
    "F_SEAL_": ("F_SEAL_", ""),
    "FUTEX_": ("FUTEX_", "FUTEX_32 FUTEX_WAITV_MAX FUTEX_PRIVATE_FLAG FUTEX_CLOCK_REALTIME"
               " FUTEX_OP_ADD FUTEX_OP_ANDN FUTEX_OP_CMP_EQ FUTEX_OP_CMP_GE FUTEX_OP_CMP_GT"
               " FUTEX_OP_CMP_LE FUTEX_OP_CMP_LT FUTEX_OP_CMP_NE FUTEX_OP_OPARG_SHIFT FUTEX_OP_OR"
               " FUTEX_OP_SET FUTEX_OP_XOR"),
    "GRND_": ("GRND_", ""),
    "IPPROTO_": ("IPPROTO_", "IPPROTO_HOPOPTS"),
    "MADV_": ("MADV_", ""),
    "MAP_": ("MAP_", "MAP_ANON MAP_FILE MAP_TYPE MAP_SHARED MAP_PRIVATE MAP_SHARED_VALIDATE"
             " MAP_DROPPABLE MAP_HUGE_MASK MAP_HUGE_SHIFT MAP_HUGE_16GB MAP_HUGE_16KB"
             " MAP_HUGE_16MB MAP_HUGE_1GB MAP_HUGE_1MB MAP_HUGE_256MB MAP_HUGE_2GB MAP_HUGE_2MB"
             " MAP_HUGE_32MB MAP_HUGE_512KB MAP_HUGE_512MB MAP_HUGE_64KB MAP_HUGE_8MB"),
    "MAPKIND": ("MAP_SHARED MAP_PRIVATE MAP_DROPPABLE", ""),
    "MCL_": ("MCL_", ""),
    "MFD_": ("MFD_CLOEXEC MFD_ALLOW_SEALING MFD_HUGETLB MFD_NOEXEC_SEAL MFD_EXEC", ""),
    "MREMAP_": ("MREMAP_", ""),
    "MSG_": ("MSG_", "MSG_TRYHARD MSG_BATCH MSG_WAITFORONE"),
    "O_": ("O_", "O_ACCMODE O_RDONLY O_WRONLY O_RDWR O_NDELAY O_FSYNC O_RSYNC"),
    "PRIO_": ("PRIO_PROCESS PRIO_PGRP PRIO_USER", ""),
    "PRCTL": ("PR_SET_ PR_GET_ PR_CAPBSET_ PR_TASK_ PR_MPX_ PR_CAP_AMBIENT PR_MCE_KILL"
              " PR_MCE_KILL_GET PR_SVE_SET_VL PR_SVE_GET_VL PR_SME_SET_VL PR_SME_GET_VL"
              " PR_SCHED_CORE PR_PAC_RESET_KEYS PR_PAC_SET_ENABLED_KEYS PR_PAC_GET_ENABLED_KEYS"
              " PR_RISCV_V_SET_CONTROL PR_RISCV_V_GET_CONTROL PR_RISCV_SET_ICACHE_FLUSH_CTX"
              " PR_PPC_GET_DEXCR PR_PPC_SET_DEXCR",
              "PR_SET_MM_ARG_END PR_SET_MM_ARG_START PR_SET_MM_AUXV PR_SET_MM_BRK"
              " PR_SET_MM_END_CODE PR_SET_MM_END_DATA PR_SET_MM_ENV_END PR_SET_MM_ENV_START"
              " PR_SET_MM_EXE_FILE PR_SET_MM_MAP PR_SET_MM_MAP_SIZE PR_SET_MM_START_BRK"
              " PR_SET_MM_START_CODE PR_SET_MM_START_DATA PR_SET_MM_START_STACK"
              " PR_SET_VMA_ANON_NAME"),
    "PR_SET_MM_": ("PR_SET_MM_", ""),
    "PR_CAP_AMBIENT_": ("PR_CAP_AMBIENT_", ""),
    "PROT_": ("PROT_", ""),
    "RLIMIT_": ("RLIMIT_", "RLIMIT_OFILE RLIMIT_NLIMITS"),
    "SECCOMP_": ("SECCOMP_SET_ SECCOMP_GET_", ""),
    "SECCOMP_FILTER_FLAG_": ("SECCOMP_FILTER_FLAG_", ""),
    "SEEK_": ("SEEK_", "SEEK_MAX"),
    "SHUT_": ("SHUT_", ""),
    "SIG": ("SIG", "SIGCLD SIGIOT SIGPOLL"),
    "SOCK": ("SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_RDM SOCK_SEQPACKET SOCK_DCCP SOCK_PACKET", ""),
    "SOCKFLAG": ("SOCK_CLOEXEC SOCK_NONBLOCK", ""),
    "S_IF": ("S_IF", "S_IFMT"),
}
#: Flags that one parameter takes from several families.
_JOINED = {"UMOUNT": ("MNT_", "UMOUNT_"), "CLONE": ("CLONE_", "CLONE3"),
           "CLONE_ARGS": ("NEWNS", "CLONE3")}
_NAMED = {
    "OPENTREE": "OPEN_TREE_CLONE=1 AT_SYMLINK_NOFOLLOW=0x100 AT_NO_AUTOMOUNT=0x800"
                " AT_EMPTY_PATH=0x1000 AT_RECURSIVE=0x8000 OPEN_TREE_CLOEXEC=0x80000",
    "USERFAULT": "UFFD_USER_MODE_ONLY=1 O_NONBLOCK=0x800 O_CLOEXEC=0x80000",
}
#: The beginnings of ioctl requests in seccomp/constants.py.
_IOCTL = ("TC", "TIOC", "FIO")
_ALIASES = ("TIOCINQ", "TIOCSER_TEMT")
_known = {}


def names(arch, family):
    """Returns {number: name} of a family.  Raises KeyError if there is none."""
    key = arch, family
    if key not in _known:
        _known[key] = _read(arch, family)
    return _known[key]


def _read(arch, family):
    if family == "CAP_":
        return {number: "CAP_" + name.upper() for number, name in enumerate(caps.NAMES)}
    if family in _JOINED:
        out = {}
        for part in _JOINED[family]:
            out.update(names(arch, part))
        return out
    out = {}
    if family in _SHARED or family == "ioctl":
        heads, others = _SHARED.get(family, (" ".join(_IOCTL), " ".join(_ALIASES)))
        heads, others = heads.split(), set(others.split())
        for name, value in sorted(constants.table(arch).items()):
            if name not in others and any(_begins(name, head) for head in heads):
                out.setdefault(value, name)
    prefix = family if family.endswith("_") else ""
    words = [(prefix + word).split("=") for word in named.FAMILIES.get(family, "").split()]
    words += [(prefix + word).split("=") for word in named.OWN[arch].get(family, "").split()]
    words += [word.split("=") for word in _NAMED.get(family, "").split()]
    for name, value in words:
        out.setdefault(int(value, 0), name)
    if not out:
        raise KeyError(family)
    return out
    return out


def _begins(name, head):
    """Whether a name belongs to a head of _SHARED: a beginning, or a whole name."""
    whole = not head.endswith("_") and head not in _IOCTL + ("SIG", "S_IF")
    return name == head if whole else name.startswith(head)


def one(arch, family, value):
    """Returns the name of a number, or the number itself if it has none."""
    return names(arch, family).get(value, value)


def flags(arch, family, value):
    """Returns the names of the bits, lowest first and joined by `|`; 0 for none.

    Bits without a name come last, in hexadecimal.
    """
    if value == 0:
        return 0
    found, left = [], value
    for mask, name in _by_size(arch, family):
        if left & mask == mask:
            found.append((mask, name))
            left &= ~mask
    text = [name for _, name in sorted(found)]
    return "|".join(text + (["%#x" % left] if left else []))


def _by_size(arch, family):
    """Returns [(number, name)]; names of several bits (O_SYNC) come before those of one."""
    key = arch, family, "flags"
    if key not in _known:
        _known[key] = sorted((item for item in names(arch, family).items() if item[0] > 0),
                             key=lambda item: (-bin(item[0]).count("1"), item[0]))
    return _known[key]
