/** Runs one of the real programs to its end, with or without being frozen, killed and brought back on the way. */
import { readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { describeExit, withTimeout } from "../harness/lane.js";
import { Subject } from "../harness/subject.js";
import type { Program } from "./programs.js";

/** One freeze: how long it took, and how large it is. */
export interface Freeze {
  readonly dumpMs: number;
  readonly restoreMs: number;
  readonly imageBytes: number;
  readonly processes: number;
}

export interface Run {
  readonly result: string;
  readonly freezes: readonly Freeze[];
}

const endMs = 60_000;

function bytesIn(folder: string): number {
  return readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
}

async function freeze(subject: Subject): Promise<Freeze> {
  const processes = (await subject.lane.inspect()).length;
  const started = performance.now();
  await subject.dump();
  const dumped = performance.now();
  const imageBytes = bytesIn(subject.images);
  await subject.restore();
  const restoreMs = performance.now() - dumped;
  for (const name of readdirSync(subject.images)) rmSync(join(subject.images, name));
  return { dumpMs: dumped - started, restoreMs, imageBytes, processes };
}

/** `tell` gets what happens, as it happens. */
export async function runProgram(program: Program, options: { freeze: boolean; tell?: (freeze: Freeze) => void }): Promise<Run> {
  const subject = await Subject.open();
  const folder = join(subject.folder, "work");
  try {
    const argv = program.prepare(folder);
    await subject.start(argv, () => true);
    const freezes: Freeze[] = [];
    for (const isMoment of options.freeze ? program.moments : []) {
      await subject.until(() => isMoment(folder) || subject.lane.hasExited(subject.pid), `${program.name} does not get on`, endMs);
      if (subject.lane.hasExited(subject.pid)) throw new Error(`${program.name} ended before it could be frozen: ${subject.report()}`);
      const one = await freeze(subject);
      freezes.push(one);
      options.tell?.(one);
    }
    if (program.waitsForGo === true) writeFileSync(join(folder, "go"), "");
    const exit = await withTimeout(subject.lane.nextExit(subject.pid), endMs, `The end of ${program.name}`);
    if (exit.code !== 0) throw new Error(`${program.name} ${describeExit(exit)}: ${subject.report()}`);
    await subject.untilAlone([]);
    return { result: program.result(folder), freezes };
  } finally {
    await subject.close();
  }
}
