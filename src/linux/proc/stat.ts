/**
 * /proc/PID/stat and /proc/PID/task/TID/stat, proc_pid_stat(5).
 */
import { procTextError } from "./text.js";

/** The fields Floe uses; numbers in the comments are those of the manual. */
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

/** Takes the text of a stat file apart; `path` is for messages. The name may hold spaces and parentheses. */
export function parseStat(text: string, path: string): ProcStat {
  const open = text.indexOf("(");
  const close = text.lastIndexOf(")");
  const rest = text.slice(close + 2).trimEnd().split(" ");
  if (open < 0 || close < open || rest.length < 50) throw procTextError(path, "it is cut off");
  const field = (n: number) => rest[n - 3] ?? "0";
  const int = (n: number) => Number.parseInt(field(n), 10);
  const big = (n: number) => BigInt(field(n));
  return {
    pid: Number.parseInt(text, 10),
    comm: text.slice(open + 1, close),
    state: field(3),
    ppid: int(4),
    pgrp: int(5),
    session: int(6),
    ttyNr: int(7),
    tpgid: int(8),
    flags: int(9),
    nice: int(19),
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
    exitCode: int(52),
  };
}
