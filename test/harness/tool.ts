/** The two tools under test, Floe and the peer (CRIU), which take the same command lines. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmdirSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { basename, join } from "node:path";

import { projectRoot } from "./compile.js";

export type ToolName = "floe" | "criu";

export interface Tool {
  readonly name: ToolName;
  /** The beginning of every command line. */
  readonly command: readonly string[];
}

/** A tool that is not there, with what to do about it: tests skip with this text. */
export interface MissingTool {
  readonly missing: string;
}

function newestChange(folder: string): number {
  let newest = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    newest = Math.max(newest, entry.isDirectory() ? newestChange(path) : statSync(path).mtimeMs);
  }
  return newest;
}

function isFresh(bundle: string): boolean {
  return existsSync(bundle) && statSync(bundle).mtimeMs >= newestChange(join(projectRoot, "src"));
}

/** Test files run in processes of their own: one builds, the others wait for it. */
function buildOnce(bundle: string): void {
  const lock = join(projectRoot, "build", "bundle.lock");
  mkdirSync(join(projectRoot, "build"), { recursive: true });
  for (let tries = 0; tries < 1200 && !isFresh(bundle); tries++) {
    try {
      mkdirSync(lock);
    } catch {
      // A lock older than a minute was left by a run that was killed.
      if (Date.now() - (statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? Date.now()) > 60_000) rmdirSync(lock);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
      continue;
    }
    try {
      const built = spawnSync("npm", ["run", "--silent", "build"], { cwd: projectRoot, encoding: "utf8" });
      if (built.status !== 0) throw new Error(`npm run build failed:\n${built.stdout}${built.stderr}`);
      return;
    } finally {
      rmdirSync(lock);
    }
  }
}

function findFloe(): Tool | MissingTool {
  const executable = process.env["FLOE_EXE"];
  if (executable !== undefined) return { name: "floe", command: [executable, "criu"] };
  const bundle = join(projectRoot, "dist", "floe.js");
  try {
    buildOnce(bundle);
  } catch (error) {
    if (!existsSync(bundle)) throw error;
    throw new Error("dist/floe.js is older than src and cannot be built again", { cause: error });
  }
  return { name: "floe", command: [process.execPath, bundle, "criu"] };
}

function findPeer(): Tool | MissingTool {
  const given = process.env["FLOE_PEER_CRIU"];
  const cache = join(homedir(), ".cache", "peer-criu");
  const suites = existsSync(cache) ? readdirSync(cache) : [];
  const found = [given, ...suites.map((suite) => join(cache, suite, "bin", "criu"))].find((path) => path !== undefined && existsSync(path));
  if (found === undefined) {
    return { missing: "the peer (criu 4.1 or newer) is not here: name one in FLOE_PEER_CRIU" };
  }
  return { name: "criu", command: [found] };
}

const known = new Map<ToolName, Tool | MissingTool>();

export function findTool(name: ToolName): Tool | MissingTool {
  let tool = known.get(name);
  if (tool === undefined) {
    tool = name === "floe" ? findFloe() : findPeer();
    known.set(name, tool);
  }
  return tool;
}

/** The executable, where `npm test` has built it; undefined where only some files are run. */
export function floeExecutable(): Tool | undefined {
  const path = process.env["FLOE_TEST_EXE"];
  return path === undefined || !existsSync(path) ? undefined : { name: "floe", command: [path, "criu"] };
}

/** Test files that run Floe on Node; the others take the executable, which starts in a third of the time. */
const NODE_FILES: ReadonlySet<string> = new Set(["every", "files-carry", "lazy", "refusals"]);

/** Floe in the form that the present test file is for. Both forms have to work; suite.ts has some of its cases done by Node. */
export function floeOfFile(): Tool | MissingTool {
  const file = basename(process.argv[1] ?? "").replace(/\.test\.ts$/, "");
  return (NODE_FILES.has(file) ? undefined : floeExecutable()) ?? findTool("floe");
}

/** The tool that the ordinary integration tests use: Floe, unless FLOE_TEST_TOOL=criu asks whether a workload is fair. */
export function toolUnderTest(): ToolName {
  return process.env["FLOE_TEST_TOOL"] === "criu" ? "criu" : "floe";
}

export interface DumpRequest {
  readonly pid: number;
  readonly images: string;
  readonly logFile: string;
  readonly leaveRunning: boolean;
  readonly options: readonly string[];
}

/** For a run of the suites in another mode of dumping, as in `FLOE_TEST_DUMP_OPTIONS="--pre-copy always"`. */
const moreOptions = (process.env["FLOE_TEST_DUMP_OPTIONS"] ?? "").split(" ").filter((word) => word !== "");

export function dumpCommand(tool: Tool, request: DumpRequest): string[] {
  const end = request.leaveRunning ? ["--leave-running"] : [];
  return [
    ...tool.command,
    "dump",
    "-t",
    String(request.pid),
    "-D",
    request.images,
    "-o",
    request.logFile,
    "-v4",
    ...end,
    ...request.options,
    ...(tool.name === "floe" ? moreOptions : []),
  ];
}

export interface RestoreRequest {
  readonly images: string;
  readonly logFile: string;
  readonly options: readonly string[];
}

export function restoreCommand(tool: Tool, request: RestoreRequest): string[] {
  return [...tool.command, "restore", "-d", "-D", request.images, "-o", request.logFile, "-v4", ...request.options];
}
