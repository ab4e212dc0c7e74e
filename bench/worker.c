/* SPDX-License-Identifier: Apache-2.0
 * What bench/burn.py and bench/ledger.py measure, in and out of sandboxes.  Reads lines "KIND COUNT [THREADS]", does KIND so
 * many times in all, and answers "WALL CPU REFUSED": nanoseconds, and how many calls failed with EPERM.  KIND: burn (no system
 * call), plain (getppid), file (read 1 byte of /dev/zero), tested (personality, whose argument filters look at), denied (acct
 * of a path, which every filter refuses and an unprivileged one may not do), numbers (setns of no descriptor, refused too),
 * various (the same, no two alike).  Static, so that it runs on any root.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MOST 64

struct share {
    const char *kind;
    long first, count, refused;
};

static volatile uint64_t sink;
static int zero;

static uint64_t now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *work(void *given)
{
    struct share *share = given;
    const char *kind = share->kind;
    long count = share->count, refused = 0;
    char byte;
    if (!strcmp(kind, "burn")) {
        uint64_t x = 88172645463325252u;
        for (long i = 0; i < count; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
        }
        sink = x;
    } else if (!strcmp(kind, "plain")) {
        for (long i = 0; i < count; i++)
            syscall(SYS_getppid);
    } else if (!strcmp(kind, "file")) {
        for (long i = 0; i < count; i++)
            if (read(zero, &byte, 1) != 1)
                _exit(3);
    } else if (!strcmp(kind, "tested")) {
        for (long i = 0; i < count; i++)
            syscall(SYS_personality, 0xffffffffu);
    } else if (!strcmp(kind, "denied")) {
        for (long i = 0; i < count; i++)
            refused += syscall(SYS_acct, "/nonexistent/nothing") == -1 && errno == EPERM;
    } else if (!strcmp(kind, "numbers")) {
        for (long i = 0; i < count; i++)
            refused += syscall(SYS_setns, 9999, 0) == -1 && errno == EPERM;
    } else if (!strcmp(kind, "various")) {
        for (long i = 0; i < count; i++)
            refused += syscall(SYS_setns, 9999, share->first + i) == -1 && errno == EPERM;
    } else {
        _exit(5);
    }
    share->refused = refused;
    return 0;
}

int main(void)
{
    char line[100], kind[20], answer[100];
    zero = open("/dev/zero", O_RDONLY);
    for (;;) {
        size_t size = 0;
        while (size < sizeof line - 1) {
            if (read(0, line + size, 1) != 1)
                return 0;
            if (line[size++] == '\n')
                break;
        }
        line[size] = 0;
        long count, refused = 0;
        int threads = 1;
        if (sscanf(line, "%19s %ld %d", kind, &count, &threads) < 2 || threads < 1 || threads > MOST)
            return 2;
        struct share shares[MOST];
        pthread_t others[MOST];
        uint64_t cpu = now(CLOCK_PROCESS_CPUTIME_ID), wall = now(CLOCK_MONOTONIC);
        for (int i = 0; i < threads; i++) {
            long first = count * i / threads;
            shares[i] = (struct share){kind, first, count * (i + 1) / threads - first, 0};
            if (i && pthread_create(&others[i], 0, work, &shares[i]))
                return 6;
        }
        work(&shares[0]);
        for (int i = 0; i < threads; i++) {
            if (i)
                pthread_join(others[i], 0);
            refused += shares[i].refused;
        }
        wall = now(CLOCK_MONOTONIC) - wall;
        cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        int length = snprintf(answer, sizeof answer, "%llu %llu %ld\n", (unsigned long long)wall, (unsigned long long)cpu,
                              refused);
        if (write(1, answer, (size_t)length) != length)
            return 4;
    }
}
