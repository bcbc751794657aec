/**
 * What the kernel does to pids, parents, sessions and groups, as a model in memory.
 *
 * The rules   fork(2), clone(2) CLONE_PARENT, setsid(2), setpgid(2), PR_SET_CHILD_SUBREAPER(2const), wait(2); a number is
 *             taken as long as any task, also a zombie, has it as pid, tid, session or group.
 * Used        to prove a plan before anything is made (tree-simulate.ts), and to invent histories in tests.
 */

export interface ModelTask {
  readonly pid: number;
  ppid: number;
  pgid: number;
  sid: number;
  /** setsid() was called, so neither it nor setpgid() works any more. */
  leads: boolean;
  zombie: boolean;
  subreaper: boolean;
  readonly children: Set<number>;
}

/** A call that the kernel would refuse; the message names it and the errno. */
export class ModelError extends Error {
  override readonly name = "ModelError";
}

export class TreeModel {
  readonly tasks = new Map<number, ModelTask>();
  readonly #uses = new Map<number, number>();
  readonly #groups = new Map<number, { sid: number; members: number }>();
  /** Where orphans go when no ancestor is a subreaper: the pid of init in the model, or undefined for out of sight. */
  readonly init: number | undefined;

  constructor(init?: number) {
    this.init = init;
  }

  /** Puts a task into being whose parent is out of sight, in the given session and group. */
  enter(task: { pid: number; sid: number; pgid: number; leads: boolean }): void {
    this.#born(task.pid, { ppid: 0, sid: task.sid, pgid: task.pgid, leads: task.leads });
  }

  /** A group with members that are not tasks of the model. */
  addOutsideGroup(pgid: number, sid: number): void {
    this.#groups.set(pgid, { sid, members: 1 });
    this.#use(pgid, 1);
    this.#use(sid, 1);
  }

  /** A number that is taken by something that plays no part, such as a thread id. */
  reserve(id: number): void {
    this.#use(id, 1);
  }

  isTaken(id: number): boolean {
    return (this.#uses.get(id) ?? 0) > 0;
  }

  alive(pid: number, call: string): ModelTask {
    const task = this.tasks.get(pid);
    if (task === undefined) throw new ModelError(`${call}: there is no task ${pid}`);
    if (task.zombie) throw new ModelError(`${call}: task ${pid} is a zombie`);
    return task;
  }

  clone(by: number, pid: number, asSibling = false): void {
    const call = `clone3(set_tid=${pid}${asSibling ? ", CLONE_PARENT" : ""}) by ${by}`;
    const creator = this.alive(by, call);
    if (asSibling && by === 1) throw new ModelError(`${call}: EINVAL, init can have no sibling`);
    const parent = asSibling ? creator.ppid : by;
    this.#born(pid, { ppid: parent, sid: creator.sid, pgid: creator.pgid, leads: false }, call);
  }

  setsid(pid: number): void {
    const call = `setsid() by ${pid}`;
    const task = this.alive(pid, call);
    if (task.leads) throw new ModelError(`${call}: EPERM, it leads a session`);
    if (this.#groups.has(pid)) throw new ModelError(`${call}: EPERM, there is a group ${pid}`);
    task.leads = true;
    this.#use(task.sid, -1);
    this.#use(pid, 1);
    task.sid = pid;
    this.#regroup(task, pid);
  }

  setpgid(pid: number, pgid: number): void {
    const call = `setpgid(${pid}, ${pgid})`;
    const task = this.alive(pid, call);
    if (task.leads) throw new ModelError(`${call}: EPERM, it leads a session`);
    if (pgid !== pid) {
      const group = this.#groups.get(pgid);
      if (group === undefined) throw new ModelError(`${call}: EPERM, there is no such group`);
      if (group.sid !== task.sid) throw new ModelError(`${call}: EPERM, the group is in session ${group.sid}`);
    }
    this.#regroup(task, pgid);
  }

  setSubreaper(pid: number, on: boolean): void {
    this.alive(pid, "prctl(PR_SET_CHILD_SUBREAPER)").subreaper = on;
  }

  exit(pid: number): void {
    const task = this.alive(pid, "exit()");
    task.zombie = true;
    const reaper = this.reaperOf(pid);
    for (const child of task.children) this.#adopt(child, reaper);
    task.children.clear();
  }

  /** wait() by `by` for its zombie child. `by` 0 is whoever is out of sight. */
  reap(pid: number, by: number): void {
    const task = this.tasks.get(pid);
    if (task === undefined || task.ppid !== by) throw new ModelError(`wait(${pid}) by ${by}: ECHILD`);
    if (!task.zombie) throw new ModelError(`wait(${pid}) by ${by}: it still lives`);
    this.tasks.get(by)?.children.delete(pid);
    this.tasks.delete(pid);
    this.#use(pid, -1);
    this.#use(task.sid, -1);
    this.#leaveGroup(task.pgid);
    this.#use(task.pgid, -1);
  }

  /** Who gets the children of `pid` when it ends: the nearest living subreaper above it, or init. */
  reaperOf(pid: number): number {
    let up = this.tasks.get(this.tasks.get(pid)?.ppid ?? 0);
    while (up !== undefined) {
      if (up.subreaper && !up.zombie) return up.pid;
      up = this.tasks.get(up.ppid);
    }
    return this.init ?? 0;
  }

  /** The session of a group and how many are in it; undefined when there is no such group. */
  group(pgid: number): { readonly sid: number; readonly members: number } | undefined {
    return this.#groups.get(pgid);
  }

  #adopt(pid: number, reaper: number): void {
    const child = this.tasks.get(pid);
    if (child === undefined) return;
    child.ppid = reaper;
    this.tasks.get(reaper)?.children.add(pid);
  }

  #born(pid: number, init: { ppid: number; sid: number; pgid: number; leads: boolean }, call = `clone3(set_tid=${pid})`): void {
    if (!(Number.isInteger(pid) && pid > 0)) throw new ModelError(`${call}: EINVAL`);
    if (this.isTaken(pid)) throw new ModelError(`${call}: EEXIST`);
    this.tasks.set(pid, { pid, ...init, zombie: false, subreaper: false, children: new Set() });
    this.tasks.get(init.ppid)?.children.add(pid);
    this.#use(pid, 1);
    this.#use(init.sid, 1);
    this.#use(init.pgid, 1);
    this.#enterGroup(init.pgid, init.sid);
  }

  #regroup(task: ModelTask, pgid: number): void {
    if (task.pgid === pgid) return;
    this.#leaveGroup(task.pgid);
    this.#use(task.pgid, -1);
    task.pgid = pgid;
    this.#use(pgid, 1);
    this.#enterGroup(pgid, task.sid);
  }

  #enterGroup(pgid: number, sid: number): void {
    const group = this.#groups.get(pgid);
    if (group === undefined) this.#groups.set(pgid, { sid, members: 1 });
    else group.members += 1;
  }

  #leaveGroup(pgid: number): void {
    const group = this.#groups.get(pgid);
    if (group === undefined) return;
    group.members -= 1;
    if (group.members === 0) this.#groups.delete(pgid);
  }

  #use(id: number, by: 1 | -1): void {
    this.#uses.set(id, (this.#uses.get(id) ?? 0) + by);
  }
}
