/**
 * What is read, laid out and started right before a tree is frozen, so that the freeze has less to do.
 */
import { readRssBytes } from "../linux/proc/read.js";
import type { UnprotectedAhead } from "../linux/unprotected.js";
import { prepareMappingFlags } from "../linux/vma-flags.js";
import { PreparedDescriptors } from "../resources/files/prepared.js";
import { learnKinds } from "../resources/files/table.js";
import { fileKinds } from "../resources/registry.js";
import { type KernelOrder, kernelOrder } from "../resources/tasks/kernel-ids.js";
import { PreparedThreads } from "../target/prepared-threads.js";
import { type LearntMappings, learnMappings } from "./collect.js";
import type { DumpOptions } from "./options.js";
import { type PreCopies, runningTree } from "./precopy.js";
import type { SharedCopies } from "./precopy-shared.js";

/** Of the processes of a tree that runs; to be closed when the tree has been let go. */
export class Ready implements Disposable {
  readonly mappings: LearntMappings;
  /** Of the objects of the tree. */
  readonly order: KernelOrder | undefined;
  /** By which descriptors are read. */
  readonly texts: PreparedDescriptors;
  /** By which threads are read. */
  readonly threads: PreparedThreads | undefined;
  /** A look at memory that was copied ahead, which begins with the freeze. */
  readonly unprotected: UnprotectedAhead | undefined;

  /** Memory that was written since it was copied is copied once more: last, so that there is little of it in the freeze. */
  constructor(pids: readonly number[], of: { options: DumpOptions; copies: PreCopies; shared?: SharedCopies; isRehearsal?: boolean }) {
    const { options, copies, shared, isRehearsal = false } = of;
    this.mappings = learnMappings(pids);
    this.order = kernelOrder(pids);
    this.texts = new PreparedDescriptors(pids);
    try {
      learnKinds({ prepared: this.texts, pids }, fileKinds, { options, mounts: copies.mounts, hearsOfLooks: copies.hearsOfLooks });
      this.threads = PreparedThreads.of(pids);
      this.unprotected = copies.lookAhead(isRehearsal);
      shared?.lastRound(options);
      copies.lastRound(options);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.unprotected?.close();
    this.threads?.[Symbol.dispose]();
    this.texts[Symbol.dispose]();
  }
}

/** From so much memory on, reading smaps in the freeze takes longer than to get ready for another way is worth. */
const MANY_PAGES_BYTES = 32 << 20;

/** smaps takes twice as long as the other way, even of small processes. */
const MANY_PROCESSES = 64;

/** Gets ready to read mappings without a walk over the page tables, where that is worth it. */
export function prepareMappings({ tree, preCopy }: DumpOptions, isWanted: boolean): void {
  const isLarge = (pid: number) => {
    try {
      return readRssBytes(pid) >= MANY_PAGES_BYTES;
    } catch {
      return false; // it ended
    }
  };
  const pids = runningTree(tree);
  if (isWanted || preCopy === "always" || pids.length >= MANY_PROCESSES || pids.some(isLarge)) prepareMappingFlags();
}
