/**
 * Sessions and groups of a wanted tree: what no kernel can have made, and what is outside and cannot be made again.
 *
 * The rules come from setsid(2) and setpgid(2), and from a number being taken as long as a session or group has it.
 */
import { ImageError, Problems, Refusal } from "../../errors.js";
import { PID_MAX_LIMIT } from "./tree-entries.js";
import type { Inherited, TreeTask } from "./tree-steps.js";

export interface CheckOptions {
  readonly file: string;
  readonly verb: "dump" | "restore";
}

type Report = (field: string, because: string) => void;

/** Throws everything that is wrong with the sessions and groups. `tasks` have the root first. */
export function checkSessions(tasks: readonly TreeTask[], inherited: Inherited | undefined, options: CheckOptions): void {
  const problems: (ImageError | Refusal)[] = [];
  const report: Report = (field, because) => {
    const place = { file: options.file, message: "pstree_entry", field };
    problems.push(new ImageError({ code: "IMAGE_BAD_TREE", place, because }));
  };
  for (const task of tasks) {
    const refusal = outsideOf(task, inherited, options);
    if (refusal !== undefined) problems.push(refusal);
  }
  checkParents(tasks, report);
  checkNumbers(tasks, inherited, report);
  checkSharing(tasks, report);
  const [first] = problems;
  if (first !== undefined) throw problems.length === 1 ? first : new Problems(problems);
}

function outsideOf(task: TreeTask, inherited: Inherited | undefined, options: CheckOptions): Refusal | undefined {
  const refuse = (resource: string, because: string): Refusal =>
    new Refusal(
      {
        code: "SESSION_OUTSIDE_TREE",
        process: { pid: task.pid, comm: task.comm ?? "?" },
        resource,
        because,
        remedy: ["start the process tree with setsid(1), inside its pid namespace"],
      },
      options.verb,
    );
  if (task.sid === 0 && inherited?.sid !== 0) return refuse("session", "its leader is outside its pid namespace");
  if (task.pgid === 0 && inherited?.pgid !== 0) return refuse("group", "its leader is outside its pid namespace");
  return undefined;
}

function checkParents(tasks: readonly TreeTask[], report: Report): void {
  const byPid = new Map(tasks.map((task) => [task.pid, task]));
  for (const task of tasks) {
    const parent = byPid.get(task.ppid);
    if (parent?.state === "zombie") report("ppid", `the parent ${parent.pid} of process ${task.pid} is dead`);
    if (parent?.state === "helper" && task.state === "alive") {
      report("ppid", `the parent ${parent.pid} of process ${task.pid} exists only while the tree is restored`);
    }
    if (task.pid === 1 && task !== tasks[0]) report("pid", "process 1 is not the root of the tree");
  }
}

/** Ranges, and numbers that something else has. */
function checkNumbers(tasks: readonly TreeTask[], inherited: Inherited | undefined, report: Report): void {
  const threadOf = new Map<number, number>();
  for (const task of tasks) for (const tid of task.threads) if (tid !== task.pid) threadOf.set(tid, task.pid);
  for (const task of tasks) {
    for (const field of ["sid", "pgid"] as const) {
      const id = task[field];
      const what = `process ${task.pid} has ${field === "sid" ? "session" : "group"} ${id}`;
      const isOutside = id === 0 || id === inherited?.[field];
      if (!isOutside && !(Number.isInteger(id) && id > 0 && id < PID_MAX_LIMIT)) report(field, `${what}, which is no id`);
      const owner = threadOf.get(id);
      if (owner !== undefined) report(field, `${what}, which is the number of a thread of process ${owner}`);
    }
  }
}

/** Who can be in a session or group together. */
function checkSharing(tasks: readonly TreeTask[], report: Report): void {
  const byPid = new Map(tasks.map((task) => [task.pid, task]));
  const sessions = new Set(tasks.map((task) => task.sid));
  const sessionOfGroup = new Map<number, number>();
  for (const { pid, sid, pgid } of tasks) {
    const session = byPid.get(sid);
    if (session !== undefined && session.sid !== sid) {
      report("sid", `process ${pid} is in session ${sid}, but process ${sid} leads none and is in ${session.sid}`);
    }
    if (pid === sid && pgid !== pid) report("pgid", `process ${pid} leads its session, but is in group ${pgid}`);
    const elsewhere = [byPid.get(pgid)?.sid, sessionOfGroup.get(pgid), sessions.has(pgid) ? pgid : undefined].find(
      (other) => other !== undefined && other !== sid,
    );
    if (elsewhere !== undefined) {
      report("pgid", `process ${pid} of session ${sid} is in group ${pgid}, which belongs to session ${elsewhere}`);
    }
    sessionOfGroup.set(pgid, sid);
  }
}
