import assert from "node:assert/strict";
import { test } from "node:test";
import { parseNetSockets } from "./net-sockets.js";

const HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n";

test("raw sockets are told with their peers and what waits", () => {
  const line =
    " 156: 0100007F:0001 0200007F:0007 01 00000000:00000300 00:00000000 00000000     0        0 349587 2 00000000228f7dea 0   \n\n";
  const socket = parseNetSockets(Buffer.from(HEAD + line), "raw").get(349587);
  assert.deepEqual(socket, { inode: 349587, state: 1, peer: Buffer.from([127, 0, 0, 2]), peerPort: 7, waitingBytes: 0x300 });
});

test("addresses of IPv6 keep the order of their words", () => {
  const line =
    "  243: 00000000000000000000000001000000:003A B80D0120000000000000000001000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 5 2 0 0\n";
  const socket = parseNetSockets(Buffer.from(HEAD + line), "raw6").get(5);
  assert.equal(socket?.peer.toString("hex"), "20010db8000000000000000000000001");
  assert.equal(parseNetSockets(Buffer.from(HEAD), "raw6").size, 0);
});

test("a line of another form is an error", () => {
  assert.throws(() => parseNetSockets(Buffer.from(`${HEAD} 1: what:0 is:this\n`), "raw"), /it has the line/);
});
