/** The programs that are compared. All take CRIU's command line. */
import { existsSync } from "node:fs";
import { join } from "node:path";

import { projectRoot } from "../../test/harness/compile.js";
import { findTool } from "../../test/harness/tool.js";

export interface BenchTool {
  readonly name: string;
  readonly command: readonly string[];
  /** Floe's own command line. */
  readonly own?: readonly string[];
}

function both(own: readonly string[]): Pick<BenchTool, "command" | "own"> {
  return { command: [...own, "criu"], own };
}

export function benchTools(): BenchTool[] {
  const executable = join(projectRoot, "dist", "floe");
  const tools: BenchTool[] = [{ name: "floe (node)", ...both([process.execPath, join(projectRoot, "dist", "floe.js")]) }];
  if (existsSync(executable)) tools.push({ name: "floe (exe)", ...both([executable]) });
  const peer = findTool("criu");
  if ("missing" in peer) process.stdout.write(`No ratios: ${peer.missing}\n`);
  else tools.push({ name: "criu", command: peer.command });
  return tools;
}
