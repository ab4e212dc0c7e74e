// SPDX-License-Identifier: Apache-2.0
//
// mrunc's pid 1 for aarch64: a whole static ELF file in one flat section.  Step by step the same as init_x86_64.s, where
// the reasons stand.
//
//   aarch64-linux-gnu-as init_aarch64.s -o i.o && aarch64-linux-gnu-objcopy -O binary -j .text i.o init_aarch64
//
// Kept in registers: w19 workload's pid, w20 control socket, x21 -> record (status, 4 zero bytes, struct rusage),
// x23 the room, x24 -> argv[0]; at the gate x22 -> where the next packet goes; in the workload x22 -> the next path.  The
// set of signals lies at [x21, #-16], the empty one at [x21, #-8], what recvmsg needs at sp: the message's head, 16 bytes
// for where its bytes go, 32 for its descriptors.

        .set SIGKILL, 9
        .set SIGCHLD, 17
        .set SIGIO, 29
        .set EINTR, 4
        .set EAGAIN, 11
        .set RECORD, 8 + 144
        .set LOAD, 0x400000
        .set ROOM, LOAD + 0x10000
        .set PACKET, 0x8000

        .text
base:   .byte 0x7f, 'E', 'L', 'F', 2, 1, 1, 0           // 64-bit, little endian
        .quad 0
        .hword 2, 183                                   // ET_EXEC, EM_AARCH64
        .word 1
        .quad LOAD + start - base                       // entry
        .quad phdr - base, 0                            // program headers, no sections
        .word 0
        .hword 64, 56, 3, 64, 0, 0
phdr:   .word 1, 5                                      // PT_LOAD, r-x; aligned for pages of up to 64 KiB
        .quad 0, LOAD, LOAD, end - base, end - base, 0x10000
        .word 1, 6                                      // PT_LOAD, rw-: the room
        .quad 0, ROOM, ROOM, 0, 0x10000, 0x10000
        .word 0x6474e551, 6                             // PT_GNU_STACK, rw-
        .quad 0, 0, 0, 0, 0, 16

start:  ldr     x24, [sp, #8]                           // argv[0]
        ldrb    w20, [x24]                              // control socket
        sub     sp, sp, #16 + RECORD + 8                // two sets, the record, and 8 to keep sp a multiple of 16
        add     x21, sp, #16
        mov     w0, #-4096                              // ready; the upper half is the pad and stays zero
        str     x0, [x21]
        mov     w1, #0x4a07                             // HUP INT QUIT USR1 USR2 TERM CHLD IO
        movk    w1, #0x1001, lsl #16
        stp     x1, xzr, [sp]                           // and behind it the empty set

        bl      tell                                    // ready
        mov     x23, #ROOM
        mov     x22, x23
        sub     sp, sp, #112

gate:   stp     xzr, xzr, [sp]                          // recvmsg(fd, {0, 0, {{next, PACKET}}, 1, control, 32, 0},
        add     x0, sp, #56                             //         MSG_CMSG_CLOEXEC)
        mov     x1, #1
        stp     x0, x1, [sp, #16]
        add     x0, sp, #72
        mov     x1, #32
        stp     x0, x1, [sp, #32]
        mov     x1, #PACKET
        str     xzr, [sp, #48]
        stp     x22, x1, [sp, #56]
        mov     w0, w20
        mov     x1, sp
        mov     x2, #0x40000000
        mov     x8, #212
        svc     #0
        cmp     w0, #0
        b.le    leave
        add     x22, x22, x0
        ldp     w1, w2, [x23]                           // the length of all packets together, and the word
        and     w2, w2, #0xff00ffff
        mov     w3, #0x6f67                             // "go!\n" or "got\n"
        movk    w3, #0x0a00, lsl #16
        cmp     w2, w3
        b.ne    leave
        add     x1, x1, x23
        cmp     x22, x1
        b.lo    gate
        b.ne    leave

        ldr     x1, [sp, #40]                           // descriptors: all three, or none
        cbz     x1, 1f
        ldr     x1, [sp, #72]
        cmp     x1, #16 + 3 * 4
        b.ne    leave
        add     x22, sp, #88
        mov     w19, wzr
2:      ldr     w0, [x22], #4                           // dup3(theirs, 0 to 2, 0)
        mov     w1, w19
        mov     x2, xzr
        mov     x8, #24
        bl      must
        add     w19, w19, #1
        cmp     w19, #3
        b.ne    2b
1:
        mov     x0, #4                                  // prctl(PR_SET_DUMPABLE, 0)
        mov     x1, xzr
        mov     x8, #167
        bl      must

        mov     x0, #0x4111                             // clone(CLONE_VM|CLONE_VFORK|SIGCHLD, 0, 0, 0, 0); x1 is 0
        mov     x2, xzr
        mov     x3, xzr
        mov     x4, xzr
        mov     x8, #220
        bl      must                                    // the return address is in a register: each has its own
        cbz     w0, workload
        mov     w19, w0
        mov     w22, #2                                 // close(2), close(1), close(0): the workload's ends show
3:      mov     w0, w22
        mov     x8, #57
        svc     #0
        subs    w22, w22, #1
        b.pl    3b
        b       look                                    // at what came before SIGIO was armed

loop:   sub     x0, x21, #16                            // rt_sigtimedwait(set, 0, 0, 8)
        mov     x1, xzr
        mov     x2, xzr
        mov     x3, #8
        mov     x8, #137
        svc     #0
        cmn     w0, #EINTR                              // we were stopped and continued
        b.eq    loop
        tbnz    w0, #31, gone
        cmp     w0, #SIGCHLD
        b.eq    look
        cmp     w0, #SIGIO
        b.eq    look
signal: mov     w1, w0                                  // kill(-workload, signal)
        neg     w0, w19
        mov     x8, #129
        svc     #0
        tbz     w0, #31, look
        mov     w0, w19
        svc     #0

look:   mov     w0, w20                                 // recvfrom(fd, record, 4, MSG_DONTWAIT, 0, 0)
        mov     x1, x21
        mov     x2, #4
        mov     x3, #0x40
        mov     x8, #207                                // (x4 is 0 since the clone, x5 from the start)
        svc     #0
        cmn     w0, #EAGAIN
        b.eq    reap
        cmp     w0, #0
        b.le    gone                                    // end of file or error
        ldrb    w0, [x21]                               // any packet is the number of a signal to hand on
        b       signal

reap:   mov     x0, #-1                                 // wait4(-1, &status, WNOHANG, &rusage)
        mov     x1, x21
        mov     x2, #1
        add     x3, x21, #8
        mov     x8, #260
        svc     #0
        cbz     w0, loop
        tbnz    w0, #31, leave
        cmp     w0, w19
        b.ne    look                                    // an orphan
        bl      sweep
        mov     x2, #RECORD
        bl      send
        ldr     w1, [x21]
        lsr     w0, w1, #8                              // exit code, or 128 + signal
        ands    w1, w1, #127
        b.eq    exit
        add     w0, w1, #128
        b       exit

workload:                                               // on pid 1's stack, which is asleep until the execve
        mov     x8, #157                                // setsid()
        bl      must
        ldrb    w0, [x23, #6]
        cmp     w0, #'t'
        b.ne    1f
        mov     x0, xzr                                 // ioctl(0, TIOCSCTTY, 0)
        mov     x1, #0x540e
        mov     x2, xzr
        mov     x8, #29
        bl      must
1:      ldrb    w0, [x24, #2]
        cbz     w0, 2f
        mov     x1, xzr                                 // landlock_restrict_self(ruleset, 0)
        mov     x8, #446
        bl      must
        ldrb    w0, [x24, #2]                           // close(ruleset)
        mov     x8, #57
        bl      must
2:      mov     x0, #2                                  // rt_sigprocmask(SIG_SETMASK, {}, 0, 8)
        sub     x1, x21, #8
        mov     x2, xzr
        mov     x3, #8
        mov     x8, #135
        bl      must
        mov     w0, w20                                 // fcntl(fd, F_SETFD, FD_CLOEXEC)
        mov     x1, #2
        mov     x2, #1
        mov     x8, #25
        bl      must
        ldr     x22, [x23, #8]
next:   ldr     x1, [x22], #8                           // execve(path, argv, envp) for one path after the other
        cbz     x1, failed
        mov     x0, x1
        ldp     x1, x2, [x23, #16]
        mov     x8, #221
        svc     #0
        b       next

must:   svc     #0
        tbnz    w0, #31, failed
        ret

failed: str     w0, [x21]                               // tell the errno
        bl      tell
        b       leave

gone:   bl      sweep
        mov     w0, w19                                 // kill(workload, SIGKILL)
        mov     x1, #SIGKILL
        mov     x8, #129
        svc     #0
leave:  mov     x0, #125
exit:   mov     x8, #94                                 // exit_group
        svc     #0
        udf     #0                                      // refused: SIGILL does it

sweep:  ldrb    w0, [x24, #1]                           // kill(-1, SIGKILL), which forks can't outrun; never without
        cmp     w0, #'k'                                // the letter: only the Landlock scope keeps it to our own
        b.ne    1f
        mov     w0, #-1
        mov     x1, #SIGKILL
        mov     x8, #129
        svc     #0
1:      ret

tell:   mov     x2, #4
send:   mov     w0, w20                                 // write(fd, record, x2)
        mov     x1, x21
        mov     x8, #64
        svc     #0
        ret
end:
