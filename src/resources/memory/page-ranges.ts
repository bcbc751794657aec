/**
 * Sets of pages as ascending lists of ranges that do not overlap.
 */
import type { PageRange } from "./page-runs.js";

/** What lies in both. */
export function intersection(a: readonly PageRange[], b: readonly PageRange[]): PageRange[] {
  const result: PageRange[] = [];
  for (let i = 0, k = 0; i < a.length && k < b.length; ) {
    const [one, other] = [a[i] as PageRange, b[k] as PageRange];
    const start = one.start > other.start ? one.start : other.start;
    const end = one.end < other.end ? one.end : other.end;
    if (start < end) result.push({ start, end });
    if (one.end < other.end) i++;
    else k++;
  }
  return result;
}

/** What lies in `a` and not in `b`. */
export function difference(a: readonly PageRange[], b: readonly PageRange[]): PageRange[] {
  const result: PageRange[] = [];
  let k = 0;
  for (const { start, end } of a) {
    let from = start;
    while (k < b.length && (b[k] as PageRange).end <= from) k++;
    for (let at = k; at < b.length && (b[at] as PageRange).start < end; at++) {
      const hole = b[at] as PageRange;
      if (hole.start > from) result.push({ start: from, end: hole.start });
      if (hole.end > from) from = hole.end;
    }
    if (from < end) result.push({ start: from, end });
  }
  return result;
}

/** What lies in one of them, neighbours joined. */
export function union(a: readonly PageRange[], b: readonly PageRange[]): PageRange[] {
  const result: { start: bigint; end: bigint }[] = [];
  for (let i = 0, k = 0; i < a.length || k < b.length; ) {
    const takesA = k >= b.length || (i < a.length && (a[i] as PageRange).start <= (b[k] as PageRange).start);
    const { start, end } = (takesA ? a[i++] : b[k++]) as PageRange;
    const last = result.at(-1);
    if (last === undefined || last.end < start) result.push({ start, end });
    else if (last.end < end) last.end = end;
  }
  return result;
}
