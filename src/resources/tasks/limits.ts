/**
 * Resource limits, getrlimit(2).
 *
 * Read from   prlimit64(2) inside the process, one call per limit
 * Made with   prlimit64(2) inside the process, after its descriptors are in place (RLIMIT_NOFILE)
 * Refused     a hard limit above Floe's own without CAP_SYS_RESOURCE: the kernel says EPERM
 */
import { SYS } from "../../linux/syscalls.js";
import type { ThreadPart } from "../part.js";

/** Number of limits; uapi/asm-generic/resource.h: RLIM_NLIMITS. */
const RLIM_NLIMITS = 16;

export const limits: ThreadPart = {
  name: "tasks/limits",
  rows: ["task.rlimits"],
  stage: "process",
  uniform: "later",

  dump({ isLeader, program, core }) {
    if (!isLeader) return undefined;
    const memory = Array.from({ length: RLIM_NLIMITS }, () => program.buffer(16));
    memory.forEach((limit, resource) => program.call(SYS.prlimit64, 0, resource, 0, limit).must("reading limits"));
    return () => {
      if (core.tc === undefined) return;
      core.tc.rlimits = {
        rlimits: memory.map((m) => ({ cur: m.bytes().readBigUInt64LE(0), max: m.bytes().readBigUInt64LE(8) })),
      };
    };
  },

  restore({ isLeader, program, core }) {
    if (!isLeader) return undefined;
    core.tc?.rlimits?.rlimits.slice(0, RLIM_NLIMITS).forEach(({ cur, max }, resource) => {
      const value = Buffer.alloc(16);
      value.writeBigUInt64LE(cur, 0);
      value.writeBigUInt64LE(max, 8);
      program.call(SYS.prlimit64, 0, resource, program.bytes(value), 0).must(`setting resource limit ${resource}`);
    });
    return undefined;
  },
};
