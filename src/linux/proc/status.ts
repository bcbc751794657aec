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
  const lines = new Lines(text);
  // In the kernel's order.
  return {
    name: taskName(lines.value("Name") ?? ""),
    umask: lines.int("Umask", 8),
    state: lines.value("State")?.charAt(0) ?? "",
    tgid: lines.int("Tgid"),
    ppid: lines.int("PPid"),
    tracerPid: lines.int("TracerPid"),
    uids: lines.ids("Uid"),
    gids: lines.ids("Gid"),
    groups: lines.list("Groups"),
    nsTgid: lines.list("NStgid"),
    nsPid: lines.list("NSpid"),
    nsPgid: lines.list("NSpgid"),
    nsSid: lines.list("NSsid"),
    lockedKib: lines.int("VmLck"),
    threads: lines.int("Threads"),
    sigPnd: lines.bits("SigPnd"),
    shdPnd: lines.bits("ShdPnd"),
    sigBlk: lines.bits("SigBlk"),
    sigIgn: lines.bits("SigIgn"),
    sigCgt: lines.bits("SigCgt"),
    capInh: lines.bits("CapInh"),
    capPrm: lines.bits("CapPrm"),
    capEff: lines.bits("CapEff"),
    capBnd: lines.bits("CapBnd"),
    capAmb: lines.bits("CapAmb"),
    noNewPrivs: lines.int("NoNewPrivs") === 1,
    seccomp: lines.int("Seccomp"),
  };
}
