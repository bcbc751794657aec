/**
 * A dump of a process of ours before that of the tree, by the same ways: code that runs for the first time in the freeze takes ten times
 * as long as it should (`rehearsal.ts`).
 */
import { NowhereSink } from "../images/nowhere.js";
import { MAP_ANONYMOUS, MAP_POPULATE, MAP_PRIVATE, PROT_READ, PROT_WRITE } from "../linux/memory.js";
import { readMaps } from "../linux/proc/read.js";
import { SYS } from "../linux/syscalls.js";
import { isWorthPreCopy } from "../resources/memory/precopy.js";
import { Room } from "../resources/memory/room.js";
import { codeRanges } from "../target/code-ranges.js";
import { freezeTree } from "../target/freeze.js";
import { Program } from "../target/program.js";
import { run } from "../target/run.js";
import { attachStub } from "../target/stub-attach.js";
import { SILENT } from "./log.js";
import { DEFAULT_POLICY, type DumpOptions } from "./options.js";
import { Phases } from "./phases.js";
import { PreCopies, letGo, preCopyTree, runningTree } from "./precopy.js";
import { Ready } from "./ready.js";
import { rehearse } from "./rehearsal.js";
import { Snapshots, mayMakeCopies } from "./snapshot.js";

/** More than the process that is rehearsed on has of its own. */
const REHEARSAL_ROOM_BYTES = 384 << 10;
/** Memory that it is given to be copied ahead. */
const MEMORY_BYTES = 1 << 20;

/** What a rehearsal hands to the dump. */
export interface RehearsalTools {
  readonly log: typeof SILENT;
  readonly sink: NowhereSink;
  readonly phases: Phases;
  readonly isRehearsal: true;
  readonly parent: undefined;
  readonly snapshots: Snapshots | undefined;
  readonly copies: PreCopies;
  readonly room: Room;
  readonly ready: Ready;
}

/** Calls `frozenDump` as it will be called for `options`, for a process of ours. */
export function rehearseDump(options: DumpOptions, frozenDump: (options: DumpOptions, tools: RehearsalTools) => void): void {
  const isCopiedAhead =
    options.preCopy !== "never" && runningTree(options.tree).some((pid) => isWorthPreCopy(pid, options.preCopy === "always"));
  rehearse((tree, withCopies) => {
    const { progress, ...others } = options;
    const harmless = { ...others, tree, leaveRunning: true, leaveStopped: false, filePolicy: DEFAULT_POLICY.filePolicy };
    const sink = new NowhereSink();
    const copies = isCopiedAhead && !withCopies ? copyAhead(harmless, sink) : new PreCopies();
    try {
      using ready = new Ready([tree], { options: harmless, copies, isRehearsal: true });
      const snapshots = withCopies ? new Snapshots(new Set([tree]), { log: SILENT, isRehearsal: true }) : undefined;
      const tools = { log: SILENT, sink, phases: new Phases(), isRehearsal: true as const, parent: undefined, snapshots };
      frozenDump(harmless, { ...tools, copies, ready, room: new Room(REHEARSAL_ROOM_BYTES) });
    } finally {
      copies.close();
      sink.discard();
    }
  }, mayMakeCopies(options));
}

function copyAhead(options: DumpOptions, sink: NowhereSink): PreCopies {
  giveMemory(options.tree);
  const tools = { log: SILENT, sink, parent: undefined, faultPoint: () => undefined };
  return preCopyTree({ ...options, preCopy: "always" }, tools);
}

/** A shell has nothing that is worth to be copied ahead. */
function giveMemory(pid: number): void {
  const tree = freezeTree(pid, { timeoutMs: 1000, isAlone: true });
  try {
    const [task] = tree.tasks;
    if (task === undefined) return;
    attachStub(task, codeRanges(pid, readMaps(pid)));
    const program = new Program();
    program.call(SYS.mmap, 0, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    run(task.leader, program);
  } finally {
    letGo(tree);
  }
}
