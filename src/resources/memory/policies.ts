/**
 * NUMA policies of mappings: on which nodes the kernel looks for their pages, mbind(2).
 *
 * Read from   /proc/PID/numa_maps before the freeze, which shows who has any; get_mempolicy(2) inside
 * Made with   mbind(2), before the pages come
 *
 * The policy of shared memory belongs to the object, by ranges of it, and is seen by all who map it. So it is asked for
 * wherever a mapping of the object begins in any process, and set through a mapping that covers just that range.
 *
 * Few processes have policies, and asking takes a call for each mapping, so those that had none just before the freeze are
 * not asked. One that gets its first policy between that look and the freeze loses it. The home node of a policy
 * (set_mempolicy_home_node(2)) can be read nowhere.
 */
import { ImageError, KernelError } from "../../errors.js";
import { readRssBytes, showsMemoryPolicies } from "../../linux/proc/read.js";
import { SYS } from "../../linux/syscalls.js";
import { type Data, Program, type Result } from "../../target/program.js";
import { type Job, runAll } from "../../target/run.js";
import type { DumpSession, DumpTask } from "../part.js";
import { areaKind, isPrivate } from "./area.js";
import type { MmEntry, FloePolicyEntry } from "./mm.schema.js";

/** uapi/linux/mempolicy.h */
const MPOL_DEFAULT = 0;
const MPOL_F_ADDR = 2;
/** More nodes than any kernel is built for (MAX_NUMNODES). */
const MAX_NODES = 1024;
const MASK_BYTES = MAX_NODES / 8;
const MODE_BYTES = 4;
/** So many modes come back in one piece of data. */
const MODES = 512;
const PAGE = 4096n;
/** For numa_maps the kernel looks at every page, some 20 ms for a GiB: with more memory than this it is better to ask in the freeze. */
const MAX_LOOK_BYTES = 128 << 20;

/** Those of `pids` that certainly have no policies of mappings, as far as a look from outside is worth it. They may run. */
export function withoutPolicies(pids: readonly number[]): Set<number> {
  const without = new Set<number>();
  for (const pid of pids) {
    try {
      if (readRssBytes(pid) <= MAX_LOOK_BYTES && !showsMemoryPolicies(pid)) without.add(pid);
    } catch (error) {
      // It is gone.
      if (!(error instanceof KernelError)) throw error;
    }
  }
  return without;
}

/** A range that a policy is asked for; `isLeft`: its object has it from a mapping that covers just this range. */
interface Piece {
  readonly task: DumpTask;
  readonly start: bigint;
  readonly end: bigint;
  readonly isLeft: boolean;
}

/** The policies of all mappings, by task. */
export function dumpPolicies(tasks: readonly DumpTask[], session: DumpSession): Map<DumpTask, FloePolicyEntry[]> {
  const asked = tasks.filter((task) => !session.withoutPolicies.has(task.traced.pid));
  const found = new Map<DumpTask, FloePolicyEntry[]>();
  if (asked.length === 0) return found;
  const modes = askModes(piecesOf(asked, tasks));
  for (const { piece, mode, nodes } of askNodes(modes)) {
    if (piece.isLeft) continue;
    const entry = { start: piece.start, end: piece.end, mode, nodes };
    const entries = found.get(piece.task);
    if (entries === undefined) found.set(piece.task, [entry]);
    else entries.push(entry);
  }
  return found;
}

/** Mappings, those of shared objects cut where another mapping of the object begins. */
function piecesOf(asked: readonly DumpTask[], all: readonly DumpTask[]): Piece[] {
  const key = (vma: DumpTask["vmas"][number]) => `${vma.devMajor}:${vma.devMinor}:${vma.inode}`;
  const ranges = new Map<string, { starts: Set<bigint>; whole: Set<string> }>();
  for (const task of all) {
    for (const vma of task.vmas) {
      if (!vma.shared || vma.inode === 0n) continue;
      const of = ranges.get(key(vma)) ?? { starts: new Set(), whole: new Set() };
      ranges.set(key(vma), of);
      of.starts.add(vma.offset);
      of.whole.add(`${vma.offset}+${vma.end - vma.start}`);
    }
  }
  return asked.flatMap((task) =>
    task.vmas.filter(mayHavePolicy).flatMap((vma): Piece[] => {
      const object = vma.shared ? ranges.get(key(vma)) : undefined;
      const inner = [...(object?.starts ?? [])].map((at) => at - vma.offset + vma.start).filter((at) => at > vma.start && at < vma.end);
      if (inner.length === 0) return [{ task, start: vma.start, end: vma.end, isLeft: false }];
      const edges = [vma.start, ...inner.sort((a, b) => (a < b ? -1 : 1)), vma.end];
      return edges.slice(1).map((end, i) => {
        const start = edges[i] ?? end;
        return { task, start, end, isLeft: object?.whole.has(`${start - vma.start + vma.offset}+${end - start}`) === true };
      });
    }),
  );
}

function mayHavePolicy(vma: DumpTask["vmas"][number]): boolean {
  const kind = areaKind(vma);
  return (
    kind !== "vvar" &&
    kind !== "vdso" &&
    kind !== "vsyscall" &&
    kind !== "uprobes" &&
    kind !== "special" &&
    kind !== "aio" &&
    kind !== "packet-ring"
  );
}

interface Mode {
  readonly piece: Piece;
  readonly mode: number;
}

function askModes(pieces: readonly Piece[]): Mode[] {
  const programs = new Map<DumpTask, Program>();
  const answers: { piece: Piece; got: Result; modes: Data; at: number }[] = [];
  let modes: Data | undefined;
  for (const piece of pieces) {
    const program = programs.get(piece.task) ?? new Program();
    const at = answers.length % MODES;
    // One piece of data belongs to one program.
    if (modes === undefined || at === 0 || answers.at(-1)?.piece.task !== piece.task) modes = program.buffer(MODES * MODE_BYTES);
    programs.set(piece.task, program);
    const got = program.call(SYS.get_mempolicy, modes.at(at * MODE_BYTES), 0, 0, piece.start, MPOL_F_ADDR);
    answers.push({ piece, got, modes, at });
  }
  runAll(jobsOf(programs));
  return answers.flatMap(({ piece, got, modes: data, at }) => {
    // ENOSYS: the kernel knows nothing of nodes.
    const mode = got.errno === 0 ? data.bytes().readInt32LE(at * MODE_BYTES) : MPOL_DEFAULT;
    return mode === MPOL_DEFAULT ? [] : [{ piece, mode }];
  });
}

function askNodes(modes: readonly Mode[]): { piece: Piece; mode: number; nodes: Buffer }[] {
  const programs = new Map<DumpTask, Program>();
  const answers = modes.map(({ piece, mode }) => {
    const program = programs.get(piece.task) ?? new Program();
    programs.set(piece.task, program);
    const nodes = program.buffer(MASK_BYTES);
    program.call(SYS.get_mempolicy, 0, nodes, MAX_NODES, piece.start, MPOL_F_ADDR).must("asking for the NUMA policy of a mapping");
    return { piece, mode, nodes };
  });
  runAll(jobsOf(programs));
  return answers.map(({ piece, mode, nodes }) => ({ piece, mode, nodes: Buffer.from(nodes.bytes()) }));
}

function jobsOf(programs: ReadonlyMap<DumpTask, Program>): Job[] {
  return [...programs].map(([task, program]) => ({ thread: task.traced.leader, program }));
}

/** Structural damage is thrown as ImageError. */
export function checkPolicies({ policies }: MmEntry, file: string): void {
  for (const { start, end, nodes } of policies) {
    if (start < end && start % PAGE === 0n && end % PAGE === 0n && nodes.length === MASK_BYTES) continue;
    throw new ImageError({
      code: "IMAGE_BAD_MAPPING",
      place: { file, message: "mm_entry", field: "policies" },
      because: `the NUMA policy of ${start.toString(16)}-${end.toString(16)} is none of a range of pages`,
      remedy: ["Use an intact copy of the images directory", "Dump the process again"],
    });
  }
}

/** Adds the calls that take away policies of mappings inherited from `parent`, and gives the mappings of `mm` theirs. */
export function addPolicies(program: Program, mm: MmEntry, parent: MmEntry | undefined): () => string[] {
  for (const old of parent?.policies ?? []) {
    const vma = parent?.vmas.find(({ start, end }) => start <= old.start && end >= old.end);
    if (vma === undefined || !isPrivate(vma) || mm.policies.some((policy) => isSame(policy, old))) continue;
    // What is not mapped any more is left out by itself.
    program.call(SYS.mbind, old.start, old.end - old.start, MPOL_DEFAULT, 0, 0, 0);
  }
  const made = mm.policies.map((policy) => ({
    policy,
    got: program.call(SYS.mbind, policy.start, policy.end - policy.start, policy.mode, program.bytes(policy.nodes), MAX_NODES, 0),
  }));
  return () =>
    made
      .filter(({ got }) => got.errno !== 0)
      .map(({ policy, got }) => `the NUMA policy of ${policy.start.toString(16)}-${policy.end.toString(16)}: ${got.entry.error().message}`);
}

function isSame(a: FloePolicyEntry, b: FloePolicyEntry): boolean {
  return a.start === b.start && a.end === b.end && a.mode === b.mode && Buffer.from(a.nodes).equals(b.nodes);
}
