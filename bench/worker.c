/* SPDX-License-Identifier: Apache-2.0
 * What bench/burn.py measures, in and out of sandboxes.  Reads lines "KIND COUNT", does KIND so many times, and answers
 * "WALL CPU" in nanoseconds.  KIND: burn (no system call), plain (getppid), file (read 1 byte of /dev/zero), tested
 * (personality, whose argument filters look at), denied (acct, which every filter refuses and an unprivileged one may not
 * do), sleep (until its input ends; no answer).  Static, so that it runs on any root.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static uint64_t now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static volatile uint64_t sink;

static void work(const char *kind, long count, int zero)
{
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
            syscall(SYS_acct, "/nonexistent/nothing");
    }
}

int main(void)
{
    char line[100], kind[20], answer[100];
    int zero = open("/dev/zero", O_RDONLY);
    for (;;) {
        size_t size = 0;
        while (size < sizeof line - 1) {
            if (read(0, line + size, 1) != 1)
                return 0;
            if (line[size++] == '\n')
                break;
        }
        line[size] = 0;
        long count;
        if (sscanf(line, "%19s %ld", kind, &count) != 2)
            return 2;
        uint64_t cpu = now(CLOCK_PROCESS_CPUTIME_ID), wall = now(CLOCK_MONOTONIC);
        work(kind, count, zero);
        wall = now(CLOCK_MONOTONIC) - wall;
        cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        int length = snprintf(answer, sizeof answer, "%llu %llu\n", (unsigned long long)wall, (unsigned long long)cpu);
        if (write(1, answer, (size_t)length) != length)
            return 4;
    }
}
