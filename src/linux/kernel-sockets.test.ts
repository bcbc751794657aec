import assert from "node:assert/strict";
import { randomFillSync } from "node:crypto";
import { closeSync } from "node:fs";
import { test } from "node:test";

import { AF_UNIX } from "./addresses.js";
import { KernelSockets } from "./kernel-sockets.js";
import { SOCK_CLOEXEC, SOCK_DGRAM, sendmsg, socketpair } from "./sockets.js";

const kernel = process.getuid?.() === 0 ? KernelSockets.open({}) : undefined;
const skip = kernel === undefined ? "needs root, and a kernel with BTF" : false;

test("what waits in a socket is seen in the kernel's memory, also in pages", { skip }, () => {
  if (kernel === undefined) return;
  const [sender, receiver] = socketpair({ family: AF_UNIX, type: SOCK_DGRAM | SOCK_CLOEXEC });
  try {
    const messages = [randomFillSync(Buffer.alloc(60_000)), Buffer.alloc(0), Buffer.from("short")];
    for (const message of messages) sendmsg(sender, message);
    const queue = (kernel.find(receiver) ?? 0n) + BigInt(kernel.at("sock", "sk_receive_queue"));
    assert.equal(kernel.count(queue), 3);
    const buffers = kernel.queue(queue)?.map((at) => kernel.buffer(at)) ?? [];
    const bytes = buffers.map((b) => (b === undefined ? undefined : Buffer.concat([b.memory.subarray(b.data), b.pages])));
    assert.deepEqual(bytes, messages);
    assert.ok((buffers[0]?.pages.length ?? 0) > 0);
  } finally {
    closeSync(sender);
    closeSync(receiver);
  }
});

test("addresses that lead nowhere are no error", { skip }, () => {
  assert.equal(kernel?.read(0n, 8), undefined);
  assert.equal(kernel?.read(1n << 47n, 8), undefined);
});
