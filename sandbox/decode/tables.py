# SPDX-License-Identifier: Apache-2.0
"""The parameters of every system call of both architectures, and what each means.

One call a line: its name, and `parameter:kind` in the kernel's order.  Names are those of the man
pages, section 2.  Kinds are

    i int, u unsigned, x hexadecimal, fd, at (dirfd), path, str, mode, dev, sig, argv
    b           a buffer: only whether there is one
    |FAMILY     flags, =FAMILY one of them: families of constants.py and seccomp/constants.py
    and the structures of structs.py, with the index of another parameter behind `@`.

A parameter without a kind has that of USUAL, else i.
"""

USUAL = {"fd": "fd", "dirfd": "at", "olddirfd": "at", "newdirfd": "at", "path": "path",
         "oldpath": "path", "newpath": "path", "target": "path", "mode": "mode", "dev": "dev",
         "sig": "sig", "buf": "b", "len": "u", "size": "u", "count": "u", "addr": "x",
         "length": "u", "offset": "i", "argv": "argv", "envp": "b", "name": "str", "value": "b",
         "sv": "b", "iov": "b", "iovcnt": "u", "list": "b", "addrlen": "i", "clockid": "=CLOCK_",
         "pidfd": "fd", "sigmask": "b", "sigsetsize": "u", "mask": "b", "info": "b",
         "timeout": "b", "rusage": "b", "statbuf": "b"}

CALLS = """
read fd buf count
write fd buf count
readv fd iov iovcnt
writev fd iov iovcnt
pread64 fd buf count offset
pwrite64 fd buf count offset
preadv fd iov iovcnt pos_l:u pos_h:u
pwritev fd iov iovcnt pos_l:u pos_h:u
preadv2 fd iov iovcnt pos_l:u pos_h:u flags:x
pwritev2 fd iov iovcnt pos_l:u pos_h:u flags:x
lseek fd offset whence:=SEEK_
close fd
close_range first:u last:u flags:x
dup fd
dup2 oldfd:fd newfd:fd
dup3 oldfd:fd newfd:fd flags:|O_
fcntl fd cmd:=F_ arg:x
flock fd operation:i
pipe pipefd:b
pipe2 pipefd:b flags:|O_
sendfile out_fd:fd in_fd:fd offset:b count
splice fd_in:fd off_in:b fd_out:fd off_out:b len flags:x
tee fd_in:fd fd_out:fd len flags:x
vmsplice fd iov iovcnt flags:x
copy_file_range fd_in:fd off_in:b fd_out:fd off_out:b len flags:x
open path flags:openflags mode:omode@1
openat dirfd path flags:openflags mode:omode@2
openat2 dirfd path how:open_how@3 size
creat path mode
stat path statbuf
lstat path statbuf
fstat fd statbuf
newfstatat dirfd path statbuf flags:|AT_
statx dirfd path flags:|AT_ mask:x statxbuf:b
statfs path buf
fstatfs fd buf
access path mode:access
faccessat dirfd path mode:access
faccessat2 dirfd path mode:access flags:|AT_
readlink path buf size
readlinkat dirfd path buf size
getdents fd buf count
getdents64 fd buf count
getcwd buf size
chdir path
fchdir fd
truncate path length
ftruncate fd length
fallocate fd mode:x offset len
rename oldpath newpath
renameat olddirfd oldpath newdirfd newpath
renameat2 olddirfd oldpath newdirfd newpath flags:|RENAME_
mkdir path mode
mkdirat dirfd path mode
rmdir path
link oldpath newpath
linkat olddirfd oldpath newdirfd newpath flags:|AT_
symlink target linkpath:path
symlinkat target newdirfd linkpath:path
unlink path
unlinkat dirfd path flags:|ATUNLINK
umask mask:mode
utime path times:b
utimes path times:b
futimesat dirfd path times:b
utimensat dirfd path times:b flags:|AT_
chmod path mode
fchmod fd mode
fchmodat dirfd path mode
fchmodat2 dirfd path mode flags:|AT_
chown path owner:i group:i
lchown path owner:i group:i
fchown fd owner:i group:i
fchownat dirfd path owner:i group:i flags:|AT_
mknod path mode:fmode dev
mknodat dirfd path mode:fmode dev
setxattr path name value size flags:|XATTR_
lsetxattr path name value size flags:|XATTR_
fsetxattr fd name value size flags:|XATTR_
setxattrat dirfd path at_flags:|AT_ name args:b size
getxattr path name value size
lgetxattr path name value size
fgetxattr fd name value size
getxattrat dirfd path at_flags:|AT_ name args:b size
listxattr path list size
llistxattr path list size
flistxattr fd list size
listxattrat dirfd path at_flags:|AT_ list size
removexattr path name
lremovexattr path name
fremovexattr fd name
removexattrat dirfd path at_flags:|AT_ name
file_getattr dirfd path attr:b size at_flags:|AT_
file_setattr dirfd path attr:b size at_flags:|AT_
fsync fd
fdatasync fd
sync
syncfs fd
sync_file_range fd offset nbytes:i flags:x
readahead fd offset count
fadvise64 fd offset len:i advice:i
cachestat fd range:b cstat:b flags:x
inotify_init
inotify_init1 flags:|O_
inotify_add_watch fd path mask:x
inotify_rm_watch fd wd:i
fanotify_init flags:|FAN_INIT event_f_flags:openflags
fanotify_mark fanotify_fd:fd flags:|FAN_MARK_ mask:|FAN_EVENT dirfd path
io_setup nr_events:u ctxp:b
io_destroy ctx:x
io_submit ctx:x nr:i iocbpp:b
io_cancel ctx:x iocb:b result:b
io_getevents ctx:x min_nr:i nr:i events:b timeout
io_pgetevents ctx:x min_nr:i nr:i events:b timeout sigmask
ioctl fd request:ioctl arg:x
mmap addr length prot:|PROT_ flags:mmap fd offset:x
mprotect addr len prot:|PROT_
pkey_mprotect addr len prot:|PROT_ pkey:i
munmap addr length
brk addr
mremap old_address:x old_size:u new_size:u flags:|MREMAP_ new_address:x
msync addr length flags:x
madvise addr length advice:=MADV_
process_madvise pidfd iov:iovec@2 vlen:u advice:=MADV_ flags:x
process_mrelease pidfd flags:x
mlock addr len
mlock2 addr len flags:x
munlock addr len
mlockall flags:|MCL_
munlockall
mincore addr length vec:b
membarrier cmd:=MEMBARRIER_CMD_ flags:x cpu_id:i
mseal addr len flags:x
pkey_alloc flags:x access_rights:x
pkey_free pkey:i
map_shadow_stack addr size flags:x
memfd_create name flags:|MFD_
memfd_secret flags:|O_
remap_file_pages addr size prot:|PROT_ pgoff:u flags:mmap
fork
vfork
execve path argv envp
execveat dirfd path argv envp flags:|AT_
exit status:i
exit_group status:i
wait4 pid wstatus:b options:x rusage
waitid idtype:=P_ id:i info options:x rusage
clone flags:clone stack:b parent_tid:b child_tid:b tls:x
clone3 cl_args:clone_args@1 size
unshare flags:|NEWNS
setns fd nstype:|NEWNS
futex uaddr:x futex_op:=FUTEX_ val:u timeout uaddr2:x val3:u
futex_waitv waiters:b nr_futexes:u flags:x timeout clockid
futex_wake uaddr:x mask:x nr:i flags:|FUTEX2_
futex_wait uaddr:x val:u mask:x flags:|FUTEX2_ timeout clockid
futex_requeue waiters:b flags:x nr_wake:i nr_requeue:i
set_robust_list head:b len
get_robust_list pid head_ptr:b sizep:b
set_tid_address tidptr:b
rseq rseq:b rseq_len:u flags:x sig:x
rseq_slice_yield
arch_prctl code:=ARCH_ addr
get_thread_area u_info:b
set_thread_area u_info:b
modify_ldt func:i ptr:b bytecount:u
rt_sigaction sig act:b oldact:b sigsetsize
rt_sigprocmask how:i set:b oldset:b sigsetsize
rt_sigreturn
rt_sigpending set:b sigsetsize
rt_sigtimedwait set:b info timeout sigsetsize
rt_sigqueueinfo tgid:i sig info
rt_tgsigqueueinfo tgid:i tid:i sig info
rt_sigsuspend sigmask sigsetsize
sigaltstack ss:b old_ss:b
pause
kill pid sig
tkill tid:i sig
tgkill tgid:i tid:i sig
pidfd_open pid flags:x
pidfd_send_signal pidfd sig info flags:x
pidfd_getfd pidfd targetfd:fd flags:x
kcmp pid1:i pid2:i type:=KCMP_ idx1:x idx2:x
ptrace request:=PTRACE_ pid addr data:x
process_vm_readv pid local_iov:iovlen@2 liovcnt:u remote_iov:iovec@4 riovcnt:u flags:x
process_vm_writev pid local_iov:iovlen@2 liovcnt:u remote_iov:iovec@4 riovcnt:u flags:x
sched_yield
sched_setparam pid param:b
sched_getparam pid param:b
sched_setscheduler pid policy:=SCHED_ param:b
sched_getscheduler pid
sched_setattr pid attr:sched_attr flags:x
sched_getattr pid attr:b size flags:x
sched_setaffinity pid size mask
sched_getaffinity pid size mask
sched_get_priority_max policy:=SCHED_
sched_get_priority_min policy:=SCHED_
sched_rr_get_interval pid tp:b
getpid
getppid
gettid
getuid
geteuid
getgid
getegid
getresuid ruid:b euid:b suid:b
getresgid rgid:b egid:b sgid:b
getgroups size:i list
setgroups size:i list
getpgid pid
getpgrp
getsid pid
setpgid pid pgid:i
setsid
setuid uid:i
setgid gid:i
setreuid ruid:i euid:i
setregid rgid:i egid:i
setresuid ruid:i euid:i suid:i
setresgid rgid:i egid:i sgid:i
setfsuid fsuid:i
setfsgid fsgid:i
capget hdrp:b datap:b
capset hdrp:b datap:capset
prctl option:=PRCTL arg2:x arg3:x arg4:x arg5:x
seccomp operation:=SECCOMP_ flags:|SECCOMP_FILTER_FLAG_ args:b
landlock_create_ruleset attr:landlock@1 size flags:|LANDLOCK_CREATE_RULESET_
landlock_add_rule ruleset_fd:fd rule_type:=LANDLOCK_RULE_ rule_attr:b flags:x
landlock_restrict_self ruleset_fd:fd flags:x
personality persona:persona
uprobe
uretprobe
nanosleep req:timespec rem:b
clock_nanosleep clockid flags:|TIMER_ request:timespec remain:b
clock_gettime clockid tp:b
clock_getres clockid res:b
clock_settime clockid tp:timespec
clock_adjtime clockid buf:timex
adjtimex buf:timex
gettimeofday tv:b tz:b
settimeofday tv:timeval tz:b
time tloc:b
restart_syscall
alarm seconds:u
getitimer which:i curr_value:b
setitimer which:i new_value:b old_value:b
timer_create clockid sevp:b timerid:b
timer_settime timerid:i flags:|TIMER_ new_value:b old_value:b
timer_gettime timerid:i curr_value:b
timer_getoverrun timerid:i
timer_delete timerid:i
timerfd_create clockid flags:|O_
timerfd_settime fd flags:x new_value:b old_value:b
timerfd_gettime fd curr_value:b
poll fds:b nfds:u timeout:i
ppoll fds:b nfds:u tmo_p:b sigmask sigsetsize
select nfds:i readfds:b writefds:b exceptfds:b timeout
pselect6 nfds:i readfds:b writefds:b exceptfds:b timeout sigmask
epoll_create size:i
epoll_create1 flags:|O_
epoll_ctl epfd:fd op:i fd event:b
epoll_wait epfd:fd events:b maxevents:i timeout:i
epoll_pwait epfd:fd events:b maxevents:i timeout:i sigmask sigsetsize
epoll_pwait2 epfd:fd events:b maxevents:i timeout sigmask sigsetsize
epoll_ctl_old arg0:x arg1:x arg2:x arg3:x
epoll_wait_old arg0:x arg1:x arg2:x arg3:x
eventfd initval:u
eventfd2 initval:u flags:|O_
signalfd fd mask sizemask:u
signalfd4 fd mask sizemask:u flags:|O_
uname buf
sysinfo info
times buf
getcpu cpu:b node:b tcache:b
getrusage who:i usage:b
getrlimit resource:=RLIMIT_ rlim:b
setrlimit resource:=RLIMIT_ rlim:rlimit
prlimit64 pid resource:=RLIMIT_ new_limit:rlimit old_limit:b
getpriority which:=PRIO_ who:i
setpriority which:=PRIO_ who:i prio:i
ioprio_get which:=IOPRIO_WHO_ who:i
ioprio_set which:=IOPRIO_WHO_ who:i ioprio:x
getrandom buf size flags:|GRND_
socket domain:=AF_ type:socktype protocol:protocol@0
socketpair domain:=AF_ type:socktype protocol:protocol@0 sv
connect fd addr:sockaddr@2 addrlen
bind fd addr:sockaddr@2 addrlen
accept fd addr:b addrlen:b
accept4 fd addr:b addrlen:b flags:socktype
listen fd backlog:i
getsockname fd addr:b addrlen:b
getpeername fd addr:b addrlen:b
setsockopt fd level:i optname:i optval:b optlen:i
getsockopt fd level:i optname:i optval:b optlen:b
sendto fd buf len flags:|MSG_ dest_addr:sockaddr@5 addrlen
recvfrom fd buf len flags:|MSG_ src_addr:b addrlen:b
sendmsg fd msg:msghdr flags:|MSG_
recvmsg fd msg:b flags:|MSG_
sendmmsg fd msgvec:msghdr vlen:u flags:|MSG_
recvmmsg fd msgvec:b vlen:u flags:|MSG_ timeout
shutdown fd how:=SHUT_
shmget key:x size shmflg:ipc
shmat shmid:i shmaddr:x shmflg:x
shmctl shmid:i op:i buf
shmdt shmaddr:x
semget key:x nsems:i semflg:ipc
semop semid:i sops:b nsops:u
semtimedop semid:i sops:b nsops:u timeout
semctl semid:i semnum:i op:i arg:x
msgget key:x msgflg:ipc
msgsnd msqid:i msgp:b size msgflg:x
msgrcv msqid:i msgp:b size msgtyp:i msgflg:x
msgctl msqid:i op:i buf
mq_open name oflag:openflags mode:omode@1 attr:b
mq_unlink name
mq_timedsend mqdes:fd msg_ptr:b msg_len:u msg_prio:u abs_timeout:b
mq_timedreceive mqdes:fd msg_ptr:b msg_len:u msg_prio:b abs_timeout:b
mq_notify mqdes:fd sevp:b
mq_getsetattr mqdes:fd newattr:b oldattr:b
mount source:path target fstype:str flags:|MS_ data:str
umount2 target flags:|UMOUNT
pivot_root new_root:path put_old:path
chroot path
fchroot fd flags:x
open_tree dirfd path flags:|OPENTREE
open_tree_attr dirfd path flags:|OPENTREE attr:mount_attr@4 size
move_mount from_dirfd:at from_path:path to_dirfd:at to_path:path flags:|MOVE_MOUNT_
mount_setattr dirfd path flags:|OPENTREE attr:mount_attr@4 size
fsopen fsname:str flags:|FSOPEN_
fsconfig fd cmd:=FSCONFIG_ key:str value:b aux:i
fsmount fsfd:fd flags:|FSMOUNT_ attr_flags:|MOUNT_ATTR_
fspick dirfd path flags:|FSPICK_
statmount req:mnt_id buf size flags:x
listmount req:mnt_id mnt_ids:b nr_mnt_ids:u flags:x
listns req:b ns_ids:b nr_ns_ids:u flags:x
bpf cmd:=BPF_ attr:bpf@2 size
perf_event_open attr:perf_attr pid cpu:i group_fd:fd flags:|PERF_FLAG_
userfaultfd flags:|USERFAULT
io_uring_setup entries:u p:io_uring
io_uring_enter fd to_submit:u min_complete:u flags:|IORING_ENTER_ arg:b size
io_uring_register fd opcode:=IORING_REGISTER arg:b nr_args:u
add_key type:str description:str payload:b plen:u keyring:=KEY_SPEC_
request_key type:str description:str callout_info:str dest_keyring:=KEY_SPEC_
keyctl operation:=KEYCTL_ arg2:x arg3:x arg4:x arg5:x
open_by_handle_at mount_fd:fd handle:file_handle flags:openflags
name_to_handle_at dirfd path handle:b mount_id:b flags:|ATHANDLE
acct filename:path
delete_module name flags:openflags
finit_module fd param_values:str flags:|MODULE_INIT_
init_module module_image:b len param_values:str
create_module name size
query_module name which:i buf size ret:b
get_kernel_syms table:b
ioperm from:u num:u turn_on:i
iopl level:i
kexec_file_load kernel_fd:fd initrd_fd:fd cmdline_len:u cmdline:str flags:|KEXEC_FILE_
kexec_load entry:x nr_segments:u segments:b flags:|KEXEC_
lookup_dcookie cookie:x buf len
quotactl cmd:quota special:path id:i addr:b
quotactl_fd fd cmd:quota id:i addr:b
reboot magic:=LINUX_REBOOT_MAGIC magic2:=LINUX_REBOOT_MAGIC op:=LINUX_REBOOT_CMD_ arg:b
setdomainname name:bytes@1 len
sethostname name:bytes@1 len
swapoff path
swapon path swapflags:|SWAP_FLAG_
syslog type:=SYSLOG_ACTION_ buf len:i
vhangup
mbind addr len mode:=MPOL_ nodemask:b maxnode:u flags:|MPOL_MF_
get_mempolicy mode:b nodemask:b maxnode:u addr flags:|MPOL_F_
set_mempolicy mode:=MPOL_ nodemask:b maxnode:u
set_mempolicy_home_node addr len home_node:u flags:x
migrate_pages pid maxnode:u old_nodes:b new_nodes:b
move_pages pid count pages:b nodes:b status:b flags:|MPOL_MF_
lsm_get_self_attr attr:=LSM_ATTR_ ctx:b size:b flags:x
lsm_set_self_attr attr:=LSM_ATTR_ ctx:b size flags:x
lsm_list_modules ids:b size:b flags:x
_sysctl args:b
afs_syscall arg0:x arg1:x arg2:x arg3:x arg4:x
getpmsg arg0:x arg1:x arg2:x arg3:x arg4:x
putpmsg arg0:x arg1:x arg2:x arg3:x arg4:x
nfsservctl cmd:i argp:b resp:b
security arg0:x arg1:x arg2:x
tuxcall arg0:x arg1:x arg2:x
vserver arg0:x arg1:x arg2:x arg3:x arg4:x
sysfs option:i arg1:x arg2:x
uselib library:path
ustat dev:dev ubuf:b
"""

#: aarch64 orders clone's parameters otherwise (CONFIG_CLONE_BACKWARDS)
OWN = {"aarch64": {"clone": "clone flags:clone stack:b parent_tid:b tls:x child_tid:b"}}

def signatures(arch):
    """{call: ((parameter, kind, index behind @ or None), ...)} of an architecture."""
    own = OWN.get(arch, {})
    found = {}
    for line in CALLS.split("\n"):
        name = line.partition(" ")[0]
        if name:
            found[name] = parameters(own.get(name, line).partition(" ")[2])
    return found


def parameters(text):
    """One line of CALLS without its name."""
    out = []
    for word in text.split():
        name, _, kind = word.partition(":")
        kind, _, index = (kind or USUAL.get(name, "i")).partition("@")
        out.append((name, kind, int(index) if index else None))
    return tuple(out)
