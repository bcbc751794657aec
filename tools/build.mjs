/**
 * Builds what is shipped.
 *
 *   node tools/build.mjs          dist/floe.js (command line, for Node) and dist/index.js + .d.ts (the library)
 *   node tools/build.mjs --exe    dist/floe (one executable that needs no Node)
 *   --entry FILE                  another entry than src/cli/main.ts, to try something out
 */
import { existsSync } from "node:fs";
import { parseArgs } from "node:util";

import { ensurePackages, fail, root } from "./setup.mjs";

const { values } = parseArgs({ options: { exe: { type: "boolean" }, entry: { type: "string" } } });
ensurePackages();

const { buildBundle, buildExecutable, buildTypes } = await import("./bundle.mjs");
process.chdir(root);

const entry = values.entry ?? "src/cli/main.ts";
if (!existsSync(entry)) fail(`Cannot build: ${entry} does not exist`);
try {
  if (values.exe) {
    await buildExecutable(entry);
  } else {
    const library = existsSync("src/index.ts") ? "src/index.ts" : undefined;
    await buildBundle({ entry, library });
    if (library !== undefined) buildTypes(library);
  }
} catch (error) {
  // esbuild has printed its errors with the lines they are in.
  fail(`Cannot build: ${error.errors === undefined ? error.message : `${error.errors.length} errors`}`);
}
