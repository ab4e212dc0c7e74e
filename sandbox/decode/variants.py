# SPDX-License-Identifier: Apache-2.0
"""Calls whose other parameters depend on one of them, such as prctl's option.  As tables.py."""

WHO, KEY = "option:=PRCTL", "operation:=KEYCTL_ key:=KEY_SPEC_"
#: {(call, index of the deciding parameter): {its value: the parameters then}}
VARIANTS = {
    ("prctl", 0): {
        "PR_SET_PDEATHSIG": WHO + " sig", "PR_SET_DUMPABLE": WHO + " dumpable:i",
        "PR_SET_KEEPCAPS": WHO + " state:i", "PR_SET_NAME": WHO + " name",
        "PR_SET_SECCOMP": WHO + " mode:=SECCOMP_MODE_ filter:fprog",
        "PR_CAPBSET_READ": WHO + " cap:=CAP_", "PR_CAPBSET_DROP": WHO + " cap:=CAP_",
        "PR_SET_SECUREBITS": WHO + " bits:x",
        "PR_SET_MM": WHO + " suboption:=PR_SET_MM_ addr arg4:x arg5:x",
        "PR_SET_CHILD_SUBREAPER": WHO + " set:i", "PR_SET_NO_NEW_PRIVS": WHO + " value:i",
        "PR_CAP_AMBIENT": WHO + " operation:=PR_CAP_AMBIENT_ cap:=CAP_",
        "PR_SET_PTRACER": WHO + " pid", "PR_SET_TIMERSLACK": WHO + " slack:u"},
    ("seccomp", 0): {
        "SECCOMP_SET_MODE_FILTER": "operation:=SECCOMP_ flags:|SECCOMP_FILTER_FLAG_ args:fprog"},
    ("fsconfig", 1): {
        "FSCONFIG_SET_FLAG": "fd cmd:=FSCONFIG_ key:str",
        "FSCONFIG_SET_STRING": "fd cmd:=FSCONFIG_ key:str value:str",
        "FSCONFIG_SET_PATH": "fd cmd:=FSCONFIG_ key:str value:path aux:at",
        "FSCONFIG_SET_PATH_EMPTY": "fd cmd:=FSCONFIG_ key:str value:path aux:at",
        "FSCONFIG_SET_FD": "fd cmd:=FSCONFIG_ key:str value:b aux:fd",
        "FSCONFIG_CMD_CREATE": "fd cmd:=FSCONFIG_", "FSCONFIG_CMD_CREATE_EXCL": "fd cmd:=FSCONFIG_",
        "FSCONFIG_CMD_RECONFIGURE": "fd cmd:=FSCONFIG_"},
    ("keyctl", 0): {
        "KEYCTL_GET_KEYRING_ID": KEY + " create:i",
        "KEYCTL_JOIN_SESSION_KEYRING": "operation:=KEYCTL_ name",
        "KEYCTL_UPDATE": KEY + " payload:b plen:u", "KEYCTL_REVOKE": KEY,
        "KEYCTL_CHOWN": KEY + " uid:i gid:i", "KEYCTL_SETPERM": KEY + " perm:x",
        "KEYCTL_DESCRIBE": KEY + " buf size", "KEYCTL_CLEAR": KEY,
        "KEYCTL_LINK": KEY + " keyring:=KEY_SPEC_", "KEYCTL_UNLINK": KEY + " keyring:=KEY_SPEC_",
        "KEYCTL_SEARCH":
            "operation:=KEYCTL_ keyring:=KEY_SPEC_ type:str description:str dest:=KEY_SPEC_",
        "KEYCTL_READ": KEY + " buf size", "KEYCTL_SET_TIMEOUT": KEY + " timeout:u",
        "KEYCTL_INVALIDATE": KEY, "KEYCTL_GET_SECURITY": KEY + " buf size",
        "KEYCTL_GET_PERSISTENT": "operation:=KEYCTL_ uid:i dest:=KEY_SPEC_",
        "KEYCTL_SET_REQKEY_KEYRING": "operation:=KEYCTL_ default:=KEY_REQKEY_DEFL_",
        "KEYCTL_ASSUME_AUTHORITY": KEY,
        "KEYCTL_SESSION_TO_PARENT": "operation:=KEYCTL_",
        "KEYCTL_RESTRICT_KEYRING":
            "operation:=KEYCTL_ keyring:=KEY_SPEC_ type:str restriction:str"},
    ("fcntl", 1): {
        "F_GETFD": "fd cmd:=F_", "F_GETFL": "fd cmd:=F_", "F_GETOWN": "fd cmd:=F_",
        "F_SETFL": "fd cmd:=F_ arg:openflags", "F_SETOWN": "fd cmd:=F_ arg:i",
        "F_SETOWN_EX": "fd cmd:=F_ arg:owner_ex", "F_SETSIG": "fd cmd:=F_ sig",
        "F_SETFD": "fd cmd:=F_ arg:|FD_", "F_DUPFD": "fd cmd:=F_ arg:i",
        "F_DUPFD_CLOEXEC": "fd cmd:=F_ arg:i"},
    ("reboot", 2): {
        "LINUX_REBOOT_CMD_RESTART2":
            "magic:=LINUX_REBOOT_MAGIC magic2:=LINUX_REBOOT_MAGIC op:=LINUX_REBOOT_CMD_ arg:str"},
    ("ioctl", 1): {
        "TIOCSTI": "fd request:ioctl arg:byte", "TIOCLINUX": "fd request:ioctl arg:byte",
        "TIOCSETD": "fd request:ioctl arg:int", "FICLONE": "fd request:ioctl src_fd:fd",
        "FIONBIO": "fd request:ioctl arg:int",
        "TIOCSCTTY": "fd request:ioctl arg:i"},
    ("ptrace", 0): {
        "PTRACE_TRACEME": "request:=PTRACE_", "PTRACE_ATTACH": "request:=PTRACE_ pid",
        "PTRACE_SEIZE": "request:=PTRACE_ pid addr data:|PTRACE_O_",
        "PTRACE_SETOPTIONS": "request:=PTRACE_ pid addr data:|PTRACE_O_"},
}
