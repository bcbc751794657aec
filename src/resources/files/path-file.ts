/**
 * Files that a task refers to by something else than a descriptor: mapped files, the executable, cwd and root.
 *
 * Each becomes an entry of files.img once, however many mappings of however many tasks it has.
 */
import { readlinkSync } from "../../linux/named-files.js";
import { type FileStat, statOf } from "../../linux/statx.js";
import type { DumpSession, PathFile } from "../part.js";
import { isGuarded } from "../watches/guards.js";
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
  const link = readlinkSync(file.procPath);
  const { procPath: openPath, task } = file;
  const what = openPath.replace(/^\/proc\/\d+\//, "");
  const process = { pid: task.traced.pid, comm: task.comm };
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
  });
  const reg = carry(described, { link, stat, openPath, mayBeRead, process, what }, session);
  const value = { type: fdTypes.values.REG, id, reg };
  session.later(() => session.images.append("FILES", [], { type: fileEntry, value }));
  return id;
}
