/**
 * `crit x`: what is in an images directory, as text: the process tree, open files, mappings, saved pages.
 */
import { DirectorySource } from "../../images/source.js";
import type { RegFileEntry } from "../../resources/files/regular.schema.js";
import { regFileEntry } from "../../resources/files/regular.schema.js";
import { type FileEntry, fdTypes, fdinfoEntry, fileEntry } from "../../resources/files/table.schema.js";
import { fsEntry } from "../../resources/files/working-dir.schema.js";
import { type MmEntry, mmEntry } from "../../resources/memory/mm.schema.js";
import { pagemapEntry, pagemapHead } from "../../resources/memory/pagemap.schema.js";
import type { VmaEntry } from "../../resources/memory/vma.schema.js";
import { taskKobjIdsEntry } from "../../images/object-ids.schema.js";
import { coreEntry } from "../../resources/tasks/core.schema.js";
import { type PstreeEntry, pstreeEntry } from "../../resources/tasks/tree.schema.js";
import { quotedPrintable } from "./quoted-printable.js";

export const EXPLORERS = ["ps", "fds", "mems", "rss"] as const;
export type Explorer = (typeof EXPLORERS)[number];

const PAGE_BYTES = 4096n;
const MAP_SHARED_FILE = 1 << 7;
const MAP_GROWSDOWN = 0x100;
const REGULAR = 1 << 0;
const STACK = 1 << 1;
const VSYSCALL = 1 << 2;
const VDSO = 1 << 3;
const FILE = (1 << 6) | MAP_SHARED_FILE;
const ANON_SHARED = 1 << 8;
const SYSVIPC = 1 << 10;
const SOCKET = 1 << 11;
const UNKNOWN_PATH = "unknown path";

/** The lines that `crit x DIRECTORY what` prints. */
export function explore(directory: string, what: Explorer): string[] {
  const images = new DirectorySource(directory);
  try {
    const tasks = images.records("PSTREE", [], pstreeEntry).map((record) => record.value);
    if (tasks.length === 0) images.single("PSTREE", [], pstreeEntry);
    switch (what) {
      case "ps":
        return processes(images, tasks);
      case "fds":
        return tasks.flatMap((task) => descriptors(images, task.pid));
      case "mems":
        return allMappings(images, tasks);
      case "rss":
        return tasks.flatMap((task) => savedPages(images, task.pid));
    }
  } finally {
    images.close();
  }
}

function processes(images: DirectorySource, tasks: readonly PstreeEntry[]): string[] {
  const pids = new Set(tasks.map((task) => task.pid));
  const children = new Map<number, PstreeEntry[]>();
  for (const task of tasks) {
    // A parent that is not in the image makes its child a root; so does being one's own parent.
    const parent = pids.has(task.ppid) && task.ppid !== task.pid ? task.ppid : 0;
    children.set(parent, [...(children.get(parent) ?? []), task]);
  }
  const lines = [`${column("PID")}${column("PGID")}${column("SID")}   COMM`];
  const stack = (children.get(0) ?? []).map((task) => ({ task, depth: 0 })).reverse();
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const { task, depth } = next;
    const comm = images.records("CORE", [task.pid], coreEntry)[0]?.value.tc?.comm ?? "";
    lines.push(`${column(task.pid)}${column(task.pgid)}${column(task.sid)}   ${"    ".repeat(depth)}${comm}`);
    stack.push(...(children.get(task.pid) ?? []).map((child) => ({ task: child, depth: depth + 1 })).reverse());
  }
  return lines;
}

const column = (value: number | string): string => String(value).padStart(7);

function descriptors(images: DirectorySource, pid: number): string[] {
  const filesId = images.records("IDS", [pid], taskKobjIdsEntry)[0]?.value.files_id;
  const fs = images.records("FS", [pid], fsEntry)[0]?.value;
  // A zombie has none.
  if (filesId === undefined && fs === undefined) return [];
  const files = new Files(images);
  const lines = [String(pid)];
  for (const { value: fd } of filesId === undefined ? [] : images.records("FDINFO", [filesId], fdinfoEntry)) {
    lines.push(`\t${column(fd.fd)}: ${files.describe(fd.type, fd.id)}`);
  }
  if (fs !== undefined) lines.push(`\t${column("cwd")}: ${files.path(fs.cwd_id)}`, `\t${column("root")}: ${files.path(fs.root_id)}`);
  return lines;
}

/** Open files by type and id; images of old versions have the regular ones in a file of their own. */
class Files {
  readonly #entries = new Map<string, FileEntry>();
  readonly #regular = new Map<number, RegFileEntry>();

  constructor(images: DirectorySource) {
    for (const { value } of images.records("FILES", [], fileEntry)) {
      this.#entries.set(`${value.type}:${value.id}`, value);
      if (value.reg !== undefined) this.#regular.set(value.id, value.reg);
    }
    for (const { value } of images.records("REG_FILES", [], regFileEntry)) this.#regular.set(value.id, value);
  }

  path(id: number): string {
    return this.#regular.get(id)?.name || UNKNOWN_PATH;
  }

  describe(type: number, id: number): string {
    if (type === fdTypes.values.REG) return this.path(id);
    const entry = this.#entries.get(`${type}:${id}`);
    if (entry?.pipe !== undefined) return `pipe[${entry.pipe.pipe_id}]`;
    if (entry?.usk !== undefined) {
      const name = quotedPrintable(entry.usk.name);
      return `unix[${entry.usk.ino} (${entry.usk.peer})${name === "" ? "" : ` ${name}`}]`;
    }
    const name = Object.entries(fdTypes.values).find(([, value]) => value === type)?.[0];
    return `${name ?? type}.${id}`;
  }
}

/** Shared memory goes by small numbers, in the order in which it first comes, in hexadecimal. */
type ObjectNumbers = Map<bigint, number>;

function numberOf(numbers: ObjectNumbers, id: bigint): string {
  const number = numbers.get(id) ?? numbers.size + 1;
  numbers.set(id, number);
  return number.toString(16);
}

function allMappings(images: DirectorySource, tasks: readonly PstreeEntry[]): string[] {
  const numbers: ObjectNumbers = new Map();
  return tasks.flatMap((task) => mappings(images, task.pid, numbers));
}

function mappings(images: DirectorySource, pid: number, numbers: ObjectNumbers): string[] {
  const mm = images.records("MM", [pid], mmEntry)[0]?.value;
  if (mm === undefined) return [];
  const files = new Files(images);
  const lines = [String(pid), `\t${"exe".padEnd(40)}${files.path(mm.exe_file_id)}`];
  for (const vma of mm.vmas) {
    const range = `${hex8(vma.start)}-${hex8(vma.end)}`.padEnd(35);
    const prot = [1, 2, 4].map((bit, i) => ((vma.prot & bit) === 0 ? "-" : "rwx".charAt(i))).join("");
    lines.push(`\t${range}${prot.padStart(4)}${describeMapping(vma, { files, numbers })}${(vma.status & REGULAR) === 0 ? " *" : ""}`);
  }
  return lines;
}

const hex8 = (address: bigint): string => address.toString(16).padStart(8, "0");

function describeMapping({ status, flags, shmid, pgoff }: VmaEntry, { files, numbers }: { files: Files; numbers: ObjectNumbers }): string {
  if ((status & SYSVIPC) !== 0) return ` ips[${numberOf(numbers, shmid)}]`;
  if ((status & ANON_SHARED) !== 0) return ` shmem[${numberOf(numbers, shmid)}]`;
  if ((status & SOCKET) !== 0) return ` packet[${numberOf(numbers, shmid)}]`;
  if ((status & FILE) !== 0) {
    const offset = pgoff === 0n ? "" : ` + 0x${pgoff.toString(16)}`;
    return ` ${files.path(Number(shmid))}${offset}${(status & MAP_SHARED_FILE) === 0 ? "" : " (s)"}`;
  }
  if ((status & STACK) !== 0) return " [stack]";
  if ((status & VSYSCALL) !== 0) return " [vsyscall]";
  if ((status & VDSO) !== 0) return " [vdso]";
  return (flags & MAP_GROWSDOWN) === 0 ? "" : " [stack?]";
}

/** Each run of saved pages with the mappings it lies in; `~` is the mapping of the run before. */
function savedPages(images: DirectorySource, pid: number): string[] {
  const mm: MmEntry | undefined = images.records("MM", [pid], mmEntry)[0]?.value;
  if (mm === undefined) return [];
  const files = new Files(images);
  const lines = [String(pid)];
  let at = 0;
  let shown = -1;
  for (const run of images.headed("PAGEMAP", [pid], { head: pagemapHead, record: pagemapEntry }).records) {
    const pages = run.nr_pages ?? BigInt(run.compat_nr_pages);
    const end = run.vaddr + pages * PAGE_BYTES;
    let text = `${run.vaddr.toString(16)} / ${pages}`;
    while (at < mm.vmas.length && (mm.vmas[at]?.end ?? 0n) <= run.vaddr) at++;
    for (let i = at; i < mm.vmas.length; i++) {
      const vma = mm.vmas[i];
      if (vma === undefined || vma.start >= end) break;
      lines.push(`\t${text.padEnd(24)}${i === shown ? "~" : describePages(vma, files)}`);
      text = "";
      at = i;
      shown = i;
    }
    lines.push(`\t${text.padEnd(23)}`);
  }
  return lines;
}

function describePages(vma: VmaEntry, files: Files): string {
  const pages = String((vma.end - vma.start) / PAGE_BYTES).padEnd(8);
  return `${hex8(vma.start)} / ${pages}${(vma.status & FILE) === 0 ? "" : ` ${files.path(Number(vma.shmid))}`}`;
}
