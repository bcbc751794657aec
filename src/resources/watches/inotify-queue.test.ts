import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  IN_ATTRIB,
  IN_CREATE,
  IN_DELETE_SELF,
  IN_IGNORED,
  IN_ISDIR,
  IN_MODIFY,
  IN_MOVED_FROM,
  IN_MOVED_TO,
  IN_OPEN,
  IN_Q_OVERFLOW,
  type InotifyEvent,
  inotifyEventBytes,
  inotifyEvents,
} from "../../linux/events.js";
import { eventsOf, planQueue } from "./inotify-queue.js";

const event = (wd: number, mask: number, name = "", cookie = 0): InotifyEvent => ({ wd, mask, cookie, name: Buffer.from(name) });
const LIMIT = 100;
const texts = (events: readonly InotifyEvent[]): string[] => events.map((e) => `${e.wd} ${e.mask.toString(16)} ${e.name}`);

function planned(events: readonly InotifyEvent[], limit = LIMIT) {
  const { before, overflow, after, lost } = planQueue(events, limit);
  return { before: texts(before.flatMap(eventsOf)), overflow, after: texts(after.flatMap(eventsOf)), lost };
}

describe("a queue of inotify events", () => {
  it("is made again as it is when each event has an act that causes it", () => {
    const events = [
      event(1, IN_CREATE, "a"),
      event(1, IN_MOVED_FROM, "a", 7),
      event(2, IN_MOVED_TO, "b", 7),
      event(1, IN_OPEN | IN_ISDIR),
      event(3, IN_DELETE_SELF),
      event(3, IN_IGNORED),
      event(1, IN_MOVED_TO, "from outside", 9),
    ];
    assert.deepEqual(planned(events), { before: texts(events), overflow: false, after: [], lost: 0 });
  });

  it("keeps an overflow at its place", () => {
    const events = [event(1, IN_CREATE, "a"), event(-1, IN_Q_OVERFLOW), event(1, IN_CREATE, "b")];
    assert.deepEqual(planned(events), { before: ["1 100 a"], overflow: true, after: ["1 100 b"], lost: 0 });
  });

  it("gives up what no act causes, with an overflow in its place", () => {
    const create = event(1, IN_CREATE, "a");
    for (const impossible of [
      event(1, IN_MODIFY | IN_ATTRIB, "a"),
      event(1, IN_MODIFY | IN_ISDIR, "a"),
      event(1, IN_OPEN, "a/b"),
      event(0, IN_OPEN),
      event(1, IN_CREATE),
      event(1, 0),
      event(1, IN_DELETE_SELF),
    ])
      assert.deepEqual(planned([create, impossible, event(1, IN_OPEN, "b")]), {
        before: ["1 100 a"],
        overflow: true,
        after: ["1 20 b"],
        lost: 1,
      });
  });

  it("gives up the halves of a rename that others came between", () => {
    const events = [event(1, IN_MOVED_FROM, "a", 7), event(1, IN_CREATE, "c"), event(2, IN_MOVED_TO, "b", 7), event(1, IN_CREATE, "c")];
    assert.deepEqual(planned(events), { before: [], overflow: true, after: ["1 100 c"], lost: 2 });
  });

  it("takes nothing of a watch that is gone", () => {
    assert.equal(planned([event(1, IN_IGNORED), event(1, IN_OPEN)]).lost, 1);
  });

  it("fits into the limit", () => {
    const full = Array.from({ length: 10 }, (_, i) => event(1, IN_CREATE, `${i}`));
    assert.equal(planned(full, 11).overflow, false);
    assert.deepEqual(planned(full, 10), { before: texts(full), overflow: true, after: [], lost: 0 });
    const less = planned(full, 4);
    assert.deepEqual([less.before.length, less.overflow, less.lost], [4, true, 6]);
  });
});

describe("the bytes of inotify events", () => {
  it("are read, whole ones only", () => {
    const bytes = Buffer.alloc(32);
    bytes.writeInt32LE(5, 0);
    bytes.writeUInt32LE(IN_CREATE, 4);
    bytes.writeUInt32LE(16, 12);
    bytes.write("name", 16);
    assert.deepEqual(inotifyEvents(bytes), [event(5, IN_CREATE, "name")]);
    assert.equal(inotifyEvents(bytes.subarray(0, 31)), undefined);
    assert.equal(inotifyEvents(bytes.subarray(0, 15)), undefined);
    bytes.writeUInt32LE(0xffffffff, 12);
    assert.equal(inotifyEvents(bytes), undefined);
  });

  it("are counted as the kernel counts them", () => {
    assert.deepEqual(
      ["", "a", "123456789012345", "1234567890123456"].map((name) => inotifyEventBytes(event(1, 1, name))),
      [16, 32, 32, 48],
    );
  });
});
