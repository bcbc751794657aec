/**
 * System V shared memory: what tasks of the tree have attached, and all there is in an IPC namespace of the tree's own.
 *
 * Read from   /proc/sysvipc/shm; contents like those of all shared memory, through /proc/PID/map_files; where nobody of the tree has
 *             it, Floe attaches it for a moment
 * Made with   shmget(2) with the id asked for by kernel.shm_next_id, shmctl(2); attached in the tasks by shmat(2)
 *
 * An IPC namespace that is not the tree's own goes on living outside of it. A segment that still is there is taken as it is while others
 * have it attached; when nobody has, it gets the contents that were saved. Who attached last, and when, is not carried: no call sets it.
 */
import { closeSync, constants, openSync, writeSync } from "node:fs";
import { Refusal } from "../../errors.js";
import { fstatfs, punchHole } from "../../linux/files.js";
import { HUGETLB_FLAG_ENCODE_SHIFT } from "../../linux/memory.js";
import { readMaps } from "../../linux/proc/read.js";
import {
  SHM_DEST,
  SHM_HUGETLB,
  SHM_LOCKED,
  SHM_RDONLY,
  type Segment,
  lockSegment,
  readSegments,
  removeSegment,
  setSegmentOwner,
  shmat,
  shmdt,
  shmget,
} from "../../linux/sysv.js";
import { IPC_CREAT, IPC_EXCL, setNextId } from "../../linux/sysv-objects.js";
import { HUGETLBFS_MAGIC } from "../memory/memfd-dump.js";
import { fillShared } from "../memory/shared.js";
import type { DumpSession, DumpTask, Fd, FileUse, Problem, RestoreSession } from "../part.js";
import { destroysUnattached, hasOwnIpc, inTreesIpc, ipcId, savedIpcIds, segmentsOfTree } from "./namespace.js";
import { type IpcShmEntry, ipcShmEntry } from "./shm.schema.js";

const RWX = 0o777;
const PAGE = 4096n;
/** Huge pages of a segment: their size, as shmget(2) is told it. */
const HUGE_SIZE = (0x3f << HUGETLB_FLAG_ENCODE_SHIFT) >>> 0;
/** Where no size is told. */
const DEFAULT_HUGE_SHIFT = 21;

/** A task that has a segment attached, and the size of its huge pages, if that is what it is made of. */
export interface Attached {
  readonly task: DumpTask;
  readonly hugeBytes?: bigint | undefined;
  /** Of the mapping: `/SYSV` and the key that the segment was made with. */
  readonly name: string;
}

/** Writes an entry for every segment that a task has attached, and for all others of a namespace that is the tree's own. */
export function dumpSegments(attached: ReadonlyMap<number, Attached>, session: DumpSession): void {
  const isOwn = hasOwnIpc(session);
  if (!isOwn && attached.size === 0) return;
  const there = new Map(segmentsOfTree(session).map((segment) => [segment.id, segment]));
  for (const [id, { task, name }] of attached) {
    const segment = there.get(id);
    if (segment === undefined || !isNamed(segment, name)) session.refuse(notOurs(id, task));
  }
  const id = ipcId(session);
  for (const segment of there.values()) {
    const user = attached.get(segment.id);
    if (user === undefined && !isOwn) continue;
    const hugeBytes = user === undefined ? dumpUnattached(segment, session) : user.hugeBytes;
    session.images.append("IPCNS_SHM", [id], { type: ipcShmEntry, value: entryOf(segment, hugeBytes) });
  }
}

/** Numbers are the same in every namespace; keys mostly are not. Of a segment that has been removed the kernel has forgotten the key. */
function isNamed({ key, mode }: Segment, name: string): boolean {
  return (mode & SHM_DEST) !== 0 || name.startsWith(`/SYSV${key.toString(16).padStart(8, "0")}`);
}

function entryOf({ id, key, uid, gid, cuid, cgid, mode, sizeBytes }: Segment, hugeBytes: bigint | undefined): IpcShmEntry {
  const huge = hugeBytes === undefined ? undefined : (SHM_HUGETLB | (Math.log2(Number(hugeBytes)) << HUGETLB_FLAG_ENCODE_SHIFT)) >>> 0;
  return {
    desc: { key, uid, gid, cuid, cgid, mode: mode & RWX, id },
    size: sizeBytes,
    in_pagemaps: true,
    ...(huge === undefined ? {} : { hugetlb_flag: huge }),
    ...(mode & SHM_DEST ? { removed: true } : {}),
    ...(mode & SHM_LOCKED ? { locked: true } : {}),
  };
}

function notOurs(id: number, task: DumpTask): Refusal {
  return new Refusal({
    code: "MAPPING_SYSV",
    process: { pid: task.traced.pid, comm: task.comm },
    resource: `System V shared memory ${id}`,
    because: "it belongs to another IPC namespace than the one that the process is in",
    remedy: ["Detach the segment (shmdt) before the dump"],
  });
}

const unattached = new WeakMap<DumpSession, { readonly id: number; readonly fd: Fd }[]>();

/** Segments that nobody of the tree has attached, open for their contents to be read; who takes them closes them. */
export function takeUnattached(session: DumpSession): { readonly id: number; readonly fd: Fd }[] {
  const all = unattached.get(session) ?? [];
  unattached.delete(session);
  return all;
}

/** Opens a segment for its contents; returns the size of its huge pages. */
function dumpUnattached(segment: Segment, session: DumpSession): bigint | undefined {
  const [root] = session.tasks;
  if (root === undefined) return undefined;
  if (segment.attached === 0 && destroysUnattached(session)) {
    session.refuse(destroyed(segment, root));
    return undefined;
  }
  const fd = inTreesIpc(session, () => openSegment(segment.id, constants.O_RDONLY));
  unattached.set(session, [...(unattached.get(session) ?? []), { id: segment.id, fd }]);
  const { type, blockSizeBytes } = fstatfs(fd);
  return type === HUGETLBFS_MAGIC ? blockSizeBytes : undefined;
}

function destroyed({ id }: Segment, { traced, comm }: DumpTask): Refusal {
  return new Refusal({
    code: "IPC_NOT_CARRIED",
    process: { pid: traced.pid, comm },
    resource: `System V shared memory ${id}`,
    because: "nobody has it attached, and kernel.shm_rmid_forced has it destroyed when somebody has looked at it",
    remedy: [`Write 0 to /proc/sys/kernel/shm_rmid_forced (nsenter --target ${traced.pid} --ipc …), or let a process attach it`],
  });
}

/** The file behind a segment. Called inside of its namespace. */
function openSegment(id: number, flags: number): Fd {
  const address = shmat(id, flags === constants.O_RDONLY ? SHM_RDONLY : 0);
  try {
    const end = readMaps(process.pid).find((vma) => vma.start === address)?.end;
    if (end === undefined) throw new Error(`internal error: segment ${id} is not where it was attached`);
    return openSync(`/proc/self/map_files/${address.toString(16)}-${end.toString(16)}`, flags);
  } finally {
    shmdt(address);
  }
}

interface Segments {
  readonly entries: readonly IpcShmEntry[];
  /** Contents that are not in pagemaps, by number. */
  readonly inline: ReadonlyMap<number, Buffer>;
  ready: boolean;
}

const segments = new WeakMap<RestoreSession, Segments>();

function segmentsOf(session: RestoreSession): Segments {
  let found = segments.get(session);
  if (found === undefined) {
    const { images } = session;
    const records = savedIpcIds(session).flatMap((id) => images.records("IPCNS_SHM", [id], ipcShmEntry, inlineBytes));
    found = { entries: records.map((r) => r.value), inline: new Map(records.map((r) => [r.value.desc.id, r.extra])), ready: false };
    segments.set(session, found);
  }
  return found;
}

/** Segments in the images. */
export function savedSegments(session: RestoreSession): readonly IpcShmEntry[] {
  return segmentsOf(session).entries;
}

/** Older images have the contents behind the entry, filled up to four bytes. */
function inlineBytes({ in_pagemaps, size }: IpcShmEntry): number {
  return in_pagemaps === true ? 0 : (Number(size) + 3) & ~3;
}

/** Bytes of the pages that saved segment `id` is made of. */
export function segmentPageBytes(id: number, session: RestoreSession): bigint {
  return pageBytesOf(segmentsOf(session).entries.find((e) => e.desc.id === id));
}

function pageBytesOf(entry: IpcShmEntry | undefined): bigint {
  const flag = entry?.hugetlb_flag ?? 0;
  return flag === 0 ? PAGE : 1n << BigInt((flag & HUGE_SIZE) >>> HUGETLB_FLAG_ENCODE_SHIFT || DEFAULT_HUGE_SHIFT);
}

/** Bytes that saved segment `id` takes where it is attached. */
export function segmentBytes(id: number, session: RestoreSession): bigint {
  const entry = segmentsOf(session).entries.find((e) => e.desc.id === id);
  const page = pageBytesOf(entry);
  return (((entry?.size ?? 0n) + page - 1n) / page) * page;
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
  if (entry === undefined) return refuse("the images do not have its contents", "Dump the process again");
  if (session.hasOwnIpc) return [];
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
  session.inIpc(() => {
    const there = new Map(readSegments().map((s) => [s.id, s]));
    for (const entry of of.entries) {
      const found = there.get(entry.desc.id);
      if (found === undefined) make(entry, session);
      if (found !== undefined && found.attached > 0)
        session.warn(`System V shared memory ${entry.desc.id} is in use: it is taken as it is now`);
      else fill(entry, { session, inline: of.inline.get(entry.desc.id) });
    }
  });
}

function make({ desc, size, hugetlb_flag }: IpcShmEntry, session: RestoreSession): void {
  setNextId("shm", desc.id);
  const flags = IPC_CREAT | IPC_EXCL | (desc.mode & RWX) | (hugetlb_flag ?? 0);
  const got = shmget(desc.key, size, { flags, as: { uid: desc.cuid, gid: desc.cgid } });
  if (!session.hasOwnIpc) session.takeBack(() => removeSegment(got));
  if (got !== desc.id) throw new Error(`System V shared memory ${desc.id} cannot have its number again: it would be ${got}`);
  setSegmentOwner(desc.id, { uid: desc.uid, gid: desc.gid, mode: desc.mode & RWX });
}

function fill(
  { desc, size, in_pagemaps }: IpcShmEntry,
  { session, inline }: { session: RestoreSession; inline: Buffer | undefined },
): void {
  const fd = openSegment(desc.id, constants.O_RDWR);
  try {
    const sizeBytes = segmentBytes(desc.id, session);
    punchHole(fd, { offset: 0n, sizeBytes });
    if (in_pagemaps === true)
      fillShared(fd, session.images, { shmid: BigInt(desc.id), sizeBytes: segmentPageBytes(desc.id, session) === PAGE ? size : sizeBytes });
    else if (inline !== undefined) writeSync(fd, inline, 0, Number(size), 0);
  } finally {
    closeSync(fd);
  }
}

/** Segments that had been removed while in use are removed again; to be called when every task has attached its own. */
export function finishSegments(session: RestoreSession): void {
  const of = segments.get(session);
  if (of === undefined || !of.ready) return;
  of.ready = false;
  session.inIpc(() => {
    const there = new Map(readSegments().map((s) => [s.id, s]));
    for (const { desc, removed, locked } of of.entries) {
      const mode = there.get(desc.id)?.mode ?? 0;
      if (locked === true && (mode & SHM_LOCKED) === 0) lockSegment(desc.id);
      if (removed === true && (mode & SHM_DEST) === 0) removeSegment(desc.id);
    }
  });
}
