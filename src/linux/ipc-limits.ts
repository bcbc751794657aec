/**
 * Limits of an IPC namespace: files of /proc/sys/kernel and /proc/sys/fs/mqueue, proc_sys_kernel(5), mq_overview(7). They show and set
 * those of the namespace that the calling thread is in.
 */
import { readFileSync, writeFileSync } from "node:fs";

/** The numbers in a file below /proc/sys; undefined where the kernel has no such file. */
export function readLimit(name: string): bigint[] | undefined {
  try {
    const words = readFileSync(`/proc/sys/${name}`, "latin1").trim().split(/\s+/);
    return words.map((word) => BigInt(word));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** Sets what is not so already: /proc/sys may be closed to writing where nothing has to be changed. */
export function writeLimit(name: string, values: readonly bigint[]): void {
  const now = readLimit(name);
  if (now !== undefined && now.join() === values.join()) return;
  writeFileSync(`/proc/sys/${name}`, values.join(" "));
}
