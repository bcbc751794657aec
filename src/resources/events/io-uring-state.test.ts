import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseFdInfo } from "../../linux/proc/fdinfo.js";
import { buffersOf, filesOf, isIdle, stateOfRing } from "./io-uring-state.js";

const info = (lines: string) => parseFdInfo(Buffer.from(`pos:\t0\nflags:\t02000002\nmnt_id:\t17\n${lines}`), "fdinfo");

describe("stateOfRing", () => {
  it("tells requests that are under way and completions that are unread", () => {
    assert.equal(
      stateOfRing(info("CachedSqHead:\t3\nCqHead:\t0\nCqTail:\t2\nCachedCqTail:\t2\nSqThread:\t-1\n")),
      "1 more requests were made than completed, 2 completions are unread",
    );
  });
  it("knows that counters run round", () => {
    assert.equal(
      stateOfRing(info("CachedSqHead:\t1\nCqHead:\t4294967295\nCqTail:\t1\nCachedCqTail:\t1\nSqThread:\t77\n")),
      "no request is under way, 2 completions are unread, thread 77 of the kernel serves it",
    );
  });
});

describe("isIdle", () => {
  const counters = (more: string) => info(`SqMask:\t7\nCachedSqHead:\t5\nCqHead:\t3\nCqTail:\t5\nCachedCqTail:\t5\n${more}`);
  it("is true when every request has been answered, read or not", () => {
    assert.ok(isIdle(counters("PollList:\nCqOverflowList:\n")));
  });
  it("is false while a request waits for a file or a completion for room, and when the kernel says nothing", () => {
    assert.ok(!isIdle(counters("PollList:\n  op=1, task_works=0\nCqOverflowList:\n")));
    assert.ok(!isIdle(counters("PollList:\nCqOverflowList:\n  user_data=1, res=0, flags=0\n")));
    assert.ok(!isIdle(info("SqThread:\t-1\n")));
  });
});

describe("what is registered", () => {
  const all = info("UserFiles:\t4\n    0: /a\\040b\n    2: pipe:[7]\nUserBufs:\t3\n    0: 0x7f00/8192\n    1: <none>\nPollList:\n");
  it("is files by slot, their names without escapes", () => {
    assert.deepEqual(filesOf(all), {
      slots: 4,
      files: [
        { slot: 0, link: "/a b" },
        { slot: 2, link: "pipe:[7]" },
      ],
    });
  });
  it("is buffers by slot", () => {
    assert.deepEqual(buffersOf(all), { slots: 3, buffers: [{ slot: 0, start: 0x7f00n, bytes: 8192n }] });
  });
});
