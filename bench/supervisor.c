/* SPDX-License-Identifier: Apache-2.0
 * The least that a supervisor of refused system calls can do, in C: supervisor PROGRAM [ARG...] runs it behind a filter that
 * asks about acct and setns, and answers each with EPERM: poll, RECV, SEND.  bench/ledger.py measures mrunc's beside it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sock_filter code[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_acct, 1, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setns, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

static void behind_the_filter(int tell, char **argv)
{
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
    int listener;
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    setsid(); /* as in a sandbox: another session is another group for the scheduler */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _exit(120);
    listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program);
    if (listener < 0 && errno == EINVAL)
        listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    if (listener < 0 || write(tell, &listener, sizeof listener) != sizeof listener)
        _exit(121);
    execv(argv[0], argv);
    _exit(127);
}

int main(int argc, char **argv)
{
    struct seccomp_notif request;
    struct seccomp_notif_resp response;
    struct pollfd wait;
    int ends[2], status;
    if (argc < 2 || pipe2(ends, O_CLOEXEC))
        return 2;
    /* Both have one table of descriptors until the exec: the listener's number is enough. */
    pid_t child = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
    if (child == 0)
        behind_the_filter(ends[1], argv + 1);
    if (child < 0 || read(ends[0], &wait.fd, sizeof wait.fd) != sizeof wait.fd)
        return 3;
#ifdef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
    ioctl(wait.fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
#endif
    wait.events = POLLIN;
    while (poll(&wait, 1, -1) == 1 && wait.revents & POLLIN) {
        memset(&request, 0, sizeof request);
        if (ioctl(wait.fd, SECCOMP_IOCTL_NOTIF_RECV, &request))
            continue;
        memset(&response, 0, sizeof response);
        response.id = request.id;
        response.error = -EPERM;
        ioctl(wait.fd, SECCOMP_IOCTL_NOTIF_SEND, &response);
    }
    if (waitpid(child, &status, 0) != child)
        return 4;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
