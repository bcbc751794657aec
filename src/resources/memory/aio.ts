/**
 * Contexts of kernel asynchronous I/O: the ring of completions at its address, with those that nobody has read yet.
 *
 * Read from   /proc/PID/smaps; the ring itself is memory of the process
 * Made with   io_setup(2), mremap(2) to the saved address, which is the context's name, io_submit(2) of reads of /dev/null
 *
 * The kernel keeps the end of the ring to itself, and it moves only when a request completes. So as many requests are
 * made as had completed; then the ring gets its saved contents.
 */
import { closeSync, existsSync, openSync, readFileSync, readdirSync } from "node:fs";
import { ImageError, Refusal } from "../../errors.js";
import { MREMAP_FIXED, MREMAP_MAYMOVE, PROT_READ, PROT_WRITE } from "../../linux/memory.js";
import type { Vma } from "../../linux/proc/maps.js";
import { readProcessMemory } from "../../linux/ptrace.js";
import { SYS } from "../../linux/syscalls.js";
import { closeRemote, handOver } from "../../target/hand-over.js";
import { Program } from "../../target/program.js";
import { run, writeTarget } from "../../target/run.js";
import type { TracedTask } from "../../target/thread.js";
import type { DumpSession, DumpTask } from "../part.js";
import { refuseWaiting } from "./aio-waiting.js";
import { AREA, areaKind } from "./area.js";
import type { AioRingEntry } from "./mm.schema.js";
import { type PageSource, readPages } from "./page-source.js";
import type { SavedSpace } from "./saved-space.js";
import type { VmaEntry } from "./vma.schema.js";

/** struct aio_ring (fs/aio.c): id, nr, head, tail, magic, two sets of features, length of the header. */
const HEADER_BYTES = 32;
const ID_BYTES = 4;
const TAIL_OFFSET = 12;
const MAGIC_OFFSET = 16;
const MAGIC = 0xa10a10a1;
const EVENT_BYTES = 32;
/** struct iocb (uapi/linux/aio_abi.h). */
const IOCB_BYTES = 64;
const IOCB_FD = 20;
/** Requests in one io_submit(2): few enough for their pointers to fit beside one another. */
const BATCH = 512;

/** How long a frozen tree with contexts may wait for block devices, in milliseconds. */
const LIMIT_MS = 250;
const NAP_MS = 0.5;
/** Completions may come by a work queue, a moment after the device has done its part. */
const AFTER_MS = 2;

/** A context and where its ring ended when memory was about to be saved. */
interface Settled {
  readonly task: DumpTask;
  readonly vma: Vma;
  readonly tail: number;
}

/** Contexts of a task, as its mappings show them. */
export function dumpContexts(task: DumpTask): AioRingEntry[] {
  return ringsOf(task).map((vma) => {
    const length = Number(vma.end - vma.start);
    // io_setup(2) makes room for twice as many events and two more, and rounds up to whole pages.
    const events = (length - HEADER_BYTES) / EVENT_BYTES;
    return { id: vma.start, nr_req: Math.floor((events - 2) / 2), ring_len: length };
  });
}

function ringsOf(task: DumpTask): Vma[] {
  return task.vmas.filter((vma) => areaKind(vma) === "aio");
}

const settledOf = new WeakMap<DumpSession, Settled[]>();

/**
 * Requests of a frozen process go on. The kernel does not say how many there are, so those to block devices are waited for
 * until each device has been seen without any; nobody else's can be. What completes all the same before memory has been
 * saved is noticed by {@link refuseUnsettled}.
 */
export function settleContexts(tasks: readonly DumpTask[], session: DumpSession): void {
  const rings = tasks.flatMap((task) => ringsOf(task).map((vma) => ({ task, vma })));
  if (rings.length === 0) return;
  waitForDevices();
  waitForCompletions(rings);
  const settled: Settled[] = [];
  for (const { task, vma } of rings) {
    const header = headerOf(task, vma);
    if (header === undefined) continue;
    if (isRing(header, Number(vma.end - vma.start))) settled.push({ task, vma, tail: header.readUInt32LE(TAIL_OFFSET) });
    else session.refuse(badRing(task, vma));
  }
  settledOf.set(session, settled);
  refuseWaiting([...new Set(rings.map(({ task }) => task))], session);
}

/**
 * The kernel's own threads may still have to report what a device has done, and on a busy machine they get the processor only
 * while we sleep: so until no ring has moved for a moment.
 */
function waitForCompletions(rings: readonly { task: DumpTask; vma: Vma }[]): void {
  const nap = new Int32Array(new SharedArrayBuffer(4));
  const until = performance.now() + LIMIT_MS;
  const tails = () => rings.map(({ task, vma }) => headerOf(task, vma)?.readUInt32LE(TAIL_OFFSET)).join();
  for (let before = ""; performance.now() < until; ) {
    const now = tails();
    if (now === before) return;
    before = now;
    Atomics.wait(nap, 0, 0, AFTER_MS);
  }
}

/** Memory has been saved: a request that has completed since {@link settleContexts} may be missing in it, or half there. */
export function refuseUnsettled(session: DumpSession): void {
  for (const { task, vma, tail } of settledOf.get(session) ?? []) {
    if (headerOf(task, vma)?.readUInt32LE(TAIL_OFFSET) === tail) continue;
    session.refuse(
      new Refusal({
        code: "AIO_IN_FLIGHT",
        process: { pid: task.traced.pid, comm: task.comm },
        resource: `the asynchronous I/O context ${vma.start.toString(16)}`,
        because: "requests of it were completed while its memory was saved",
        remedy: ["Dump again when the process does less I/O"],
      }),
    );
  }
}

/**
 * A device that has been seen idle has done all that was asked of it before. `folder`: of all block devices; without it there is
 * nothing to go by.
 */
export function waitForDevices(folder = "/sys/block"): void {
  const started = performance.now();
  const nap = new Int32Array(new SharedArrayBuffer(4));
  let busy = existsSync(folder) ? readdirSync(folder).filter((device) => isBusy(`${folder}/${device}`)) : [];
  if (busy.length === 0) return;
  while (busy.length > 0 && performance.now() - started < LIMIT_MS) {
    Atomics.wait(nap, 0, 0, NAP_MS);
    busy = busy.filter((device) => isBusy(`${folder}/${device}`));
  }
}

/** Place of the number of requests under way in `stat`, Documentation/block/stat.rst. */
const UNDER_WAY = 8;

/**
 * `inflight` has two numbers, of reads and of writes that the driver has; `stat` counts those as well that still wait for it.
 */
function isBusy(device: string): boolean {
  return /[1-9]/.test(textOf(`${device}/inflight`)) || Number(textOf(`${device}/stat`).trim().split(/\s+/)[UNDER_WAY] ?? 0) > 0;
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return ""; // the device is gone
  }
}

/** The head of a ring; undefined when it has been closed to reading. */
function headerOf(task: DumpTask, vma: Vma): Buffer | undefined {
  const header = Buffer.alloc(HEADER_BYTES);
  return vma.read && readProcessMemory(task.traced.pid, vma.start, header) === HEADER_BYTES ? header : undefined;
}

function isRing(header: Buffer, sizeBytes: number): boolean {
  const events = (sizeBytes - HEADER_BYTES) / EVENT_BYTES;
  return header.readUInt32LE(MAGIC_OFFSET) === MAGIC && header.readUInt32LE(TAIL_OFFSET) < events;
}

function badRing(task: DumpTask, vma: Vma): Refusal {
  return new Refusal({
    code: "AIO_RING_BAD",
    process: { pid: task.traced.pid, comm: task.comm },
    resource: `the asynchronous I/O context ${vma.start.toString(16)}`,
    because: "the process has written over the head of its ring of completions",
    remedy: ["Destroy the context (io_destroy) before the dump"],
  });
}

/** Makes the contexts of `space`; all its other mappings are in place. */
export function restoreContexts(task: TracedTask, space: SavedSpace): void {
  const rings = space.mm.vmas.filter((vma) => vma.status & AREA.AIO);
  if (rings.length === 0) return;
  const made = setUp(task, rings, space);
  const null_ = openSync("/dev/null", "r");
  try {
    const [fd] = handOver(task.leader, [null_]) as [number];
    const program = new Program();
    const contents = rings.map((vma, i) => {
      const bytes = savedRing(vma, space.pages);
      const length = vma.end - vma.start;
      program
        .call(SYS.mremap, made[i] ?? 0n, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, vma.start)
        .must("moving the ring of a context");
      complete(program, { context: vma.start, fd, requests: bytes.readUInt32LE(TAIL_OFFSET) });
      return bytes;
    });
    run(task.leader, program);
    rings.forEach((vma, i) => writeTarget(task.leader, vma.start + BigInt(ID_BYTES), (contents[i] as Buffer).subarray(ID_BYTES)));
    closeRemote(task.leader, [fd]);
    protect(task, rings);
  } finally {
    closeSync(null_);
  }
}

/** New contexts of the saved sizes; their addresses. */
function setUp(task: TracedTask, rings: readonly VmaEntry[], space: SavedSpace): bigint[] {
  const program = new Program();
  const contexts = rings.map((vma) => {
    const requests = space.mm.aios.find((a) => a.id === vma.start)?.nr_req ?? 0;
    const context = program.buffer(8);
    program.call(SYS.io_setup, requests, context).must(`making a context for ${requests} asynchronous requests`);
    return context;
  });
  run(task.leader, program);
  return contexts.map((c) => c.bytes().readBigUInt64LE(0));
}

/** Adds calls after which `requests` requests of `context` have completed. */
function complete(program: Program, of: { context: bigint; fd: number; requests: number }): void {
  const iocb = program.bytes(Buffer.alloc(IOCB_BYTES)); // IOCB_CMD_PREAD of nothing
  iocb.content.writeUInt32LE(of.fd, IOCB_FD);
  for (let done = 0; done < of.requests; done += BATCH) {
    const count = Math.min(BATCH, of.requests - done);
    const pointers = program.bytes(Buffer.alloc(count * 8));
    for (let i = 0; i < count; i++) program.storeAddress(pointers.at(i * 8), iocb);
    program.call(SYS.io_submit, of.context, count, pointers).must("moving the end of a ring of completions");
  }
}

function savedRing(vma: VmaEntry, pages: PageSource): Buffer {
  const bytes = Buffer.alloc(Number(vma.end - vma.start));
  for (const run of pages.runs) {
    const start = run.start > vma.start ? run.start : vma.start;
    const end = run.end < vma.end ? run.end : vma.end;
    if (start < end) readPages(run, start, bytes.subarray(Number(start - vma.start), Number(end - vma.start)));
  }
  if (isRing(bytes, bytes.length)) return bytes;
  throw new ImageError({
    code: "IMAGE_BAD_VALUE",
    place: { file: pages.file },
    because: `the pages at 0x${vma.start.toString(16)} are no ring of asynchronous I/O`,
    remedy: ["Use an intact copy of the images directory", "Dump the process again"],
  });
}

function protect(task: TracedTask, rings: readonly VmaEntry[]): void {
  const program = new Program();
  for (const { start, end, prot } of rings) {
    if (prot !== (PROT_READ | PROT_WRITE)) program.call(SYS.mprotect, start, end - start, prot).must("protecting a ring");
  }
  run(task.leader, program);
}
