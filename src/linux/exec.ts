/**
 * execve(2): the calling process becomes another program, and keeps its pid and its children.
 */
import { accessSync, constants, statSync } from "node:fs";
import { join } from "node:path";
import { ERRNO, kernelError } from "./errno.js";
import { addressOf, syscallNumber } from "./ffi/native.unsafe.js";
import { SIGPIPE, SIGSET_BYTES, SIGXFSZ, SIG_DFL, SIG_SETMASK, encodeSigAction, rtSigprocmask } from "./signals.js";
import { SYS } from "./syscalls.js";
import { cstring } from "./text.js";

/** uapi/asm-generic/fcntl.h */
const F_SETFD = 2;
const POINTER_BYTES = 8;

/**
 * void exit_group(int status) — ends the process at once. A JavaScript runtime would first set the modes of its terminal back
 * to what they were when it started; whoever has given the terminal to somebody else must not do that.
 */
export function exitNow(status: number): never {
  syscallNumber(SYS.exit_group, status);
  throw new Error("internal error: exit_group returned");
}

/**
 * int execve(const char *pathname, char *const argv[], char *const envp[]) — returns only by throwing.
 *
 * A JavaScript runtime ignores SIGPIPE and SIGXFSZ, which a new program would inherit, and makes the standard descriptors close-on-exec:
 * both are set back, and no signal stays blocked.
 */
export function execve(path: string, argv: readonly string[], env: Readonly<Record<string, string | undefined>>): never {
  const action = encodeSigAction({ handler: SIG_DFL, flags: 0n, restorer: 0n, mask: 0n });
  for (const signal of [SIGPIPE, SIGXFSZ]) syscallNumber(SYS.rt_sigaction, signal, action, 0, SIGSET_BYTES);
  rtSigprocmask(SIG_SETMASK, 0n);
  for (const fd of [0, 1, 2]) syscallNumber(SYS.fcntl, fd, F_SETFD, 0);
  const variables = Object.entries(env).flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`]));
  const args = pointerArray(argv);
  const envs = pointerArray(variables);
  // SAFETY: texts and pointer arrays are held by `args` and `envs` until the kernel has copied them, or the call failed.
  const result = syscallNumber(SYS.execve, cstring(path), args.array, envs.array);
  throw kernelError(`execve("${path}", ${args.texts.length} arguments)`, -result);
}

/** A NULL-terminated array of pointers to NUL-terminated texts. */
function pointerArray(values: readonly string[]): { readonly array: Buffer; readonly texts: readonly Buffer[] } {
  const texts = values.map((value) => cstring(value));
  const array = Buffer.alloc(POINTER_BYTES * (texts.length + 1));
  texts.forEach((text, i) => array.writeBigUInt64LE(addressOf(text), POINTER_BYTES * i));
  return { array, texts };
}

/** The path of a program as a shell finds it: as it is when it has a slash, otherwise in the directories of PATH. */
export function findProgram(name: string, searchPath = "/usr/local/bin:/usr/bin:/bin"): string {
  if (name.includes("/")) return name;
  const found = searchPath
    .split(":")
    .map((directory) => join(directory === "" ? "." : directory, name))
    .find(isProgram);
  if (found === undefined) throw kernelError(`execvp("${name}")`, ERRNO.ENOENT);
  return found;
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
