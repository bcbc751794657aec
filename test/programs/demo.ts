/** What `npm run demo` shows, once everything it needs is there: every real program frozen, killed and brought back. */
import { programs } from "./programs.js";
import { type Freeze, runTwice } from "./run.js";

/** Memory of the largest program. */
const mib = Number(process.env["FLOE_PROGRAM_MIB"] ?? "1024");

const say = (text: string): void => void process.stdout.write(`${text}\n`);
const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;

function size(bytes: number): string {
  const mebibytes = bytes / 2 ** 20;
  return mebibytes < 1024 ? `${Math.max(1, Math.round(mebibytes))} MiB` : `${(mebibytes / 1024).toFixed(1)} GiB`;
}

function tell({ processes, imageBytes, dumpMs, restoreMs }: Freeze): void {
  const what = processes === 1 ? "1 process" : `${processes} processes`;
  say(`   frozen and killed: ${what}, now ${size(imageBytes)} of files, in ${seconds(dumpMs)}`);
  say(`   brought back in ${seconds(restoreMs)}`);
}

say("Each of these programs runs twice. The first time it is left alone. The second time it is frozen into files in the");
say("middle of its work, killed, and brought back from the files. Both times it must bring forth the same, to the byte.");
let failed = 0;
for (const [i, program] of programs(mib).entries()) {
  say(`\n${i + 1}. ${program.name}: ${program.story}`);
  if (program.floeCannot !== undefined) {
    say(`   left out: ${program.floeCannot}`);
    continue;
  }
  try {
    await runTwice(program, {
      undisturbed: (ms) => say(`   left alone: done in ${seconds(ms)}`),
      frozen: tell,
      again: (times) => say(`   it was done before it could be frozen once more: both again, with ${times} times the work`),
    });
    say("   it went on as if nothing had happened: the result is the same");
  } catch (error) {
    failed += 1;
    say(`   FAILED: ${error instanceof Error ? error.message : String(error)}`);
  }
}
say(failed === 0 ? "\nAll of them came back." : `\n${failed} of them failed.`);
process.exitCode = failed === 0 ? 0 : 1;
