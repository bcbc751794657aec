import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { difference, intersection, union } from "./page-ranges.js";
import type { PageRange } from "./page-runs.js";

const LIMIT = 24;

/** Every set of small numbers as ranges, from a seed. */
function randomRanges(seed: number): PageRange[] {
  const ranges: PageRange[] = [];
  let state = seed * 2654435761;
  for (let at = 0; at < LIMIT; ) {
    state = (state * 1103515245 + 12345) % 2147483648;
    const [gap, length] = [Math.floor(state / 65536) % 4, 1 + (Math.floor(state / 1048576) % 4)];
    if (at + gap + length > LIMIT) break;
    ranges.push({ start: BigInt(at + gap), end: BigInt(at + gap + length) });
    at += gap + length;
  }
  return ranges;
}

const pages = (ranges: readonly PageRange[]): number[] =>
  ranges.flatMap(({ start, end }) => Array.from({ length: Number(end - start) }, (_, i) => Number(start) + i));

function assertAscending(ranges: readonly PageRange[]): void {
  ranges.forEach(({ start, end }, i) => {
    assert.ok(start < end);
    assert.ok(i === 0 || (ranges[i - 1] as PageRange).end <= start);
  });
}

describe("sets of pages", () => {
  it("are what the sets of their numbers are", () => {
    for (let seed = 0; seed < 2000; seed++) {
      const [a, b] = [randomRanges(seed), randomRanges(seed + 7919)];
      const [inA, inB] = [new Set(pages(a)), new Set(pages(b))];
      const all = Array.from({ length: LIMIT }, (_, i) => i);
      for (const [made, wanted] of [
        [intersection(a, b), all.filter((n) => inA.has(n) && inB.has(n))],
        [difference(a, b), all.filter((n) => inA.has(n) && !inB.has(n))],
        [union(a, b), all.filter((n) => inA.has(n) || inB.has(n))],
      ] as const) {
        assertAscending(made);
        assert.deepEqual(pages(made), wanted);
      }
    }
  });

  it("joins neighbours", () => {
    const range = (start: bigint, end: bigint) => ({ start, end });
    assert.deepEqual(union([range(1n, 2n), range(4n, 5n)], [range(2n, 4n)]), [range(1n, 5n)]);
  });
});
