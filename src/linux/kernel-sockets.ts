/**
 * What the kernel keeps of a socket and tells nobody, read from its memory (`kernel-view.ts`).
 *
 * A socket is found by a descriptor of our own. Nothing is locked: what is read is good only while nobody uses the socket. Every
 * queue and length has a limit. Structures: include/net/sock.h, inet_sock.h, linux/skbuff.h; where their members lie is known from BTF.
 */
import type { StructsWanted } from "./btf.js";
import { KernelPages } from "./kernel-pages.js";
import { KernelView, POINTER_BYTES, sightOf } from "./kernel-view.js";

const STRUCTS = {
  task_struct: ["thread_pid"],
  socket: ["sk"],
  sock: ["sk_receive_queue", "sk_write_queue", "sk_reuseport_cb", "sk_peer_pid", "sk_peer_cred", "sk_err", "sk_error_queue", "sk_policy?"],
  sk_buff_head: ["next", "qlen"],
  sk_buff: ["next", "sk", "len", "data_len", "head", "data", "tail", "end", "network_header", "transport_header", "cb"],
  skb_shared_info: ["nr_frags", "frag_list", "frags"],
  page: [],
} as const;
/** The piece of a page in a buffer: under its name since 6.9, and as it was before. */
const FRAGS = { skb_frag: ["netmem", "len", "offset"], bio_vec: ["bv_page", "bv_len", "bv_offset"] } as const;

/** sk_buff.cb. */
const CONTROL_BYTES = 48;
/** More buffers than any queue has that is looked at here. */
const MOST_BUFFERS = 100_000;
/** More than a buffer of a datagram has: 64 KiB of data, and headers. */
const MOST_BYTES = 1 << 17;
/** MAX_SKB_FRAGS is 17 unless it was configured; never more than this. */
const MOST_FRAGS = 45;

/** A buffer in a queue, struct sk_buff. */
export interface KernelBuffer {
  /** Bytes between `data` and the end. */
  readonly length: number;
  /** Offsets from the beginning of its memory. */
  readonly data: number;
  readonly network: number;
  readonly transport: number;
  readonly memory: Buffer;
  /** Its control block, which belongs to whoever has the buffer. */
  readonly control: Buffer;
  /** What comes behind its memory, in pages. */
  readonly pages: Buffer;
}

export class KernelSockets extends KernelView {
  #pages: KernelPages | undefined;

  /** Undefined where the kernel has no type information, or lets us read nothing. `more`: structs that the caller may do without. */
  static open(more: StructsWanted): KernelSockets | undefined {
    const sight = sightOf(STRUCTS, { ...FRAGS, ...more });
    return sight && new KernelSockets(sight);
  }

  /** Address of struct sock of a socket of ours. */
  find(fd: number): bigint | undefined {
    const pointers = [...this.toFile(fd), this.at("file", "private_data")];
    const found = this.memory.read({ start: "task", pointers, offset: this.at("socket", "sk") }, POINTER_BYTES)?.readBigUInt64LE(0);
    return found === 0n ? undefined : found;
  }

  /** Address of struct file of a descriptor of ours. */
  fileOf(fd: number): bigint | undefined {
    const pointers = this.toFile(fd);
    return this.memory.read({ start: "task", pointers, offset: pointers.pop() ?? 0 }, POINTER_BYTES)?.readBigUInt64LE(0);
  }

  override read(address: bigint, length: number): Buffer | undefined {
    return length < 0 || length > MOST_BYTES ? undefined : super.read(address, length);
  }

  /** How many buffers there are in a queue (struct sk_buff_head) at an address. */
  count(queue: bigint): number | undefined {
    return this.read(queue, this.sizeOf("sk_buff_head"))?.readUInt32LE(this.at("sk_buff_head", "qlen"));
  }

  /** Addresses of the buffers of a queue, in order. */
  queue(queue: bigint): bigint[] | undefined {
    const buffers: bigint[] = [];
    const next = this.at("sk_buff", "next");
    for (let at = this.pointer(queue + BigInt(this.at("sk_buff_head", "next"))); at !== queue; at = this.pointer(at + BigInt(next))) {
      if (at === undefined || at === 0n || buffers.length === MOST_BUFFERS) return undefined;
      buffers.push(at);
    }
    return buffers;
  }

  /** Length of a buffer. */
  lengthOf(address: bigint): number | undefined {
    return this.read(address + BigInt(this.at("sk_buff", "len")), 4)?.readUInt32LE(0);
  }

  /** A buffer with all that is in it; undefined when it is of a kind that is not understood. */
  buffer(address: bigint): KernelBuffer | undefined {
    const head = this.read(address, this.sizeOf("sk_buff"));
    if (head === undefined) return undefined;
    const word = (member: string) => head.readUInt32LE(this.at("sk_buff", member));
    const pointer = (member: string) => head.readBigUInt64LE(this.at("sk_buff", member));
    const short = (member: string) => head.readUInt16LE(this.at("sk_buff", member));
    const start = pointer("head");
    const memory = this.read(start, word("tail"));
    const shared = this.read(start + BigInt(word("end")), this.sizeOf("skb_shared_info"));
    if (memory === undefined || shared === undefined) return undefined;
    const pages = this.#inPages(shared);
    if (pages === undefined || pages.length !== word("data_len")) return undefined;
    const control = this.at("sk_buff", "cb");
    return {
      length: word("len"),
      data: Number(pointer("data") - start),
      network: short("network_header"),
      transport: short("transport_header"),
      memory,
      control: head.subarray(control, control + CONTROL_BYTES),
      pages,
    };
  }

  #inPages(shared: Buffer): Buffer | undefined {
    const count = shared.readUInt8(this.at("skb_shared_info", "nr_frags"));
    if (shared.readBigUInt64LE(this.at("skb_shared_info", "frag_list")) !== 0n || count > MOST_FRAGS) return undefined;
    if (count === 0) return Buffer.alloc(0);
    const frag = this.layout["skb_frag"] ?? this.layout["bio_vec"];
    if (frag === undefined) return undefined;
    const [page = 0, length = 0, offset = 0] = Object.values(frag.at);
    this.#pages ??= KernelPages.learn(this, this.sizeOf("page"));
    const pieces: Buffer[] = [];
    for (let i = 0; i < count; i++) {
      const at = this.at("skb_shared_info", "frags") + i * frag.sizeBytes;
      const [address, from, bytes] = [
        shared.readBigUInt64LE(at + page),
        shared.readUInt32LE(at + offset),
        shared.readUInt32LE(at + length),
      ];
      const virtual = this.#pages?.addressOf(address);
      const piece = virtual === undefined ? undefined : this.read(virtual + BigInt(from), bytes);
      if (piece === undefined) return undefined;
      pieces.push(piece);
    }
    return Buffer.concat(pieces);
  }

  /** The page pointers of a buffer, as they stand there; for those who learn what they mean. */
  pagesOf(address: bigint): { page: bigint; offset: number; length: number; head: bigint }[] {
    const head = this.read(address, this.sizeOf("sk_buff"));
    const frag = this.layout["skb_frag"] ?? this.layout["bio_vec"];
    if (head === undefined || frag === undefined) return [];
    const start = head.readBigUInt64LE(this.at("sk_buff", "head"));
    const end = head.readUInt32LE(this.at("sk_buff", "end"));
    const shared = this.read(start + BigInt(end), this.sizeOf("skb_shared_info"));
    const count = Math.min(MOST_FRAGS, shared?.readUInt8(this.at("skb_shared_info", "nr_frags")) ?? 0);
    const [page = 0, length = 0, offset = 0] = Object.values(frag.at);
    return Array.from({ length: count }, (_, i) => {
      const at = this.at("skb_shared_info", "frags") + i * frag.sizeBytes;
      return {
        page: shared?.readBigUInt64LE(at + page) ?? 0n,
        offset: shared?.readUInt32LE(at + offset) ?? 0,
        length: shared?.readUInt32LE(at + length) ?? 0,
        head: start,
      };
    });
  }
}
