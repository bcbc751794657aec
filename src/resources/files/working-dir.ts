/**
 * Working directory, root directory and umask.
 *
 * Read from   /proc/PID/{cwd,root}, status (Umask)
 * Made with   fchdir(2), chroot(2) on descriptors of ours that are lent to the process; umask(2)
 */
import { SYS } from "../../linux/syscalls.js";
import { giveBack, lend } from "../../target/lending.js";
import type { Program } from "../../target/program.js";
import type { TracedTask } from "../../target/thread.js";
import { O_DIRECTORY, O_PATH } from "../../linux/files.js";
import type { DumpSession, DumpTask, Fd, RestoreSession } from "../part.js";
import { openRegular } from "./regular.js";
import type { RegFileEntry } from "./regular.schema.js";
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

/** Opens directories, each once for the whole tree; the descriptors are closed with the session. */
export class Directories {
  readonly #session: RestoreSession;
  readonly #open = new Map<number, Fd>();

  constructor(session: RestoreSession) {
    this.#session = session;
  }

  of(entry: RegFileEntry): Fd {
    let fd = this.#open.get(entry.id);
    if (fd === undefined) {
      fd = openRegular(entry, this.#session, O_PATH | O_DIRECTORY);
      this.#open.set(entry.id, fd);
      this.#session.closeLater(fd);
    }
    return fd;
  }
}

/** Adds the calls that set root, working directory and umask; the task may have no descriptor that has to stay: numbers are used freely. */
export function addWorkingDir(
  program: Program,
  { fs, task }: { fs: FsEntry; task: TracedTask },
  on: { session: RestoreSession; directories: Directories },
): void {
  const root = on.session.fileEntry(fs.root_id)?.reg;
  const cwd = on.session.fileEntry(fs.cwd_id)?.reg;
  if (root === undefined || cwd === undefined) return; // reported when images were checked
  const hasOwnRoot = root.name !== "/";
  const lent = lend(program, task.leader, [on.directories.of(cwd), ...(hasOwnRoot ? [on.directories.of(root)] : [])]);
  const [cwdThere = -1, rootThere = -1] = lent;
  if (hasOwnRoot) {
    program.call(SYS.fchdir, rootThere).must(`going to root directory "${root.name}"`);
    program.call(SYS.chroot, program.cstring(".")).must(`setting root directory "${root.name}"`);
  }
  program.call(SYS.fchdir, cwdThere).must(`going to working directory "${cwd.name}"`);
  program.call(SYS.umask, fs.umask ?? 0);
  giveBack(program, lent);
}
