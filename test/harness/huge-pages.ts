/** Pages of 2 MiB for the workloads of a test file; without them those about huge pages say so and pass. */
import { readFileSync, writeFileSync } from "node:fs";
import { after, before } from "node:test";

const POOL = "/proc/sys/vm/nr_hugepages";

/** `pages`: what they need at once. Other files that run now have theirs besides. */
export function withHugePages(pages: number): void {
  let added = 0;
  before(() => {
    try {
      const pool = Number(readFileSync(POOL, "utf8"));
      writeFileSync(POOL, String(pool + pages));
      added = pages;
    } catch {
      added = 0;
    }
  });
  after(() => {
    if (added > 0) writeFileSync(POOL, String(Math.max(0, Number(readFileSync(POOL, "utf8")) - added)));
  });
}
