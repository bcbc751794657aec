/**
 * SELinux labels of sockets, which decide who may use them: a socket has that of its maker, unless he has asked for another.
 *
 * Read from   getxattr(2) of security.selinux through /proc/PID/fd; in fdinfo-N
 * Made with   /proc/thread-self/attr/sockcreate of the thread of ours that makes the socket (proc_pid_attr(5))
 */
import { writeFileSync } from "node:fs";
import { kernelError } from "../../linux/errno.js";
import { readXattrs } from "../../linux/xattr.js";
import { LSM, activeLsm } from "./lsm.js";

const LABEL = "security.selinux";
const SOCKET_LABEL = "/proc/thread-self/attr/sockcreate";

/** The label of what process `pid` has open as `fd`; undefined where there are none, or it is no socket. */
export function socketLabel({ pid, fd, link }: { pid: number; fd: number; link: string }): string | undefined {
  if (activeLsm() !== LSM.SELINUX || !link.startsWith("socket:")) return undefined;
  const found = readXattrs(`/proc/${pid}/fd/${fd}`).find(({ name }) => name === LABEL);
  return found?.value.toString("utf8").replace(/\0+$/, "");
}

/** Runs `make`, whose sockets get `label`; `file` is the attribute that says so. */
export function withSocketLabel<T>(label: string | undefined, make: () => T, file = SOCKET_LABEL): T {
  if (label === undefined || (file === SOCKET_LABEL && activeLsm() !== LSM.SELINUX)) return make();
  writeLabel(file, label);
  try {
    return make();
  } finally {
    // An empty label: that of the policy again.
    writeLabel(file, "\0");
  }
}

function writeLabel(file: string, label: string): void {
  try {
    writeFileSync(file, label);
  } catch (error) {
    throw kernelError(`write("${file}", "${label}")`, (error as NodeJS.ErrnoException).errno ?? -22, "giving a socket its SELinux label");
  }
}
