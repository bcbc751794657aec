/**
 * Whose call made a connection: what SO_PEERCRED, SO_PEERGROUPS and SO_PEERPIDFD tell the other end.
 *
 * The kernel notes the calling process and its effective ids: at socketpair(2) for both ends, at listen(2) for clients to
 * come, at connect(2) for the end that will be accepted. Nothing sets it afterwards. So these calls are made by the very
 * process, which takes on the ids for a moment; for one that is dead by another with its number, that ends afterwards.
 *
 * Read from   getsockopt(2)
 * Made with   setresuid(2) and relatives, socketpair(2), listen(2), connect(2) in processes of the tree
 */
import { closeSync } from "node:fs";
import { basename, dirname } from "../../linux/named-paths.js";
import { openSync } from "../../linux/named-files.js";
import { AF_UNIX, encodeAddress } from "../../linux/addresses.js";
import { ERRNO } from "../../linux/errno.js";
import { O_CLOEXEC, O_DIRECTORY, O_PATH } from "../../linux/files.js";
import { readStatus } from "../../linux/proc/read.js";
import { peerCredentials, peerGroups } from "../../linux/socket-options.js";
import { SOCK_CLOEXEC, SOCK_NONBLOCK } from "../../linux/sockets.js";
import { SYS } from "../../linux/syscalls.js";
import { createTasks } from "../../target/create.js";
import { handOver, openPidfd, takeOver } from "../../target/hand-over.js";
import { Program, type Result } from "../../target/program.js";
import { run } from "../../target/run.js";
import { killTask } from "../../target/seed.js";
import type { TracedTask } from "../../target/thread.js";
import type { DumpSession, DumpTask, Fd, RestoreSession } from "../part.js";
import { insidePeer } from "./unseen-pids.js";
import { hasPath, pathOf, unixAddress } from "./unix-names.js";
import type { FloeUnixPeer, UnixSkEntry } from "./unix.schema.js";
import { cstring } from "../../linux/text.js";

const AT_FDCWD = -100;
/** uapi/linux/prctl.h, uapi/linux/securebits.h: capabilities stay when user ids change. */
const PR_GET_SECUREBITS = 27;
const PR_SET_SECUREBITS = 28;
const SECBIT_NO_SETUID_FIXUP = 1 << 2;
const NOBODY = 0xffff_ffff;
/** Pairs made by one program: a process has room for so many descriptors more, if its table is not nearly full. */
const PAIRS_AT_ONCE = 64;

/** What a socket knows of whoever made its connection; undefined: it has none. */
export function readPeer(fd: Fd, session: DumpSession): FloeUnixPeer | undefined {
  const { pid, uid, gid } = peerCredentials(fd);
  if (uid === NOBODY && pid === 0) return undefined;
  return { pid: savedPid(pid, session, () => insidePeer(fd, session)), uid, gid, groups: peerGroups(fd) };
}

/** The number that images have for a process, which `look` finds where no system call tells it; 0: they know none. */
export function savedPid(pid: number, { tasks }: DumpSession, look: () => number = () => 0): number {
  const task = tasks.find(({ traced }) => traced.pid === pid);
  if (task !== undefined) return task.pid;
  return tasks[0]?.traced.isInOurPidNamespace === false ? (pid === 0 ? 0 : look()) : pid;
}

/** A process as the other end would see it if it made a connection now. */
export function peerOfTask({ pid, status }: DumpTask): FloeUnixPeer {
  return { pid, uid: status.uids[1], gid: status.gids[1], groups: [...status.groups] };
}

/** Equal for the same process with the same ids. */
export function peerKey(peer: FloeUnixPeer | undefined): string {
  return peer === undefined ? "" : `${peer.pid}:${idsOf(peer)}`;
}

const idsOf = ({ uid, gid, groups }: Omit<FloeUnixPeer, "pid">): string => `${uid}:${gid}:${[...groups].sort((a, b) => a - b).join(",")}`;

/** Processes that make calls in their own name, for one restore. */
export class Donors {
  readonly #session: RestoreSession;
  readonly #temporary = new Map<number, TracedTask>();
  readonly #missing = new Set<number>();
  readonly #own: Omit<FloeUnixPeer, "pid">;

  constructor(session: RestoreSession) {
    this.#session = session;
    const { uids, gids, groups } = readStatus(process.pid);
    this.#own = { uid: uids[1], gid: gids[1], groups: [...groups] };
  }

  /** Ends the processes that were made to lend their numbers. */
  close(): void {
    for (const task of this.#temporary.values()) killTask(task);
    this.#temporary.clear();
  }

  /** Sees to it that there is a process with this number, as long as sockets are made. */
  hold(pid: number): void {
    this.#taskOf(pid);
  }

  /** The process, one with its number, or for want of that the seed. */
  #taskOf(pid: number): TracedTask {
    const known = this.#session.task(pid)?.traced ?? this.#temporary.get(pid);
    if (known !== undefined) return known;
    const { seed } = this.#session;
    if (this.#missing.has(pid)) return seed;
    try {
      if (pid === 0) throw new Error("its number is not known");
      const [made] = createTasks(seed, [{ pid, comm: "peer", asSibling: false }]);
      if (made === undefined) throw new Error("it was not made");
      this.#temporary.set(pid, made);
      return made;
    } catch (error) {
      const why = error instanceof Error && pid === 0 ? error.message : "its number is in use or out of range";
      this.#session.warn(
        `a UNIX socket was connected by process ${pid}, which is not of the tree, and ${why}: its peer sees that of a process that is gone (SO_PEERCRED)`,
      );
      this.#missing.add(pid);
      return seed;
    }
  }

  /** Runs calls that `add` puts into a program in the process of `peer`, with its ids. */
  #act<T>(peer: FloeUnixPeer, add: (program: Program) => T): T {
    const { leader } = this.#taskOf(peer.pid);
    const program = new Program();
    const isOther = idsOf(peer) !== idsOf(this.#own);
    const bits = isOther ? program.call(SYS.prctl, PR_GET_SECUREBITS, 0, 0, 0, 0).must("reading securebits") : undefined;
    if (isOther) {
      program.call(SYS.prctl, PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0).must("keeping capabilities for a connection");
      addIds(program, peer);
    }
    const result = add(program);
    if (bits !== undefined) {
      addIds(program, this.#own);
      program.call(SYS.prctl, PR_SET_SECUREBITS, bits, 0, 0, 0).must("setting securebits back");
    }
    run(leader, program);
    return result;
  }

  /** Pairs of connected sockets, as `peer` made them. */
  pairs(peer: FloeUnixPeer, type: number, count: number): [Fd, Fd][] {
    const made: [Fd, Fd][] = [];
    for (let room = PAIRS_AT_ONCE; made.length < count; ) {
      const some = this.#somePairs(peer, type, Math.min(room, count - made.length));
      made.push(...some);
      if (some.length === 0 && room === 1) throw new Error(`internal error: process ${peer.pid} makes no pair of sockets`);
      if (some.length === 0) room = 1;
    }
    return made;
  }

  #somePairs(peer: FloeUnixPeer, type: number, count: number): [Fd, Fd][] {
    const { numbers, results } = this.#act(peer, (program) => {
      const room = program.buffer(count * 8);
      const calls = Array.from({ length: count }, (_, i) =>
        program.call(SYS.socketpair, AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, room.at(i * 8)),
      );
      return { numbers: room, results: calls };
    });
    const failed = results.find(({ errno }) => errno !== 0 && errno !== ERRNO.EMFILE);
    if (failed !== undefined) throw failed.entry.error();
    const fds = results.flatMap(({ errno }, i) =>
      errno !== 0 ? [] : [[numbers.bytes().readInt32LE(i * 8), numbers.bytes().readInt32LE(i * 8 + 4)] as const],
    );
    return this.#take(this.#taskOf(peer.pid), fds.flat()).reduce<[Fd, Fd][]>((pairs, fd, i, all) => {
      if (i % 2 === 1) pairs.push([all[i - 1] as Fd, fd]);
      return pairs;
    }, []);
  }

  /** Descriptors of a process become ours. */
  #take(task: TracedTask, fds: readonly number[]): Fd[] {
    const pidfd = openPidfd(task.pid);
    const taken: Fd[] = [];
    try {
      for (const fd of fds) taken.push(takeOver(pidfd, fd));
      return taken;
    } catch (error) {
      for (const fd of taken) closeSync(fd);
      throw error;
    } finally {
      closeSync(pidfd);
      closeIn(task, fds);
    }
  }

  /** listen(2) in the name of `peer`. */
  listen(peer: FloeUnixPeer, socket: Fd, backlog: number): void {
    const task = this.#taskOf(peer.pid);
    const fds = handOver(task.leader, [socket]);
    this.#act(peer, (program) => program.call(SYS.listen, fds[0] ?? -1, backlog).must("listening in the name of a process"));
    closeIn(task, fds);
  }

  /** Connects sockets to the bound one of `to`, one after the other; returns how many did before its backlog was full. */
  connect(peer: FloeUnixPeer, sockets: readonly Fd[], to: UnixSkEntry): number {
    const task = this.#taskOf(peer.pid);
    const path = hasPath(to) ? pathOf(to) : undefined;
    const directory = path === undefined ? undefined : openSync(dirname(path), O_PATH | O_DIRECTORY | O_CLOEXEC);
    const name = path === undefined ? to.name : cstring(basename(path));
    let fds: number[] = [];
    try {
      fds = handOver(task.leader, [...sockets, ...(directory === undefined ? [] : [directory])]);
      const place = directory === undefined ? undefined : fds.at(-1);
      const results = this.#act(peer, (program) => addConnects(program, { fds: fds.slice(0, sockets.length), place, name }));
      const failed = results.findIndex(({ errno }) => errno !== 0);
      if (failed < 0) return sockets.length;
      const { entry, errno } = results[failed] as Result;
      if (failed === 0 || errno !== ERRNO.EAGAIN) throw entry.error();
      return failed;
    } finally {
      if (directory !== undefined) closeSync(directory);
      if (fds.length > 0) closeIn(task, fds);
    }
  }
}

/** connect(2) from a directory of its own: the process may have another root, and long paths do not fit into an address. */
function addConnects(program: Program, to: { fds: readonly number[]; place: number | undefined; name: Uint8Array }): Result[] {
  const address = program.bytes(encodeAddress(unixAddress(to.name)));
  const length = address.content.length;
  const before =
    to.place === undefined ? undefined : program.call(SYS.openat, AT_FDCWD, program.cstring("."), O_PATH | O_CLOEXEC, 0).must();
  if (to.place !== undefined) program.call(SYS.fchdir, to.place).must("going where a socket is");
  const results = to.fds.map((fd) => program.call(SYS.connect, fd, address, length));
  if (before !== undefined) {
    program.call(SYS.fchdir, before).must("going back");
    program.call(SYS.close, before);
  }
  return results;
}

/** Effective ids, and all supplementary groups. */
function addIds(program: Program, { uid, gid, groups }: Omit<FloeUnixPeer, "pid">): void {
  const list = Buffer.alloc(Math.max(4, groups.length * 4));
  groups.forEach((one, i) => list.writeUInt32LE(one, i * 4));
  program.call(SYS.setgroups, groups.length, program.bytes(list)).must("taking on the groups of a peer");
  program.call(SYS.setresgid, -1, gid, -1).must("taking on the group of a peer");
  program.call(SYS.setresuid, -1, uid, -1).must("taking on the user of a peer");
}

function closeIn(task: TracedTask, fds: readonly number[]): void {
  const program = new Program();
  for (const fd of fds) program.call(SYS.close, fd);
  run(task.leader, program);
  task.leader.closeOnDeath([]);
}
