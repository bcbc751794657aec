/**
 * `npm run demo`: real programs are frozen into files, killed, and brought back to go on. Works on a fresh clone; needs
 * root. Everything happens in a temporary folder and in process namespaces of its own, and is gone afterwards.
 *
 * FLOE_PROGRAM_MIB   memory of the largest program (default 1024)
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { ensurePackages, fail, root, run } from "./setup.mjs";
import { ensurePrograms, requireRoot } from "./test-needs.mjs";

ensurePackages();
requireRoot("demo");
ensurePrograms();
if (run(process.execPath, ["tools/build.mjs"]) !== 0) fail("The build failed");

const folder = mkdtempSync(join(tmpdir(), "floe-demo-"));
// Ctrl-C ends the demo; we live on to clean up.
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => undefined);
try {
  const env = { ...process.env, TMPDIR: folder };
  const demo = spawn(process.execPath, ["--import", "tsx", join("test", "programs", "demo.ts")], { cwd: root, env, stdio: "inherit" });
  const [code] = await once(demo, "exit");
  process.exitCode = code ?? 1;
} finally {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}
