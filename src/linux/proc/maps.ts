/**
 * /proc/PID/maps and /proc/PID/smaps, proc_pid_maps(5): the mappings of an address space.
 */
import { procTextError } from "./text.js";

/** One mapping. */
export interface Vma {
  readonly start: bigint;
  readonly end: bigint;
  readonly read: boolean;
  readonly write: boolean;
  readonly exec: boolean;
  readonly shared: boolean;
  /** Offset in the file, in bytes. */
  readonly offset: bigint;
  readonly devMajor: number;
  readonly devMinor: number;
  readonly inode: bigint;
  /** Path, or a name in brackets, or empty; escapes undone, " (deleted)" kept. */
  readonly name: string;
  /** Two-letter flags of smaps ("VmFlags"), empty when read from maps. */
  readonly flags: ReadonlySet<string>;
  /** Huge page size of hugetlb mappings in KiB, else 4; 0 when read from maps. */
  readonly kernelPageSizeKib: number;
}

const HEAD = /^([0-9a-f]+)-([0-9a-f]+) (.)(.)(.)(.) ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+) *(.*)$/;

function unescape(name: string): string {
  if (!name.includes("\\")) return name;
  const bytes = name.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  return bytes;
}

function parseHead(line: string): Omit<Vma, "flags" | "kernelPageSizeKib"> | undefined {
  const m = HEAD.exec(line);
  if (m === null) return undefined;
  return {
    start: BigInt(`0x${m[1]}`),
    end: BigInt(`0x${m[2]}`),
    read: m[3] === "r",
    write: m[4] === "w",
    exec: m[5] === "x",
    shared: m[6] === "s",
    offset: BigInt(`0x${m[7]}`),
    devMajor: Number.parseInt(m[8] ?? "0", 16),
    devMinor: Number.parseInt(m[9] ?? "0", 16),
    inode: BigInt(m[10] ?? "0"),
    name: Buffer.from(unescape(m[11] ?? ""), "latin1").toString("utf8"),
  };
}

const NO_FLAGS: ReadonlySet<string> = new Set();

/** Mappings from the bytes of a maps file. */
export function parseMaps(bytes: Buffer, path: string): Vma[] {
  const lines = bytes.toString("latin1").split("\n");
  lines.pop();
  return lines.map((line) => {
    const head = parseHead(line);
    if (head === undefined) throw procTextError(path, `it has the line "${line.slice(0, 80)}"`);
    return { ...head, flags: NO_FLAGS, kernelPageSizeKib: 0 };
  });
}

/** Mappings with their flags, from the bytes of a smaps file. */
export function parseSmaps(bytes: Buffer, path: string): Vma[] {
  const text = bytes.toString("latin1");
  const out: Vma[] = [];
  const flagSets = new Map<string, ReadonlySet<string>>();
  let at = 0;
  while (at < text.length) {
    const lineEnd = text.indexOf("\n", at);
    const head = parseHead(text.slice(at, lineEnd));
    const flagsAt = text.indexOf("\nVmFlags:", lineEnd);
    if (head === undefined || flagsAt < 0) throw procTextError(path, "it is cut off");
    const flagsEnd = text.indexOf("\n", flagsAt + 1);
    const flagsText = text.slice(flagsAt + 9, flagsEnd);
    let flags = flagSets.get(flagsText);
    if (flags === undefined) {
      flags = new Set(flagsText.split(" ").filter((f) => f !== ""));
      flagSets.set(flagsText, flags);
    }
    const sizeAt = text.indexOf("\nKernelPageSize:", lineEnd - 1);
    out.push({ ...head, flags, kernelPageSizeKib: Number.parseInt(text.slice(sizeAt + 16, sizeAt + 40), 10) });
    at = flagsEnd + 1;
  }
  return out;
}
