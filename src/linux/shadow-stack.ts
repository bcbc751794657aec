/**
 * User shadow stacks, Documentation/arch/x86/shstk.rst; asm/prctl.h, uapi/linux/elf.h.
 */
import { readFileSync } from "node:fs";

export const ARCH_SHSTK_ENABLE = 0x5001;
export const ARCH_SHSTK_STATUS = 0x5005;
/** Features: the stack itself, and the instruction that writes to it. */
export const ARCH_SHSTK_SHSTK = 1n;
export const ARCH_SHSTK_WRSS = 2n;
/** Register set of the shadow stack pointer: 8 bytes. */
export const NT_X86_SHSTK = 0x204;

let known: boolean | undefined;

/** Whether processor and kernel have them. */
export function hasShadowStacks(): boolean {
  known ??= /^flags\s*:.* user_shstk\b/m.test(readFileSync("/proc/cpuinfo", "latin1"));
  return known;
}
