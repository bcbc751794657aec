/**
 * `npm test`: everything, on a fresh clone too. Installs what is missing, builds, runs the steps of `npm run ok`, then
 * test/**\/*.test.ts as root, and sums up. `npm test -- signals tree` runs only integration files of those names.
 *
 * FLOE_TEST_MINUTES   after so many minutes no further file starts (default 14.5)
 * FLOE_PEER_CRIU      the criu (4.1 or newer) to test against
 */
import { join } from "node:path";
import { parseArgs } from "node:util";

import { watchForLeaks } from "./leaks.mjs";
import { ensurePackages, fail, root, run, say } from "./setup.mjs";
import { ensurePrograms, findPeer, requireRoot } from "./test-needs.mjs";

const { positionals: wanted } = parseArgs({ allowPositionals: true });
const started = Date.now();
const minutes = Number(process.env.FLOE_TEST_MINUTES ?? "14.5");
const fileTimeoutMs = 10 * 60_000;
const parallel = 2;

ensurePackages();
requireRoot("integration tests");
ensurePrograms();
const peer = findPeer();
const { filesBelow, runOkSteps } = await import("./ok-steps.mjs");
const { runFiles, totals } = await import("./run-tests.mjs");

say("== build");
for (const form of [[], ["--exe"]]) if (run(process.execPath, ["tools/build.mjs", ...form]) !== 0) fail("The build failed");

const isWanted = (file) => wanted.length === 0 || wanted.some((word) => file.includes(word));
const ok = wanted.length === 0 ? await runOkSteps() : { failed: [], sum: totals([]) };

say("\n== integration tests");
const watch = watchForLeaks();
const env = { ...watch.env, FLOE_TEST_EXE: join(root, "dist", "floe"), ...(peer === undefined ? {} : { FLOE_PEER_CRIU: peer }) };
const files = filesBelow("test", ".test.ts").filter(isWanted);
const results = await runFiles(files, { parallel, timeoutMs: fileTimeoutMs, deadline: started + minutes * 60_000, env });
const sum = totals(results);
const { certain, doubtful } = watch.leaks();

const problems = [...ok.failed];
if (sum.failed > 0) problems.push(`${sum.failed} integration tests`);
for (const file of sum.brokenFiles) problems.push(`${file.file}: ${file.problem}`);
if (sum.passed === 0) problems.push("no integration test passed");
if (certain.length > 0) problems.push(`${certain.length} things left behind`);

say("\n== summary");
const row = (name, one) =>
  `  ${name}: ${one.files} files, ${one.tests} tests, ${one.passed} passed, ${one.failed} failed, ${one.skipped} skipped`;
if (wanted.length === 0) say(row("unit", ok.sum));
say(row("integration", sum));
for (const result of results) {
  for (const test of result.tests.filter((one) => one.outcome === "failed")) say(`  FAILED ${result.file}: ${test.name}`);
}
for (const [reason, count] of [...ok.sum.reasons, ...sum.reasons]) say(`  skipped ${count}: ${reason}`);
say(peer === undefined ? "  NO PEER: tests against CRIU did not run; name one in FLOE_PEER_CRIU" : `  peer: ${peer}`);
for (const leak of certain) say(`  LEFT BEHIND: ${leak}`);
for (const leak of doubtful.slice(0, 10)) say(`  new since the start, perhaps not ours: ${leak}`);
if (doubtful.length > 10) say(`  and ${doubtful.length - 10} more such`);
say(`  ${((Date.now() - started) / 60_000).toFixed(1)} minutes`);
if (problems.length > 0) fail(`\nFAILED: ${problems.join("; ")}`);
say("\nAll tests passed");
