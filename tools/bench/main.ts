/** Runs the benchmark; started by tools/bench.mjs, which has the options. */
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";

import { projectRoot } from "../../test/harness/compile.js";
import { Lane, type LaneOptions } from "../../test/harness/lane.js";
import { compileBenchWorkload, type Figures, measureRound, measureStartup, mountImagePlace } from "./measure.js";
import { page } from "./page.js";
import { scenarios, startups } from "./scenarios.js";
import { medians, type Row, table } from "./table.js";
import { type BenchTool, benchTools } from "./tools.js";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    only: { type: "string", multiple: true, default: [] },
    tool: { type: "string", multiple: true, default: [] },
    html: { type: "string" },
    json: { type: "string", default: join(projectRoot, "build", "bench.json") },
  },
});
const rounds = Number(values.rounds);
const matches = (name: string, words: readonly string[]) => words.length === 0 || words.some((word) => name.includes(word));
const tools = benchTools().filter((tool) => matches(tool.name, values.tool));
const say = (text: string) => process.stdout.write(`${text}\n`);

/** Each round has all tools in turn, another one first each time, so that what else the machine does hits all alike. */
async function inTurn(
  scenario: string,
  measure: (tool: BenchTool, lane: Lane) => Promise<Figures>,
  options: LaneOptions = {},
): Promise<Row[]> {
  const rows = tools.map((tool): Row => ({ scenario, tool: tool.name, rounds: [] }));
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < tools.length; turn++) {
      const index = (round + turn) % tools.length;
      const tool = tools[index];
      const row = rows[index];
      if (tool === undefined || row === undefined || row.failure !== undefined) continue;
      const lane = await Lane.open(options);
      try {
        row.rounds.push(await measure(tool, lane));
      } catch (error) {
        row.failure = error instanceof Error ? error.message : String(error);
      } finally {
        await lane.close();
      }
    }
  }
  say(
    `  ${scenario}: ${rows.map((row) => `${row.tool} ${row.rounds.length} rounds${row.failure === undefined ? "" : ", FAILED"}`).join("; ")}`,
  );
  return rows;
}

mountImagePlace();
const program = compileBenchWorkload();
const machine = {
  cpus: cpus().length,
  cpu: cpus()[0]?.model ?? "",
  memoryMib: Math.round(totalmem() / 2 ** 20),
  kernel: release(),
  node: process.version,
};
say(
  `${machine.cpus} × ${machine.cpu}, ${machine.memoryMib} MiB, Linux ${machine.kernel}, Node ${machine.node}; images in memory; ${rounds} rounds`,
);

const work: Row[] = [];
for (const scenario of scenarios.filter((one) => matches(one.name, values.only))) {
  const options: LaneOptions = scenario.isOnNetwork === true ? { namespaces: ["net"] } : {};
  work.push(...(await inTurn(scenario.name, (tool, lane) => measureRound({ lane, tool, scenario, program }), options)));
}
const starts: Row[] = [];
for (const { name, words } of startups.filter((one) => matches(one.name, values.only))) {
  starts.push(...(await inTurn(name, (tool, lane) => measureStartup(lane, tool, words))));
}

say("\nMedians; in parentheses what the figure is of CRIU's (below 1 is better)\n");
if (work.length > 0) say(`${table(work, ["frozenMs", "dumpMs", "restoreMs", "lazyMs", "imageMib"], "criu")}\n`);
if (starts.length > 0) say(`${table(starts, ["startMs"], "criu")}\n`);

const all = [...work, ...starts];
const report = { machine, rounds, results: all.map((row) => ({ ...row, medians: medians(row) })) };
const path = resolve(values.json);
mkdirSync(dirname(path), { recursive: true });
writeFileSync(path, `${JSON.stringify(report, undefined, 2)}\n`);
say(`All figures: ${path}`);
if (values.html !== undefined) {
  const place = resolve(values.html);
  mkdirSync(dirname(place), { recursive: true });
  writeFileSync(place, page({ machine, rounds, rows: all }));
  say(`As a page: ${place}`);
}
if (all.length === 0) say("Nothing was measured: no scenario or tool has such a name");
/** What the peer cannot do at all is no failure of the benchmark. */
const isDone = (row: Row) => row.tool === "criu" || (row.failure === undefined && row.rounds.length === rounds);
process.exitCode = all.length > 0 && all.every(isDone) ? 0 : 1;
