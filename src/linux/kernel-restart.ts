/**
 * What the kernel keeps of a timed call that was interrupted, to go on with it by restart_syscall(2): struct restart_block
 * (linux/restart_block.h). No file of /proc has it, so it is looked up in the kernel's memory (`kernel-tasks.ts`).
 */
import { KernelTasks } from "./kernel-tasks.js";

const STRUCTS = { task_struct: ["restart_block"], restart_block: ["fn", "futex", "nanosleep", "poll"] } as const;

/** Behind the function: the members of a union, of which the largest has as many bytes. */
const UNION_BYTES = 40;
const AT = { clock: 0, type: 4, rmtp: 8, expires: 16, ufds: 0, nfds: 8, hasTimeout: 12, seconds: 16, nanoseconds: 24 } as const;
const FUTEX_AT = { uaddr: 0, val: 8, time: 24 } as const;

/** The union of a restart block; what it is of is not written there. */
export interface RestartBlock {
  readonly nanosleep: { readonly clock: number; readonly type: number; readonly rmtp: bigint; readonly expiresNs: bigint };
  readonly poll: { readonly ufds: bigint; readonly nfds: number; readonly hasTimeout: boolean; readonly endNs: bigint };
  readonly futex: { readonly uaddr: bigint; readonly val: number; readonly endNs: bigint };
}

function decode(bytes: Buffer): RestartBlock {
  const word = (at: number) => bytes.readBigUInt64LE(at);
  return {
    nanosleep: {
      clock: bytes.readInt32LE(AT.clock),
      type: bytes.readInt32LE(AT.type),
      rmtp: word(AT.rmtp),
      expiresNs: word(AT.expires),
    },
    poll: {
      ufds: word(AT.ufds),
      nfds: bytes.readInt32LE(AT.nfds),
      hasTimeout: bytes.readInt32LE(AT.hasTimeout) !== 0,
      endNs: word(AT.seconds) * 1_000_000_000n + word(AT.nanoseconds),
    },
    futex: { uaddr: word(FUTEX_AT.uaddr), val: bytes.readUInt32LE(FUTEX_AT.val), endNs: word(FUTEX_AT.time) },
  };
}

export class KernelRestart {
  readonly #tasks: KernelTasks;

  private constructor(tasks: KernelTasks) {
    this.#tasks = tasks;
  }

  /** Undefined where the kernel has no type information, or lets us read nothing. */
  static open(): KernelRestart | undefined {
    const tasks = KernelTasks.open(STRUCTS);
    if (tasks === undefined) return undefined;
    // The members of the union are structs without a name; a block of another shape is one of a kernel that is not known.
    const start = tasks.at("restart_block", "nanosleep");
    const isKnown = ["futex", "poll"].every((member) => tasks.at("restart_block", member) === start);
    return isKnown && tasks.sizeOf("restart_block") - start === UNION_BYTES ? new KernelRestart(tasks) : undefined;
  }

  /** The restart block of a thread; good only while it stands still, in a call that left one. */
  read(pid: number, tid: number): RestartBlock | undefined {
    const offset = this.#tasks.at("restart_block", "nanosleep");
    const bytes = this.#tasks.ofTask(`/proc/${pid}/task/${tid}`, "restart_block", { offset, length: UNION_BYTES });
    return bytes && decode(bytes);
  }
}
