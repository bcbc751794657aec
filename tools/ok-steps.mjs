/** The steps of `npm run ok`: what must hold before a change is committed, in the order of how fast they tell. */
import { readdirSync } from "node:fs";
import { join } from "node:path";

import { runFiles, totals } from "./run-tests.mjs";
import { packageCommand, root, run, say } from "./setup.mjs";

/** Every file below `folder` (of the project) whose name ends so, in alphabetical order. */
export function filesBelow(folder, ending) {
  const entries = readdirSync(join(root, folder), { recursive: true });
  return entries
    .filter((name) => name.endsWith(ending))
    .sort()
    .map((name) => join(root, folder, name));
}

async function unitTests() {
  const results = await runFiles([...filesBelow("src", ".test.ts"), ...filesBelow("tools", ".test.mjs")]);
  const sum = totals(results);
  say(`  ${sum.files} files, ${sum.tests} tests: ${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`);
  for (const [reason, count] of sum.reasons) say(`  skipped ${count}: ${reason}`);
  return sum;
}

const commands = [
  ["layers", process.execPath, ["tools/layers.mjs"]],
  ["format and lint", packageCommand("biome"), ["check", "--max-diagnostics=20", "."]],
  ["types", packageCommand("tsc"), ["-p", "."]],
  ["table of what is carried", process.execPath, ["--import", "tsx", "tools/support.ts", "--check"]],
];

/** Runs all steps, also after one has failed; returns the names of those that failed and the sum of the unit tests. */
export async function runOkSteps() {
  const failed = [];
  for (const [name, command, args] of commands) {
    say(`\n== ${name}`);
    const started = Date.now();
    const status = run(command, args);
    if (status !== 0) failed.push(name);
    say(`  ${status === 0 ? "ok" : "FAILED"} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
  }
  say("\n== unit tests");
  const sum = await unitTests();
  if (!sum.ok) failed.push("unit tests");
  return { failed, sum };
}
