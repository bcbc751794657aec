/**
 * /proc/PID/mountinfo, proc_pid_mountinfo(5): the mounts of a mount namespace below the process's root.
 */
import { textOf } from "../text.js";
import { decimal, procTextError, undoOctalEscapes } from "./text.js";

/** One mount. */
export interface MountInfo {
  readonly id: number;
  readonly parentId: number;
  readonly devMajor: number;
  readonly devMinor: number;
  /** Which directory (or file) of the file system is mounted; `//deleted` at its end when it is gone. */
  readonly root: string;
  readonly mountPoint: string;
  /** Options of the mount, as in `rw,nosuid`. */
  readonly options: readonly string[];
  /** Peer group it shares events with. */
  readonly shared: number | undefined;
  /** Peer group it receives events from. */
  readonly master: number | undefined;
  /** Nearest dominating peer group below the same root, when that is not the master. */
  readonly propagateFrom: number | undefined;
  readonly unbindable: boolean;
  /** With the subtype, as in `fuse.sshfs`. */
  readonly fsType: string;
  readonly source: string;
  /** Options of the file system, as one string: a value may hold an escaped comma. */
  readonly superOptions: string;
}

/** Takes the bytes of a mountinfo file apart; mounts come in the kernel's order. */
export function parseMountinfo(bytes: Buffer, path: string): MountInfo[] {
  const lines = bytes.toString("latin1").split("\n");
  if (lines.pop() !== "") throw procTextError(path, "it is cut off");
  return lines.map((line) => parseMount(line, path));
}

function unescaped(field: string): string {
  return textOf(undoOctalEscapes(Buffer.from(field, "latin1")));
}

function parseMount(line: string, path: string): MountInfo {
  // Exactly one space between fields: a source may be empty.
  const fields = line.split(" ");
  const dash = fields.indexOf("-", 6);
  const [id = "", parent = "", device = "", root = "", mountPoint = "", options = ""] = fields;
  const [fsType, source, superOptions] = fields.slice(dash + 1);
  if (dash < 0 || fsType === undefined || source === undefined || superOptions === undefined) {
    throw procTextError(path, `it has the line "${line.slice(0, 80)}"`);
  }
  const tags = fields.slice(6, dash);
  const tag = (name: string) => {
    const found = tags.find((t) => t.startsWith(`${name}:`));
    return found === undefined ? undefined : decimal(found.slice(name.length + 1), path);
  };
  const [major = "", minor = ""] = device.split(":");
  return {
    id: decimal(id, path),
    parentId: decimal(parent, path),
    devMajor: decimal(major, path),
    devMinor: decimal(minor, path),
    root: unescaped(root),
    mountPoint: unescaped(mountPoint),
    options: options.split(","),
    shared: tag("shared"),
    master: tag("master"),
    propagateFrom: tag("propagate_from"),
    unbindable: tags.includes("unbindable"),
    fsType: unescaped(fsType),
    source: unescaped(source),
    superOptions: unescaped(superOptions),
  };
}
