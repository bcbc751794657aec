/**
 * A dump as people read it.
 */
import { sizeText } from "../progress.js";
import type { ShownDump, ShownProcess } from "./processes.js";
import { shownText } from "../../linux/text.js";

export function dumpText(dump: ShownDump): string {
  const { processes } = dump;
  const threads = processes.reduce((sum, p) => sum + p.threads.length, 0);
  const saved = processes.reduce((sum, p) => sum + p.savedBytes, 0);
  const head = `${dump.directory}: ${plural(processes.length, "process", "processes")}, ${plural(threads, "thread")}, ${sizeText(saved)} of memory saved`;
  return [head, "", ...treeLines(processes), ...processes.flatMap((p) => ["", ...processLines(p)]), ""].join("\n");
}

function plural(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

/** The tree, each process below its parent. A process whose parent is not in the dump stands on the left. */
function treeLines(processes: readonly ShownProcess[]): string[] {
  const children = new Map<number, ShownProcess[]>();
  const pids = new Set(processes.map((p) => p.pid));
  const roots: ShownProcess[] = [];
  for (const process of processes) {
    const siblings = process.ppid !== process.pid && pids.has(process.ppid) ? (children.get(process.ppid) ?? []) : roots;
    if (siblings !== roots) children.set(process.ppid, siblings);
    siblings.push(process);
  }
  const lines: string[] = [];
  // A stack instead of recursion: images may say that a tree is as deep as they like. Each process has one parent.
  const stack = roots.reverse().map((process) => ({ process, depth: 0 }));
  for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
    const { process, depth } = top;
    lines.push(`${"  ".repeat(Math.min(depth, 40))}${processHead(process)}`);
    for (const child of [...(children.get(process.pid) ?? [])].reverse()) stack.push({ process: child, depth: depth + 1 });
  }
  return lines;
}

function processHead(process: ShownProcess): string {
  const notes = [
    ...(process.state === "alive" ? [] : [process.state]),
    ...(process.threads.length > 1 ? [`${process.threads.length} threads`] : []),
    ...(process.exitStatus === undefined ? [] : [exitText(process.exitStatus)]),
  ];
  return `${process.pid} ${printable(process.name)}${notes.length === 0 ? "" : ` (${notes.join(", ")})`}`;
}

function exitText(status: number): string {
  return (status & 0x7f) === 0 ? `exit code ${(status >> 8) & 0xff}` : `signal ${status & 0x7f}`;
}

function processLines(process: ShownProcess): string[] {
  const { exe, cwd, root } = process;
  return [
    processHead(process),
    `  session ${process.sid}, process group ${process.pgid}`,
    ...(process.threads.length > 1 ? [`  threads  ${process.threads.join(" ")}`] : []),
    ...(exe === undefined ? [] : [`  program  ${printable(exe)}`]),
    ...(cwd === undefined ? [] : [`  cwd      ${printable(cwd)}${root === undefined || root === "/" ? "" : `, root ${printable(root)}`}`]),
    ...memoryLines(process),
    ...fileLines(process),
  ];
}

function memoryLines(process: ShownProcess): string[] {
  if (process.sharesMemoryWith !== undefined) return [`  memory   that of ${process.sharesMemoryWith}`];
  if (process.memory.length === 0) return [];
  const mapped = process.memory.reduce((sum, m) => sum + m.mappedBytes, 0);
  const rows = process.memory.map((m) => `    ${sizeText(m.mappedBytes).padStart(10)}  ${m.kind}, ${plural(m.mappings, "mapping")}`);
  return [`  memory   ${sizeText(mapped)} mapped, ${sizeText(process.savedBytes)} saved`, ...rows];
}

function fileLines(process: ShownProcess): string[] {
  if (process.sharesFilesWith !== undefined) return [`  files    those of ${process.sharesFilesWith}`];
  if (process.files.length === 0) return [];
  const rows = process.files.map((file) => {
    const offset = file.offsetBytes === undefined || file.offsetBytes === 0 ? "" : ` at ${file.offsetBytes}`;
    return `    ${String(file.fd).padStart(10)}  ${file.kind} ${printable(file.name)}${offset}`;
  });
  return [`  files    ${process.files.length} open`, ...rows];
}

/** Names come from strangers: what would move a terminal's cursor is shown by number. */
function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what we look for
  return shownText(text).replace(/[\x00-\x1f\x7f-\x9f]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`);
}
