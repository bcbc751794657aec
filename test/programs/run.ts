/** Runs one of the real programs to its end, with or without being frozen, killed and brought back on the way. */
import assert from "node:assert/strict";
import { readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { describeExit, type Exit, withTimeout } from "../harness/lane.js";
import { Subject } from "../harness/subject.js";
import type { Program } from "./programs.js";

/** One freeze: how long it took, and how large it is. */
export interface Freeze {
  readonly dumpMs: number;
  readonly restoreMs: number;
  readonly imageBytes: number;
  readonly processes: number;
}

interface Run {
  readonly result: string;
  readonly freezes: readonly Freeze[];
}

const endMs = 120_000;

function bytesIn(folder: string): number {
  return readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
}

/** What a dump says of a program that has come to its end in the meantime. */
const hasEnded = /\[(NO_SUCH_PROCESS|PROCESS_IS_DEAD|PROCESS_VANISHED)\]/;

/** Freezes, kills and brings back; the program's exit if its end came before the freeze. */
async function freeze(subject: Subject): Promise<Freeze | Exit> {
  const processes = (await subject.lane.inspect()).length;
  const end = subject.lane.nextExit(subject.pid);
  const started = performance.now();
  const { exit, text } = await subject.run(subject.dumpLine());
  if (exit.code !== 0) {
    assert.match(text, hasEnded, `the dump ${describeExit(exit)}`);
    return await withTimeout(end, endMs, "The end of the program that had ended");
  }
  assert.equal((await withTimeout(end, endMs, "The end of the dumped program")).signal, 9);
  await subject.untilAlone([]);
  const dumped = performance.now();
  const imageBytes = bytesIn(subject.images);
  await subject.restore();
  const restoreMs = performance.now() - dumped;
  for (const name of readdirSync(subject.images)) rmSync(join(subject.images, name));
  return { dumpMs: dumped - started, restoreMs, imageBytes, processes };
}

interface Orders {
  /** How many times its usual work. */
  readonly times: number;
  readonly freeze: boolean;
  /** Gets what happens, as it happens. */
  readonly tell?: (freeze: Freeze) => void;
}

/** Runs it to its end; with fewer freezes than it has moments if the end comes before. */
async function runOnce(program: Program, orders: Orders): Promise<Run> {
  const subject = await Subject.open();
  const folder = join(subject.folder, "work");
  try {
    await subject.start(program.prepare(folder, orders.times), () => true);
    const freezes: Freeze[] = [];
    let exit: Exit | undefined;
    for (const isMoment of orders.freeze ? program.moments : []) {
      await subject.until(() => isMoment(folder) || subject.lane.hasExited(subject.pid), `${program.name} does not get on`, endMs);
      const one = subject.lane.hasExited(subject.pid) ? await subject.lane.nextExit(subject.pid) : await freeze(subject);
      if ("signal" in one) {
        exit = one;
        break;
      }
      freezes.push(one);
      orders.tell?.(one);
    }
    if (program.waitsForGo === true) writeFileSync(join(folder, "go"), "");
    exit ??= await withTimeout(subject.lane.nextExit(subject.pid), endMs, `The end of ${program.name}`);
    if (exit.code !== 0) throw new Error(`${program.name} ${describeExit(exit)}: ${subject.report()}`);
    await subject.untilAlone([]);
    return { result: program.result(folder), freezes };
  } finally {
    await subject.close();
  }
}

export interface Teller {
  undisturbed?(ms: number): void;
  frozen?(freeze: Freeze): void;
  /** The program had come to its end before it could be frozen once more; it gets so many times its usual work now. */
  again?(times: number): void;
}

/**
 * Runs it left alone, then frozen at each of its moments, and compares the results. Where the program is done before it can
 * be frozen so often (a slow machine: Floe takes long to start), both once more with more work.
 */
export async function runTwice(program: Program, teller: Teller = {}): Promise<readonly Freeze[]> {
  for (let times = 1; ; times *= 2) {
    const started = performance.now();
    const undisturbed = await runOnce(program, { times, freeze: false });
    teller.undisturbed?.(performance.now() - started);
    const { result, freezes } = await runOnce(program, { times, freeze: true, ...(teller.frozen && { tell: teller.frozen }) });
    if (result !== undisturbed.result) throw new Error(`the result is another:\n${result}\ninstead of\n${undisturbed.result}`);
    if (freezes.length === program.moments.length) return freezes;
    if (times === 32) throw new Error(`${program.name} was done after ${freezes.length} of ${program.moments.length} freezes`);
    teller.again?.(times * 2);
  }
}
