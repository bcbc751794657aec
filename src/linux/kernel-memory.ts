/**
 * bpf(2): a program that reads memory of the kernel, to see what no system call tells. It changes nothing.
 *
 * It goes from structure to structure as it is told, and copies what lies at the end of its way; an address that is none makes it
 * stop. Where the members of structures lie is known from the kernel's own type information (`btf.ts`). Needs CAP_BPF and
 * CAP_PERFMON. Source: uapi/linux/bpf.h, Documentation/bpf/.
 */
import { type Line, OP, assemble } from "./bpf-code.js";
import { BpfLook } from "./bpf-look.js";

const BPF_PSEUDO_MAP_VALUE = 2;
const BPF_FUNC_get_current_task = 35;
const BPF_FUNC_probe_read_kernel = 113;

/** What one run copies. */
const PIECE_BYTES = 4096;
/** Most pointers that one run follows. */
const STEPS = 9;
/** Words that a run is given: where it begins, its steps, how far behind the last, how much; MAX_BPF_FUNC_ARGS are 12. */
const LAST_WORD = STEPS + 1;
const LENGTH_WORD = STEPS + 2;
const CONTEXT_BYTES = (STEPS + 3) * 8;
/** Instead of a step: there are no more. */
const NO_STEP = -1;

const PROBE: readonly Line[] = [
  [OP.CALL, 0, 0, 0, BPF_FUNC_probe_read_kernel],
  [OP.JUMP_UNLESS_EQUAL, 0, 0, 0, 0, "nothing"],
];

/** Register 6 has the words, 7 where the way has led so far. */
function program(map: number): Buffer {
  const steps = Array.from({ length: STEPS }, (_, i): Line[] => [
    [OP.LOAD, 3, 6, (i + 1) * 8, 0],
    [OP.JUMP_IF_EQUAL, 3, 0, 0, NO_STEP, "end"],
    [OP.ADD, 3, 7, 0, 0],
    [OP.MOVE, 1, 10, 0, 0],
    [OP.ADD_CONSTANT, 1, 0, 0, -8],
    [OP.MOVE_CONSTANT, 2, 0, 0, 8],
    ...PROBE,
    [OP.LOAD, 7, 10, -8, 0],
  ]);
  return assemble([
    [OP.MOVE, 6, 1, 0, 0],
    [OP.LOAD, 7, 6, 0, 0],
    [OP.JUMP_UNLESS_EQUAL, 7, 0, 0, 0, "way"],
    [OP.CALL, 0, 0, 0, BPF_FUNC_get_current_task],
    [OP.MOVE, 7, 0, 0, 0],
    "way",
    ...steps.flat(),
    "end",
    [OP.LOAD, 3, 6, LAST_WORD * 8, 0],
    [OP.ADD, 3, 7, 0, 0],
    [OP.LOAD, 2, 6, LENGTH_WORD * 8, 0],
    [OP.JUMP_IF_ABOVE, 2, 0, 0, PIECE_BYTES, "nothing"],
    // The address of the map's value takes two instructions.
    [OP.LOAD_WIDE, 1, BPF_PSEUDO_MAP_VALUE, 0, map],
    [0, 0, 0, 0, 0],
    ...PROBE,
    [OP.EXIT, 0, 0, 0, 0], // with the 0 of the call
    "nothing",
    [OP.MOVE_CONSTANT, 0, 0, 0, 1],
    [OP.EXIT, 0, 0, 0, 0],
  ]);
}

/** A way to memory: pointers to follow, each at an offset behind where the one before led, and an offset behind the last. */
export interface KernelPath {
  /** An address; "task": the structure of the thread that asks (struct task_struct). */
  readonly start: bigint | "task";
  readonly pointers: readonly number[];
  readonly offset: number;
}

/** Reads memory of the kernel. */
export class KernelMemory {
  readonly #look: BpfLook;

  private constructor(look: BpfLook) {
    this.#look = look;
  }

  /** Undefined where the kernel cannot, or does not let us. */
  static open(): KernelMemory | undefined {
    const look = BpfLook.open({ name: "floe_look", contextBytes: CONTEXT_BYTES, pieceBytes: PIECE_BYTES, program });
    return look && new KernelMemory(look);
  }

  /** The bytes at the end of a way; undefined where it leads nowhere. */
  read({ start, pointers, offset }: KernelPath, length: number): Buffer | undefined {
    // The program takes 0 for the thread.
    if (start === 0n) return undefined;
    const { context, piece } = this.#look;
    const bytes = Buffer.alloc(length);
    for (let done = 0; done < length; done += PIECE_BYTES) {
      const some = Math.min(PIECE_BYTES, length - done);
      context.writeBigUInt64LE(start === "task" ? 0n : start, 0);
      for (let i = 0; i < STEPS; i++) context.writeBigInt64LE(BigInt(pointers[i] ?? NO_STEP), (i + 1) * 8);
      context.writeBigInt64LE(BigInt(offset + done), LAST_WORD * 8);
      context.writeBigUInt64LE(BigInt(some), LENGTH_WORD * 8);
      if (this.#look.run() !== 0) return undefined;
      piece.copy(bytes, done, 0, some);
    }
    return bytes;
  }

  close(): void {
    this.#look.close();
  }
}
