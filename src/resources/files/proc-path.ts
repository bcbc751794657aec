/**
 * Open files below /proc/PID: of processes of the tree, which are there again when files are opened, and of processes that
 * are gone, for which a process with that pid is made and ended.
 */
import { existsSync, writeFileSync } from "../../linux/named-files.js";
import { type ProcessName, Refusal } from "../../errors.js";
import { ERRNO, kernelError } from "../../linux/errno.js";
import { SIGKILL, kill } from "../../linux/signals.js";
import { startIdle, waitDeath } from "../../target/seed.js";
import type { DumpSession, Fd, RestoreSession } from "../part.js";
import { pstreeEntry } from "../tasks/tree.schema.js";
import { remapFilePathEntry, remapType } from "./remap.schema.js";

const { PROCFS } = remapType.values;
/** Any free place will do: the process does nothing. */
const IDLE_PLACE = { region: 0x2000_0000n, regionBytes: 4096 };
const TRIES = 20;

/** The process that a file of /proc belongs to. */
export function procOwner(name: string): number | undefined {
  const [, pid] = /^\/proc\/(\d+)(?:\/|$)/.exec(name) ?? [];
  return pid === undefined ? undefined : Number(pid);
}

/** Whether a name has the number of a process of the tree outside of its own pid namespace, where it will have another one. */
export function hasOuterNumber(name: string, { tasks }: Pick<DumpSession, "tasks">): boolean {
  return procOwner(name) !== undefined && tasks[0]?.traced.isInOurPidNamespace === false;
}

/** `what`: as in `fd 3`. */
export function outerNumber({ process, what, link }: { process: ProcessName; what: string; link: string }): Refusal {
  return new Refusal({
    code: "PROC_FILE_OUTER_NUMBER",
    process,
    resource: `${what} (${link})`,
    because: "it is a file of a process by its number outside of the pid namespace of the tree, where it gets another one",
    remedy: ["Close the file in the program before the dump", "Run Floe inside the pid namespace: nsenter --target PID --pid …"],
  });
}

/** Reading from a file of /proc may have effects, fail or never end: nothing looks into it. */
export function isOfProc(name: string): boolean {
  return name.startsWith("/proc/");
}

/** The name for a file of a thread that is gone: as of a process with its number, which is as gone. */
export function nameOfGone(name: string): string {
  const [whole, pid, tid, rest] = /^\/proc\/(\d+)\/task\/(\d+)(\/.*|$)/.exec(name) ?? [];
  if (whole === undefined || tid === pid || existsSync(`/proc/${pid}/task/${tid}`)) return name;
  return `/proc/${tid}/task/${tid}${rest}`;
}

/** Notes for a file of a process that is gone which process that was. */
export function noteGone(id: number, name: string, session: DumpSession): void {
  const pid = procOwner(name);
  if (pid === undefined || existsSync(`/proc/${pid}`)) return;
  session.images.append("REMAP_FPATH", [], { type: remapFilePathEntry, value: { orig_id: id, remap_id: pid, remap_type: PROCFS } });
}

/** Whether the file will be there to be opened, though it may not be there now. */
export function willBeThere(name: string, session: RestoreSession): boolean {
  const pid = procOwner(name);
  return pid !== undefined && (isGone(pid, session) || session.images.records("PSTREE", [], pstreeEntry).some((r) => r.value.pid === pid));
}

/** Whether a process was gone at the time of the dump, while files of it were open. */
export function isGone(pid: number, session: RestoreSession): boolean {
  return session.images
    .records("REMAP_FPATH", [], remapFilePathEntry)
    .some((r) => r.value.remap_id === pid && r.value.remap_type === PROCFS);
}

/** Calls `open` while there is a process `pid`, which is none of the tree. */
export function whileThere(pid: number, open: () => Fd): Fd {
  for (let i = 0; i < TRIES; i++) {
    writeFileSync("/proc/sys/kernel/ns_last_pid", String(pid - 1));
    const got = startIdle(IDLE_PLACE);
    try {
      if (got === pid) return open();
    } finally {
      kill(got, SIGKILL);
      waitDeath(got);
    }
  }
  throw kernelError(`fork for pid ${pid}`, -ERRNO.EEXIST, "making a process that an open file of /proc belongs to");
}
