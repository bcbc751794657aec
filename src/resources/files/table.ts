/**
 * Descriptor tables: which open file stands under which number, and which numbers share one open file description.
 *
 * Read from   /proc/PID/{fd,fdinfo}, pidfd_getfd(2), kcmp(2)
 * Made with   each open file once in Floe, handed over by SCM_RIGHTS, put into place by dup3(2)
 */
import { closeSync, fstatSync, readlinkSync } from "node:fs";
import { Refusal } from "../../errors.js";
import { FD_CLOEXEC, F_SETFD, dupFrom, getOwner, getOwnerUids, getSignal, setOwner, setSignal } from "../../linux/fcntl.js";
import { O_CLOEXEC, O_PATH } from "../../linux/files.js";
import { type FdInfo, isCloseOnExec } from "../../linux/proc/fdinfo.js";
import { RLIMIT, getPrlimit, setPrlimit } from "../../linux/limits.js";
import { readFdNumbers } from "../../linux/proc/list.js";
import { readFdInfo } from "../../linux/proc/read.js";
import { kcmpFile, pidfdGetfd, pidfdOpen } from "../../linux/process.js";
import { SYS } from "../../linux/syscalls.js";
import { handOver } from "../../target/hand-over.js";
import { Program } from "../../target/program.js";
import { run } from "../../target/run.js";
import type { DumpSession, DumpTask, FileKind, OpenFile, Problem, RestoreSession, RestoreTask } from "../part.js";
import { dumpLocks, noteLocks } from "./locks.js";
import type { FownEntry } from "./owner.schema.js";
import { placingSteps } from "./placing.js";
import { type FdinfoEntry, type FileEntry, fdTypes, fdinfoEntry, fileEntry } from "./table.schema.js";

const ALL_FDS = 0xffffffff;

type AnyKind = FileKind<unknown>;

/** An open file that has an entry already, under the first number it was seen at. */
interface Known {
  readonly pid: number;
  /** What /proc calls it. */
  readonly link: string;
  readonly fd: number;
  readonly id: number;
  readonly type: number;
}

/** Writes the descriptor table of every task (shared tables once) and an entry for every open file description. */
export function dumpFiles(tasks: readonly DumpTask[], session: DumpSession, kinds: readonly AnyKind[]): void {
  const tools: Tools = { session, kinds, known: new Map(), later: [], last: [], kept: [] };
  underWay.set(session, tools);
  try {
    dumpTables(tasks, tools);
    // What is done late may find further open files, which may have something to be done late too.
    for (let work = tools.later.shift(); work !== undefined; work = tools.later.shift()) work();
    for (const work of tools.last) work();
  } finally {
    for (const fd of tools.kept) closeSync(fd);
  }
}

function dumpTables(tasks: readonly DumpTask[], tools: Tools): void {
  const { session } = tools;
  const seen = new Set<number>();
  const tables = tasks
    .filter(({ ids }) => !seen.has(ids.files) && seen.add(ids.files))
    .map((task) => ({
      task,
      opened: readFdNumbers(task.traced.pid).map((fd) => ({ fd, link: readlinkSync(`/proc/${task.traced.pid}/fd/${fd}`) })),
    }));
  for (const { task, opened } of tables) lookFirst(task, opened, tools);
  for (const { task, opened } of tables) {
    session.images.touch("FDINFO", [task.ids.files]);
    const pidfd = pidfdOpen(task.traced.pid);
    try {
      for (const { fd, link } of opened) dumpDescriptor({ task, fd, pidfd, link }, tools);
    } finally {
      closeSync(pidfd);
    }
  }
  dumpLocks(session);
}

/** Lets kinds see their files before the dump has opened any, which changes some. */
function lookFirst(
  task: DumpTask,
  opened: readonly { fd: number; link: string }[],
  { session, kinds }: Pick<Tools, "session" | "kinds">,
): void {
  for (const { first } of kinds) {
    for (const { fd } of first === undefined ? [] : opened.filter(({ link }) => first.matches(link))) {
      const pidfd = pidfdOpen(task.traced.pid);
      const local = pidfdGetfd(pidfd, fd);
      closeSync(pidfd);
      first?.look({ task, fd, local }, session);
      closeSync(local);
    }
  }
}

interface Descriptor {
  readonly task: DumpTask;
  readonly fd: number;
  readonly pidfd: number;
  readonly link: string;
}

interface Tools {
  readonly session: DumpSession;
  readonly kinds: readonly AnyKind[];
  readonly known: Map<string, Known[]>;
  /** What has to wait until every descriptor has been seen. */
  readonly later: (() => void)[];
  /** What has to wait until every open file is known, also those on their way. */
  readonly last: (() => void)[];
  /** Descriptors of ours that stand for files no process holds. */
  readonly kept: number[];
}

const underWay = new WeakMap<DumpSession, Tools>();

function toolsOf(session: DumpSession): Tools {
  const tools = underWay.get(session);
  if (tools === undefined) throw new Error("internal error: open files are not being dumped");
  return tools;
}

/** Runs `work` when every descriptor of every task has its entry. */
export function afterDescriptors(session: DumpSession, work: () => void): void {
  toolsOf(session).later.push(work);
}

/** Runs `look` when every open file has its entry; it can find no more of them. */
export function afterFiles(session: DumpSession, look: () => void): void {
  toolsOf(session).last.push(look);
}

/** Id of an open file that is on its way between processes, by descriptor `local` of ours, which becomes the table's. */
export function dumpInFlight(local: number, { task, session }: { task: DumpTask; session: DumpSession }): number | undefined {
  const tools = toolsOf(session);
  tools.kept.push(local);
  return entryOf({ pid: process.pid, fd: local, info: readFdInfo(process.pid, local) }, { task, take: () => dupFrom(local, 0) }, tools)?.id;
}

function dumpDescriptor(at: Descriptor, tools: Tools): void {
  const { task, fd } = at;
  const { pid } = task.traced;
  const info = readFdInfo(pid, fd);
  const found = entryOf({ pid, fd, info }, { task, take: () => pidfdGetfd(at.pidfd, fd) }, tools);
  if (found === undefined) return;
  const value: FdinfoEntry = { id: found.id, flags: isCloseOnExec(info) ? FD_CLOEXEC : 0, type: found.type as FdinfoEntry["type"], fd };
  tools.session.images.append("FDINFO", [task.ids.files], { type: fdinfoEntry, value });
  noteLocks({ task, fd, id: found.id, info, link: found.link }, tools.session);
}

/** How a description is got at: whose it is, and a descriptor of ours for it. */
interface Reach {
  readonly task: DumpTask;
  take(): number;
}

/** The entry of the description behind a descriptor; made when it is seen first. */
function entryOf({ pid, fd, info }: { pid: number; fd: number; info: FdInfo }, reach: Reach, tools: Tools): Known | undefined {
  const link = readlinkSync(`/proc/${pid}/fd/${fd}`);
  // Descriptors of one description agree in all of this, so only those few need to be compared by the kernel.
  const key = `${link}\0${info.flags & ~O_CLOEXEC}\0${info.pos}`;
  const alike = tools.known.get(key) ?? [];
  tools.known.set(key, alike);
  const known = search(alike, { pid, fd });
  if (typeof known === "object") return known;
  const made = dumpDescription({ ...reach, fd, link, info }, tools);
  if (made === undefined) return undefined;
  const found = { pid, fd, link, ...made };
  // Files on their way may have been found meanwhile.
  const place = search(alike, { pid, fd });
  alike.splice(typeof place === "number" ? place : 0, 0, found);
  return found;
}

/** The same description in a list in the kernel's own order, or where it belongs. */
function search(sorted: readonly Known[], { pid, fd }: { pid: number; fd: number }): Known | number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const there = sorted[middle] as Known;
    const order = kcmpFile({ pid, fd }, there);
    if (order === 0) return there;
    if (order < 0) high = middle;
    else low = middle + 1;
  }
  return low;
}

function dumpDescription(
  at: Reach & Pick<OpenFile, "fd" | "link" | "info">,
  { session, kinds }: Tools,
): { id: number; type: number } | undefined {
  const { task, fd, link } = at;
  const local = at.take();
  try {
    const info = { ...at.info, flags: at.info.flags & ~O_CLOEXEC };
    const stat = fstatSync(local, { bigint: true });
    const kind = kinds.find((k) => k.matches({ link, stat, info, local }));
    if (kind === undefined) {
      session.refuse(unsupported(task, fd, link));
      return undefined;
    }
    const id = session.newFileId();
    const fown = (info.flags & O_PATH) === 0 ? ownerOf(local) : NO_OWNER;
    const message = kind.dump({ id, task, fd, local, link, stat, info, fown }, session);
    const type = typeNumber(kind.type);
    if (message !== undefined)
      session.images.append("FILES", [], { type: fileEntry, value: { type, id, [kind.field]: message } as FileEntry });
    return { id, type };
  } finally {
    closeSync(local);
  }
}

function typeNumber(name: string): FileEntry["type"] {
  return (fdTypes.values as Readonly<Record<string, number>>)[name] as FileEntry["type"];
}

const NO_OWNER: FownEntry = { uid: 0, euid: 0, signum: 0, pid_type: 0, pid: 0 };
/** Owner types of fcntl(2) are TID, PID, PGRP; images have enum pid_type of the kernel: PID, TGID, PGID, SID. */
const PID_TYPES = [0, 1, 2];

/** To whom the kernel sends signals about this description. */
function ownerOf(fd: number): FownEntry {
  const owner = getOwner(fd);
  const signum = getSignal(fd);
  if (owner.pid === 0 && signum === 0) return NO_OWNER;
  const uids = owner.pid === 0 ? { uid: 0, euid: 0 } : getOwnerUids(fd);
  return { ...uids, signum, pid_type: PID_TYPES[owner.type] ?? 0, pid: owner.pid };
}

function unsupported(task: DumpTask, fd: number, link: string): Refusal {
  return new Refusal({
    code: "FILE_KIND_UNSUPPORTED",
    process: { pid: task.traced.pid, comm: task.comm },
    resource: `fd ${fd} (${link})`,
    because: "open files of this kind are not carried yet",
    remedy: ["Close the descriptor in the program before the dump"],
  });
}

/** The descriptor table of one task, as read. */
export interface FileTable {
  readonly id: number;
  readonly entries: readonly FdinfoEntry[];
}

/** What is wrong with the open files of a table, before anything is made. */
export function checkTable(
  task: RestoreTask,
  table: FileTable,
  { session, kinds }: { session: RestoreSession; kinds: readonly AnyKind[] },
): Problem[] {
  const problems: Problem[] = [];
  for (const { id, fd } of table.entries) {
    const entry = session.fileEntry(id);
    const process = { pid: task.pid, comm: task.comm };
    const kind = entry === undefined ? undefined : kindOf(entry, kinds);
    if (entry === undefined || kind === undefined) {
      problems.push(
        new Refusal(
          {
            code: "FILE_KIND_UNSUPPORTED",
            process,
            resource: `fd ${fd}`,
            because: entry === undefined ? `files.img has no entry ${id}` : `files of kind ${typeName(entry.type)} are not restored yet`,
            remedy: ["Restore these images with the version of the tool that made them"],
          },
          "restore",
        ),
      );
      continue;
    }
    const message = entry[kind.field];
    problems.push(...(kind.check?.(message, session, { process, what: `fd ${fd}, the file` }) ?? []));
  }
  return problems;
}

function typeName(type: number): string {
  return Object.entries(fdTypes.values).find(([, n]) => n === type)?.[0] ?? String(type);
}

/** The kind that an entry is of. */
export function kindOf(entry: FileEntry, kinds: readonly AnyKind[]): AnyKind | undefined {
  return kinds.find((k) => typeNumber(k.type) === entry.type && entry[k.field] !== undefined);
}

/** Fills the empty descriptor table of a task. All its present descriptors are closed first. */
export function restoreTable(task: RestoreTask, table: FileTable, session: RestoreSession): void {
  const { leader } = task.traced;
  const clear = new Program();
  clear.call(SYS.close_range, 0, ALL_FDS, 0).must("closing descriptors");
  run(leader, clear);
  if (table.entries.length === 0) return;
  makeRoomFor(task.traced.pid, table.entries);
  const ids = [...new Set(table.entries.map((e) => e.id))];
  const there = new Map(
    handOver(
      leader,
      ids.map((id) => session.file(id)),
    ).map((fd, i) => [ids[i] as number, fd]),
  );
  const program = new Program();
  for (const step of placingSteps(
    there,
    table.entries.map(({ id, fd, flags }) => ({ id, fd, closeOnExec: (flags & FD_CLOEXEC) !== 0 })),
  )) {
    if (step.kind === "close") program.call(SYS.close, step.fd);
    else if (step.kind === "flags")
      program.call(SYS.fcntl, step.fd, F_SETFD, step.closeOnExec ? FD_CLOEXEC : 0).must("setting the flag of a descriptor");
    else program.call(SYS.dup3, step.from, step.to, step.closeOnExec ? O_CLOEXEC : 0).must(`putting descriptor ${step.to} into place`);
  }
  run(leader, program);
  leader.closeOnDeath([]);
}

/** Numbers above the limit that the process starts with need a higher one; its own limit is set later. */
function makeRoomFor(pid: number, entries: readonly FdinfoEntry[]): void {
  const needed = BigInt(entries.reduce((max, e) => Math.max(max, e.fd), 0) + SPARE_FDS);
  const limit = getPrlimit(pid, RLIMIT.NOFILE);
  if (limit.soft >= needed) return;
  const hard = limit.hard > needed ? limit.hard : needed;
  try {
    setPrlimit(pid, RLIMIT.NOFILE, { soft: needed, hard });
  } catch {
    // Without the right to raise it the spare numbers may be missing; the numbers themselves decide.
    if (limit.hard <= limit.soft) return;
    setPrlimit(pid, RLIMIT.NOFILE, { soft: limit.hard, hard: limit.hard });
  }
}
/** For the socket that descriptors arrive through, and one to put aside. */
const SPARE_FDS = 8;

/** Signals about I/O: owner and signal of a description; every task of the tree exists. */
export function restoreOwner(fd: number, fown: FownEntry): void {
  if (fown.pid !== 0) setOwner(fd, { type: PID_TYPES.indexOf(fown.pid_type), pid: fown.pid }, fown);
  if (fown.signum !== 0) setSignal(fd, fown.signum);
}
