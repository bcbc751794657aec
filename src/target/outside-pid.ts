/**
 * Numbers of threads in two pid namespaces, pid_namespaces(7): what a thread that we made has inside, and what we call it.
 *
 * Read from   ioctl_nsfs(2) NS_GET_PID_FROM_PIDNS (6.11); before that the NSpid lines of /proc/PID/task/TID/status
 */
import { closeSync, openSync, readFileSync, readdirSync, readlinkSync } from "node:fs";
import { nsGetPidFromPidns } from "../linux/namespaces.js";

/** Our number of the child that `parent` (our number) has just made, which is `pid` in the child's own namespace. */
export function outsideChild(parent: number, pid: number): number {
  return asked(parent, pid) ?? found(childrenOf(parent), pid) ?? missing(parent, pid);
}

/** Our number of thread `tid` (its own number) of the process that we call `process`. */
export function outsideThread(process: number, tid: number): number {
  return asked(process, tid) ?? found(threadsOf(process), tid) ?? missing(process, tid);
}

/**
 * Our number of the process or thread `pid` of the pid namespace that process `member` (our number) is in; undefined when there
 * is none.
 */
export function outsideNumber(member: number, pid: number): number | undefined {
  const all = () =>
    readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .flatMap(threadsOf);
  return asked(member, pid) ?? found(all(), pid, readlinkSync(`/proc/${member}/ns/pid`));
}

function asked(member: number, pid: number): number | undefined {
  const namespace = openSync(`/proc/${member}/ns/pid`, "r");
  try {
    return nsGetPidFromPidns(namespace, pid);
  } finally {
    closeSync(namespace);
  }
}

interface Candidate {
  readonly path: string;
  readonly id: number;
}

function threadsOf(pid: number | string): Candidate[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map((name) => ({ path: `/proc/${pid}/task/${name}`, id: Number(name) }));
  } catch {
    return []; // it has ended
  }
}

function childrenOf(parent: number): Candidate[] {
  return readdirSync(`/proc/${parent}/task`).flatMap((tid) => {
    const text = readFileSync(`/proc/${parent}/task/${tid}/children`, "latin1").trim();
    return text === "" ? [] : text.split(" ").map((child) => ({ path: `/proc/${child}`, id: Number(child) }));
  });
}

/** `namespace`: text of the link to the pid namespace that it must be in, where candidates are of several. */
function found(candidates: readonly Candidate[], pid: number, namespace?: string): number | undefined {
  return candidates.find(({ path }) => {
    if (namespace !== undefined && readlinkSync(`${path}/ns/pid`) !== namespace) return false;
    const [, numbers = ""] = /^NSpid:\s*(.*)$/m.exec(readFileSync(`${path}/status`, "latin1")) ?? [];
    return Number(numbers.split("\t").at(-1)) === pid;
  })?.id;
}

function missing(member: number, pid: number): never {
  throw new Error(`internal error: process ${member} made ${pid} in its pid namespace, which is not to be found`);
}
