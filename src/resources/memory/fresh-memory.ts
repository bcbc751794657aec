/**
 * Large memory without any pages yet, which the kernel is to fill without zeroing them first.
 *
 * Made with   userfaultfd(2) inside the process, UFFDIO_REGISTER with MODE_MISSING while it stands still, UFFDIO_COPY; nothing of it is left
 *             when the memory is full
 *
 * Measured, 1 GiB, two processors, images in memory: 0.29 s where process_vm_writev(2), whose pages are zeroed and looked up one by one,
 * takes 0.41 s. It makes small pages only: where the kernel gives large ones to all who do not ask for them, it is not used.
 */
import { closeSync, readFileSync, readdirSync } from "node:fs";
import { KernelError } from "../../errors.js";
import { O_CLOEXEC } from "../../linux/files.js";
import { pidfdGetfd, pidfdOpen } from "../../linux/process.js";
import { SYS } from "../../linux/syscalls.js";
import { UFFDIO_REGISTER_MODE_MISSING, UFFD_USER_MODE_ONLY, uffdioApi, uffdioRegister, uffdioUnregister } from "../../linux/userfaultfd.js";
import type { Program, Result } from "../../target/program.js";
import type { Fd } from "../part.js";
import { isPlainMemory } from "./lazy.js";
import type { PageRange } from "./page-runs.js";
import type { StoredRun } from "./page-source.js";
import type { VmaEntry } from "./vma.schema.js";

/** A mapping with less in it is not worth it. */
const WORTH_BYTES = 4n << 20n;
/** On the average. */
const WORTH_RUN_BYTES = 32n << 10n;
const HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage";

/** Mappings without pages that are to get many; both ascending. */
export function freshRanges(fresh: readonly VmaEntry[], runs: readonly StoredRun[]): PageRange[] {
  const found: PageRange[] = [];
  let at = 0;
  for (const vma of fresh) {
    while ((runs[at]?.end ?? 1n << 64n) <= vma.start) at++;
    if (vma.end - vma.start < WORTH_BYTES || !isPlainMemory(vma)) continue;
    let bytes = 0n;
    let pieces = 0n;
    for (let k = at; k < runs.length; k++) {
      const run = runs[k] as StoredRun;
      if (run.start >= vma.end) break;
      bytes += (run.end < vma.end ? run.end : vma.end) - (run.start > vma.start ? run.start : vma.start);
      pieces++;
    }
    if (bytes >= WORTH_BYTES && bytes >= pieces * WORTH_RUN_BYTES) found.push({ start: vma.start, end: vma.end });
  }
  return found.length > 0 && !areLargePagesUsual() ? found : [];
}

let areUsual: boolean | undefined;

/** Whether memory gets large pages although nobody asks for them: of any size. */
function areLargePagesUsual(): boolean {
  areUsual ??= [HUGE_PAGES, ...sizes()].some((folder) => textOf(`${folder}/enabled`).includes("[always]"));
  return areUsual;
}

function sizes(): string[] {
  try {
    return readdirSync(HUGE_PAGES)
      .filter((name) => name.startsWith("hugepages-"))
      .map((name) => `${HUGE_PAGES}/${name}`);
  } catch {
    return [];
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}

/** Adds the call that makes the process's userfaultfd; its copy there is closed with whatever else it has before it gets its descriptors. */
export function addUserfaultfd(program: Program): Result {
  return program.call(SYS.userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
}

/** Ranges of a process that can be filled by UFFDIO_COPY, and not be touched in any other way until this is closed. */
export class FreshMemory {
  readonly fd: Fd;
  readonly #registered: PageRange[] = [];

  /** Undefined where the kernel does not do it. `made`: what {@link addUserfaultfd} gave. */
  static open(pid: number, made: Result, ranges: readonly PageRange[]): FreshMemory | undefined {
    if (made.errno !== 0) return undefined;
    let memory: FreshMemory | undefined;
    try {
      memory = new FreshMemory(pid, Number(made.value));
      memory.#register(ranges);
      return memory;
    } catch (error) {
      memory?.close();
      if (!(error instanceof KernelError)) throw error;
      return undefined; // it is filled as any other memory
    }
  }

  private constructor(pid: number, fd: Fd) {
    const pidfd = pidfdOpen(pid);
    try {
      this.fd = pidfdGetfd(pidfd, fd);
    } finally {
      closeSync(pidfd);
    }
  }

  #register(ranges: readonly PageRange[]): void {
    uffdioApi(this.fd, 0n);
    for (const range of ranges) {
      uffdioRegister(this.fd, { address: range.start, sizeBytes: range.end - range.start }, UFFDIO_REGISTER_MODE_MISSING);
      this.#registered.push(range);
    }
  }

  close(): void {
    try {
      for (const { start, end } of this.#registered.splice(0)) uffdioUnregister(this.fd, { address: start, sizeBytes: end - start });
    } finally {
      closeSync(this.fd);
    }
  }
}
