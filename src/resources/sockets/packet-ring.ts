/**
 * Rings of packet sockets: their contents, and the place where the kernel goes on in them.
 *
 * Read from   a mapping of ours of the socket
 * Made with   PACKET_RX_RING, PACKET_TX_RING; the contents through a mapping of ours. The kernel is brought to its place by
 *             packets of protocols of experiments (0x88b5, 0x88b6) that go round by the loopback device
 * Not kept    the numbers of blocks of version 3, which begin again; the place in a ring for sending when every frame has
 *             been used and none waits: it cannot be seen
 */
import { closeSync, readSync, writeSync } from "node:fs";
import { ImageError, KernelError } from "../../errors.js";
import { AF_PACKET } from "../../linux/addresses.js";
import { imageFileName } from "../../images/kinds.js";
import { MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap, ownMemory } from "../../linux/memory.js";
import { PACKET, type PacketRing, TPACKET, interfaceIndex, isInterfaceUp, linkAddress, setRing } from "../../linux/packet.js";
import { MSG_DONTWAIT, MSG_NOSIGNAL, SOCK_CLOEXEC, SOCK_RAW, bind, sendmsg, socket } from "../../linux/sockets.js";
import type { DumpSession, Fd, RestoreSession } from "../part.js";
import {
  activeBlock,
  BLOCK_HEAD_BYTES,
  alignedUp,
  blockAt,
  blockStart,
  emptyBlock,
  freeBlock,
  isFilled,
  markToSend,
  nextFrame,
  nextToSend,
  packetSizes,
  ringBytes,
  sendStatus,
} from "./packet-frames.js";
import type { PacketSockEntry } from "./packet.schema.js";

/** Protocols of IEEE 802 for experiments: what a socket is to receive, and what it sends. */
const EXPERIMENT = 0x88b5;
const OTHER_EXPERIMENT = 0x88b6;
const ETHERNET_BYTES = 14;
const LOOPBACK = "lo";
const ARRIVAL_MS = 200;
const nap = new Int32Array(new SharedArrayBuffer(4));

function withMapping<T>(fd: Fd, sizeBytes: number, action: (memory: Buffer) => T): T {
  const range = {
    address: mmap({ sizeBytes: BigInt(sizeBytes), protection: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd }),
    sizeBytes: BigInt(sizeBytes),
  };
  try {
    return action(ownMemory(range));
  } finally {
    munmap(range);
  }
}

/** Saves what is in the rings of a socket. */
export function saveRings(fd: Fd, entry: PacketSockEntry, session: DumpSession): void {
  const sizeBytes = ringBytes(entry.rx_ring, entry.tx_ring);
  if (sizeBytes === 0) return;
  const image = session.images.rawFile(imageFileName("FLOE_PACKET_RING", [entry.id]));
  withMapping(fd, sizeBytes, (memory) => {
    for (let done = 0; done < sizeBytes; ) done += writeSync(image, memory, done, sizeBytes - done, done);
  });
}

function savedRings(entry: PacketSockEntry, sizeBytes: number, session: RestoreSession): Buffer | undefined {
  if (!session.images.exists("FLOE_PACKET_RING", [entry.id])) return undefined;
  const file = imageFileName("FLOE_PACKET_RING", [entry.id]);
  const image = session.images.rawFile(file);
  const bytes = Buffer.alloc(sizeBytes);
  let done = 0;
  for (let got = 1; got > 0 && done < sizeBytes; done += got) got = readSync(image, bytes, done, sizeBytes - done, done);
  if (done === sizeBytes) return bytes;
  throw new ImageError({
    code: "IMAGE_BAD_VALUE",
    place: { file },
    because: `it has ${done} bytes where the rings of the socket have ${sizeBytes}`,
    remedy: ["Use an intact copy of the images directory", "Dump the process again"],
  });
}

/** Makes the rings of a socket that is not bound yet, and fills them. */
export function makeRings(fd: Fd, entry: PacketSockEntry, session: RestoreSession): void {
  const { rx_ring, tx_ring, version } = entry;
  if (rx_ring !== undefined) setRing(fd, PACKET.RX_RING, { ring: rx_ring, version });
  if (tx_ring !== undefined) setRing(fd, PACKET.TX_RING, { ring: tx_ring, version });
  const sizeBytes = ringBytes(rx_ring, tx_ring);
  const saved = sizeBytes === 0 ? undefined : savedRings(entry, sizeBytes, session);
  if (saved === undefined) return;
  withMapping(fd, sizeBytes, (memory) => {
    const at = ringBytes(rx_ring);
    const mover = new Mover(fd, entry);
    try {
      if (!mover.bring(memory, saved)) session.warn(`the ring of packet socket ${entry.id} goes on at its first frame: ${mover.why}`);
    } finally {
      mover.close();
    }
    const own = mover.ownHead;
    saved.copy(memory, at, at);
    // The block that is being filled comes last: until then it looks empty, and nothing happens to it.
    if (own === undefined) saved.copy(memory, 0, 0, at);
    else {
      saved.copy(memory, 0, 0, own.start);
      saved.copy(memory, own.end, own.end, at);
      if (own.isSaved) {
        saved.copy(memory, own.start + BLOCK_HEAD_BYTES, own.start + BLOCK_HEAD_BYTES, own.end);
        saved.copy(memory, own.start, own.start, own.start + BLOCK_HEAD_BYTES);
      }
    }
  });
}

const LARGEST_PACKET = 32 << 10;
const SMALLEST_PACKET = 60;

/** Brings the kernel to where it was in the rings of a socket. */
class Mover {
  readonly #fd: Fd;
  readonly #entry: PacketSockEntry;
  #sender: Fd | undefined;
  #loopback = 0;
  why = "the loopback device is down, by which the kernel is brought to its place";
  /** The block that the kernel is filling; `isSaved`: its contents are to be put back, head and all. */
  ownHead: { readonly start: number; readonly end: number; readonly isSaved: boolean } | undefined;

  constructor(fd: Fd, entry: PacketSockEntry) {
    this.#fd = fd;
    this.#entry = entry;
  }

  close(): void {
    if (this.#sender !== undefined) closeSync(this.#sender);
  }

  /** False: it stays at the first frame. */
  bring(memory: Buffer, saved: Buffer): boolean {
    const { rx_ring, tx_ring, version } = this.#entry;
    const at = ringBytes(rx_ring);
    const received =
      rx_ring === undefined || this.#bringReceived(rx_ring, { memory: memory.subarray(0, at), saved: saved.subarray(0, at) });
    if (tx_ring === undefined) return received;
    const frame = nextToSend(saved.subarray(at), { ring: tx_ring, version });
    if (frame === undefined) {
      this.why = "every frame to be sent has been used, so its place cannot be seen";
      return false;
    }
    return this.#bringSent(tx_ring, { memory: memory.subarray(at), frame }) && received;
  }

  #hasLoopback(): boolean {
    this.#loopback = interfaceIndex(this.#fd, LOOPBACK) ?? 0;
    return isInterfaceUp(this.#fd, LOOPBACK);
  }

  /** Binds the socket to the loopback device; what is sent to it there nobody else hears. */
  #listen(): boolean {
    if (this.#sender !== undefined) return true;
    if (!this.#hasLoopback()) return false;
    bind(this.#fd, linkAddress({ protocol: EXPERIMENT, ifindex: this.#loopback }));
    this.#sender = socket({ family: AF_PACKET, type: SOCK_RAW | SOCK_CLOEXEC });
    return true;
  }

  #send(frameBytes: number): void {
    const frame = Buffer.alloc(Math.max(frameBytes, ETHERNET_BYTES + 1));
    frame.writeUInt16BE(EXPERIMENT, 12);
    sendmsg(this.#sender as Fd, frame, { to: linkAddress({ protocol: EXPERIMENT, ifindex: this.#loopback }) });
  }

  #await(isThere: () => boolean): boolean {
    for (let waitedMs = 0; !isThere(); waitedMs++) {
      if (waitedMs === ARRIVAL_MS) return false;
      Atomics.wait(nap, 0, 0, 1);
    }
    return true;
  }

  #bringReceived(ring: PacketRing, { memory, saved }: { memory: Buffer; saved: Buffer }): boolean {
    const { version } = this.#entry;
    if (version === TPACKET.V3) return this.#bringBlocks(ring, { memory, saved });
    const frames = nextFrame(saved, { ring, version });
    if (frames === 0) return true;
    if (!this.#listen()) return false;
    for (let i = 0; i < frames; i++) this.#send(SMALLEST_PACKET);
    this.why = "packets do not arrive by the loopback device";
    return this.#await(() => isFilled(memory, { ring, frame: frames - 1 }));
  }

  /** The room that a frame of the loopback device takes in a block, beyond its own bytes: include/linux tpacket3_hdr and address. */
  #overhead(): number {
    const { type, reserve, vnet_hdr } = this.#entry;
    const header = 96 + reserve + (vnet_hdr ? (this.#entry.vnet_hdr_sz ?? 10) : 0);
    return type === SOCK_RAW ? header - ETHERNET_BYTES : header;
  }

  /** Sends a frame that takes `room` of a block. */
  #sendOfRoom(room: number): void {
    const seen = room - this.#overhead();
    this.#send(this.#entry.type === SOCK_RAW ? seen : seen + ETHERNET_BYTES);
  }

  #bringBlocks(ring: PacketRing, { memory, saved }: { memory: Buffer; saved: Buffer }): boolean {
    const { block: goal, isFull } = activeBlock(saved, ring);
    const sizes = isFull ? [] : packetSizes(saved, ring, goal);
    if (goal === 0 && sizes.length === 0 && !isFull) return this.#keep(ring, { block: 0, isSaved: false });
    if (!this.#listen()) return !this.#keep(ring, { block: 0, isSaved: false });
    this.why = "packets that go round by the loopback device did not fill it as expected";
    const isThere = isFull ? this.#fillAll(ring, { memory, goal }) : this.#fillUpTo(ring, { memory, goal, sizes });
    if (!isThere) return !this.#keep(ring, { block: activeBlock(memory, ring).block, isSaved: false });
    return isFull || this.#keep(ring, { block: goal, isSaved: sizes.length > 0 });
  }

  /** The block that the kernel is filling. True. */
  #keep(ring: PacketRing, { block, isSaved }: { block: number; isSaved: boolean }): boolean {
    this.ownHead = { start: block * ring.block_size, end: (block + 1) * ring.block_size, isSaved };
    return true;
  }

  get #smallest(): number {
    return alignedUp(this.#overhead() + SMALLEST_PACKET);
  }

  /** Lets the kernel fill block `goal` behind packets of these sizes. */
  #fillUpTo(ring: PacketRing, { memory, goal, sizes }: { memory: Buffer; goal: number; sizes: readonly number[] }): boolean {
    if (!this.#fillBlocks(ring, { memory, count: goal })) return false;
    for (const size of sizes.length === 0 ? [this.#smallest] : sizes) {
      const before = activeBlock(memory, ring).block === goal ? blockAt(memory, ring, goal).length : blockStart(ring);
      this.#sendOfRoom(size);
      if (!this.#await(() => activeBlock(memory, ring).block === goal && blockAt(memory, ring, goal).length === before + size))
        return false;
      // An empty block is not closed when its time is over.
      emptyBlock(memory, { ring, block: goal, first: before + size });
    }
    return true;
  }

  /** Fills the first blocks to the brim: the next packet is the first of the block behind them. */
  #fillBlocks(ring: PacketRing, { memory, count }: { memory: Buffer; count: number }): boolean {
    const smallest = this.#smallest;
    for (;;) {
      const { block, isFull } = activeBlock(memory, ring);
      if (isFull || block >= count) return block === count && !isFull;
      const { length } = blockAt(memory, ring, block);
      const room = ring.block_size - length - 8;
      if (room < smallest) {
        if (block === count - 1) return true;
        // What does not fit opens the next block.
        this.#sendOfRoom(smallest);
        if (!this.#await(() => activeBlock(memory, ring).block !== block)) return false;
        continue;
      }
      this.#sendOfRoom(Math.min(room, LARGEST_PACKET));
      if (!this.#await(() => blockAt(memory, ring, block).length !== length || activeBlock(memory, ring).block !== block)) return false;
    }
  }

  /** Fills every block, so that the kernel waits for block `goal` to be given back. */
  #fillAll(ring: PacketRing, { memory, goal }: { memory: Buffer; goal: number }): boolean {
    if (!this.#fillBlocks(ring, { memory, count: goal })) return false;
    this.#sendOfRoom(this.#smallest);
    if (!this.#await(() => activeBlock(memory, ring).block === goal)) return false;
    for (let i = 0; i < ring.block_nr; i++) if (i !== goal) freeBlock(memory, ring, i);
    const most = Math.min(ring.block_size - blockStart(ring) - 8, LARGEST_PACKET);
    const packets = (ring.block_nr + 1) * (Math.ceil(ring.block_size / most) + 1);
    for (let i = 0; i < packets; i++) this.#sendOfRoom(most);
    this.why = "its blocks could not be filled by packets that go round by the loopback device";
    return this.#await(() => activeBlock(memory, ring).isFull && activeBlock(memory, ring).block === goal);
  }

  /** Sends as many frames round as bring the kernel there; nobody hears them. */
  #bringSent(ring: PacketRing, { memory, frame }: { memory: Buffer; frame: number }): boolean {
    if (frame === 0) return true;
    if (!this.#hasLoopback()) return false;
    const { version, vnet_hdr, vnet_hdr_sz, type } = this.#entry;
    const packet = Buffer.alloc(SMALLEST_PACKET + (vnet_hdr ? (vnet_hdr_sz ?? 10) : 0));
    if (type === SOCK_RAW) packet.writeUInt16BE(OTHER_EXPERIMENT, packet.length - SMALLEST_PACKET + 12);
    for (let i = 0; i < frame; i++) markToSend(memory, { ring, version, frame: i, packet });
    this.why = "frames are not sent round by the loopback device";
    const to = linkAddress({ protocol: OTHER_EXPERIMENT, ifindex: this.#loopback });
    return this.#await(() => {
      try {
        sendmsg(this.#fd, Buffer.alloc(0), { to, flags: MSG_DONTWAIT | MSG_NOSIGNAL });
      } catch (error) {
        if (!(error instanceof KernelError)) throw error;
      }
      return sendStatus(memory, { ring, version, frame: frame - 1 }) === 0;
    });
  }
}
