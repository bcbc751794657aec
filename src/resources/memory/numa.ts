/**
 * NUMA memory policy of a thread: on which nodes the kernel looks for its pages.
 *
 * Read from   get_mempolicy(2)
 * Made with   set_mempolicy(2)
 *
 * CRIU's images have no place for it. Policies of single mappings: policies.ts.
 */
import { SYS } from "../../linux/syscalls.js";
import type { ThreadPart } from "../part.js";

/** uapi/linux/mempolicy.h */
const MPOL_DEFAULT = 0;
/** More nodes than any kernel is built for (MAX_NUMNODES). */
const MAX_NODES = 1024;
const MASK_BYTES = MAX_NODES / 8;

export const memoryPolicy: ThreadPart = {
  name: "memory/numa",
  rows: [],
  stage: "thread",
  uniform: "later",
  dump({ program, core }) {
    const mode = program.buffer(8);
    const nodes = program.buffer(MASK_BYTES);
    const got = program.call(SYS.get_mempolicy, mode, nodes, MAX_NODES, 0, 0);
    return () => {
      // ENOSYS: the kernel knows nothing of nodes.
      const value = got.errno === 0 ? mode.bytes().readInt32LE(0) : MPOL_DEFAULT;
      if (value === MPOL_DEFAULT || core.thread_core === undefined) return;
      core.thread_core.memory_policy = value;
      core.thread_core.memory_nodes = Buffer.from(nodes.bytes());
    };
  },
  restore({ program, core, session, tid }) {
    const { memory_policy: mode = MPOL_DEFAULT, memory_nodes: nodes } = core.thread_core ?? {};
    if (mode === MPOL_DEFAULT || nodes === undefined || nodes.length !== MASK_BYTES) {
      // Whatever Floe itself was started with does not go on in what it restores.
      program.call(SYS.set_mempolicy, MPOL_DEFAULT, 0, 0);
      return undefined;
    }
    const set = program.call(SYS.set_mempolicy, mode, program.bytes(nodes), MAX_NODES);
    return () => {
      if (set.errno !== 0) session.warn(`thread ${tid}: this machine does not take its NUMA policy: ${set.entry.error().message}`);
    };
  },
};
