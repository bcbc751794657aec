/**
 * `npm run bench`: Floe (on Node, and as executable) and CRIU do the same, in turn, in the same run.
 *
 *   --rounds N      rounds of each scenario (default 5); the table shows medians
 *   --only TEXT     scenarios whose name contains this; may be given several times
 *   --tool TEXT     tools whose name contains this; may be given several times
 *   --html FILE     the results as a page with a table and plots, which needs nothing beside itself
 *   --json FILE     where every single figure goes (default build/bench.json)
 */
import { readFileSync } from "node:fs";

import { root, run, ensurePackages, fail } from "./setup.mjs";
import { ensurePrograms, findPeer, requireRoot } from "./test-needs.mjs";

if (process.argv.includes("--help")) {
  // What it does and takes is said once: at the head of this file.
  const [, head = ""] = /^\/\*\*\n([\s\S]*?)\n \*\/$/m.exec(readFileSync(new URL(import.meta.url), "utf8")) ?? [];
  console.log(head.replaceAll(/^ \* ?/gm, ""));
  process.exit(0);
}
ensurePackages();
requireRoot("benchmarks");
ensurePrograms();
const peer = findPeer();
for (const args of [[], ["--exe"]]) {
  if (run(process.execPath, ["tools/build.mjs", ...args], { cwd: root }) !== 0) fail("The build failed");
}
const env = { ...process.env, ...(peer === undefined ? {} : { FLOE_PEER_CRIU: peer }) };
// Mounts of its own: what it mounts is gone when it ends, in whatever way.
const command = ["--mount", process.execPath, "--import", "tsx", "tools/bench/main.ts", ...process.argv.slice(2)];
process.exit(run("unshare", command, { env }));
