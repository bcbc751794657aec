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
const raw = libc.func("int64_t syscall(int64_t nr, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f)");

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
export function syscall(nr: number, a: Arg = 0, b: Arg = 0, c: Arg = 0, d: Arg = 0, e: Arg = 0, f: Arg = 0): number | bigint {
  const result = raw(nr, word(a), word(b), word(c), word(d), word(e), word(f)) as number | bigint;
  return result === -1 ? -koffi.errno() : result;
}

/** More than a call has arguments. */
const HELD = 8;
const held: Uint8Array[] = [];
let calls = 0;

/** Memory stays reachable until the call is over, also in compiled code that has no further use for the argument. */
function word(arg: Arg): number | bigint {
  if (typeof arg !== "object") return arg;
  if (arg.length === 0) return 0;
  held[calls++ % HELD] = arg;
  return koffi.address(arg);
}

/** Like {@link syscall} for calls whose result always fits a number. */
export function syscallNumber(nr: number, a?: Arg, b?: Arg, c?: Arg, d?: Arg, e?: Arg, f?: Arg): number {
  return Number(syscall(nr, a, b, c, d, e, f));
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

let loader: { readonly open: (...args: unknown[]) => unknown; readonly find: (...args: unknown[]) => unknown } | undefined;

function libraries() {
  loader ??= {
    open: libc.func("int64_t dlopen(const char *name, int flags)"),
    find: libc.func("int64_t dlsym(int64_t handle, const char *name)"),
  };
  return loader;
}

let threads: { readonly create: (...args: unknown[]) => unknown; readonly join: (...args: unknown[]) => unknown } | undefined;

/** void *dlopen(const char *filename, int flags) — the handle of a library; undefined when there is none of that name. */
export function openLibrary(name: string): bigint | undefined {
  const RTLD_NOW = 2;
  const handle = BigInt(libraries().open(name, RTLD_NOW) as number | bigint);
  return handle === 0n ? undefined : handle;
}

/** void *dlsym(void *handle, const char *symbol) — the address of a function; without a library, of libc's. */
export function functionAddress(name: string, library = 0n): bigint {
  const address = BigInt(libraries().find(library, name) as number | bigint);
  if (address === 0n) throw new Error(`internal error: there is no function ${name}`);
  return address;
}

/**
 * int pthread_create(…) — a thread that executes `code` with `arg` in rdi; undefined when there may be no more threads.
 *
 * SAFETY: the code must never come back into JavaScript, keep to the C ABI, and what it uses must outlive it: join it.
 */
export function startThread(code: bigint, arg: bigint): bigint | undefined {
  threads ??= {
    create: libc.func("int pthread_create(void *thread, void *attr, int64_t start, int64_t arg)"),
    join: libc.func("int pthread_join(int64_t thread, void *result)"),
  };
  const thread = Buffer.alloc(8);
  return threads.create(thread, null, code, arg) === 0 ? thread.readBigUInt64LE(0) : undefined;
}

/** int pthread_join(pthread_t thread, void **retval). */
export function joinThread(thread: bigint): void {
  threads?.join(thread, null);
}

/** Calls machine code of ours at `code` (see {@link callMachineCode}). */
export function callAt(code: bigint, arg: bigint): void {
  codeAt ??= koffi.proto("int64_t machine_code_at(int64_t arg)");
  koffi.call(code, codeAt, arg);
}

let codeAt: ReturnType<typeof koffi.proto> | undefined;
