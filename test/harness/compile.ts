/**
 * Compiles the C programs of the tests, each once: build/workloads/<hash>/<name>, where the hash covers every source,
 * the flags and the compiler's own command line. A source asks for more flags in a comment: `cflags: -mavx2 -ldl`.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const projectRoot = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const workloads = join(projectRoot, "test", "workloads");
const baseFlags = ["-O2", "-g", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-pthread"];
const maxCompilers = 2;

let running = 0;
const waiting: (() => void)[] = [];
const results = new Map<string, Promise<string>>();

async function slot(): Promise<void> {
  if (running >= maxCompilers) await new Promise<void>((resume) => waiting.push(resume));
  running += 1;
}

function freeSlot(): void {
  running -= 1;
  waiting.shift()?.();
}

function gcc(args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn("gcc", args, { stdio: ["ignore", "ignore", "pipe"] });
    let errors = "";
    child.stderr.on("data", (text: Buffer) => {
      errors += text.toString();
    });
    child.on("error", (cause) => reject(new Error(`Cannot run gcc to compile the test programs: ${cause.message}`, { cause })));
    child.on("close", (code) => (code === 0 ? resolve() : reject(new Error(`gcc ${args.join(" ")} failed:\n${errors}`))));
  });
}

function extraFlags(source: string): string[] {
  const found = /cflags:([^*\n]*)/.exec(source);
  return found?.[1] === undefined ? [] : found[1].trim().split(/\s+/);
}

/** Makes `name` in a folder that is named after what it is made of; `compile` gets the name to write to. */
async function make(name: string, parts: { files: readonly string[]; flags: readonly string[] }, compile: (to: string) => Promise<void>) {
  const hash = createHash("sha256");
  for (const file of parts.files) hash.update(readFileSync(file)).update("\0");
  hash.update(JSON.stringify([parts.flags, process.arch]));
  const folder = join(projectRoot, "build", "workloads", hash.digest("hex").slice(0, 16));
  const made = join(folder, name);
  if (existsSync(made)) return made;
  await slot();
  try {
    mkdirSync(folder, { recursive: true });
    // Another test file may compile the same program now: make it under a name of our own, then put it in place at once. Whoever
    // comes second leaves the first one in place: it may be running already, and its file would be a deleted one.
    const temporary = `${made}.${process.pid}`;
    await compile(temporary);
    try {
      linkSync(temporary, made);
    } catch (error) {
      if (!existsSync(made)) throw error;
    }
    rmSync(temporary);
  } finally {
    freeSlot();
  }
  return made;
}

/** A source that many programs have in common, compiled once. */
function objectOf(source: string, headers: readonly string[], flags: readonly string[]): Promise<string> {
  const name = `${basename(source, ".c")}.o`;
  return once(`${source} ${flags.join(" ")}`, () =>
    make(name, { files: [source, ...headers], flags }, (to) => gcc([...flags, `-I${workloads}`, "-c", source, "-o", to])),
  );
}

async function build(main: string, shared: readonly string[], headers: readonly string[]): Promise<string> {
  const extra = extraFlags(readFileSync(main, "utf8"));
  const libraries = extra.filter((flag) => flag.startsWith("-l"));
  const flags = [...baseFlags, ...extra.filter((flag) => !flag.startsWith("-l"))];
  const objects = await Promise.all(shared.map((source) => objectOf(source, headers, flags)));
  const parts = { files: [main, ...shared, ...headers], flags: [...flags, ...libraries] };
  return make(basename(main, ".c"), parts, (to) => gcc([...flags, `-I${workloads}`, main, ...objects, "-o", to, ...libraries]));
}

function once(key: string, make: () => Promise<string>): Promise<string> {
  const known = results.get(key);
  if (known !== undefined) return known;
  const made = make();
  results.set(key, made);
  return made;
}

/** The program of a workload, for instance `signals/altstack`. */
export function compileWorkload(name: string): Promise<string> {
  const shared = ["workload.c", "snapshot.c"].map((file) => join(workloads, file));
  const headers = ["workload.h", "snapshot.h"].map((file) => join(workloads, file));
  return once(name, () => build(join(workloads, `${name}.c`), shared, headers));
}

/** The first process of a lane. */
export function compileAgent(): Promise<string> {
  return once("agent", () => build(join(projectRoot, "test", "harness", "agent.c"), [], []));
}
