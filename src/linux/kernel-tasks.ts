/**
 * The way to a thread in the kernel's memory (`kernel-memory.ts`): an open directory of /proc/PID or /proc/PID/task/TID leads to it. Its
 * inode has the number (struct pid), and that the thread's task_struct.
 *
 * Structures: fs/proc/internal.h, linux/pid.h, linux/sched.h; where their members lie is known from BTF.
 */
import { closeSync, constants, openSync } from "node:fs";
import type { StructsWanted } from "./btf.js";
import { O_PATH } from "./files.js";
import { KernelView, sightOf } from "./kernel-view.js";

const STRUCTS = { task_struct: ["pid_links"], proc_inode: ["pid", "vfs_inode"], pid: ["tasks"] } as const;

export class KernelTasks extends KernelView {
  /** `wanted`: more structs and members, those of task_struct too. Undefined where there is no such sight (see there). */
  static open(wanted: StructsWanted): KernelTasks | undefined {
    const sight = sightOf({ ...STRUCTS, ...wanted, task_struct: [...STRUCTS.task_struct, ...(wanted["task_struct"] ?? [])] });
    return sight && new KernelTasks(sight);
  }

  /** Bytes of the task_struct that a directory of /proc speaks of, from a member on. */
  ofTask(directory: string, member: string, more: { offset: number; length: number }): Buffer | undefined {
    const fd = openSync(directory, constants.O_DIRECTORY | O_PATH);
    try {
      const toNumber = [this.at("file", "f_inode"), this.at("proc_inode", "pid") - this.at("proc_inode", "vfs_inode")];
      const pointers = [...this.toFile(fd), ...toNumber, this.at("pid", "tasks")];
      const offset = this.at("task_struct", member) - this.at("task_struct", "pid_links") + more.offset;
      return this.memory.read({ start: "task", pointers, offset }, more.length);
    } finally {
      closeSync(fd);
    }
  }
}
