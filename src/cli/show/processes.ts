/**
 * What a directory of images holds, as plain values: every process with its threads, memory and files.
 */
import { ImageError } from "../../errors.js";
import { inventoryEntry } from "../../images/inventory.schema.js";
import { taskKobjIdsEntry } from "../../images/object-ids.schema.js";
import type { DirectorySource } from "../../images/source.js";
import { fdinfoEntry, fileEntry } from "../../resources/files/table.schema.js";
import { fsEntry } from "../../resources/files/working-dir.schema.js";
import { type MmEntry, mmEntry } from "../../resources/memory/mm.schema.js";
import { coreEntry } from "../../resources/tasks/core.schema.js";
import { type PstreeEntry, pstreeEntry } from "../../resources/tasks/tree.schema.js";
import { type OpenFile, type ShownFile, describeFile } from "./files.js";
import { type MemoryTotals, memoryTotals, savedBytes } from "./memory.js";

export interface ShownProcess {
  readonly pid: number;
  readonly ppid: number;
  readonly pgid: number;
  readonly sid: number;
  readonly name: string;
  readonly state: "alive" | "stopped" | "zombie" | "unknown";
  readonly threads: readonly number[];
  readonly exe?: string;
  readonly cwd?: string;
  readonly root?: string;
  /** A zombie's status as wait(2) gives it. */
  readonly exitStatus?: number;
  /** Pid of a process shown before that this one shares its address space or descriptors with. */
  readonly sharesMemoryWith?: number;
  readonly sharesFilesWith?: number;
  readonly memory: readonly MemoryTotals[];
  readonly savedBytes: number;
  readonly files: readonly OpenFile[];
}

export interface ShownDump {
  readonly directory: string;
  readonly imageVersion: number;
  readonly processes: readonly ShownProcess[];
}

const STATES: Readonly<Record<number, ShownProcess["state"]>> = { 1: "alive", 3: "zombie", 6: "stopped" };

/** Reads the images of `source`. */
export function readDump(source: DirectorySource): ShownDump {
  const { img_version } = source.single("INVENTORY", [], inventoryEntry);
  const entries = source.records("PSTREE", [], pstreeEntry).map(({ value }) => value);
  if (entries.length === 0) {
    throw new ImageError({
      code: "IMAGE_MISSING",
      place: { file: "pstree.img" },
      because: "there is no process in it",
      remedy: ["Use a complete copy of the images directory"],
    });
  }
  const files = new Map(source.records("FILES", [], fileEntry).map(({ value }) => [value.id, describeFile(value, source)]));
  const seen: Seen = { files, memory: new Map(), tables: new Map() };
  return { directory: source.directory, imageVersion: img_version, processes: entries.map((entry) => readProcess(entry, source, seen)) };
}

/** Files by id, and the process that first showed an address space or a descriptor table, by the id of that. */
interface Seen {
  readonly files: ReadonlyMap<number, ShownFile>;
  readonly memory: Map<number, number>;
  readonly tables: Map<number, number>;
}

function readProcess(entry: PstreeEntry, source: DirectorySource, seen: Seen): ShownProcess {
  const { pid, ppid, pgid, sid, threads } = entry;
  const core = source.exists("CORE", [pid]) ? source.single("CORE", [pid], coreEntry) : undefined;
  const ids = core?.ids ?? (source.exists("IDS", [pid]) ? source.single("IDS", [pid], taskKobjIdsEntry) : undefined);
  const mm = source.records("MM", [pid], mmEntry)[0]?.value;
  const state = STATES[core?.tc?.task_state ?? 0] ?? "unknown";
  const memoryOwner = ids === undefined ? pid : firstOf(seen.memory, ids.vm_id, pid);
  const tableOwner = ids === undefined ? pid : firstOf(seen.tables, ids.files_id, pid);
  return {
    ...{ pid, ppid, pgid, sid, threads, state },
    name: core?.tc?.comm ?? "?",
    ...paths(pid, { source, seen, mm }),
    ...(state === "zombie" && core?.tc !== undefined ? { exitStatus: core.tc.exit_code } : {}),
    ...(mm !== undefined && memoryOwner !== pid ? { sharesMemoryWith: memoryOwner } : {}),
    ...(state !== "zombie" && tableOwner !== pid ? { sharesFilesWith: tableOwner } : {}),
    memory: mm === undefined ? [] : memoryTotals(mm),
    savedBytes: savedBytes(source, pid),
    files: ids === undefined ? [] : openFiles(ids.files_id, { source, seen }),
  };
}

function firstOf(owners: Map<number, number>, id: number, pid: number): number {
  const owner = owners.get(id) ?? pid;
  owners.set(id, owner);
  return owner;
}

interface From {
  readonly source: DirectorySource;
  readonly seen: Seen;
}

function paths(pid: number, { source, seen, mm }: From & { mm: MmEntry | undefined }): { exe?: string; cwd?: string; root?: string } {
  const fs = source.records("FS", [pid], fsEntry)[0]?.value;
  const path = (id: number | undefined) => (id === undefined ? undefined : seen.files.get(id)?.name);
  const [exe, cwd, root] = [path(mm?.exe_file_id), path(fs?.cwd_id), path(fs?.root_id)];
  return { ...(exe !== undefined && { exe }), ...(cwd !== undefined && { cwd }), ...(root !== undefined && { root }) };
}

function openFiles(filesId: number, { source, seen }: From): OpenFile[] {
  return source
    .records("FDINFO", [filesId], fdinfoEntry)
    .map(({ value }) => ({ fd: value.fd, id: value.id, closeOnExec: (value.flags & 1) !== 0, ...fileOf(seen, value.id) }))
    .sort((a, b) => a.fd - b.fd);
}

/** An entry that points nowhere is shown as such: this is a tool to look into bad images with, too. */
function fileOf(seen: Seen, id: number): ShownFile {
  return seen.files.get(id) ?? { kind: "missing", name: `no file has id ${id}` };
}
