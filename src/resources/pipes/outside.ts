/**
 * Pipes of which one end is held in the tree and the other one outside, as by a program in the middle of a pipeline. Restored, such a pipe has the
 * ends of the tree alone: a reader comes to its end at once, a writer gets SIGPIPE. That is what the user is told of, and how another pipe is given.
 *
 * Read from   poll(2), which tells of an end without its counterpart; /proc/PID/fd of all processes for who that is, when the tree has been let go
 */
import { O_ACCMODE, O_LARGEFILE, O_RDONLY, O_RDWR } from "../../linux/files.js";
import { type Holder, findHolders, nameHolders } from "../../linux/proc/holders.js";
import { readFdInfo } from "../../linux/proc/read.js";
import { pollOnce } from "../../linux/sockets.js";
import { POLLERR, POLLHUP } from "../../linux/streams.js";
import type { DumpSession, OpenFile } from "../part.js";

/** The ends of a pipe that the tree holds, and the first one seen. */
interface Held {
  readonly first: Pick<OpenFile, "task" | "fd" | "link">;
  readonly ends: Set<number>;
  readonly hasCounterpart: boolean;
}

const seen = new WeakMap<DumpSession, Map<string, Held>>();

/** Notes an end of a pipe of the tree. */
export function noteEnd({ task, fd, link, info, local }: OpenFile, session: DumpSession): void {
  const pipes = seen.get(session) ?? new Map<string, Held>();
  if (!seen.has(session)) tellLater(pipes, session);
  seen.set(session, pipes);
  const end = info.flags & O_ACCMODE;
  const known = pipes.get(link);
  if (known !== undefined) known.ends.add(end);
  // One that was opened again when nobody wrote (through /proc, which shows) is not told of that.
  else {
    const isTold = end !== O_RDWR && (info.flags & O_LARGEFILE) === 0;
    const hasCounterpart = isTold && (pollOnce(local, 0) & (POLLERR | POLLHUP)) === 0;
    pipes.set(link, { first: { task, fd, link }, ends: new Set([end]), hasCounterpart });
  }
}

function tellLater(pipes: ReadonlyMap<string, Held>, session: DumpSession): void {
  const tell = () => {
    const alone = [...pipes.values()].filter((held) => held.hasCounterpart && held.ends.size === 1);
    const holders: ReturnType<typeof findHolders> = alone.length === 0 ? new Map() : findHolders("pipe:[");
    for (const held of alone) session.warn(textFor(held, { holders: holders.get(held.first.link) ?? [], session }));
  };
  if (session.livesOn) session.later(tell);
  else session.afterDeath(tell);
}

/** Whether a process has the other end, as well or alone. */
function hasOther({ pid, fds }: Holder, end: number): boolean {
  try {
    return fds.some((fd) => (readFdInfo(pid, fd).flags & O_ACCMODE) !== end);
  } catch {
    return false; // it has ended, or closes what it had
  }
}

function textFor({ first: { task, fd, link }, ends }: Held, on: { holders: readonly Holder[]; session: DumpSession }): string {
  const own = new Set([process.pid, ...on.session.tasks.map(({ traced }) => traced.pid)]);
  const [end = O_RDONLY] = ends;
  const names = nameHolders(on.holders.filter((holder) => !own.has(holder.pid) && hasOther(holder, end)));
  const who = names === undefined ? "" : `, as in process ${names}`;
  const then = end === O_RDONLY ? "there is no more to be read from it" : "nobody reads it, and writing to it ends in SIGPIPE";
  return (
    `fd ${fd} of process ${task.pid} (${task.comm}) is an end of a pipe whose other end is open outside the tree alone${who}: ` +
    `after a restore ${then}. Dump the whole pipeline, or hand another pipe over: --inherit-fd fd[N]:${link}`
  );
}
