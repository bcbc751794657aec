/**
 * A dump never harms: the dumper is killed with SIGKILL at random instants, at every fault point and before every single
 * call by which it touches the process; after each the process goes on, and in the end it finds nothing changed.
 */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";

import { compileWorkload } from "../harness/compile.js";
import { faultPointsOf } from "../harness/fault-points.js";
import { describeExit, Lane, withTimeout } from "../harness/lane.js";
import { dumpCommand, findTool, restoreCommand } from "../harness/tool.js";

/** Kills at random instants, over all targets; the issue at hand wants 300. */
const kills = Number(process.env["FLOE_HARM_KILLS"] ?? "300");
const limitMs = 150_000;
const isRoot = process.getuid?.() === 0;

/** A process that checks itself, and the means to strike at whoever dumps it. */
class Target {
  readonly folder = mkdtempSync(join(tmpdir(), "floe-harm-"));
  readonly #lane: Lane;
  #pid = 0;

  private constructor(lane: Lane) {
    this.#lane = lane;
    for (const name of ["work", "images", "full"]) mkdirSync(join(this.folder, name));
  }

  static async start(mib: number): Promise<Target> {
    const target = new Target(await Lane.open());
    const argv = [await compileWorkload("harm/steady"), join(target.folder, "go"), String(mib)];
    target.#pid = await target.#lane.spawn({ argv, cwd: join(target.folder, "work"), output: target.#output, session: true });
    for (const until = Date.now() + 20_000; !/^ready$/m.test(target.#report()); await new Promise((resume) => setTimeout(resume, 5))) {
      assert.ok(Date.now() < until, `The workload is not ready: ${target.#report()}`);
    }
    return target;
  }

  get #output(): string {
    return join(this.folder, "out");
  }

  #report(): string {
    try {
      return readFileSync(this.#output, "utf8");
    } catch {
      return "";
    }
  }

  #dumpArguments(images: string, leaveRunning: boolean): string[] {
    const tool = findTool("floe");
    assert.ok(!("missing" in tool));
    const folder = join(this.folder, images);
    return dumpCommand(tool, { pid: this.#pid, images: folder, logFile: join(folder, "dump.log"), leaveRunning, options: [] });
  }

  async #command(argv: readonly string[], timeoutMs: number): Promise<string> {
    const output = join(this.folder, "command");
    rmSync(output, { force: true });
    const exit = await this.#lane.run({ argv, cwd: this.folder, output }, timeoutMs);
    const text = readFileSync(output, "utf8");
    assert.equal(exit.code, 0, `${argv.join(" ")} ${describeExit(exit)}\n${text}\n${this.#report()}`);
    return text;
  }

  /** The time for which an undisturbed dump holds the process, in microseconds. */
  async frozenUs(): Promise<number> {
    await this.#command(this.#dumpArguments("images", true), 30_000);
    const log = readFileSync(join(this.folder, "images", "dump.log"), "utf8");
    const at = (pattern: RegExp) => Number(pattern.exec(log)?.[1] ?? "NaN") * 1e6;
    const frozen = at(/^\(([\d.]+)\) frozen:/m);
    const all = [...log.matchAll(/^\(([\d.]+)\)/gm)].map((found) => Number(found[1]) * 1e6);
    return Math.max(20_000, (all.at(-1) ?? 0) - frozen);
  }

  /** Has the dumper killed `count` times; what is done and when, as strike.c tells it. */
  async strike(mode: "start" | "frozen" | "step" | "never", from: number, count: number, options: { windowUs?: number; stride?: number; fault?: string } = {}): Promise<string> {
    const progress = join(this.folder, "work", "progress");
    const words = [String(this.#pid), progress, mode, String(from), String(count), String(Math.round(options.stride ?? options.windowUs ?? 0))];
    const fault = options.fault === undefined ? [] : ["env", `FLOE_FAULT=${options.fault}`];
    return this.#command([await compileWorkload("harm/strike"), ...words, ...fault, ...this.#dumpArguments("images", true)], limitMs);
  }

  /** The process lives a whole life more: dumped in place, dumped and killed, restored; then it judges. */
  async judge(): Promise<void> {
    await this.#command(this.#dumpArguments("full", true), 30_000);
    await this.#untilAlone([this.#pid]);
    const exit = this.#lane.nextExit(this.#pid);
    await this.#command(this.#dumpArguments("full", false), 30_000);
    assert.equal((await withTimeout(exit, 10_000, "The end of the dumped process")).signal, 9);
    await this.#untilAlone([]);
    const tool = findTool("floe");
    assert.ok(!("missing" in tool));
    const end = this.#lane.nextExit(this.#pid);
    const images = join(this.folder, "full");
    await this.#command(restoreCommand(tool, { images, logFile: join(images, "restore.log"), options: [] }), 30_000);
    writeFileSync(join(this.folder, "go"), "restored\n");
    const last = await withTimeout(end, 20_000, "The verdict of the process");
    assert.ok(last.code === 0 && this.#report().endsWith("PASS\n"), `It ${describeExit(last)}:\n${this.#report()}`);
    await this.#untilAlone([]);
  }

  /** Nothing but these processes may be left in the lane: also none of those that a dead dumper had started. */
  async #untilAlone(pids: readonly number[]): Promise<void> {
    let left: string[] = [];
    for (const until = Date.now() + 3000; Date.now() < until; await new Promise((resume) => setTimeout(resume, 20))) {
      left = (await this.#lane.inspect()).filter((line) => !pids.some((pid) => new RegExp(`^process: ${pid}\\b`).test(line)));
      if (left.length === 0) return;
    }
    assert.fail(`Left behind: ${left.join("; ")}`);
  }

  async close(): Promise<void> {
    await this.#lane.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

async function withTarget(mib: number, work: (target: Target) => Promise<void>): Promise<void> {
  const target = await Target.start(mib);
  try {
    await work(target);
    await target.judge();
  } finally {
    await target.close();
  }
}

const sum = (text: string) => {
  const [, held, late] = /^held (\d+), ended before (\d+)$/m.exec(text) ?? [];
  return { held: Number(held), late: Number(late) };
};

describe("never harm", { concurrency: 2, skip: isRoot ? false : "needs root" }, () => {
  // Two processes, so that two processors are busy; each takes half of the kills.
  for (const half of [1, 2]) {
    test(`${kills / 2} kills at random instants, 256 MiB (${half} of 2)`, () =>
      withTarget(256, async (target) => {
        const windowUs = await target.frozenUs();
        const some = Math.round(kills / 12);
        const shortly = await target.strike("frozen", half, some * 2, { windowUs: windowUs / 4, fault: "dump-threads" });
        await target.strike("start", half + 10, some, { windowUs: 400_000 });
        const whole = await target.strike("frozen", half + 20, kills / 2 - some * 3, { windowUs });
        const held = sum(whole).held + sum(shortly).held;
        assert.ok(held > kills / 8, `Only ${held} kills met a process that was held:\n${whole}${shortly}`);
      }));
  }

  for (const half of [1, 2]) {
    test(`a kill before every call that touches the process, on the way in and out (${half} of 2)`, (context) =>
      withTarget(16, async (target) => {
        // The fault spares the memory, so that what is left is the way in and the way out.
        const { held, late } = sum(await target.strike("step", half, 200, { stride: 2, fault: "dump-threads" }));
        context.diagnostic(`${held} steps`);
        assert.ok(held > 20, `Only ${held} steps were seen`);
        assert.equal(late, 1, "There are more steps than were tried");
      }));
  }

  test("a kill at every fault point", () =>
    withTarget(16, async (target) => {
      for (const point of faultPointsOf("dump")) await target.strike("never", 0, 3, { fault: `kill:${point}` });
    }));
});
