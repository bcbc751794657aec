/** Declares the cases of one kind under node:test: one test for each case and mode. */
import { after, before, describe, test } from "node:test";

import { compileWorkload } from "./compile.js";
import { LanePool, type LaneOptions } from "./lane.js";
import { allModes, type Case, CaseRun, type Mode, type Tools } from "./run-case.js";
import { findTool, type MissingTool, type Tool, type ToolName, toolUnderTest } from "./tool.js";

export interface SuiteOptions {
  readonly dump?: ToolName;
  readonly restore?: ToolName;
  readonly modes?: readonly Mode[];
  readonly lane?: LaneOptions;
}

/** Cases that run at once in one test file; most of a case is waiting. */
const lanes = Number(process.env["FLOE_TEST_LANES"] ?? "2");

function whyNot(tools: readonly (Tool | MissingTool)[]): string | undefined {
  if (process.getuid?.() !== 0) return "needs root";
  for (const tool of tools) if ("missing" in tool) return tool.missing;
  return undefined;
}

function modesOf(one: Case, options: SuiteOptions): readonly Mode[] {
  const possible: readonly Mode[] = one.modes ?? allModes;
  if (options.modes?.includes("chained") === true && possible.some(restores)) return ["chained"];
  return possible.filter((mode) => options.modes?.includes(mode) ?? true);
}

const restores = (mode: Mode): boolean => mode === "killed-restored" || mode === "twice" || mode === "chained";

function skipReason(one: Case, tools: Tools, mode: Mode): string | false {
  if (one.machineCannot !== undefined) return one.machineCannot;
  if (mode === "alone") return false;
  const names = [tools.dump.name, tools.restore.name];
  if (one.peerCannot !== undefined && names.includes("criu")) return `the peer: ${one.peerCannot}`;
  if (one.peerCannotRestore !== undefined && tools.restore.name === "criu" && restores(mode)) return `the peer: ${one.peerCannotRestore}`;
  if (one.floeCannot !== undefined && names.includes("floe")) return one.floeCannot;
  return false;
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
  const title = dump.name === restore.name ? `${kind} [${dump.name}]` : `${kind} [${dump.name} to ${restore.name}]`;
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
        test(name, { skip: skipReason(one, tools, mode) }, () => pool.use((lane) => new CaseRun(lane, one, tools).run(mode)));
      }
    }
  });
}
