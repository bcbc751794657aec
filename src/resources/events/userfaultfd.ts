/**
 * Userfaultfds that a program has made itself: ranges of memory whose faults it handles, and pages that it has protected.
 *
 * Read from   fdinfo (features), VmFlags of smaps (um, uw, ui), PAGEMAP_SCAN
 * Made with   userfaultfd(2) in a process whose memory it is for; UFFDIO_API, UFFDIO_REGISTER, UFFDIO_ZEROPAGE and
 *             UFFDIO_WRITEPROTECT when that memory is in place and nothing of ours looks at it any more
 * Refused     handlers outside the tree; more userfaultfds than can be told apart
 *
 * A thread that waits in a fault leaves it when it is stopped, and raises it again when it goes on. The kernel does not tell UFFD_USER_MODE_ONLY, which is lost. CRIU's format has no such kind: CRIU refuses these images.
 */
import { closeSync } from "node:fs";
import { KernelError, Refusal } from "../../errors.js";
import { ERRNO } from "../../linux/errno.js";
import { dupFrom } from "../../linux/fcntl.js";
import { O_CLOEXEC, O_NONBLOCK } from "../../linux/files.js";
import { MADV_DONTNEED, MADV_POPULATE_READ } from "../../linux/memory.js";
import { fdInfoField } from "../../linux/proc/fdinfo.js";
import type { Vma } from "../../linux/proc/maps.js";
import { SYS } from "../../linux/syscalls.js";
import {
  UFFDIO_REGISTER_MODE_MINOR,
  UFFDIO_REGISTER_MODE_MISSING,
  UFFDIO_REGISTER_MODE_WP,
  UFFDIO_WRITEPROTECT_MODE_WP,
  UFFDIO_ZEROPAGE_MODE_DONTWAKE,
  uffdioApi,
  uffdioRegister,
  uffdioWriteprotect,
  uffdioZeropage,
} from "../../linux/userfaultfd.js";
import { makeInside } from "../../target/hand-over.js";
import { Program } from "../../target/program.js";
import { run } from "../../target/run.js";
import { afterDescriptors } from "../files/table.js";
import { fdTypes, fileEntry } from "../files/table.schema.js";
import { hasOwnPages, type PageRange } from "../memory/page-runs.js";
import { isWatched, watchedPages } from "../memory/watched-pages.js";
import type { DumpSession, DumpTask, Fd, FileKind, FileUse, OpenFile, RestoreSession } from "../part.js";
import type { FloeMemoryRange, FloeUserfaultfdEntry } from "./userfaultfd.schema.js";

/** fs/userfaultfd.c: a feature bit of the kernel's own, that UFFDIO_API has been called. */
const INITIALIZED = 1n << 31n;
const PAGE = 4096n;

/** A userfaultfd of the tree, before it is known whose memory it is for. */
interface Found {
  readonly file: Pick<OpenFile, "id" | "task" | "fd" | "fown" | "info">;
  readonly features: bigint;
  /** A descriptor of ours. */
  readonly local: Fd;
}

const found = new WeakMap<DumpSession, Found[]>();

export const userfaultfds: FileKind<FloeUserfaultfdEntry> = {
  name: "events/userfaultfd",
  rows: [],
  type: "FLOE_USERFAULTFD",
  field: "ufd",
  isPathless: true,
  matches: ({ link }) => link === "anon_inode:[userfaultfd]",
  dump(file, session) {
    const all = found.get(session) ?? [];
    if (all.length === 0) afterDescriptors(session, () => writeAll(all, session));
    found.set(session, all);
    all.push({ file, features: featuresOf(file), local: dupFrom(file.local, 0) });
    return undefined;
  },
  open(entry, session) {
    const task = session.task(entry.pid)?.traced;
    if (task === undefined) throw new Error(`internal error: there is no process ${entry.pid} for a userfaultfd`);
    const fd = makeInside(task.leader, SYS.userfaultfd, (entry.flags & O_NONBLOCK) | O_CLOEXEC);
    if (fd !== undefined) return fd;
    throw new KernelError({ call: "userfaultfd", errno: ERRNO.EPERM, errnoText: "EPERM", doing: `making the one of process ${entry.pid}` });
  },
  finish(entry, { fd, session }) {
    watch(entry, fd, session);
    return undefined;
  },
  check: (entry, session, use) => (session.task(entry.pid) !== undefined && isSound(entry) ? [] : [badImage(entry, use)]),
};

/** `API: version:features:ioctls`, hexadecimal. */
function featuresOf(file: OpenFile): bigint {
  const [, features] = /^[0-9a-f]+:([0-9a-f]+):/.exec(fdInfoField(file.info, "API") ?? "") ?? [];
  return features === undefined ? 0n : BigInt(`0x${features}`);
}

function refusal(file: Found["file"], init: { code: string; because: string; remedy: string }): Refusal {
  const process = { pid: file.task.traced.pid, comm: file.task.comm };
  const { code, because, remedy } = init;
  return new Refusal({ code, process, resource: `fd ${file.fd}, a userfaultfd`, because, remedy: [remedy] });
}

/** Tasks with watched mappings, one for each memory; not those that Floe watches itself, to copy them ahead. */
function watchedTasks(session: DumpSession): DumpTask[] {
  const seen = new Set<number>();
  const isOurs = (pid: number) => session.precopied.has(pid) || session.sharedAhead?.isTracked(pid) === true;
  const isOwn = (task: DumpTask) => !isOurs(task.traced.pid) && task.vmas.some(isWatched);
  return session.tasks.filter((task) => isOwn(task) && !seen.has(task.ids.vm) && seen.add(task.ids.vm));
}

/**
 * Whose memory each is for. With one userfaultfd or one memory there is no question, unless one came from outside the tree; the kernel
 * has no call that would tell.
 */
function writeAll(all: readonly Found[], session: DumpSession): void {
  try {
    const watched = watchedTasks(session);
    const memories = new Set(session.tasks.map((task) => task.ids.vm));
    for (const one of all) {
      const own = watched.find((task) => task.ids.vm === one.file.task.ids.vm);
      const isAlone = all.filter((other) => other.file.task.ids.vm === one.file.task.ids.vm).length === 1;
      if (all.length === 1 && watched.length <= 1) write(one, { task: watched[0] ?? one.file.task, isWhole: true }, session);
      else if (memories.size === 1) write(one, { task: own ?? one.file.task, isWhole: false }, session);
      else if (isAlone && own !== undefined) write(one, { task: own, isWhole: true }, session);
      else session.refuse(unclear(one));
    }
  } finally {
    for (const { local } of all) closeSync(local);
  }
}

function unclear({ file }: Found): Refusal {
  return refusal(file, {
    code: "USERFAULTFD_UNCLEAR",
    because: "there are several in a tree of several processes, and the kernel does not tell whose memory each is for",
    remedy: "Close those that are not in use before the dump",
  });
}

function write({ file, features, local }: Found, of: { task: DumpTask; isWhole: boolean }, session: DumpSession): void {
  const { task } = of;
  const mine = task.vmas.filter((vma) => isWatched(vma) && (of.isWhole || isRegisteredWith(local, vma)));
  const ufd: FloeUserfaultfdEntry = {
    id: file.id,
    flags: file.info.flags,
    fown: file.fown,
    features,
    pid: task.pid,
    registered: mine.map((vma) => toRange(vma, Number(modesOf(vma)))),
    zero: [],
    protected: [],
    mapped: [],
  };
  for (const vma of mine) {
    const pages = watchedPages(task.traced.pid, vma);
    if (vma.flags.has("um") && hasOwnPages(vma)) ufd.zero.push(...pages.zero.map((range) => toRange(range, 0)));
    if (vma.flags.has("ui")) ufd.mapped.push(...pages.present.map((range) => toRange(range, 0)));
    ufd.protected.push(...pages.protected.map((range) => toRange(range, 0)));
  }
  const type = fdTypes.values.FLOE_USERFAULTFD;
  session.images.append("FILES", [], { type: fileEntry, value: { type, id: file.id, ufd } });
}

const toRange = ({ start, end }: PageRange, modes: number): FloeMemoryRange => ({ start, bytes: end - start, modes });

function modesOf({ flags }: Vma): bigint {
  let modes = 0n;
  if (flags.has("um")) modes |= UFFDIO_REGISTER_MODE_MISSING;
  if (flags.has("uw")) modes |= UFFDIO_REGISTER_MODE_WP;
  if (flags.has("ui")) modes |= UFFDIO_REGISTER_MODE_MINOR;
  return modes;
}

/** Registering a range again, in the same way, changes nothing; with another userfaultfd it fails (EBUSY). */
function isRegisteredWith(local: Fd, vma: Vma): boolean {
  try {
    uffdioRegister(local, { address: vma.start, sizeBytes: vma.end - vma.start }, modesOf(vma));
    return true;
  } catch (error) {
    if (error instanceof KernelError) return false;
    throw error;
  }
}

/** Refuses memory that somebody outside the tree handles the faults of: nobody would after a restore. */
export function refuseForeignHandlers(session: DumpSession): void {
  if ((found.get(session)?.length ?? 0) > 0) return;
  for (const task of watchedTasks(session)) {
    const vma = task.vmas.find(isWatched);
    if (vma === undefined) continue;
    session.refuse(
      new Refusal({
        code: "USERFAULTFD_OUTSIDE",
        process: { pid: task.traced.pid, comm: task.comm },
        resource: `the mapping at 0x${vma.start.toString(16)}`,
        because: "its faults are handled through a userfaultfd, which no process of the tree has",
        remedy: ["Dump the tree together with the process that handles them"],
      }),
    );
  }
}

function isSound({ registered, zero, protected: wp, mapped }: FloeUserfaultfdEntry): boolean {
  return [...registered, ...zero, ...wp, ...mapped].every(({ start, bytes }) => start % PAGE === 0n && bytes % PAGE === 0n && bytes > 0n);
}

function badImage(entry: FloeUserfaultfdEntry, use: FileUse): Refusal {
  const because = `files.img has it for the memory of process ${entry.pid}, which is not in the images, or for parts of pages`;
  return new Refusal(
    { code: "IMAGE_BAD_REFERENCE", process: use.process, resource: use.what, because, remedy: ["Dump the process again"] },
    "restore",
  );
}

const memoryRange = ({ start, bytes }: FloeMemoryRange) => ({ address: start, sizeBytes: bytes });

/** From here on the ranges raise faults, which only the restored program can handle. */
function watch(entry: FloeUserfaultfdEntry, fd: Fd, session: RestoreSession): void {
  if ((entry.features & INITIALIZED) === 0n) return;
  uffdioApi(fd, entry.features & ~INITIALIZED);
  populate(entry, session);
  for (const range of entry.registered) uffdioRegister(fd, memoryRange(range), BigInt(range.modes));
  for (const range of entry.zero) fillZero(fd, range);
  for (const range of entry.protected) uffdioWriteprotect(fd, memoryRange(range), UFFDIO_WRITEPROTECT_MODE_WP);
}

/** The kernel maps pages around those that are asked for: these are taken away again. */
function populate({ mapped, registered, pid }: FloeUserfaultfdEntry, session: RestoreSession): void {
  const leader = session.task(pid)?.traced.leader;
  if (leader === undefined) return;
  const program = new Program();
  for (const { start, bytes } of mapped) program.call(SYS.madvise, start, bytes, MADV_POPULATE_READ).must("mapping pages of shared memory");
  for (const range of registered) {
    if ((BigInt(range.modes) & UFFDIO_REGISTER_MODE_MINOR) === 0n) continue;
    for (const { start, end } of gaps(range, mapped)) program.call(SYS.madvise, start, end - start, MADV_DONTNEED);
  }
  run(leader, program);
}

function gaps({ start, bytes }: FloeMemoryRange, mapped: readonly FloeMemoryRange[]): PageRange[] {
  const found: PageRange[] = [];
  let at = start;
  for (const one of mapped) {
    if (one.start < at || one.start >= start + bytes) continue;
    if (one.start > at) found.push({ start: at, end: one.start });
    at = one.start + one.bytes;
  }
  return at < start + bytes ? [...found, { start: at, end: start + bytes }] : found;
}

/** Page by page where some are there already: a page of zeros that was written down as one with content. */
function fillZero(fd: Fd, range: FloeMemoryRange): void {
  for (let at = range.start; at < range.start + range.bytes; ) {
    const left = { address: at, sizeBytes: range.start + range.bytes - at };
    const { doneBytes, errno } = uffdioZeropage(fd, left, UFFDIO_ZEROPAGE_MODE_DONTWAKE);
    at += doneBytes > 0n ? doneBytes : PAGE;
    if (errno !== 0 && errno !== ERRNO.EEXIST && errno !== ERRNO.EAGAIN)
      throw new KernelError({ call: "UFFDIO_ZEROPAGE", errno, errnoText: String(errno), doing: `filling memory at 0x${at.toString(16)}` });
  }
}
