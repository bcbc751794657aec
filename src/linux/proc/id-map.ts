/**
 * /proc/PID/uid_map and gid_map, user_namespaces(7): how ids inside a user namespace appear outside.
 */
import { decimal, procTextError } from "./text.js";

/** A run of ids. */
export interface IdMapExtent {
  /** First id inside the namespace of the process. */
  readonly inside: number;
  /** The id it stands for in the user namespace of the reader (or in the parent's, for one's own). */
  readonly outside: number;
  readonly count: number;
}

/** Takes the bytes of a map apart; empty: not set yet. */
export function parseIdMap(bytes: Buffer, path: string): IdMapExtent[] {
  const lines = bytes.toString("latin1").split("\n");
  if (lines.pop() !== "") throw procTextError(path, "it is cut off");
  return lines.map((line) => {
    const fields = line.trim().split(/\s+/);
    if (fields.length !== 3) throw procTextError(path, `it has the line "${line.slice(0, 80)}"`);
    const [inside = 0, outside = 0, count = 0] = fields.map((field) => decimal(field, path));
    return { inside, outside, count };
  });
}
