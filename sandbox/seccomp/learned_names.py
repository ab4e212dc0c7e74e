# SPDX-License-Identifier: Apache-2.0
"""The C names of the arguments that a learned policy holds on to, as policy_constants has them: what is written here is
read back there."""
from . import constants

#: The names of one argument, where others have the same value: F_RDLCK is 0 as F_DUPFD is.
_FCNTL = """F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW F_SETOWN F_GETOWN F_SETSIG F_GETSIG F_SETOWN_EX
F_GETOWN_EX F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW F_SETLEASE F_GETLEASE F_NOTIFY F_DUPFD_QUERY F_CREATED_QUERY F_DUPFD_CLOEXEC
F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS F_GET_SEALS F_GET_RW_HINT F_SET_RW_HINT F_GET_FILE_RW_HINT F_SET_FILE_RW_HINT""".split()
_PRCTL = """PR_CAPBSET_READ PR_CAPBSET_DROP PR_CAP_AMBIENT PR_MCE_KILL PR_MCE_KILL_GET PR_MPX_ENABLE_MANAGEMENT
PR_MPX_DISABLE_MANAGEMENT PR_PAC_RESET_KEYS PR_PAC_SET_ENABLED_KEYS PR_PAC_GET_ENABLED_KEYS PR_SCHED_CORE PR_SVE_SET_VL
PR_SVE_GET_VL PR_SME_SET_VL PR_SME_GET_VL PR_TASK_PERF_EVENTS_DISABLE PR_TASK_PERF_EVENTS_ENABLE""".split()
_NOT_AN_OPTION = ("PR_SET_MM_", "PR_SET_VMA_")
_NOT_A_DOMAIN = ("AF_FILE", "AF_LOCAL", "AF_ROUTE", "AF_MAX")
_TYPES = "SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_RDM SOCK_SEQPACKET SOCK_DCCP SOCK_PACKET".split()
_SIGNAL_ALIASES = ("SIGCLD", "SIGIOT", "SIGPOLL")
_CSIGNAL = 0xFF  # linux/sched.h
_FIRST_IOCTL = 0x5401


class Names:
    """Of one architecture."""

    def __init__(self, arch):
        table = constants.table(arch)

        def values(chosen):
            return {table[name]: name for name in sorted(chosen, reverse=True)}  # of several, the first
        self._ioctl = values(name for name in table if name.startswith(("TC", "TIOC", "FIO")) and
                             table[name] >= _FIRST_IOCTL)
        self._fcntl = values(name for name in _FCNTL if name in table)
        self._prctl = values([name for name in table if name.startswith(("PR_GET_", "PR_SET_")) and
                              not name.startswith(_NOT_AN_OPTION)] + [name for name in _PRCTL if name in table])
        self._domains = values(name for name in table if name.startswith("AF_") and name not in _NOT_A_DOMAIN)
        self._types = values(_TYPES)
        self._type_flags = [(table[name], name) for name in ("SOCK_NONBLOCK", "SOCK_CLOEXEC")]
        # CLONE_NEWTIME lies in the signal's byte, and clone(2) takes it for that.
        self._clone = sorted((table[name], name) for name in table if name.startswith("CLONE_") and table[name] > _CSIGNAL)
        self._signals = values(name for name in table if name.startswith("SIG") and name not in _SIGNAL_ALIASES)

    def value(self, call, index, value):
        """A value of an argument as a policy's text has it: a name, names joined by |, or a number."""
        if call == "clone" and index == 0:
            number = value & _CSIGNAL
            return self._flags(value & ~_CSIGNAL, self._clone, [], [self._signals.get(number, "%#x" % number)] * bool(number))
        if call == "socket" and index == 1:
            kind = value & 0xF
            return self._flags(value & ~0xF, self._type_flags, [self._types.get(kind, "%#x" % kind)], [])
        known = {("socket", 0): self._domains, ("ioctl", 1): self._ioctl, ("prctl", 0): self._prctl,
                 ("fcntl", 1): self._fcntl}.get((call, index), {})
        return known.get(value, "%#x" % value if value > 9 else "%d" % value)

    @staticmethod
    def _flags(value, table, before, after):
        words = list(before)
        for bit, name in table:
            if value & bit:
                words.append(name)
                value &= ~bit
        return "|".join(words + ["%#x" % value] * bool(value) + after) or "0"
