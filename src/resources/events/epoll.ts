/**
 * Sets of watched files.
 *
 * Read from   fdinfo: tfd lines; kcmp(2) tells which file each of them is
 * Made with   epoll_create1(2); epoll_ctl(2) in the process that holds the set, because a number belongs to each target
 *             and because a watched signalfd listens to whoever adds it
 */
import { closeSync } from "node:fs";
import { ImageError, Refusal } from "../../errors.js";
import {
  EPOLL_CLOEXEC,
  EPOLL_CTL_ADD,
  EPOLL_CTL_MOD,
  encodeEpollEvent,
  epollCreate,
  epollParams,
  epollWaitNow,
  setEpollParams,
} from "../../linux/events.js";
import { F_DUPFD_CLOEXEC, F_GETFD, setStatusFlags } from "../../linux/fcntl.js";
import { O_CLOEXEC } from "../../linux/files.js";
import { epollTargets } from "../../linux/proc/fdinfo-kinds.js";
import { readFdNumbers } from "../../linux/proc/list.js";
import { readFdInfo } from "../../linux/proc/read.js";
import { kcmpFile, pidfdGetfd, pidfdOpen } from "../../linux/process.js";
import { SYS } from "../../linux/syscalls.js";
import { handOver } from "../../target/hand-over.js";
import { Program } from "../../target/program.js";
import { run } from "../../target/run.js";
import { fileEntry } from "../files/table.schema.js";
import type { DumpSession, Fd, FileKind, OpenFile, RestoreSession, RestoreTask } from "../part.js";
import { placeOf } from "./epoll-targets.js";
import type { EventpollFileEntry, EventpollTfdEntry } from "./epoll.schema.js";

/** Bits that say how a target is watched, not for what: EPOLLEXCLUSIVE, EPOLLWAKEUP, EPOLLONESHOT, EPOLLET. */
const MANNER = 0xf000_0000;
/** EPOLLIN, EPOLLPRI, EPOLLOUT, EPOLLRDHUP. */
const ANYTHING = 0x2007;

function dumpTargets(file: OpenFile, session: DumpSession): EventpollTfdEntry[] {
  const skips = new Map<number, number>();
  const entries: EventpollTfdEntry[] = [];
  for (const target of epollTargets(file.info)) {
    const skip = skips.get(target.fd) ?? 0;
    skips.set(target.fd, skip + 1);
    const place = placeOf(target, { file, skip, session });
    if (place === undefined) {
      session.refuse(
        new Refusal({
          code: "EPOLL_TARGET_OUTSIDE",
          process: { pid: file.task.traced.pid, comm: file.task.comm },
          resource: `fd ${file.fd} (epoll)`,
          because: `what it watches as descriptor ${target.fd} is open in no process of the tree`,
          remedy: ["Dump the process that holds this file as well", "Remove it from the epoll before the dump"],
        }),
      );
      continue;
    }
    entries.push({
      id: file.id,
      tfd: place.fd,
      events: target.events,
      data: target.data,
      dev: target.device,
      inode: target.inode,
      pos: target.pos,
      ...(place.fd === target.fd ? {} : { added_as: target.fd }),
      ...(place.task.ids.files === file.task.ids.files && file.isInFlight !== true ? {} : { holder: place.task.pid }),
    });
  }
  return entries;
}

/** An epoll under construction: the process that holds it, the number there, and a descriptor of ours. */
interface Set {
  readonly task: RestoreTask;
  readonly fd: number;
  readonly local: Fd;
  readonly session: RestoreSession;
}

/** A duplicate of ours of a target. The caller closes it. */
function takeTarget(entry: EventpollTfdEntry, set: Set): Fd {
  const holder = entry.holder === undefined ? set.task : set.session.task(entry.holder);
  if (holder === undefined) throw unknownTarget(entry, `there is no process ${entry.holder}`);
  const pidfd = pidfdOpen(holder.traced.pid);
  try {
    return pidfdGetfd(pidfd, entry.tfd);
  } catch {
    throw unknownTarget(entry, `descriptor ${entry.tfd} of process ${holder.pid} is not open`);
  } finally {
    closeSync(pidfd);
  }
}

function unknownTarget(entry: EventpollTfdEntry, because: string): ImageError {
  return new ImageError({
    code: "IMAGE_BAD_REFERENCE",
    place: { file: "files.img", message: "eventpoll_tfd_entry", field: "tfd" },
    because: `of what epoll ${entry.id} watches, ${because}`,
    remedy: ["Dump the process again"],
  });
}

/** One epoll_ctl(2): EPOLL_CTL_ADD or EPOLL_CTL_MOD with these events. */
interface Change {
  readonly op: number;
  readonly events: number;
}

const addedAs = (entry: EventpollTfdEntry): number => entry.added_as ?? entry.tfd;

function control(program: Program, set: Set, { entry, change }: { entry: EventpollTfdEntry; change: Change }): void {
  const at = addedAs(entry);
  program
    .call(SYS.epoll_ctl, set.fd, change.op, at, program.bytes(encodeEpollEvent(change.events, entry.data)))
    .must(`adding descriptor ${at} to an epoll`);
}

/** Changes targets whose number is theirs, all by one program, and the others one by one. */
function changeTargets(set: Set, entries: readonly EventpollTfdEntry[], changeOf: (entry: EventpollTfdEntry) => Change): void {
  const program = new Program();
  for (const entry of entries) {
    if (entry.added_as === undefined && entry.holder === undefined) control(program, set, { entry, change: changeOf(entry) });
    else changeElsewhere(set, entry, changeOf(entry));
  }
  run(set.task.traced.leader, program);
}

/** Changes a target whose number is free or another file's by now: for that moment the number is the target's. */
function changeElsewhere(set: Set, entry: EventpollTfdEntry, change: Change): void {
  const { leader } = set.task.traced;
  const at = addedAs(entry);
  const local = takeTarget(entry, set);
  try {
    if (isOpenAs(set, at, local)) {
      const program = new Program();
      control(program, set, { entry, change });
      run(leader, program);
      return;
    }
    const [there = -1] = handOver(leader, [local]);
    const program = new Program();
    const aside = there === at ? undefined : program.call(SYS.fcntl, at, F_DUPFD_CLOEXEC, 0);
    const flags = there === at ? undefined : program.call(SYS.fcntl, at, F_GETFD, 0);
    if (there !== at) program.call(SYS.dup3, there, at, O_CLOEXEC).must("lending a descriptor");
    control(program, set, { entry, change });
    if (there !== at) program.call(SYS.close, there);
    run(leader, program);
    const back = new Program();
    if (aside?.errno === 0) {
      back.call(SYS.dup3, aside, at, flags?.value === 0n ? 0 : O_CLOEXEC).must("giving a descriptor back");
      back.call(SYS.close, aside);
    } else back.call(SYS.close, at);
    run(leader, back);
    leader.closeOnDeath([]);
  } finally {
    closeSync(local);
  }
}

function isOpenAs(set: Set, at: number, local: Fd): boolean {
  try {
    return kcmpFile({ pid: set.task.traced.pid, fd: at }, { pid: process.pid, fd: local }) === 0;
  } catch {
    return false; // EBADF: the number is free
  }
}

const add = (entry: EventpollTfdEntry): Change => ({ op: EPOLL_CTL_ADD, events: entry.events });

/** Whether a target with EPOLLONESHOT has been reported: it waits for nothing then, not even errors. */
const wasReported = ({ events }: { events: number }): boolean => (events & ~MANNER) === 0;

/**
 * Adds targets that have been reported. The kernel has no call to say so: it becomes so by reporting them, which is
 * possible while nothing else is in the set and as long as they are ready for anything. The others wait for errors again.
 */
function addReported(set: Set, entries: readonly EventpollTfdEntry[]): void {
  if (entries.length === 0) return;
  changeTargets(set, entries, (entry) => ({ op: EPOLL_CTL_ADD, events: entry.events | ANYTHING }));
  for (let left = entries.length; left > 0; ) {
    const got = epollWaitNow(set.local, entries.length);
    if (got === 0) break;
    left -= got;
  }
  const idle = epollTargets(readFdInfo(process.pid, set.local)).filter((target) => !wasReported(target));
  const waiting = entries.filter((entry) => idle.some((target) => target.fd === addedAs(entry) && target.data === entry.data));
  changeTargets(set, waiting, (entry) => ({ op: EPOLL_CTL_MOD, events: entry.events }));
}

/** Has the epolls that watch under this number watch `target`, a descriptor of ours: it was put there after they were filled. */
export function watchAgain(target: Fd, numbers: ReadonlySet<number>, session: RestoreSession): void {
  for (const { value } of session.images.records("FILES", [], fileEntry)) {
    const candidates = value.epfd?.tfd.filter(({ tfd }) => numbers.has(tfd)) ?? [];
    const set = candidates.length === 0 ? undefined : findSet(value.id, session);
    if (set === undefined) continue;
    const targets = candidates.filter(({ tfd, holder }) => {
      const task = holder === undefined ? set.task : session.task(holder);
      return task !== undefined && isOpenAs({ ...set, task }, tfd, target);
    });
    changeTargets(set, targets, add);
  }
}

/** An epoll in the first process that holds it. */
function findSet(id: number, session: RestoreSession): Set | undefined {
  const local = session.file(id);
  for (const task of session.tasks) {
    const fd = readFdNumbers(task.traced.pid).find((number) => isOpenAs({ task, fd: number, local, session }, number, local));
    if (fd !== undefined) return { task, fd, local, session };
  }
  return undefined;
}

export const epolls: FileKind<EventpollFileEntry> = {
  name: "events/epoll",
  rows: ["file.epoll"],
  type: "EVENTPOLL",
  field: "epfd",
  isPathless: true,
  matches: ({ link }) => link === "anon_inode:[eventpoll]",
  dump(file, session) {
    const { usecs = 0, budget = 0, prefer = 0 } = epollParams(file.local) ?? {};
    const params = { busy_poll_usecs: usecs, busy_poll_budget: budget, prefer_busy_poll: prefer };
    const isSet = Object.values(params).some((value) => value !== 0);
    return { id: file.id, flags: file.info.flags, fown: file.fown, tfd: dumpTargets(file, session), ...(isSet ? params : {}) };
  },
  open(entry) {
    const fd = epollCreate(EPOLL_CLOEXEC);
    setStatusFlags(fd, entry.flags);
    const { busy_poll_usecs: usecs = 0, busy_poll_budget: budget = 0, prefer_busy_poll: prefer = 0 } = entry;
    if (usecs !== 0 || budget !== 0 || prefer !== 0) setEpollParams(fd, { usecs, budget, prefer });
    return fd;
  },
  link(entry, { fd: local, session, holders }) {
    const holder = holders[0];
    if (entry.tfd.length === 0) return;
    if (holder === undefined) fillInFlight(entry, local, session);
    else fill({ ...holder, local, session }, entry.tfd);
  },
};

function fill(set: Set, entries: readonly EventpollTfdEntry[]): void {
  addReported(set, entries.filter(wasReported));
  changeTargets(
    set,
    entries.filter((target) => !wasReported(target)),
    add,
  );
}

/** A set that is on its way between processes is lent to one that has what it watches. */
function fillInFlight(entry: EventpollFileEntry, local: Fd, session: RestoreSession): void {
  const task = session.task(entry.tfd[0]?.holder ?? 0) ?? session.tasks[0];
  if (task === undefined) return;
  const { leader } = task.traced;
  const numbers = entry.tfd.map(addedAs);
  let [fd = -1] = handOver(leader, [local]);
  if (numbers.includes(fd)) {
    const program = new Program();
    const moved = program.call(SYS.fcntl, fd, F_DUPFD_CLOEXEC, Math.max(...numbers) + 1).must("moving an epoll out of the way");
    program.call(SYS.close, fd);
    run(leader, program);
    fd = Number(moved.value);
  }
  fill({ task, fd, local, session }, entry.tfd);
  const back = new Program();
  back.call(SYS.close, fd);
  run(leader, back);
  leader.closeOnDeath([]);
}
