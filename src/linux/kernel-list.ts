/**
 * bpf(2): a program that goes through a linked list of the kernel's and copies what it finds, many objects at a call. As
 * `kernel-memory.ts`, it changes nothing and stops at an address that is none; nothing is locked.
 *
 * Objects lie one behind the other in what is copied: a head of the same length for all, then as many bytes as the head says (a name),
 * filled up to eight. Source: uapi/linux/bpf.h, linux/list.h.
 */
import { closeSync } from "node:fs";
import { KernelError } from "../errors.js";
import { BPF_MAP_TYPE, bpfMapCreate } from "./bpf.js";
import { type Line, OP, assemble, bpf, loadProgram } from "./bpf-code.js";
import { addressOf } from "./ffi/native.unsafe.js";

const BPF_MAP_LOOKUP_ELEM = 1;
const BPF_PROG_TEST_RUN = 10;
const BPF_PSEUDO_MAP_VALUE = 2;
const BPF_FUNC_probe_read_kernel = 113;
const ATTR_BYTES = 128;

/** What one run copies at most, behind the place that it has come to and the number of its bytes. */
const PIECE_BYTES = 64 << 10;
const USED_AT = 8;
const START = 16;
/** The verifier walks through all rounds of the loop. */
const ROUNDS = 256;
/** The place to begin at, and the one to end at: the head of the list, which is part of no object. */
const CONTEXT_BYTES = 16;
/** The length of the tail is a byte's. */
const MOST_TAIL_BYTES = 255;

/** How objects of a list lie in memory; the tail is behind the head. */
export interface ListShape {
  /** Of struct list_head in an object. */
  readonly placeAt: number;
  /** Of the 32 bits in its head that say how long its tail is. */
  readonly lengthAt: number;
  readonly headBytes: number;
}

/** Bytes of an object in what is copied. */
export const copiedBytes = ({ headBytes }: ListShape, tailBytes: number): number => (headBytes + tailBytes + 7) & ~7;

/** Registers: 6 the words, 7 the place in the list, 8 bytes copied so far, 9 rounds. */
function program(map: number, { placeAt, lengthAt, headBytes }: ListShape): Buffer {
  const most = headBytes + MOST_TAIL_BYTES;
  const toMap = (register: number): Line[] => [
    [OP.LOAD_WIDE, register, BPF_PSEUDO_MAP_VALUE, 0, map],
    [0, 0, 0, 0, 0],
  ];
  return assemble([
    [OP.MOVE, 6, 1, 0, 0],
    [OP.LOAD, 7, 6, 0, 0],
    [OP.MOVE_CONSTANT, 8, 0, 0, START],
    [OP.MOVE_CONSTANT, 9, 0, 0, 0],
    "object",
    [OP.JUMP_IF_EQUAL, 9, 0, 0, ROUNDS, "end"],
    [OP.LOAD, 3, 6, 8, 0],
    [OP.JUMP_IF_SAME, 7, 3, 0, 0, "end"],
    [OP.JUMP_IF_ABOVE, 8, 0, 0, PIECE_BYTES - most, "end"],
    ...toMap(1),
    [OP.ADD, 1, 8, 0, 0],
    [OP.MOVE_CONSTANT, 2, 0, 0, most],
    [OP.MOVE, 3, 7, 0, 0],
    [OP.ADD_CONSTANT, 3, 0, 0, -placeAt],
    [OP.CALL, 0, 0, 0, BPF_FUNC_probe_read_kernel],
    [OP.JUMP_UNLESS_EQUAL, 0, 0, 0, 0, "end"],
    ...toMap(1),
    [OP.ADD, 1, 8, 0, 0],
    [OP.LOAD, 7, 1, placeAt, 0],
    [OP.LOAD_INT, 2, 1, lengthAt, 0],
    [OP.AND_CONSTANT, 2, 0, 0, MOST_TAIL_BYTES],
    [OP.ADD_CONSTANT, 2, 0, 0, headBytes + 7],
    [OP.AND_CONSTANT, 2, 0, 0, ~7],
    [OP.ADD, 8, 2, 0, 0],
    [OP.ADD_CONSTANT, 9, 0, 0, 1],
    [OP.JUMP, 0, 0, 0, 0, "object"],
    "end",
    ...toMap(1),
    [OP.STORE, 1, 7, 0, 0],
    [OP.STORE, 1, 8, USED_AT, 0],
    [OP.MOVE, 0, 9, 0, 0],
    [OP.EXIT, 0, 0, 0, 0],
  ]);
}

/** Copies lists of objects of one shape. */
export class KernelList {
  readonly #context = Buffer.alloc(CONTEXT_BYTES);
  readonly #run = Buffer.alloc(ATTR_BYTES);
  readonly #lookUp = Buffer.alloc(ATTR_BYTES);
  readonly #key = Buffer.alloc(4);
  readonly #piece = Buffer.alloc(PIECE_BYTES);

  private constructor(map: number, loaded: number) {
    this.#run.writeUInt32LE(loaded, 0);
    this.#run.writeUInt32LE(CONTEXT_BYTES, 40);
    this.#run.writeBigUInt64LE(addressOf(this.#context), 48);
    this.#lookUp.writeUInt32LE(map, 0);
    this.#lookUp.writeBigUInt64LE(addressOf(this.#key), 8);
    this.#lookUp.writeBigUInt64LE(addressOf(this.#piece), 16);
  }

  /** Undefined where the kernel cannot, or does not let us. */
  static open(shape: ListShape): KernelList | undefined {
    let map: number;
    try {
      const values = { keyBytes: 4, valueBytes: PIECE_BYTES, maxEntries: 1, flags: 0, name: "floe_list", extra: 0n };
      map = bpfMapCreate({ type: BPF_MAP_TYPE.ARRAY, ...values });
    } catch (error) {
      if (error instanceof KernelError) return undefined;
      throw error;
    }
    const loaded = loadProgram(program(map, shape), { name: "floe_list" });
    if (loaded !== undefined) return new KernelList(map, loaded);
    closeSync(map);
    return undefined;
  }

  /**
   * Copies objects from the place of one in the list on, until the place `end`; `next` is the place of the first that was not copied:
   * it has to be asked for by another call, or, when nothing was copied, its memory could not be read in one piece.
   */
  copy(place: bigint, end: bigint): { bytes: Buffer; next: bigint } | undefined {
    this.#context.writeBigUInt64LE(place, 0);
    this.#context.writeBigUInt64LE(end, 8);
    if (bpf(BPF_PROG_TEST_RUN, this.#run) < 0 || bpf(BPF_MAP_LOOKUP_ELEM, this.#lookUp) < 0) return undefined;
    const used = Number(this.#piece.readBigUInt64LE(USED_AT));
    if (used < START || used > PIECE_BYTES) return undefined;
    return { bytes: Buffer.from(this.#piece.subarray(START, used)), next: this.#piece.readBigUInt64LE(0) };
  }
}
