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
  /** The signal by which the parent is told of its end; 0: none. */
  readonly exitSignal: number;
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
  return new StatText(text, { open, close, rest });
}

/** Numbers are made of fields when they are asked for: thousands of these files are read while a tree stands still. */
class StatText implements ProcStat {
  readonly #text: string;
  readonly #name: { readonly open: number; readonly close: number };
  readonly #rest: readonly string[];

  constructor(text: string, parts: { open: number; close: number; rest: readonly string[] }) {
    this.#text = text;
    this.#name = parts;
    this.#rest = parts.rest;
  }

  /** Field `n` of the manual. */
  #int(n: number): number {
    return Number.parseInt(this.#rest[n - 3] ?? "", 10);
  }

  #big(n: number): bigint {
    return BigInt(this.#rest[n - 3] ?? "");
  }

  get pid(): number {
    return Number.parseInt(this.#text, 10);
  }

  get comm(): string {
    return utf8(this.#text.slice(this.#name.open + 1, this.#name.close));
  }

  get state(): string {
    return this.#rest[0] ?? "";
  }

  get ppid(): number {
    return this.#int(4);
  }

  get pgrp(): number {
    return this.#int(5);
  }

  get session(): number {
    return this.#int(6);
  }

  get ttyNr(): number {
    return this.#int(7);
  }

  get tpgid(): number {
    return this.#int(8);
  }

  get flags(): number {
    return this.#int(9);
  }

  get nice(): number {
    return this.#int(19);
  }

  get threads(): number {
    return this.#int(20);
  }

  get startTimeTicks(): bigint {
    return this.#big(22);
  }

  get startCode(): bigint {
    return this.#big(26);
  }

  get endCode(): bigint {
    return this.#big(27);
  }

  get startStack(): bigint {
    return this.#big(28);
  }

  get startData(): bigint {
    return this.#big(45);
  }

  get endData(): bigint {
    return this.#big(46);
  }

  get startBrk(): bigint {
    return this.#big(47);
  }

  get argStart(): bigint {
    return this.#big(48);
  }

  get argEnd(): bigint {
    return this.#big(49);
  }

  get envStart(): bigint {
    return this.#big(50);
  }

  get envEnd(): bigint {
    return this.#big(51);
  }

  get exitSignal(): number {
    return this.#int(38);
  }

  get exitCode(): number {
    return this.#int(LAST_FIELD);
  }
}
