import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import type { Case } from "../../harness/run-case.js";

const NO_EXE = "it looks for the executable among regular files only";

/** Those that CRIU has as well. */
export const sharedCases: readonly Case[] = [
  { workload: "memory3/shrunk", rows: ["mem.shared-anon"], claim: "shared memory whose end nobody maps keeps it" },
  {
    workload: "memory3/huge",
    rows: ["mem.hugetlb", "mem.memfd"],
    claim: "memory of huge pages, private, shared and of memfds, keeps its contents",
    // It makes a memfd of what is shared.
    peerLoses: ["map "],
  },
  { workload: "memory3/aio", rows: ["mem.aio"], claim: "contexts of asynchronous I/O keep their names and unread completions" },
  { workload: "memory3/memfd", rows: ["mem.memfd"], claim: "memfd files keep contents, seals, owners, offsets and mappings" },
  {
    workload: "memory3/memfd-exec",
    args: ["open"],
    rows: ["mem.memfd"],
    claim: "a program executed from a memfd goes on being one",
    peerCannot: NO_EXE,
  },
  {
    workload: "memory3/memfd-exec",
    args: ["closed"],
    rows: ["mem.memfd"],
    claim: "a program executed from a memfd that nobody has open goes on",
    peerCannot: NO_EXE,
  },
  {
    workload: "memory3/shmem-fd",
    rows: ["mem.shmem-fd"],
    claim: "shared memory that is used as a file stays one object",
    // It makes a memfd of it.
    peerLoses: ["fd 3 link"],
  },
];

const NO_HOST_IPC = "it carries segments only together with an IPC namespace";

const NO_GUARDS = "this version knows no guard regions";

const NO_SHARING = "it carries no processes that share memory";

export const memory3Cases: readonly Case[] = [
  ...sharedCases,
  { workload: "memory3/numa", rows: ["thr.basic"], claim: "threads keep their NUMA policies", peerCannot: "it carries no NUMA policies" },
  {
    workload: "memory3/mbind",
    rows: ["thr.basic"],
    claim: "mappings keep their NUMA policies",
    peerCannot: "it carries no NUMA policies",
  },
  {
    workload: "memory3/mbind",
    args: ["thread"],
    rows: ["thr.basic"],
    claim: "and so they do beside a policy of the thread",
    modes: ["killed-restored"],
    peerCannot: "it carries no NUMA policies",
  },
  {
    workload: "memory3/aio-direct",
    rows: ["mem.aio"],
    claim: "asynchronous reads that are under way are finished first",
    peerCannot: "it does not wait for them",
  },
  {
    workload: "memory3/clone-vm",
    args: ["running"],
    rows: ["tree.shared-kobj"],
    claim: "processes that share their memory go on sharing it",
    peerCannot: NO_SHARING,
  },
  {
    workload: "memory3/clone-vm",
    args: ["stopped"],
    rows: ["tree.shared-kobj"],
    claim: "one of them may be stopped",
    peerCannot: NO_SHARING,
  },
  {
    workload: "memory3/guards",
    rows: ["mem.wipe-droppable-guard"],
    claim: "guard regions fault, droppable and wipe-on-fork memory is not inherited",
    peerCannot: NO_GUARDS,
  },
  {
    workload: "memory/advice",
    args: ["locked-future"],
    rows: ["mem.advice-lock-thp"],
    claim: "a process that locks all it maps later goes on doing so",
    peerCannot: "no image of its has a place for it",
  },
  {
    workload: "memory3/segments",
    args: ["kept"],
    rows: ["ns.ipc-shm"],
    claim: "System V shared memory stays attached, whole and in parts",
    peerCannot: NO_HOST_IPC,
  },
  {
    workload: "memory3/segments",
    args: ["removed"],
    rows: ["ns.ipc-shm"],
    claim: "System V shared memory that was removed in use comes back",
    peerCannot: NO_HOST_IPC,
  },
  {
    workload: "memory3/names",
    rows: ["mem.vma-layout"],
    claim: "names of anonymous mappings are kept",
    machineCannot: hasNames() ? undefined : "this kernel has no names of mappings (CONFIG_ANON_VMA_NAME)",
    peerCannot: "it does not know them",
  },
];

function hasNames(): boolean {
  try {
    return gunzipSync(readFileSync("/proc/config.gz")).includes("CONFIG_ANON_VMA_NAME=y");
  } catch {
    return true; // nobody knows: tried, it fails by name
  }
}
