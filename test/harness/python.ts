/** Subjects that are a few lines of Python. */
import assert from "node:assert/strict";

import { Subject } from "./subject.js";

/** Runs Python in a lane until it says ready. */
export async function withPython(script: string, work: (subject: Subject) => Promise<void>): Promise<void> {
  const subject = await Subject.open();
  try {
    const program = `import ctypes, os, socket, struct, sys, time\n${script}\nprint("ready", flush=True)\nwhile True: time.sleep(0.05)`;
    await subject.start(["python3", "-c", program], () => /^ready$/m.test(subject.report()));
    await work(subject);
    await subject.lane.sweep();
  } finally {
    await subject.close();
  }
}

/** A dump that must fail with `code`; the process goes on. `by` comes before the command line. */
export async function refusedDump(
  subject: Subject,
  code: string,
  { options = [], by = [] }: { options?: readonly string[] | undefined; by?: readonly string[] } = {},
): Promise<void> {
  const { exit, text } = await subject.run([...by, ...subject.dumpLine(options)]);
  assert.equal(exit.code, 1, text);
  assert.ok(text.includes(`[${code}]`), `no ${code} in: ${text}`);
  assert.equal(subject.lane.hasExited(subject.pid), false, "the process has ended");
}
