# SPDX-License-Identifier: Apache-2.0
"""Returns the shipped system call policies as bytes.  Nothing is compiled for that."""

NAMES = ("default", "strict", "process", "process-nosignal", "debug")
ARCHES = ("x86_64", "aarch64")
#: Filters that are added to a policy.
BESIDE = ("setid", "core")


def program(name, arch):
    """Returns a policy's filter, the bytes of a struct sock_filter array.

    name: one of NAMES. "process-nosignal" is `process` below Landlock ABI 6, where the filter must
        refuse signals.
    arch: "x86_64" or "aarch64", as of os.uname().machine.

    Raises ValueError for an unknown name, KeyError for an architecture without filters.
    """
    check_name(name)
    return _frozen(name, arch)


def digest(name, arch):
    """Returns the SHA-256 of a policy's program in hex.

    It is written down with the program: computing it would cost a start 2 ms.
    """
    return _table(name).DIGESTS[arch, name]


def setid_program(arch):
    """Returns the filter that refuses set-id mode bits, for sandboxes with writable host files.

    It allows everything else, so it can be added to any policy, also one from a file. Raises
    KeyError for an architecture without filters.
    """
    return _frozen("setid", arch)


def core_program(arch):
    """Returns the filter that keeps RLIMIT_CORE, for policies that are no shipped ones.

    The shipped ones do that themselves. It allows everything else. Raises KeyError for an
    architecture without filters.
    """
    return _frozen("core", arch)


def of_process_tier(abi):
    """Returns the name of the process tier's policy.  abi: of this kernel's Landlock."""
    return "process" if abi >= 6 else "process-nosignal"


def check_name(name):
    """Raises ValueError for a name that is not one of NAMES."""
    if name not in NAMES:
        raise ValueError("no system call policy is called %r: there are %s" %
                         (name, ", ".join(NAMES)))


def _frozen(name, arch):
    if arch not in ARCHES:
        raise KeyError("no system call filter for architecture %r: there are %s" %
                       (arch, ", ".join(ARCHES)))
    return bytes.fromhex(_table(name).PROGRAMS[arch, name])


def _table(name):
    if name in ("default", "setid"):
        from . import shipped_bytes as table
    else:
        from . import shipped_named as table
    return table


def digest_of(program):
    """Returns a filter's name in results and tests: its SHA-256 in hex."""
    import hashlib  # 2 ms, and only plan and tests ask
    return hashlib.sha256(program).hexdigest()
