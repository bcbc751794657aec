# The cave: one system call made atomically with respect to the death of the tracer. cave.ts holds its bytes.
#
# Lives in the unused end of the vdso page of the task while it is being entered and left. The task starts at `cave` with
# the call's registers set, all signals blocked, and every other register (flags, rsp) as its own; if the tracer dies at
# any point, the call is made, the mask and the registers are put back, and the task goes on where it was.
# A far jump leaves, so that 32-bit tasks return to 32-bit code.
.intel_syntax noprefix
.text
cave:
    syscall
    mov eax, 14
    mov edi, 2
    lea rsi, [rip+mask]
    mov edx, 0
    mov r10d, 8
    syscall
    mov rax, [rip+slots]
    mov rcx, [rip+slots+8]
    mov rdx, [rip+slots+16]
    mov rsi, [rip+slots+24]
    mov rdi, [rip+slots+32]
    mov r8, [rip+slots+40]
    mov r9, [rip+slots+48]
    mov r10, [rip+slots+56]
    mov r11, [rip+slots+64]
    jmp [rip+target]
.balign 8
mask: .quad 0
slots: .fill 9, 8, 0
target: .quad 0
end:
