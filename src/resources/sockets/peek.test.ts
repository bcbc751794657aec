import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { test } from "node:test";
import { AF_UNIX } from "../../linux/addresses.js";
import { SO } from "../../linux/socket-options.js";
import {
  MSG_OOB,
  SOCK_DGRAM,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  SOL_SOCKET,
  getsockoptInt,
  recvUrgent,
  rightsMessage,
  sendmsg,
  setsockoptInt,
  shutdown,
  socketpair,
} from "../../linux/sockets.js";
import { type OffsetGuard, type QueuedMessage, peekMessages, peekStream, refuseUnknown } from "./peek.js";

/** uapi/asm-generic/socket.h, linux/socket.h. */
const SO_TIMESTAMP = 29;
const SCM_SECURITY = 3;
const PEEK_OFF = { level: SOL_SOCKET, name: SO.PEEK_OFF };

/** A pair of sockets for as long as `use` runs. */
function withPair(type: number, use: (from: number, to: number) => void): void {
  const [from, to] = socketpair({ family: AF_UNIX, type });
  try {
    use(from, to);
  } finally {
    closeSync(from);
    closeSync(to);
  }
}

/** Texts of messages, with the number of descriptors behind those that carry some and "!" before urgent ones. */
function shown(messages: readonly QueuedMessage[]): string[] {
  return messages.map(({ data, fds, urgent }) => {
    for (const fd of fds) closeSync(fd);
    return `${urgent === true ? "!" : ""}${data.toString()}${fds.length > 0 ? `+${fds.length}` : ""}`;
  });
}

const say = (fd: number, text: string, flags = 0) => sendmsg(fd, Buffer.from(text), { flags });
const carry = (fd: number, text: string, fds: readonly number[]) => sendmsg(fd, Buffer.from(text), { control: [rightsMessage(fds)] });

test("a stream is cut exactly at the messages that carry descriptors", () => {
  withPair(SOCK_STREAM, (from, to) => {
    say(from, "one ");
    say(from, "two ");
    carry(from, "fd", [from, to]);
    carry(from, "x", [from]);
    say(from, "end");
    for (let round = 0; round < 2; round++) assert.deepEqual(shown(peekStream(to)), ["one two ", "fd+2", "x+1", "end"]);
    assert.equal(getsockoptInt(to, PEEK_OFF), -1);
  });
});

test("an urgent byte stands alone at its place, and leaves a mark when it has been read", () => {
  withPair(SOCK_STREAM, (from, to) => {
    say(from, "before");
    say(from, "!", MSG_OOB);
    say(from, "after");
    assert.deepEqual(shown(peekStream(to)), ["before", "!!", "after"]);
    assert.equal(recvUrgent(to), "!".charCodeAt(0));
    assert.deepEqual(shown(peekStream(to)), ["before", "!", "after"]);
  });
  withPair(SOCK_STREAM, (from, to) => {
    say(from, "?", MSG_OOB);
    say(from, "rest");
    assert.deepEqual(shown(peekStream(to)), ["!?", "rest"]);
  });
});

test("messages keep their boundaries, empty ones and the end among them", () => {
  withPair(SOCK_DGRAM, (from, to) => {
    for (const text of ["", "", "abc", "", "d"]) say(from, text);
    assert.deepEqual(shown(peekMessages(to, { ends: false })), ["", "", "abc", "", "d"]);
  });
  withPair(SOCK_SEQPACKET, (from, to) => {
    say(from, "last");
    say(from, "packets");
    shutdown(from, 1);
    assert.deepEqual(shown(peekMessages(to, { ends: true })), ["last", "packets"]);
  });
});

test("the offset of the socket is touched only behind the first message, under guard, and put back", () => {
  const steps: string[] = [];
  const guard: OffsetGuard = {
    arm: (own) => steps.push(`arm ${own}`),
    changed: () => steps.push("changed"),
    disarm: () => steps.push("disarm"),
  };
  withPair(SOCK_STREAM, (from, to) => {
    say(from, "all at once");
    assert.deepEqual(shown(peekStream(to, guard)), ["all at once"]);
    assert.deepEqual(steps, []);
  });
  withPair(SOCK_DGRAM, (from, to) => {
    setsockoptInt(to, PEEK_OFF, 3);
    say(from, "one");
    say(from, "two");
    assert.deepEqual(shown(peekMessages(to, { ends: false, guard })), ["one", "two"]);
    assert.deepEqual([steps[0], steps[1], steps.at(-1)], ["arm 3", "changed", "disarm"]);
    assert.equal(getsockoptInt(to, PEEK_OFF), 3);
  });
});

test("time stamps of a queued message are passed over, a security label is refused by name", () => {
  withPair(SOCK_DGRAM, (from, to) => {
    setsockoptInt(to, { level: SOL_SOCKET, name: SO_TIMESTAMP }, 1);
    sendmsg(from, Buffer.from("stamped"));
    const [stamped] = peekMessages(to, { ends: false });
    assert.ok(stamped !== undefined && stamped.data.toString() === "stamped");
    const refused: string[] = [];
    refuseUnknown([stamped], (code) => refused.push(code));
    assert.equal(refused.length, 0);
    const label = { level: SOL_SOCKET, type: SCM_SECURITY, data: Buffer.from("a label") };
    refuseUnknown([{ ...stamped, unknown: [label] }], (code, because) => refused.push(`${code}: ${because}`));
    assert.deepEqual(refused, ["SOCKET_CONTROL_MESSAGE: a queued message carries a control message of level 1 and type 3"]);
  });
});
