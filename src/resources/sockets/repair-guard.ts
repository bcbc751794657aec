/**
 * No connection is left in repair mode: while Floe looks into one, somebody is ready to end it, should Floe die in that moment.
 *
 * A process that has the connection and may do so (CAP_NET_ADMIN) does it by itself, before it runs on. For others a helper
 * process of ours has the connection too: it ends the repair mode, and itself.
 */
import { PR_SET_PDEATHSIG } from "../../linux/prctl.js";
import { PTRACE_O_EXITKILL, PTRACE_O_TRACESYSGOOD, ptraceSetOptions } from "../../linux/ptrace.js";
import { SO } from "../../linux/socket-options.js";
import { SOL_SOCKET } from "../../linux/sockets.js";
import { SYS } from "../../linux/syscalls.js";
import { TCP_REPAIR } from "../../linux/tcp.js";
import { closeRemote, handOver } from "../../target/hand-over.js";
import { Program } from "../../target/program.js";
import { regionBytes } from "../../target/region.js";
import { type PromisedCall, promiseCalls, run, withdrawCalls } from "../../target/run.js";
import { killTask, startSeed } from "../../target/seed.js";
import type { TracedTask } from "../../target/thread.js";
import type { DumpSession, Fd, OpenFile } from "../part.js";

const CAP_NET_ADMIN = 12n;
/** Anywhere: the helper has no other mappings. */
const PLACE = 0x10000000n;
/** Off, and nothing is sent. It also stands for "yes" where an option is a switch. */
const OFF_SILENTLY = -1;

const helpers = new WeakMap<DumpSession, TracedTask>();

function helperOf(session: DumpSession): TracedTask {
  let helper = helpers.get(session);
  if (helper === undefined) {
    const made = startSeed({ region: PLACE, regionBytes: regionBytes(1) }, new Set());
    helpers.set(session, made);
    session.takeBack(() => killTask(made));
    session.afterDeath(() => killTask(made));
    // A seed that came to its own code before it was held dies with us whatever is said of tracing.
    const stays = new Program();
    stays.call(SYS.prctl, PR_SET_PDEATHSIG, 0, 0, 0, 0).must();
    run(made.leader, stays);
    helper = made;
  }
  return helper;
}

/** Calls that bring a connection back to where it was. The end of repair mode also ends SO_REUSEADDR. */
function wayBack(fd: number, sharesAddress: boolean): PromisedCall[] {
  const set = (level: number, name: number): PromisedCall => ({ nr: SYS.setsockopt, args: [fd, level, name, "data", 4] });
  return [set(TCP_REPAIR.level, TCP_REPAIR.name), ...(sharesAddress ? [set(SOL_SOCKET, SO.REUSEADDR)] : [])];
}

const data = Buffer.alloc(4);
data.writeInt32LE(OFF_SILENTLY, 0);

/** A process that has a connection, and where. */
export type Holder = Pick<OpenFile, "task" | "fd" | "isInFlight">;

/** A connection that is looked into. */
export interface Guarded {
  readonly holder: Holder;
  readonly local: Fd;
  readonly sharesAddress: boolean;
}

/** So many are looked into at once: a helper has descriptors of all of them. */
const AT_ONCE = 200;

/** Runs `action` on all connections, some at a time, in which these are in repair mode. */
export function guarded<T extends Guarded>(connections: readonly T[], session: DumpSession, action: (some: readonly T[]) => void): void {
  const byGuard = new Map<TracedTask | undefined, T[]>();
  for (const connection of connections) {
    const { task, isInFlight } = connection.holder;
    const guard = isInFlight !== true && (task.status.capEff >> CAP_NET_ADMIN) & 1n ? task.traced : undefined;
    const some = byGuard.get(guard) ?? [];
    byGuard.set(guard, some);
    some.push(connection);
  }
  for (const [guard, all] of byGuard) {
    for (let i = 0; i < all.length; i += AT_ONCE) {
      const some = all.slice(i, i + AT_ONCE);
      if (guard === undefined) withHelper(helperOf(session), some, action);
      else byItself(guard, some, action);
    }
  }
}

function byItself<T extends Guarded>({ leader }: TracedTask, some: readonly T[], action: (some: readonly T[]) => void): void {
  promiseCalls(
    leader,
    some.flatMap(({ holder, sharesAddress }) => wayBack(holder.fd, sharesAddress)),
    data,
  );
  try {
    action(some);
  } finally {
    withdrawCalls(leader);
  }
}

function withHelper<T extends Guarded>({ leader }: TracedTask, some: readonly T[], action: (some: readonly T[]) => void): void {
  const there = handOver(
    leader,
    some.map(({ local }) => local),
  );
  const calls = some.flatMap(({ sharesAddress }, i) => wayBack(there[i] ?? -1, sharesAddress));
  promiseCalls(leader, [...calls, { nr: SYS.exit_group, args: [0] }], data);
  // It outlives us just as long as it has something to do.
  ptraceSetOptions(leader.tid, PTRACE_O_TRACESYSGOOD);
  try {
    action(some);
  } finally {
    ptraceSetOptions(leader.tid, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD);
    withdrawCalls(leader);
    closeRemote(leader, there);
  }
}
