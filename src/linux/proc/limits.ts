/**
 * /proc/PID/limits, proc_pid_limits(5): soft and hard resource limits, getrlimit(2).
 *
 * Readable with ptrace rights, where prlimit(2) of another process asks for CAP_SYS_RESOURCE.
 */
import { RLIM_INFINITY, RLIMIT, type Rlimit } from "../limits.js";
import { bigDecimal, procTextError } from "./text.js";

/** First column of the file, by limit. */
const ROWS: readonly (readonly [string, number])[] = [
  ["Max cpu time", RLIMIT.CPU],
  ["Max file size", RLIMIT.FSIZE],
  ["Max data size", RLIMIT.DATA],
  ["Max stack size", RLIMIT.STACK],
  ["Max core file size", RLIMIT.CORE],
  ["Max resident set", RLIMIT.RSS],
  ["Max processes", RLIMIT.NPROC],
  ["Max open files", RLIMIT.NOFILE],
  ["Max locked memory", RLIMIT.MEMLOCK],
  ["Max address space", RLIMIT.AS],
  ["Max file locks", RLIMIT.LOCKS],
  ["Max pending signals", RLIMIT.SIGPENDING],
  ["Max msgqueue size", RLIMIT.MSGQUEUE],
  ["Max nice priority", RLIMIT.NICE],
  ["Max realtime priority", RLIMIT.RTPRIO],
  ["Max realtime timeout", RLIMIT.RTTIME],
];

/** The limits, indexed by RLIMIT_…. */
export function parseLimits(bytes: Buffer, path: string): Rlimit[] {
  const text = bytes.toString("latin1");
  const limits: Rlimit[] = [];
  for (const [title, resource] of ROWS) {
    const at = text.indexOf(`\n${title} `);
    const end = text.indexOf("\n", at + 1);
    if (at < 0 || end < 0) throw procTextError(path, `it has no complete row "${title}"`);
    const [soft = "", hard = ""] = text
      .slice(at + 1 + title.length, end)
      .trim()
      .split(/\s+/);
    limits[resource] = { soft: value(soft, path), hard: value(hard, path) };
  }
  return limits;
}

function value(text: string, path: string): bigint {
  return text === "unlimited" ? RLIM_INFINITY : bigDecimal(text, path);
}
