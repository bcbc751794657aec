/**
 * /proc/PID/maps and /proc/PID/smaps, proc_pid_maps(5): the mappings of an address space.
 *
 * Read while the process stands still and mostly by code that runs for the first time, hence by the built-in functions
 * of strings, which are fast from the start, and not by loops over bytes, which are fast only once they are compiled.
 * A zombie's maps are empty: no mappings.
 */
import { procTextError, utf8 } from "./text.js";

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
  /** Path, or a name in brackets, or empty; the escape of a newline undone, " (deleted)" kept. */
  readonly name: string;
  /** Two-letter flags of smaps ("VmFlags"), empty when read from maps. Shared between mappings with the same flags. */
  readonly flags: ReadonlySet<string>;
  /** Page size of the mapping in KiB (4, or that of hugetlb); 0 when read from maps. */
  readonly kernelPageSizeKib: number;
}

const NO_FLAGS: ReadonlySet<string> = new Set();
/** Hexadecimal digits that always fit a number exactly. */
const EXACT_DIGITS = 13;

/** Where the parser stands, and what it knows of the mapping before: neighbours repeat one another. */
interface Cursor {
  readonly text: string;
  readonly path: string;
  /** Start of the line to be read. */
  at: number;
  endText: string;
  end: bigint;
  inodeText: string;
  inode: bigint;
  rawName: string;
  name: string;
}

function cursorOver(bytes: Buffer, path: string): Cursor {
  const text = bytes.toString("latin1");
  return { text, path, at: 0, endText: "", end: 0n, inodeText: "0", inode: 0n, rawName: "", name: "" };
}

function fail(cursor: Cursor): Error {
  return procTextError(cursor.path, `it is cut off or malformed at byte ${cursor.at}`);
}

function hexNumber(digits: string): bigint {
  if (digits === "00000000") return 0n;
  return digits.length <= EXACT_DIGITS ? BigInt(Number.parseInt(digits, 16)) : BigInt(`0x${digits}`);
}

/** Only a newline is escaped here: any other backslash in a name is a backslash. */
function readable(rawName: string): string {
  const name = utf8(rawName);
  return name.includes("\\012") ? name.replaceAll("\\012", "\n") : name;
}

type Head = { -readonly [K in keyof Vma]: Vma[K] };

/**
 * Lines that have been taken apart already. Most mappings of a process are what they were when it was looked at before the
 * freeze, and those of its children are the same.
 */
const heads = new Map<string, Readonly<Head>>();
const MAX_HEADS = 100_000;

/** The mapping that the next line tells of; leaves the cursor behind its newline. */
function head(cursor: Cursor): Head {
  const { text, at } = cursor;
  const lineEnd = text.indexOf("\n", at);
  const line = text.slice(at, lineEnd < 0 ? at : lineEnd);
  const known = heads.get(line);
  if (known !== undefined) {
    cursor.at = lineEnd + 1;
    return { ...known };
  }
  const found = parseHead(cursor);
  if (heads.size < MAX_HEADS) heads.set(line, { ...found });
  return found;
}

/** Reads a line as in `7f00-7fff r-xp 00001000 fd:01 1234    /lib/x`; leaves the cursor behind its newline. */
function parseHead(cursor: Cursor): Head {
  const { text, at } = cursor;
  const lineEnd = text.indexOf("\n", at);
  const dash = text.indexOf("-", at);
  const permissions = text.indexOf(" ", dash) + 1;
  const offset = permissions + 5;
  const device = text.indexOf(" ", offset) + 1;
  const colon = text.indexOf(":", device);
  const inode = text.indexOf(" ", colon) + 1;
  if (dash < 0 || permissions < 1 || device < 1 || colon < 0 || inode < 1 || inode >= lineEnd) throw fail(cursor);
  const space = text.indexOf(" ", inode);
  const inodeEnd = space < 0 || space > lineEnd ? lineEnd : space;
  const rawName = text.slice(inodeEnd, lineEnd).trimStart();
  const startText = text.slice(at, dash);
  const start = startText === cursor.endText ? cursor.end : hexNumber(startText);
  cursor.endText = text.slice(dash + 1, permissions - 1);
  cursor.end = hexNumber(cursor.endText);
  const inodeText = text.slice(inode, inodeEnd);
  if (inodeText !== cursor.inodeText) {
    cursor.inodeText = inodeText;
    cursor.inode = BigInt(inodeText);
  }
  if (rawName !== cursor.rawName) {
    cursor.rawName = rawName;
    cursor.name = readable(rawName);
  }
  cursor.at = lineEnd + 1;
  return {
    start,
    end: cursor.end,
    read: text[permissions] === "r",
    write: text[permissions + 1] === "w",
    exec: text[permissions + 2] === "x",
    shared: text[permissions + 3] === "s",
    offset: hexNumber(text.slice(offset, device - 1)),
    devMajor: Number.parseInt(text.slice(device, colon), 16),
    devMinor: Number.parseInt(text.slice(colon + 1, inode - 1), 16),
    inode: cursor.inode,
    name: cursor.name,
    flags: NO_FLAGS,
    kernelPageSizeKib: 0,
  };
}

/** Turns the errors of number conversion, which only odd text causes, into the typed one. */
function parse<T>(cursor: Cursor, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof RangeError) throw fail(cursor);
    throw error;
  }
}

/** Mappings from the bytes of a maps file. */
export function parseMaps(bytes: Buffer, path: string): Vma[] {
  const cursor = cursorOver(bytes, path);
  return parse(cursor, () => {
    const found: Vma[] = [];
    while (cursor.at < cursor.text.length) found.push(head(cursor));
    return found;
  });
}

const PAGE_SIZE = "\nKernelPageSize:";
const VM_FLAGS = "\nVmFlags:";

/** Offset of `wanted` at or behind `from`: where it was in the last record (columns have fixed widths), or searched. */
function find(text: string, from: number, options: { wanted: string; guess: number }): number {
  const guessed = from + options.guess;
  return text.startsWith(options.wanted, guessed) ? guessed : text.indexOf(options.wanted, from);
}

/** Mappings with their flags, from the bytes of a smaps file. */
export function parseSmaps(bytes: Buffer, path: string): Vma[] {
  const cursor = cursorOver(bytes, path);
  return parse(cursor, () => smaps(cursor));
}

function smaps(cursor: Cursor): Vma[] {
  const { text } = cursor;
  const found: Vma[] = [];
  const flagSets = new Map<string, ReadonlySet<string>>();
  let sizeGuess = 0;
  let flagsGuess = 0;
  while (cursor.at < text.length) {
    const vma = head(cursor);
    const body = cursor.at - 1; // the newline that ends the head line
    const flagsAt = find(text, body, { wanted: VM_FLAGS, guess: flagsGuess });
    const flagsEnd = flagsAt < 0 ? -1 : text.indexOf("\n", flagsAt + 1);
    const sizeAt = find(text, body, { wanted: PAGE_SIZE, guess: sizeGuess });
    if (flagsEnd < 0 || sizeAt < 0 || sizeAt > flagsAt) throw fail(cursor);
    const flagsText = text.slice(flagsAt + VM_FLAGS.length, flagsEnd);
    let flags = flagSets.get(flagsText);
    if (flags === undefined) {
      flags = new Set(flagsText.split(" ").filter((flag) => flag !== ""));
      flagSets.set(flagsText, flags);
    }
    vma.flags = flags;
    vma.kernelPageSizeKib = Number.parseInt(text.slice(sizeAt + PAGE_SIZE.length, sizeAt + PAGE_SIZE.length + 20), 10);
    flagsGuess = flagsAt - body;
    sizeGuess = sizeAt - body;
    found.push(vma);
    cursor.at = flagsEnd + 1;
  }
  return found;
}
