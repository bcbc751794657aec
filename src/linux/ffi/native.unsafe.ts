/**
 * The one door to native code: raw system calls, posix_spawn and views of mapped memory, through koffi.
 *
 * Nothing else in Floe imports koffi. Calls go through libc's syscall(2) so that no libc wrapper changes arguments or
 * retries behind our back; the result is the kernel's own convention, a negative errno on failure.
 */
import koffi from "koffi";

/** What a system call takes: an integer, an address, or memory of ours (its address is passed). */
export type Arg = number | bigint | Uint8Array;

const libc = koffi.load(null);
const raw = [
  libc.func("int64_t syscall(int64_t nr)"),
  libc.func("int64_t syscall(int64_t nr, int64_t a)"),
  libc.func("int64_t syscall(int64_t nr, int64_t a, int64_t b)"),
  libc.func("int64_t syscall(int64_t nr, int64_t a, int64_t b, int64_t c)"),
  libc.func("int64_t syscall(int64_t nr, int64_t a, int64_t b, int64_t c, int64_t d)"),
  libc.func("int64_t syscall(int64_t nr, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e)"),
  libc.func("int64_t syscall(int64_t nr, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f)"),
] as const;

/**
 * Address of the first byte of `memory`.
 *
 * SAFETY: the backing store of an ArrayBuffer does not move; the caller keeps `memory` reachable until the kernel is done.
 */
export function addressOf(memory: Uint8Array): bigint {
  return koffi.address(memory);
}

/**
 * syscall(2) — makes system call `nr`; returns the result, or the negative errno.
 *
 * Results above 2^53 come as bigint, all others as number. SAFETY: memory passed is kept alive by the argument list.
 */
export function syscall(nr: number, ...args: readonly Arg[]): number | bigint {
  const values = args as Arg[];
  for (let i = 0; i < values.length; i++) {
    const a = values[i] as Arg;
    if (typeof a === "object") values[i] = a.length === 0 ? 0 : koffi.address(a);
  }
  const call = raw[values.length];
  if (call === undefined) throw new Error(`internal error: syscall ${nr} with ${values.length} arguments`);
  const result = call(nr, ...values) as number | bigint;
  return result === -1 ? -koffi.errno() : result;
}

/** Like {@link syscall} for calls whose result always fits a number. */
export function syscallNumber(nr: number, ...args: readonly Arg[]): number {
  return Number(syscall(nr, ...args));
}

/** A Buffer over `length` bytes at `address` of our own memory. SAFETY: the mapping must outlive every use. */
export function viewMemory(address: bigint, length: number): Buffer {
  return Buffer.from(koffi.view(address, length));
}

let machineCode: ReturnType<typeof koffi.proto> | undefined;
let spawn: ((...args: unknown[]) => unknown) | undefined;

/**
 * int posix_spawn(pid_t *pid, const char *path, …, char *const argv[], char *const envp[]) — starts `path`.
 *
 * Unlike node:child_process no SIGCHLD handler of libuv learns of the child, so its ptrace stops stay ours.
 * Returns the pid, or a negative errno. The child inherits every descriptor that is not close-on-exec.
 */
export function posixSpawn(path: string, argv: readonly string[], env: readonly string[]): number {
  spawn ??= libc.func("int posix_spawn(int *pid, const char *path, void *actions, void *attr, const void *argv, const void *envp)");
  const pid = Buffer.alloc(4);
  const keep: Buffer[] = [];
  const vector = (strings: readonly string[]) => {
    const table = Buffer.alloc((strings.length + 1) * 8);
    strings.forEach((s, i) => {
      const bytes = Buffer.from(`${s}\0`);
      keep.push(bytes);
      table.writeBigUInt64LE(koffi.address(bytes), i * 8);
    });
    return table;
  };
  const error = spawn(pid, path, null, null, vector(argv), vector(env)) as number;
  return error === 0 && keep.length >= 0 ? pid.readInt32LE(0) : -error;
}

/**
 * Runs position-independent machine code of ours as `int64_t f(void *arg)`.
 *
 * Only for instructions JavaScript has no word for (cpuid). SAFETY: `code` must return by `ret` and keep to the C ABI.
 */
export function callMachineCode(code: Uint8Array, arg: Uint8Array): number | bigint {
  const SYS_MMAP = 9;
  const SYS_MUNMAP = 11;
  const at = BigInt(syscall(SYS_MMAP, 0, 4096, 7, 0x22, -1, 0));
  if (at < 0n) throw new Error(`internal error: mmap of a code page failed (${at})`);
  try {
    viewMemory(at, 4096).set(code);
    machineCode ??= koffi.proto("int64_t machine_code(void *arg)");
    return koffi.call(at, machineCode, arg) as number | bigint;
  } finally {
    syscall(SYS_MUNMAP, at, 4096);
  }
}
