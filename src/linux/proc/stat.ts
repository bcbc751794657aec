/**
 * /proc/PID/stat and /proc/PID/task/TID/stat, proc_pid_stat(5).
 */
import { procTextError, utf8 } from "./text.js";

/** The fields Floe uses; numbers in the code are those of the manual. */
export interface ProcStat {
  readonly pid: number;
  readonly comm: string;
  /** One letter: R S D T t Z X I. */
  readonly state: string;
  readonly ppid: number;
  readonly pgrp: number;
  readonly session: number;
  /** Device number of the controlling terminal; 0: none. */
  readonly ttyNr: number;
  readonly tpgid: number;
  /** Kernel task flags, PF_…. */
  readonly flags: number;
  readonly nice: number;
  readonly threads: number;
  /** Clock ticks after boot. */
  readonly startTimeTicks: bigint;
  readonly startCode: bigint;
  readonly endCode: bigint;
  readonly startStack: bigint;
  readonly startData: bigint;
  readonly endData: bigint;
  readonly startBrk: bigint;
  readonly argStart: bigint;
  readonly argEnd: bigint;
  readonly envStart: bigint;
  readonly envEnd: bigint;
  /** Wait status of a zombie. */
  readonly exitCode: number;
}

/** Number of the last field, exit_code. */
const LAST_FIELD = 52;

/** Takes the bytes of a stat file apart; `path` is for messages. The name may hold spaces, newlines and parentheses. */
export function parseStat(bytes: Buffer, path: string): ProcStat {
  const text = bytes.toString("latin1");
  const open = text.indexOf("(");
  // What follows the name has no parenthesis, so the last one ends it.
  const close = text.lastIndexOf(")");
  const rest = text.slice(close + 2).split(" ");
  if (open < 1 || close < open || rest.length < LAST_FIELD - 2 || !text.endsWith("\n")) {
    throw procTextError(path, "it is cut off");
  }
  const int = (n: number) => Number.parseInt(rest[n - 3] ?? "", 10);
  const big = (n: number) => BigInt(rest[n - 3] ?? "");
  return {
    pid: Number.parseInt(text, 10),
    comm: utf8(text.slice(open + 1, close)),
    state: rest[0] ?? "",
    ppid: int(4),
    pgrp: int(5),
    session: int(6),
    ttyNr: int(7),
    tpgid: int(8),
    flags: int(9),
    nice: int(19),
    threads: int(20),
    startTimeTicks: big(22),
    startCode: big(26),
    endCode: big(27),
    startStack: big(28),
    startData: big(45),
    endData: big(46),
    startBrk: big(47),
    argStart: big(48),
    argEnd: big(49),
    envStart: big(50),
    envEnd: big(51),
    exitCode: int(LAST_FIELD),
  };
}
