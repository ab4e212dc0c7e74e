# SPDX-License-Identifier: Apache-2.0
#
# mrunc's pid 1 for x86_64: a whole static ELF file in one flat section, frozen as bytes in init.py, whose docstring
# holds the protocol.  `.ci/freeze_init.py` assembles it:
#
#   as init_x86_64.s -o i.o && objcopy -O binary -j .text i.o init_x86_64
#
# Nothing here trusts memory shared with the workload's first steps (an emulator may fork instead of vfork), and no call
# that failed is repeated but rt_sigtimedwait after EINTR: pid 1 either does its work or leaves.
#
# Kept in registers: %ebx workload's pid, %ebp control socket, %r12 -> record (status, 4 zero bytes, struct rusage),
# %r15 -> argv[0]; at the gate %r13 -> where the next packet goes, %r14 -> behind the 32 bytes for its descriptors; in the
# workload %r13 -> the next path.  The set of signals lies at -8(%r12), what came through the gate at ROOM.

        .set SIGKILL, 9
        .set SIGCHLD, 17
        .set SIGIO, 29
        .set EINTR, 4
        .set EAGAIN, 11
        .set RECORD, 8 + 144
        .set LOAD, 0x400000
        .set ROOM, LOAD + 0x10000                       # a page of 64 KiB further
        .set GO, 0x0a006f67                             # "go!\n" or "got\n"
        .set PACKET, 0x8000

        .text
base:   .byte 0x7f, 'E', 'L', 'F', 2, 1, 1, 0           # 64-bit, little endian
        .quad 0
        .word 2, 62                                     # ET_EXEC, EM_X86_64
        .long 1
        .quad LOAD + start - base                       # entry
        .quad phdr - base, 0                            # program headers, no sections
        .long 0
        .word 64, 56, 3, 64, 0, 0
phdr:   .long 1, 5                                      # PT_LOAD, r-x
        .quad 0, LOAD, LOAD, end - base, end - base, 0x10000
        .long 1, 6                                      # PT_LOAD, rw-: the room, whose size the supervisor writes here
        .quad 0, ROOM, ROOM, 0, 0x10000, 0x10000
        .long 0x6474e551, 6                             # PT_GNU_STACK, rw-: no executable stack on any kernel
        .quad 0, 0, 0, 0, 0, 16

start:  mov     8(%rsp), %r15                           # argv[0]
        movzbl  (%r15), %ebp                            # control socket
        lea     -144(%rsp), %rsp                        # struct rusage
        mov     $-4096, %eax
        push    %rax                                    # ready; the upper half is the pad and stays zero
        mov     %rsp, %r12
        push    $0x10014a07                             # HUP INT QUIT USR1 USR2 TERM CHLD IO

        call    tell                                    # ready
        mov     $ROOM, %r13d
        mov     %rsp, %r14

gate:   lea     -32(%r14), %rsp                         # recvmsg(fd, {0, 0, {{next, PACKET}}, 1, control, 32, 0},
        mov     %rsp, %rdi                              #         MSG_CMSG_CLOEXEC)
        push    $PACKET
        push    %r13
        mov     %rsp, %rsi
        push    $0
        push    $32
        push    %rdi
        push    $1
        push    %rsi
        push    $0
        push    $0
        mov     %rsp, %rsi
        mov     %ebp, %edi
        mov     $0x40000000, %edx
        push    $47
        pop     %rax
        syscall
        test    %eax, %eax                              # behind the room nothing is mapped: EFAULT
        jle     leave
        add     %rax, %r13
        mov     ROOM + 4, %eax
        and     $0xff00ffff, %eax
        cmp     $GO, %eax                               # in the first packet already, or it is none of ours
        jne     leave
        mov     ROOM, %eax                              # the length of all packets together
        add     $ROOM, %rax
        cmp     %rax, %r13
        jb      gate
        jne     leave

        cmpb    $0, 40(%rsp)                            # descriptors with the last packet: all three, or none
        je      1f
        cmpb    $16 + 3 * 4, -32(%r14)
        jne     leave
        xor     %ebx, %ebx
2:      mov     -16(%r14,%rbx,4), %edi                  # dup3(theirs, 0 to 2, 0)
        mov     %ebx, %esi
        xor     %edx, %edx
        mov     $292, %eax
        call    must
        inc     %ebx
        cmp     $3, %ebx
        jne     2b
1:
        push    $4                                      # prctl(PR_SET_DUMPABLE, 0): after the gate, so that an
        pop     %rdi                                    # ordinary user's supervisor could read us back
        xor     %esi, %esi
        mov     $157, %eax
        call    must

        mov     $0x4111, %edi                           # clone(CLONE_VM|CLONE_VFORK|SIGCHLD, 0, 0, 0, 0); not through
        xor     %esi, %esi                              # `must`: the child would overwrite our return address
        xor     %edx, %edx
        xor     %r10d, %r10d
        xor     %r8d, %r8d
        push    $56
        pop     %rax
        syscall
        test    %eax, %eax
        js      failed
        jz      workload
        mov     %eax, %ebx
        push    $2                                      # close(2), close(1), close(0): the workload's ends show
        pop     %rdi
3:      push    $3
        pop     %rax
        syscall
        dec     %edi
        jns     3b
        jmp     look                                    # at what came before SIGIO was armed

loop:   lea     -8(%r12), %rdi                          # rt_sigtimedwait(set, 0, 0, 8)
        xor     %esi, %esi
        xor     %edx, %edx
        push    $8
        pop     %r10
        mov     $128, %eax
        syscall
        cmp     $-EINTR, %eax                           # we were stopped and continued
        je      loop
        test    %eax, %eax
        js      gone
        cmp     $SIGCHLD, %eax
        je      look
        cmp     $SIGIO, %eax
        je      look
signal: mov     %ebx, %edi                              # kill(-workload, signal): its group, as a terminal does; it
        neg     %edi                                    # isn't reaped, so the number is its own
        mov     %eax, %esi
        push    $62
        pop     %rax
        syscall
        test    %eax, %eax
        jns     look
        mov     %ebx, %edi                              # no such group: an emulator forked, and setsid is still to come
        push    $62
        pop     %rax
        syscall

        # After every signal and every reaped orphan, whatever it was: rt_sigtimedwait prefers low numbers, and a flood
        # of those from inside mustn't hide the supervisor's end.
look:   mov     %ebp, %edi                              # recvfrom(fd, record, 4, MSG_DONTWAIT, 0, 0)
        mov     %r12, %rsi
        push    $4
        pop     %rdx
        push    $0x40
        pop     %r10
        xor     %r8d, %r8d
        xor     %r9d, %r9d
        push    $45
        pop     %rax
        syscall
        cmp     $-EAGAIN, %eax
        je      reap
        test    %eax, %eax
        jle     gone                                    # end of file, or ECONNRESET where it left a record unread
        movzbl  (%r12), %eax                            # any packet is the number of a signal to hand on
        jmp     signal

reap:   or      $-1, %edi                               # wait4(-1, &status, WNOHANG, &rusage)
        mov     %r12, %rsi
        push    $1
        pop     %rdx
        lea     8(%r12), %r10
        push    $61
        pop     %rax
        syscall
        test    %eax, %eax
        jz      loop
        js      leave                                   # not `gone`: whose pid it is now, no one knows
        cmp     %ebx, %eax
        jne     look                                    # an orphan
        call    sweep
        mov     $RECORD, %edx
        call    send
        mov     (%r12), %edi
        mov     %edi, %eax
        shr     $8, %edi                                # exit code, or 128 + signal
        and     $127, %eax
        jz      exit
        lea     128(%rax), %edi
        jmp     exit

workload:                                               # on pid 1's stack, which is asleep until the execve
        push    $112                                    # setsid()
        pop     %rax
        call    must
        cmpb    $'t', ROOM + 6
        jne     1f
        xor     %edi, %edi                              # ioctl(0, TIOCSCTTY, 0)
        mov     $0x540e, %esi
        xor     %edx, %edx
        push    $16
        pop     %rax
        call    must
1:      movzbl  2(%r15), %edi
        test    %edi, %edi
        jz      2f
        xor     %esi, %esi                              # landlock_restrict_self(ruleset, 0)
        mov     $446, %eax
        call    must
        push    $3                                      # close(ruleset)
        pop     %rax
        call    must
2:      push    $2                                      # rt_sigprocmask(SIG_SETMASK, {}, 0, 8)
        pop     %rdi
        push    $0
        mov     %rsp, %rsi
        xor     %edx, %edx
        push    $8
        pop     %r10
        push    $14
        pop     %rax
        call    must
        mov     %ebp, %edi                              # fcntl(fd, F_SETFD, FD_CLOEXEC)
        push    $2
        pop     %rsi
        push    $1
        pop     %rdx
        push    $72
        pop     %rax
        call    must
        mov     ROOM + 8, %r13d
next:   mov     (%r13), %rdi                            # execve(path, argv, envp) for one path after the other, each of
        test    %rdi, %rdi                              # which comes back only when it failed; none of these addresses
        jz      failed                                  # is looked at here: the kernel says what is wrong with one
        mov     ROOM + 16, %esi
        mov     ROOM + 24, %edx
        add     $8, %r13
        push    $59
        pop     %rax
        syscall
        jmp     next

must:   syscall
        test    %eax, %eax
        js      failed
        ret

failed: mov     %eax, (%r12)                            # tell the errno
        call    tell
        jmp     leave

gone:   call    sweep
        mov     %ebx, %edi                              # kill(workload, SIGKILL): without a pid namespace the kernel
        push    $SIGKILL                                # would let it live on
        pop     %rsi
        push    $62
        pop     %rax
        syscall
leave:  push    $125
        pop     %rdi
exit:   mov     $231, %eax                              # exit_group
        syscall
        ud2                                             # refused: SIGILL does it

sweep:  cmpb    $'k', 1(%r15)                           # kill(-1, SIGKILL), which forks can't outrun; never without
        jne     1f                                      # the letter: only the Landlock scope keeps it to our own
        or      $-1, %edi
        push    $SIGKILL
        pop     %rsi
        push    $62
        pop     %rax
        syscall
1:      ret

tell:   push    $4
        pop     %rdx
send:   mov     %ebp, %edi                              # write(fd, record, %rdx); if no one listens, be it so
        mov     %r12, %rsi
        push    $1
        pop     %rax
        syscall
        ret
end:
