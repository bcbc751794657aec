/** Medians and ratios as text. */
import type { Figures } from "./measure.js";

export interface Row {
  readonly scenario: string;
  readonly tool: string;
  readonly rounds: Figures[];
  /** Why there are fewer rounds than there should be. */
  failure?: string;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const upper = sorted[sorted.length >> 1] ?? Number.NaN;
  const lower = sorted[(sorted.length - 1) >> 1] ?? Number.NaN;
  return (lower + upper) / 2;
}

/** Figures of all rounds, each by its median. */
export function medians(row: Row): Figures {
  const names = Object.keys(row.rounds[0] ?? {});
  return Object.fromEntries(names.map((name) => [name, median(row.rounds.map((round) => round[name] ?? Number.NaN))]));
}

export function digits(value: number): string {
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
}

/** `12.3 (×0.45)`: the figure, and what it is of the peer's. */
function cell(value: number | undefined, peer: number | undefined): string {
  if (value === undefined) return "-";
  const ratio = peer === undefined || peer === 0 ? "" : ` (×${digits(value / peer)})`;
  return digits(value) + ratio;
}

function aligned(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
  return rows
    .map((row) =>
      row.map((text, column) => (column < 2 ? text.padEnd(widths[column] ?? 0) : text.padStart(widths[column] ?? 0))).join("  "),
    )
    .join("\n");
}

/** A table of the figures that `columns` name; ratios are to the row of `peer` in the same scenario. */
export function table(rows: readonly Row[], columns: readonly string[], peer: string): string {
  const out = [["scenario", "tool", ...columns]];
  const failures: string[] = [];
  for (const row of rows) {
    const peerRow = rows.find((other) => other.scenario === row.scenario && other.tool === peer);
    const peerFigures = peerRow === undefined || peerRow === row ? {} : medians(peerRow);
    const own = medians(row);
    out.push([row.scenario, row.tool, ...columns.map((name) => cell(own[name], peerFigures[name]))]);
    if (row.failure !== undefined) failures.push(`FAILED after ${row.rounds.length} rounds: ${row.scenario}, ${row.tool}: ${row.failure}`);
  }
  return [aligned(out), ...failures].join("\n");
}
