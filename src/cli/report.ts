/**
 * Errors as people read them: what, why, what to do, and the code to look up in docs/errors.md.
 */
import { printError } from "./output.js";
import { ImageError, KernelError, Problems, Refusal, UsageError } from "../errors.js";

/** The lines that tell of an error. Only a bug of ours shows its stack. */
export function describeError(error: unknown): string {
  if (error instanceof Problems) {
    const { problems } = error;
    // What helps against all of a row is said once, behind the last.
    const all = problems.map((one, i) => (isAlike(one, problems[i + 1]) ? describeOwn(one, []) : describeError(one)));
    return [...all, `${all.length} problems were found; nothing was done`].join("\n");
  }
  if (error instanceof Refusal || error instanceof ImageError || error instanceof UsageError || error instanceof KernelError) {
    return describeOwn(error, error.remedy);
  }
  // What node:fs throws is a system call that failed, too: no space, no right, no such file.
  if (isSystemError(error)) return `${error.syscall} failed: ${error.message}   [KERNEL_CALL_FAILED]`;
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return `This is a bug of Floe; please report it with these lines:\n${stack}`;
}

type Told = Refusal | ImageError | UsageError | KernelError;

function describeOwn(told: Told, remedies: readonly string[]): string {
  const { code } = told;
  const besides = told instanceof Refusal ? told.besides() : undefined;
  const message = besides === undefined ? told.message : `${told.message}; ${besides}`;
  const tries = remedies.map((remedy, i) => `${i === 0 ? "  Try: " : "       "}${remedy}`);
  const [last = "", ...before] = [message, ...tries].reverse();
  return [...before.reverse(), `${last}   [${code}]`].join("\n");
}

function isAlike(one: Told, next: Told | undefined): boolean {
  return one.code === next?.code && one.remedy.join("\n") === next.remedy.join("\n");
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "syscall" in error && "errno" in error;
}

export function reportError(error: unknown): void {
  printError(`${describeError(error)}\n`);
}
