/**
 * What open files need when every process has them: targets of epolls, running timers, and who gets signals about I/O.
 */
import { F_SETFL } from "../linux/fcntl.js";
import { SYS } from "../linux/syscalls.js";
import { inheritedFor } from "../resources/files/inherit.js";
import type { FileEntry } from "../resources/files/table.schema.js";
import { kindOf, restoreOwner } from "../resources/files/table.js";
import type { FownEntry } from "../resources/files/owner.schema.js";
import type { FileKind } from "../resources/part.js";
import { fileKinds } from "../resources/registry.js";
import { Program } from "../target/program.js";
import { run } from "../target/run.js";
import type { Session, TaskInMaking } from "./restore-session.js";

/** O_ASYNC of fcntl(2). */
const O_ASYNC = 0o20000;

interface Holder {
  readonly task: TaskInMaking;
  readonly fd: number;
}

/** What the messages of all kinds have, apart from a few that have no owner. */
interface Owned {
  readonly flags?: number;
  readonly fown?: FownEntry;
}

/** Every descriptor by the id of its file, in the order of the tree; a shared table counts once. */
function holdersById(session: Session): Map<number, Holder[]> {
  const holders = new Map<number, Holder[]>();
  const tables = new Set<number>();
  for (const task of session.tasks) {
    const { table } = task.saved.living;
    if (tables.has(table.id)) continue;
    tables.add(table.id);
    for (const { id, fd } of table.entries) {
      const known = holders.get(id);
      if (known === undefined) holders.set(id, [{ task, fd }]);
      else known.push({ task, fd });
    }
  }
  return holders;
}

/** Who holds which file: found out when somebody asks, for most files nobody does. */
class Holders {
  readonly #session: Session;
  #byId: ReadonlyMap<number, readonly Holder[]> | undefined;

  constructor(session: Session) {
    this.#session = session;
  }

  of(id: number): readonly Holder[] {
    this.#byId ??= holdersById(this.#session);
    return this.#byId.get(id) ?? [];
  }
}

/** An open file as kinds see it. */
class Linked {
  readonly fd: number;
  readonly session: Session;
  readonly kind: FileKind<unknown>;
  readonly entry: FileEntry;
  readonly #all: Holders;

  constructor(open: { fd: number; entry: FileEntry }, kind: FileKind<unknown>, among: { session: Session; holders: Holders }) {
    this.fd = open.fd;
    this.entry = open.entry;
    this.kind = kind;
    this.session = among.session;
    this.#all = among.holders;
  }

  get holders(): readonly Holder[] {
    return this.#all.of(this.entry.id);
  }

  get message(): unknown {
    return this.entry[this.kind.field];
  }

  /** Whether it was handed over from outside. */
  get isGiven(): boolean {
    return inheritedFor(this.entry, this.kind, this.session) !== undefined;
  }
}

/** Every open file with its kind, its message, and who holds it. */
function* files(session: Session): Generator<Linked> {
  const holders = new Holders(session);
  for (const open of [...session.openFiles()]) {
    const kind = kindOf(open.entry, fileKinds);
    if (kind !== undefined) yield new Linked(open, kind, { session, holders });
  }
}

/** Work of the kinds that needs every process to have its files. */
export function linkFiles(session: Session): void {
  const all = [...files(session)].filter(({ kind }) => kind.link !== undefined);
  const inOrder = [...all.filter(({ kind }) => kind.linksLast !== true), ...all.filter(({ kind }) => kind.linksLast === true)];
  for (const file of inOrder) file.kind.link?.(file.message, file);
}

/** Owners of signals about I/O, and what else of files needs all threads. */
export function giveOwners(session: Session): void {
  for (const file of files(session)) {
    const { fd, kind, message } = file;
    const made = kind.finish === undefined || file.isGiven ? undefined : kind.finish(message, file);
    const { fown, flags = 0 } = message as Owned;
    if (fown !== undefined) restoreOwner(made ?? fd, fown, session);
    if ((flags & O_ASYNC) !== 0) signalFromHolder(file.holders[0], flags);
  }
}

/** The signal tells the number of the descriptor through which O_ASYNC was set: it has to be one of the program's. */
function signalFromHolder(holder: Holder | undefined, flags: number): void {
  if (holder === undefined) return;
  const program = new Program();
  program.call(SYS.fcntl, holder.fd, F_SETFL, flags & ~O_ASYNC).must("taking O_ASYNC away");
  program.call(SYS.fcntl, holder.fd, F_SETFL, flags).must("setting O_ASYNC");
  run(holder.task.traced.leader, program);
}
