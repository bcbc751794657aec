/**
 * Files that a fanotify group of the tree decides about (FAN_OPEN_PERM and others): who opens one waits for the answer of a
 * process that stands still. So a dump opens none of them while the tree is frozen, and does not begin where it would have to.
 *
 * A mark of a directory may be about the files in it, and one of a mount or file system is about all files there. In doubt a file
 * counts as guarded: then it is not looked into.
 */
import { closeSync, readFileSync } from "node:fs";
import { dirname, resolve } from "../../linux/named-paths.js";
import { existsSync, readdirSync, readlinkSync, statSync } from "../../linux/named-files.js";
import { KernelError, Refusal } from "../../errors.js";
import { FAN_PERMISSIONS } from "../../linux/events.js";
import { AT_FDCWD, O_CLOEXEC, O_PATH, openat } from "../../linux/files.js";
import { fromKernelDevice } from "../../linux/device-numbers.js";
import type { FdInfo } from "../../linux/proc/fdinfo.js";
import { type FanotifyMark, fanotifyInfo } from "../../linux/proc/fdinfo-kinds.js";
import { readFdNumbers } from "../../linux/proc/list.js";
import { readComm, readFdInfo, readMountinfo } from "../../linux/proc/read.js";
import type { DumpSession } from "../part.js";

export const FANOTIFY_LINK = "anon_inode:[fanotify]";

/** What the groups of a tree decide about. */
export interface Guards {
  readonly inodes: Set<bigint>;
  readonly mounts: Set<number>;
  /** Of file systems, as `major:minor`. */
  readonly devices: Set<string>;
}

export const decides = ({ mask, ignoredMask }: Pick<FanotifyMark, "mask" | "ignoredMask">): boolean =>
  ((mask | ignoredMask) & FAN_PERMISSIONS) !== 0;

function addMarks(guards: Guards, info: FdInfo): void {
  for (const mark of fanotifyInfo(info).marks.filter(decides)) {
    if (mark.on === "inode") guards.inodes.add(mark.inode ?? 0n);
    else if (mark.on === "mount") guards.mounts.add(mark.mountId ?? -1);
    else {
      const { major, minor } = fromKernelDevice(mark.device ?? 0);
      guards.devices.add(`${major}:${minor}`);
    }
  }
}

const noGuards = (): Guards => ({ inodes: new Set(), mounts: new Set(), devices: new Set() });

export const isEmpty = (guards: Guards): boolean => guards.inodes.size + guards.mounts.size + guards.devices.size === 0;

/** Whether opening what `path` leads to needs an answer. Looking at it with O_PATH does not. */
export function isGuardedBy(guards: Guards, path: string): boolean {
  if (isEmpty(guards)) return false;
  let fd: number;
  try {
    fd = openat(AT_FDCWD, path, { flags: O_PATH | O_CLOEXEC });
  } catch (error) {
    if (error instanceof KernelError) return false; // it is not there to be opened
    throw error;
  }
  try {
    const own = `/proc/self/fd/${fd}`;
    const folder = statSync(dirname(readlinkSync(own)), { bigint: true, throwIfNoEntry: false });
    if (guards.inodes.has(statSync(own, { bigint: true }).ino) || guards.inodes.has(folder?.ino ?? -1n)) return true;
    const { mntId } = readFdInfo(process.pid, fd);
    const mount = readMountinfo(process.pid).find((one) => one.id === mntId);
    return guards.mounts.has(mntId) || guards.devices.has(`${mount?.devMajor}:${mount?.devMinor}`);
  } finally {
    closeSync(fd);
  }
}

const ofSession = new WeakMap<DumpSession, Guards>();

/** Notes what a group of the tree decides about; before the dump opens any file of the tree. */
export function noteGuards(info: FdInfo, session: DumpSession): void {
  const guards = ofSession.get(session) ?? noGuards();
  ofSession.set(session, guards);
  addMarks(guards, info);
}

/** Whether the tree decides about any files. */
export function hasGuards(session: DumpSession): boolean {
  const guards = ofSession.get(session);
  return guards !== undefined && !isEmpty(guards);
}

/** Whether the frozen tree would have to answer before the file can be opened. */
export function isGuarded(path: string, session: DumpSession): boolean {
  const guards = ofSession.get(session);
  return guards !== undefined && isGuardedBy(guards, path);
}

/** Refuses a tree that decides about files which the dump itself has to open while it is frozen; nothing has been touched yet. */
export function refuseGuardedPlaces(pids: readonly number[], places: readonly string[]): void {
  for (const pid of pids) {
    for (const { fd, info } of groupsOf(pid)) {
      const guards = noGuards();
      addMarks(guards, info);
      const place = places.find((one) => isGuardedBy(guards, existing(one)));
      if (place === undefined) continue;
      throw new Refusal({
        code: "FANOTIFY_PERMISSION",
        process: { pid, comm: readComm(pid) },
        resource: `fd ${fd} (fanotify)`,
        because: `it decides who may open files in "${place}", where the dump has to while the process is frozen and cannot answer`,
        remedy: ["Name directories that it has no mark on, on a file system of their own (--images-dir, --work-dir)"],
      });
    }
  }
}

/** The directory itself, or that in which it will be made. */
function existing(path: string): string {
  const whole = resolve(path);
  return existsSync(whole) || whole === "/" ? whole : existing(dirname(whole));
}

function groupsOf(pid: number): { fd: number; info: FdInfo }[] {
  try {
    return readFdNumbers(pid).flatMap((fd) =>
      readlinkSync(`/proc/${pid}/fd/${fd}`) === FANOTIFY_LINK ? [{ fd, info: readFdInfo(pid, fd) }] : [],
    );
  } catch {
    return []; // it has ended, or closed some
  }
}

/**
 * What the groups of running processes decide about. They might answer, or might not for as long as they are busy or stopped; so what
 * is done before the freeze opens none of it either.
 */
export function guardsOf(pids: readonly number[]): Guards {
  const guards = noGuards();
  for (const pid of pids) for (const { info } of groupsOf(pid)) addMarks(guards, info);
  return guards;
}

/** A task that waits for the answer of a fanotify group, whichever; undefined: none does. */
export function whoWaits(): number | undefined {
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      for (const tid of readdirSync(`/proc/${name}/task`))
        if (/^fanotify_/.test(readFileSync(`/proc/${name}/task/${tid}/wchan`, "latin1"))) return Number(tid);
    } catch {
      // It has ended.
    }
  }
  return undefined;
}
