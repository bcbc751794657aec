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
import { Problems, UsageError } from "../errors.js";
import type { DumpSink } from "../images/sink.js";
import type { DirectorySource } from "../images/source.js";
import { syscallNumber } from "../linux/ffi/native.unsafe.js";
import { readStat, readStatus } from "../linux/proc/read.js";
import { SYS } from "../linux/syscalls.js";
import { copyFilesAhead } from "../resources/files/carry-ahead.js";
import { learnMapped } from "../resources/files/unchanged.js";
import { dumpFiles } from "../resources/files/table.js";
import { fileIds, namedIfTooLong } from "../resources/files/path-file.js";
import { dumpWorkingDir } from "../resources/files/working-dir.js";
import { refuseUnsettled } from "../resources/memory/aio.js";
import { dumpMappings } from "../resources/memory/mappings.js";
import { withoutPolicies } from "../resources/memory/policies.js";
import { waitForRings } from "../resources/events/io-uring-state.js";
import { refuseForeignHandlers } from "../resources/events/userfaultfd.js";
import { dumpSessions } from "../resources/ttys/terminal.js";
import { savePages } from "../resources/memory/pages.js";
import { type Room, roomFor } from "../resources/memory/room.js";
import { mmEntry } from "../resources/memory/mm.schema.js";
import type { DumpSession, Problem, ThreadDump } from "../resources/part.js";
import { fileKinds, threadParts } from "../resources/registry.js";
import { shadowStackOf } from "../resources/tasks/shadow-stack.js";
import { dumpClocks } from "../resources/namespaces/clocks.js";
import { dumpIpc } from "../resources/ipc/own.js";
import { endByDueHandlers } from "../resources/tasks/restart-block.js";
import { refuseUncarried } from "../resources/tasks/vector-state.js";
import { withDeadLeader } from "../resources/tasks/dead-leader.js";
import { fpregsToImage } from "../resources/tasks/core-x86.js";
import { coreEntry, taskKobjIdsEntry } from "../resources/tasks/core.schema.js";
import { writeFilters } from "../resources/security/seccomp.js";
import { refuseGuardedPlaces } from "../resources/watches/guards.js";
import { hearOfLooks } from "../resources/watches/listeners.js";
import { type FrozenTree, freezeTree, releaseTree } from "../target/freeze.js";
import type { PreparedThreads } from "../target/prepared-threads.js";
import { waitDeath } from "../target/seed.js";
import { closeStrays } from "../target/hand-over.js";
import { attachStubs, detachStubs, isInsideStub } from "../target/stub-attach.js";
import { readXstate, xstateLayout } from "../target/x86_64/xstate.js";
import { type CollectedTask, collect, emptyCore } from "./collect.js";
import { compileForTree } from "./compilation.js";
import { dedupAgainst } from "./dedup.js";
import { faultPoint as realFaultPoint } from "./fault.js";
import { searchWatched } from "./irmap.js";
import { writeInventory } from "./inventory.js";
import type { Logger } from "./log.js";
import type { DumpOptions } from "./options.js";
import { Phases } from "./phases.js";
import { type DumpFigures, writeDumpStats } from "./stats.js";
import { Haste } from "./haste.js";
import { getReady } from "./preparations.js";
import { requireRights } from "./rights.js";
import { type PreCopies, preCopyTree, runningTree } from "./precopy.js";
import { type SharedCopies, copySharedAhead } from "./precopy-shared.js";
import type { LeftMemory } from "./page-server/give.js";
import { parentFor, sinkFor } from "./page-server/sink.js";
import { serveMemory } from "./page-server/source.js";
import { Ready, prepareMappings } from "./ready.js";
import { rehearseDump } from "./dump-rehearsal.js";
import { type Snapshots, planSnapshots } from "./snapshot.js";
import { dumpThreads } from "./thread-programs.js";
import { foreignNamespaces } from "./namespace-check.js";
import { namespaceIds, noteSameNamespaces } from "../resources/namespaces/ids.js";
import { checkRebuildable, writeTree } from "./dump-tree.js";

/** What stays from one dump of a tree to the next. */
export interface Resident {
  readonly copies: PreCopies;
  /** It was dumped before: all code is ready. */
  readonly isWarm: boolean;
}

/** What a dump did. */
export interface DumpResult {
  readonly pids: readonly number[];
  readonly figures: DumpFigures;
}

/** How long a thread may take to get out of the stub of a dumper that was killed, in milliseconds. */
const LEFTOVER_NAP_MS = 5;

/**
 * Dumps the tree below `options.tree`. Throws with the tree released and no image kept.
 *
 * `resident`: what is tracked from one dump to the next one, by whoever dumps the tree again and again.
 */
export function dump(options: DumpOptions, log: Logger, resident?: Resident): DumpResult {
  requireRights("dump");
  refuseGuardedPlaces(runningTree(options.tree), [options.imagesDir, options.workDir, "/proc"]);
  if (resident === undefined) compileForTree(runningTree(options.tree));
  const phases = new Phases();
  const sink = sinkFor(options);
  let parent: DirectorySource | undefined;
  try {
    parent = parentFor(options, sink);
    prepareMappings(options, resident !== undefined);
    if (resident?.isWarm !== true) rehearseDump(options, frozenDump);
    const copies = preCopyTree(options, { log, sink, parent }, resident?.copies);
    const result = withCopies(copies, resident, () => {
      using shared = copySharedAhead(options, { log, sink });
      const pids = runningTree(options.tree);
      copies.hearsOfLooks = hearOfLooks(pids);
      learnMapped(pids, { ...options, isHeard: copies.hearsOfLooks });
      copies.files = copyFilesAhead(pids, { options, scratch: () => sink.scratch(), isHeard: copies.hearsOfLooks });
      copies.readMounts();
      copies.irmap = searchWatched(pids, options, { log, parent });
      copies.withoutPolicies = withoutPolicies(pids);
      const snapshots = planSnapshots(options, copies, log);
      const room = roomFor(pids, { has: (pid) => copies.byPid.has(pid) || snapshots?.isWanted(pid) === true });
      getReady(pids, { ...options, hearsOfLooks: copies.hearsOfLooks });
      waitForRings(pids);
      using ready = new Ready(pids, { options, copies, shared });
      const tools = { log, sink, phases, isRehearsal: false, copies, shared, parent, room, snapshots, resident, ready };
      const haste = new Haste();
      try {
        return frozenDump(options, { ...tools, haste });
      } finally {
        haste.end();
      }
    });
    if (options.autoDedup === true) giveBackRoom(options.imagesDir, log);
    if (options.stream?.kind !== "frames") writeStats(options.workDir, result.figures, log);
    return result;
  } catch (error) {
    sink.discard();
    throw namedIfTooLong(error);
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
  /** Memory that the tree shares, copied ahead. */
  readonly shared?: SharedCopies;
  readonly snapshots: Snapshots | undefined;
  /** There is somebody who will dump the tree again. */
  readonly resident?: Resident | undefined;
  /** The images of the dump before. */
  readonly parent: DirectorySource | undefined;
  readonly room: Room;
  readonly haste?: Haste;
  readonly ready?: Ready;
}

function withCopies<T>(copies: PreCopies, resident: Resident | undefined, action: () => T): T {
  try {
    return action();
  } finally {
    if (resident === undefined) copies.close();
  }
}

function frozenDump(options: DumpOptions, tools: Tools): DumpResult {
  const { log, sink, phases } = tools;
  const faultPoint = tools.isRehearsal ? () => undefined : realFaultPoint;
  phases.enter("freezing");
  const { tree, tasks } = freezeOutsideStubs(options, tools);
  log.info(`frozen: ${tree.tasks.length} processes, ${tree.zombies.length} dead`);
  const session = new Session(options, tools, tasks);
  let released = false;
  try {
    phases.enter("collecting");
    faultPoint("dump-frozen");
    const texts = tools.ready?.texts.read();
    noteSameNamespaces(tree.tasks, tools.ready?.texts.namespaces ?? new Map());
    for (const problem of foreignNamespaces(tasks)) session.refuse(problem);
    if (tasks[0] !== undefined) dumpClocks(tasks[0], session);
    dumpIpc(session);
    attachStubs(tasks);
    faultPoint("dump-stub");
    collectThreads(session, tools.ready?.threads);
    faultPoint("dump-threads");
    phases.enter("files");
    dumpFiles(tasks, session, { kinds: fileKinds, prepared: tools.ready?.texts, texts });
    dumpSessions(session);
    refuseForeignHandlers(session);
    for (const task of tasks) dumpWorkingDir(task, session);
    const mms = dumpMappings(tasks, session);
    faultPoint("dump-files");
    session.throwProblems();
    phases.enter("memory");
    const pages = savePages(tasks, session);
    refuseUnsettled(session);
    if (tools.resident !== undefined) tools.copies.protectAgain(tools.ready?.unprotected);
    faultPoint("dump-memory");
    tasks.forEach((task, i) => {
      const mm = mms[i];
      if (mm !== undefined) session.later(() => sink.append("MM", [task.pid], { type: mmEntry, value: mm }));
      writeCores(task, session);
    });
    const writeIt = () => checkRebuildable(writeTree(tree, tasks, { sink, rootPid: options.tree }), tasks, options.shellJob);
    // What is dead is looked up while the tree stands still.
    if (tree.zombies.length === 0) session.later(writeIt);
    else {
      const saved = writeTree(tree, tasks, { sink, rootPid: options.tree });
      session.later(() => checkRebuildable(saved, tasks, options.shellJob));
    }
    session.later(() => writeInventory(sink, options));
    session.later(() => writeFilters(session));
    session.throwProblems();
    phases.enter("writing");
    const keepsRunning = options.leaveRunning || options.leaveStopped;
    if (!keepsRunning) {
      tools.haste?.end();
      session.finish();
    }
    faultPoint("dump-written");
    if (options.lazySource !== undefined && !tools.isRehearsal) {
      phases.enter("serving");
      try {
        serveMemory(options.lazySource, session.left, log);
      } catch (error) {
        if (!(error instanceof UsageError)) throw error;
        // It may run elsewhere by now: not twice at once.
        session.undoAll();
        letGo(tree, true);
        released = true;
        throw error;
      }
    }
    phases.enter("releasing");
    if (keepsRunning) {
      session.undoAll();
      letGo(tree, options.leaveStopped);
      released = true;
      tools.haste?.end();
      phases.leave();
      // Nobody waits for it any more, so it is not rehearsed.
      if (!tools.isRehearsal) session.finish();
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
    try {
      if (!released) {
        session.undoAll();
        letGoAnyhow(tree);
      }
    } finally {
      tools.snapshots?.close();
    }
  }
}

/** After a failure: what goes wrong with some process now must not hide what went wrong first. */
function letGoAnyhow(tree: FrozenTree): void {
  try {
    letGo(tree, false);
  } catch {
    // Everything that could be done has been; who is gone needs nothing.
  }
}

/** Freezes; a tree with a thread still under way in a dead dumper's stub gets a moment to come out of it. */
function freezeOutsideStubs(options: DumpOptions, tools: Tools): { tree: FrozenTree; tasks: CollectedTask[] } {
  const deadline = performance.now() + options.timeoutS * 1000;
  const nap = new Int32Array(new SharedArrayBuffer(4));
  const ordinary = tools.ready?.threads?.ordinary;
  for (;;) {
    const tree = freezeTree(options.tree, { timeoutMs: Math.max(0, deadline - performance.now()), ordinary });
    tools.ready?.unprotected?.begin();
    try {
      const tasks = collect(tree, tools.ready ?? {});
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
  readonly livesOn: boolean;
  readonly tasks: readonly CollectedTask[];
  readonly cores: ThreadDump["core"][] = [];
  readonly #log: Logger;
  readonly #isRehearsal: boolean;
  readonly #problems: Problem[] = [];
  /** Memory that stays with the processes. */
  readonly left: LeftMemory[] = [];
  readonly leave: DumpSession["leave"];
  readonly #undo: (() => void)[] = [];
  readonly precopied: DumpSession["precopied"];
  readonly unprotected: DumpSession["unprotected"];
  readonly sharedAhead: DumpSession["sharedAhead"];
  readonly snapshots: DumpSession["snapshots"];
  readonly filesAhead: DumpSession["filesAhead"];
  readonly irmap: DumpSession["irmap"];
  readonly hearsOfLooks: boolean;
  readonly mounts: DumpSession["mounts"];
  readonly withoutPolicies: DumpSession["withoutPolicies"];
  readonly parent: DumpSession["parent"];
  readonly room: Room;
  readonly fileId: DumpSession["fileId"];
  readonly progress: DumpSession["progress"];

  constructor(options: DumpOptions, tools: Tools, tasks: readonly CollectedTask[]) {
    this.options = options;
    this.livesOn = options.leaveRunning || options.leaveStopped;
    this.images = tools.sink;
    this.tasks = tasks;
    this.#log = tools.log;
    this.#isRehearsal = tools.isRehearsal;
    if (options.lazySource !== undefined && !tools.isRehearsal)
      this.leave = (task, ranges) => this.left.push({ pid: task.pid, ownPid: task.traced.pid, ranges });
    this.precopied = tools.copies.byPid;
    this.unprotected = tools.ready?.unprotected;
    this.sharedAhead = tools.shared;
    this.snapshots = tools.snapshots;
    this.filesAhead = tools.copies.files;
    this.irmap = tools.copies.irmap;
    this.hearsOfLooks = tools.copies.hearsOfLooks;
    this.mounts = tools.copies.mounts;
    this.withoutPolicies = tools.copies.withoutPolicies;
    this.parent = tools.parent;
    this.room = tools.room;
    this.fileId = fileIds(this);
    const { progress } = options;
    const isWatched = progress !== undefined && !tools.isRehearsal;
    this.progress = isWatched ? (doneBytes, totalBytes) => progress({ doing: "saving memory", doneBytes, totalBytes }) : undefined;
  }

  faultPoint(point: string): void {
    if (!this.#isRehearsal) realFaultPoint(point);
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
  #isLater = false;

  /** Puts off work that needs nothing of the tree any more: it is done after a tree that runs on has been let go. */
  later(work: () => void): void {
    if (this.#isLater) work();
    else this.#later.push(work);
  }

  /** Does what was put off, and completes the images. */
  finish(): void {
    this.#isLater = true;
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
function collectThreads(session: Session, prepared: PreparedThreads | undefined): void {
  const textsOf = prepared?.read();
  const contexts: Omit<ThreadDump, "program">[] = [];
  for (const task of session.tasks) {
    const cores: ThreadDump["core"][] = [];
    task.traced.threads.forEach((thread, index) => {
      const isLeader = index === 0;
      const layout = xstateLayout(thread.tid);
      const core = isLeader ? task.core : emptyCore(thread, false);
      const texts = textsOf?.(thread.tid);
      const area = texts?.xstate ?? readXstate(thread.tid, layout);
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
        status: isLeader ? task.status : (texts?.status ?? readStatus(task.traced.pid, thread.tid)),
        stat: isLeader ? task.stat : (texts?.stat ?? readStat(task.traced.pid, thread.tid)),
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
  const cores = withDeadLeader(task, threads);
  session.later(() => {
    endByDueHandlers(task.traced.threads, coresOf.get(task) ?? [], tc?.sigactions ?? []);
    for (const { tid, core } of cores) session.images.append("CORE", [tid], { type: coreEntry, value: core });
  });
  const ids = {
    vm_id: task.ids.vm,
    files_id: task.ids.files,
    fs_id: task.ids.fs,
    sighand_id: task.ids.sighand,
    ...namespaceIds(task.traced),
  };
  session.later(() => session.images.append("IDS", [task.pid], { type: taskKobjIdsEntry, value: ids }));
}

/** Stub out, registers back, detached; `stopped`: with a SIGSTOP on its way. A process that died meanwhile is no error. */
function letGo(tree: FrozenTree, stopped: boolean): void {
  let failure: unknown;
  try {
    detachStubs(tree.tasks, closeStrays);
  } catch (error) {
    failure = error;
  }
  if (stopped) for (const task of tree.tasks) syscallNumber(SYS.kill, task.pid, 19);
  releaseTree(tree);
  if (stopped) untilStopped(tree);
  if (failure !== undefined) throw failure;
}

/** How long a process may take to notice that it is to stop, in milliseconds: a busy machine lets it wait for a processor. */
const STOP_WAIT_MS = 1000;

/** Whoever asked for stopped processes is not to find one that has still to notice. */
function untilStopped(tree: FrozenTree): void {
  const nap = new Int32Array(new SharedArrayBuffer(4));
  const until = performance.now() + STOP_WAIT_MS;
  for (const { pid } of tree.tasks) {
    while (performance.now() < until && isRunning(pid)) Atomics.wait(nap, 0, 0, 0.2);
  }
}

function isRunning(pid: number): boolean {
  try {
    return "RSD".includes(readStat(pid).state);
  } catch {
    return false; // it has ended
  }
}

function killTree(tree: FrozenTree): void {
  for (const task of tree.tasks) syscallNumber(SYS.kill, task.pid, 9);
  for (const task of [...tree.tasks].reverse()) {
    for (const thread of [...task.threads.slice(1), ...task.threads.slice(0, 1)]) waitDeath(thread.tid);
  }
}
