/**
 * bpf(2): a program that reads memory of the kernel, to see what no system call tells. It changes nothing.
 *
 * It goes from structure to structure as it is told, and copies what lies at the end of its way; an address that is none makes it
 * stop. Where the members of structures lie is known from the kernel's own type information (`btf.ts`). Needs CAP_BPF and
 * CAP_PERFMON. Source: uapi/linux/bpf.h, Documentation/bpf/.
 */
import { closeSync } from "node:fs";
import { KernelError } from "../errors.js";
import { BPF_MAP_TYPE, bpfMapCreate } from "./bpf.js";
import { addressOf, syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";

const BPF_MAP_LOOKUP_ELEM = 1;
const BPF_PROG_LOAD = 5;
const BPF_PROG_TEST_RUN = 10;
const BPF_PROG_TYPE_RAW_TRACEPOINT = 17;
const BPF_PSEUDO_MAP_VALUE = 2;
const BPF_FUNC_get_current_task = 35;
const BPF_FUNC_probe_read_kernel = 113;
const ATTR_BYTES = 128;
const INSTRUCTION_BYTES = 8;

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

/** struct bpf_insn. */
type Instruction = readonly [code: number, destination: number, source: number, offset: number, immediate: number];
const LOAD = 0x79;
const LOAD_WIDE = 0x18;
const MOVE = 0xbf;
const MOVE_CONSTANT = 0xb7;
const ADD = 0x0f;
const ADD_CONSTANT = 0x07;
const JUMP_IF_EQUAL = 0x15;
const JUMP_UNLESS_EQUAL = 0x55;
const JUMP_IF_ABOVE = 0x25;
const CALL = 0x85;
const EXIT = 0x95;

/** An instruction, whose jump may lead to a named place; or such a place. */
type Line = Instruction | readonly [...Instruction, to: string] | string;

const PROBE: readonly Line[] = [
  [CALL, 0, 0, 0, BPF_FUNC_probe_read_kernel],
  [JUMP_UNLESS_EQUAL, 0, 0, 0, 0, "nothing"],
];

/** Register 6 has the words, 7 where the way has led so far. */
function program(map: number): Buffer {
  const steps = Array.from({ length: STEPS }, (_, i): Line[] => [
    [LOAD, 3, 6, (i + 1) * 8, 0],
    [JUMP_IF_EQUAL, 3, 0, 0, NO_STEP, "end"],
    [ADD, 3, 7, 0, 0],
    [MOVE, 1, 10, 0, 0],
    [ADD_CONSTANT, 1, 0, 0, -8],
    [MOVE_CONSTANT, 2, 0, 0, 8],
    ...PROBE,
    [LOAD, 7, 10, -8, 0],
  ]);
  return assemble([
    [MOVE, 6, 1, 0, 0],
    [LOAD, 7, 6, 0, 0],
    [JUMP_UNLESS_EQUAL, 7, 0, 0, 0, "way"],
    [CALL, 0, 0, 0, BPF_FUNC_get_current_task],
    [MOVE, 7, 0, 0, 0],
    "way",
    ...steps.flat(),
    "end",
    [LOAD, 3, 6, LAST_WORD * 8, 0],
    [ADD, 3, 7, 0, 0],
    [LOAD, 2, 6, LENGTH_WORD * 8, 0],
    [JUMP_IF_ABOVE, 2, 0, 0, PIECE_BYTES, "nothing"],
    // The address of the map's value takes two instructions.
    [LOAD_WIDE, 1, BPF_PSEUDO_MAP_VALUE, 0, map],
    [0, 0, 0, 0, 0],
    ...PROBE,
    [EXIT, 0, 0, 0, 0], // with the 0 of the call
    "nothing",
    [MOVE_CONSTANT, 0, 0, 0, 1],
    [EXIT, 0, 0, 0, 0],
  ]);
}

function assemble(lines: readonly Line[]): Buffer {
  const places = new Map<string, number>();
  const instructions: (Instruction | readonly [...Instruction, to: string])[] = [];
  for (const line of lines) {
    if (typeof line === "string") places.set(line, instructions.length);
    else instructions.push(line);
  }
  const code = Buffer.alloc(instructions.length * INSTRUCTION_BYTES);
  instructions.forEach(([operation, destination, source, offset, immediate, to], i) => {
    const at = i * INSTRUCTION_BYTES;
    code.writeUInt8(operation, at);
    code.writeUInt8(destination | (source << 4), at + 1);
    code.writeInt16LE(to === undefined ? offset : (places.get(to) ?? 0) - i - 1, at + 2);
    code.writeInt32LE(immediate, at + 4);
  });
  return code;
}

const bpf = (command: number, attr: Buffer) => syscallNumber(SYS.bpf, command, attr, attr.length);

/** A way to memory: pointers to follow, each at an offset behind where the one before led, and an offset behind the last. */
export interface KernelPath {
  /** An address; "task": the structure of the thread that asks (struct task_struct). */
  readonly start: bigint | "task";
  readonly pointers: readonly number[];
  readonly offset: number;
}

/** Reads memory of the kernel. */
export class KernelMemory {
  readonly #program: number;
  readonly #map: number;
  readonly #context = Buffer.alloc(CONTEXT_BYTES);
  readonly #run = Buffer.alloc(ATTR_BYTES);
  readonly #lookUp = Buffer.alloc(ATTR_BYTES);
  readonly #key = Buffer.alloc(4);
  readonly #piece = Buffer.alloc(PIECE_BYTES);

  private constructor(map: number, loaded: number) {
    this.#map = map;
    this.#program = loaded;
    this.#run.writeUInt32LE(loaded, 0);
    this.#run.writeUInt32LE(CONTEXT_BYTES, 40);
    this.#run.writeBigUInt64LE(addressOf(this.#context), 48);
    this.#lookUp.writeUInt32LE(map, 0);
    this.#lookUp.writeBigUInt64LE(addressOf(this.#key), 8);
    this.#lookUp.writeBigUInt64LE(addressOf(this.#piece), 16);
  }

  /** Undefined where the kernel cannot, or does not let us. */
  static open(): KernelMemory | undefined {
    let map: number;
    try {
      const shape = { keyBytes: 4, valueBytes: PIECE_BYTES, maxEntries: 1, flags: 0, name: "floe_look", extra: 0n };
      map = bpfMapCreate({ type: BPF_MAP_TYPE.ARRAY, ...shape });
    } catch (error) {
      if (error instanceof KernelError) return undefined;
      throw error;
    }
    const code = program(map);
    // bpf_probe_read_kernel(3bpf) is for programs that say they may be used under the GPL as well.
    const license = Buffer.from("Dual MIT/GPL\0");
    const attr = Buffer.alloc(ATTR_BYTES);
    attr.writeUInt32LE(BPF_PROG_TYPE_RAW_TRACEPOINT, 0);
    attr.writeUInt32LE(code.length / INSTRUCTION_BYTES, 4);
    attr.writeBigUInt64LE(addressOf(code), 8);
    attr.writeBigUInt64LE(addressOf(license), 16);
    attr.write("floe_look", 48, "latin1");
    const loaded = bpf(BPF_PROG_LOAD, attr);
    if (loaded >= 0) return new KernelMemory(map, loaded);
    closeSync(map);
    return undefined;
  }

  /** The bytes at the end of a way; undefined where it leads nowhere. */
  read({ start, pointers, offset }: KernelPath, length: number): Buffer | undefined {
    // The program takes 0 for the thread.
    if (start === 0n) return undefined;
    const bytes = Buffer.alloc(length);
    for (let done = 0; done < length; done += PIECE_BYTES) {
      const some = Math.min(PIECE_BYTES, length - done);
      this.#context.writeBigUInt64LE(start === "task" ? 0n : start, 0);
      for (let i = 0; i < STEPS; i++) this.#context.writeBigInt64LE(BigInt(pointers[i] ?? NO_STEP), (i + 1) * 8);
      this.#context.writeBigInt64LE(BigInt(offset + done), LAST_WORD * 8);
      this.#context.writeBigUInt64LE(BigInt(some), LENGTH_WORD * 8);
      if (bpf(BPF_PROG_TEST_RUN, this.#run) < 0 || this.#run.readUInt32LE(4) !== 0) return undefined;
      if (bpf(BPF_MAP_LOOKUP_ELEM, this.#lookUp) < 0) return undefined;
      this.#piece.copy(bytes, done, 0, some);
    }
    return bytes;
  }

  close(): void {
    closeSync(this.#program);
    closeSync(this.#map);
  }
}
