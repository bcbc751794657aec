/** Machine code of ours in the executable: where it is, and the part that does not depend on how the executable was built. */

/** Where the page of our code lies: behind all of Bun, in front of the heap, which begins behind the last segment (brk(2)). */
export const CODE_ADDRESS = 0x1000_0000;

/**
 * What the page begins with: the C library's syscall() without errno, so that the kernel's own result comes back.
 *
 * mov rax,rdi; mov rdi,rsi; mov rsi,rdx; mov rdx,rcx; mov r10,r8; mov r8,r9; mov r9,[rsp+8]; syscall; ret
 */
export const SYSCALL_CODE = "4889f84889f74889d64889ca4d89c24d89c84c8b4c24080f05c3";
