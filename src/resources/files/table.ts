/**
 * Descriptor tables: which open file stands under which number, and which numbers share one open file description.
 *
 * Read from   /proc/PID/{fd,fdinfo}, pidfd_getfd(2), kcmp(2)
 * Made with   each open file once in Floe, handed over by SCM_RIGHTS, put into place by dup3(2)
 */
import { closeSync, fstatSync } from "node:fs";
import { readlinkSync } from "../../linux/named-files.js";
import { Refusal } from "../../errors.js";
import { FD_CLOEXEC, F_SETFD, dupFrom, getOwner, getOwnerUids, getSignal, setOwner, setSignal } from "../../linux/fcntl.js";
import { O_CLOEXEC, O_PATH } from "../../linux/files.js";
import type { DescriptorText, ReadDescriptor } from "../../linux/descriptor-texts.js";
import { type FdInfo, isCloseOnExec, isPlain } from "../../linux/proc/fdinfo.js";
import { RLIMIT, getPrlimit, setPrlimit } from "../../linux/limits.js";
import { readFdNumbers } from "../../linux/proc/list.js";
import { readFdInfo } from "../../linux/proc/read.js";
import { pidfdGetfd, pidfdOpen } from "../../linux/process.js";
import { SYS } from "../../linux/syscalls.js";
import { handOver, handOverTaken } from "../../target/hand-over.js";
import { Program, type Result } from "../../target/program.js";
import { run } from "../../target/run.js";
import type { TracedThread } from "../../target/thread.js";
import type { DumpSession, DumpTask, FileKind, OpenFile, Problem, RestoreSession, RestoreTask } from "../part.js";
import { Descriptions, type Known, type Seen } from "./descriptions.js";
import { inheritedFor } from "./inherit.js";
import { dumpLocks, noteLocks } from "./locks.js";
import { lookForNotices, noteNotices, withNotices } from "./notices.js";
import { socketLabel } from "../security/socket-label.js";
import { insideGroup, insidePid, outsideGroup, outsidePid } from "../tasks/pid-numbers.js";
import type { FownEntry } from "./owner.schema.js";
import { isOfProc } from "./proc-path.js";
import { type OpenedFile, learnOpened, stateKey } from "./unchanged.js";
import { linkAt } from "./path-file.js";
import { placingSteps } from "./placing.js";
import type { PreparedDescriptors } from "./prepared.js";
import { regularFiles } from "./regular.js";
import { ToldFiles, learnTold } from "./told.js";
import { type FdinfoEntry, type FileEntry, fdTypes, fdinfoEntry, fileEntry } from "./table.schema.js";

const ALL_FDS = 0xffffffff;

type AnyKind = FileKind<unknown>;

/**
 * Writes the descriptor table of every task (shared tables once) and an entry for every open file description.
 */
export function dumpFiles(tasks: readonly DumpTask[], session: DumpSession, by: Pick<Tools, "kinds" | "prepared" | "texts">): void {
  const tools: Tools = { session, ...by, known: new Descriptions(), later: [], last: [], kept: [] };
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

const kindsByText = new WeakMap<DescriptorText, AnyKind>();

/** Finds out before the freeze of which kinds files are; that holds for those of which nothing has changed by then. */
export function learnKinds(
  { prepared, pids }: { prepared: PreparedDescriptors; pids: readonly number[] },
  kinds: readonly AnyKind[],
  by: Pick<DumpSession, "options" | "mounts" | "hearsOfLooks">,
): void {
  const opened: OpenedFile[] = [];
  const texts = [...prepared.last].flatMap(([pid, reads]) => reads.flatMap(({ text }) => (text === undefined ? [] : { pid, text })));
  for (const { pid, text } of texts.filter(({ text }) => text.link.startsWith("/"))) {
    stateKey(text.stat);
    let isPlainly = true;
    const seen = {
      ...text,
      get local() {
        isPlainly = false;
        return -1;
      },
    };
    const kind = findKind(seen, kinds);
    if (kind === undefined || !isPlainly) continue;
    kindsByText.set(text, kind);
    if (kind.name !== regularFiles.name) continue;
    learnTold(text, by);
    if ((text.info.flags & O_PATH) === 0 && !isOfProc(text.link)) opened.push({ pid, ...text });
  }
  learnOpened(opened, { pids, isHeard: by.hearsOfLooks });
}

function findKind(file: Parameters<AnyKind["matches"]>[0], kinds: readonly AnyKind[]): AnyKind | undefined {
  const hasPath = file.link.startsWith("/");
  // By way of /proc/PID/fd a descriptor of no use can be had of what has no name: nothing makes one again.
  if ((file.info.flags & O_PATH) !== 0 && /^(pipe:|socket:|anon_inode:)/.test(file.link)) return undefined;
  return kinds.find((k) => !(hasPath && k.isPathless === true) && k.matches(file));
}

function dumpTables(tasks: readonly DumpTask[], tools: Tools): void {
  const { session } = tools;
  const seen = new Set<number>();
  const tables = tasks
    .filter(({ ids }) => !seen.has(ids.files) && seen.add(ids.files))
    .map((task) => ({ task, opened: openedBy(task, tools) }));
  for (const { task, opened } of tables) lookFirst(task, opened, tools);
  // What the tree decides about is known by now.
  const told = new ToldFiles(session);
  const written: { task: DumpTask; entries: readonly FdinfoEntry[] }[] = [];
  for (const { task, opened } of tables) {
    session.images.touch("FDINFO", [task.ids.files]);
    written.push({ task, entries: dumpTable(task, opened, { ...tools, told }) });
  }
  for (const { task, entries } of written) {
    const all = withNotices(task, entries, session);
    session.later(() => {
      for (const value of all) session.images.append("FDINFO", [task.ids.files], { type: fdinfoEntry, value });
    });
  }
  dumpLocks(session);
}

function dumpTable(task: DumpTask, opened: readonly Opened[], tools: Tools & { readonly told: ToldFiles }): readonly FdinfoEntry[] {
  const { pid } = task.traced;
  let opener: number | undefined;
  const pidfd = () => {
    opener ??= pidfdOpen(pid);
    return opener;
  };
  const entries: FdinfoEntry[] = [];
  try {
    const ownerless = tools.prepared?.ownerless(pid, pidfd);
    for (const one of opened) {
      const isOwnerless = one.isOwnerless ?? ownerless?.has(one.fd) === true;
      const entry = toldDescriptor({ ...one, isOwnerless }, task, tools) ?? dumpDescriptor({ ...one, task, pidfd, isOwnerless }, tools);
      if (entry !== undefined) entries.push(entry);
    }
  } finally {
    if (opener !== undefined) closeSync(opener);
  }
  return entries;
}

type Opened = Pick<Descriptor, "fd" | "link" | "file" | "text" | "info"> & Pick<ReadDescriptor, "isOwnerless">;

/** The descriptors of a process. What fdinfo says about the state of some kinds is read when they are dumped. */
function openedBy({ traced: { pid }, comm }: DumpTask, { session, texts }: Pick<Tools, "session" | "texts">): Opened[] {
  const linkOf = (fd: number) => linkAt(`/proc/${pid}/fd/${fd}`, { process: { pid, comm }, session });
  const read: readonly ReadDescriptor[] = texts?.get(pid) ?? readFdNumbers(pid).map((fd) => ({ fd, text: undefined }));
  return read.flatMap((one) => {
    const { fd, file, text, isOwnerless } = one;
    const link = text?.link ?? one.link ?? linkOf(fd);
    if (link === undefined) return []; // refused
    const owner = isOwnerless === undefined ? {} : { isOwnerless };
    // An O_PATH descriptor may be of a symbolic link, which only a descriptor leads to.
    const isPlainFile = text !== undefined && isPlain(text.info) && text.link.startsWith("/") && (text.info.flags & O_PATH) === 0;
    return { ...owner, fd, file, link, text: isPlainFile ? text : undefined, info: text?.info };
  });
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
  /** Of the process. */
  pidfd(): number;
  readonly link: string;
  /** Number of its description, where it is known. */
  readonly file: number | undefined;
  /** What has been read of it in this freeze. */
  readonly text: DescriptorText | undefined;
  /** What was read of any file that says no more than all do. */
  readonly info: FdInfo | undefined;
  /** Nobody is told by signals, as is known already. */
  readonly isOwnerless: boolean;
}

interface Tools {
  readonly session: DumpSession;
  readonly kinds: readonly AnyKind[];
  readonly prepared: PreparedDescriptors | undefined;
  /** What it has read in this freeze. */
  readonly texts: ReadonlyMap<number, readonly ReadDescriptor[]> | undefined;
  readonly known: Descriptions;
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
  const ours = { pid: process.pid, fd: local, link: readlinkSync(`/proc/self/fd/${local}`), info: readFdInfo(process.pid, local) };
  return entryOf(ours, { task, take: () => dupFrom(local, 0) }, tools)?.id;
}

/** One whose file needs no look, or has been looked at; undefined: it needs one. */
function toldDescriptor(
  one: Opened & { readonly isOwnerless: boolean },
  task: DumpTask,
  { known, told }: { known: Descriptions; told: ToldFiles },
): FdinfoEntry | undefined {
  const { fd, file, link, text, info } = one;
  if (info === undefined || file === undefined || link.startsWith("socket:")) return undefined; // which may have a label
  const { pid } = task.traced;
  const seen = { pid, fd, file, link, info };
  let found = known.find(seen);
  if (found === undefined && text !== undefined && one.isOwnerless) {
    const entry = told.entryFor(pid, text);
    found = entry && known.add(seen, entry);
  }
  return found && { id: found.id, flags: isCloseOnExec(info) ? FD_CLOEXEC : 0, type: found.type as FdinfoEntry["type"], fd };
}

function dumpDescriptor(at: Descriptor, tools: Tools): FdinfoEntry | undefined {
  const { task, fd } = at;
  const { pid } = task.traced;
  const info = at.text?.info ?? readFdInfo(pid, fd);
  const reach = { task, text: at.text, isOwnerless: at.isOwnerless, take: () => pidfdGetfd(at.pidfd(), fd) };
  const found = entryOf({ pid, fd, link: at.link, info, file: at.file }, reach, tools);
  if (found === undefined) return undefined;
  const label = socketLabel({ pid, fd, link: found.link });
  const value: FdinfoEntry = {
    id: found.id,
    flags: isCloseOnExec(info) ? FD_CLOEXEC : 0,
    type: found.type as FdinfoEntry["type"],
    fd,
    ...(label === undefined ? {} : { xattr_security_selinux: label }),
  };
  noteLocks({ task, fd, id: found.id, info, link: found.link }, tools.session);
  return value;
}

/** How a description is got at: whose it is, and a descriptor of ours for it. */
interface Reach {
  readonly task: DumpTask;
  /** What is known of it already. */
  readonly text?: DescriptorText | undefined;
  readonly isOwnerless?: boolean;
  take(): number;
}

/** The entry of the description behind a descriptor; made when it is seen first. */
function entryOf(seen: Seen, reach: Reach, tools: Tools): Known | undefined {
  const found = tools.known.find(seen);
  if (found !== undefined) return found;
  const { pid, fd, link, info } = seen;
  const made = dumpDescription({ ...reach, fd, link, info, ...(pid === process.pid ? { isInFlight: true } : {}) }, tools);
  return made && tools.known.add(seen, made);
}

function dumpDescription(
  at: Reach & Pick<OpenFile, "fd" | "link" | "info" | "isInFlight">,
  { session, kinds }: Tools,
): { id: number; type: number } | undefined {
  const { task, fd, link } = at;
  const seen = new SeenFile(at);
  try {
    const kind = (at.text === undefined ? undefined : kindsByText.get(at.text)) ?? findKind(seen, kinds);
    if (kind === undefined) {
      session.refuse(unsupported(task, fd, link));
      return undefined;
    }
    const id = session.newFileId();
    seen.id = id;
    const hasOwner = (seen.info.flags & O_PATH) === 0 && at.isOwnerless !== true;
    if (hasOwner) seen.fown = ownerOf(seen.local, session);
    if (seen.fown.pid !== 0) lookForNotices(seen, session);
    const message = kind.dump(seen, session);
    const type = typeNumber(kind.type);
    if (message !== undefined) {
      const value = { type, id, [kind.field]: message } as FileEntry;
      session.later(() => session.images.append("FILES", [], { type: fileEntry, value }));
    }
    return { id, type };
  } finally {
    seen.close();
  }
}

/**
 * An open file as kinds see it. A descriptor of ours for it is taken when it is first needed: nothing of a plain file needs it. (There
 * may be thousands of these in a freeze: engines take a class for much quicker than an object that is put together.)
 */
class SeenFile implements OpenFile {
  readonly link: string;
  readonly task: DumpTask;
  readonly fd: number;
  readonly isInFlight: boolean;
  readonly info: FdInfo;
  readonly stat: OpenFile["stat"];
  id = 0;
  fown = NO_OWNER;
  readonly #reach: Reach;
  #local: number | undefined;

  constructor(at: Reach & Pick<OpenFile, "fd" | "link" | "info" | "isInFlight">) {
    this.link = at.link;
    this.task = at.task;
    this.fd = at.fd;
    this.isInFlight = at.isInFlight === true;
    this.#reach = at;
    this.info = (at.info.flags & O_CLOEXEC) === 0 ? at.info : { ...at.info, flags: at.info.flags & ~O_CLOEXEC };
    this.stat = at.text?.stat ?? this.#ownStat();
  }

  #ownStat(): OpenFile["stat"] {
    try {
      return fstatSync(this.local, { bigint: true });
    } catch (error) {
      this.close();
      throw error;
    }
  }

  get local(): number {
    this.#local ??= this.#reach.take();
    return this.#local;
  }

  close(): void {
    if (this.#local !== undefined) closeSync(this.#local);
  }
}

function typeNumber(name: string): FileEntry["type"] {
  return (fdTypes.values as Readonly<Record<string, number>>)[name] as FileEntry["type"];
}

const NO_OWNER: FownEntry = { uid: 0, euid: 0, signum: 0, pid_type: 0, pid: 0 };
/** Owner types of fcntl(2) are TID, PID, PGRP; images have enum pid_type of the kernel: PID, TGID, PGID, SID. */
const PID_TYPES = [0, 1, 2];

/** To whom the kernel sends signals about this description. */
function ownerOf(fd: number, session: DumpSession): FownEntry {
  const owner = getOwner(fd);
  const signum = getSignal(fd);
  if (owner.pid === 0 && signum === 0) return NO_OWNER;
  const uids = owner.pid === 0 ? { uid: 0, euid: 0 } : getOwnerUids(fd);
  return { ...uids, signum, pid_type: PID_TYPES[owner.type] ?? 0, pid: insideOwner(owner, session) };
}

const F_OWNER_PGRP = 2;

function insideOwner({ type, pid }: { type: number; pid: number }, session: DumpSession): number {
  return type === F_OWNER_PGRP ? insideGroup(pid, session) : insidePid(pid, session);
}

function outsideOwner({ type, pid }: { type: number; pid: number }, session: RestoreSession): number {
  return type === F_OWNER_PGRP ? outsideGroup(pid, session) : outsidePid(pid, session);
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
    const use = { process, what: `fd ${fd}, the file` };
    const given = inheritedFor(entry, kind, session);
    if (given !== undefined) problems.push(...(kind.outside?.check?.(message, { fd: given, session, use }) ?? []));
    else problems.push(...(kind.check?.(message, session, use) ?? []));
  }
  return problems;
}

function typeName(type: number): string {
  return Object.entries(fdTypes.values).find(([, n]) => n === type)?.[0] ?? String(type);
}

const kindsByType = new WeakMap<readonly AnyKind[], Map<number, AnyKind[]>>();

/** The kind that an entry is of. */
export function kindOf(entry: FileEntry, kinds: readonly AnyKind[]): AnyKind | undefined {
  let byType = kindsByType.get(kinds);
  if (byType === undefined) {
    byType = new Map();
    for (const kind of kinds) byType.set(typeNumber(kind.type), [...(byType.get(typeNumber(kind.type)) ?? []), kind]);
    kindsByType.set(kinds, byType);
  }
  return byType.get(entry.type)?.find((k) => entry[k.field] !== undefined);
}

/** A process, and the descriptor table that it is to have. */
export interface ToFill {
  readonly task: RestoreTask;
  readonly table: FileTable;
}

/** Adds the calls that fill the descriptor table of a task; returns what is to be done when they have been made. */
export function addTable(program: Program, one: ToFill, session: RestoreSession): () => void {
  const { lender } = one.task.traced;
  const after = lender === undefined ? () => restoreTable(one, session) : fillByTaking(program, { ...one, lender }, session);
  return () => {
    after();
    noteNotices(one.task, one.table.entries);
  };
}

/** Stands for the descriptor of Floe among the ids of open files. */
const LENDER = -1;

/**
 * Adds the calls that fill a table; returns what checks them afterwards. What numbers the files come to is known before: the lowest ones, for everything else has been closed but
 * the descriptor of Floe, and that stands behind them all if there is room.
 */
function fillByTaking(program: Program, { task, table, lender }: ToFill & { lender: number }, session: RestoreSession): () => void {
  const limit = makeRoomFor(task.traced.pid, table.entries);
  const behind = table.entries.reduce((max, { fd }) => Math.max(max, fd), -1) + 1;
  const at = behind !== lender && BigInt(behind) < limit ? behind : lender;
  if (at !== lender) program.call(SYS.dup3, lender, at, O_CLOEXEC).must("moving the descriptor of Floe");
  if (at > 0) program.call(SYS.close_range, 0, at - 1, 0).must("closing descriptors");
  program.call(SYS.close_range, at + 1, ALL_FDS, 0).must("closing descriptors");
  const there = new Map([[LENDER, at]]);
  const taken: Result[] = [];
  for (const { id } of table.entries) {
    if (there.has(id)) continue;
    there.set(id, taken.length < at ? taken.length : taken.length + 1);
    taken.push(program.call(SYS.pidfd_getfd, at, session.file(id), 0).must("taking a descriptor from Floe"));
  }
  addPlacing(program, there, table);
  return () => {
    const wrong = taken.findIndex(({ value }, i) => Number(value) !== (i < at ? i : i + 1));
    if (wrong >= 0) throw new Error(`internal error: a file came to process ${task.pid} as descriptor ${taken[wrong]?.value}`);
  };
}

function addPlacing(program: Program, there: ReadonlyMap<number, number>, { entries }: FileTable): void {
  const placed = entries.map(({ id, fd, flags }) => ({ id, fd, closeOnExec: (flags & FD_CLOEXEC) !== 0 }));
  for (const step of placingSteps(there, placed)) {
    if (step.kind === "close") program.call(SYS.close, step.fd);
    else if (step.kind === "flags")
      program.call(SYS.fcntl, step.fd, F_SETFD, step.closeOnExec ? FD_CLOEXEC : 0).must("setting the flag of a descriptor");
    else
      program.call(SYS.dup3, step.from, step.to, step.closeOnExec ? O_CLOEXEC : 0).must(() => `putting descriptor ${step.to} into place`);
  }
}

/** The same by handing over, where a process may not take. */
function restoreTable({ task, table }: ToFill, session: RestoreSession): void {
  const { leader } = task.traced;
  const clear = new Program();
  clear.call(SYS.close_range, 0, ALL_FDS, 0).must("closing descriptors");
  run(leader, clear);
  if (table.entries.length === 0) return;
  makeRoomFor(task.traced.pid, table.entries);
  const ids = [...new Set(table.entries.map((e) => e.id))];
  const there = handOverFiles(leader, ids, session);
  const program = new Program();
  addPlacing(program, there, table);
  run(leader, program);
  leader.closeOnDeath([]);
}

/** Every open file under one number. Those that cannot be sent come last: what is sent comes to the lowest free numbers. */
function handOverFiles(leader: TracedThread, ids: readonly number[], session: RestoreSession): Map<number, number> {
  const isRing = (id: number) => session.fileEntry(id)?.ring !== undefined;
  const there = new Map<number, number>();
  const sent = ids.filter((id) => !isRing(id));
  const taken = ids.filter(isRing);
  const open = (some: readonly number[]) => some.map((id) => session.file(id));
  for (const [i, fd] of (sent.length === 0 ? [] : handOver(leader, open(sent))).entries()) there.set(sent[i] as number, fd);
  for (const [i, fd] of (taken.length === 0 ? [] : handOverTaken(leader, open(taken))).entries()) there.set(taken[i] as number, fd);
  return there;
}

/** Numbers above the limit that the process starts with need a higher one; its own limit is set later. Returns the limit that it has now. */
function makeRoomFor(pid: number, entries: readonly FdinfoEntry[]): bigint {
  const needed = BigInt(entries.reduce((max, e) => Math.max(max, e.fd), 0) + SPARE_FDS);
  const limit = getPrlimit(pid, RLIMIT.NOFILE);
  if (limit.soft >= needed) return limit.soft;
  const hard = limit.hard > needed ? limit.hard : needed;
  try {
    setPrlimit(pid, RLIMIT.NOFILE, { soft: needed, hard });
    return needed;
  } catch {
    // Without the right to raise it the spare numbers may be missing; the numbers themselves decide.
    if (limit.hard <= limit.soft) return limit.soft;
    setPrlimit(pid, RLIMIT.NOFILE, { soft: limit.hard, hard: limit.hard });
    return limit.hard;
  }
}
/** For the socket that descriptors arrive through, and one to put aside. */
const SPARE_FDS = 8;

/** Signals about I/O: owner and signal of a description; every task of the tree exists. */
export function restoreOwner(fd: number, fown: FownEntry, session: RestoreSession): void {
  const owner = { type: PID_TYPES.indexOf(fown.pid_type), pid: fown.pid };
  if (fown.pid !== 0) setOwner(fd, { ...owner, pid: outsideOwner(owner, session) }, fown);
  if (fown.signum !== 0) setSignal(fd, fown.signum);
}
