/**
 * What the kernel undoes for a thread's end, semop(2), in its memory (`kernel-tasks.ts`): no system call tells of it. Threads of a process
 * mostly have one list together (CLONE_SYSVSEM). Structures: linux/sem_types.h, ipc/sem.c.
 */
import { KernelTasks } from "./kernel-tasks.js";
import { POINTER_BYTES } from "./kernel-view.js";

const STRUCTS = {
  task_struct: ["sysvsem"],
  sysv_sem: ["undo_list"],
  sem_undo_list: ["list_proc"],
  sem_undo: ["list_proc", "semid", "semadj"],
} as const;
const VALUE_BYTES = 2;
/** Sets that one process has changed, and semaphores of one set: more than anybody has. */
const MOST_SETS = 32000;

export interface Undo {
  readonly set: number;
  readonly semaphore: number;
  /** Added to the semaphore in the end. */
  readonly by: number;
}

export class KernelSemaphores {
  readonly #tasks: KernelTasks;

  private constructor(tasks: KernelTasks) {
    this.#tasks = tasks;
  }

  /** Undefined where the kernel has no type information, or lets us read nothing. */
  static open(): KernelSemaphores | undefined {
    const tasks = KernelTasks.open(STRUCTS);
    return tasks && new KernelSemaphores(tasks);
  }

  /** The address of a thread's list, equal for those who share one; undefined: it has none. */
  listOf(directory: string): bigint | undefined {
    const found = this.#tasks.ofTask(directory, "sysvsem", { offset: this.#tasks.at("sysv_sem", "undo_list"), length: POINTER_BYTES });
    const address = found?.readBigUInt64LE(0);
    return address === 0n ? undefined : address;
  }

  /** What a list has of the sets that there are, by the number of their semaphores; good only while nobody of those who share it runs. */
  undone(list: bigint, sets: ReadonlyMap<number, number>): Undo[] {
    const view = this.#tasks;
    const undone: Undo[] = [];
    const head = list + BigInt(view.at("sem_undo_list", "list_proc"));
    for (let i = 0, node = view.pointer(head); node !== undefined && node !== head && i < MOST_SETS; i++, node = view.pointer(node)) {
      const undo = node - BigInt(view.at("sem_undo", "list_proc"));
      const set = view.read(undo + BigInt(view.at("sem_undo", "semid")), 4)?.readInt32LE(0);
      const semaphores = set === undefined ? undefined : sets.get(set);
      if (set === undefined || semaphores === undefined) continue;
      const at = this.#isArray ? undo + BigInt(view.at("sem_undo", "semadj")) : view.pointer(undo + BigInt(view.at("sem_undo", "semadj")));
      for (let semaphore = 0; at !== undefined && semaphore < semaphores; semaphore++) {
        const by = view.read(at + BigInt(semaphore * VALUE_BYTES), VALUE_BYTES)?.readInt16LE(0) ?? 0;
        if (by !== 0) undone.push({ set, semaphore, by });
      }
    }
    return undone;
  }

  /** Since 6.0 or so the numbers are the end of the structure; before they were behind a pointer. */
  get #isArray(): boolean {
    return this.#tasks.at("sem_undo", "semadj") + POINTER_BYTES > this.#tasks.sizeOf("sem_undo");
  }
}
