/** The fault points of the engine, read from its source, so that a new one is tested without being listed anywhere. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { projectRoot } from "./compile.js";

/** Points that can be named in FLOE_FAULT, in the order of the source. */
export function faultPointsOf(operation: "dump" | "restore" | "precopy" | "snapshot"): string[] {
  const folder = join(projectRoot, "src", "engine");
  const sources = readdirSync(folder).filter((name) => name.startsWith(operation) && name.endsWith(".ts"));
  const text = sources.map((name) => readFileSync(join(folder, name), "utf8")).join("\n");
  const points = [...text.matchAll(/faultPoint\("([a-z-]+)"\)/g)].map((found) => found[1] ?? "");
  if (points.length === 0) throw new Error(`No fault points of ${operation} were found in ${folder}`);
  return [...new Set(points)];
}
