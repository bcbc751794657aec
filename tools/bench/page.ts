/**
 * The results as a page: a table and a plot for each figure, in one file that needs nothing beside itself.
 *
 * A plot has a line for each scenario and tool on a logarithmic scale: a dot for each round, a bar to the median, and behind it
 * what the median is of CRIU's.
 */
import type { Figures } from "./measure.js";
import { digits, median, medians, type Row } from "./table.js";

export interface Report {
  readonly machine: Readonly<Record<string, string | number>>;
  readonly rounds: number;
  readonly rows: readonly Row[];
}

/** What is shown of the figures, in this order. */
const FIGURES: readonly (readonly [name: keyof Figures & string, title: string])[] = [
  ["frozenMs", "Frozen: how long the program stands still, ms"],
  ["dumpMs", "Dump: the whole command, ms"],
  ["restoreMs", "Restore: the whole command, ms"],
  ["lazyMs", "Lazy restore: until the program runs again, ms"],
  ["imageMib", "Images on disk, MiB"],
  ["startMs", "A command that does nearly nothing, ms"],
];

const PEER = "criu";
const COLOURS = ["#2463a8", "#4fa3d9", "#c2662d", "#777777"];
const LINE = 18;
const LABEL = 330;
const PLOT = 520;
const RATIO = 70;

function escapeText(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}

function valuesOf(row: Row, name: string): number[] {
  return row.rounds.map((round) => round[name] ?? Number.NaN).filter((value) => value > 0);
}

function ratioOf(row: Row, rows: readonly Row[], name: string): number | undefined {
  const peer = rows.find((other) => other.scenario === row.scenario && other.tool === PEER);
  const [own, theirs] = [medians(row)[name], peer === undefined ? undefined : medians(peer)[name]];
  return peer === row || own === undefined || theirs === undefined || !(theirs > 0) ? undefined : own / theirs;
}

/** Positions on a logarithmic scale that has room for all `values`. */
function scale(values: readonly number[]): { x(value: number): number; marks: number[] } {
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))));
  const x = (value: number) => LABEL + ((Math.log10(value) - low) / (high - low)) * PLOT;
  return { x, marks: Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i)) };
}

function plot(rows: readonly Row[], name: string, tools: readonly string[]): string {
  const shown = rows.filter((row) => valuesOf(row, name).length > 0);
  if (shown.length === 0) return "";
  const { x, marks } = scale(shown.flatMap((row) => valuesOf(row, name)));
  const height = shown.length * LINE + 24;
  const parts = marks.map(
    (mark) =>
      `<line x1="${x(mark)}" x2="${x(mark)}" y1="0" y2="${height - 20}" stroke="#ddd"/>` +
      `<text x="${x(mark)}" y="${height - 6}" text-anchor="middle">${mark}</text>`,
  );
  shown.forEach((row, line) => {
    const y = line * LINE + LINE / 2;
    const values = valuesOf(row, name);
    const colour = COLOURS[tools.indexOf(row.tool) % COLOURS.length] ?? "#777";
    const ratio = ratioOf(row, rows, name);
    const middle = median(values);
    const title = `${row.scenario}, ${row.tool}: ${digits(middle)}`;
    parts.push(
      `<text x="${LABEL - 8}" y="${y + 4}" text-anchor="end">${escapeText(`${row.scenario} · ${row.tool}`)}</text>`,
      `<rect x="${LABEL}" y="${y - 5}" width="${Math.max(1, x(middle) - LABEL)}" height="10" fill="${colour}" opacity="0.75"><title>${escapeText(title)}</title></rect>`,
      ...values.map((value) => `<circle cx="${x(value)}" cy="${y}" r="2.5" fill="#222" opacity="0.55"/>`),
      ratio === undefined ? "" : `<text x="${LABEL + PLOT + 8}" y="${y + 4}">×${digits(ratio)}</text>`,
    );
  });
  return `<svg viewBox="0 0 ${LABEL + PLOT + RATIO} ${height}" width="${LABEL + PLOT + RATIO}" height="${height}" role="img">${parts.join("")}</svg>`;
}

function tableOf(rows: readonly Row[], figures: typeof FIGURES): string {
  const head = ["scenario", "tool", ...figures.map(([name]) => name)].map((text) => `<th>${escapeText(text)}</th>`).join("");
  const body = rows.map((row) => {
    const own = medians(row);
    const cells = figures.map(([name]) => {
      const value = own[name];
      const ratio = ratioOf(row, rows, name);
      if (value === undefined || Number.isNaN(value)) return "<td></td>";
      return `<td class="number">${digits(value)}${ratio === undefined ? "" : ` <b>×${digits(ratio)}</b>`}</td>`;
    });
    const failure =
      row.failure === undefined ? "" : `<tr><td colspan="${figures.length + 2}" class="failure">${escapeText(row.failure)}</td></tr>`;
    return `<tr><td>${escapeText(row.scenario)}</td><td>${escapeText(row.tool)}</td>${cells.join("")}</tr>${failure}`;
  });
  return `<table><thead><tr>${head}</tr></thead><tbody>${body.join("")}</tbody></table>`;
}

const STYLE = `body{font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:960px;color:#222}svg{font-size:12px;max-width:100%;height:auto}
table{border-collapse:collapse}td,th{padding:2px 10px;border-bottom:1px solid #e4e4e4;text-align:left}.number{text-align:right}
.failure{color:#a33;white-space:pre-wrap;font-size:12px}`;

/** The whole page. */
export function page({ machine, rounds, rows }: Report): string {
  const figures = FIGURES.filter(([name]) => rows.some((row) => valuesOf(row, name).length > 0));
  const tools = [...new Set(rows.map((row) => row.tool))];
  const about = Object.entries(machine)
    .map(([name, value]) => `${name} ${value}`)
    .join(", ");
  const plots = figures.map(([name, title]) => `<h2>${escapeText(title)}</h2>${plot(rows, name, tools)}`);
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Floe and CRIU</title><style>${STYLE}</style></head><body>
<h1>Floe and CRIU</h1>
<p>Medians of ${rounds} rounds, all tools in turn in the same run; × is what a figure is of CRIU's: below 1 is better. ${escapeText(about)}.</p>
${tableOf(rows, figures)}
${plots.join("\n")}
</body></html>
`;
}
