/**
 * Restore: the order of things from an image directory to a running tree.
 *
 *   look     every image is read and checked; all problems are reported at once; nothing has been made
 *   plan     who creates whom; where the seed and the stub can live
 *   make     seed, tasks, memory, as the plan says
 *   fill     files, attributes, threads, what takes away rights
 *   go       stub out, registers and masks in; run, or stay stopped
 *
 * Whatever fails before `go`, everything made so far is killed: the tasks are ours and die with us.
 */
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { Refusal, UsageError } from "../errors.js";
import { DirectorySource } from "../images/source.js";
import { syscallNumber } from "../linux/ffi/native.unsafe.js";
import type { RunningLanes } from "../linux/lanes.js";
import { growDescriptors } from "../linux/many-files.js";
import { SYS } from "../linux/syscalls.js";
import { checkTable } from "../resources/files/table.js";
import { removeLinks } from "../resources/files/remap.js";
import { type Opened, type SpaceBuild, type ToFill, fillSpaces } from "../resources/memory/address-space.js";
import { LazyHandOver } from "./lazy/hand-over.js";
import { FillLanes } from "../resources/memory/fill-lanes.js";
import type { Filled } from "../resources/memory/finish.js";
import { PageComparison } from "../resources/memory/inherit.js";
import { MappedObjects } from "../resources/memory/objects.js";
import { storedBytes } from "../resources/memory/page-source.js";
import { type SavedSpace, checkSpace, findRoom } from "../resources/memory/saved-space.js";
import { type KernelPages, kernelPages } from "../resources/memory/vdso.js";
import { adoptVdsos } from "../resources/memory/vdso-other.js";
import { fileKinds, threadParts } from "../resources/registry.js";
import { unusedInherited } from "../resources/files/inherit.js";
import { takeTerminal } from "../resources/ttys/session.js";
import type { TaskKobjIdsEntry } from "../resources/tasks/core.schema.js";
import { giveClocks, wantedOffsets } from "../resources/namespaces/clocks.js";
import { checkIpc, finishIpc, makeIpc, restoreIpc } from "../resources/ipc/own.js";
import { addDefaults } from "../resources/signals/actions.js";
import type { KernelIds } from "../resources/tasks/kernel-ids.js";
import { planTree } from "../resources/tasks/tree-plan.js";
import type { TreePlan } from "../resources/tasks/tree-steps.js";
import { createThreads } from "../target/create.js";
import { giveLender } from "../target/lending.js";
import { regionBytes } from "../target/region.js";
import { letGo } from "../target/release.js";
import { SEED_PAGE_BYTES, killTask, startSeed } from "../target/seed.js";
import type { TracedTask } from "../target/thread.js";
import { compileForImages } from "./compilation.js";
import { faultPoint, isRefused } from "./fault.js";
import type { Logger } from "./log.js";
import type { RestoreOptions } from "./options.js";
import { Phases } from "./phases.js";
import { punchRuns, punchShared } from "./dedup.js";
import { requireRights } from "./rights.js";
import { warnOfInherited } from "../resources/security/inherited.js";
import { givePids, hasOwnIpc, hasOwnPids } from "./restore-namespaces.js";
import { finishTasks, runStage } from "./restore-finish.js";
import { giveOwners, linkFiles } from "./restore-links.js";
import { takenIds } from "./restore-ids.js";
import { finishMemory, placeTasks } from "./restore-places.js";
import { Findings, type SavedTask, loadTasks } from "./restore-load.js";
import { openStream } from "./stream/folder.js";
import { Session, type TaskInMaking } from "./restore-session.js";
import { SIGCHLD, savedExitSignal } from "../resources/tasks/exit-signal.js";
import { type TreeBuild, carryOut, forgetChildSignals } from "./restore-tree.js";
import { SharedSpaces } from "./shared-spaces.js";
import { type RestoreFigures, writeRestoreStats } from "./stats.js";

/** Free room beside the region for moving the kernel's pages. */
const SCRATCH_BYTES = 1n << 20n;

const PAGE_BYTES = 4096;

/** With so many files the table of our descriptors is made larger beforehand; it has this many others beside them. */
const MANY_DESCRIPTORS = 200;
const SPARE_DESCRIPTORS = 100;

/** What a restore did. */
export interface RestoreResult {
  /** As the caller sees it, also where the tree has a pid namespace of its own. */
  readonly rootPid: number;
  readonly pids: readonly number[];
  readonly figures: RestoreFigures;
}

/** Restores the tree in `options.imagesDir`. Throws with nothing made. */
export function restore(options: RestoreOptions, log: Logger): RestoreResult {
  requireRights("restore");
  const phases = new Phases();
  phases.enter("reading");
  if (options.stream === undefined) compileForImages(options.imagesDir);
  const images = options.stream === undefined ? new DirectorySource(options.imagesDir) : openStream(options.stream, options);
  let session: Session | undefined;
  let lazy: LazyHandOver | undefined;
  let growing: RunningLanes | undefined;
  try {
    if (options.lazyPages !== undefined) lazy = new LazyHandOver(options, images.directory);
    const saved = loadTasks(images, lazy !== undefined);
    session = new Session({ options, images, tasks: saved, log });
    session.lazy = lazy;
    if (session.fileCount >= MANY_DESCRIPTORS) growing = growDescriptors(session.fileCount + SPARE_DESCRIPTORS);
    const design = plan(saved, session);
    growing?.join();
    growing = undefined;
    log.info(`read: ${saved.length} processes, ${session.tasks.reduce((n, t) => n + t.threads.length, 0)} threads`);
    const result = make(design, { session, phases, log });
    if (options.autoDedup === true) emptyImages(saved, { images, log });
    return result;
  } catch (error) {
    throw lazy?.reasonFor(error) ?? error;
  } finally {
    growing?.join();
    lazy?.close();
    session?.close();
    images.close();
  }
}

/** The processes run by now: that pages stay in the images is no failure. */
function emptyImages(saved: readonly SavedTask[], { images, log }: { images: DirectorySource; log: Logger }): void {
  try {
    punchShared(images);
    for (const { living } of saved) if (living !== undefined) punchRuns(living.space.pages.runs);
  } catch (error) {
    log.warn(`pages were left in the images: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Everything decided before anything is made. */
interface Design {
  readonly saved: readonly SavedTask[];
  readonly tree: TreePlan;
  readonly kernel: KernelPages;
  readonly room: bigint;
  readonly regionBytes: number;
  readonly shared: SharedSpaces;
  /** What is added to the machine's clocks for the tree; undefined: it sees ours. */
  readonly clocks: ReturnType<typeof wantedOffsets>;
  /** The tree gets a pid namespace, whose first process is its root. */
  readonly ownPids: boolean;
}

function plan(saved: readonly SavedTask[], session: Session): Design {
  const findings = new Findings();
  const kernel = kernelPages();
  const ownPids = hasOwnPids(session.images, saved, findings);
  if (!ownPids) findings.add(...takenIds(saved));
  session.hasOwnIpc = hasOwnIpc(session.images, saved, findings);
  findings.try(() => checkIpc(session));
  const users = session.tasks.map((t) => ({ space: t.saved.living.space, threads: t.threads }));
  findings.add(...(findings.try(() => adoptVdsos(users, kernel)) ?? []));
  const clocks = findings.try(() => wantedOffsets(session.images));
  const { pidfile } = session.options;
  if (pidfile !== undefined && existsSync(pidfile)) findings.add(pidfileError(pidfile, "it exists"));
  if (pidfile !== undefined && !existsSync(dirname(pidfile))) findings.add(pidfileError(pidfile, "there is no such directory"));
  session.lookAtFiles();
  for (const task of session.tasks) {
    findings.add(...checkSpace(task.saved.living.space, session));
    findings.add(...checkTable(task, task.saved.living.table, { session, kinds: fileKinds }));
    for (const part of threadParts) findings.add(...(part.check?.(task, session) ?? []));
  }
  const ids = new Set(saved.flatMap((t) => [t.pid, ...(t.living?.threads.map((th) => th.tid) ?? [])]));
  const tree = findings.try(() =>
    planTree(saved.map(treeTask), {
      shellJob: session.options.shellJob,
      isTaken: (pid) => ids.has(pid) || (!ownPids && existsSync(`/proc/${pid}`)),
      objects: new Map(session.tasks.map((t) => [t.pid, objectsOf(t.saved.living.ids)])),
    }),
  );
  const shared = new SharedSpaces(session.tasks);
  if (tree !== undefined) findings.add(...shared.check(tree));
  const bytes = regionBytes(shared.slots);
  const room = findRoom(
    session.tasks.map((t) => t.saved.living.space),
    BigInt(SEED_PAGE_BYTES + bytes) + SCRATCH_BYTES,
  );
  if (room === undefined) findings.add(noRoom(session.tasks[0]));
  findings.throwAny();
  warnOfInherited(session.tasks, session);
  if (tree === undefined || room === undefined) throw new Error("internal error: a failed plan was not reported");
  return { saved, tree, kernel, room, regionBytes: bytes, shared, clocks, ownPids };
}

function treeTask(task: SavedTask) {
  const { pid, ppid, pgid, sid } = task.tree;
  const threads = task.living?.threads.map((t) => t.tid) ?? [pid];
  return { pid, ppid, pgid, sid, threads, comm: task.comm, state: task.living === undefined ? "zombie" : "alive" } as const;
}

function objectsOf(ids: TaskKobjIdsEntry): KernelIds {
  return { vm: ids.vm_id, files: ids.files_id, fs: ids.fs_id, sighand: ids.sighand_id };
}

function noRoom(task: TaskInMaking | undefined): Refusal {
  return new Refusal(
    {
      code: "NO_COMMON_ROOM",
      process: { pid: task?.pid ?? 0, comm: task?.comm ?? "?" },
      resource: "its address space",
      because: "the processes of the tree leave no range of addresses that is free in all of them",
      remedy: ["Restore fewer processes at a time"],
    },
    "restore",
  );
}

interface Tools {
  readonly session: Session;
  readonly phases: Phases;
  readonly log: Logger;
}

function make(design: Design, tools: Tools): RestoreResult {
  const { phases, session } = tools;
  phases.enter("forking");
  const region = design.room + BigInt(SEED_PAGE_BYTES);
  const avoid = new Set(design.saved.flatMap((t) => [t.pid, ...(t.living?.threads.map((th) => th.tid) ?? [])]));
  const seed = startSeed({ region, regionBytes: design.regionBytes }, avoid);
  session.seed = seed;
  const living = new Map<number, TracedTask>();
  const lanes = new FillLanes(session.tasks.reduce((sum, t) => sum + Number(storedBytes(t.saved.living.space.pages)), 0));
  let gone = false;
  let pidfile: string | undefined;
  try {
    giveLender(seed, addDefaults);
    if (isRefused("lending")) seed.lender = undefined;
    if (design.clocks !== undefined) giveClocks(seed, design.clocks);
    if (session.hasOwnIpc) {
      session.ipc = makeIpc(session);
      restoreIpc(session);
    }
    if (design.ownPids) givePids(seed);
    faultPoint("restore-seed");
    const figures = { restored: 0, compared: 0, inherited: 0 };
    const filled = makeTree(design, { tools, seed, living, figures, lanes });
    faultPoint("restore-tree");
    phases.enter("restoring");
    fillTasks(filled, session, () => killTask(seed));
    for (const key of unusedInherited(session)) session.warn(`--inherit-fd: nothing in the images is called "${key}"`);
    finishTasks(filled, session);
    // As late as can be: who is killed from here on leaves the file, and nothing else.
    if (session.options.pidfile !== undefined) {
      writePidfile(session.options.pidfile, rootPid(session));
      pidfile = session.options.pidfile;
    }
    session.lazy?.conclude();
    // The point of no return: from here on the tree is its own.
    gone = true;
    letGo(filled.map((f) => f.task));
    removeLinks(session);
    phases.leave();
    const result = {
      rootPid: rootPid(session),
      pids: session.tasks.map((t) => t.traced.tgid),
      figures: { phases, pagesCompared: figures.compared, pagesSkippedCow: figures.inherited, pagesRestored: figures.restored },
    };
    try {
      if (session.options.stream?.kind !== "frames") writeRestoreStats(session.options.workDir, result.figures);
    } catch (error) {
      // The tree runs: nothing that goes wrong now may look like a restore that failed.
      tools.log.warn(`the statistics were not written: ${error instanceof Error ? error.message : String(error)}`);
    }
    return result;
  } finally {
    lanes.close();
    if (!gone) {
      if (pidfile !== undefined) rmSync(pidfile, { force: true });
      for (const task of living.values()) syscallNumber(SYS.kill, task.pid, 9);
      for (const task of [...living.values()].reverse()) killTask(task);
      killTask(seed);
      session.undoAll();
    }
  }
}

/** As we see it. */
function rootPid({ tasks }: Session): number {
  return tasks[0]?.traced.tgid ?? 0;
}

/** The file must not be there yet: a pid file of somebody else's is not ours to overwrite. */
function writePidfile(path: string, pid: number): void {
  try {
    writeFileSync(path, String(pid), { mode: 0o600, flag: "wx" });
  } catch (cause) {
    throw pidfileError(path, cause instanceof Error ? cause.message : String(cause), cause);
  }
}

function pidfileError(path: string, because: string, cause?: unknown): UsageError {
  return new UsageError({
    code: "PIDFILE_NOT_WRITABLE",
    message: `Cannot write pid file "${path}": ${because}`,
    remedy: ["Name a file that does not exist, in a directory that does"],
    cause,
  });
}

/** Processes with their memory, sessions and groups; the dead ones dead. */
function makeTree(
  design: Design,
  on: { tools: Tools; seed: TracedTask; living: Map<number, TracedTask>; figures: SpaceBuild["figures"]; lanes: FillLanes },
): Filled[] {
  const { session } = on.tools;
  const { shared } = design;
  const spaces = new Map(session.tasks.map((t) => [t.pid, t.saved.living.space]));
  const opened = new Map<number, Opened>();
  const scratch = design.room + BigInt(SEED_PAGE_BYTES + design.regionBytes);
  const totalBytes = Number([...spaces.values()].reduce((sum, s) => sum + storedBytes(s.pages), 0n));
  const common: SpaceBuild = {
    objects: new MappedObjects(session, [...spaces.values()]),
    kernel: design.kernel,
    scratch,
    figures: on.figures,
    lanes: on.lanes,
    comparison: new PageComparison((pairs) => on.lanes.differ(pairs)),
    warn: (message) => session.warn(message),
  };
  const savedByPid = new Map(design.saved.map((t) => [t.pid, t]));
  const build: TreeBuild = {
    plan: design.tree,
    seed: on.seed,
    living: on.living,
    rootBelowSeed: mustLoseParent(session),
    comm: (pid) => savedByPid.get(pid)?.comm ?? "temporary",
    firstSlot: (pid) => shared.firstSlot(pid),
    exitSignal: (pid) => savedExitSignal(savedByPid.get(pid)?.core),
    exitStatus: (pid) => savedByPid.get(pid)?.core.tc?.exit_code ?? 0,
    afterSetsid(task, pid) {
      if (session.task(pid) !== undefined) takeTerminal(task, pid, session);
    },
    fillMemory(tasks) {
      const filling = tasks.flatMap(({ task, pid }) => {
        const space = spaces.get(pid);
        if (space === undefined || !shared.isOwner(pid)) return [];
        const lender = design.tree.memoryFrom.get(pid);
        const from = lender === undefined ? undefined : shared.owner(lender);
        const parent: SavedSpace | undefined = from === undefined ? undefined : spaces.get(from);
        const parentOpened = (from === undefined ? undefined : opened.get(from)) ?? new Set();
        return [{ task, space, parent, parentOpened }];
      });
      for (const [i, one] of fillSpaces(filling, common).entries()) opened.set((filling[i] as ToFill).space.pid, one);
      session.options.progress?.({
        doing: "restoring memory",
        doneBytes: (on.figures.restored + on.figures.inherited) * PAGE_BYTES,
        totalBytes,
      });
      faultPoint("restore-memory");
    },
  };
  carryOut(build, design.tree.build);
  carryOut(build, design.tree.finish);
  const dead = design.saved.filter((task) => task.living === undefined);
  forgetChildSignals(build, [SIGCHLD, ...dead.map(({ core }) => savedExitSignal(core)).filter((signal) => signal !== SIGCHLD)]);
  return session.tasks.map((t) => {
    const task = on.living.get(t.pid);
    const space = spaces.get(t.pid);
    if (task === undefined || space === undefined) throw new Error(`internal error: the plan did not make process ${t.pid}`);
    t.traced = task;
    const owner = shared.isOwner(t.pid) ? undefined : on.living.get(shared.owner(t.pid) ?? 0);
    return { task, space, opened: opened.get(t.pid) ?? new Set(), owner };
  });
}

/**
 * A detached restore leaves the root without us as parent. If it wants a signal when its parent dies, that would be our
 * end: so its parent is the seed, which dies before the signal is asked for.
 */
function mustLoseParent(session: Session): boolean {
  if (!session.options.restoreDetached) return false;
  return session.tasks[0]?.threads.some((t) => (t.core.thread_core?.pdeath_sig ?? 0) !== 0) === true;
}

/** `endSeed`: called when nothing is to be made from the seed any more, and before a parent's death can be noticed. */
function fillTasks(filled: readonly Filled[], session: Session, endSeed: () => void): void {
  const owners = filled.filter((f) => f.owner === undefined);
  if (session.lazy !== undefined) {
    finishMemory(owners);
    session.lazy.register(owners);
  }
  placeTasks(filled, session);
  linkFiles(session);
  faultPoint("restore-files");
  runStage("process", session.tasks, { session });
  for (const task of session.tasks)
    createThreads(
      task.traced,
      task.threads.slice(1).map((t) => t.tid),
    );
  giveOwners(session);
  faultPoint("restore-threads");
  runStage("thread", session.tasks, { session });
  finishIpc(session);
  endSeed();
}
