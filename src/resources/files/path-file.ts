/**
 * Files that a task refers to by something else than a descriptor: mapped files, the executable, cwd and root.
 *
 * Each becomes an entry of files.img once, however many mappings of however many tasks it has.
 */
import { type ProcessName, Refusal } from "../../errors.js";
import { readComm } from "../../linux/proc/read.js";
import { readlinkSync } from "../../linux/named-files.js";
import { type FileStat, statOf } from "../../linux/statx.js";
import type { DumpSession, PathFile } from "../part.js";
import { isGuarded } from "../watches/guards.js";
import { isHeard } from "../watches/listeners.js";
import { carry } from "./carry.js";
import { isLeased } from "./locks.js";
import { describeFile } from "./regular.js";
import { nameOf } from "./remap.js";
import { fdTypes, fileEntry } from "./table.schema.js";

/** The function that gives files of one dump their ids. */
export function fileIds(session: DumpSession): (file: PathFile) => number {
  const known = new Map<string, number>();
  return (file) => {
    const byMapping = file.key === undefined ? undefined : known.get(file.key);
    if (byMapping !== undefined) return byMapping;
    const stat = statOf(file.procPath);
    const key = `${stat.dev}/${stat.ino}/${file.flags}`;
    let id = known.get(key);
    if (id === undefined) {
      id = dumpPathFile(file, stat, session);
      known.set(key, id);
    }
    if (file.key !== undefined) known.set(file.key, id);
    return id;
  };
}

const NO_OWNER = { uid: 0, euid: 0, signum: 0, pid_type: 0, pid: 0 };

function dumpPathFile(file: PathFile, stat: FileStat, session: DumpSession): number {
  const id = session.newFileId();
  const { procPath: openPath, task } = file;
  const what = openPath.replace(/^\/proc\/\d+\//, "");
  const process = { pid: task.traced.pid, comm: task.comm };
  const link = linkAt(openPath, { process, session });
  if (link === undefined) return id;
  const name = nameOf({ id, link, stat, mountId: stat.mountId, openPath, process, what }, session);
  if (name === undefined) return id;
  const mayBeRead = !isLeased(stat, session) && !isGuarded(openPath, session);
  const described = describeFile({
    id,
    name,
    flags: file.flags,
    pos: 0n,
    fown: NO_OWNER,
    stat,
    openPath: mayBeRead ? openPath : undefined,
    wantsChecksum: file.isPrivate === true && session.options.fileValidation === "buildid",
    isHeard: isHeard(session),
  });
  const reg = carry(described, { link, stat, openPath, mayBeRead, process, what }, session);
  const value = { type: fdTypes.values.REG, id, reg };
  session.later(() => session.images.append("FILES", [], { type: fileEntry, value }));
  return id;
}

/** What a link of a process in /proc is about. */
const LINK = /^\/proc\/(\d+)\/(?:task\/\d+\/)?(fd\/\d+|cwd|root|exe|map_files\/[0-9a-f-]+)$/;
const WORDS: Readonly<Record<string, string>> = { cwd: "the working directory", root: "the root directory", exe: "the program" };

/** What such a link says; undefined: the name is too long, which is refused. */
export function linkAt(path: string, { process, session }: { process: ProcessName; session: DumpSession }): string | undefined {
  try {
    return readlinkSync(path);
  } catch (error) {
    if (!isTooLong(error)) throw error;
    const [, , link = path] = LINK.exec(path) ?? [];
    session.refuse(tooLong(process, link));
    return undefined;
  }
}

/** The refusal for an error of readlink(2) at such a name, wherever it comes from; any other error stays what it is. */
export function namedIfTooLong(error: unknown): unknown {
  if (!isTooLong(error) || !("path" in error)) return error;
  const [, pid = "", link = ""] = LINK.exec(String(error.path)) ?? [];
  return pid === "" ? error : tooLong({ pid: Number(pid), comm: commOf(Number(pid)) }, link);
}

const isTooLong = (error: unknown): error is Error => error instanceof Error && "code" in error && error.code === "ENAMETOOLONG";

function tooLong(process: ProcessName, link: string): Refusal {
  const what = WORDS[link] ?? (link.startsWith("fd/") ? link.replace("/", " ") : `the mapping ${link.replace("map_files/", "")}`);
  return new Refusal({
    code: "FILE_NAME_TOO_LONG",
    process,
    resource: what,
    because: "its name has more than 4095 bytes, which the kernel neither tells nor takes",
    remedy: ["Rename a directory above it", "Let the program close it, or go to another directory"],
  });
}

function commOf(pid: number): string {
  try {
    return readComm(pid);
  } catch {
    return "?";
  }
}
