/**
 * /proc/locks, proc_locks(5), and the `lock:` lines of fdinfo: file locks and leases.
 */
import { bigDecimal, decimal, hex, procTextError } from "./text.js";

/** One lock or lease. */
export interface FileLock {
  /** Number of the line; waiters carry that of the lock they wait for. */
  readonly id: number;
  /** Whether this is not a lock but somebody waiting for it. */
  readonly blocked: boolean;
  /** POSIX, FLOCK, OFDLCK, LEASE, DELEG, or another class of locks. */
  readonly kind: string;
  /** ADVISORY, MANDATORY, `*NOINODE*`; of a lease ACTIVE, BREAKING or BREAKER. */
  readonly state: string;
  /** READ, WRITE, UNLCK. */
  readonly type: string;
  /** Holder in the pid namespace of the reader; -1 for OFDLCK, 0 when it is outside of that namespace. */
  readonly pid: number;
  readonly devMajor: number;
  readonly devMinor: number;
  readonly inode: bigint;
  readonly start: bigint;
  /** Last byte, or undefined up to the end of the file. */
  readonly end: bigint | undefined;
}

/** A line as in `1: -> POSIX  ADVISORY  WRITE 2634 fd:01:123 0 EOF`. */
export function parseLock(line: string, path: string): FileLock {
  const bad = () => procTextError(path, `it has the line "${line.slice(0, 100)}"`);
  const fields = line.trim().split(/\s+/);
  const id = fields.shift() ?? "";
  const blocked = fields[0] === "->";
  if (blocked) fields.shift();
  const [kind = "", state = "", type = "", pid = "", place = "", start = "", end = ""] = fields;
  const device = place.split(":");
  if (!id.endsWith(":") || end === "" || (device.length !== 3 && place !== "<none>:0")) throw bad();
  const [major = "0", minor = "0", inode = "0"] = device.length === 3 ? device : [];
  return {
    id: decimal(id.slice(0, -1), path),
    blocked,
    kind,
    state,
    type,
    pid: decimal(pid, path),
    devMajor: hex(major, path),
    devMinor: hex(minor, path),
    inode: bigDecimal(inode, path),
    start: bigDecimal(start, path),
    end: end === "EOF" ? undefined : bigDecimal(end, path),
  };
}

/** Takes the bytes of /proc/locks apart. */
export function parseLocks(bytes: Buffer, path: string): FileLock[] {
  const lines = bytes.toString("latin1").split("\n");
  if (lines.pop() !== "") throw procTextError(path, "it is cut off");
  return lines.map((line) => parseLock(line, path));
}
