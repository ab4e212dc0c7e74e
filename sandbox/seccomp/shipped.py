# SPDX-License-Identifier: Apache-2.0
"""The shipped system call policies as a launch takes them: bytes.  Nothing is compiled, nor is anything imported that could."""

NAMES = ("default", "strict", "process", "process-nosignal", "debug")
ARCHES = ("x86_64", "aarch64")
#: Filters that stand beside a policy.
BESIDE = ("setid", "core")


def program(name, arch):
    """The frozen filter of a policy, as the bytes of a struct sock_filter array.

    name: one of NAMES ("process-nosignal": `process` for kernels below Landlock ABI 6, where the filter must refuse
    signals). arch: "x86_64" or "aarch64", as os.uname().machine says.

    Raises ValueError for an unknown name, KeyError for an architecture without filters.
    """
    _known(name)
    return _frozen(name, arch)


def digest(name, arch):
    """The SHA-256 of a policy's program in hex, written down with it: computing it would cost a start 2 ms."""
    return _table(name).DIGESTS[arch, name]


def setid_program(arch):
    """The frozen second filter for sandboxes that can write a host directory: refuses set-id mode bits.

    It lets everything else through, so that it can stand beside any policy, also one from a file.
    Raises KeyError for an architecture without filters.
    """
    return _frozen("setid", arch)


def core_program(arch):
    """The frozen filter that keeps RLIMIT_CORE as it is, beside a policy that isn't a shipped one: those do so themselves.

    It lets everything else through. Raises KeyError for an architecture without filters.
    """
    return _frozen("core", arch)


def _known(name):
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
    """The name of a filter in results and tests: its SHA-256."""
    import hashlib  # 2 ms, and only plan and tests ask
    return hashlib.sha256(program).hexdigest()
