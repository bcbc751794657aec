/**
 * /proc/PID/status and /proc/PID/task/TID/status, proc_pid_status(5).
 */
import { procTextError, utf8 } from "./text.js";

/** Real, effective, saved, file-system id. */
export type IdSet = readonly [number, number, number, number];

export interface ProcStatus {
  readonly name: string;
  readonly state: string;
  readonly tgid: number;
  readonly ppid: number;
  readonly tracerPid: number;
  readonly umask: number;
  readonly uids: IdSet;
  readonly gids: IdSet;
  readonly groups: readonly number[];
  /** Thread-group id, thread id, group and session in every pid namespace, outermost first. */
  readonly nsTgid: readonly number[];
  readonly nsPid: readonly number[];
  readonly nsPgid: readonly number[];
  readonly nsSid: readonly number[];
  /** Locked memory. */
  readonly lockedKib: number;
  readonly threads: number;
  readonly capInh: bigint;
  readonly capPrm: bigint;
  readonly capEff: bigint;
  readonly capBnd: bigint;
  readonly capAmb: bigint;
  readonly noNewPrivs: boolean;
  /** 0 none, 1 strict, 2 filter. */
  readonly seccomp: number;
  /** How many filters; since 5.9, else undefined. */
  readonly seccompFilters: number | undefined;
  /** Pending for this thread, then for the process; blocked, ignored, caught. Bit n-1 is signal n. */
  readonly sigPnd: bigint;
  readonly shdPnd: bigint;
  readonly sigBlk: bigint;
  readonly sigIgn: bigint;
  readonly sigCgt: bigint;
}

/** Undoes the escapes of the Name line: a newline and a backslash. */
function taskName(escaped: string): string {
  const name = utf8(escaped);
  return name.includes("\\") ? name.replace(/\\(n|\\)/g, (_, letter: string) => (letter === "n" ? "\n" : "\\")) : name;
}

/** Looks lines up by name. They come in a fixed order, so the search goes on where the last one was found. */
class Lines {
  private readonly text: string;
  private at = 0;

  constructor(text: string) {
    this.text = text;
  }

  /** What follows `name:` and a tab, or undefined when there is no such line. */
  value(name: string): string | undefined {
    const head = `\n${name}:\t`;
    let found = this.text.indexOf(head, this.at);
    if (found < 0) found = this.text.indexOf(head);
    if (found < 0) return undefined;
    const end = this.text.indexOf("\n", found + head.length);
    this.at = end;
    return this.text.slice(found + head.length, end);
  }

  /** A number in `radix`; 0 when the kernel does not have the line. */
  int(name: string, radix = 10): number {
    const text = this.value(name);
    return text === undefined ? 0 : Number.parseInt(text, radix);
  }

  /** A set of bits; empty when the kernel does not have the line. */
  bits(name: string): bigint {
    return BigInt(`0x${this.value(name) ?? "0"}`);
  }

  list(name: string): number[] {
    const text = this.value(name)?.trim() ?? "";
    return text === "" ? [] : text.split(/\s+/).map(Number);
  }

  ids(name: string): IdSet {
    const [real = 0, effective = 0, saved = 0, fileSystem = 0] = this.list(name);
    return [real, effective, saved, fileSystem];
  }
}

/** Takes the bytes of a status file apart; `path` is for messages. Lines that an old kernel lacks read as 0 or empty. */
export function parseStatus(bytes: Buffer, path: string): ProcStatus {
  const text = `\n${bytes.toString("latin1")}`;
  if (!text.startsWith("\nName:\t") || !text.includes("\nSigCgt:\t") || !text.endsWith("\n")) {
    throw procTextError(path, "it is cut off");
  }
  return new StatusText(text);
}

/** Lines are taken apart when they are asked for: thousands of these files are read while a tree stands still. */
class StatusText implements ProcStatus {
  readonly #lines: Lines;

  constructor(text: string) {
    this.#lines = new Lines(text);
  }

  get name(): string {
    return taskName(this.#lines.value("Name") ?? "");
  }

  get umask(): number {
    return this.#lines.int("Umask", 8);
  }

  get state(): string {
    return this.#lines.value("State")?.charAt(0) ?? "";
  }

  get tgid(): number {
    return this.#lines.int("Tgid");
  }

  get ppid(): number {
    return this.#lines.int("PPid");
  }

  get tracerPid(): number {
    return this.#lines.int("TracerPid");
  }

  get uids(): IdSet {
    return this.#lines.ids("Uid");
  }

  get gids(): IdSet {
    return this.#lines.ids("Gid");
  }

  get groups(): readonly number[] {
    return this.#lines.list("Groups");
  }

  get nsTgid(): readonly number[] {
    return this.#lines.list("NStgid");
  }

  get nsPid(): readonly number[] {
    return this.#lines.list("NSpid");
  }

  get nsPgid(): readonly number[] {
    return this.#lines.list("NSpgid");
  }

  get nsSid(): readonly number[] {
    return this.#lines.list("NSsid");
  }

  get lockedKib(): number {
    return this.#lines.int("VmLck");
  }

  get threads(): number {
    return this.#lines.int("Threads");
  }

  get sigPnd(): bigint {
    return this.#lines.bits("SigPnd");
  }

  get shdPnd(): bigint {
    return this.#lines.bits("ShdPnd");
  }

  get sigBlk(): bigint {
    return this.#lines.bits("SigBlk");
  }

  get sigIgn(): bigint {
    return this.#lines.bits("SigIgn");
  }

  get sigCgt(): bigint {
    return this.#lines.bits("SigCgt");
  }

  get capInh(): bigint {
    return this.#lines.bits("CapInh");
  }

  get capPrm(): bigint {
    return this.#lines.bits("CapPrm");
  }

  get capEff(): bigint {
    return this.#lines.bits("CapEff");
  }

  get capBnd(): bigint {
    return this.#lines.bits("CapBnd");
  }

  get capAmb(): bigint {
    return this.#lines.bits("CapAmb");
  }

  get noNewPrivs(): boolean {
    return this.#lines.int("NoNewPrivs") === 1;
  }

  get seccomp(): number {
    return this.#lines.int("Seccomp");
  }

  get seccompFilters(): number | undefined {
    const text = this.#lines.value("Seccomp_filters");
    return text === undefined ? undefined : Number.parseInt(text, 10);
  }
}
