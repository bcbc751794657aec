import { readFileSync, writeFileSync } from "node:fs";
import { after, before } from "node:test";

import { suite } from "../harness/suite.js";
import { memory3Cases, sharedCases } from "../workloads/memory3/cases.js";

/** Pages of 2 MiB that the workloads need at once; without them those about huge pages say so and pass. */
const HUGE_PAGES = 40;
const POOL = "/proc/sys/vm/nr_hugepages";
let pool: string | undefined;

before(() => {
  try {
    pool = readFileSync(POOL, "utf8").trim();
    if (Number(pool) < HUGE_PAGES) writeFileSync(POOL, String(HUGE_PAGES));
  } catch {
    pool = undefined;
  }
});
after(() => {
  if (pool !== undefined) writeFileSync(POOL, pool);
});

suite("memory3", memory3Cases);
suite("memory3", sharedCases, { dump: "criu", restore: "floe", modes: ["killed-restored"] });
suite("memory3", sharedCases, { dump: "floe", restore: "criu", modes: ["killed-restored"] });
