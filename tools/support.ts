/**
 * Makes docs/support.md from the registry of parts, the catalogue of capabilities and the cases of the tests.
 * `node --import tsx tools/support.ts` writes it; with `--check` it fails when the file is not what would be written.
 */
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { supportedRows } from "../src/resources/support.js";

const root = join(import.meta.dirname, "..");
const file = join(root, "docs", "support.md");

interface CatalogueRow {
  readonly row: string;
  readonly state: string;
}

/** Rows that test cases name, with how many cases do. */
async function testedRows(): Promise<Map<string, number>> {
  const tested = new Map<string, number>();
  const workloads = join(root, "test", "workloads");
  for (const entry of readdirSync(workloads, { recursive: true, encoding: "utf8" })) {
    if (!entry.endsWith("cases.ts")) continue;
    const lists: Record<string, unknown> = await import(join(workloads, entry));
    for (const one of Object.values(lists).flat() as { readonly rows?: readonly string[] }[]) {
      for (const row of one.rows ?? []) tested.set(row, (tested.get(row) ?? 0) + 1);
    }
  }
  return tested;
}

function line(entry: CatalogueRow, tested: ReadonlyMap<string, number>): string {
  const support = supportedRows().get(entry.row);
  const cases = tested.get(entry.row) ?? 0;
  const status = support === undefined ? "no" : support.missing === undefined ? "yes" : "in part";
  const notes = support === undefined ? "" : (support.missing ?? "");
  return `| ${entry.row} | ${entry.state} | ${status} | ${cases === 0 ? "-" : cases} | ${notes} |`;
}

async function text(): Promise<string> {
  const catalogue = JSON.parse(readFileSync(join(root, "docs", "catalogue.json"), "utf8")) as CatalogueRow[];
  const unknown = [...supportedRows().keys()].filter((row) => !catalogue.some((entry) => entry.row === row));
  if (unknown.length > 0) throw new Error(`no such rows in docs/catalogue.json: ${unknown.join(", ")}`);
  const tested = await testedRows();
  const areas = [...new Set(catalogue.map((entry) => entry.row.split(".")[0]))];
  const tables = areas.map((area) => {
    const rows = catalogue.filter((entry) => entry.row.startsWith(`${area}.`)).map((entry) => line(entry, tested));
    return [`## ${area}`, "", "| row | state | carried | test cases | what is missing |", "|---|---|---|---|---|", ...rows, ""].join("\n");
  });
  const carried = catalogue.filter((entry) => supportedRows().has(entry.row)).length;
  return [
    "# What is carried",
    "",
    `Made by \`tools/support.ts\`. ${carried} of ${catalogue.length} rows are carried, wholly or in part; the others are refused by name, or`,
    "(modes) not there. A test case is a program that sets the state up and checks all of it after each of five ways of",
    "being frozen; other tests are not counted here.",
    "",
    ...tables,
  ].join("\n");
}

const wanted = await text();
if (!process.argv.includes("--check")) writeFileSync(file, wanted);
else if (readFileSync(file, "utf8") !== wanted) {
  process.stderr.write("docs/support.md is not what the registry says: run node --import tsx tools/support.ts\n");
  process.exitCode = 1;
}
