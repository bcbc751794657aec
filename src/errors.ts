/**
 * The four kinds of error Floe reports, and the one that is our own bug.
 *
 * `Refusal`: a state that is not carried. `KernelError`: a system call failed. `ImageError`: an image is bad.
 * `UsageError`: the caller asked for something that cannot be. Everything else is a bug and shows its stack.
 */

/** What became of the process when an operation failed. */
export type Outcome = "resumed" | "untouched" | "left stopped" | "nothing was made";

/** Which process a message speaks of: its pid as seen by the caller, and its command name. */
export interface ProcessName {
  readonly pid: number;
  readonly comm: string;
}

/** Everything a refusal must say. */
export interface RefusalInit {
  /** Stable code, upper snake case, with a heading in docs/errors.md. */
  readonly code: string;
  readonly process: ProcessName;
  /** Kind of resource and what the user calls it, as in `fd 12, the deleted file "/tmp/upload"`. */
  readonly resource: string;
  /** Why, as a clause that follows "because". */
  readonly because: string;
  /** At least one thing the user can do. */
  readonly remedy: readonly [string, ...string[]];
  /** Finds what else is to be told, as a clause. For what takes longer to find than a process may stand still: asked when all is over. */
  readonly besides?: () => string | undefined;
}

/** A state of a process that Floe does not carry. */
export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly code: string;
  readonly process: ProcessName;
  readonly resource: string;
  readonly because: string;
  readonly remedy: readonly [string, ...string[]];
  readonly besides: () => string | undefined;

  constructor(init: RefusalInit, verb: "dump" | "restore" = "dump") {
    super(`Cannot ${verb} process ${init.process.pid} (${init.process.comm}): ${init.resource}: ${init.because}`);
    this.code = init.code;
    this.process = init.process;
    this.resource = init.resource;
    this.because = init.because;
    this.remedy = init.remedy;
    this.besides = init.besides ?? (() => undefined);
  }
}

/** Several refusals or image problems found in one run; each keeps its own remedy. */
export class Problems extends Error {
  override readonly name = "Problems";
  readonly problems: readonly (Refusal | ImageError | UsageError | KernelError)[];

  constructor(problems: readonly (Refusal | ImageError | UsageError | KernelError)[]) {
    super(problems.map((p) => p.message).join("\n"));
    this.problems = problems;
  }
}

/** A system call failed. `errno` is positive; `call` is the call with its arguments as in `openat(-100, "/x")`. */
export class KernelError extends Error {
  override readonly name = "KernelError";
  readonly code = "KERNEL_CALL_FAILED";
  readonly call: string;
  readonly errno: number;
  readonly remedy: readonly string[];

  constructor(init: { call: string; errno: number; errnoText: string; doing?: string; remedy?: readonly string[] }) {
    super(`${init.doing === undefined ? "" : `${init.doing}: `}${init.call}: ${init.errnoText}`);
    this.call = init.call;
    this.errno = init.errno;
    this.remedy = init.remedy ?? [];
  }
}

/** Where in an image something is wrong. */
export interface ImagePlace {
  readonly file: string;
  readonly offsetBytes?: number;
  readonly message?: string;
  readonly field?: string;
}

/** An image is missing, truncated, of a wrong version, or says impossible things. */
export class ImageError extends Error {
  override readonly name = "ImageError";
  readonly code: string;
  readonly place: ImagePlace;
  readonly remedy: readonly string[];

  constructor(init: { code: string; place: ImagePlace; because: string; remedy?: readonly string[]; cause?: unknown }) {
    const at = init.place.offsetBytes === undefined ? "" : ` at byte ${init.place.offsetBytes}`;
    const what =
      init.place.message === undefined ? "" : ` (${init.place.message}${init.place.field === undefined ? "" : `.${init.place.field}`})`;
    super(`Cannot read image "${init.place.file}"${at}${what}: ${init.because}`, { cause: init.cause });
    this.code = init.code;
    this.place = init.place;
    this.remedy = init.remedy ?? [];
  }
}

/** The caller asked for something that cannot be; `code` is stable. */
export class UsageError extends Error {
  override readonly name = "UsageError";
  readonly code: string;
  readonly remedy: readonly string[];

  constructor(init: { code: string; message: string; remedy?: readonly string[]; cause?: unknown }) {
    super(init.message, { cause: init.cause });
    this.code = init.code;
    this.remedy = init.remedy ?? [];
  }
}

/** States what must hold by our own logic; a failure is our bug, names the target and prints its stack. */
export function invariant(holds: unknown, what: string): asserts holds {
  if (!holds) throw new Error(`internal error: ${what}`);
}
