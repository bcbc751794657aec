/** One measurement: a workload is started, dumped, restored, and says whether it is whole. */
import { execFileSync } from "node:child_process";
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";

import { projectRoot } from "../../test/harness/compile.js";
import { describeExit, type Exit, type Lane, withTimeout } from "../../test/harness/lane.js";
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
async function longestGap(lane: Lane, pid: number, output: string, answers = 1): Promise<number> {
  lane.kill(pid, "USR1");
  let gap: string | undefined;
  await until(() => {
    gap = [...readFileSync(output, "utf8").matchAll(/^gap ([\d.]+) ms$/gm)][answers - 1]?.[1];
    return gap !== undefined;
  }, "Answer of the workload");
  return Number(gap);
}

/**
 * A virtual machine gives memory that is free for some seconds back to its host, and gets it again page by page, five times
 * as slowly as it is written: whoever has it first would be measured, not the tools.
 */
function warmMemory({ workload: [kind, amount] }: Scenario): void {
  if (kind !== "memory" && kind !== "writer" && kind !== "increment") return;
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
  if (scenario.every === true) return secondOfEvery({ lane, tool, pid, death, output, folder });
  if (scenario.increment === true) return secondDump({ lane, tool, pid, death, output, folder }, place);
  const going = place("going");
  const own = [...(scenario.options ?? []), ...(tool.name === "criu" ? [] : (scenario.own ?? []))];
  const leave = [...tool.command, "dump", "-t", String(pid), ...going.common, "-R", ...own];
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
  const dumpMs = await timed(lane, { argv: [...tool.command, "dump", "-t", String(pid), ...common, ...own], cwd: folder, log });
  await withTimeout(death, limitMs, "Death of what was dumped");
  // A restore needs the same pids again: not before the last of the dead was reaped.
  const others = scenario.isOnNetwork === true ? 1 : 0;
  await until(
    async () => (await lane.inspect()).filter((line) => line.startsWith("process")).length === others,
    "Death of the dumped tree",
  );
  const end = lane.nextExit(pid);
  const words = [...tool.command, "restore", "-d", ...common, ...(scenario.options ?? [])];
  const restoreMs = await timed(lane, { argv: words, cwd: folder, log });
  await ends(lane, pid, end);
  const lazy = scenario.lazy === true ? { lazyMs: await lazyRestore({ lane, tool, folder }, { pid, images, log }) } : {};
  return { frozenMs, dumpMs, restoreMs, ...lazy, imageMib: imageBytes(images) / 2 ** 20 };
}

async function ends(lane: Lane, pid: number, end: Promise<Exit>): Promise<void> {
  lane.kill(pid, "TERM");
  const exit = await withTimeout(end, limitMs, "End of the workload");
  if (exit.code !== 0) throw new Error(`the workload ${describeExit(exit)}: its state is not what it was`);
}

type Place = (name: string) => { images: string; log: string; common: readonly string[] };

/** A workload that runs, and the tool that is to dump it. */
interface Running {
  readonly lane: Lane;
  readonly tool: BenchTool;
  readonly pid: number;
  readonly death: Promise<Exit>;
  readonly output: string;
  readonly folder: string;
}

/** Seconds from one dump to the next one: enough for the workload to write in. */
const EVERY_S = 4;

/** Dumps once, has a part of the memory written, and measures a second dump, which is the difference to the first. */
async function secondDump(at: Running, place: Place): Promise<Figures> {
  const { lane, tool, pid, output, folder } = at;
  const dump = async (name: string, more: readonly string[]): Promise<{ ms: number; images: string }> => {
    const { images, log, common } = place(name);
    const argv = [...tool.command, "dump", "-t", String(pid), ...common, "-R", "--track-mem", ...more];
    return { ms: await timed(lane, { argv, cwd: folder, log }), images };
  };
  await dump("first", []);
  await longestGap(lane, pid, output);
  lane.kill(pid, "USR2");
  await until(() => readFileSync(output, "utf8").includes("written"), "Writing");
  const second = await dump("second", ["--prev-images-dir", "../first"]);
  const frozenMs = await longestGap(lane, pid, output, 2);
  await ends(lane, pid, at.death);
  return { frozenMs, dumpMs: second.ms, imageMib: imageBytes(second.images) / 2 ** 20 };
}

/** The second dump of a command that makes one after the other. */
async function secondOfEvery(at: Running): Promise<Figures> {
  const { lane, tool, pid, output, folder } = at;
  if (tool.own === undefined) throw new Error("it cannot dump again and again");
  const images = join(folder, "all");
  const argv = [...tool.own, "dump", String(pid), "-o", images, "--every", String(EVERY_S), "--rounds", "2"];
  const command = await lane.spawn({ argv, cwd: folder, output: join(folder, "tool.out"), session: true });
  const end = lane.nextExit(command);
  await until(() => existsSync(join(images, "1", "inventory.img")), "First dump");
  // Its tracking has begun when the process runs again; the next dump is seconds away.
  await longestGap(lane, pid, output);
  lane.kill(pid, "USR2");
  await until(() => readFileSync(output, "utf8").includes("written"), "Writing");
  const exit = await withTimeout(end, limitMs, "End of the second dump");
  if (exit.code !== 0) throw new Error(`${argv.join(" ")} ${describeExit(exit)}`);
  const frozenMs = await longestGap(lane, pid, output, 2);
  await ends(lane, pid, at.death);
  return { frozenMs, imageMib: imageBytes(join(images, "2")) / 2 ** 20 };
}

/** Time until a restore that brings the memory afterwards has brought the program back. */
async function lazyRestore(
  { lane, tool, folder }: { lane: Lane; tool: BenchTool; folder: string },
  { pid, images, log }: { pid: number; images: string; log: string },
): Promise<number> {
  await until(async () => !(await lane.inspect()).some((line) => line.startsWith("process")), "Death of the restored tree");
  const end = lane.nextExit(pid);
  let argv: readonly string[];
  if (tool.own !== undefined) argv = [...tool.own, "restore", "--lazy", "--detach", images];
  else {
    const daemon = [...tool.command, "lazy-pages", "-D", images, "-o", `${log}.lazy`];
    await lane.spawn({ argv: daemon, cwd: folder, output: join(folder, "lazy.out"), session: true });
    await until(() => existsSync(join(images, "lazy-pages.socket")), "Start of the daemon");
    argv = [...tool.command, "restore", "-d", "--lazy-pages", "-D", images, "-o", log];
  }
  const ms = await timed(lane, { argv, cwd: folder, log });
  await ends(lane, pid, end);
  return ms;
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
