/**
 * Rings of io_uring(7): requests to the kernel, and completions, in memory that both share.
 *
 * Read from   fdinfo: counters, requests under way, registered files and buffers; the memory of the ring; calls that change
 *             nothing (io-uring-probe.ts)
 * Made with   io_uring_setup(2) in a process that has it; as many requests for nothing as were made before, after which the
 *             counters are the saved ones and the memory gets its saved contents; mmap(2), io_uring_register(2)
 * Refused     rings with requests under way; served by a thread of the kernel (IORING_SETUP_SQPOLL); without descriptor, or without
 *             mapping; with an eventfd, restrictions or provided buffers; registered files that no descriptor leads to
 *
 * A descriptor of a ring cannot be sent (SCM_RIGHTS: EINVAL): processes take it from Floe by pidfd_getfd(2). CRIU's format has
 * no such kind: CRIU refuses these images. Lost: flags of io_uring_setup(2) that say how the kernel goes about it, tags of
 * registered files and buffers, registered credentials.
 */
import { closeSync, statSync } from "node:fs";
import { KernelError, Refusal } from "../../errors.js";
import { dupFrom } from "../../linux/fcntl.js";
import {
  IORING_REGISTER_BUFFERS,
  IORING_REGISTER_FILES,
  IORING_REGISTER_RING_FDS,
  IORING_SETUP_CQE32,
  IORING_SETUP_NO_SQARRAY,
  IORING_SETUP_SQE128,
  MAX_ENTRIES,
  RSRC_UPDATE_BYTES,
  type RingLayout,
  type RingShape,
  advanceRing,
  encodeRingParams,
  layoutOf,
  withRing,
} from "../../linux/io-uring.js";
import { IOVEC_BYTES } from "../../linux/memory.js";
import type { FdInfo } from "../../linux/proc/fdinfo.js";
import { readFdNumbers, readProcLink } from "../../linux/proc/list.js";
import type { Vma } from "../../linux/proc/maps.js";
import { readFdInfo } from "../../linux/proc/read.js";
import { kcmpFile } from "../../linux/process.js";
import { SYS } from "../../linux/syscalls.js";
import { closeRemote, handOverTaken, makeInside } from "../../target/hand-over.js";
import { Data, Program } from "../../target/program.js";
import { run } from "../../target/run.js";
import { afterDescriptors } from "../files/table.js";
import { fdTypes, fileEntry } from "../files/table.schema.js";
import { protection } from "../memory/area.js";
import type { DumpSession, DumpTask, Fd, FileKind, FileUse, OpenFile, RestoreSession } from "../part.js";
import { mapRing } from "./io-uring-place.js";
import { hasCounters, hiddenState, registeredRings, shapeOf, takeCompletions } from "./io-uring-probe.js";
import { RING_LINK, buffersOf, countersOf, filesOf, isIdle, ringsOf, stateOfRing } from "./io-uring-state.js";
import type { FloeIoUringEntry } from "./io-uring.schema.js";

/** How long a frozen tree may wait for requests, in milliseconds. */
const LIMIT_MS = 100;
const NAP_MS = 1;
/** Requests that are made to take the counters forward: some three seconds. */
const MAX_COUNT = 1 << 25;
const KNOWN_FLAGS = IORING_SETUP_SQE128 | IORING_SETUP_CQE32 | IORING_SETUP_NO_SQARRAY;
const PAGE = 4096n;

/** A ring of the tree. */
interface Found {
  readonly file: Pick<OpenFile, "id" | "task" | "fd" | "fown" | "info">;
  readonly inode: bigint;
  /** A descriptor of ours. */
  readonly local: Fd;
}

const found = new WeakMap<DumpSession, Found[]>();

export const ioUrings: FileKind<FloeIoUringEntry> = {
  name: "events/io-uring",
  rows: [],
  type: "FLOE_IO_URING",
  field: "ring",
  isPathless: true,
  matches: ({ link }) => link === RING_LINK,
  dump(file, session) {
    const all = found.get(session) ?? [];
    if (all.length === 0) afterDescriptors(session, () => writeAll(all, session));
    found.set(session, all);
    all.push({ file, inode: file.stat.ino, local: dupFrom(file.local, 0) });
    return undefined;
  },
  open: (entry, session) => rebuild(entry, session),
  finish(entry, { fd, session }) {
    giveBack(entry, fd, session);
    return undefined;
  },
  check: (entry, session, use) => {
    if (!isSound(entry, session)) return [badImage(entry, use)];
    const because = whyNotHere(entry);
    return because === undefined ? [] : [notHere(use, because)];
  },
};

interface Reason {
  readonly code?: string;
  readonly because: string;
  readonly remedy?: readonly [string, ...string[]];
}

function refusal(task: DumpTask, resource: string, { code = "IO_URING", because, remedy }: Reason): Refusal {
  return new Refusal({
    code,
    process: { pid: task.traced.pid, comm: task.comm },
    resource,
    because,
    remedy: remedy ?? [
      "Start the program with io_uring off, as many can be told (Node.js: UV_USE_IO_URING=0)",
      "Turn io_uring off for new programs with sysctl kernel.io_uring_disabled=2; most do without it then",
    ],
  });
}

/** Mappings of rings that nobody has a descriptor of. */
export function ringMapping(task: DumpTask, { start, end, inode }: Vma, session: DumpSession): Refusal | undefined {
  if (found.get(session)?.some((ring) => ring.inode === inode) === true) return undefined;
  const because = "it is a ring of io_uring that no process of the tree has a descriptor of";
  return refusal(task, `mapping ${start.toString(16)}-${end.toString(16)}`, { because });
}

function writeAll(all: readonly Found[], session: DumpSession): void {
  try {
    const users = usersOf(all, session);
    for (const one of all) {
      const made = entryOf(one, users, session);
      if (made instanceof Refusal) session.refuse(made);
      else session.images.append("FILES", [], { type: fileEntry, value: { type: fdTypes.values.FLOE_IO_URING, id: made.id, ring: made } });
    }
  } finally {
    for (const { local } of all) closeSync(local);
  }
}

/** A thread that goes by a number instead of a descriptor. */
interface User {
  readonly task: DumpTask;
  readonly tid: number;
  readonly index: number;
  /** Inodes of the rings that it may be; with several nobody tells which. */
  readonly rings: readonly bigint[];
}

function usersOf(all: readonly Found[], session: DumpSession): User[] {
  if (all.length === 0) return [];
  return session.tasks.flatMap((task) => {
    const inodes = ringsOf(task.traced.pid).map(({ pid, fd }) => statSync(`/proc/${pid}/fd/${fd}`, { bigint: true }).ino);
    const rings = [...new Set(inodes)];
    return rings.length === 0 ? [] : registeredRings(task).map(({ tid, index }) => ({ task, tid, index, rings }));
  });
}

function entryOf({ file, inode, local }: Found, users: readonly User[], session: DumpSession): FloeIoUringEntry | Refusal {
  const { task, fd } = file;
  const refuse = (reason: Reason) => refusal(task, `fd ${fd}, a ring of io_uring`, reason);
  const info = settled(file);
  if (countersOf(info).thread > 0) return refuse({ because: `a thread of the kernel serves it (${stateOfRing(info)})` });
  if (!isIdle(info)) return refuse(busy(info));
  const [mapper, counters] = mapperOf(inode, task, session);
  if (mapper === undefined) return refuse({ because: "no process of the tree has its counters mapped" });
  const hidden = hiddenState({ task, fd });
  if (hidden !== undefined) return refuse({ because: hidden });
  const { taken } = countersOf(info);
  if (taken > MAX_COUNT)
    return refuse({ because: `${taken} requests were made through it, which would all have to be made again (limit: ${MAX_COUNT})` });
  const mine = users.filter(({ rings }) => rings.includes(inode));
  if (mine.some(({ rings }) => rings.length > 1))
    return refuse({ because: "threads have registered descriptors of rings, and of several rings nobody tells which" });
  const { slots, files } = filesOf(info);
  const buffers = buffersOf(info);
  const { layout, ...shape } = shapeOf({ task, fd, local }, info, { mapper, counters });
  const descriptors = files.map(({ slot, link }) => ({ slot, fd: descriptorOf(task, link) }));
  const unknown = descriptors.findIndex((one) => one.fd === undefined);
  if (unknown >= 0) return refuse(unknownFile(files[unknown]));
  return {
    ...{ id: file.id, flags: file.info.flags, fown: file.fown, pid: task.pid },
    ...{ sq_entries: shape.sqEntries, cq_entries: shape.cqEntries, setup_flags: shape.flags, layout: layoutList(layout) },
    ...withRing(local, layout, ({ ring, requests }) => ({ ring: Buffer.from(ring), requests: Buffer.from(requests) })),
    mappings: mappingsOf(inode, session),
    ...{ file_slots: slots, files: descriptors.map((one) => ({ slot: one.slot, fd: one.fd ?? 0 })) },
    ...{ buffer_slots: buffers.slots, buffers: buffers.buffers },
    users: mine.map((user) => ({ pid: user.task.pid, tid: user.tid, index: user.index })),
  };
}

/** fdinfo, when what could be waited for has been done. */
function settled(at: { task: DumpTask; fd: number }): FdInfo {
  const { pid } = at.task.traced;
  const nap = new Int32Array(new SharedArrayBuffer(4));
  let info = readFdInfo(pid, at.fd);
  if (countersOf(info).thread > 0) return info;
  for (const until = performance.now() + LIMIT_MS; !isIdle(info) && performance.now() < until; info = readFdInfo(pid, at.fd)) {
    takeCompletions(at);
    Atomics.wait(nap, 0, 0, NAP_MS);
  }
  return info;
}

function busy(info: FdInfo): Reason {
  return {
    code: "IO_URING_BUSY",
    because: `requests of it are under way (${stateOfRing(info)})`,
    remedy: [
      "Dump again when its requests are done, or have the program cancel them",
      "Start the program with io_uring off, as many can be told (Node.js: UV_USE_IO_URING=0)",
    ],
  };
}

function unknownFile(file: { slot: number; link: string } | undefined): Reason {
  return {
    code: "IO_URING_FILE",
    because: `its registered file ${file?.slot} (${file?.link}) is open under no descriptor of the process, or under several that differ`,
    remedy: ["Unregister the file, or keep a descriptor of it open"],
  };
}

function mapperOf(inode: bigint, first: DumpTask, session: DumpSession): [DumpTask | undefined, bigint] {
  for (const task of [first, ...session.tasks]) {
    const vma = task.vmas.find((one) => hasCounters(one, inode));
    if (vma !== undefined) return [task, vma.start];
  }
  return [undefined, 0n];
}

function mappingsOf(inode: bigint, session: DumpSession): FloeIoUringEntry["mappings"] {
  const seen = new Set<number>();
  const owners = session.tasks.filter(({ ids }) => !seen.has(ids.vm) && seen.add(ids.vm));
  return owners.flatMap((task) =>
    task.vmas
      .filter((vma) => vma.inode === inode && vma.name === RING_LINK)
      .map((vma) => ({
        ...{ pid: task.pid, start: vma.start, bytes: vma.end - vma.start, offset: vma.offset, prot: protection(vma) },
        ...(vma.flags.has("dc") ? { dont_fork: true } : {}),
      })),
  );
}

/** The descriptor of a registered file: there may be several, if all are of one description. */
function descriptorOf({ traced: { pid } }: DumpTask, link: string): number | undefined {
  const [first, ...others] = readFdNumbers(pid).filter((fd) => readProcLink(pid, `fd/${fd}`) === link);
  if (first === undefined) return undefined;
  return others.every((fd) => kcmpFile({ pid, fd }, { pid, fd: first }) === 0) ? first : undefined;
}

const layoutList = ({ sqHead, sqTail, cqHead, cqTail, cqes, array }: RingLayout) => [sqHead, sqTail, cqHead, cqTail, cqes, array];

const savedShape = (entry: FloeIoUringEntry): RingShape => ({
  sqEntries: entry.sq_entries,
  cqEntries: entry.cq_entries,
  flags: entry.setup_flags,
});

function isSound(entry: FloeIoUringEntry, session: RestoreSession): boolean {
  const isPower = (n: number) => n > 0 && (n & (n - 1)) === 0;
  const fits = isPower(entry.sq_entries) && isPower(entry.cq_entries) && entry.sq_entries <= MAX_ENTRIES;
  const isMapped = entry.mappings.every(({ start, bytes, offset }) => bytes > 0n && (start | bytes | offset) % PAGE === 0n);
  const pids = [entry.pid, ...entry.mappings.map(({ pid }) => pid), ...entry.users.map(({ pid }) => pid)];
  const files = entry.files.every(({ slot }) => slot < entry.file_slots);
  const buffers = entry.buffers.every(({ slot }) => slot < entry.buffer_slots);
  const known = (entry.setup_flags & ~KNOWN_FLAGS) === 0 && entry.layout.length === 6 && entry.cq_entries <= 2 * MAX_ENTRIES;
  const few = entry.file_slots <= 1 << 20 && entry.buffer_slots <= 1 << 14;
  return fits && isMapped && files && buffers && known && few && pids.every((pid) => session.task(pid) !== undefined) && isCounted(entry);
}

/** Counters of a ring that has nothing to do. */
function isCounted({ ring, layout, sq_entries }: FloeIoUringEntry): boolean {
  const [sqHead = 0, sqTail = 0, cqHead = 0, cqTail = 0] = layout;
  if (layout.some((offset) => offset + 4 > ring.length)) return false;
  const value = (offset: number) => Buffer.from(ring.buffer, ring.byteOffset, ring.length).readUInt32LE(offset);
  const taken = value(sqHead);
  return value(cqTail) === taken && taken <= MAX_COUNT && value(cqHead) <= taken && value(sqTail) - taken <= sq_entries;
}

function badImage(entry: FloeIoUringEntry, use: FileUse): Refusal {
  const because = `files.img has a ring of io_uring of process ${entry.pid} whose numbers do not fit together`;
  return new Refusal(
    { code: "IMAGE_BAD_REFERENCE", process: use.process, resource: use.what, because, remedy: ["Dump the process again"] },
    "restore",
  );
}

/** Programs know where things lie in the memory of a ring: it has to be as it was. */
function whyNotHere(entry: FloeIoUringEntry): string | undefined {
  try {
    const layout = layoutOf(savedShape(entry));
    const isSame = layoutList(layout).every((offset, i) => offset === entry.layout[i]);
    if (isSame && layout.ringBytes === entry.ring.length && layout.requestBytes === entry.requests.length) return undefined;
    return "this kernel lays out the memory of a ring in another way";
  } catch (error) {
    if (error instanceof KernelError) return `this kernel makes no such ring (${error.message})`;
    throw error;
  }
}

function notHere(use: FileUse, because: string): Refusal {
  const remedy = "Restore on the kernel that the process ran on, with sysctl kernel.io_uring_disabled=0";
  return new Refusal({ code: "IO_URING", process: use.process, resource: use.what, because, remedy: [remedy] }, "restore");
}

/** A new ring with the saved counters and contents. */
function rebuild(entry: FloeIoUringEntry, session: RestoreSession): Fd {
  const task = session.task(entry.pid)?.traced;
  if (task === undefined) throw new Error(`internal error: there is no process ${entry.pid} for a ring of io_uring`);
  const shape = savedShape(entry);
  const layout = layoutOf(shape);
  const fd = makeInside(task.leader, SYS.io_uring_setup, shape.sqEntries, new Data(encodeRingParams(shape), true));
  if (fd === undefined) throw new Error(`io_uring_setup(${shape.sqEntries}) failed in process ${entry.pid}`);
  withRing(fd, layout, ({ ring, requests }) => {
    const saved = Buffer.from(entry.ring.buffer, entry.ring.byteOffset, entry.ring.length);
    advanceRing(fd, ring, { layout, shape, count: saved.readUInt32LE(layout.sqHead) });
    saved.copy(ring);
    requests.set(entry.requests);
  });
  return fd;
}

/** Mappings in every process, and what is registered. */
function giveBack(entry: FloeIoUringEntry, fd: Fd, session: RestoreSession): void {
  const pids = new Set([entry.pid, ...entry.mappings.map(({ pid }) => pid)]);
  for (const pid of pids) {
    const thread = session.task(pid)?.traced.leader;
    if (thread === undefined) continue;
    const [ring] = handOverTaken(thread, [fd]) as [number];
    const mine = entry.mappings.filter((mapping) => mapping.pid === pid);
    mapRing(thread, ring, mine);
    const program = new Program();
    if (pid === entry.pid) register(program, ring, entry);
    run(thread, program);
    closeRemote(thread, [ring]);
  }
  for (const { pid, tid, index } of entry.users) registerRing({ session, pid, tid }, fd, index);
}

function register(program: Program, ring: number, { file_slots, files, buffer_slots, buffers }: FloeIoUringEntry): void {
  if (file_slots > 0) {
    const numbers = program.bytes(Buffer.alloc(file_slots * 4, 0xff));
    for (const { slot, fd } of files) numbers.content.writeInt32LE(fd, slot * 4);
    program.call(SYS.io_uring_register, ring, IORING_REGISTER_FILES, numbers, file_slots).must("registering files with a ring of io_uring");
  }
  if (buffer_slots === 0) return;
  const vectors = program.bytes(Buffer.alloc(buffer_slots * IOVEC_BYTES));
  for (const { slot, start, bytes } of buffers) {
    vectors.content.writeBigUInt64LE(start, slot * IOVEC_BYTES);
    vectors.content.writeBigUInt64LE(bytes, slot * IOVEC_BYTES + 8);
  }
  program
    .call(SYS.io_uring_register, ring, IORING_REGISTER_BUFFERS, vectors, buffer_slots)
    .must("registering buffers with a ring of io_uring");
}

function registerRing(of: { session: RestoreSession; pid: number; tid: number }, fd: Fd, index: number): void {
  const task = of.session.task(of.pid);
  const at = task?.threads.findIndex(({ tid }) => tid === of.tid) ?? -1;
  const thread = task?.traced.threads[at];
  if (thread === undefined) throw new Error(`internal error: there is no thread ${of.tid} for a ring of io_uring`);
  const [ring] = handOverTaken(thread, [fd]) as [number];
  const program = new Program();
  const update = program.inOut(Buffer.alloc(RSRC_UPDATE_BYTES));
  update.content.writeUInt32LE(index, 0);
  update.content.writeBigUInt64LE(BigInt(ring), 8);
  program.call(SYS.io_uring_register, ring, IORING_REGISTER_RING_FDS, update, 1).must("registering a ring of io_uring with a thread");
  run(thread, program);
  closeRemote(thread, [ring]);
}
