/**
 * Files that have their name but cannot be got at by it: hidden below a later mount, or on a mount that is not in our tree.
 *
 * Read from   mnt_id of fdinfo, or statx(2) where there is no descriptor; /proc/self/mountinfo
 * Refused     all of them, as the name leads to another file, or to none; private copies that a restore made (carried.ts) are carried
 *
 * Looking up every name would take a call for each file of a frozen tree. Where the mount that a path ends on is the one that
 * the file is on, nothing lies over it, and that is found out without a call.
 */
import type { BigIntStats } from "node:fs";
import { lstatSync, statfsSync } from "../../linux/named-files.js";
import { type ProcessName, Refusal } from "../../errors.js";
import { readMountinfo } from "../../linux/proc/read.js";
import { readXattrs } from "../../linux/xattr.js";
import type { DumpSession } from "../part.js";
import { PRIVATE_COPY } from "./carry.js";

/** The mounts as they were before the freeze: children of each by the path that they lie on. */
export class MountTree {
  readonly #children = new Map<string, number>();
  #root: number | undefined;

  constructor() {
    const mounts = readMountinfo(process.pid);
    const ids = new Set(mounts.map(({ id }) => id));
    for (const { id, parentId, mountPoint } of mounts) {
      if (ids.has(parentId) && parentId !== id) this.#children.set(`${parentId} ${mountPoint}`, id);
      else if (mountPoint === "/") this.#root = id;
    }
  }

  /** The mount that an absolute path without links ends on; undefined when that is not known. */
  at(path: string): number | undefined {
    if (this.#root === undefined || !path.startsWith("/")) return undefined;
    let mount = this.#over(this.#root, "/");
    for (let end = path.indexOf("/", 1); path !== "/"; end = path.indexOf("/", end + 1)) {
      mount = this.#over(mount, end < 0 ? path : path.slice(0, end));
      if (end < 0) break;
    }
    return mount;
  }

  /** The uppermost of the mounts that lie on each other there. */
  #over(mount: number, path: string): number {
    for (let top = mount; ; ) {
      const child = this.#children.get(`${top} ${path}`);
      if (child === undefined) return top;
      top = child;
    }
  }
}

export interface NamedFile {
  readonly link: string;
  readonly stat: BigIntStats;
  readonly mountId: number;
  /** A path through which the very file can be opened. */
  readonly openPath: string;
  readonly process: ProcessName;
  readonly what: string;
}

/** Whether the name of a file that is not deleted leads elsewhere, which is refused: but for copies of a restore's, which are carried. */
export function isHidden(file: NamedFile, session: DumpSession): boolean {
  if (session.mounts.at(file.link) === file.mountId || leadsTo(file.link, file.stat)) return false;
  if (readXattrs(file.openPath).some(({ name }) => name === PRIVATE_COPY)) return false;
  if (isMessageQueue(file)) {
    session.refuse(messageQueue(file));
    return true;
  }
  session.refuse(
    new Refusal({
      code: "FILE_HIDDEN",
      process: file.process,
      resource: `${file.what}, the file "${file.link}"`,
      because: "its name does not lead to it: another file system is mounted over it, or its own is not in our tree of mounts",
      remedy: [
        "Unmount what was mounted over it",
        `Leave a descriptor outside with --external file[${file.mountId.toString(16)}:${file.stat.ino.toString(16)}], and hand over another at the restore`,
      ],
    }),
  );
  return true;
}

/** uapi/linux/magic.h. */
const MQUEUE_MAGIC = 0x1980_0202;

/** Whether a file is a POSIX message queue: its file system has no place among the mounts. */
export const isMessageQueue = ({ openPath }: NamedFile): boolean => statfsSync(openPath).type === MQUEUE_MAGIC;

export function messageQueue({ process, what, link }: NamedFile): Refusal {
  return new Refusal({
    code: "FILE_KIND_UNSUPPORTED",
    process,
    resource: `${what} (${link})`,
    because: "it is a POSIX message queue, which is not carried",
    remedy: ["Close the queue in the program before the dump"],
  });
}

/** Whether a name leads to this very file. */
export function leadsTo(name: string, stat: BigIntStats): boolean {
  const there = lstatSync(name, { bigint: true, throwIfNoEntry: false });
  return there !== undefined && there.ino === stat.ino && there.dev === stat.dev;
}
