/**
 * Working directory, root directory and umask.
 *
 * Read from   /proc/PID/{cwd,root}, status (Umask)
 * Made with   fchdir(2), chroot(2) on descriptors handed over; umask(2)
 */
import { closeSync } from "node:fs";
import { SYS } from "../../linux/syscalls.js";
import { handOver } from "../../target/hand-over.js";
import { Program } from "../../target/program.js";
import { run } from "../../target/run.js";
import { O_DIRECTORY, O_PATH } from "../../linux/files.js";
import type { DumpSession, DumpTask, RestoreSession, RestoreTask } from "../part.js";
import { openRegular } from "./regular.js";
import { type FsEntry, fsEntry } from "./working-dir.schema.js";

/** Writes fs-PID.img. */
export function dumpWorkingDir(task: DumpTask, session: DumpSession): void {
  const { pid } = task.traced;
  const value: FsEntry = {
    cwd_id: session.fileId({ task, procPath: `/proc/${pid}/cwd`, flags: 0 }),
    root_id: session.fileId({ task, procPath: `/proc/${pid}/root`, flags: 0 }),
    umask: task.status.umask ?? 0,
  };
  session.later(() => session.images.append("FS", [task.pid], { type: fsEntry, value }));
}

/** Sets root, working directory and umask; the task may have no descriptor that has to stay, since numbers are used freely. */
export function restoreWorkingDir(task: RestoreTask, entry: FsEntry, session: RestoreSession): void {
  const root = session.fileEntry(entry.root_id)?.reg;
  const cwd = session.fileEntry(entry.cwd_id)?.reg;
  if (root === undefined || cwd === undefined) return; // reported when images were checked
  const fds = [openRegular(root, session, O_PATH | O_DIRECTORY), openRegular(cwd, session, O_PATH | O_DIRECTORY)];
  try {
    const { leader } = task.traced;
    const [rootThere, cwdThere] = handOver(leader, fds) as [number, number];
    const program = new Program();
    if (root.name !== "/") {
      program.call(SYS.fchdir, rootThere).must(`going to root directory "${root.name}"`);
      program.call(SYS.chroot, program.cstring(".")).must(`setting root directory "${root.name}"`);
    }
    program.call(SYS.fchdir, cwdThere).must(`going to working directory "${cwd.name}"`);
    program.call(SYS.umask, entry.umask ?? 0);
    program.call(SYS.close, rootThere);
    program.call(SYS.close, cwdThere);
    run(leader, program);
    leader.closeOnDeath([]);
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}
