/**
 * Messages between a sender of pages, a page server and a lazy-pages daemon, as bytes.
 *
 * A message is { u32 command, nr_pages, u64 vaddr, u64 dst_id }, little-endian. The number of pages has 32 bits with CRIU up
 * to 4.1, which makes 24 bytes; 64 bits from 4.2 on, behind four bytes of padding, which makes 32. Who is asked finds out by
 * the first message; who asks begins with the short form (see `connect.ts`).
 */
export const COMMAND = {
  ADD: 1,
  HOLE: 2,
  OPEN: 3,
  /** Answered by one byte: whether there are images of the dump before. */
  OPEN2: 4,
  /** Answered by an int: whether there are images of the dump before. With {@link SAME_PAGES} as number of pages: see there. */
  PARENT: 5,
  /** The high 16 bits of the command are flags of a pagemap entry; the bytes of the pages follow when they are PRESENT. */
  ADD_F: 6,
  /** Answered by ADD_F and the bytes. */
  GET: 7,
  /** Answered by an int when everything before is safe. */
  CLOSE: 0x1023,
  FORCE_CLOSE: 0x1024,
} as const;

/**
 * In place of the number of pages of a PARENT, which CRIU does not look at: whether the pages of the dump before are those for which
 * the address stands (`digests.ts`). {@link SAME_PAGES_YES} is an answer that CRIU never gives.
 */
export const SAME_PAGES = 0x464c4f45n;
export const SAME_PAGES_YES = 2;

/** Flags of pages in an ADD_F: those of pagemap_entry. */
const FLAG_SHIFT = 16;
const COMMAND_MASK = 0xffff;

export const SHORT_BYTES = 24;
export const LONG_BYTES = 32;
export type MessageForm = typeof SHORT_BYTES | typeof LONG_BYTES;

/** Which pagemap pages belong to: low 8 bits of dst_id, the number above. */
const PROCESS = 1;
const OBJECT = 2;

export interface PageMessage {
  readonly command: number;
  /** Flags of pagemap_entry, of ADD_F. */
  readonly flags: number;
  readonly pages: bigint;
  readonly vaddr: bigint;
  readonly dst: bigint;
}

/** A process or a shared object, as a pagemap is named. */
export interface PagesOf {
  readonly kind: "PAGEMAP" | "SHMEM_PAGEMAP";
  readonly id: bigint;
}

export function encodeMessage(message: Partial<PageMessage> & { readonly command: number }, form: MessageForm): Buffer {
  const { command, flags = 0, pages = 0n, vaddr = 0n, dst = 0n } = message;
  const bytes = Buffer.alloc(form);
  bytes.writeUInt32LE((command | (flags << FLAG_SHIFT)) >>> 0, 0);
  if (form === SHORT_BYTES) bytes.writeUInt32LE(Number(pages), 4);
  else bytes.writeBigUInt64LE(pages, 8);
  bytes.writeBigUInt64LE(vaddr, form - 16);
  bytes.writeBigUInt64LE(dst, form - 8);
  return bytes;
}

export function decodeMessage(bytes: Buffer): PageMessage {
  const word = bytes.readUInt32LE(0);
  const isShort = bytes.length === SHORT_BYTES;
  return {
    command: word & COMMAND_MASK,
    flags: word >>> FLAG_SHIFT,
    pages: isShort ? BigInt(bytes.readUInt32LE(4)) : bytes.readBigUInt64LE(8),
    vaddr: bytes.readBigUInt64LE(bytes.length - 16),
    dst: bytes.readBigUInt64LE(bytes.length - 8),
  };
}

/** The form of a stream by the first 24 bytes of its first message; undefined: either, so there may be no more bytes. */
export function formOf(first: Buffer): MessageForm | undefined {
  const command = first.readUInt32LE(0) & COMMAND_MASK;
  if (command === COMMAND.CLOSE || command === COMMAND.FORCE_CLOSE) return undefined;
  // A number of pages, where a long message has padding; or a destination, where it has the address 0 of a message without pages.
  if (first.readUInt32LE(4) !== 0) return SHORT_BYTES;
  const hasPages = command === COMMAND.ADD || command === COMMAND.ADD_F || command === COMMAND.HOLE || command === COMMAND.GET;
  if (hasPages) return LONG_BYTES;
  return first.readBigUInt64LE(16) === 0n ? LONG_BYTES : SHORT_BYTES;
}

export function encodeDestination({ kind, id }: PagesOf): bigint {
  return (id << 8n) | BigInt(kind === "PAGEMAP" ? PROCESS : OBJECT);
}

/** undefined: neither a process nor an object. */
export function decodeDestination(dst: bigint): PagesOf | undefined {
  const id = dst >> 8n;
  switch (Number(dst & 0xffn)) {
    case PROCESS:
      return { kind: "PAGEMAP", id };
    case OBJECT:
      return { kind: "SHMEM_PAGEMAP", id };
    default:
      return undefined;
  }
}
