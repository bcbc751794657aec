/**
 * Errors as people read them: what, why, what to do, and the code to look up in docs/errors.md.
 */
import { printError } from "./output.js";
import { ImageError, KernelError, Problems, Refusal, UsageError } from "../errors.js";

/** The lines that tell of an error. Only a bug of ours shows its stack. */
export function describeError(error: unknown): string {
  if (error instanceof Problems) {
    const all = error.problems.map(describeError);
    return [...all, `${all.length} problems were found; nothing was done`].join("\n");
  }
  if (error instanceof Refusal || error instanceof ImageError || error instanceof UsageError || error instanceof KernelError) {
    const tries = error.remedy.map((remedy, i) => `${i === 0 ? "  Try: " : "       "}${remedy}`);
    const [last = "", ...before] = [error.message, ...tries].reverse();
    return [...before.reverse(), `${last}   [${error.code}]`].join("\n");
  }
  // What node:fs throws is a system call that failed, too: no space, no right, no such file.
  if (isSystemError(error)) return `${error.syscall} failed: ${error.message}   [KERNEL_CALL_FAILED]`;
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return `This is a bug of Floe; please report it with these lines:\n${stack}`;
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "syscall" in error && "errno" in error;
}

export function reportError(error: unknown): void {
  printError(`${describeError(error)}\n`);
}
