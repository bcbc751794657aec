/** One measurement: a workload is started, dumped, restored, and says whether it is whole. */
import { execFileSync } from "node:child_process";
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";

import { projectRoot } from "../../test/harness/compile.js";
import { describeExit, type Lane, withTimeout } from "../../test/harness/lane.js";
import type { Scenario } from "./scenarios.js";
import type { BenchTool } from "./tools.js";

/** What was measured, by name; names end in their unit. */
export type Figures = Readonly<Record<string, number>>;

const limitMs = 60_000;
const folderOfImages = join(projectRoot, "build", "bench", "images");

export function compileBenchWorkload(): string {
  const folder = join(projectRoot, "build", "bench");
  const program = join(folder, "workload");
  mkdirSync(folder, { recursive: true });
  const source = join(projectRoot, "tools", "bench", "workload.c");
  execFileSync("gcc", ["-O2", "-Wall", "-Wextra", "-pthread", source, "-o", program], { stdio: ["ignore", "inherit", "inherit"] });
  return program;
}

/**
 * Images go to memory, so that the disk is not what is measured. tools/bench.mjs has given us mounts of our own: this one
 * is gone with us. (Lanes have a /dev/shm of their own, which is no place to leave images in.)
 */
export function mountImagePlace(): void {
  mkdirSync(folderOfImages, { recursive: true });
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=75%", "floe-bench", folderOfImages]);
}

async function until(isSo: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const end = Date.now() + limitMs;
  while (!(await isSo())) {
    if (Date.now() > end) throw new Error(`${what}: not within ${limitMs / 1000} s`);
    await new Promise((resume) => setTimeout(resume, 2));
  }
}

async function timed(lane: Lane, request: { argv: readonly string[]; cwd: string; log: string; session?: boolean }): Promise<number> {
  const output = join(request.cwd, "tool.out");
  const started = performance.now();
  const exit = await lane.run({ argv: request.argv, cwd: request.cwd, output, session: request.session ?? false }, limitMs);
  const ms = performance.now() - started;
  if (exit.code === 0) return ms;
  const texts = [output, request.log]
    .filter(existsSync)
    .map((path) => readFileSync(path, "utf8").trimEnd().split("\n").slice(-4).join("\n"));
  throw new Error(`${request.argv.join(" ")} ${describeExit(exit)}:\n${texts.join("\n")}`);
}

function imageBytes(folder: string): number {
  const images = readdirSync(folder).filter((name) => name.endsWith(".img"));
  return images.reduce((sum, name) => sum + statSync(join(folder, name)).blocks * 512, 0);
}

/** How long the workload stood still, as it says itself; asks it. */
async function longestGap(lane: Lane, pid: number, output: string): Promise<number> {
  lane.kill(pid, "USR1");
  let gap: string | undefined;
  await until(() => {
    gap = /^gap ([\d.]+) ms$/m.exec(readFileSync(output, "utf8"))?.[1];
    return gap !== undefined;
  }, "Answer of the workload");
  return Number(gap);
}

/**
 * A virtual machine gives memory that is free for some seconds back to its host, and gets it again page by page, five times
 * as slowly as it is written: whoever has it first would be measured, not the tools.
 */
function warmMemory({ workload: [kind, amount] }: Scenario): void {
  if (kind !== "memory" && kind !== "writer") return;
  const file = join(folderOfImages, "warm");
  const bytes = Buffer.alloc(1 << 20);
  const fd = openSync(file, "w");
  for (let mib = 0; mib < Number(amount) * 1.1; mib++) writeSync(fd, bytes);
  closeSync(fd);
  rmSync(file);
}

export interface Round {
  readonly lane: Lane;
  readonly tool: BenchTool;
  readonly scenario: Scenario;
  readonly program: string;
}

async function steps({ lane, tool, scenario, program }: Round, folder: string): Promise<Figures> {
  const output = join(folder, "out");
  const pid = await lane.spawn({ argv: [program, ...scenario.workload], cwd: folder, output, session: true });
  const death = lane.nextExit(pid);
  await until(() => existsSync(output) && readFileSync(output, "utf8").includes("ready"), "Start of the workload");
  warmMemory(scenario);
  const place = (name: string) => {
    const images = join(folder, name);
    mkdirSync(images);
    const log = join(images, "tool.log");
    return { images, log, common: ["-D", images, "-o", log] };
  };
  const going = place("going");
  const leave = [...tool.command, "dump", "-t", String(pid), ...going.common, "-R"];
  const leaveMs = await timed(lane, { argv: leave, cwd: folder, log: going.log });
  const frozenMs = await longestGap(lane, pid, output);
  if (scenario.goesOn === true) {
    lane.kill(pid, "TERM");
    const exit = await withTimeout(death, limitMs, "End of the workload");
    if (exit.code !== 0) throw new Error(`the workload ${describeExit(exit)}: its state is not what it was`);
    return { frozenMs, dumpMs: leaveMs, imageMib: imageBytes(going.images) / 2 ** 20 };
  }
  rmSync(going.images, { recursive: true });
  const { images, log, common } = place("images");
  const dumpMs = await timed(lane, { argv: [...tool.command, "dump", "-t", String(pid), ...common], cwd: folder, log });
  await withTimeout(death, limitMs, "Death of what was dumped");
  // A restore needs the same pids again: not before the last of the dead was reaped.
  await until(async () => !(await lane.inspect()).some((line) => line.startsWith("process")), "Death of the dumped tree");
  const end = lane.nextExit(pid);
  const restoreMs = await timed(lane, { argv: [...tool.command, "restore", "-d", ...common], cwd: folder, log });
  lane.kill(pid, "TERM");
  const exit = await withTimeout(end, limitMs, "End of the restored workload");
  if (exit.code !== 0) throw new Error(`the restored workload ${describeExit(exit)}: its state is not what it was`);
  return { frozenMs, dumpMs, restoreMs, imageMib: imageBytes(images) / 2 ** 20 };
}

/** Runs a scenario once; nothing of it is left afterwards. */
export async function measureRound(round: Round): Promise<Figures> {
  const folder = mkdtempSync(join(folderOfImages, "round-"));
  try {
    return await steps(round, folder);
  } finally {
    await round.lane.sweep();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Time of one command that does nearly nothing. `check` may say no; it takes its time all the same. */
export async function measureStartup(lane: Lane, tool: BenchTool, words: readonly string[]): Promise<Figures> {
  const started = performance.now();
  const output = "/dev/null";
  const exit = await lane.run({ argv: [...tool.command, ...words], cwd: "/", output }, limitMs);
  const startMs = performance.now() - started;
  if (exit.signal !== undefined) throw new Error(`${tool.name} ${words.join(" ")} ${describeExit(exit)}`);
  return { startMs };
}
