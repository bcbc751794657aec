/**
 * Pages of 2 MiB for the workloads of a test file; without them those about huge pages say so and pass. Every file that runs one of
 * them asks for its own: pages that are there for another file go when that one ends, between a dump and a restore perhaps.
 */
import { execFileSync } from "node:child_process";
import { after, before } from "node:test";

const POOL = "/proc/sys/vm/nr_hugepages";

/** Who changes the pool reads it first: one at a time. It may have got fewer than were asked for. */
function add(pages: number): void {
  const change = `sum=$(($(cat ${POOL}) + ${pages})); [ $sum -ge 0 ] || sum=0; echo $sum > ${POOL}`;
  execFileSync("flock", [POOL, "sh", "-c", change], { stdio: "ignore" });
}

/** `pages`: what they need at once. Other files that run now have theirs besides. */
export function withHugePages(pages: number): void {
  let added = 0;
  before(() => {
    try {
      add(pages);
      added = pages;
    } catch {
      added = 0;
    }
  });
  after(() => {
    if (added > 0) add(-added);
  });
}
