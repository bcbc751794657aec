/**
 * bpf(2): a program that goes through a linked list of the kernel's and copies what it finds, many objects at a call. As
 * `kernel-memory.ts`, it changes nothing and stops at an address that is none; nothing is locked.
 *
 * Objects lie one behind the other in what is copied: a head of the same length for all, then as many bytes as the head says (a name),
 * filled up to eight. Source: uapi/linux/bpf.h, linux/list.h.
 */
import { type Line, OP, assemble } from "./bpf-code.js";
import { BpfLook } from "./bpf-look.js";

const BPF_PSEUDO_MAP_VALUE = 2;
const BPF_FUNC_probe_read_kernel = 113;

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
  readonly #look: BpfLook;

  private constructor(look: BpfLook) {
    this.#look = look;
  }

  /** Undefined where the kernel cannot, or does not let us. */
  static open(shape: ListShape): KernelList | undefined {
    const sizes = { contextBytes: CONTEXT_BYTES, pieceBytes: PIECE_BYTES };
    const look = BpfLook.open({ name: "floe_list", ...sizes, program: (map) => program(map, shape) });
    return look && new KernelList(look);
  }

  /**
   * Copies objects from the place of one in the list on, until the place `end`; `next` is the place of the first that was not copied:
   * it has to be asked for by another call, or, when nothing was copied, its memory could not be read in one piece.
   */
  copy(place: bigint, end: bigint): { bytes: Buffer; next: bigint } | undefined {
    const { context, piece } = this.#look;
    context.writeBigUInt64LE(place, 0);
    context.writeBigUInt64LE(end, 8);
    if (this.#look.run() === undefined) return undefined;
    const used = Number(piece.readBigUInt64LE(USED_AT));
    if (used < START || used > PIECE_BYTES) return undefined;
    return { bytes: Buffer.from(piece.subarray(START, used)), next: piece.readBigUInt64LE(0) };
  }
}
