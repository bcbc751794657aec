/**
 * What a part is: the interfaces that the engine and the kinds of kernel object meet at.
 *
 * Two shapes of part cover almost everything. A {@link ThreadPart} carries an attribute of a thread or process that is
 * read and set by system calls inside it. A {@link FileKind} carries one kind of open file. Memory and the process
 * tree, which the engine has to drive step by step, have entry points of their own (`memory/`, `tasks/`).
 *
 * Parts are synchronous, open no image file and make no FFI call of their own; they are given a session.
 */
import type { MessageType } from "../images/codec/schema.js";
import type { ImageKindName } from "../images/kinds.js";
import type { StoredPages } from "../images/page-file.js";
import type { Program } from "../target/program.js";
import type { TracedTask, TracedThread } from "../target/thread.js";
import type { ImageError, KernelError, ProcessName, Refusal, UsageError } from "../errors.js";
import type { UnprotectedAhead } from "../linux/unprotected.js";
import type { ProcStat } from "../linux/proc/stat.js";
import type { ProcStatus } from "../linux/proc/status.js";
import type { FdInfo } from "../linux/proc/fdinfo.js";
import type { Vma } from "../linux/proc/maps.js";
import type { CoreEntry } from "./tasks/core.schema.js";
import type { FownEntry } from "./files/owner.schema.js";
import type { MountTree } from "./files/hidden.js";
import type { Irmap } from "./watches/places.js";
import type { FilesAhead } from "./files/carry-ahead.js";
import type { FileEntry } from "./files/table.schema.js";
import type { PageRange } from "./memory/page-runs.js";
import type { PreCopied } from "./memory/precopy.js";
import type { TakenShared } from "./memory/shared-precopy.js";
import type { Room } from "./memory/room.js";
import type { PolicyOptions } from "./policy.js";

/** A file descriptor of Floe's own process. */
export type Fd = number;

/** Anything a part may report; problems are collected and shown together. */
export type Problem = Refusal | ImageError | UsageError | KernelError;

/** Where a part puts messages: one image kind, the numbers of its file name, a message, and bytes that follow it. */
export interface ImageSink {
  append<T>(kind: ImageKindName, ids: readonly (number | bigint)[], record: { type: MessageType<T>; value: T; extra?: Uint8Array }): void;
  /** Makes the image even if it gets no record. */
  touch(kind: ImageKindName, ids: readonly (number | bigint)[]): void;
  /** Opens `name` for raw bytes (pages, queues written by the kernel); the sink closes it. Append-only use. */
  rawFile(name: string): Fd;
  /** A file without a name in the images directory, closed by the sink; undefined where the file system has no such files. */
  scratch(): Fd | undefined;
  /** Makes a {@link scratch} file the raw image `name`. */
  giveName(fd: Fd, name: string): void;
}

/** Where a part reads messages back from. A missing image has no records. */
export interface ImageSource {
  records<T>(
    kind: ImageKindName,
    ids: readonly (number | bigint)[],
    type: MessageType<T>,
    extraBytes?: (value: T, rest: Buffer) => number,
  ): { readonly value: T; readonly extra: Buffer; readonly offsetBytes: number }[];
  /** An image whose first record is of another type than all others. */
  headed<H, T>(
    kind: ImageKindName,
    ids: readonly (number | bigint)[],
    types: { head: MessageType<H>; record: MessageType<T> },
  ): { head: H | undefined; records: T[] };
  single<T>(kind: ImageKindName, ids: readonly (number | bigint)[], type: MessageType<T>): T;
  exists(kind: ImageKindName, ids: readonly (number | bigint)[]): boolean;
  rawFile(name: string): Fd;
  /** Pages, by the number that a pagemap gives; {@link hasPages} says whether there are any. */
  pages(id: number): StoredPages;
  hasPages(id: number): boolean;
  /** The images that these ones are the difference to. */
  parent(): ImageSource | undefined;
}

/** A dump under way, as parts see it. Everything is frozen while a part's `dump` runs. */
export interface DumpSession {
  readonly options: PolicyOptions;
  readonly images: ImageSink;
  readonly tasks: readonly DumpTask[];
  /** The tree runs on, or stays stopped, after the dump. */
  readonly livesOn: boolean;
  /** Reports something that cannot be carried; the dump goes on looking and fails at the end, with all of them. */
  refuse(problem: Problem): void;
  warn(message: string): void;
  /** The id of a regular file for mappings, exe links, cwd and root: dumps the file entry once, returns its id. */
  fileId(file: PathFile): number;
  /** What undoes a change outside of the images; runs when the tree lives on: after a failure, or because it was asked for. */
  takeBack(undo: () => void): void;
  /** Work for the moment right before a tree dies that does not run on; it may throw, and the tree lives. */
  beforeDeath(work: () => void): void;
  /** Work for right after that. */
  afterDeath(work: () => void): void;
  /** Puts off work that needs nothing of the tree any more: done after a tree that runs on has been let go. */
  later(work: () => void): void;
  /** Memory that was copied before the tree was frozen, by pid. */
  readonly precopied: ReadonlyMap<number, PreCopied>;
  /** Where memory that was copied ahead has been written since, by a look that began with the freeze. */
  readonly unprotected: UnprotectedAhead | undefined;
  /** Shared memory that was copied before the tree was frozen. */
  readonly sharedAhead: SharedAhead | undefined;
  /** Copies of files that were made before the tree was frozen, by device and inode. */
  readonly filesAhead: FilesAhead;
  /** Memory of ours into which pages are copied; undefined: there is none, and processes write their pages themselves. */
  readonly room: Room | undefined;
  /** Copy-on-write copies that memory is saved from; undefined where the tree does not run on, or is not to be copied. */
  readonly snapshots: Snapshots | undefined;
  /** Which mount a path ends on. */
  readonly mounts: MountTree;
  /** Names of watched files that had to be searched for. */
  readonly irmap: Irmap;
  /** Before the freeze the tree was told of it when somebody opened its files (watches/listeners.ts). */
  readonly hearsOfLooks: boolean;
  /** Told which pages stay with a process that goes on standing still and is asked for them; undefined: none do. */
  readonly leave: ((task: DumpTask, pages: readonly PageRange[]) => void) | undefined;
  /** Processes, by pid, whose mappings had no NUMA policies just before the tree was frozen. */
  readonly withoutPolicies: ReadonlySet<number>;
  /** The images of the dump before, which these are to be the difference to. */
  readonly parent: ImageSource | undefined;
  /** Fails or dies here if a test asked for it (engine/fault.ts). */
  faultPoint(point: string): void;
  /** A fresh id for an entry of files.img. */
  newFileId(): number;
  /** Tells how much memory has been saved; undefined when nobody watches. */
  readonly progress: ((doneBytes: number, totalBytes: number) => void) | undefined;
}

/** Shared memory that was copied before the tree was frozen. */
export interface SharedAhead {
  /** Whether mappings of a process are watched by us for that. */
  isTracked(pid: number): boolean;
  /** The copy of an object, by its key, if it is still worth anything. */
  take(key: string, tasks: readonly DumpTask[]): TakenShared | undefined;
}

/** The copies of processes that run on while their memory is saved. */
export interface Snapshots {
  isWanted(pid: number): boolean;
  /** Takes over a copy: it ends when the dump does, at the latest. */
  keep(copy: TracedTask): void;
  /** The tree runs on, and the copies are about to be saved. */
  saving(): void;
  end(copy: TracedTask): void;
}

/** A file known by its path and identity rather than by a descriptor: a mapped file, an exe link, a directory. */
export interface PathFile {
  readonly task: DumpTask;
  /** A path below /proc through which the very file can be opened (map_files/…, exe, cwd, root). */
  readonly procPath: string;
  /** open(2) flags to record. */
  readonly flags: number;
  /** Mapped for the process alone, which relies on its contents: nobody is expected to change them. */
  readonly isPrivate?: boolean;
  /** Device and inode as /proc/PID/maps has them, if known: equal keys are the same file. */
  readonly key?: string;
}

/** A frozen process with what /proc says of it. */
export interface DumpTask {
  readonly traced: TracedTask;
  /** Pid inside the root task's pid namespace: the number used in images. */
  readonly pid: number;
  readonly comm: string;
  readonly stat: ProcStat;
  readonly status: ProcStatus;
  /** Mappings as they were before the stub was put in. */
  readonly vmas: readonly Vma[];
  /** The leader's core message; parts fill it in. */
  readonly core: CoreEntry;
  /** ids of shared objects (ids-PID): equal numbers mean the same object. */
  readonly ids: { vm: number; files: number; fs: number; sighand: number };
}

/** What a {@link ThreadPart} is given on dump. */
export interface ThreadDump {
  readonly session: DumpSession;
  readonly task: DumpTask;
  readonly thread: TracedThread;
  readonly isLeader: boolean;
  /** /proc/PID/task/TID/status and stat of this very thread. */
  readonly status: ProcStatus;
  readonly stat: ProcStat;
  /** The program this thread is going to run: add calls, read results in the returned function. */
  readonly program: Program;
  /** This thread's core message (for the leader the same object as `task.core`). */
  readonly core: CoreEntry;
}

/** A restore under way, as parts see it. */
export interface RestoreSession {
  readonly options: PolicyOptions;
  readonly images: ImageSource;
  readonly tasks: readonly RestoreTask[];
  /** The process that all others are cloned from; it ends before any of them runs. */
  readonly seed: TracedTask;
  /** Whether the tree gets an IPC namespace of its own. */
  readonly hasOwnIpc: boolean;
  /** Does something in the IPC namespace that the tree gets, or in ours if that is its. */
  inIpc<T>(action: () => T): T;
  /** By (saved) pid. */
  task(pid: number): RestoreTask | undefined;
  /** A descriptor of ours for the open file of this id (files.img), opened on first use. */
  file(id: number): Fd;
  /** The entry of this id in files.img. */
  fileEntry(id: number): FileEntry | undefined;
  /** Takes over a descriptor of ours that has to stay open until every task has its files. */
  closeLater(fd: Fd): void;
  /** Closes one of these earlier. */
  closeNow(fd: Fd): void;
  /** What undoes a change outside of the tree; runs when the restore fails. */
  takeBack(undo: () => void): void;
  warn(message: string): void;
}

/** A process that is being made. */
export interface RestoreTask {
  /** The pid it had and will have, inside the root task's pid namespace. */
  readonly pid: number;
  readonly comm: string;
  readonly core: CoreEntry;
  /** Core messages of all threads, leader first, with their tids. */
  readonly threads: readonly { readonly tid: number; readonly core: CoreEntry }[];
  /** The living process; set once it has been created. */
  readonly traced: TracedTask;
}

/** What a {@link ThreadPart} is given on restore. */
export interface ThreadRestore {
  readonly session: RestoreSession;
  readonly task: RestoreTask;
  readonly thread: TracedThread;
  readonly isLeader: boolean;
  readonly tid: number;
  readonly program: Program;
  readonly core: CoreEntry;
}

/**
 * When a thread part is restored.
 *
 * `process`: once per process, in the leader, when its memory and descriptors are in place and it has one thread only.
 * `thread`: in every thread, when all threads exist. `last`: in every thread, after everything else: what takes away
 * rights (credentials, seccomp) or must not be disturbed.
 */
export type Stage = "process" | "thread" | "last";

/** An attribute of a thread or process. Order of restore: by stage, then as listed in the registry. */
export interface ThreadPart {
  /** `folder/part`, as in `signals/altstack`. */
  readonly name: string;
  /** Rows of the capability catalogue that it carries. */
  readonly rows: readonly string[];
  readonly stage: Stage;
  /** Adds calls and returns what is to be done with their results; or fills in `core` at once. Process-wide state: only when `isLeader`. */
  dump?(context: ThreadDump): (() => void) | undefined;
  /**
   * `dump` only adds calls, the same ones for every leader and the same for every other thread, and takes in what they said: for many
   * threads they are laid out once. It is called when they have been made; "later": when nothing of the tree is needed any more.
   */
  readonly uniform?: "now" | "later";
  /** Adds calls; the returned function runs when they have been made. */
  restore?(context: ThreadRestore): (() => void) | undefined;
  /** Looks for what certainly cannot be restored, before anything is made. */
  check?(task: RestoreTask, session: RestoreSession): Problem[];
}

/** One open file description (struct file) of the tree, seen through one of its descriptors. */
export interface OpenFile {
  /** Its id in files.img. */
  readonly id: number;
  /** One holder of it, and the number there. */
  readonly task: DumpTask;
  readonly fd: number;
  /** It is on its way between processes, and `fd` a number of Floe's; `task` is who will receive it. */
  readonly isInFlight?: boolean;
  /** A duplicate in Floe: fstat, fcntl, ioctl, getsockopt and reading work on it and see the very same description. */
  readonly local: Fd;
  /** Text of /proc/PID/fd/N. */
  readonly link: string;
  /** fstat(2) of it (bigint). */
  readonly stat: import("node:fs").BigIntStats;
  /** From fdinfo: open flags (without O_CLOEXEC), position, mount id, and the lines of its kind. */
  readonly info: FdInfo;
  readonly fown: FownEntry;
}

/** A kind of open file. E: its message, a member of file_entry. */
export interface FileKind<E> {
  readonly name: string;
  readonly rows: readonly string[];
  /** fd_types name (REG, PIPE, …) and the field of file_entry that holds the message. */
  readonly type: string;
  readonly field: keyof FileEntry;
  /** Files of this kind have no path: no link of theirs begins with a slash, so they are not asked about such. */
  readonly isPathless?: true;
  /** Whether an open file is of this kind; kinds are asked in registry order. */
  matches(file: Pick<OpenFile, "link" | "stat" | "info" | "local">): boolean;
  /** A look at files with such a link before the dump has opened any file, for state that this changes (unread events). */
  readonly first?: { matches(link: string): boolean; look(file: Pick<OpenFile, "task" | "fd" | "local">, session: DumpSession): void };
  /** The message; may append other images (queues, contents). Problems go to `session.refuse`. */
  dump(file: OpenFile, session: DumpSession): E | undefined;
  /** Makes the open file in Floe and returns a descriptor of ours; flags and owner are set by the table. */
  open(entry: E, session: RestoreSession): Fd;
  /** Work that needs every file and task to exist (epoll targets, owners, locks); programs run in holders. */
  link?(entry: E, context: { fd: Fd; session: RestoreSession; holders: readonly { task: RestoreTask; fd: number }[] }): void;
  /** Its links come after those of all other kinds, for what these do is not to be told to whoever watches files. */
  readonly linksLast?: true;
  /** Work that needs every thread to exist as well. A descriptor of ours, where another file has taken the place of what `open` made. */
  finish?(entry: E, context: { fd: Fd; session: RestoreSession; holders: readonly { task: RestoreTask; fd: number }[] }): Fd | undefined;
  /** Looks for what certainly cannot be restored, before anything is made. */
  check?(entry: E, session: RestoreSession, use: FileUse): Problem[];
  /** Open files that may be handed over from outside, with --inherit-fd: then neither `open` nor `check` nor `finish` is called. */
  readonly outside?: {
    names(entry: E, session: RestoreSession): readonly string[];
    flags(entry: E, session: RestoreSession): number;
    check?(entry: E, given: { fd: Fd; session: RestoreSession; use: FileUse }): Problem[];
  };
}

/** One use of a file, for messages: whose it is, and as what, as in `fd 3, the file`. */
export interface FileUse {
  readonly process: ProcessName;
  readonly what: string;
}
