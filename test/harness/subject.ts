/**
 * A workload in a lane of its own that tests do things to which a case (run-case.ts) does not: tools that fail, are killed,
 * or get bad images.
 */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { compileWorkload } from "./compile.js";
import { describeExit, type Exit, Lane, withTimeout, type LaneOptions } from "./lane.js";
import { burialMs, patienceMs, pause } from "./patience.js";
import { findTool, floeOfFile } from "./tool.js";

export interface Outcome {
  readonly exit: Exit;
  /** Standard output and error. */
  readonly text: string;
}

export interface ToolOptions {
  /** What FLOE_FAULT is set to. */
  readonly fault?: string;
  readonly timeoutMs?: number;
}

export const isRoot = process.getuid?.() === 0;

export class Subject {
  readonly folder = mkdtempSync(join(tmpdir(), "floe-subject-"));
  readonly lane: Lane;
  /** Whether commands are Floe on Node in any case, and not in the form that the test file is for. */
  isOnNode = false;
  #pid = 0;
  #commands = 0;
  #wasRestored = false;

  private constructor(lane: Lane) {
    this.lane = lane;
    for (const name of ["work", "images", "logs"]) mkdirSync(join(this.folder, name));
  }

  /** A lane and folders, and nothing in them. */
  static async open(options: LaneOptions = {}): Promise<Subject> {
    return new Subject(await Lane.open(options));
  }

  /** With a workload that is ready. */
  static async withWorkload(name: string, args: readonly string[] = [], lane: LaneOptions = {}): Promise<Subject> {
    const program = await compileWorkload(name);
    const subject = await Subject.open(lane);
    try {
      const argv = [program, join(subject.folder, "go"), ...args];
      await subject.start(argv, () => /^ready$/m.test(subject.report()));
      return subject;
    } catch (error) {
      await subject.close();
      throw error;
    }
  }

  get pid(): number {
    return this.#pid;
  }

  get images(): string {
    return join(this.folder, "images");
  }

  /** What the workload has said. */
  report(): string {
    try {
      return readFileSync(join(this.folder, "out"), "utf8");
    } catch {
      return "";
    }
  }

  async start(argv: readonly string[], isReady: () => boolean): Promise<void> {
    this.#pid = await this.lane.spawn({ argv, cwd: join(this.folder, "work"), output: join(this.folder, "out"), session: true });
    await this.until(isReady, `${argv[0]} is not ready`);
  }

  async until(isSo: () => boolean, otherwise: string, timeoutMs = patienceMs): Promise<void> {
    for (const end = Date.now() + timeoutMs; !isSo(); await pause(5)) assert.ok(Date.now() < end, `${otherwise}: ${this.report()}`);
  }

  /** The command line of `floe criu` with these words; its log goes to a file that is not among the images. */
  commandLine(words: readonly string[], options: ToolOptions = {}): string[] {
    const tool = this.isOnNode ? findTool("floe") : floeOfFile();
    if ("missing" in tool) throw new Error(tool.missing);
    const fault = options.fault === undefined ? [] : ["env", `FLOE_FAULT=${options.fault}`];
    const log = join(this.folder, "logs", `${++this.#commands}.log`);
    return [...fault, ...tool.command, ...words, "-D", this.images, "-W", join(this.folder, "logs"), "-o", log, "-v4"];
  }

  /** Runs a command in the lane and tells how it ended and what it said. */
  async run(argv: readonly string[], timeoutMs = patienceMs): Promise<Outcome> {
    const output = join(this.folder, "logs", `${++this.#commands}.output`);
    const exit = await this.lane.run({ argv, cwd: this.folder, output }, timeoutMs);
    return { exit, text: readFileSync(output, "utf8") };
  }

  /** The same for one that must succeed. */
  async must(argv: readonly string[], timeoutMs?: number): Promise<string> {
    const { exit, text } = await this.run(argv, timeoutMs);
    assert.equal(exit.code, 0, `${argv.join(" ")} ${describeExit(exit)}\n${text}\n${this.report()}${lastOfLog(argv)}`);
    return text;
  }

  /** Command lines that dump and restore the workload. */
  dumpLine(more: readonly string[] = [], options: ToolOptions = {}): string[] {
    return this.commandLine(["dump", "-t", String(this.#pid), ...more], options);
  }

  restoreLine(more: readonly string[] = [], options: ToolOptions = {}): string[] {
    return this.commandLine(["restore", "-d", ...more], options);
  }

  /** What the logs of all commands say. */
  logs(): string {
    const folder = join(this.folder, "logs");
    const names = readdirSync(folder).filter((name) => name.endsWith(".log"));
    return names.map((name) => readFileSync(join(folder, name), "utf8")).join("\n");
  }

  /** Kills the workload, which a dump has left running. */
  async kill(): Promise<void> {
    const end = this.lane.nextExit(this.#pid);
    this.lane.kill(this.#pid, "KILL");
    await withTimeout(end, patienceMs, "The end of the killed process");
    await this.untilAlone([]);
  }

  /** Kills the workload, which a dump has left running, and brings it back from the images of that. */
  async bringBack(): Promise<void> {
    await this.kill();
    await this.restore();
    await this.judge();
  }

  /** Dumps the workload, which dies. */
  async dump(more: readonly string[] = []): Promise<void> {
    const end = this.lane.nextExit(this.#pid);
    await this.must(this.dumpLine(more));
    assert.equal((await withTimeout(end, patienceMs, "The end of the dumped process")).signal, 9);
    await this.untilAlone([]);
  }

  async restore(more: readonly string[] = []): Promise<void> {
    // Ends of processes with the same pid that earlier restores had made.
    while (this.lane.hasExited(this.#pid)) await this.lane.nextExit(this.#pid);
    await this.must(this.restoreLine(more));
    this.#wasRestored = true;
  }

  /** It was restored by a command that is not {@link restore}. */
  wasRestoredByOther(): void {
    this.#wasRestored = true;
  }

  /** The workload comes to its end and must say PASS. `lost`: what it is not to miss, of a restore by another tool. */
  async judge(lost: readonly string[] = []): Promise<void> {
    const end = this.lane.nextExit(this.#pid);
    const go = join(this.folder, "go");
    const isRestored = this.#wasRestored || lost.length > 0;
    const byPeer = lost.length > 0 ? ["interrupted"] : [];
    writeFileSync(`${go}.new`, isRestored ? `${["restored", ...byPeer, ...lost].join("\n")}\n` : "\n");
    renameSync(`${go}.new`, go);
    const last = await withTimeout(end, patienceMs, `The verdict of the process (${this.report()})`).catch((error: Error) => {
      throw new Error(`${error.message}\n${this.lane.whereabouts(this.#pid)}`, { cause: error });
    });
    assert.ok(last.code === 0 && this.report().endsWith("PASS\n"), `It ${describeExit(last)}:\n${this.report()}`);
    await this.untilAlone([]);
  }

  /** Nothing but these processes may be left in the lane: also none that a tool had started and did not end. */
  async untilAlone(pids: readonly number[], timeoutMs = burialMs): Promise<void> {
    let left: string[] = [];
    for (const until = Date.now() + timeoutMs; Date.now() < until; await pause(20)) {
      left = (await this.lane.inspect()).filter((line) => !pids.some((pid) => line.startsWith(`process: ${pid} `)));
      if (left.length === 0) return;
    }
    assert.fail(`Left behind: ${left.join("; ")}`);
  }

  async close(): Promise<void> {
    await this.lane.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** The last lines of the log that a command line asks for: what came before a failure. */
function lastOfLog(argv: readonly string[]): string {
  const at = argv.indexOf("-o");
  try {
    return at < 0
      ? ""
      : `\nthe log:\n${readFileSync(argv[at + 1] ?? "", "utf8")
          .split("\n")
          .slice(-12)
          .join("\n")}`;
  } catch {
    return "";
  }
}

/** Does something with a workload and cleans up. */
export async function withSubject(make: Promise<Subject>, work: (subject: Subject) => Promise<void>): Promise<void> {
  const subject = await make;
  try {
    await work(subject);
  } finally {
    await subject.close();
  }
}
