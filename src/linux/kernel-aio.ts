/**
 * Requests of kernel asynchronous I/O that wait for something to happen, as polls do: no file of /proc has them, so they are
 * counted in the kernel's memory (`kernel-memory.ts`).
 *
 * An open /proc/PID/mem leads to the memory of the process (struct mm_struct), that to its contexts. A context has the requests that
 * can be cancelled in a list: those are the ones that may wait for ever. Structures: fs/aio.c, fs/proc/base.c; where their members
 * lie is known from BTF.
 */
import { closeSync, openSync } from "node:fs";
import { KernelView, POINTER_BYTES, sightOf } from "./kernel-view.js";

const STRUCTS = {
  mm_struct: ["ioctx_table"],
  kioctx_table: ["nr", "table"],
  kioctx: ["user_id", "active_reqs"],
} as const;

/** More contexts than fs.aio-max-nr lets a process have by default, and than requests are counted for. */
const MOST_CONTEXTS = 1 << 16;
const MOST_REQUESTS = 1 << 16;

export class KernelAio {
  readonly #view: KernelView;

  private constructor(view: KernelView) {
    this.#view = view;
  }

  /** Undefined where the kernel has no type information, or lets us read nothing. */
  static open(): KernelAio | undefined {
    const sight = sightOf(STRUCTS);
    return sight && new KernelAio(new KernelView(sight));
  }

  /** Requests that wait, by name of context; undefined: it cannot be seen. Good only while the process stands still. */
  waiting(pid: number): ReadonlyMap<bigint, number> | undefined {
    const fd = openSync(`/proc/${pid}/mem`, "r");
    try {
      return this.#contexts(fd);
    } finally {
      closeSync(fd);
    }
  }

  #contexts(fd: number): ReadonlyMap<bigint, number> | undefined {
    const view = this.#view;
    const toTable = [...view.toFile(fd), view.at("file", "private_data"), view.at("mm_struct", "ioctx_table")];
    const count = view.memory.read({ start: "task", pointers: toTable, offset: view.at("kioctx_table", "nr") }, 4)?.readUInt32LE(0);
    if (count === undefined || count > MOST_CONTEXTS) return undefined;
    const found = new Map<bigint, number>();
    const table = view.memory.read({ start: "task", pointers: toTable, offset: view.at("kioctx_table", "table") }, count * POINTER_BYTES);
    if (table === undefined) return undefined;
    for (let i = 0; i < count; i++) {
      const context = table.readBigUInt64LE(i * POINTER_BYTES);
      if (context === 0n) continue;
      const [name, requests] = [view.pointer(context + BigInt(view.at("kioctx", "user_id"))), this.#listLength(context)];
      if (name === undefined || requests === undefined) return undefined;
      found.set(name, requests);
    }
    return found;
  }

  /** struct list_head: a ring that goes through its own head. */
  #listLength(context: bigint): number | undefined {
    const head = context + BigInt(this.#view.at("kioctx", "active_reqs"));
    let length = 0;
    for (let at = this.#view.pointer(head); at !== head; at = this.#view.pointer(at), length++) {
      if (at === undefined || length > MOST_REQUESTS) return undefined;
    }
    return length;
  }
}
