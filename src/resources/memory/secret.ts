/**
 * Secret memory, memfd_secret(2): pages that not even the kernel maps, so that nobody but the process can read them.
 *
 * Refused     descriptors and mappings: SECRET_MEMORY. The process itself could be made to write them out; that they are to stay
 *             out of files is what it asked for.
 */
import { Refusal } from "../../errors.js";
import { fstatfs } from "../../linux/files.js";
import type { Vma } from "../../linux/proc/maps.js";
import type { DumpTask, FileKind } from "../part.js";

/** uapi/linux/magic.h */
const SECRETMEM_MAGIC = 0x5345434dn;
const LINK = "/secretmem (deleted)";

export function isSecret(vma: Vma): boolean {
  return vma.name === LINK && vma.devMajor === 0;
}

export function secretMemory(task: DumpTask, resource: string): Refusal {
  return new Refusal({
    code: "SECRET_MEMORY",
    process: { pid: task.traced.pid, comm: task.comm },
    resource,
    because: "it is secret memory (memfd_secret), which the process keeps out of everybody's reach, and out of files",
    remedy: ["Let the program unmap and close it before the dump, and get its secrets again afterwards"],
  });
}

export const secretMemoryFiles: FileKind<never> = {
  name: "memory/secret",
  rows: [],
  type: "UND",
  field: "ext",
  // A descriptor of ours (`local`) is taken when it is looked at, which a plain file must not cost.
  matches: (file) => file.link === LINK && fstatfs(file.local).type === SECRETMEM_MAGIC,
  dump(file, session) {
    session.refuse(secretMemory(file.task, `fd ${file.fd}`));
    return undefined;
  },
  open() {
    throw new Error("internal error: no image has secret memory");
  },
};
