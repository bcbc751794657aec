/**
 * System calls of 32-bit programs that we make ourselves, through `int $0x80`: some state of a 32-bit task is told to
 * nobody else.
 */
import { callMachineCode, syscall } from "./ffi/native.unsafe.js";
import { ownMemory } from "./memory.js";
import { SYS } from "./syscalls.js";

/** asm/unistd_32.h */
export const SYS32 = { munmap: 91, rt_sigaction: 174, set_robust_list: 311, get_robust_list: 312 } as const;

/** push rbx; eax, ebx, ecx, edx from [rdi]; int 0x80; pop rbx; ret */
const CALL32 = Buffer.from("538b078b5f048b4f088b570ccd805bc3", "hex");
const PROT_READ_WRITE = 3;
const MAP_PRIVATE_ANONYMOUS_32BIT = 0x62;
const PAGE = 4096;

/** Robust-futex list that a thread registered as a 32-bit program; undefined where the kernel runs none. */
export function getCompatRobustList(tid: number): { head: bigint; length: number } | undefined {
  const low = BigInt(syscall(SYS.mmap, 0, PAGE, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS_32BIT, -1, 0));
  if (low < 0n) return undefined;
  try {
    const request = Buffer.alloc(16);
    [SYS32.get_robust_list, tid, Number(low), Number(low) + 4].forEach((value, i) => request.writeUInt32LE(value, i * 4));
    if (Number(callMachineCode(CALL32, request)) !== 0) return undefined;
    const found = ownMemory({ address: low, sizeBytes: 8n });
    return { head: BigInt(found.readUInt32LE(0)), length: found.readUInt32LE(4) };
  } finally {
    syscall(SYS.munmap, low, PAGE);
  }
}
