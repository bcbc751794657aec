/**
 * System V shared memory that tasks of the tree have attached.
 *
 * Read from   /proc/sysvipc/shm; contents like those of all shared memory, through /proc/PID/map_files
 * Made with   shmget(2) with the id asked for by kernel.shm_next_id, shmctl(2); attached in the tasks by shmat(2)
 *
 * The IPC namespace goes on living outside of the tree. A segment that still is there is taken as it is while others have
 * it attached; when nobody has, it gets the contents that were saved.
 */
import { closeSync, constants, openSync } from "node:fs";
import { Refusal } from "../../errors.js";
import { punchHole } from "../../linux/files.js";
import {
  IPC_CREAT,
  IPC_EXCL,
  SHM_DEST,
  SHM_LOCKED,
  type Segment,
  lockSegment,
  readSegments,
  removeSegment,
  setNextSegmentId,
  setSegmentOwner,
  shmat,
  shmdt,
  shmget,
} from "../../linux/sysv.js";
import { fillShared } from "../memory/shared.js";
import { namespaceIds } from "../namespaces/ids.js";
import type { DumpSession, DumpTask, Fd, FileUse, Problem, RestoreSession } from "../part.js";
import { taskKobjIdsEntry } from "../tasks/core.schema.js";
import { type IpcShmEntry, ipcShmEntry } from "./shm.schema.js";

const RWX = 0o777;
const PAGE = 4096n;

/** Writes an entry for every segment that a task has attached. `ids`: the numbers of the segments, as /proc/PID/maps has them. */
export function dumpSegments(ids: ReadonlySet<number>, task: DumpTask, session: DumpSession): void {
  const there = new Map(readSegments().map((s) => [s.id, s]));
  const namespace = namespaceIds(task.traced).ipc_ns_id;
  for (const id of ids) {
    const segment = there.get(id);
    if (segment === undefined) {
      session.refuse(notOurs(id, task));
      continue;
    }
    const { key, uid, gid, cuid, cgid, mode, sizeBytes } = segment;
    session.images.append("IPCNS_SHM", [namespace], {
      type: ipcShmEntry,
      value: {
        desc: { key, uid, gid, cuid, cgid, mode: mode & RWX, id },
        size: sizeBytes,
        in_pagemaps: true,
        ...(mode & SHM_DEST ? { removed: true } : {}),
        ...(mode & SHM_LOCKED ? { locked: true } : {}),
      },
    });
  }
}

function notOurs(id: number, task: DumpTask): Refusal {
  return new Refusal({
    code: "MAPPING_SYSV",
    process: { pid: task.traced.pid, comm: task.comm },
    resource: `System V shared memory ${id}`,
    because: "it belongs to another IPC namespace than Floe's",
    remedy: ["Detach the segment (shmdt) before the dump", "Run Floe in the IPC namespace of the process"],
  });
}

interface Segments {
  readonly entries: readonly IpcShmEntry[];
  ready: boolean;
}

const segments = new WeakMap<RestoreSession, Segments>();

function segmentsOf(session: RestoreSession): Segments {
  let found = segments.get(session);
  if (found === undefined) {
    const namespaces = new Set(
      session.tasks.map(({ pid, core }) => (core.ids ?? session.images.single("IDS", [pid], taskKobjIdsEntry)).ipc_ns_id),
    );
    const entries = [...namespaces].flatMap((id) =>
      id === undefined ? [] : session.images.records("IPCNS_SHM", [id], ipcShmEntry).map((r) => r.value),
    );
    found = { entries, ready: false };
    segments.set(session, found);
  }
  return found;
}

/** Size of saved segment `id`. */
export function segmentBytes(id: number, session: RestoreSession): bigint {
  return segmentsOf(session).entries.find((e) => e.desc.id === id)?.size ?? 0n;
}

/** What stands in the way of attaching segment `id`. */
export function checkSegment(id: number, session: RestoreSession, use: FileUse): Problem[] {
  const entry = segmentsOf(session).entries.find((e) => e.desc.id === id);
  const refuse = (because: string, remedy: string) => [
    new Refusal(
      { code: "SEGMENT_TAKEN", process: use.process, resource: `${use.what}, System V shared memory ${id}`, because, remedy: [remedy] },
      "restore",
    ),
  ];
  if (entry === undefined || entry.in_pagemaps !== true) return refuse("the images do not have its contents", "Dump the process again");
  const all = readSegments();
  const there = all.find((s) => s.id === id);
  const { key } = entry.desc;
  if (there !== undefined && !isSame(there, entry))
    return refuse("another segment has its number now", `Remove that segment if nobody needs it: ipcrm -m ${id}`);
  const other = key === 0 ? undefined : all.find((s) => s.key === key && s.id !== id);
  if (other === undefined) return [];
  return refuse(
    `segment ${other.id} has its key 0x${key.toString(16)} now`,
    `Remove that segment if nobody needs it: ipcrm -m ${other.id}`,
  );
}

function isSame(there: Segment, { desc, size }: IpcShmEntry): boolean {
  return there.key === desc.key && there.sizeBytes === size && there.cuid === desc.cuid && there.cgid === desc.cgid;
}

/** Makes the segments that are gone, and gives those that nobody uses their saved contents. */
export function restoreSegments(session: RestoreSession): void {
  const of = segmentsOf(session);
  if (of.ready) return;
  of.ready = true;
  const there = new Map(readSegments().map((s) => [s.id, s]));
  for (const entry of of.entries) {
    const found = there.get(entry.desc.id);
    if (found === undefined) make(entry, session);
    if (found !== undefined && found.attached > 0)
      session.warn(`System V shared memory ${entry.desc.id} is in use: it is taken as it is now`);
    else fill(entry, session);
  }
}

function make({ desc, size }: IpcShmEntry, session: RestoreSession): void {
  setNextSegmentId(desc.id);
  const flags = IPC_CREAT | IPC_EXCL | (desc.mode & RWX);
  const got = shmget(desc.key, size, { flags, as: { uid: desc.cuid, gid: desc.cgid } });
  session.takeBack(() => removeSegment(got));
  if (got !== desc.id) throw new Error(`System V shared memory ${desc.id} cannot have its number again: it would be ${got}`);
  setSegmentOwner(desc.id, { uid: desc.uid, gid: desc.gid, mode: desc.mode & RWX });
}

function fill({ desc, size }: IpcShmEntry, session: RestoreSession): void {
  const address = shmat(desc.id, 0);
  let fd: Fd;
  try {
    const end = address + ((size + PAGE - 1n) & ~(PAGE - 1n));
    fd = openSync(`/proc/self/map_files/${address.toString(16)}-${end.toString(16)}`, constants.O_RDWR);
  } finally {
    shmdt(address);
  }
  try {
    punchHole(fd, { offset: 0n, sizeBytes: size });
    fillShared(fd, session.images, { shmid: BigInt(desc.id), sizeBytes: size });
  } finally {
    closeSync(fd);
  }
}

/** Segments that had been removed while in use are removed again; to be called when every task has attached its own. */
export function finishSegments(session: RestoreSession): void {
  const of = segments.get(session);
  if (of === undefined || !of.ready) return;
  of.ready = false;
  const there = new Map(readSegments().map((s) => [s.id, s]));
  for (const { desc, removed, locked } of of.entries) {
    const mode = there.get(desc.id)?.mode ?? 0;
    if (locked === true && (mode & SHM_LOCKED) === 0) lockSegment(desc.id);
    if (removed === true && (mode & SHM_DEST) === 0) removeSegment(desc.id);
  }
}
