/**
 * Real programs, frozen in the middle of their work, killed and brought back: what they bring forth is, byte for byte,
 * what an undisturbed run brings forth.
 */
import assert from "node:assert/strict";
import { freemem } from "node:os";
import { describe, test } from "node:test";

import { isRoot } from "../harness/subject.js";
import { programs } from "../programs/programs.js";
import { runTwice } from "../programs/run.js";

/** Memory of the largest program. Its images go through the page cache, so twice that must be free. */
const mib = Number(process.env["FLOE_PROGRAM_MIB"] ?? "2048");

describe("real programs", { concurrency: 2, skip: isRoot ? false : "needs root" }, () => {
  for (const program of programs(mib)) {
    const isLarge = program.waitsForGo === true && freemem() < mib * 2 * 2 ** 20;
    const skip = program.floeCannot ?? (isLarge ? `needs ${mib / 512} GiB of free memory` : false);
    test(`${program.story}: the same result as undisturbed`, { skip }, async (context) => {
      const freezes = await runTwice(program);
      for (const { processes, imageBytes, dumpMs, restoreMs } of freezes) {
        const size = `${processes} processes, ${Math.round(imageBytes / 2 ** 20)} MiB`;
        context.diagnostic(`${size}: dumped in ${Math.round(dumpMs)} ms, restored in ${Math.round(restoreMs)} ms`);
      }
      assert.equal(freezes.length, program.moments.length);
    });
  }
});
