/** Calls on many sockets say what calls on one say. */
import assert from "node:assert/strict";
import { closeSync, openSync } from "node:fs";
import { test } from "node:test";
import { AF_INET } from "./addresses.js";
import { SocketCalls } from "./socket-calls.js";
import { SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, getsockoptInt, setsockoptInt, socket } from "./sockets.js";

const [SO_TYPE, SO_KEEPALIVE, SO_LINGER, UNKNOWN] = [3, 9, 13, 9999];
const get = (name: number, maxBytes = 4) => ({ call: "getsockopt", level: SOL_SOCKET, name, maxBytes }) as const;

function withSockets(work: (fds: readonly [number, number]) => void): void {
  const make = () => socket({ family: AF_INET, type: SOCK_STREAM | SOCK_CLOEXEC });
  const fds = [make(), make()] as const;
  try {
    work(fds);
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}

test("options of several sockets by the same calls, also behind one that fails", () =>
  withSockets(([one, two]) => {
    using calls = new SocketCalls([get(UNKNOWN), get(SO_TYPE), get(SO_KEEPALIVE), get(SO_LINGER, 8)]);
    setsockoptInt(two, { level: SOL_SOCKET, name: SO_KEEPALIVE }, 1);
    for (const [fd, keepalive] of [
      [one, 0],
      [two, 1],
      [one, 0],
    ] as const) {
      calls.run(fd);
      assert.deepEqual(
        [0, 1, 2, 3].map((i) => calls.succeeded(i)),
        [false, true, true, true],
      );
      assert.deepEqual([calls.int(1), calls.int(2)], [SOCK_STREAM, keepalive]);
      assert.equal(calls.bytes(3).length, 8);
      assert.throws(() => calls.check("asking"), /asking: getsockopt\(\d+, …\), number 0.*ENOPROTOOPT/);
    }
  }));

test("values are like those of a socket with the same options, and of no other", () =>
  withSockets(([one, two]) => {
    using calls = new SocketCalls([get(SO_KEEPALIVE), get(UNKNOWN)]);
    calls.run(one);
    const kept = calls.keep();
    calls.run(two);
    assert.ok(calls.isLike(kept));
    setsockoptInt(two, { level: SOL_SOCKET, name: SO_KEEPALIVE }, 1);
    calls.run(two);
    assert.ok(!calls.isLike(kept));
  }));

test("options are set, and something that is no socket fails with its own error", () =>
  withSockets(([one]) => {
    using calls = new SocketCalls([{ call: "setsockopt", level: SOL_SOCKET, name: SO_KEEPALIVE, value: 1 }]);
    calls.run(one);
    calls.check("setting");
    assert.equal(getsockoptInt(one, { level: SOL_SOCKET, name: SO_KEEPALIVE }), 1);
    const file = openSync("/dev/null", "r");
    calls.run(file);
    assert.throws(() => calls.check("setting"), /ENOTSOCK/);
    closeSync(file);
  }));
