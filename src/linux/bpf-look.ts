/**
 * bpf(2): a program that is run when we ask for it, over some words of ours, and leaves what it finds in a map of one value. It is attached to
 * nothing. Source: uapi/linux/bpf.h.
 */
import { closeSync } from "node:fs";
import { KernelError } from "../errors.js";
import { BPF_MAP_TYPE, bpfMapCreate } from "./bpf.js";
import { bpf, loadProgram } from "./bpf-code.js";
import { addressOf } from "./ffi/native.unsafe.js";

const BPF_MAP_LOOKUP_ELEM = 1;
const BPF_PROG_TEST_RUN = 10;
const ATTR_BYTES = 128;

export interface LookShape {
  readonly name: string;
  /** What the program is given, and what it leaves. */
  readonly contextBytes: number;
  readonly pieceBytes: number;
  /** Its instructions; `map`: the descriptor of the map. */
  readonly program: (map: number) => Buffer;
}

export class BpfLook {
  /** What the program is given. */
  readonly context: Buffer;
  /** What it has left. */
  readonly piece: Buffer;
  readonly #map: number;
  readonly #program: number;
  readonly #key = Buffer.alloc(4);
  readonly #run = Buffer.alloc(ATTR_BYTES);
  readonly #lookUp = Buffer.alloc(ATTR_BYTES);

  private constructor(map: number, program: number, { contextBytes, pieceBytes }: LookShape) {
    this.#map = map;
    this.#program = program;
    this.context = Buffer.alloc(contextBytes);
    this.piece = Buffer.alloc(pieceBytes);
    this.#run.writeUInt32LE(program, 0);
    this.#run.writeUInt32LE(contextBytes, 40);
    this.#run.writeBigUInt64LE(addressOf(this.context), 48);
    this.#lookUp.writeUInt32LE(map, 0);
    this.#lookUp.writeBigUInt64LE(addressOf(this.#key), 8);
    this.#lookUp.writeBigUInt64LE(addressOf(this.piece), 16);
  }

  /** Undefined where the kernel cannot, or does not let us. */
  static open(shape: LookShape): BpfLook | undefined {
    const { name, pieceBytes } = shape;
    let map: number;
    try {
      map = bpfMapCreate({ type: BPF_MAP_TYPE.ARRAY, keyBytes: 4, valueBytes: pieceBytes, maxEntries: 1, flags: 0, name, extra: 0n });
    } catch (error) {
      if (error instanceof KernelError) return undefined;
      throw error;
    }
    const loaded = loadProgram(shape.program(map), { name });
    if (loaded !== undefined) return new BpfLook(map, loaded, shape);
    closeSync(map);
    return undefined;
  }

  /** Runs the program and takes what it has left; returns what the program returned, undefined when it could not be run. */
  run(): number | undefined {
    if (bpf(BPF_PROG_TEST_RUN, this.#run) < 0 || bpf(BPF_MAP_LOOKUP_ELEM, this.#lookUp) < 0) return undefined;
    return this.#run.readUInt32LE(4);
  }

  close(): void {
    closeSync(this.#program);
    closeSync(this.#map);
  }
}
