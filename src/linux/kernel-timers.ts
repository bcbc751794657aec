/**
 * POSIX timers in the kernel's memory (`kernel-tasks.ts`): how often each has run over since its signal was queued, of which no system call
 * tells before the signal is taken. Structures: linux/posix-timers.h.
 */
import { KernelTasks } from "./kernel-tasks.js";
import { POINTER_BYTES } from "./kernel-view.js";

const STRUCTS = { task_struct: ["signal"], signal_struct: ["posix_timers"], k_itimer: ["list", "it_id", "it_overrun"] } as const;

export class KernelTimers {
  readonly #tasks: KernelTasks;

  private constructor(tasks: KernelTasks) {
    this.#tasks = tasks;
  }

  /** Undefined where the kernel has no type information, or lets us read nothing. */
  static open(): KernelTimers | undefined {
    const tasks = KernelTasks.open(STRUCTS);
    return tasks && new KernelTimers(tasks);
  }

  /** Overruns of at most `most` timers of a process, by their ids; good only while it stands still. */
  overruns(pid: number, most: number): ReadonlyMap<number, bigint> {
    const found = new Map<number, bigint>();
    const signal = this.#tasks.ofTask(`/proc/${pid}`, "signal", { offset: 0, length: POINTER_BYTES })?.readBigUInt64LE(0);
    let node = signal === undefined ? undefined : this.#tasks.pointer(signal + BigInt(this.#tasks.at("signal_struct", "posix_timers")));
    // struct hlist_node: the next one comes first.
    for (let i = 0; node !== undefined && node !== 0n && i < most; i++, node = this.#tasks.pointer(node)) {
      const timer = node - BigInt(this.#tasks.at("k_itimer", "list"));
      const id = this.#tasks.pointer(timer + BigInt(this.#tasks.at("k_itimer", "it_id")));
      const overrun = this.#tasks.pointer(timer + BigInt(this.#tasks.at("k_itimer", "it_overrun")));
      if (id !== undefined && overrun !== undefined) found.set(Number(BigInt.asIntN(32, id)), BigInt.asIntN(64, overrun));
    }
    return found;
  }
}
