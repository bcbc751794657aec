/**
 * bpf(2): a program that goes through the mappings of a process (`task_vma` iterator, since 5.12; one process alone since 6.1).
 *
 * It writes start, end and flags of each mapping, straight from struct vm_area_struct: /proc/PID/maps does not show the
 * flags, and for /proc/PID/smaps the kernel walks all page tables. Source: uapi/linux/bpf.h, Documentation/bpf/bpf_iterators.rst.
 */
import { kernelTypes } from "./btf.js";
import { checked, kernelError } from "./errno.js";
import { addressOf, syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";

const BPF_PROG_LOAD = 5;
const BPF_LINK_CREATE = 28;
const BPF_ITER_CREATE = 33;
const BPF_PROG_TYPE_TRACING = 26;
const BPF_TRACE_ITER = 28;
const BPF_FUNC_seq_write = 127;
const ATTR_BYTES = 128;
const LINK_INFO_BYTES = 16;
const INSTRUCTION_BYTES = 8;
const READ_BYTES = 256 << 10;
/** Ten million mappings: no process has so many. */
const MAX_BYTES = 256 << 20;

/** struct bpf_iter__task_vma: meta, task, vma; struct bpf_iter_meta begins with the seq_file. */
const CONTEXT_VMA = 16;
/** start, end, flags. */
export const VMA_WORDS = 3;

/** One instruction; struct bpf_insn. */
type Instruction = readonly [code: number, destination: number, source: number, offset: number, immediate: number];
const LOAD = 0x79;
const STORE = 0x7b;
const MOVE = 0xbf;
const MOVE_CONSTANT = 0xb7;
const ADD_CONSTANT = 0x07;
const JUMP_IF_EQUAL = 0x15;
const CALL = 0x85;
const EXIT = 0x95;

function vmaProgram(offsets: readonly number[]): Buffer {
  const recordBytes = VMA_WORDS * 8;
  const copies = offsets.flatMap((offset, i): Instruction[] => [
    [LOAD, 8, 7, offset, 0],
    [STORE, 10, 8, i * 8 - recordBytes, 0],
  ]);
  const write: Instruction[] = [
    [LOAD, 1, 6, 0, 0], // ctx->meta
    [LOAD, 1, 1, 0, 0], // meta->seq
    [MOVE, 2, 10, 0, 0],
    [ADD_CONSTANT, 2, 0, 0, -recordBytes],
    [MOVE_CONSTANT, 3, 0, 0, recordBytes],
    [CALL, 0, 0, 0, BPF_FUNC_seq_write],
  ];
  const instructions: Instruction[] = [
    [MOVE, 6, 1, 0, 0],
    [LOAD, 7, 6, CONTEXT_VMA, 0],
    // After the last mapping there is a call without one.
    [JUMP_IF_EQUAL, 7, 0, copies.length + write.length, 0],
    ...copies,
    ...write,
    [MOVE_CONSTANT, 0, 0, 0, 0],
    [EXIT, 0, 0, 0, 0],
  ];
  const code = Buffer.alloc(instructions.length * INSTRUCTION_BYTES);
  instructions.forEach(([operation, destination, source, offset, immediate], i) => {
    const at = i * INSTRUCTION_BYTES;
    code.writeUInt8(operation, at);
    code.writeUInt8(destination | (source << 4), at + 1);
    code.writeInt16LE(offset, at + 2);
    code.writeInt32LE(immediate, at + 4);
  });
  return code;
}

function bpf(command: number, attr: Buffer): number {
  return syscallNumber(SYS.bpf, command, attr, attr.length);
}

/** BPF_PROG_LOAD — a close-on-exec descriptor of the program; undefined where the kernel does not have it or let us. */
export function loadVmaProgram(): number | undefined {
  const types = kernelTypes({ function: "bpf_iter_task_vma", struct: "vm_area_struct", members: ["vm_start", "vm_end", "vm_flags"] });
  if (types === undefined) return undefined;
  const code = vmaProgram(types.offsets);
  // bpf_seq_write(3bpf) is for programs that say they may be used under the GPL as well.
  const license = Buffer.from("Dual MIT/GPL\0");
  const attr = Buffer.alloc(ATTR_BYTES);
  attr.writeUInt32LE(BPF_PROG_TYPE_TRACING, 0);
  attr.writeUInt32LE(code.length / INSTRUCTION_BYTES, 4);
  attr.writeBigUInt64LE(addressOf(code), 8);
  attr.writeBigUInt64LE(addressOf(license), 16);
  attr.write("floe_vma", 48, "latin1");
  attr.writeUInt32LE(BPF_TRACE_ITER, 68);
  attr.writeUInt32LE(types.functionId, 108);
  const fd = bpf(BPF_PROG_LOAD, attr);
  return fd < 0 ? undefined : fd;
}

let scratch = Buffer.alloc(READ_BYTES);

/** Start, end and flags of each mapping of a process, ascending: good until the next call. Throws KernelError. */
export function readVmaWords(program: number, pid: number): BigUint64Array {
  const which = Buffer.alloc(LINK_INFO_BYTES);
  // Not by the id of a thread: an iterator over one thread began again and again when there was more than a read's worth (6.18).
  which.writeUInt32LE(pid, 4);
  const attr = Buffer.alloc(ATTR_BYTES);
  attr.writeUInt32LE(program, 0);
  attr.writeUInt32LE(BPF_TRACE_ITER, 8);
  attr.writeBigUInt64LE(addressOf(which), 16);
  attr.writeUInt32LE(which.length, 24);
  const link = checked(bpf(BPF_LINK_CREATE, attr), () => `bpf(BPF_LINK_CREATE, process ${pid})`);
  try {
    return readIterator(link, pid);
  } finally {
    syscallNumber(SYS.close, link);
  }
}

function readIterator(link: number, pid: number): BigUint64Array {
  const attr = Buffer.alloc(ATTR_BYTES);
  attr.writeUInt32LE(link, 0);
  const fd = checked(bpf(BPF_ITER_CREATE, attr), () => `bpf(BPF_ITER_CREATE, process ${pid})`);
  try {
    let length = 0;
    for (;;) {
      if (length === MAX_BYTES) throw kernelError(`read(mappings of ${pid})`, -7);
      if (length === scratch.length) scratch = Buffer.concat([scratch], scratch.length * 4);
      const got = checked(
        syscallNumber(SYS.read, fd, addressOf(scratch) + BigInt(length), scratch.length - length),
        () => `read(mappings of ${pid})`,
      );
      if (got === 0) break;
      length += got;
    }
    if (length % (VMA_WORDS * 8) !== 0) throw kernelError(`read(mappings of ${pid})`, -5);
    return new BigUint64Array(scratch.buffer, scratch.byteOffset, length >> 3);
  } finally {
    syscallNumber(SYS.close, fd);
  }
}
