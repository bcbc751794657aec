import assert from "node:assert/strict";
import { test } from "node:test";

import { PendingPages, type PendingRange } from "./pending.js";

const PAGES = 64;

/** The same by a map from page to page. */
class Model {
  readonly pages = new Map<number, number>();

  remove(start: number, end: number): void {
    for (let i = start; i < end; i++) this.pages.delete(i);
  }

  move(from: number, to: number, count: number): void {
    const moved = [...this.pages].filter(([page]) => page >= from && page < from + count);
    this.remove(from, from + count);
    this.remove(to, to + count);
    for (const [page, origin] of moved) this.pages.set(page + to - from, origin);
  }
}

function spread(ranges: readonly PendingRange[]): [number, number][] {
  return ranges.flatMap(({ start, end, origin }) =>
    Array.from({ length: Number(end - start) }, (_, i): [number, number] => [Number(start) + i, Number(origin) + i]),
  );
}

function sorted(model: Model): [number, number][] {
  return [...model.pages].sort(([a], [b]) => a - b);
}

test("pages that are pending are what a simple map says, whatever is removed and moved", () => {
  let seed = 1;
  const random = (below: number) => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return seed % below;
  };
  for (let round = 0; round < 200; round++) {
    const model = new Model();
    const ranges: PendingRange[] = [];
    for (let at = random(4); at < PAGES; at += 1 + random(6)) {
      const end = Math.min(PAGES, at + 1 + random(9));
      ranges.push({ start: BigInt(at), end: BigInt(end), origin: BigInt(at + 1000) });
      for (let i = at; i < end; i++) model.pages.set(i, i + 1000);
      at = end;
    }
    const pending = new PendingPages(ranges);
    for (let step = 0; step < 20; step++) {
      const from = random(PAGES);
      const count = 1 + random(12);
      if (random(3) === 0) {
        // mremap(2) takes no places that overlap.
        const to = from + count + random(20);
        pending.move(BigInt(from), BigInt(to), BigInt(count));
        model.move(from, to, count);
      } else {
        pending.remove(BigInt(from), BigInt(from + count));
        model.remove(from, from + count);
      }
      assert.deepEqual(spread(pending.within(0n, 1n << 40n)), sorted(model));
      const wanted = sorted(model).filter(([, origin]) => origin >= 1010 && origin < 1030);
      assert.deepEqual(spread(pending.ofImage(1010n, 1030n)), wanted);
      const page = random(PAGES);
      const found = pending.at(BigInt(page));
      assert.equal(found === undefined ? undefined : Number(found.origin + BigInt(page) - found.start), model.pages.get(page));
    }
  }
});

test("a copy for a child is not changed with its parent", () => {
  const parent = new PendingPages([{ start: 0n, end: 10n, origin: 0n }]);
  const child = parent.clone();
  parent.remove(0n, 5n);
  assert.equal(parent.bytes, 5n);
  assert.equal(child.bytes, 10n);
});
