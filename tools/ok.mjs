/** `npm run ok`: layers, format and lint, types, unit tests. Exit code 0 when all hold. */
import { ensurePackages, fail, say } from "./setup.mjs";

ensurePackages();
const { runOkSteps } = await import("./ok-steps.mjs");
const { failed } = await runOkSteps();
if (failed.length > 0) fail(`\nNot ok: ${failed.join(", ")}`);
say("\nok");
