/**
 * bpf(2): programs that go through what a process has (iterators, for one process alone since 6.1).
 *
 * Each is called for one object after another and writes what it is to say of them, which is read like a file. Source:
 * uapi/linux/bpf.h, Documentation/bpf/bpf_iterators.rst.
 */
import { BPF_TRACE_ITER, type Instruction, OP, assemble, bpf, loadProgram } from "./bpf-code.js";
import { kernelTypes } from "./btf.js";
import { checked, kernelError } from "./errno.js";
import { addressOf, syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";

const BPF_LINK_CREATE = 28;
const BPF_ITER_CREATE = 33;
export const BPF_FUNC_seq_write = 127;
const ATTR_BYTES = 128;
const LINK_INFO_BYTES = 16;
const READ_BYTES = 256 << 10;
/** Ten million mappings: no process has so many. */
const MAX_BYTES = 256 << 20;

/** struct bpf_iter__task_vma: meta, task, vma; struct bpf_iter_meta begins with the seq_file. */
const CONTEXT_VMA = 16;
/** start, end, flags. */
export const VMA_WORDS = 3;

function vmaProgram(offsets: readonly number[]): Buffer {
  const recordBytes = VMA_WORDS * 8;
  const copies = offsets.flatMap((offset, i): Instruction[] => [
    [OP.LOAD, 8, 7, offset, 0],
    [OP.STORE, 10, 8, i * 8 - recordBytes, 0],
  ]);
  return assemble([
    [OP.MOVE, 6, 1, 0, 0],
    [OP.LOAD, 7, 6, CONTEXT_VMA, 0],
    // After the last mapping there is a call without one.
    [OP.JUMP_IF_EQUAL, 7, 0, 0, 0, "end"],
    ...copies,
    [OP.LOAD, 1, 6, 0, 0], // ctx->meta
    [OP.LOAD, 1, 1, 0, 0], // meta->seq
    [OP.MOVE, 2, 10, 0, 0],
    [OP.ADD_CONSTANT, 2, 0, 0, -recordBytes],
    [OP.MOVE_CONSTANT, 3, 0, 0, recordBytes],
    [OP.CALL, 0, 0, 0, BPF_FUNC_seq_write],
    "end",
    [OP.MOVE_CONSTANT, 0, 0, 0, 0],
    [OP.EXIT, 0, 0, 0, 0],
  ]);
}

/**
 * The program that writes start, end and flags of each mapping, straight from struct vm_area_struct: /proc/PID/maps does not show the
 * flags, and for /proc/PID/smaps the kernel walks all page tables. `task_vma` is since 5.12. Undefined: see {@link loadProgram}.
 */
export function loadVmaProgram(): number | undefined {
  const types = kernelTypes({ function: "bpf_iter_task_vma", struct: "vm_area_struct", members: ["vm_start", "vm_end", "vm_flags"] });
  return types && loadProgram(vmaProgram(types.offsets), { name: "floe_vma", iterates: types.functionId });
}

let scratch = Buffer.alloc(READ_BYTES);

/** Start, end and flags of each mapping of a process, ascending: good until the next call. Throws KernelError. */
export function readVmaWords(program: number, pid: number): BigUint64Array {
  const read = readIterator(program, pid);
  if (read.length % (VMA_WORDS * 8) !== 0) throw kernelError(`read(mappings of ${pid})`, -5);
  return new BigUint64Array(read.buffer, read.byteOffset, read.length >> 3);
}

/** What a program says of a process: good until the next call. Throws KernelError. */
export function readIterator(program: number, pid: number): Buffer {
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
    return readLink(link, pid);
  } finally {
    syscallNumber(SYS.close, link);
  }
}

function readLink(link: number, pid: number): Buffer {
  const attr = Buffer.alloc(ATTR_BYTES);
  attr.writeUInt32LE(link, 0);
  const fd = checked(bpf(BPF_ITER_CREATE, attr), () => `bpf(BPF_ITER_CREATE, process ${pid})`);
  try {
    let length = 0;
    for (;;) {
      if (length === MAX_BYTES) throw kernelError(`read(iterator over ${pid})`, -7);
      if (length === scratch.length) scratch = Buffer.concat([scratch], scratch.length * 4);
      const got = checked(
        syscallNumber(SYS.read, fd, addressOf(scratch) + BigInt(length), scratch.length - length),
        () => `read(iterator over ${pid})`,
      );
      if (got === 0) break;
      length += got;
    }
    return scratch.subarray(0, length);
  } finally {
    syscallNumber(SYS.close, fd);
  }
}
