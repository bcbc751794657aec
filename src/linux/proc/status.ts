/**
 * /proc/PID/status and /proc/PID/task/TID/status, proc_pid_status(5).
 */
import { procTextError } from "./text.js";

/** Real, effective, saved, file-system id. */
export type IdSet = readonly [number, number, number, number];

export interface ProcStatus {
  readonly name: string;
  readonly state: string;
  readonly tgid: number;
  readonly ppid: number;
  readonly tracerPid: number;
  readonly umask: number;
  readonly uids: IdSet;
  readonly gids: IdSet;
  readonly groups: readonly number[];
  /** Thread-group id, thread id, group and session in every pid namespace, outermost first. */
  readonly nsTgid: readonly number[];
  readonly nsPid: readonly number[];
  readonly nsPgid: readonly number[];
  readonly nsSid: readonly number[];
  readonly threads: number;
  readonly capInh: bigint;
  readonly capPrm: bigint;
  readonly capEff: bigint;
  readonly capBnd: bigint;
  readonly capAmb: bigint;
  readonly noNewPrivs: boolean;
  /** 0 none, 1 strict, 2 filter. */
  readonly seccomp: number;
  readonly sigPnd: bigint;
  readonly shdPnd: bigint;
  readonly sigBlk: bigint;
  readonly sigIgn: bigint;
  readonly sigCgt: bigint;
}

/** Takes the text of a status file apart; `path` is for messages. */
export function parseStatus(text: string, path: string): ProcStatus {
  const fields = new Map<string, string>();
  for (const line of text.split("\n")) {
    const colon = line.indexOf(":\t");
    if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 2).trim());
  }
  if (!fields.has("SigCgt") || !fields.has("Uid")) throw procTextError(path, "it is cut off");
  const text1 = (name: string) => fields.get(name) ?? "";
  const int = (name: string) => Number.parseInt(text1(name) || "0", 10);
  const hex = (name: string) => BigInt(`0x${text1(name) || "0"}`);
  const list = (name: string) => text1(name).split(/\s+/).filter((s) => s !== "").map(Number);
  const ids = (name: string): IdSet => {
    const [real = 0, effective = 0, saved = 0, fileSystem = 0] = list(name);
    return [real, effective, saved, fileSystem];
  };
  return {
    name: text1("Name"),
    state: text1("State").charAt(0),
    tgid: int("Tgid"),
    ppid: int("PPid"),
    tracerPid: int("TracerPid"),
    umask: Number.parseInt(text1("Umask") || "0", 8),
    uids: ids("Uid"),
    gids: ids("Gid"),
    groups: list("Groups"),
    nsTgid: list("NStgid"),
    nsPid: list("NSpid"),
    nsPgid: list("NSpgid"),
    nsSid: list("NSsid"),
    threads: int("Threads"),
    capInh: hex("CapInh"),
    capPrm: hex("CapPrm"),
    capEff: hex("CapEff"),
    capBnd: hex("CapBnd"),
    capAmb: hex("CapAmb"),
    noNewPrivs: int("NoNewPrivs") === 1,
    seccomp: int("Seccomp"),
    sigPnd: hex("SigPnd"),
    shdPnd: hex("ShdPnd"),
    sigBlk: hex("SigBlk"),
    sigIgn: hex("SigIgn"),
    sigCgt: hex("SigCgt"),
  };
}
