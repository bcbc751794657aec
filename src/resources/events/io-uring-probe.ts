/**
 * What a ring of io_uring was set up with and has been given, as far as fdinfo does not say it: asked for inside the process,
 * by calls that change nothing.
 *
 * An entry of each queue shows in fdinfo only while it is due, with the members that its size has. So for the moment of one
 * program, which ends even if Floe does not live to see it, one of each is made due by moving two counters in shared memory.
 */
import { closeSync, openSync } from "node:fs";
import {
  BUF_STATUS_BYTES,
  IORING_ENTER_GETEVENTS,
  IORING_ENTER_REGISTERED_RING,
  IORING_OFF_CQ_RING,
  IORING_OFF_SQ_RING,
  IORING_REGISTER_EVENTFD,
  IORING_REGISTER_PBUF_STATUS,
  IORING_REGISTER_RESTRICTIONS,
  IORING_SETUP_CQE32,
  IORING_SETUP_NO_SQARRAY,
  IORING_SETUP_SQE128,
  REGISTERED_RINGS,
  type RingLayout,
  type RingShape,
  hasRequestBytes,
  layoutOf,
  withRing,
} from "../../linux/io-uring.js";
import { ERRNO } from "../../linux/errno.js";
import { PAGE_BYTES } from "../../linux/memory.js";
import type { FdInfo } from "../../linux/proc/fdinfo.js";
import type { Vma } from "../../linux/proc/maps.js";
import { SYS } from "../../linux/syscalls.js";
import { closeRemote, handOver } from "../../target/hand-over.js";
import { Program } from "../../target/program.js";
import { run, runAll } from "../../target/run.js";
import type { TracedThread } from "../../target/thread.js";
import type { DumpTask, Fd } from "../part.js";
import { countersOf } from "./io-uring-state.js";

const TEXT_BYTES = 1536;
/** Groups of provided buffers that are looked for, and one that nobody has. */
const GROUPS = 64;
const NO_GROUP = 0xfffe;
const SQE_BYTES = 64;
const EBADFD = 77;

/** A mapping of the counters that can be written to. */
export function hasCounters(vma: Vma, inode: bigint): boolean {
  const isStart = vma.offset === IORING_OFF_SQ_RING || vma.offset === IORING_OFF_CQ_RING;
  return vma.inode === inode && isStart && vma.read && vma.write;
}

/** The shape of a ring, whose counters process `mapper` has at `counters`. */
export function shapeOf(
  at: { task: DumpTask; fd: number; local: Fd },
  info: FdInfo,
  where: { mapper: DumpTask; counters: bigint },
): RingShape & { layout: RingLayout } {
  const { sqEntries, cqEntries } = countersOf(info);
  const plain = { sqEntries, cqEntries, flags: 0 };
  const layout = layoutOf(plain);
  const text = withOneDue(at, info, { ...where, layout });
  let flags = /^CQEs:.*\n.*, extra1:/m.test(text) ? IORING_SETUP_CQE32 : 0;
  const shown = /^SQEs:.*\n( +\d+: opcode:.*)$/m.exec(text)?.[1];
  if (shown?.includes(", e0:") === true) flags |= IORING_SETUP_SQE128;
  // A ring without that array shows no requests. Where there is one, index 0 in it would show.
  const withArray = layoutOf({ ...plain, flags });
  if (shown === undefined && isBlank(at.local, withArray, sqEntries)) {
    flags |= IORING_SETUP_NO_SQARRAY;
    if (hasLongRequests(at.local, layoutOf({ ...plain, flags }), sqEntries)) flags |= IORING_SETUP_SQE128;
  }
  return { sqEntries, cqEntries, flags, layout: layoutOf({ ...plain, flags }) };
}

/** fdinfo, read while a request and a completion are due. */
function withOneDue(
  at: { task: DumpTask; fd: number },
  info: FdInfo,
  where: { mapper: DumpTask; counters: bigint; layout: RingLayout },
): string {
  const { taken, sqTail, cqHead, cqTail } = countersOf(info);
  const { counters, layout } = where;
  const thread = where.mapper.traced.leader;
  const local = openSync(`/proc/${at.task.traced.pid}/fdinfo/${at.fd}`, "r");
  try {
    const [file] = handOver(thread, [local]) as [number];
    const program = new Program();
    const values = program.bytes(Buffer.alloc(16));
    [taken + 1, cqTail - 1, sqTail, cqHead].forEach((value, i) => values.content.writeUInt32LE(value >>> 0, i * 4));
    const text = program.buffer(TEXT_BYTES);
    const places = [counters + BigInt(layout.sqTail), counters + BigInt(layout.cqHead)] as const;
    program.copy(values.at(0), places[0], 4);
    program.copy(values.at(4), places[1], 4);
    program.call(SYS.pread64, file, text, TEXT_BYTES, 0);
    program.copy(values.at(8), places[0], 4);
    program.copy(values.at(12), places[1], 4);
    run(thread, program);
    closeRemote(thread, [file]);
    return text.bytes().toString("latin1");
  } finally {
    closeSync(local);
  }
}

function isBlank(local: Fd, layout: RingLayout, sqEntries: number): boolean {
  const bytes = Math.min(layout.array + sqEntries * 4, layout.ringBytes);
  try {
    return withRing(local, layout, ({ ring }) => ring.subarray(layout.array, bytes).every((byte) => byte === 0));
  } catch {
    return true; // it is shorter than it would be with the array
  }
}

/**
 * Of a ring without the array. The kernel tells by the length of the memory; within one page there is something behind the short
 * requests if there are long ones, or, as long as few were made, nothing in the place of the second short one.
 */
function hasLongRequests(local: Fd, layout: RingLayout, sqEntries: number): boolean {
  const short = sqEntries * SQE_BYTES;
  if (short >= PAGE_BYTES) return hasRequestBytes(local, short * 2);
  return withRing(local, layout, ({ requests }) => {
    const isUsed = (from: number, to: number) => requests.subarray(from, to).some((byte) => byte !== 0);
    if (isUsed(short, short * 2)) return true;
    return sqEntries > 2 && !isUsed(SQE_BYTES, 2 * SQE_BYTES) && isUsed(2 * SQE_BYTES, 3 * SQE_BYTES);
  });
}

/** What a ring has that nobody can read out of it, in words; undefined: nothing. */
export function hiddenState({ task, fd }: { task: DumpTask; fd: number }): string | undefined {
  for (const thread of task.traced.threads) {
    const asked = askThread(thread, fd);
    if (asked !== "another's") return asked;
  }
  return "only one thread may use it (IORING_SETUP_SINGLE_ISSUER), which is none of the process";
}

function askThread(thread: TracedThread, fd: number): string | undefined {
  const program = new Program();
  const restricted = program.call(SYS.io_uring_register, fd, IORING_REGISTER_RESTRICTIONS, 0, 0);
  const eventfd = program.call(SYS.io_uring_register, fd, IORING_REGISTER_EVENTFD, 0, 1);
  const groups = [NO_GROUP, ...Array.from({ length: GROUPS }, (_, i) => i)].map((group) => {
    const status = program.bytes(Buffer.alloc(BUF_STATUS_BYTES));
    status.content.writeUInt32LE(group, 0);
    return { group, result: program.call(SYS.io_uring_register, fd, IORING_REGISTER_PBUF_STATUS, status, 1) };
  });
  run(thread, program);
  if (restricted.errno === ERRNO.EEXIST) return "another's";
  if (restricted.errno === ERRNO.EACCES || restricted.errno === ERRNO.EBUSY)
    return "it is restricted, and the kernel does not tell to what";
  if (restricted.errno === ERRNO.EINVAL) return "it has not been enabled yet (IORING_SETUP_R_DISABLED)";
  if (eventfd.errno === ERRNO.EBUSY) return "an eventfd is registered with it, and the kernel does not tell which";
  // A kernel before 6.8 knows no such question.
  if (groups[0]?.result.errno !== ERRNO.ENOENT) return undefined;
  const given = groups.find(({ result }) => result.errno !== ERRNO.ENOENT);
  return given === undefined ? undefined : `it has been given buffers to choose from (group ${given.group})`;
}

/** Has every thread take what has completed for it: some completions wait for that. */
export function takeCompletions({ task, fd }: { task: DumpTask; fd: number }): void {
  const jobs = task.traced.threads.map((thread) => {
    const program = new Program();
    program.call(SYS.io_uring_enter, fd, 0, 0, IORING_ENTER_GETEVENTS, 0, 0);
    return { thread, program };
  });
  runAll(jobs);
}

/** Threads that have registered descriptors of rings, and the numbers that they go by. */
export function registeredRings(task: DumpTask): { tid: number; index: number }[] {
  const asked = task.traced.threads.map((thread) => {
    const program = new Program();
    const results = Array.from({ length: REGISTERED_RINGS }, (_, index) =>
      program.call(SYS.io_uring_enter, index, 0, 0, IORING_ENTER_REGISTERED_RING, 0, 0),
    );
    return { job: { thread, program }, results };
  });
  runAll(asked.map(({ job }) => job));
  return asked.flatMap(({ job, results }) =>
    results.flatMap((result, index) => (isThere(result.errno) ? [{ tid: job.thread.nsTid, index }] : [])),
  );
}

const isThere = (errno: number) => errno === 0 || errno === ERRNO.EEXIST || errno === EBADFD;
