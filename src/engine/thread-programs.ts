/**
 * Runs the thread parts: one program per thread that holds the calls of all parts, all threads at once.
 */
import type { ThreadDump, ThreadPart, ThreadRestore } from "../resources/part.js";
import { arch } from "../target/arch.js";
import { Program } from "../target/program.js";
import { slotAt } from "../target/region.js";
import { type Job, runAll } from "../target/run.js";
import type { TracedThread } from "../target/thread.js";
import { type Answers, UniformLayout, type UniformJob, runUniform } from "../target/uniform.js";

type Context = Omit<ThreadDump, "program">;

/** A thread that is asked, and what is to be done with what its own program said, by part. */
interface Asked {
  readonly context: Context;
  readonly program: Program;
  readonly isAlike: boolean;
  readonly done: readonly ((() => void) | undefined)[];
}

/**
 * Asks every part about every thread. What is asked of all threads alike is one program, laid out once; what only some are asked is a
 * program of the thread's own, as is everything that special ones are asked.
 */
export function dumpThreads(parts: readonly ThreadPart[], contexts: readonly Context[]): void {
  const alike = new Set(contexts.filter(isAlike));
  const asking = parts.filter((part) => part.dump !== undefined);
  const inFreeze = asking.filter((part) => part.uniform !== "later");
  const later = asking.filter((part) => part.uniform === "later");
  const asked = contexts.map((context): Asked => {
    const program = new Program();
    const isOneOfMany = alike.has(context);
    const thread = { ...context, program };
    const done = (isOneOfMany ? inFreeze : asking).map((part) =>
      isOneOfMany && part.uniform !== undefined ? undefined : part.dump?.(thread),
    );
    return { context, program, isAlike: isOneOfMany, done };
  });
  const kinds = kindsOf([...alike], asking);
  const answers = runUniform(kinds);
  const askedNow = new Map(kinds.flatMap((kind) => kind.threads.map((thread) => [thread, kind.now])));
  runAll(asked.map(({ context, program }) => ({ thread: context.thread, program })));
  for (const { context, done, isAlike } of asked) {
    const own = isAlike ? answers.get(context.thread) : undefined;
    // The order of the parts counts: what was asked of all comes in where it stands.
    (isAlike ? inFreeze : asking).forEach((part, i) => {
      if (own !== undefined && part.uniform === "now") {
        if (askedNow.get(context.thread)?.has(part) === true) takeIn([part], context, own);
      } else done[i]?.();
    });
    if (own !== undefined) context.session.later(() => takeIn(later, context, own));
  }
}

/** 32-bit threads get some of it by other calls, and of a process whose first thread has ended some is needed at once. */
function isAlike({ task, thread }: Context): boolean {
  return !task.traced.hasLostLeader && !arch.isCompat(thread.regs) && thread.strayFds.length === 0;
}

/** What leaders, or other threads, are asked. */
interface Questions {
  readonly layout: UniformLayout;
  /** Parts that have asked something and need it at once. */
  readonly now: ReadonlySet<ThreadPart>;
}

type Kind = UniformJob & Questions;

/** Laid out when a thread is asked for the first time, which is in the rehearsal, and good for every thread after it. */
let learnt: { readonly leader: Questions; readonly other: Questions } | undefined;

/** Leaders and other threads: what each kind is asked. */
function kindsOf(contexts: readonly Context[], asking: readonly ThreadPart[]): Kind[] {
  const [first] = contexts;
  if (first === undefined) return [];
  learnt ??= { leader: learn({ ...first, isLeader: true }, asking), other: learn({ ...first, isLeader: false }, asking) };
  const { leader, other } = learnt;
  return [true, false].map((isLeader): Kind => {
    const threads = contexts.filter((context) => context.isLeader === isLeader).map(({ thread }) => thread);
    return { ...(isLeader ? leader : other), threads };
  });
}

/** Any region: where it lies does not matter. */
const ANYWHERE = 1n << 32n;

function learn(context: Context, asking: readonly ThreadPart[]): Questions {
  const program = new Program();
  const ask = (part: ThreadPart) => {
    const before = program.entries.length;
    part.dump?.({ ...context, program });
    return program.entries.length > before;
  };
  const now = new Set(asking.filter((part) => part.uniform === "now").filter(ask));
  asking.filter((part) => part.uniform === "later").forEach(ask);
  return { layout: new UniformLayout(program, slotAt(ANYWHERE, context.isLeader ? 0 : 1)), now };
}

function takeIn(parts: readonly ThreadPart[], context: Context, answers: Answers): void {
  const program = new Program();
  const thread = { ...context, program };
  const done = parts.map((part) => part.dump?.(thread));
  answers.give(program);
  for (const one of done) one?.();
}

/** A thread, and the parts that are to set it. */
export interface AskedToRestore {
  readonly parts: readonly ThreadPart[];
  readonly context: Omit<ThreadRestore, "program">;
}

/** Lets parts set every thread: one program per thread, to which `lastCalls` adds some. */
export function restoreThreads(asked: readonly AskedToRestore[], lastCalls?: (program: Program, thread: TracedThread) => void): void {
  const jobs: Job[] = [];
  const after: (() => void)[] = [];
  for (const { parts, context } of asked) {
    const program = new Program();
    const thread: ThreadRestore = { ...context, program };
    for (const part of parts) {
      const done = part.restore?.(thread);
      if (done !== undefined) after.push(done);
    }
    lastCalls?.(program, context.thread);
    jobs.push({ thread: context.thread, program });
  }
  runAll(jobs);
  for (const done of after) done();
}
