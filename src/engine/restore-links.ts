/**
 * What open files need when every process has them: targets of epolls, running timers, and who gets signals about I/O.
 */
import { F_SETFL } from "../linux/fcntl.js";
import { SYS } from "../linux/syscalls.js";
import { inheritedFor } from "../resources/files/inherit.js";
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

interface Linked {
  readonly fd: number;
  readonly kind: FileKind<unknown>;
  readonly message: unknown;
  readonly holders: readonly Holder[];
  /** Whether it was handed over from outside. */
  readonly isGiven: boolean;
}

/** Every open file with its kind, its message, and who holds it. */
function* files(session: Session): Generator<Linked> {
  const holders = holdersById(session);
  for (const { fd, entry } of [...session.openFiles()]) {
    const kind = kindOf(entry, fileKinds);
    if (kind === undefined) continue;
    const isGiven = inheritedFor(entry, kind, session) !== undefined;
    yield { fd, kind, message: entry[kind.field], holders: holders.get(entry.id) ?? [], isGiven };
  }
}

/** Work of the kinds that needs every process to have its files. */
export function linkFiles(session: Session): void {
  const all = [...files(session)];
  const inOrder = [...all.filter(({ kind }) => kind.linksLast !== true), ...all.filter(({ kind }) => kind.linksLast === true)];
  for (const { fd, kind, message, holders } of inOrder) kind.link?.(message, { fd, session, holders });
}

/** Owners of signals about I/O, and what else of files needs all threads. */
export function giveOwners(session: Session): void {
  for (const { fd, kind, message, holders, isGiven } of files(session)) {
    const made = isGiven ? undefined : kind.finish?.(message, { fd, session, holders });
    const { fown, flags = 0 } = message as Owned;
    if (fown !== undefined) restoreOwner(made ?? fd, fown, session);
    if ((flags & O_ASYNC) !== 0) signalFromHolder(holders[0], flags);
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
