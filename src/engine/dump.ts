/**
 * Dump: the order of things from a running tree to an image directory.
 *
 *   look     options, directory; nothing has been touched
 *   freeze   every thread stands still
 *   collect  from outside, then by one program in every thread
 *   save     descriptors and memory
 *   release  the stub out, registers back; run on, stay stopped, or die
 *
 * Whatever fails between freeze and release, the tree is released and runs on as if nothing had happened.
 */
import { Problems } from "../errors.js";
import { DirectorySink, type DumpSink } from "../images/sink.js";
import type { DirectorySource } from "../images/source.js";
import { NowhereSink } from "../images/nowhere.js";
import { syscallNumber } from "../linux/ffi/native.unsafe.js";
import { readStat, readStatus } from "../linux/proc/read.js";
import { SYS } from "../linux/syscalls.js";
import { dumpFiles } from "../resources/files/table.js";
import { fileIds } from "../resources/files/path-file.js";
import { dumpWorkingDir } from "../resources/files/working-dir.js";
import { refuseUnsettled } from "../resources/memory/aio.js";
import { dumpMappings } from "../resources/memory/mappings.js";
import { withoutPolicies } from "../resources/memory/policies.js";
import { savePages } from "../resources/memory/pages.js";
import { mmEntry } from "../resources/memory/mm.schema.js";
import type { DumpSession, Problem, ThreadDump } from "../resources/part.js";
import { fileKinds, threadParts } from "../resources/registry.js";
import { shadowStackOf } from "../resources/tasks/shadow-stack.js";
import { dumpClocks } from "../resources/namespaces/clocks.js";
import { refuseUncarried } from "../resources/tasks/vector-state.js";
import { withDeadLeader } from "../resources/tasks/dead-leader.js";
import { fpregsToImage } from "../resources/tasks/core-x86.js";
import { coreEntry, taskKobjIdsEntry } from "../resources/tasks/core.schema.js";
import { writeFilters } from "../resources/security/seccomp.js";
import { type FrozenTree, freezeTree, releaseTree } from "../target/freeze.js";
import { waitDeath } from "../target/seed.js";
import { closeStrays } from "../target/hand-over.js";
import { attachStub, detachStub, isInsideStub } from "../target/stub-attach.js";
import { readXstate, xstateLayout } from "../target/x86_64/xstate.js";
import { type CollectedTask, collect, emptyCore } from "./collect.js";
import { dedupAgainst } from "./dedup.js";
import { faultPoint as realFaultPoint } from "./fault.js";
import { writeInventory } from "./inventory.js";
import { type Logger, SILENT } from "./log.js";
import type { DumpOptions } from "./options.js";
import { Phases } from "./phases.js";
import { type DumpFigures, writeDumpStats } from "./stats.js";
import { requireRights } from "./rights.js";
import { PreCopies, preCopyTree, runningTree } from "./precopy.js";
import { openPrevious } from "./previous.js";
import { rehearse } from "./rehearsal.js";
import { dumpThreads } from "./thread-programs.js";
import { foreignNamespaces } from "./namespace-check.js";
import { namespaceIds } from "../resources/namespaces/ids.js";
import { checkRebuildable, writeTree } from "./dump-tree.js";

/** What a dump did. */
export interface DumpResult {
  readonly pids: readonly number[];
  readonly figures: DumpFigures;
}

/** How long a thread may take to get out of the stub of a dumper that was killed, in milliseconds. */
const LEFTOVER_NAP_MS = 5;

/** Dumps the tree below `options.tree`. Throws with the tree released and no image kept. */
export function dump(options: DumpOptions, log: Logger): DumpResult {
  requireRights("dump");
  const phases = new Phases();
  const sink = new DirectorySink(options.imagesDir, { supersedes: true });
  let parent: DirectorySource | undefined;
  try {
    parent = openPrevious(options, sink);
    rehearse((tree) =>
      frozenDump(
        { ...options, tree, leaveRunning: true, leaveStopped: false },
        { log: SILENT, sink: new NowhereSink(), phases: new Phases(), isRehearsal: true, copies: new PreCopies(), parent: undefined },
      ),
    );
    const copies = preCopyTree(options, { log, sink, parent });
    const result = withCopies(copies, () => {
      copies.withoutPolicies = withoutPolicies(runningTree(options.tree));
      return frozenDump(options, { log, sink, phases, isRehearsal: false, copies, parent });
    });
    if (options.autoDedup === true) giveBackRoom(options.imagesDir, log);
    writeStats(options.workDir, result.figures, log);
    return result;
  } catch (error) {
    sink.discard();
    throw error;
  } finally {
    parent?.close();
  }
}

/** The images are whole by now: that older ones keep their pages is no failure. */
function giveBackRoom(imagesDir: string, log: Logger): void {
  try {
    log.info(`${dedupAgainst(imagesDir)} bytes were taken out of older images`);
  } catch (error) {
    log.warn(`pages were left in older images: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** The images may be all that is left of the process by now: nothing that goes wrong here may cost them. */
function writeStats(workDir: string, figures: DumpFigures, log: Logger): void {
  try {
    writeDumpStats(workDir, figures);
  } catch (error) {
    log.warn(`the statistics were not written: ${error instanceof Error ? error.message : String(error)}`);
  }
}

interface Tools {
  readonly log: Logger;
  readonly sink: DumpSink;
  readonly phases: Phases;
  /** Done on a process of ours, only to have all code ready: nothing is refused, no fault is asked for. */
  readonly isRehearsal: boolean;
  readonly copies: PreCopies;
  /** The images of the dump before. */
  readonly parent: DirectorySource | undefined;
}

function withCopies<T>(copies: PreCopies, action: () => T): T {
  try {
    return action();
  } finally {
    copies.close();
  }
}

function frozenDump(options: DumpOptions, tools: Tools): DumpResult {
  const { log, sink, phases } = tools;
  const faultPoint = tools.isRehearsal ? () => undefined : realFaultPoint;
  phases.enter("freezing");
  const { tree, tasks } = freezeOutsideStubs(options);
  log.info(`frozen: ${tree.tasks.length} processes, ${tree.zombies.length} dead`);
  const session = new Session(options, tools, tasks);
  let released = false;
  try {
    phases.enter("collecting");
    faultPoint("dump-frozen");
    for (const problem of foreignNamespaces(tasks)) session.refuse(problem);
    if (tasks[0] !== undefined) dumpClocks(tasks[0], session);
    for (const task of tasks) attachStub(task.traced, task.code);
    faultPoint("dump-stub");
    collectThreads(session);
    faultPoint("dump-threads");
    phases.enter("files");
    dumpFiles(tasks, session, fileKinds);
    for (const task of tasks) dumpWorkingDir(task, session);
    const mms = dumpMappings(tasks, session);
    faultPoint("dump-files");
    session.throwProblems();
    phases.enter("memory");
    const pages = savePages(tasks, session);
    refuseUnsettled(session);
    faultPoint("dump-memory");
    tasks.forEach((task, i) => {
      const mm = mms[i];
      if (mm !== undefined) session.later(() => sink.append("MM", [task.pid], { type: mmEntry, value: mm }));
      writeCores(task, session);
    });
    const saved = writeTree(tree, tasks, { sink, rootPid: options.tree });
    session.later(() => checkRebuildable(saved, tasks));
    writeInventory(sink, options);
    writeFilters(session);
    session.throwProblems();
    phases.enter("writing");
    const keepsRunning = options.leaveRunning || options.leaveStopped;
    if (!keepsRunning) session.finish();
    faultPoint("dump-written");
    phases.enter("releasing");
    if (keepsRunning) {
      session.undoAll();
      letGo(tree, options.leaveStopped);
      released = true;
      phases.leave();
      session.finish();
    } else {
      session.prepareDeath();
      faultPoint("dump-dying");
      killTree(tree);
      released = true;
      session.concludeDeath();
      phases.leave();
    }
    log.debug(
      `microseconds: ${phases
        .all()
        .map(([name, us]) => `${name} ${us}`)
        .join(", ")}`,
    );
    return { pids: tasks.map((t) => t.pid), figures: { phases, pages } };
  } finally {
    if (!released) {
      session.undoAll();
      letGo(tree, false);
    }
  }
}

/** Freezes; a tree with a thread still under way in a dead dumper's stub gets a moment to come out of it. */
function freezeOutsideStubs(options: DumpOptions): { tree: FrozenTree; tasks: CollectedTask[] } {
  const deadline = performance.now() + options.timeoutS * 1000;
  const nap = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    const tree = freezeTree(options.tree, { timeoutMs: Math.max(0, deadline - performance.now()) });
    try {
      const tasks = collect(tree);
      if (!tasks.some((t) => isInsideStub(t.traced, t.code))) return { tree, tasks };
    } catch (error) {
      releaseTree(tree);
      throw error;
    }
    releaseTree(tree);
    Atomics.wait(nap, 0, 0, LEFTOVER_NAP_MS);
  }
}

/** The session that parts see. */
class Session implements DumpSession {
  readonly options: DumpOptions;
  readonly images: DumpSink;
  readonly tasks: readonly CollectedTask[];
  readonly cores: ThreadDump["core"][] = [];
  readonly #log: Logger;
  readonly #isRehearsal: boolean;
  readonly #problems: Problem[] = [];
  readonly #undo: (() => void)[] = [];
  readonly precopied: DumpSession["precopied"];
  readonly withoutPolicies: DumpSession["withoutPolicies"];
  readonly parent: DumpSession["parent"];
  readonly fileId: DumpSession["fileId"];
  readonly progress: DumpSession["progress"];

  constructor(options: DumpOptions, tools: Tools, tasks: readonly CollectedTask[]) {
    this.options = options;
    this.images = tools.sink;
    this.tasks = tasks;
    this.#log = tools.log;
    this.#isRehearsal = tools.isRehearsal;
    this.precopied = tools.copies.byPid;
    this.withoutPolicies = tools.copies.withoutPolicies;
    this.parent = tools.parent;
    this.fileId = fileIds(this);
    const { progress } = options;
    const isWatched = progress !== undefined && !tools.isRehearsal;
    this.progress = isWatched ? (doneBytes, totalBytes) => progress({ doing: "saving memory", doneBytes, totalBytes }) : undefined;
  }

  #lastFileId = 0;

  newFileId(): number {
    return ++this.#lastFileId;
  }

  refuse(problem: Problem): void {
    this.#problems.push(problem);
  }

  takeBack(undo: () => void): void {
    this.#undo.push(undo);
  }

  /** The tree lives on: nothing of this dump stays outside of the images. */
  undoAll(): void {
    for (const undo of this.#undo.splice(0).reverse()) {
      try {
        undo();
      } catch (error) {
        this.warn(`something could not be taken back: ${(error as Error).message}`);
      }
    }
  }

  readonly #beforeDeath: (() => void)[] = [];

  beforeDeath(work: () => void): void {
    this.#beforeDeath.push(work);
  }

  readonly #afterDeath: (() => void)[] = [];

  afterDeath(work: () => void): void {
    this.#afterDeath.push(work);
  }

  /** The images are whole and the tree is dead: nothing that fails here makes it a failed dump. */
  concludeDeath(): void {
    for (const work of this.#afterDeath.splice(0)) {
      try {
        work();
      } catch (error) {
        this.warn(`after the end of the tree: ${(error as Error).message}`);
      }
    }
  }

  prepareDeath(): void {
    for (const work of this.#beforeDeath.splice(0)) work();
  }

  warn(message: string): void {
    this.#log.warn(message);
  }

  readonly #later: (() => void)[] = [];

  /** Puts off work that needs nothing of the tree any more: it is done after a tree that runs on has been let go. */
  later(work: () => void): void {
    this.#later.push(work);
  }

  /** Does what was put off, and completes the images. */
  finish(): void {
    for (const work of this.#later.splice(0)) work();
    this.images.finish();
  }

  throwProblems(): void {
    if (this.#isRehearsal) return;
    if (this.#problems.length === 1 && this.#problems[0] !== undefined) throw this.#problems[0];
    if (this.#problems.length > 1) throw new Problems(this.#problems);
  }
}

const coresOf = new WeakMap<CollectedTask, ThreadDump["core"][]>();

/** Registers from outside, everything else by one program in each thread, all threads at once. */
function collectThreads(session: Session): void {
  const contexts: Omit<ThreadDump, "program">[] = [];
  for (const task of session.tasks) {
    const cores: ThreadDump["core"][] = [];
    task.traced.threads.forEach((thread, index) => {
      const isLeader = index === 0;
      const layout = xstateLayout(thread.tid);
      const core = isLeader ? task.core : emptyCore(thread, false);
      const area = readXstate(thread.tid, layout);
      refuseUncarried(area, { session, task, tid: thread.nsTid });
      session.later(() => {
        if (core.thread_info !== undefined) core.thread_info.fpregs = fpregsToImage(area, layout, shadowStackOf(core));
      });
      cores.push(core);
      contexts.push({
        session,
        task,
        thread,
        isLeader,
        status: isLeader ? task.status : readStatus(task.traced.pid, thread.tid),
        stat: isLeader ? task.stat : readStat(task.traced.pid, thread.tid),
        core,
      });
    });
    coresOf.set(task, cores);
  }
  dumpThreads(threadParts, contexts);
}

function writeCores(task: CollectedTask, session: Session): void {
  const { tc } = task.core;
  if (tc !== undefined) tc.flags = task.stat.flags >>> 0;
  const threads = (coresOf.get(task) ?? []).map((core, index) => ({ tid: task.traced.threads[index]?.nsTid ?? 0, core }));
  for (const { tid, core } of withDeadLeader(task, threads)) {
    session.later(() => session.images.append("CORE", [tid], { type: coreEntry, value: core }));
  }
  const ids = {
    vm_id: task.ids.vm,
    files_id: task.ids.files,
    fs_id: task.ids.fs,
    sighand_id: task.ids.sighand,
    ...namespaceIds(task.traced.pid),
  };
  session.images.append("IDS", [task.pid], { type: taskKobjIdsEntry, value: ids });
}

/** Stub out, registers back, detached; `stopped`: with a SIGSTOP on its way. A process that died meanwhile is no error. */
function letGo(tree: FrozenTree, stopped: boolean): void {
  let failure: unknown;
  for (const task of tree.tasks) {
    try {
      closeStrays(task);
      detachStub(task);
    } catch (error) {
      failure ??= error;
    }
    if (stopped) syscallNumber(SYS.kill, task.pid, 19);
  }
  releaseTree(tree);
  if (failure !== undefined) throw failure;
}

function killTree(tree: FrozenTree): void {
  for (const task of tree.tasks) syscallNumber(SYS.kill, task.pid, 9);
  for (const task of [...tree.tasks].reverse()) {
    for (const thread of [...task.threads.slice(1), ...task.threads.slice(0, 1)]) waitDeath(thread.tid);
  }
}
