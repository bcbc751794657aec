/**
 * Runs the thread parts: one program per thread that holds the calls of all parts, all threads at once.
 */
import type { ThreadDump, ThreadPart, ThreadRestore } from "../resources/part.js";
import { Program } from "../target/program.js";
import { type Job, runAll } from "../target/run.js";

/** Asks every part about every thread: one round trip per thread, whatever the number of parts. */
export function dumpThreads(parts: readonly ThreadPart[], contexts: readonly Omit<ThreadDump, "program">[]): void {
  const jobs: Job[] = [];
  const after: (() => void)[] = [];
  for (const context of contexts) {
    const program = new Program();
    for (const part of parts) {
      const done = part.dump?.({ ...context, program });
      if (done !== undefined) after.push(done);
    }
    jobs.push({ thread: context.thread, program });
  }
  runAll(jobs);
  for (const done of after) done();
}

/** Lets every part of one stage set every thread: one program per thread. */
export function restoreThreads(parts: readonly ThreadPart[], contexts: readonly Omit<ThreadRestore, "program">[]): void {
  const jobs: Job[] = [];
  const after: (() => void)[] = [];
  for (const context of contexts) {
    const program = new Program();
    for (const part of parts) {
      const done = part.restore?.({ ...context, program });
      if (done !== undefined) after.push(done);
    }
    jobs.push({ thread: context.thread, program });
  }
  runAll(jobs);
  for (const done of after) done();
}
