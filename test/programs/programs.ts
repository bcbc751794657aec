/**
 * Real programs that are frozen in the middle of their work, killed, and brought back: the result must be the same as when
 * nothing happens to them. Used by the tests and by the demo.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { projectRoot } from "../harness/compile.js";
import { randomNumbers } from "../harness/images.js";

const here = join(projectRoot, "test", "programs");

export interface Program {
  readonly name: string;
  /** What it does, in plain words. */
  readonly story: string;
  /** Puts into the folder what it needs, and returns its command line. `times`: how many times the usual work it has to do. */
  prepare(folder: string, times: number): readonly string[];
  /** Whether the moment has come to freeze it: one moment for each freeze. */
  readonly moments: readonly ((folder: string) => boolean)[];
  /** Whether it waits for the file "go" after the last freeze. */
  readonly waitsForGo?: boolean;
  /** Its result, which must be the same whatever happens to it. */
  result(folder: string): string;
  /** Why it cannot be frozen yet. */
  readonly floeCannot?: string;
}

const text = (path: string): string => (existsSync(path) ? readFileSync(path, "utf8") : "");
const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;
const hashOf = (path: string): string => createHash("sha256").update(readFileSync(path)).digest("hex");
/** What the program has written to its standard output lies beside its working directory. */
const output = (folder: string): string => text(join(folder, "..", "out"));
const linesOf = (folder: string): number => output(folder).split("\n").length - 1;

function compile(name: string): string {
  const folder = join(projectRoot, "build", "programs");
  const program = join(folder, name);
  const source = join(here, `${name}.c`);
  mkdirSync(folder, { recursive: true });
  if (existsSync(program) && statSync(program).mtimeMs > statSync(source).mtimeMs) return program;
  const made = spawnSync("gcc", ["-O2", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-pthread", "-o", program, source], { encoding: "utf8" });
  if (made.status !== 0) throw new Error(`Cannot compile ${source}: ${made.error?.message ?? made.stderr}`);
  return program;
}

function writeInput(path: string, lineCount = 80_000): void {
  const random = randomNumbers(1);
  const lines: string[] = [];
  for (let i = 0; i < lineCount; i++) {
    lines.push(Array.from({ length: 10 }, () => random(1 << 24).toString(36)).join(" "));
  }
  writeFileSync(path, `${lines.join("\n")}\n`);
}

const pipeline: Program = {
  name: "shell pipeline",
  story: "a shell pipeline of nine programs that counts the words of a large text",
  prepare(folder, times) {
    writeInput(join(folder, "input.txt"), 80_000 * times);
    return ["sh", join(here, "pipeline.sh")];
  },
  // While sort still reads, with its temporary files; and while the result is being written.
  moments: [
    (folder) => readdirSync(folder).some((name) => name.startsWith("sort")),
    (folder) => sizeOf(join(folder, "result.gz")) > 500_000,
  ],
  result: (folder) => `${output(folder)}${hashOf(join(folder, "result.gz"))}`,
};

const python: Program = {
  name: "python3",
  story: "a Python program with four threads, each computing a chain of hashes",
  prepare: (_, times) => ["python3", join(here, "hashes.py"), String(1_500_000 * times)],
  moments: [(folder) => Number(text(join(folder, "progress"))) > 100_000, (folder) => Number(text(join(folder, "progress"))) > 600_000],
  result: output,
};

const node: Program = {
  name: "node",
  story: "a Node program with timers and a worker thread that talk to each other",
  prepare: (_, times) => [process.execPath, join(here, "ticks.mjs"), String(150 * times)],
  moments: [(folder) => linesOf(folder) > 20, (folder) => linesOf(folder) > 80],
  result: output,
};

const piecesIn = (folder: string): string[] =>
  readdirSync(folder)
    .filter((name) => name.startsWith("piece-"))
    .sort();

const archive: Program = {
  name: "tar, gzip, split",
  story: "an archive that tar writes, gzip compresses and split cuts into pieces",
  prepare(folder, times) {
    writeInput(join(folder, "input.txt"));
    const names = Array.from({ length: 4 * times }, (_, i) => `${i}.txt`);
    for (const name of names) copyFileSync(join(folder, "input.txt"), join(folder, name));
    const tar = `tar --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - ${names.join(" ")}`;
    return ["sh", "-c", `${tar} | gzip -9n | split -b 100k - piece-`];
  },
  moments: [1, 10, 40].map((count) => (folder) => piecesIn(folder).length >= count),
  result: (folder) =>
    piecesIn(folder)
      .map((name) => `${name} ${hashOf(join(folder, name))}`)
      .join("\n"),
};

/** A program in C of many files, each long enough for the compiler to have something to do. */
function writeSources(folder: string, files: number): void {
  const names = Array.from({ length: files }, (_, i) => `part${i}`);
  for (const [i, name] of names.entries()) {
    const functions = Array.from(
      { length: 60 },
      (_, j) =>
        `static unsigned f${j}(unsigned x) { for (unsigned i = 0; i < x % ${j + 5}; i++) x = x * ${i + 3}u + (x >> ${(j % 7) + 1}) + i; return x; }`,
    );
    const calls = functions.map((_, j) => `x = f${j}(x);`).join(" ");
    writeFileSync(join(folder, `${name}.c`), `${functions.join("\n")}\nunsigned ${name}(unsigned x) { ${calls} return x; }\n`);
  }
  const declarations = names.map((name) => `unsigned ${name}(unsigned);`).join("\n");
  const calls = names.map((name) => `x = ${name}(x);`).join(" ");
  writeFileSync(
    join(folder, "main.c"),
    `#include <stdio.h>\n${declarations}\nint main(void) { unsigned x = 1; ${calls} printf("%u\\n", x); return 0; }\n`,
  );
  const objects = [...names, "main"].map((name) => `${name}.o`).join(" ");
  writeFileSync(
    join(folder, "Makefile"),
    `export TMPDIR := $(CURDIR)\nprogram: ${objects}\n\tgcc -o $@ $^\n%.o: %.c\n\tgcc -O2 -c -o $@ $<\n`,
  );
}

const objectsIn = (folder: string): number => readdirSync(folder).filter((name) => name.endsWith(".o")).length;

const build: Program = {
  name: "gcc and make",
  story: "a build by make and gcc, two compilers at a time",
  prepare(folder, times) {
    writeSources(folder, 16 * times);
    return ["make", "-j2", "-s"];
  },
  moments: [2, 5, 8, 10, 12].map((count) => (folder) => objectsIn(folder) >= count),
  result(folder) {
    const ran = spawnSync(join(folder, "program"), { encoding: "utf8" });
    return `${ran.stdout}${objectsIn(folder)} objects, ${hashOf(join(folder, "program"))}`;
  },
};

const family: Program = {
  name: "100 processes",
  story: "a tree of 100 processes that pass a token around a ring of pipes",
  prepare: (_, times) => [compile("family"), "100", String(3500 * times)],
  moments: [(folder) => linesOf(folder) > 100, (folder) => linesOf(folder) > 700],
  result: output,
};

const crowd: Program = {
  name: "500 threads",
  story: "a process of 500 threads that compute and sleep by turns",
  prepare: (_, times) => [compile("crowd"), "500", String(250 * times)],
  moments: [(folder) => linesOf(folder) > 10, (folder) => linesOf(folder) > 50],
  result: output,
};

function memory(mib: number): Program {
  return {
    name: `${mib / 1024} GiB`,
    story: `a process with ${mib / 1024} GiB of memory, whose checksum must hold`,
    prepare: () => [compile("memory"), String(mib)],
    moments: [(folder) => output(folder).startsWith("filled")],
    waitsForGo: true,
    result: output,
  };
}

/** All programs; the last one has so much memory. */
export function programs(mib: number): readonly Program[] {
  return [pipeline, archive, python, node, build, family, crowd, memory(mib)];
}
