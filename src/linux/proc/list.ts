/**
 * Directories of /proc whose entries are numbers: threads, descriptors, processes. And the links in them.
 */
import { readdirSync, readlinkSync } from "../named-files.js";
import { ERRNO, kernelError } from "../errno.js";

/** Numbers among the entries of `path`, in the kernel's order. */
function numbers(path: string): number[] {
  let names: string[];
  try {
    names = readdirSync(path);
  } catch (error) {
    throw listError("readdir", path, error);
  }
  return names.map(Number).filter(Number.isInteger);
}

function listError(call: string, path: string, error: unknown): Error {
  const errno = error instanceof Error && "errno" in error && typeof error.errno === "number" ? -error.errno : undefined;
  if (errno === undefined) return error instanceof Error ? error : new Error(String(error));
  return kernelError(`${call}("${path}")`, errno === ERRNO.ENOENT ? ERRNO.ESRCH : errno);
}

/** Thread ids of a process, leader first unless it is long dead. */
export function readThreadIds(pid: number): number[] {
  return numbers(`/proc/${pid}/task`).sort((a, b) => Number(b === pid) - Number(a === pid) || a - b);
}

/** Open descriptors of a process, ascending. */
export function readFdNumbers(pid: number): number[] {
  return numbers(`/proc/${pid}/fd`).sort((a, b) => a - b);
}

/** Texts of the links of all open descriptors of a process. */
export function readFdLinks(pid: number): string[] {
  return readFdNumbers(pid).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
}

/** Every process that the mounted /proc shows. */
export function readPids(): number[] {
  return numbers("/proc");
}

/** Text of a link below /proc/PID, as in `fd/3`, `exe`, `cwd`, `ns/net`; " (deleted)" is kept. */
export function readProcLink(pid: number, name: string): string {
  const path = `/proc/${pid}/${name}`;
  try {
    return readlinkSync(path);
  } catch (error) {
    throw listError("readlink", path, error);
  }
}

/** Inode number of a namespace, from a link as in `net:[4026531840]`; undefined where the kernel has no such kind. */
export function readNamespaceInode(pid: number, kind: string): bigint | undefined {
  const path = `/proc/${pid}/ns/${kind}`;
  let link: string;
  try {
    link = readlinkSync(path);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw listError("readlink", path, error);
  }
  const inode = /:\[(\d+)\]$/.exec(link)?.[1];
  return inode === undefined ? undefined : BigInt(inode);
}
