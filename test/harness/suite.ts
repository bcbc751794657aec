/** Declares the cases of one kind under node:test: one test for each case and mode. */
import { after, before, describe, test } from "node:test";

import { compileWorkload } from "./compile.js";
import { LanePool, type LaneOptions } from "./lane.js";
import { allModes, type Case, CaseRun, type Mode, type Tools } from "./run-case.js";
import { findTool, floeExecutable, type MissingTool, type Tool, type ToolName, toolUnderTest } from "./tool.js";

export interface SuiteOptions {
  readonly dump?: ToolName;
  readonly restore?: ToolName;
  readonly modes?: readonly Mode[];
  readonly lane?: LaneOptions;
  /** The trees have a pid namespace of their own, and the tools stay outside of it. */
  readonly ownPids?: boolean;
  /** With an IPC namespace. */
  readonly ownIpc?: boolean;
}

/** Cases that run at once in one test file; most of a case is waiting. */
const lanes = Number(process.env["FLOE_TEST_LANES"] ?? "2");

function whyNot(tools: readonly (Tool | MissingTool)[]): string | undefined {
  if (process.getuid?.() !== 0) return "needs root";
  for (const tool of tools) if ("missing" in tool) return tool.missing;
  return undefined;
}

/** FLOE_TEST_ALONE=1: the workloads are run without being frozen as well, to see whether one is at fault itself. */
const provesWorkloads = process.env["FLOE_TEST_ALONE"] === "1";

function modesOf(one: Case, options: SuiteOptions): readonly Mode[] {
  const possible = (one.modes ?? allModes).filter((mode) => mode !== "alone" || provesWorkloads);
  const asked = options.modes?.filter((mode) => mode === "chained" || mode === "snapshot") ?? [];
  if (asked.length > 0) return possible.some(restores) ? asked : [];
  if (options.modes !== undefined) return possible.filter((mode) => options.modes?.includes(mode));
  // What has come back twice has come back once: that is left to Node, where a case is Node's.
  const isImplied = possible.includes("twice") && !isForNode(one);
  return possible.filter((mode) => !(mode === "killed-restored" && isImplied));
}

const restores = (mode: Mode): boolean => mode === "killed-restored" || mode === "twice" || mode === "chained" || mode === "snapshot";

function skipReason(one: Case, tools: Tools, mode: Mode): string | false {
  if (one.machineCannot !== undefined) return one.machineCannot;
  if (mode === "alone") return false;
  const names = [tools.dump.name, tools.restore.name];
  if (one.peerCannot !== undefined && names.includes("criu")) return `the peer: ${one.peerCannot}`;
  if (one.peerCannotDump !== undefined && tools.dump.name === "criu") return `the peer: ${one.peerCannotDump}`;
  if (one.peerCannotRestore !== undefined && tools.restore.name === "criu" && restores(mode)) return `the peer: ${one.peerCannotRestore}`;
  if (one.floeCannot !== undefined && names.includes("floe")) return one.floeCannot;
  return false;
}

/** Floe comes in two forms, and both have to work: the executable starts faster, so only every eighth case is Node's. */
function isForNode(one: Case): boolean {
  const name = [one.workload, ...(one.args ?? [])].join(" ");
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.charCodeAt(0)) % 65_521;
  return sum % 8 === 0;
}

/** The modes of many commands are the executable's always. */
const BY_EXECUTABLE: readonly Mode[] = ["in-place", "twice", "chained"];

function toolsFor(one: Case, mode: Mode, tools: Tools, { ownPids = false }: SuiteOptions): Tools {
  const executable = ownPids || BY_EXECUTABLE.includes(mode) || !isForNode(one) ? floeExecutable() : undefined;
  if (executable === undefined) return tools;
  const inIts = (tool: Tool) => (tool.name === "floe" ? executable : tool);
  return { dump: inIts(tools.dump), restore: inIts(tools.restore) };
}

export function suite(kind: string, cases: readonly Case[], options: SuiteOptions = {}): void {
  const dump = findTool(options.dump ?? toolUnderTest());
  const restore = findTool(options.restore ?? options.dump ?? toolUnderTest());
  const reason = whyNot([dump, restore]);
  if (reason !== undefined || "missing" in dump || "missing" in restore) {
    test(kind, { skip: reason ?? "no tool" }, () => undefined);
    return;
  }
  const tools: Tools = { dump, restore };
  const names = dump.name === restore.name ? dump.name : `${dump.name} to ${restore.name}`;
  const title = `${kind} [${names}${options.ownPids === true ? ", own pid namespace" : ""}]`;
  describe(title, { concurrency: lanes }, () => {
    const pool = new LanePool(lanes, options.lane);
    before(async () => {
      // A program that does not compile fails in its own tests.
      await Promise.allSettled(cases.map((one) => compileWorkload(one.workload)));
    });
    after(() => pool.close());
    for (const one of cases) {
      for (const mode of modesOf(one, options)) {
        const name = `${one.rows.join(", ")}: ${one.claim} (${[one.workload, ...(one.args ?? [])].join(" ")}), ${mode}`;
        const used = toolsFor(one, mode, tools, options);
        test(name, { skip: skipReason(one, tools, mode) }, () =>
          pool.use((lane) =>
            new CaseRun(lane, one, { ...used, ownPids: options.ownPids === true, ownIpc: options.ownIpc === true }).run(mode),
          ),
        );
      }
    }
  });
}
