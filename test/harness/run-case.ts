/** One workload, taken through one of the ways a process can be frozen and thawed. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { compileWorkload } from "./compile.js";
import { describeExit, type Exit, type Lane, withTimeout } from "./lane.js";
import { burialMs, casePatienceMs, patienceMs, pause } from "./patience.js";
import { dumpCommand, restoreCommand, type Tool } from "./tool.js";

/**
 * alone            never frozen: proves the workload; only with FLOE_TEST_ALONE=1
 * left-running     dumped with --leave-running; the images are there
 * in-place         the same twice in a row, so that what a dump leaves behind would show
 * killed-restored  dumped, dead, restored
 * twice            restored, dumped again, restored again
 * chained          two pre-dumps, a snapshot and a dump, each the difference to the one before; restored from the last;
 *                  only where a suite asks for it
 * snapshot         dumped from copy-on-write copies and left running, killed, restored; only where a suite asks for it
 */
export type Mode = "alone" | "left-running" | "in-place" | "killed-restored" | "twice" | "chained" | "snapshot";
/** What holds after two dumps in a row held after the first: left-running is for cases that cannot be dumped so often. */
export const allModes: readonly Mode[] = ["alone", "in-place", "killed-restored", "twice"];

export interface Case {
  /** The program, for instance `signals/altstack`. */
  readonly workload: string;
  /** Rows of the capability catalogue that it covers. */
  readonly rows: readonly string[];
  /** What must be true: the title of the test. */
  readonly claim: string;
  readonly args?: readonly string[];
  /** Options for dump and restore. */
  readonly options?: readonly string[];
  readonly modes?: readonly Mode[];
  /** Why the peer cannot do it: then it is not tried with the peer. */
  readonly peerCannot?: string;
  /** Why the peer cannot dump it, although it can restore it. */
  readonly peerCannotDump?: string;
  /** Why the peer cannot restore it, although it can dump it. */
  readonly peerCannotRestore?: string;
  /** Why Floe does not do it yet: then it is tried with the peer only. */
  readonly floeCannot?: string;
  /** What the machine lacks for it: then it is not tried at all. */
  readonly machineCannot?: string | undefined;
  /** Lines of the snapshot (by prefix) that the peer does not carry. */
  readonly peerLoses?: readonly string[];
  /** Time for the whole case. */
  readonly timeoutMs?: number;
}

/** One shape of each workload, for what does not differ by the shape. */
export function oneOfEach(cases: readonly Case[]): readonly Case[] {
  const seen = new Set<string>();
  return cases.filter(({ workload }) => !seen.has(workload) && seen.add(workload));
}

/** The peer puts what it restores into a time namespace of its own. */
const peerAlwaysLoses = ["link ns/time"];

export interface Tools {
  readonly dump: Tool;
  readonly restore: Tool;
  /** The workload runs below an init in a pid namespace of its own, the tools outside of it. */
  readonly ownPids?: boolean;
  /** That pid namespace comes with an IPC namespace. */
  readonly ownIpc?: boolean;
}

const tail = (path: string, lines: number): string =>
  existsSync(path) ? readFileSync(path, "utf8").split("\n").slice(-lines).join("\n") : "(no such file)";

/** The lines of a tool's log that say what went wrong. */
function essence(path: string): string {
  if (!existsSync(path)) return "(no log)";
  const lines = readFileSync(path, "utf8").split("\n");
  const errors = lines.filter((line) => /error|cannot|fail/i.test(line));
  return [...errors.slice(-12), "...", ...lines.slice(-8)].join("\n");
}

export class CaseRun {
  readonly folder: string;
  readonly #lane: Lane;
  readonly #case: Case;
  readonly #tools: Tools;
  readonly #logs: string[] = [];
  #pid = 0;
  #exit: Promise<Exit> | undefined;
  #filesAtReady: string[] = [];
  #wasRestored = false;

  constructor(lane: Lane, one: Case, tools: Tools) {
    this.#lane = lane;
    this.#case = one;
    this.#tools = tools;
    // Workloads that give up their privileges must still reach their files.
    this.folder = mkdtempSync(join(tmpdir(), "floe-case-"));
    // Workloads that give up their rights look for files here.
    chmodSync(this.folder, 0o755);
    mkdirSync(join(this.folder, "work"), { mode: 0o777 });
  }

  get pid(): number {
    return this.#pid;
  }

  async run(mode: Mode): Promise<void> {
    const limit = this.#case.timeoutMs ?? casePatienceMs;
    try {
      await withTimeout(this.#steps(mode), limit, "The whole case");
      rmSync(this.folder, { recursive: true, force: true });
    } catch (error) {
      const cause = error instanceof Error ? error : new Error(String(error));
      throw new Error(`${cause.message}\n${this.#evidence()}`, { cause });
    }
  }

  async #steps(mode: Mode): Promise<void> {
    await this.start();
    if (mode === "left-running") await this.dump("images", true);
    if (mode === "in-place") for (const round of [1, 2]) await this.dump(`images-${round}`, true);
    if (mode === "killed-restored" || mode === "twice") await this.throughDeath("images");
    if (mode === "twice") await this.throughDeath("images-again");
    if (mode === "snapshot") {
      await this.dump("images", true, ["--snapshot", "always"]);
      await this.#lane.sweep();
      await withTimeout(this.#exited(), patienceMs, "The death of the root task");
      await this.#untilEmpty((line) => line.startsWith("process"));
      await this.restore("images");
    }
    if (mode === "chained") {
      await this.#preDump("pre-1");
      await this.#preDump("pre-2", ["--prev-images-dir", "../pre-1"]);
      await this.dump("snapshot", true, ["--track-mem", "--prev-images-dir", "../pre-2"]);
      await this.throughDeath("images", ["--prev-images-dir", "../snapshot"]);
    }
    await this.finish();
  }

  async #preDump(images: string, options: readonly string[] = []): Promise<void> {
    const folder = join(this.folder, images);
    mkdirSync(folder);
    const log = join(folder, "pre-dump.log");
    const words = ["pre-dump", "-t", String(this.#pid), "-D", folder, "-o", log, "-v4", "--track-mem", ...options];
    await this.#tool([...this.#tools.dump.command, ...words], log, "Pre-dump");
  }

  async start(): Promise<void> {
    const program = await compileWorkload(this.#case.workload);
    const argv = [program, join(this.folder, "go"), ...(this.#case.args ?? [])];
    this.#pid = await this.#lane.spawn({
      argv,
      cwd: join(this.folder, "work"),
      output: join(this.folder, "out"),
      session: true,
      init: this.#tools.ownPids === true,
      ipc: this.#tools.ownIpc === true,
    });
    this.#exit = this.#lane.nextExit(this.#pid);
    await this.#untilReady();
    this.#filesAtReady = readdirSync(join(this.folder, "work")).sort();
  }

  async throughDeath(images: string, options: readonly string[] = []): Promise<void> {
    await this.dump(images, false, options);
    const exit = await withTimeout(this.#exited(), patienceMs, "The death of the dumped root task");
    if (exit.signal !== 9) throw new Error(`The dumped root task ${describeExit(exit)}, not by SIGKILL`);
    await this.#untilEmpty((line) => line.startsWith("process"));
    await this.restore(images);
  }

  async dump(images: string, leaveRunning: boolean, more: readonly string[] = []): Promise<void> {
    const folder = join(this.folder, images);
    mkdirSync(folder);
    const options = [...(this.#case.options ?? []), ...more];
    const request = { pid: this.#pid, images: folder, logFile: join(folder, "dump.log"), leaveRunning, options };
    await this.#tool(dumpCommand(this.#tools.dump, request), request.logFile, "Dump");
    for (const image of ["inventory.img", "pstree.img", `core-${this.#tools.ownPids === true ? 1 : this.#pid}.img`]) {
      if (!existsSync(join(folder, image))) throw new Error(`The dump made no ${image}`);
    }
  }

  async restore(images: string): Promise<void> {
    const folder = join(this.folder, images);
    const pidfile = join(folder, "root.pid");
    const options = [...(this.#case.options ?? []), ...(this.#tools.ownPids === true ? ["--pidfile", pidfile] : [])];
    if (this.#tools.ownPids === true) this.#lane.forgetExits();
    else this.#exit = this.#lane.nextExit(this.#pid);
    const request = { images: folder, logFile: join(folder, "restore.log"), options };
    await this.#tool(restoreCommand(this.#tools.restore, request), request.logFile, "Restore");
    if (this.#tools.ownPids === true) {
      this.#pid = Number(readFileSync(pidfile, "utf8"));
      this.#exit = this.#lane.nextExit(this.#pid);
    }
    this.#wasRestored = true;
  }

  /** Says go, waits for the verdict, looks for leftovers. */
  async finish(): Promise<void> {
    const usesPeer = this.#tools.dump.name === "criu" || this.#tools.restore.name === "criu";
    const go = join(this.folder, "go");
    const lost = usesPeer ? [...peerAlwaysLoses, ...(this.#case.peerLoses ?? [])] : [];
    // The peer's dump interrupts relative sleeps even when the task only runs on.
    const hasPeer = this.#tools.dump.name === "criu" || (this.#wasRestored && this.#tools.restore.name === "criu");
    const interrupted = this.#logs.length > 0 && hasPeer ? ["interrupted"] : [];
    const lines = [...(this.#wasRestored ? ["restored"] : []), ...interrupted, ...lost];
    writeFileSync(`${go}.new`, `${lines.join("\n")}\n`);
    renameSync(`${go}.new`, go);
    const exit = await this.#exited();
    const report = readFileSync(join(this.folder, "out"), "utf8").trimEnd().split("\n");
    if (exit.code !== 0) throw new Error(`The workload ${describeExit(exit)}`);
    if (report.at(-1) !== "PASS") throw new Error("The workload did not say PASS");
    if (report.filter((line) => line === "ready").length !== 1) throw new Error("The workload said ready more than once");
    await this.#untilEmpty();
    const files = readdirSync(join(this.folder, "work"))
      .sort()
      .filter((name) => !this.#filesAtReady.includes(name));
    if (files.length > 0) throw new Error(`New files were left: ${files.join(", ")}`);
  }

  async #tool(argv: readonly string[], log: string, what: string): Promise<void> {
    this.#logs.push(log);
    const output = `${log}.output`;
    this.#logs.push(output);
    const exit = await this.#lane.run({ argv, cwd: this.folder, output }, patienceMs);
    if (exit.code !== 0) throw new Error(`${what} ${describeExit(exit)}: ${argv.join(" ")}`);
  }

  #exited(): Promise<Exit> {
    if (this.#exit === undefined) throw new Error("The workload was not started");
    return this.#exit;
  }

  async #untilReady(): Promise<void> {
    let ended: Exit | undefined;
    void this.#exited().then((exit) => {
      ended = exit;
    });
    for (const until = Date.now() + patienceMs; Date.now() < until; await pause(3)) {
      if (/^ready$/m.test(tail(join(this.folder, "out"), 1000))) return;
      if (ended !== undefined) throw new Error(`The workload ${describeExit(ended)} before it was ready`);
    }
    throw new Error("The workload did not get ready");
  }

  /** The kernel may need a moment to take the last process away. */
  async #untilEmpty(matters: (line: string) => boolean = () => true): Promise<void> {
    let left: string[] = [];
    for (const until = Date.now() + burialMs; Date.now() < until; await pause(5)) {
      left = (await this.#lane.inspect()).filter(matters);
      if (left.length === 0) return;
    }
    throw new Error(`Left behind: ${left.join("; ")}`);
  }

  #evidence(): string {
    const parts = [`-- report (${this.folder})`, tail(join(this.folder, "out"), 30)];
    for (const log of this.#logs) parts.push(`-- ${log}`, essence(log));
    return parts.join("\n");
  }
}
