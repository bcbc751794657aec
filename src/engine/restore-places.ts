/**
 * What a process gets when its memory is filled: the ends of its memory, its layout and executable, directories, and descriptors. All of it
 * is one program for each process, and all processes run theirs at once.
 */
import { addTable } from "../resources/files/table.js";
import { Directories, addWorkingDir } from "../resources/files/working-dir.js";
import { Executables, type Filled, addFinish, addLayout, finishObjects } from "../resources/memory/finish.js";
import { Program } from "../target/program.js";
import { type Job, runAll } from "../target/run.js";
import { faultPoint } from "./fault.js";
import type { Session, TaskInMaking } from "./restore-session.js";

/** Ends of memory alone, where memory that comes later is to be registered before anything else is done. */
export function finishMemory(filled: readonly Filled[]): void {
  runAll(
    filled.map((one) => {
      const program = new Program();
      addFinish(program, one);
      return { thread: one.task.leader, program };
    }),
  );
}

/** Everything; `filled` are the tasks of the session, in their order. */
export function placeTasks(filled: readonly Filled[], session: Session): void {
  const executables = new Executables(session);
  try {
    finishObjects(session);
    session.openPlainFiles();
    const tables = firstOfEach(session.tasks, (task) => task.saved.living.table.id);
    // A table is filled when nobody takes descriptors into it who shares it.
    const areShared = tables.length < session.tasks.length;
    const filling = new Filling(session);
    const jobs = addPlaces(filled, { session, executables });
    if (!areShared) session.tasks.forEach((task, i) => void filling.add((jobs[i] as Job).program, task));
    runPlaces(jobs);
    if (areShared) runPlaces(tables.map((task) => filling.add(new Program(), task)));
    faultPoint("restore-layout");
    filling.finish();
  } finally {
    executables.close();
  }
}

function addPlaces(filled: readonly Filled[], { session, executables }: { session: Session; executables: Executables }): Job[] {
  const directories = new Directories(session);
  // Who shares these with others must not go where another one is about to make its root.
  const walkers = new Set(firstOfEach(session.tasks, (task) => task.saved.living.ids.fs_id));
  return filled.map((one, i) => {
    const { task } = one;
    const of = session.tasks[i] as TaskInMaking;
    const program = new Program();
    if (one.owner === undefined) {
      if (session.lazy === undefined) addFinish(program, one);
      addLayout(program, one, executables);
    }
    if (walkers.has(of)) addWorkingDir(program, { fs: of.saved.living.fs, task }, { session, directories });
    return { thread: task.leader, program };
  });
}

function runPlaces(jobs: readonly Job[]): void {
  runAll(jobs);
  for (const { thread } of jobs) thread.closeOnDeath([]);
}

/** Descriptor tables being filled. */
class Filling {
  readonly #session: Session;
  readonly #after: (() => void)[] = [];

  constructor(session: Session) {
    this.#session = session;
  }

  add(program: Program, task: TaskInMaking): Job {
    this.#after.push(addTable(program, { task, table: task.saved.living.table }, this.#session));
    return { thread: task.traced.leader, program };
  }

  finish(): void {
    for (const done of this.#after) done();
  }
}

/** Of all that have the same key the first. */
function firstOfEach<T, K>(all: readonly T[], key: (one: T) => K): T[] {
  const seen = new Set<K>();
  return all.filter((one) => !seen.has(key(one)) && seen.add(key(one)));
}
