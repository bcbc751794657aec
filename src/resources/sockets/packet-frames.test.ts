import assert from "node:assert/strict";
import { test } from "node:test";
import { TPACKET } from "../../linux/packet.js";
import { activeBlock, emptyBlock, nextFrame, nextToSend, packetSizes, ringBytes } from "./packet-frames.js";

const ring = { block_size: 4096, block_nr: 2, frame_size: 1024, frame_nr: 8, retire_tmo: 0, sizeof_priv: 0, features: 0 };
const empty = () => Buffer.alloc(ringBytes(ring));

/** A ring of version 2 with these seconds in its frames. */
function received(...seconds: number[]): Buffer {
  const bytes = empty();
  seconds.forEach((s, i) => bytes.writeUInt32LE(s, i * 1024 + 16));
  return bytes;
}

test("the kernel goes on behind the newest frame", () => {
  const at = (bytes: Buffer) => nextFrame(bytes, { ring, version: TPACKET.V2 });
  assert.equal(at(empty()), 0);
  assert.equal(at(received(7, 8, 9)), 3);
  assert.equal(at(received(20, 21, 14, 15, 16, 17, 18, 19)), 2);
  // Several of one instant.
  assert.equal(at(received(20, 20, 20, 15, 16, 17, 18, 19)), 3);
  assert.equal(at(received(13, 14, 15, 16, 17, 18, 19, 20)), 0);
});

test("the kernel sends on at the first frame that waits, or that was never used", () => {
  const at = (bytes: Buffer) => nextToSend(bytes, { ring, version: TPACKET.V2 });
  const frames = (...of: [status: number, length: number][]) => {
    const bytes = empty();
    of.forEach(([status, length], i) => {
      bytes.writeUInt32LE(status, i * 1024);
      bytes.writeUInt32LE(length, i * 1024 + 4);
    });
    return bytes;
  };
  assert.equal(at(empty()), 0);
  assert.equal(at(frames([0, 60], [0, 60])), 2);
  assert.equal(at(frames([1, 60], [0, 60], [0, 60], [0, 60], [0, 60], [0, 60], [1, 60], [1, 60])), 6);
  assert.equal(at(frames(...Array.from({ length: 8 }, (): [number, number] => [0, 60]))), undefined);
});

/** A ring of version 3 with these numbers and states of its blocks. */
function blocks(...of: [sequence: number, status: number][]): Buffer {
  const bytes = empty();
  of.forEach(([sequence, status], i) => {
    bytes.writeUInt32LE(status, i * 4096 + 8);
    bytes.writeBigUInt64LE(BigInt(sequence), i * 4096 + 24);
  });
  return bytes;
}

test("the block of the highest number is being filled, unless it is full", () => {
  assert.deepEqual(activeBlock(blocks([1, 0]), ring), { block: 0, isFull: false });
  assert.deepEqual(activeBlock(blocks([5, 1], [6, 0]), ring), { block: 1, isFull: false });
  assert.deepEqual(activeBlock(blocks([5, 1], [6, 1]), ring), { block: 0, isFull: true });
});

test("packets of a block are measured, with what lies free before them", () => {
  const bytes = blocks([1, 0]);
  emptyBlock(bytes, { ring, block: 0, first: 48 + 128 });
  bytes.writeUInt32LE(1, 12);
  bytes.writeUInt16LE(82, 48 + 128 + 24);
  bytes.writeUInt32LE(100, 48 + 128 + 12);
  assert.deepEqual(packetSizes(bytes, ring, 0), [128, 184]);
  // A count that cannot be is no trap.
  bytes.writeUInt32LE(1000, 12);
  assert.ok(packetSizes(bytes, ring, 0).length <= 4096 / 8);
});
