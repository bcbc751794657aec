/**
 * The words in which the restore of a process tree is planned: the tasks wanted, the steps that make them.
 *
 * Every step is one or a few system calls that a stopped task is made to do; a single coordinator carries them out.
 */

/** `helper`: a task that must exist while the tree is restored (an open /proc/PID of a dead task) and is gone after. */
export type TaskState = "alive" | "zombie" | "helper";

/** A task as it must be in the end. Numbers are those of the tree's own pid namespace. */
export interface TreeTask {
  readonly pid: number;
  /** Of the root: anything that is no pid of the tree (0 in images). */
  readonly ppid: number;
  readonly pgid: number;
  readonly sid: number;
  readonly state: TaskState;
  /** Thread ids; the leader's own may be among them or not. */
  readonly threads: readonly number[];
  /** For messages only. */
  readonly comm?: string;
}

/** The coordinator itself, as creator of the root and as the one who reaps what has no parent in the tree. */
export const OUTSIDE = 0;

export type TreeStep =
  /**
   * clone3 with set_tid = `pid` by task `by` (OUTSIDE: from the seed, as a child of the coordinator). The new task has
   * the creator's session and group. Its parent is the creator or, with `asSibling` (CLONE_PARENT, exit_signal argument
   * must be 0), the creator's parent; then it takes over the creator's exit signal, so create everybody with SIGCHLD.
   */
  | { readonly do: "create"; readonly pid: number; readonly by: number; readonly asSibling: boolean }
  /** From here on the task's memory may hold its own contents; before, it must be left as it was cloned. */
  | { readonly do: "memory"; readonly pid: number }
  /** The task calls setsid(). */
  | { readonly do: "setsid"; readonly pid: number }
  /** The task calls setpgid(0, pgid). `pgid` equal to the plan's `inherited.pgid` means the coordinator's own group. */
  | { readonly do: "setpgid"; readonly pid: number; readonly pgid: number }
  /** unshare(what): CLONE_FILES or CLONE_FS that the task had only to pass it on. */
  | { readonly do: "unshare"; readonly pid: number; readonly what: bigint }
  /** prctl(PR_SET_CHILD_SUBREAPER): only for the plan's purposes, always off again at the end. */
  | { readonly do: "subreaper"; readonly pid: number; readonly on: boolean }
  /** The task ends: a temporary one, a zombie (with its saved status), a helper. */
  | { readonly do: "exit"; readonly pid: number }
  /** `by` waits for its dead child `pid`. */
  | { readonly do: "reap"; readonly pid: number; readonly by: number };

/** Who carries out a step: steps of one actor keep their order, different actors of one round are independent. */
export function actorOf(step: TreeStep): number {
  return step.do === "create" || step.do === "reap" ? step.by : step.pid;
}

export type Round = readonly TreeStep[];

/**
 * Why a temporary task exists. `session leader`, `group leader`: its pid is the number of a session or group whose
 * leader is dead. `carrier`: its exit hands its children to an ancestor. `holder`: it keeps a group from vanishing.
 * The pids of carriers and holders are arbitrary free numbers.
 */
export type TemporaryKind = "session leader" | "group leader" | "carrier" | "holder";

export interface TemporaryTask {
  readonly pid: number;
  readonly kind: TemporaryKind;
}

/** The session and group that the root is born into, and that are not made: those of the coordinator. */
export interface Inherited {
  readonly sid: number;
  /** The saved number of the group that stands for the coordinator's own; -1 when no task is to stay in it. */
  readonly pgid: number;
}

export interface TreePlan {
  /** All steps up to the finished tree, but for the tasks in state `helper`, which still live. */
  readonly build: readonly Round[];
  /** Ends and reaps the tasks in state `helper`, and zombies below them. */
  readonly finish: readonly Round[];
  readonly temporary: readonly TemporaryTask[];
  /**
   * Whose memory a task of the tree holds when it is created: a pid of the tree whose `memory` step was earlier, or
   * undefined for the seed's empty one. Copy-on-write sharing is as saved where this is the task's parent.
   */
  readonly memoryFrom: ReadonlyMap<number, number | undefined>;
  /** Tasks of the tree to which the kernel sends SIGCHLD while the plan runs: their pending signals need clearing. */
  readonly signalled: readonly number[];
  readonly inherited: Inherited | undefined;
  /** Clone flags for what a new task shares with its creator, by its pid; none: 0. */
  readonly shares: ReadonlyMap<number, bigint>;
}
