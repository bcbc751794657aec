# The stub: all the machine code Floe has. stub.ts holds its bytes; stub.test.ts assembles this file and compares.
# Position independent, uses no stack, keeps rsp and the direction flag as the task had them.
#
# rbx = table of calls, rbp = frame. An entry is 8 qwords: {u32 number, u32 flags, a0..a5, result}.
#   number >= 0   a system call; flags & 1: a failure ends the program
#   number == -1  end
#   number == -2  copies 8 bytes from [a0] to [a1]; number == -3 copies 4 bytes
#   number == -4  ends the process if the 8 bytes at [a0] are 0: a child that nobody holds any more
# Frame: +0 tgid, +8 tid, +16 signal, +24 mask, +32 cleanup table (0: none), +40 end (rbx when the program ended),
#   +48 r15 r14 r13 r12 r11 r10 r9 r8 rcx rdx rsi rdi rbx, +152 rax, +160 flag word (AH: CF PF AF ZF SF, AL: OF),
#   +168 trampoline: movabs rbp; jmp to the task, +192 syscall user dispatch for prctl(2): mode (0: none), offset, length, selector
.intel_syntax noprefix
.text
start:
loop:
    mov eax, [rbx]
    test eax, eax
    js special
    mov rdi, [rbx+8]
    mov rsi, [rbx+16]
    mov rdx, [rbx+24]
    mov r10, [rbx+32]
    mov r8, [rbx+40]
    mov r9, [rbx+48]
    syscall
    mov [rbx+56], rax
    test byte ptr [rbx+4], 1
    jz next
    cmp rax, -4095
    jae done
next:
    add rbx, 64
    jmp loop
special:
    cmp eax, -1
    je done
    mov rsi, [rbx+8]
    mov rsi, [rsi]
    mov rdi, [rbx+16]
    cmp eax, -3
    je copy4
    jb child
    mov [rdi], rsi
    jmp next
copy4:
    mov [rdi], esi
    jmp next
child:
    test rsi, rsi
    jnz next
    mov eax, 231
    xor edi, edi
    syscall
done:
    mov [rbp+40], rbx
    # The tracer sees a signal stop here. Without a tracer the signal is ignored and the task goes on below.
    mov eax, 234
    mov rdi, [rbp]
    mov rsi, [rbp+8]
    mov rdx, [rbp+16]
    syscall
    # No tracer any more: run the cleanup table once, then put everything back.
    xor ebx, ebx
    xchg rbx, [rbp+32]
    test rbx, rbx
    jnz loop
    mov eax, 14
    mov edi, 2
    lea rsi, [rbp+24]
    xor edx, edx
    mov r10d, 8
    syscall
    # Syscall user dispatch is switched on again by the very last call, since it would hit any other.
    mov rsi, [rbp+192]
    test esi, esi
    jz registers
    mov eax, 157
    mov edi, 59
    mov rdx, [rbp+200]
    mov r10, [rbp+208]
    mov r8, [rbp+216]
    syscall
registers:
    mov r15, [rbp+48]
    mov r14, [rbp+56]
    mov r13, [rbp+64]
    mov r12, [rbp+72]
    mov r11, [rbp+80]
    mov r10, [rbp+88]
    mov r9, [rbp+96]
    mov r8, [rbp+104]
    mov rcx, [rbp+112]
    mov rdx, [rbp+120]
    mov rsi, [rbp+128]
    mov rdi, [rbp+136]
    mov rbx, [rbp+144]
    mov rax, [rbp+160]
    add al, 0x7f
    sahf
    mov rax, [rbp+152]
    lea rbp, [rbp+168]
    jmp rbp
pause:
    mov eax, 34
    syscall
    jmp pause
end:
