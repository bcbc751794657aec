/**
 * bpf(2) on maps; uapi/linux/bpf.h.
 */
import { ERRNO, checked } from "./errno.js";
import { addressOf, syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";

const BPF_MAP_CREATE = 0;
const BPF_MAP_GET_FD_BY_ID = 14;
const BPF_OBJ_GET_INFO_BY_FD = 15;
const BPF_MAP_FREEZE = 22;
const BPF_MAP_LOOKUP_BATCH = 24;
const BPF_MAP_UPDATE_BATCH = 26;

/** Types whose elements are plain data. */
export const BPF_MAP_TYPE = { HASH: 1, ARRAY: 2, PERCPU_HASH: 5, PERCPU_ARRAY: 6, LRU_HASH: 9, LRU_PERCPU_HASH: 10, LPM_TRIE: 11 } as const;
export const BPF_F_NUMA_NODE = 1 << 2;
export const BPF_F_RDONLY = 1 << 3;
export const BPF_F_WRONLY = 1 << 4;

const ATTR_BYTES = 128;
const INFO_BYTES = 88;
const NAME_BYTES = 16;

/** What a map is made with. */
export interface BpfMapShape {
  readonly type: number;
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly name: string;
  readonly extra: bigint;
}

/** Keys, then values, one behind another; `count` of each. */
export interface BpfElements {
  readonly keys: Buffer;
  readonly values: Buffer;
  readonly count: number;
}

function bpf(command: number, attr: Buffer): number {
  return syscallNumber(SYS.bpf, command, attr, attr.length);
}

/** BPF_MAP_CREATE — returns a close-on-exec descriptor. */
export function bpfMapCreate(shape: BpfMapShape): number {
  const attr = Buffer.alloc(ATTR_BYTES);
  [shape.type, shape.keyBytes, shape.valueBytes, shape.maxEntries, shape.flags].forEach((word, i) => attr.writeUInt32LE(word, i * 4));
  attr.write(shape.name.slice(0, NAME_BYTES - 1), 28, "latin1");
  attr.writeBigUInt64LE(shape.extra, 64);
  return checked(bpf(BPF_MAP_CREATE, attr), () => `bpf(BPF_MAP_CREATE, type ${shape.type})`);
}

/** BPF_MAP_GET_FD_BY_ID — `flags`: BPF_F_RDONLY, BPF_F_WRONLY, or 0 for both. */
export function bpfMapById(id: number, flags = 0): number {
  const attr = Buffer.alloc(ATTR_BYTES);
  attr.writeUInt32LE(id, 0);
  attr.writeUInt32LE(flags, 8);
  return checked(bpf(BPF_MAP_GET_FD_BY_ID, attr), () => `bpf(BPF_MAP_GET_FD_BY_ID, ${id})`);
}

/** BPF_OBJ_GET_INFO_BY_FD of a map. */
export function bpfMapInfo(fd: number): BpfMapShape & { readonly id: number; readonly ifindex: number; readonly btfId: number } {
  const info = Buffer.alloc(INFO_BYTES);
  const attr = Buffer.alloc(ATTR_BYTES);
  attr.writeUInt32LE(fd, 0);
  attr.writeUInt32LE(INFO_BYTES, 4);
  attr.writeBigUInt64LE(addressOf(info), 8);
  checked(bpf(BPF_OBJ_GET_INFO_BY_FD, attr), () => `bpf(BPF_OBJ_GET_INFO_BY_FD, ${fd})`);
  const word = (i: number) => info.readUInt32LE(i * 4);
  return {
    type: word(0),
    id: word(1),
    keyBytes: word(2),
    valueBytes: word(3),
    maxEntries: word(4),
    flags: word(5),
    name: info.toString("latin1", 24, 24 + NAME_BYTES).replace(/\0.*$/s, ""),
    ifindex: word(10),
    btfId: word(16),
    extra: info.readBigUInt64LE(80),
  };
}

/** BPF_MAP_FREEZE — programs in user space may not change it any more. */
export function bpfMapFreeze(fd: number): void {
  const attr = Buffer.alloc(ATTR_BYTES);
  attr.writeUInt32LE(fd, 0);
  checked(bpf(BPF_MAP_FREEZE, attr), () => `bpf(BPF_MAP_FREEZE, ${fd})`);
}

function batch(fd: number, at: { in: Buffer | undefined; out: Buffer; keys: Buffer; values: Buffer; count: number }): Buffer {
  const attr = Buffer.alloc(ATTR_BYTES);
  if (at.in !== undefined) attr.writeBigUInt64LE(addressOf(at.in), 0);
  attr.writeBigUInt64LE(addressOf(at.out), 8);
  attr.writeBigUInt64LE(addressOf(at.keys), 16);
  attr.writeBigUInt64LE(addressOf(at.values), 24);
  attr.writeUInt32LE(at.count, 32);
  attr.writeUInt32LE(fd, 36);
  return attr;
}

/** BPF_MAP_LOOKUP_BATCH — all elements. `valueBytes`: of one element as user space sees it (of all processors, where each has its own). */
export function bpfMapElements(fd: number, shape: BpfMapShape, valueBytes: number): BpfElements {
  // A chain of a hash table is given whole or not at all, so there is room for more than there can be.
  const room = shape.maxEntries + 64;
  const keys = Buffer.alloc(room * shape.keyBytes);
  const values = Buffer.alloc(room * valueBytes);
  let position: Buffer | undefined;
  let count = 0;
  for (;;) {
    const out = Buffer.alloc(Math.max(8, shape.keyBytes));
    const rest = { keys: keys.subarray(count * shape.keyBytes), values: values.subarray(count * valueBytes) };
    const attr = batch(fd, { in: position, out, ...rest, count: room - count });
    const got = bpf(BPF_MAP_LOOKUP_BATCH, attr);
    if (got < 0 && got !== -ERRNO.ENOENT) checked(got, () => `bpf(BPF_MAP_LOOKUP_BATCH, ${fd})`);
    count += attr.readUInt32LE(32);
    if (got < 0 || count >= room) break;
    position = out;
  }
  return { keys: keys.subarray(0, count * shape.keyBytes), values: values.subarray(0, count * valueBytes), count };
}

/** BPF_MAP_UPDATE_BATCH — puts elements in. */
export function bpfMapFill(fd: number, { keys, values, count }: BpfElements): void {
  if (count === 0) return;
  const attr = batch(fd, { in: undefined, out: Buffer.alloc(8), keys, values, count });
  checked(bpf(BPF_MAP_UPDATE_BATCH, attr), () => `bpf(BPF_MAP_UPDATE_BATCH, ${fd}, ${count} elements)`);
}
