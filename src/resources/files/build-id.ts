/**
 * The build id of an ELF file: how a later run recognises the very same program or library.
 *
 * Source: elf(5); note NT_GNU_BUILD_ID of owner "GNU" in a PT_NOTE segment.
 */
import { closeSync, constants, readSync } from "node:fs";
import { openToLook } from "../watches/listeners.js";

const HEAD_BYTES = 4096;
const PT_NOTE = 4;
const NT_GNU_BUILD_ID = 3;
const MAX_NOTE_BYTES = 64 << 10;

/** The build id as 32-bit words in memory order, as images have it; undefined when the file has none. `isHeard`: somebody would be told of a plain look. */
export function readBuildId(path: string, isHeard = false): number[] | undefined {
  // Looking must not show: the time of last access stays.
  const fd = openToLook(path, { isHeard, flags: constants.O_RDONLY | constants.O_NOATIME });
  if (fd === undefined) return undefined;
  try {
    return fromElf(fd);
  } finally {
    closeSync(fd);
  }
}

function fromElf(fd: number): number[] | undefined {
  const head = Buffer.alloc(HEAD_BYTES);
  const got = readSync(fd, head, 0, HEAD_BYTES, 0);
  if (got < 64 || head.readUInt32BE(0) !== 0x7f454c46 || head[5] !== 1) return undefined;
  const is64 = head[4] === 2;
  const table = is64 ? Number(head.readBigUInt64LE(32)) : head.readUInt32LE(28);
  const entryBytes = head.readUInt16LE(is64 ? 54 : 42);
  const entries = head.readUInt16LE(is64 ? 56 : 44);
  for (let i = 0; i < entries; i++) {
    const at = table + i * entryBytes;
    if (at + entryBytes > got || head.readUInt32LE(at) !== PT_NOTE) continue;
    const offset = is64 ? Number(head.readBigUInt64LE(at + 8)) : head.readUInt32LE(at + 4);
    const size = is64 ? Number(head.readBigUInt64LE(at + 32)) : head.readUInt32LE(at + 16);
    const id = fromNotes(fd, { head, got, offset, size });
    if (id !== undefined) return id;
  }
  return undefined;
}

function fromNotes(fd: number, where: { head: Buffer; got: number; offset: number; size: number }): number[] | undefined {
  if (where.size > MAX_NOTE_BYTES) return undefined;
  let notes = where.head.subarray(where.offset, where.offset + where.size);
  if (where.offset + where.size > where.got) {
    notes = Buffer.alloc(where.size);
    if (readSync(fd, notes, 0, where.size, where.offset) !== where.size) return undefined;
  }
  for (let at = 0; at + 12 <= notes.length; ) {
    const nameBytes = notes.readUInt32LE(at);
    const idBytes = notes.readUInt32LE(at + 4);
    const start = at + 12 + ((nameBytes + 3) & ~3);
    if (
      notes.readUInt32LE(at + 8) === NT_GNU_BUILD_ID &&
      notes.toString("latin1", at + 12, at + 15) === "GNU" &&
      start + idBytes <= notes.length
    ) {
      const padded = Buffer.alloc((idBytes + 3) & ~3);
      notes.copy(padded, 0, start, start + idBytes);
      return Array.from({ length: padded.length / 4 }, (_, i) => padded.readUInt32LE(i * 4));
    }
    at = start + ((idBytes + 3) & ~3);
  }
  return undefined;
}
