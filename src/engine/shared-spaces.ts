/**
 * Processes that share one address space (CLONE_VM without CLONE_THREAD): the first of the tree owns it, the others are
 * cloned into it, and each runs the stub in slots of its own.
 */
import { Refusal } from "../errors.js";
import type { TreePlan } from "../resources/tasks/tree-steps.js";
import type { TaskInMaking } from "./restore-session.js";

/** Who shares memory with whom in one restore. */
export class SharedSpaces {
  readonly #tasks: ReadonlyMap<number, TaskInMaking>;
  readonly #owners = new Map<number, number>();
  readonly #firstSlots = new Map<number, number>();
  /** Slots that the fullest address space needs. */
  readonly slots: number;

  constructor(tasks: readonly TaskInMaking[]) {
    this.#tasks = new Map(tasks.map((t) => [t.pid, t]));
    const owners = new Map<number, number>();
    const used = new Map<number, number>();
    for (const { pid, saved, threads } of tasks) {
      const owner = owners.get(saved.living.ids.vm_id) ?? pid;
      owners.set(saved.living.ids.vm_id, owner);
      this.#owners.set(pid, owner);
      this.#firstSlots.set(pid, used.get(owner) ?? 0);
      used.set(owner, (used.get(owner) ?? 0) + threads.length);
    }
    this.slots = Math.max(1, ...used.values());
  }

  /** The process whose images hold the memory of `pid`; of a temporary process undefined. */
  owner(pid: number): number | undefined {
    return this.#owners.get(pid);
  }

  isOwner(pid: number): boolean {
    return this.#owners.get(pid) === pid;
  }

  /** The slot of the leader of `pid`; those of its other threads follow. */
  firstSlot(pid: number): number {
    return this.#firstSlots.get(pid) ?? 0;
  }

  /** Only who has the memory can make somebody to share it with. */
  check(plan: TreePlan): Refusal[] {
    const problems: Refusal[] = [];
    for (const step of plan.build.flat()) {
      if (step.do !== "create" || !this.#tasks.has(step.pid) || this.isOwner(step.pid)) continue;
      if (this.owner(step.by) === this.owner(step.pid)) continue;
      problems.push(
        new Refusal(
          {
            code: "MEMORY_SHARED_APART",
            process: { pid: step.pid, comm: this.#tasks.get(step.pid)?.comm ?? "?" },
            resource: "its address space",
            because: `it shares it with process ${this.owner(step.pid)}, but is not a child of a process that has it`,
            remedy: ["Dump the processes at a time when they do not share memory"],
          },
          "restore",
        ),
      );
    }
    return problems;
  }
}
