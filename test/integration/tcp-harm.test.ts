/** A dumper that dies while it looks into a TCP connection leaves none in repair mode, and no process of its own. */
import assert from "node:assert/strict";
import { chmodSync } from "node:fs";
import { describe, test } from "node:test";
import { isRoot, Subject, withSubject } from "../harness/subject.js";

const lane = { namespaces: ["net"] } as const;

describe("repair mode", { skip: isRoot ? false : "needs root" }, () => {
  for (const [who, args] of [
    ["a process that may end it by itself", []],
    ["a process without rights", ["humble"]],
  ] as const) {
    const killed = async (subject: Subject) => {
      chmodSync(subject.folder, 0o755);
      for (let i = 0; i < 3; i++) assert.notEqual((await subject.run(subject.dumpLine([], { fault: "kill:dump-repairing" }))).exit.code, 0);
      await subject.untilAlone([subject.pid]);
    };
    test(`tcp.established: ${who} goes on`, () =>
      withSubject(Subject.withWorkload("sockets/tcp", args, lane), async (subject) => {
        await killed(subject);
        // The region of the stub is left behind for the next dumper, and nothing else.
        await subject.judge(["map 1f10e0000000", "mapflags 1f10e0000000"]);
      }));
    test(`tcp.established: ${who} is dumped and restored by the next dumper`, () =>
      withSubject(Subject.withWorkload("sockets/tcp", args, lane), async (subject) => {
        await killed(subject);
        await subject.dump();
        await subject.restore();
        await subject.judge();
      }));
  }
});
