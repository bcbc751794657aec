/**
 * bpf(2): programs, put together from instructions, and loaded; struct bpf_insn and union bpf_attr of uapi/linux/bpf.h.
 */
import { addressOf, syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";

const BPF_PROG_LOAD = 5;
const BPF_PROG_TYPE_TRACING = 26;
const ATTR_BYTES = 128;
const INSTRUCTION_BYTES = 8;

/** Of a program that goes through objects of the kernel. */
export const BPF_TRACE_ITER = 28;
export const BPF_PROG_TYPE_RAW_TRACEPOINT = 17;

/** Instructions: BPF_ALU64, BPF_JMP, BPF_LDX and BPF_STX with their operands. */
export const OP = {
  LOAD: 0x79,
  LOAD_INT: 0x61,
  LOAD_WIDE: 0x18,
  STORE: 0x7b,
  STORE_CONSTANT: 0x7a,
  MOVE: 0xbf,
  MOVE_CONSTANT: 0xb7,
  ADD: 0x0f,
  ADD_CONSTANT: 0x07,
  OR: 0x4f,
  AND_CONSTANT: 0x57,
  SHIFT_LEFT_CONSTANT: 0x67,
  SHIFT_RIGHT: 0x7f,
  SHIFT_RIGHT_CONSTANT: 0x77,
  MULTIPLY_CONSTANT: 0x27,
  JUMP: 0x05,
  JUMP_IF_EQUAL: 0x15,
  JUMP_IF_SAME: 0x1d,
  JUMP_UNLESS_EQUAL: 0x55,
  JUMP_IF_ABOVE: 0x25,
  JUMP_IF_LESS: 0xc5,
  CALL: 0x85,
  EXIT: 0x95,
} as const;

/** struct bpf_insn. */
export type Instruction = readonly [code: number, destination: number, source: number, offset: number, immediate: number];
/** An instruction, whose jump may lead to a named place; or such a place. */
export type Line = Instruction | readonly [...Instruction, to: string] | string;

export function assemble(lines: readonly Line[]): Buffer {
  const places = new Map<string, number>();
  const instructions: Exclude<Line, string>[] = [];
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

/** bpf(2), with what the command takes. */
export const bpf = (command: number, attr: Buffer): number => syscallNumber(SYS.bpf, command, attr, attr.length);

/**
 * BPF_PROG_LOAD — a close-on-exec descriptor of the program; undefined where the kernel does not have it or let us. `iterates`: BTF id of
 * the function that says what an iterator goes through.
 */
export function loadProgram(code: Buffer, { name, iterates }: { name: string; iterates?: number }): number | undefined {
  // The helpers that are called are for programs that say they may be used under the GPL as well.
  const license = Buffer.from("Dual MIT/GPL\0");
  const attr = Buffer.alloc(ATTR_BYTES);
  attr.writeUInt32LE(iterates === undefined ? BPF_PROG_TYPE_RAW_TRACEPOINT : BPF_PROG_TYPE_TRACING, 0);
  attr.writeUInt32LE(code.length / INSTRUCTION_BYTES, 4);
  attr.writeBigUInt64LE(addressOf(code), 8);
  attr.writeBigUInt64LE(addressOf(license), 16);
  attr.write(name, 48, "latin1");
  if (iterates !== undefined) {
    attr.writeUInt32LE(BPF_TRACE_ITER, 68);
    attr.writeUInt32LE(iterates, 108);
  }
  const fd = bpf(BPF_PROG_LOAD, attr);
  return fd < 0 ? undefined : fd;
}
